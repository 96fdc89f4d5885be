package core

import "moorage/core/tier/timing"

// fillTimed is fill, with a record for the member: it waits for its turn since the set was put.
func (x *set) fillTimed(n int, i *Item) error {
	if x.s.tiered == nil {
		return x.fill(n, i)
	}
	if x.times == nil {
		x.times = make([]timing.Record, 0, len(x.members))
	}
	x.times = append(x.times, timing.Queued(timing.Put, x.o.since))
	r := &x.times[n]
	r.Bytes = x.members[n].bytes
	err := x.fill(n, i)
	r.Copy = timing.Now() - r.Begun() - r.BufferWait
	return err
}

// hasRoom is called when memory for a member is there, or is not to be had.
func (x *set) hasRoom(n int) {
	if r := x.timesOf(n); r != nil {
		r.BufferWait = timing.Now() - r.Begun()
	}
}

// timesOf is the record of a member; nil: it has none.
func (x *set) timesOf(n int) *timing.Record {
	if n < len(x.times) {
		return &x.times[n]
	}
	return nil
}

// record ends the records: all members were put, or none.
func (x *set) record(err error) {
	for i := range x.times {
		x.s.tiered.record(&x.times[i], err)
	}
}
