package blockio

import "sync/atomic"

// PathStats are what went over one path.
type PathStats struct {
	Operations, Bytes uint64
	Errors            uint64 // operations that failed, cancelled ones too
}

// Stats are the figures of an engine since Open.
type Stats struct {
	Paths      [Paths]PathStats
	Rings      int
	Registered uint64 // bytes, now
	Fallbacks  uint64 // steps down: no io_uring, memory or files that could not be registered
	Short      uint64 // reads and writes of the kernel that moved less than they were to
	Retried    uint64 // and that it told to try again
	Cancelled  uint64 // operations whose context ended
}

type counters struct {
	paths                                [Paths]struct{ operations, bytes, errors atomic.Uint64 }
	fallbacks, short, retried, cancelled atomic.Uint64
	registered                           atomic.Int64
}

func (c *counters) operation(t *Times, err error, cancelled bool) {
	p := &c.paths[t.Path]
	p.operations.Add(1)
	p.bytes.Add(uint64(t.Bytes))
	if err == nil {
		return
	}
	p.errors.Add(1)
	if cancelled {
		c.cancelled.Add(1)
	}
}

// Stats gives them. They are not of one moment.
func (e *Engine) Stats() Stats {
	c := &e.count
	s := Stats{
		Rings: e.options.Rings, Registered: uint64(c.registered.Load()), Fallbacks: c.fallbacks.Load(),
		Short: c.short.Load(), Retried: c.retried.Load(), Cancelled: c.cancelled.Load(),
	}
	if e.idle == nil {
		s.Rings = 0
	}
	for i := range s.Paths {
		p := &c.paths[i]
		s.Paths[i] = PathStats{p.operations.Load(), p.bytes.Load(), p.errors.Load()}
	}
	return s
}
