package tier

import "slices"

// Remove takes the name of an object away whose sequence number is at most upTo, and ends the drafts of such ones: they will not
// be stored. It waits for nothing: the index changes now, the record of it is written soon (see Settle). It may be called with locks
// of the caller's held, which the disk never asks for.
func (d *Disk) Remove(key []byte, upTo uint64) (removed bool) {
	hash := d.hasher.hash(key)
	s := d.shard(hash)
	s.mu.Lock()
	if d.closed.Load() {
		s.mu.Unlock()
		return false
	}
	// The record must not be about what will only be reserved later.
	upTo = min(upTo, d.maxSeq.Load())
	e := s.table.find(hash, key)
	if e != nil && e.Seq() > upTo {
		e = nil
	}
	recorded := s.cancel(hash, key, upTo)
	if e == nil && recorded == nil {
		s.mu.Unlock()
		return false
	}
	lsn := d.log.Append(recordRemove, hash, makeRemoval(upTo, key))
	for _, w := range recorded {
		w.removal = lsn
	}
	if e != nil {
		d.leave(s, e, lsn)
	}
	s.mu.Unlock()
	if e != nil {
		d.count.removed.Add(1)
		d.gone(e)
	}
	d.nudge()
	return e != nil
}

// cancel ends the drafts of a key up to a sequence number, and returns those that have a record. The shard is locked.
func (s *shard) cancel(hash uint64, key []byte, upTo uint64) (recorded []*Draft) {
	for _, w := range s.drafts {
		if w.hash != hash || w.seq > upTo || w.cancelled || !slices.Equal(w.key, key) {
			continue
		}
		w.cancelled = true
		if w.recorded != 0 {
			recorded = append(recorded, w)
		}
	}
	return recorded
}

// unlink takes an entry's name away, if it still has it.
func (d *Disk) unlink(e *Entry) { d.unlinkLSN(e.hash, e.Key(), e.lsn) }

// unlinkLSN does so by the number of the record. The key stays valid without a hold: it is the caller's.
func (d *Disk) unlinkLSN(hash uint64, key []byte, lsn uint64) {
	s := d.shard(hash)
	s.mu.Lock()
	e := s.table.findLSN(hash, lsn)
	if e != nil {
		d.leave(s, e, d.log.Append(recordRemove, hash, makeRemoval(e.Seq(), key)))
	}
	s.mu.Unlock()
	if e != nil {
		d.gone(e)
		d.nudge()
	}
}
