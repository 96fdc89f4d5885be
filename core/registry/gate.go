package registry

import (
	"math"
	"sync/atomic"
)

// gate counts who is inside. Shutting it lets nobody else in and says when the last has left. Entering and leaving are one
// atomic step each. One goroutine at a time shuts and reopens.
type gate struct {
	state   atomic.Int64 // how many are inside, and shutBit
	drained atomic.Pointer[chan struct{}]
}

const shutBit = math.MinInt64

func (g *gate) enter() bool {
	for {
		n := g.state.Load()
		if n < 0 {
			return false
		}
		if g.state.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// leave undoes an enter. With the gate shut the count only falls, so that one of those who leave is the last.
func (g *gate) leave() {
	if g.state.Add(-1) == shutBit {
		close(*g.drained.Load())
	}
}

// shut closes the gate; the channel is closed when nobody is inside any more.
func (g *gate) shut() <-chan struct{} {
	ch := make(chan struct{})
	g.drained.Store(&ch) // before the bit: whoever sees that finds the channel
	if g.state.Or(shutBit) == 0 {
		close(ch)
	}
	return ch
}

// shutIfEmpty closes the gate unless somebody is inside.
func (g *gate) shutIfEmpty() bool { return g.state.CompareAndSwap(0, shutBit) }

// reopen undoes a shut that has been waited for.
func (g *gate) reopen() { g.state.CompareAndSwap(shutBit, 0) }

func (g *gate) inside() uint64 { return uint64(g.state.Load() &^ shutBit) }
