package arena

import "sync"

// walkStep is how many blocks a sweep passes before it lets others in.
const walkStep = 4096

// sweep is a walk over the free memory of an allocator by trim or prefault.
// It takes a piece out of the free lists, works on it without the lock, and
// puts it back. One sweep runs at a time.
type sweep struct {
	turn  sync.Mutex // taken before Extents.mu, held for a whole sweep
	first uint32     // the block at offset 0; merging and splitting keep it

	// The rest is guarded by Extents.mu.
	at      uint32 // block at or before pos; moves along when it is merged away
	pos     uint64
	end     uint64 // no farther
	out     bool   // a piece is out of the lists
	waiting int    // allocations that wait for it
	back    sync.Cond
}

func (s *sweep) init(l sync.Locker) { s.back.L = l }

// merged follows a block that has become part of another.
func (s *sweep) merged(gone, into uint32) {
	if s.at == gone {
		s.at = into
	}
}

// await waits until the piece that is out has come back and says whether there
// was one, so that the caller should try again.
func (s *sweep) await() bool {
	if !s.out {
		return false
	}
	s.waiting++
	for s.out {
		s.back.Wait()
	}
	s.waiting--
	s.back.Broadcast()
	return true
}

// each calls work for every stretch of whole free pages of the given
// temperature, at most step long (a power of two) and never across a multiple
// of it, and then marks the first done bytes, which are whole pages, as having
// the other one. The pages are nobody's while work runs, and the lock is not
// held. It ends early when work returns an error.
func (a *Extents) each(warm bool, step uint64, work func(off, n uint64) (done uint64, err error)) error {
	a.sweep.turn.Lock()
	defer a.sweep.turn.Unlock()
	return a.eachIn(0, noLimit, warm, step, work)
}

// eachIn is each for what lies in from … end, which are whole pages. turn is locked.
func (a *Extents) eachIn(from, end uint64, warm bool, step uint64, work func(off, n uint64) (done uint64, err error)) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return fail("sweep", ErrClosed)
	}
	a.sweep.at, a.sweep.pos, a.sweep.end = a.sweep.first, from, end
	defer func() { a.sweep.at = 0 }()
	for {
		b, err := a.takeOut(warm, step)
		if b == 0 || err != nil {
			return err
		}
		if err := a.workOn(b, warm, work); err != nil {
			return err
		}
	}
}

// workOn runs work on block b, which is out of the lists, and puts it back.
func (a *Extents) workOn(b uint32, warm bool, work func(off, n uint64) (uint64, error)) error {
	off, n := a.blocks.at(b).off, a.length(b)
	a.sweep.out = true
	a.mu.Unlock()
	done, err := work(off, n)
	a.mu.Lock()
	if done > 0 {
		a.turn(b, off, done, warm)
	}
	a.release(b)
	a.sweep.out = false
	a.sweep.back.Broadcast()
	for a.sweep.waiting > 0 {
		a.sweep.back.Wait()
	}
	return err
}

// turn changes the temperature of the first n bytes of block b.
func (a *Extents) turn(b uint32, off, n uint64, wasWarm bool) {
	lo, hi := a.pages.span(off, n)
	if wasWarm {
		a.pages.clear(lo, hi)
		a.blocks.at(b).cold += uint32(hi - lo)
		a.cold += hi - lo
	} else {
		a.pages.set(lo, hi)
		a.blocks.at(b).cold -= uint32(hi - lo)
		a.cold -= hi - lo
	}
}

// takeOut goes on from the sweep's position to the next stretch that is to be
// worked on and takes it out of the lists; 0 when the end is reached.
func (a *Extents) takeOut(warm bool, step uint64) (uint32, error) {
	s := &a.sweep
	for passed := 1; ; passed++ {
		blk := a.blocks.at(s.at)
		if blk.state == stateEnd || blk.off >= s.end {
			return 0, nil
		}
		end := a.blocks.at(blk.next).off
		if blk.state == stateFree && end > s.pos {
			lo, hi := a.pages.inside(max(blk.off, s.pos), min(end, s.end))
			if from, to := a.pages.run(lo, hi, warm); from < to {
				return a.takePiece(from<<a.pages.shift, to<<a.pages.shift, warm, step)
			}
		}
		s.at, s.pos = blk.next, max(s.pos, end)
		if passed%walkStep == 0 {
			a.mu.Unlock()
			a.mu.Lock()
		}
	}
}

// takePiece takes the first step of start … end out of the sweep's block.
func (a *Extents) takePiece(start, end uint64, warm bool, step uint64) (uint32, error) {
	if err := a.blocks.reserve(2); err != nil {
		return 0, err
	}
	end = min(end, down(start, step)+step)
	var cold uint32
	if !warm {
		cold = uint32((end - start) >> a.pages.shift)
	}
	b := a.carve(a.sweep.at, start, end-start, cold)
	a.blocks.at(b).state = stateSwept
	a.sweep.at, a.sweep.pos = b, end
	return b, nil
}
