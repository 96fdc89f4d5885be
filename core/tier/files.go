package tier

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"moorage/core/tier/file"
	"moorage/core/tier/journal"
)

// The values in the headers of journals and snapshots.
const (
	journalFirst = iota // number of the first record
	journalPrev         // length of the journal before it, which is where that one ends
	journalSeq          // MaxSeq
	unprovedFrom        // number of the first and of the last record whose object had not been durable at a bad end
	unprovedTo
)

const (
	snapshotFirst  = iota // number of the first record of the journal to read after it
	snapshotCount         // objects
	snapshotSeq           // MaxSeq
	snapshotLength        // of the file
)

func journalName(number uint64) string  { return fmt.Sprintf("journal-%08d", number) }
func snapshotName(number uint64) string { return fmt.Sprintf("snapshot-%08d", number) }

// files is which journals and snapshots there are.
type files struct {
	making    sync.Mutex    // one snapshot at a time
	journal   atomic.Uint64 // the one that is written
	first     atomic.Uint64 // the oldest one that is needed
	oldBytes  atomic.Int64  // of the journals that are needed and not written any more
	snapshots atomic.Int64  // bytes of the last snapshot
	unproved  [2]uint64     // numbers of records: see the header's values
}

func (f *files) journalBytes(d *Disk) int64 { return f.oldBytes.Load() + d.log.Size() }

// widen takes a record's number into the unproved ones. What is between them counts as unproved, too, which costs one
// verification.
func (f *files) widen(lsn uint64) {
	if f.unproved[0] == 0 {
		f.unproved = [2]uint64{lsn, lsn}
	}
	f.unproved[0], f.unproved[1] = min(f.unproved[0], lsn), max(f.unproved[1], lsn)
}

// manyJournals is how many Open reads at most, when all is well.
const manyJournals = 16

// due says whether the journals are long enough for a snapshot to be shorter.
func (f *files) due(d *Disk) bool {
	long := f.journalBytes(d)
	return long >= d.opts.SnapshotBytes && long >= f.snapshots.Load()/2 || f.journal.Load()-f.first.Load() >= manyJournals
}

// snapshot writes down all objects, so that the journals up to now are not needed any more.
//
// First the journal goes on in a new file. Then the index is walked through, shard by shard, while it changes: what is done
// meanwhile stands in the new journal, and to do it again changes nothing. Before the snapshot gets its name, all that is in it is
// made durable.
func (d *Disk) snapshot() error {
	d.filing.making.Lock()
	defer d.filing.making.Unlock()
	number := d.filing.journal.Load() + 1
	first, err := d.rotate(number)
	if err != nil {
		return d.noted(err)
	}
	f, err := journal.Begin(d.fs)
	if err != nil {
		return err
	}
	w := snapshotWriter{d: d, f: f, first: first, size: journal.HeaderBytes}
	err = w.write(number)
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, d.fs.Remove(journal.TempName))
	}
	d.count.snapshots.Add(1)
	d.filing.snapshots.Store(w.size)
	d.filing.oldBytes.Store(0)
	d.filing.first.Store(number)
	return d.removeOld(number)
}

// rotate goes on in the journal of a number, and returns the number of its first record.
func (d *Disk) rotate(number uint64) (first uint64, err error) {
	err = d.log.Rotate(d.syncSegments, func(next uint64, length int64) (file.File, error) {
		first = next
		f, err := journal.Create(d.fs, journalName(number), d.journalHeader(number, next, length))
		if err == nil {
			d.filing.oldBytes.Add(length)
			d.filing.journal.Store(number)
		}
		return f, err
	})
	return first, err
}

func (d *Disk) journalHeader(number, first uint64, previous int64) journal.Header {
	h := journal.Header{Kind: journal.Journal, Tier: d.tier, Number: number}
	h.Values[journalFirst], h.Values[journalPrev], h.Values[journalSeq] = first, uint64(previous), d.maxSeq.Load()
	h.Values[unprovedFrom], h.Values[unprovedTo] = d.filing.unproved[0], d.filing.unproved[1]
	return h
}

type snapshotWriter struct {
	d     *Disk
	f     file.File
	first uint64
	count uint64
	size  int64
	buf   []byte
}

func (w *snapshotWriter) write(number uint64) error {
	d := w.d
	for i := range d.shards {
		if err := w.shard(&d.shards[i], uint64(i)); err != nil {
			return err
		}
	}
	end := []byte(strconv.FormatUint(w.count, 10))
	w.buf = journal.AppendRecord(w.buf, journal.Seed(d.tier), journal.Record{LSN: w.first, Kind: recordEnd, Body: end})
	if err := w.flush(); err != nil {
		return err
	}
	h := journal.Header{Kind: journal.Snapshot, Tier: d.tier, Number: number}
	h.Values[snapshotFirst], h.Values[snapshotCount] = w.first, w.count
	h.Values[snapshotSeq], h.Values[snapshotLength] = d.maxSeq.Load(), uint64(w.size)
	page := make([]byte, journal.HeaderBytes)
	h.Encode(page)
	if _, err := w.f.WriteAt(page, 0); err != nil {
		return err
	}
	if err := d.syncAll(); err != nil {
		return err
	}
	return journal.Finish(d.fs, w.f, snapshotName(number))
}

// shard writes the entries of one shard, a piece at a time.
func (w *snapshotWriter) shard(s *shard, number uint64) error {
	w.awaitDrafts(s)
	seed := journal.Seed(w.d.tier)
	for from, done := number<<(64-shardBits), false; !done; {
		s.mu.RLock()
		from, done = s.table.walk(from, listPiece, func(e *Entry) bool {
			w.buf = journal.AppendRecord(w.buf, seed, journal.Record{LSN: e.lsn, Hash: e.hash, Kind: recordPut, Body: e.body})
			w.count++
			return true
		})
		s.mu.RUnlock()
		if len(w.buf) >= 1<<20 {
			if err := w.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// awaitDrafts waits until the drafts whose records stand in the journals before have their names: nobody would find them there
// any more. Their records are durable, so this is a matter of moments.
func (w *snapshotWriter) awaitDrafts(s *shard) {
	for {
		s.mu.RLock()
		under := false
		for _, draft := range s.drafts {
			under = under || draft.recorded != 0 && draft.recorded < w.first
		}
		s.mu.RUnlock()
		if !under {
			return
		}
		time.Sleep(20 * time.Microsecond)
	}
}

func (w *snapshotWriter) flush() error {
	n, err := w.f.WriteAt(w.buf, w.size)
	w.size += int64(n)
	w.buf = w.buf[:0]
	return err
}

// removeOld removes what the snapshot of a number has replaced. What cannot be removed does no harm.
func (d *Disk) removeOld(number uint64) error {
	names, err := d.fs.Names()
	if err != nil {
		return err
	}
	for _, name := range names {
		kind, n, ok := parseName(name)
		if !ok || kind == journal.Segment || n >= number {
			continue
		}
		if err := d.fs.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return d.fs.Sync()
}

// parseName tells our files from others.
func parseName(name string) (journal.Kind, uint64, bool) {
	prefix, digits, _ := strings.Cut(name, "-")
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil || len(digits) < 8 {
		return 0, 0, false
	}
	for _, kind := range []journal.Kind{journal.Journal, journal.Snapshot, journal.Segment} {
		if prefix == kind.String() {
			return kind, n, true
		}
	}
	return 0, 0, false
}
