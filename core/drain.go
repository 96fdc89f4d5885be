package core

import "moorage/core/arena/cell"

// tidy takes cells back if any came back and nobody else is at it. Every put calls it, so that memory that was let go is
// used again while it is warm.
func (s *Store) tidy() {
	if !s.control.Empty() && s.drains.mu.TryLock() {
		s.takeBack()
		s.drains.mu.Unlock()
	}
}

// drain takes all cells back that came back. What forked children hold is looked at when one ends: a full store drains
// with every put and may hold a million cells for a worker that lives long.
func (s *Store) drain() {
	s.drains.mu.Lock()
	defer s.drains.mu.Unlock()
	if s.drains.unmapped {
		return
	}
	s.takeBack()
	if s.drains.stuck {
		s.lookAgain()
	}
}

// drainHeld is called when a forked child has ended.
func (s *Store) drainHeld() {
	s.drains.mu.Lock()
	defer s.drains.mu.Unlock()
	if s.drains.unmapped {
		return
	}
	s.lookAgain()
	s.unmapIfEmpty()
}

// drainIfClosed is called when the watcher wakes. Only a closed store's releases wake it.
func (s *Store) drainIfClosed() {
	if s.closed.Load() == 0 {
		return
	}
	s.drains.mu.Lock()
	defer s.drains.mu.Unlock()
	if s.drains.unmapped {
		return
	}
	s.takeBack()
	s.unmapIfEmpty()
}

// takeBack empties the return list. drains.mu is locked.
func (s *Store) takeBack() {
	for unit := s.control.TakeAll(); unit != 0; {
		c := s.heap.At(unit)
		next := c.Next()
		if !s.mayGoHome(unit, c) {
			s.drains.held = append(s.drains.held, unit)
			s.drains.bytes += s.arena.Len(c.Block)
		}
		unit = next
	}
}

// lookAgain sends those held cells home that nothing holds any more. drains.mu is locked.
func (s *Store) lookAgain() {
	still := s.drains.held[:0]
	s.drains.stuck = false
	for _, unit := range s.drains.held {
		c := s.heap.At(unit)
		n := s.arena.Len(c.Block)
		if !s.mayGoHome(unit, c) {
			still = append(still, unit)
		} else {
			s.drains.bytes -= n
		}
	}
	s.drains.held = still
	if len(still) == 0 {
		s.drains.held = nil
	}
}

// mayGoHome sends a dead cell home unless a child holds it or its pages cannot be made writable now.
func (s *Store) mayGoHome(unit uint32, c *cell.Cell) bool {
	if c.HeldByChild(s.words) {
		return false
	}
	if s.home(unit, c) {
		return true
	}
	s.drains.stuck = true
	return false
}

// home gives extent and record of a cell back. Its pages become writable first; when the system refuses that the cell
// stays held, because a protected extent must not be handed out.
func (s *Store) home(unit uint32, c *cell.Cell) bool {
	if !s.unprotect(c) {
		return false
	}
	s.reserved.forget(c.Off, unit)
	s.fulfil(unit)
	if s.arena.Free(c.Block) != nil {
		return false // cannot be: the block is this cell's alone
	}
	s.heap.Free(unit)
	s.outstanding.Add(-1)
	return true
}

// unprotect makes the writer's pages of an extent writable if they are not.
func (s *Store) unprotect(c *cell.Cell) bool {
	if c.Flags&cell.FlagProtected == 0 {
		return true
	}
	if s.arena.Unprotect(c.Off, s.arena.Len(c.Block)) != nil {
		return false
	}
	c.Flags &^= cell.FlagProtected
	s.counters.protected.Add(-1)
	s.host.protected.Add(-1)
	return true
}

// unmapIfEmpty ends a closed store when nothing of it is out but what forked children hold, who have mappings of
// their own. drains.mu is locked.
func (s *Store) unmapIfEmpty() {
	select {
	case <-s.finished: // and finish wakes the watcher after it
	default:
		return
	}
	if s.outstanding.Load() != int64(len(s.drains.held)) {
		return
	}
	s.drains.unmapped, s.drains.held, s.drains.bytes = true, nil, 0
	s.host.protected.Add(-s.counters.protected.Swap(0))
	s.host.remove(s)
	_ = s.unmap() // munmap and close of what is ours alone; there is nobody left to tell
}
