package ibv

import (
	"syscall"
	"unsafe"
)

const pointerSize = unsafe.Sizeof(uintptr(0))

// Open opens a device.
func (l *Library) Open(d Device) (Context, error) {
	r, err := callErrno(isNull, l.openDevice, uintptr(d))
	if err == nil {
		live.contexts.Add(1)
	}
	return Context(r), err
}

// Close closes a device of which nothing is left.
func (l *Library) Close(c Context) error {
	return counted(&live.contexts, Call(l.closeDevice, uintptr(c)))
}

// QueryDevice reads the limits of a device.
func (l *Library) QueryDevice(c Context) (a DeviceAttr, err error) {
	err = status(Call(l.queryDevice, uintptr(c), uintptr(unsafe.Pointer(&a))))
	return a, err
}

// QueryPort reads the state of a port, counted from 1.
func (l *Library) QueryPort(c Context, port uint8) (PortAttr, error) {
	var room [portAttrReserved / 8]uint64
	err := status(Call(l.queryPort, uintptr(c), uintptr(port), uintptr(unsafe.Pointer(&room))))
	return *(*PortAttr)(unsafe.Pointer(&room)), err
}

// QueryGID reads an entry of a port's GID table with its type and network interface. The error is ENOSYS where the library is
// too old to tell them.
func (l *Library) QueryGID(c Context, port uint8, index int) (e GIDEntry, err error) {
	if l.queryGIDEx == 0 {
		return e, syscall.ENOSYS
	}
	err = status(Call(l.queryGIDEx, uintptr(c), uintptr(port), uintptr(index), uintptr(unsafe.Pointer(&e)), 0, unsafe.Sizeof(e)))
	return e, err
}

// QueryGIDOnly reads the address alone.
func (l *Library) QueryGIDOnly(c Context, port uint8, index int) (g GID, err error) {
	err = status(Call(l.queryGID, uintptr(c), uintptr(port), uintptr(index), uintptr(unsafe.Pointer(&g))))
	return g, err
}

// AllocPD makes a protection domain.
func (l *Library) AllocPD(c Context) (PD, error) {
	r, err := callErrno(isNull, l.allocPD, uintptr(c))
	if err == nil {
		live.pds.Add(1)
	}
	return PD(r), err
}

// DeallocPD ends a protection domain that nothing uses.
func (l *Library) DeallocPD(pd PD) error { return counted(&live.pds, Call(l.deallocPD, uintptr(pd))) }

// Register registers the n bytes that are mapped at address at, which the device then knows by addresses from as on; by those
// from at on where the library is too old to tell them apart. The memory must not be on the Go heap. It may take seconds.
func (l *Library) Register(pd PD, at, as, n uintptr, access uint32) (MR, error) {
	var r uintptr
	var err error
	if at == as || l.regMRIOVA == 0 {
		as = at
		r, err = callErrno(isNull, l.regMR, uintptr(pd), at, n, uintptr(access))
	} else {
		r, err = callErrno(isNull, l.regMRIOVA, uintptr(pd), at, n, as, uintptr(access))
	}
	if err != nil {
		return MR{}, err
	}
	live.mrs.Add(1)
	live.registrations.Add(1)
	return MR{Handle: r, Addr: uint64(as), LKey: load32(r, mrLKey), RKey: load32(r, mrRKey)}, nil
}

// Deregister ends a registration: after it no key leads to the range.
func (l *Library) Deregister(m MR) error {
	err := counted(&live.mrs, Call(l.deregMR, m.Handle))
	if err == nil {
		live.deregistrations.Add(1)
	}
	return err
}

// CreateChannel makes a completion channel, and says its descriptor.
func (l *Library) CreateChannel(c Context) (ch Channel, fd int, err error) {
	r, err := callErrno(isNull, l.createChannel, uintptr(c))
	if err != nil {
		return 0, -1, err
	}
	live.channels.Add(1)
	return Channel(r), int(int32(load32(r, channelFD))), nil
}

// DestroyChannel ends a channel that no completion queue uses.
func (l *Library) DestroyChannel(ch Channel) error {
	return counted(&live.channels, Call(l.destroyChannel, uintptr(ch)))
}

// CreateCQ makes a completion queue of at least n entries.
func (l *Library) CreateCQ(c Context, n int, ch Channel) (CQ, error) {
	r, err := callErrno(isNull, l.createCQ, uintptr(c), uintptr(n), 0, uintptr(ch), 0)
	if err == nil {
		live.cqs.Add(1)
	}
	return CQ(r), err
}

// DestroyCQ ends a completion queue. All its events must have been acknowledged: it waits for that.
func (l *Library) DestroyCQ(cq CQ) error { return counted(&live.cqs, Call(l.destroyCQ, uintptr(cq))) }

// PollFunc is the address of the device's poll_cq.
func (cq CQ) PollFunc() uintptr { return loadPtr(loadPtr(uintptr(cq), cqContext), contextPollCQ) }

// Notify asks for an event with the next completion.
func (cq CQ) Notify() error {
	return status(Call(loadPtr(loadPtr(uintptr(cq), cqContext), contextNotifyCQ), uintptr(cq), 0))
}

// GetCQEvent takes an event off the channel: EAGAIN if there is none and the descriptor does not block.
func (l *Library) GetCQEvent(ch Channel) error {
	var cq, user uintptr
	_, err := callErrno(isNegative, l.getCQEvent, uintptr(ch), uintptr(unsafe.Pointer(&cq)), uintptr(unsafe.Pointer(&user)))
	return err
}

// AckCQEvents acknowledges n events.
func (l *Library) AckCQEvents(cq CQ, n int) { Call(l.ackCQEvents, uintptr(cq), uintptr(n)) }

// CreateQP makes a queue pair. The granted sizes come back in a.Cap.
func (l *Library) CreateQP(pd PD, a *QPInitAttr) (QP, error) {
	r, err := callErrno(isNull, l.createQP, uintptr(pd), uintptr(unsafe.Pointer(a)))
	if err == nil {
		live.qps.Add(1)
	}
	return QP(r), err
}

// ModifyQP changes what mask names.
func (l *Library) ModifyQP(qp QP, a *QPAttr, mask uint32) error {
	return status(Call(l.modifyQP, uintptr(qp), uintptr(unsafe.Pointer(a)), uintptr(mask)))
}

// DestroyQP ends a queue pair: after it the device touches no memory for it. It waits until the events of the queue pair
// have been acknowledged.
func (l *Library) DestroyQP(qp QP) error { return counted(&live.qps, Call(l.destroyQP, uintptr(qp))) }

// Number is the number under which a peer reaches the queue pair.
func (qp QP) Number() uint32 { return load32(uintptr(qp), qpNumber) }

// PostFunc is the address of the device's post_send.
func (qp QP) PostFunc() uintptr { return loadPtr(loadPtr(uintptr(qp), qpContext), contextPostSend) }

// AsyncFD is the descriptor of the device's asynchronous events.
func (c Context) AsyncFD() int { return int(int32(load32(uintptr(c), contextAsyncFD))) }

// GetAsyncEvent takes an asynchronous event: EAGAIN if there is none and the descriptor does not block.
func (l *Library) GetAsyncEvent(c Context, e *AsyncEvent) error {
	_, err := callErrno(isNegative, l.getAsyncEvent, uintptr(c), uintptr(unsafe.Pointer(e)))
	return err
}

// AckAsyncEvent acknowledges an event. The object that it names cannot be destroyed before.
func (l *Library) AckAsyncEvent(e *AsyncEvent) { Call(l.ackAsyncEvent, uintptr(unsafe.Pointer(e))) }
