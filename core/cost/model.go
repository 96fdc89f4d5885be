package cost

import (
	"errors"
	"fmt"
	"math"
)

// ErrNotRegistered says that Require refused memory.
var ErrNotRegistered = errors.New("the memory is not registered")

// Choice is how one transfer treats memory.
type Choice uint8

// The choices.
const (
	AsIs     Choice = iota // it is registered
	Copy                   // through a bounce buffer
	OnTheFly               // registered for this transfer
)

func (c Choice) String() string {
	return [...]string{"as it is", "copied", "registered on the fly"}[min(c, OnTheFly)]
}

// Unlimited is a size that nothing reaches.
const Unlimited = math.MaxUint64

// Model decides. The zero value copies whatever is not registered.
type Model struct {
	Policy  Policy
	Figures Figures

	// Thresholds in bytes that replace the measured ones; zero: not. What is smaller than CopyBelow is copied, whatever
	// else holds; from RegisterFrom on it is registered on the fly. Both are for Auto alone.
	CopyBelow, RegisterFrom uint64
}

// page is the least that a device pins: below it nothing is won.
const page = 4096

// Threshold is the size in bytes from which registering memory costs less than copying it, when it is used that often before it
// is deregistered: Unlimited when it never does.
func (m Model) Threshold(uses int) uint64 {
	least := m.CopyBelow
	if least == 0 {
		least = page
	}
	if m.RegisterFrom != 0 {
		return max(least, m.RegisterFrom)
	}
	return max(least, m.Figures.breakEven(uses))
}

// Choose says what is done with so many bytes that are used that often (0 counts as 1) before they go. ErrNotRegistered: the
// policy does not let unregistered memory be used.
func (m Model) Choose(bytes uint64, uses int, registered bool) (Choice, error) {
	switch {
	case registered:
		return AsIs, nil
	case m.Policy == Require:
		return Copy, fmt.Errorf("%w, and register=\"require\" does nothing about it: register all of its %d bytes before, "+
			"or choose register=\"auto\"", ErrNotRegistered, bytes)
	case bytes == 0, m.Policy == Never:
		return Copy, nil
	case m.Policy == Always:
		return OnTheFly, nil
	case bytes >= m.Threshold(uses):
		return OnTheFly, nil
	}
	return Copy, nil
}
