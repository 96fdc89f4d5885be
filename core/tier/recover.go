package tier

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"moorage/core/tier/blocks"
	"moorage/core/tier/file"
	"moorage/core/tier/journal"
)

// Report is what Open found.
type Report struct {
	Objects  int
	Bytes    uint64
	Clean    bool   // the directory was closed in good order
	Unproved int    // objects that had not been durable at a bad end: their bytes are verified when they are read
	Lost     []Lost // what is damaged
	Torn     int64  // bytes at the end of the journal that nobody had been promised, and that were cut off
	Took     time.Duration
}

// Lost is a part of the directory that is damaged, and what that means.
type Lost struct {
	File   string
	Offset int64
	Bytes  int64
	What   string
	Keys   []string // of the objects that are gone, as far as they are known
}

func (l Lost) String() string {
	return fmt.Sprintf("%s, %d bytes at %d: %s", l.File, l.Bytes, l.Offset, l.What)
}

// recovery is the state of one Open.
type recovery struct {
	d       *Disk
	files   map[journal.Kind]map[uint64]string
	durable uint64          // records up to this number were durable
	clean   uint64          // number of the record that says so
	missing map[uint64]bool // numbers of records that nobody has seen
	unknown uint64          // the last number of a part that is too long to look for
	file    string          // that is being read
	given   []*Entry        // objects that are given up
	hull    [2]uint64       // of the records whose objects were unproved before
}

// maxMissing is how many missing records are looked for in echoes; these are not kept for longer anyway.
const maxMissing = 1 << 12

func (d *Disk) recover() error {
	r := recovery{d: d, files: map[journal.Kind]map[uint64]string{}, missing: map[uint64]bool{}}
	if err := r.list(); err != nil {
		return err
	}
	if len(r.files[journal.Journal]) == 0 && len(r.files[journal.Snapshot]) == 0 {
		if n := len(r.files[journal.Segment]); n > 0 {
			return fmt.Errorf("%w: there are %d segments and no journal that says what is in them; take another directory, or empty this one", ErrFormat, n)
		}
		return r.begin()
	}
	return r.read()
}

// list finds our files; all others are left alone.
func (r *recovery) list() error {
	names, err := r.d.fs.Names()
	if err != nil {
		return err
	}
	for _, name := range names {
		if name == journal.TempName { // somebody died while making a file
			if err := r.d.fs.Remove(name); err != nil {
				return err
			}
		}
		if kind, number, ok := parseName(name); ok {
			if r.files[kind] == nil {
				r.files[kind] = map[uint64]string{}
			}
			r.files[kind][number] = name
		}
	}
	return nil
}

// begin makes a new directory.
func (r *recovery) begin() error {
	d := r.d
	d.tier = newTier()
	d.hasher = makeHasher(d.tier)
	d.report.Clean = true
	return r.goOn(1, 1, 0)
}

// goOn begins a journal.
func (r *recovery) goOn(number, next uint64, previous int64) error {
	d := r.d
	f, err := journal.Create(d.fs, journalName(number), d.journalHeader(number, next, previous))
	if err != nil {
		return err
	}
	d.log = journal.NewLog(f, journal.HeaderBytes, d.tier, next)
	d.filing.journal.Store(number)
	return nil
}

func (r *recovery) read() error {
	d := r.d
	number, next, err := r.readSnapshot()
	if err != nil {
		return err
	}
	last, end, err := r.readJournals(number, next)
	if err != nil {
		return err
	}
	r.forgetUnknown()
	if err := r.openSegments(); err != nil {
		return err
	}
	r.takeBlocks()
	r.finish(end.Next)
	d.report.Torn = end.Torn
	if err := r.makeDurable(last); err != nil {
		return err
	}
	if err := r.goOn(last+1, end.Next, end.Offset); err != nil {
		return err
	}
	if err := r.putRight(); err != nil {
		return err
	}
	if d.filing.due(d) {
		d.nudge()
	}
	return nil
}

func (r *recovery) lost(offset, n int64, keys []string, format string, args ...any) {
	r.d.report.Lost = append(r.d.report.Lost, Lost{File: r.file, Offset: offset, Bytes: n, What: fmt.Sprintf(format, args...), Keys: keys})
}

// open opens a journal or snapshot and reads its header.
func (r *recovery) open(kind journal.Kind, number uint64) (f file.File, h journal.Header, err error) {
	r.file = r.files[kind][number]
	f, err = r.d.fs.Open(r.file, 0)
	if err != nil {
		return nil, h, err
	}
	h, damaged, err := journal.ReadHeader(f, kind)
	if err == nil {
		err = r.belongs(&h, number)
	}
	if err != nil {
		_ = f.Close()
		return nil, h, r.format(err)
	}
	if damaged {
		r.lost(0, journal.HeaderBytes, nil, "one of the two copies of the header is damaged; the other one is good")
	}
	return f, h, nil
}

func (r *recovery) format(err error) error {
	if errors.Is(err, file.ErrSystem) {
		return err
	}
	return fmt.Errorf("%w: %s: %w", ErrFormat, r.file, err)
}

// belongs checks that a file is of this directory, and where its name says. The first file says which directory that is.
func (r *recovery) belongs(h *journal.Header, number uint64) error {
	d := r.d
	if d.tier == ([16]byte{}) {
		d.tier = h.Tier
		d.hasher = makeHasher(d.tier)
	}
	if h.Tier != d.tier || h.Number != number {
		return fmt.Errorf("%w: it is number %d of tier %x", journal.ErrForeign, h.Number, h.Tier)
	}
	return nil
}

// readSnapshot reads the newest snapshot, and returns the number of the journal that follows it, and of that one's first record.
func (r *recovery) readSnapshot() (number, next uint64, err error) {
	if len(r.files[journal.Snapshot]) == 0 {
		return 1, 1, nil
	}
	number = slices.Max(slices.Collect(maps.Keys(r.files[journal.Snapshot])))
	f, h, err := r.open(journal.Snapshot, number)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	count := uint64(0)
	part := journal.Part{To: int64(h.Values[snapshotLength])}
	_, err = journal.Scan(f, r.d.tier, part, func(rec *journal.Record) error {
		if rec.Kind == recordPut {
			count++
			r.put(rec)
		}
		return nil
	}, func(l journal.Lost) {
		r.lost(l.Offset, l.Bytes, r.forget(l.Hash, l.Known, l.Last), "damaged")
	})
	if err != nil {
		return 0, 0, err
	}
	if missing := h.Values[snapshotCount] - count; count < h.Values[snapshotCount] {
		r.lost(journal.HeaderBytes, int64(h.Values[snapshotLength]), nil, "%d of %d objects are gone", missing, h.Values[snapshotCount])
	}
	raise(&r.d.maxSeq, h.Values[snapshotSeq])
	r.durable = h.Values[snapshotFirst] - 1
	r.d.filing.snapshots.Store(int64(h.Values[snapshotLength]))
	return number, h.Values[snapshotFirst], nil
}

// readJournals reads those from a number on, the first of which begins with the record next.
func (r *recovery) readJournals(number, next uint64) (last uint64, end journal.End, err error) {
	d := r.d
	d.filing.first.Store(number)
	numbers := slices.DeleteFunc(slices.Sorted(maps.Keys(r.files[journal.Journal])), func(n uint64) bool { return n < number })
	open := make([]file.File, 0, len(numbers))
	defer func() {
		for _, f := range open {
			_ = f.Close()
		}
	}()
	headers := make([]journal.Header, 0, len(numbers))
	for _, n := range numbers {
		f, h, err := r.open(journal.Journal, n)
		if err != nil {
			return 0, end, err
		}
		open, headers = append(open, f), append(headers, h)
		raise(&d.maxSeq, h.Values[journalSeq])
		r.hull = [2]uint64{h.Values[unprovedFrom], h.Values[unprovedTo]}
	}
	end = journal.End{Offset: journal.HeaderBytes, Next: next}
	last = number
	for i, h := range headers {
		r.file = r.files[journal.Journal][h.Number]
		if first := h.Values[journalFirst]; first > end.Next {
			r.lost(0, 0, nil, "the records %d to %d that stand before it are gone", end.Next, first-1)
			r.miss(end.Next, first-1)
		}
		part := journal.Part{Next: h.Values[journalFirst]}
		if i+1 < len(headers) && headers[i+1].Number == h.Number+1 { // known by the next one
			part.To, part.Durable = int64(headers[i+1].Values[journalPrev]), headers[i+1].Values[journalFirst]-1
		}
		r.durable = max(r.durable, h.Values[journalFirst]-1)
		end, err = journal.Scan(open[i], d.tier, part, r.record, r.damage)
		if err != nil {
			return 0, end, err
		}
		d.filing.oldBytes.Add(end.Offset)
		last = h.Number
	}
	return last, end, nil
}

// record does what a record of a journal says.
func (r *recovery) record(rec *journal.Record) error {
	r.durable = max(r.durable, rec.Synced)
	if len(r.missing) > 0 {
		rec.Echo(func(lsn, hash uint64) {
			if r.missing[lsn] {
				r.lost(0, 0, r.forget(hash, true, lsn), "record %d is gone", lsn)
				delete(r.missing, lsn)
			}
		})
	}
	switch rec.Kind {
	case journal.KindEcho:
		if r.clean == rec.LSN-1 { // it was time for an echo, too
			r.clean = rec.LSN
		}
	case recordPut:
		r.put(rec)
	case recordRemove:
		upTo, key, err := readRemoval(rec.Body)
		if err != nil {
			return r.format(err)
		}
		r.remove(rec.Hash, key, upTo)
	case recordClean:
		r.clean = rec.LSN
		r.durable = rec.LSN
	default:
		return fmt.Errorf("%w: %s: a record of kind %d", ErrFormat, r.file, rec.Kind)
	}
	return nil
}

func (r *recovery) put(rec *journal.Record) {
	b := body(rec.Body)
	if err := b.check(); err != nil {
		r.lost(0, int64(len(b)), nil, "record %d: %v", rec.LSN, err)
		return
	}
	d := r.d
	if d.hasher.hash(b.key()) != rec.Hash {
		r.lost(0, int64(len(b)), nil, "record %d: %v: the hash is not that of key %q", rec.LSN, errBody, b.key())
		return
	}
	s := d.shard(rec.Hash)
	raise(&d.maxSeq, b.seq())
	if old := s.table.find(rec.Hash, b.key()); old != nil {
		if old.Seq() >= b.seq() {
			return
		}
		s.table.remove(old)
	}
	e := &Entry{d: d, hash: rec.Hash, lsn: rec.LSN, body: bytes.Clone(b)}
	e.holds.Store(1)
	s.table.insert(e)
}

func (r *recovery) remove(hash uint64, key []byte, upTo uint64) {
	raise(&r.d.maxSeq, upTo)
	s := r.d.shard(hash)
	if e := s.table.find(hash, key); e != nil && e.Seq() <= upTo {
		s.table.remove(e)
	}
}

// damage takes in that records of a journal are gone. Each may have been the end of an object that stands before it: it must not
// come to life again.
func (r *recovery) damage(l journal.Lost) {
	if l.Known {
		r.lost(l.Offset, l.Bytes, r.forget(l.Hash, true, l.First), "record %d is damaged", l.First)
		return
	}
	r.lost(l.Offset, l.Bytes, nil, "the records %d to %d are damaged", l.First, l.Last)
	r.miss(l.First, l.Last)
}

func (r *recovery) miss(first, last uint64) {
	if last-first >= maxMissing {
		r.unknown = max(r.unknown, last)
		return
	}
	for lsn := first; lsn <= last; lsn++ {
		r.missing[lsn] = true
	}
}

// forget drops the objects that a lost record may have been about.
func (r *recovery) forget(hash uint64, known bool, lsn uint64) (keys []string) {
	if !known {
		return nil
	}
	s := r.d.shard(hash)
	var gone []*Entry
	s.table.walk(hash, 1, func(e *Entry) bool {
		if e.hash == hash && e.lsn < lsn {
			gone = append(gone, e)
		}
		return e.hash == hash
	})
	for _, e := range gone {
		r.give(e)
		keys = append(keys, string(e.body.key()))
	}
	return keys
}

// forgetUnknown drops all objects that are older than a lost record of which nobody knows what it was about: any of them may be
// one that was removed or replaced.
func (r *recovery) forgetUnknown() {
	last := r.unknown
	for lsn := range r.missing {
		last = max(last, lsn)
	}
	if last == 0 {
		return
	}
	var gone []*Entry
	r.each(func(e *Entry) {
		if e.lsn < last {
			gone = append(gone, e)
		}
	})
	r.drop(gone, "journal", "of lost records it is not known which objects they removed or replaced: all %d that are older are given up", len(gone))
}

// give gives an object up.
func (r *recovery) give(e *Entry) {
	r.d.shard(e.hash).table.remove(e)
	r.given = append(r.given, e)
}

// putRight writes down what was given up, and what is left, so that the next Open does not come by the same damage again. That the snapshot cannot be
// written is no reason not to open.
func (r *recovery) putRight() error {
	d := r.d
	for _, e := range r.given {
		d.log.Append(recordRemove, e.hash, makeRemoval(e.Seq(), e.Key()))
	}
	if err := d.syncAll(); err != nil {
		return err
	}
	if len(d.report.Lost) > 0 {
		if err := d.snapshot(); err != nil {
			d.log1("damage was found, and what is left could not be written down anew: " + err.Error())
			return d.log.Err()
		}
	}
	return nil
}

func (r *recovery) each(visit func(*Entry)) {
	for i := range r.d.shards {
		r.d.shards[i].table.walk(0|uint64(i)<<(64-shardBits), int(^uint(0)>>1), func(e *Entry) bool { visit(e); return true })
	}
}

func (r *recovery) drop(gone []*Entry, file, format string, args ...any) {
	if len(gone) == 0 {
		return
	}
	keys := make([]string, 0, len(gone))
	for _, e := range gone {
		r.give(e)
		keys = append(keys, string(e.body.key()))
	}
	r.file = file
	r.lost(0, 0, keys, format, args...)
}

// openSegments opens the files that blocks lie in.
func (r *recovery) openSegments() error {
	used := map[uint32]uint32{} // blocks that entries need, by segment
	r.each(func(e *Entry) {
		for i := range e.body.runCount() {
			run := e.body.run(i)
			if run.Start <= run.End() {
				used[run.Segment] = max(used[run.Segment], run.End())
			}
		}
	})
	for _, number := range slices.Sorted(maps.Keys(r.files[journal.Segment])) {
		if number >= maxSegments {
			continue // no name of ours
		}
		if err := r.openSegment(uint32(number), used[uint32(number)]); err != nil {
			return err
		}
	}
	return nil
}

func (r *recovery) openSegment(number, used uint32) error {
	d := r.d
	r.file = r.files[journal.Segment][uint64(number)]
	f, direct, err := d.openFile(r.file, 0)
	if err != nil {
		return err
	}
	keep := false
	defer func() {
		if !keep {
			_ = f.Close()
		}
	}()
	size, err := f.Size()
	if err != nil {
		return err
	}
	h, damaged, err := r.segmentHeader(f)
	if err == nil {
		err = r.belongs(&h, uint64(number))
	}
	count := uint32(h.Values[segmentBlocks])
	switch {
	case errors.Is(err, journal.ErrHeader) && used == 0: // somebody died while making it
		return d.fs.Remove(r.file)
	case errors.Is(err, journal.ErrHeader):
		count = max(used, uint32(max(0, size-journal.HeaderBytes)/blocks.Size))
		damaged = true
		r.lost(0, journal.HeaderBytes, nil, "the header is damaged; it is made again, and what lies behind it is verified when it is read")
		r.unprove(number)
	case err != nil:
		return r.format(err)
	case damaged:
		r.lost(0, journal.HeaderBytes, nil, "one of the two copies of the header is damaged; it is made again")
	}
	if damaged {
		h = journal.Header{Kind: journal.Segment, Tier: d.tier, Number: uint64(number)}
		h.Values[segmentBlocks], h.Values[segmentBlockSize] = uint64(count), blocks.Size
		if f, direct, err = d.writeHeader(f, r.file, direct, &h); err != nil {
			return err
		}
	}
	if size < offset(count) {
		r.truncated(number, size)
		if err := d.allocate(f, offset(count)); err != nil {
			return err
		}
	}
	_, err = d.addSegment(number, count, f, direct)
	keep = err == nil
	return err
}

func (r *recovery) segmentHeader(f file.File) (h journal.Header, damaged bool, err error) {
	err = r.d.page(func(page []byte) error {
		n, err := f.ReadAt(page, 0)
		if n < len(page) && errors.Is(err, file.ErrSystem) {
			return err
		}
		h, damaged, err = journal.DecodeHeader(page[:n], journal.Segment)
		return err
	})
	return h, damaged, err
}

// unprove has everything in a segment verified.
func (r *recovery) unprove(number uint32) {
	r.each(func(e *Entry) {
		for i := range e.body.runCount() {
			if e.body.run(i).Segment == number {
				e.unproved.Store(true)
			}
		}
	})
}

// truncated drops what lay behind the end of a segment.
func (r *recovery) truncated(number uint32, size int64) {
	var gone []*Entry
	r.each(func(e *Entry) {
		for i := range e.body.runCount() {
			if run := e.body.run(i); run.Segment == number && offset(run.End()) > size {
				gone = append(gone, e)
				return
			}
		}
	})
	r.drop(gone, r.file, "the file is too short: %d objects lay behind its end", len(gone))
}

// takeBlocks marks the blocks of all objects. Of two that have the same block, which a loss of power can leave when nothing was
// synced, the newer one is right.
func (r *recovery) takeBlocks() {
	conflict := false
	r.each(func(e *Entry) {
		conflict = conflict || r.d.space.blocks.Take(e.body.runs()) != nil
	})
	if !conflict {
		return
	}
	r.d.space.blocks.Reset()
	var all, gone []*Entry
	r.each(func(e *Entry) { all = append(all, e) })
	slices.SortFunc(all, func(a, b *Entry) int { return cmp.Compare(b.lsn, a.lsn) })
	why := map[string]int{}
	for _, e := range all {
		if err := r.d.space.blocks.Take(e.body.runs()); err != nil {
			gone = append(gone, e)
			why[err.Error()]++
		}
	}
	if !slices.ContainsFunc(gone, func(e *Entry) bool { return e.lsn <= r.durable }) {
		r.d.count.missed.Add(uint64(len(gone))) // nobody was promised them
		for _, e := range gone {
			r.give(e)
		}
		return
	}
	r.drop(gone, "segments", "%d objects have lost their blocks: %v", len(gone), slices.Sorted(maps.Keys(why)))
}

// finish counts what is there, and tells the policy, the oldest first.
func (r *recovery) finish(next uint64) {
	d := r.d
	d.report.Clean = r.clean != 0 && r.clean == next-1
	var all []*Entry
	r.each(func(e *Entry) {
		if e.lsn > r.durable && !d.report.Clean || r.hull[0] <= e.lsn && e.lsn <= r.hull[1] {
			e.unproved.Store(true)
		}
		if e.unproved.Load() {
			d.report.Unproved++
			d.filing.widen(e.lsn)
		}
		d.shard(e.hash).bytes += e.Bytes()
		d.report.Objects++
		d.report.Bytes += e.Bytes()
		d.space.used.Add(e.blocks())
		if d.policy.on {
			all = append(all, e)
		}
	})
	slices.SortFunc(all, func(a, b *Entry) int { return cmp.Compare(a.lsn, b.lsn) })
	for _, e := range all {
		d.policy.added(e)
	}
}

// makeDurable syncs what was found: from here on it counts as durable, and blocks of what is gone are used again. After a good end
// that is the journal alone: a process that died right behind its last write has left that record without a sync.
func (r *recovery) makeDurable(last uint64) error {
	for _, s := range r.d.segmentList() {
		if s != nil && !r.d.report.Clean {
			s.dirty.Store(true)
		}
	}
	if err := r.d.syncSegments(); err != nil {
		return err
	}
	if name, ok := r.files[journal.Journal][last]; ok {
		f, err := r.d.fs.Open(name, 0)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return err
		}
	}
	return r.d.fs.Sync()
}
