package registry

// Loan is memory that is registered for one transfer, or as a bounce buffer: no look-up finds it. It is counted as the rest
// is. Its device is not detached before it ends.
type Loan struct {
	Region Region

	registry *Registry
	held     *held
}

// Lend registers n bytes at addr with one device for that use alone. They must stay mapped until the loan has ended, and
// are not to be memory of the store.
func (r *Registry) Lend(a *Attached, addr uintptr, n uint64, use Use) (*Loan, error) {
	const op = "lend"
	if err := r.check(op, addr, n); err != nil {
		return nil, err
	}
	if !a.gate.enter() {
		return nil, failf(op, ErrClosed, "%s is being detached", a.Name())
	}
	h, err := r.register(a, addr, addr, uintptr(n), use)
	if err != nil {
		a.gate.leave()
		return nil, err
	}
	return &Loan{Region: h.region, registry: r, held: h}, nil
}

// End deregisters. No transfer may be in flight. Calling it again does nothing.
func (l *Loan) End() error {
	if l.held == nil {
		return nil
	}
	h := l.held
	l.Region, l.held = nil, nil
	err := l.registry.deregister(h)
	h.on.gate.leave()
	return err
}
