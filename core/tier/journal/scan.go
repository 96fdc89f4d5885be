package journal

import (
	"io"
	"math"

	"moorage/core/tier/crc32c"
	"moorage/core/tier/file"
)

// Part is which records of a file are read.
type Part struct {
	To      int64  // where they end; 0: the end of the file
	Next    uint64 // the number of the first one; 0: any numbers, in any order, as in a snapshot
	Durable uint64 // records up to this number are known to have been durable
}

// Lost is a part of a file that is damaged.
type Lost struct {
	Offset, Bytes int64
	First, Last   uint64 // the numbers that are missing; 0: not known
	Hash          uint64 // of the key, when Known
	Known         bool   // it is one record, and its header is good
}

// End is where the records of a file end.
type End struct {
	Offset int64
	Next   uint64 // the number behind the last one
	Torn   int64  // bytes behind the end, which nobody was promised
}

// Scan reads the records of a file, from behind its header on, and gives them to visit in the order of the file. What is damaged it
// gives to lost. An error is visit's, or the file could not be read.
func Scan(f file.File, tier [16]byte, p Part, visit func(*Record) error, lost func(Lost)) (End, error) {
	size, err := f.Size()
	if err != nil {
		return End{}, err
	}
	if p.To == 0 || p.To > size {
		p.To = size
	}
	s := scanner{window: window{f: f, to: p.To}, seed: Seed(tier), part: p, next: p.Next, durable: p.Durable, lost: lost}
	if p.Next == 0 {
		s.durable = math.MaxUint64
	}
	at := int64(HeaderBytes)
	for at < p.To {
		rec, whole, ok, err := s.record(at)
		if err != nil {
			return End{}, err
		}
		if ok {
			if err := visit(rec); err != nil {
				return End{}, err
			}
			at += whole
			s.next = rec.LSN + 1
			continue
		}
		to, more, err := s.damage(at)
		if err != nil {
			return End{}, err
		}
		if !more {
			return End{Offset: at, Next: s.next, Torn: to - at}, nil
		}
		at = to
	}
	if s.ordered() && s.next <= s.durable { // the file is too short
		lost(Lost{Offset: p.To, First: s.next, Last: s.durable})
		s.next = s.durable + 1
	}
	return End{Offset: max(at, HeaderBytes), Next: s.next}, nil
}

type scanner struct {
	window
	seed    uint32
	part    Part
	next    uint64
	durable uint64
	looked  bool // ahead, for what later records know to be durable
	lost    func(Lost)
}

func (s *scanner) ordered() bool { return s.part.Next != 0 }

// record reads the one at an offset.
func (s *scanner) record(at int64) (rec *Record, whole int64, ok bool, err error) {
	h, ok, err := s.head(at)
	if err != nil || !ok || s.ordered() && h.LSN != s.next {
		return nil, 0, false, err
	}
	b, err := s.peek(at, int(h.whole()))
	if err != nil || int64(len(b)) < h.whole() {
		return nil, 0, false, err
	}
	h.Body = b[recordHeader : recordHeader+h.length]
	if crc32c.Update(s.seed, h.Body) != h.crc {
		return nil, 0, false, nil
	}
	return &h.Record, h.whole(), true, nil
}

func (s *scanner) head(at int64) (h head, ok bool, err error) {
	b, err := s.peek(at, recordHeader)
	if err != nil {
		return h, false, err
	}
	h, ok = decodeHead(b, s.seed)
	return h, ok && at+h.whole() <= s.to, nil
}

// damage reports what cannot be read at an offset and says where to go on. more is false at the end of what was promised, and to
// the end of the file then.
func (s *scanner) damage(at int64) (to int64, more bool, err error) {
	if s.next > s.durable && !s.looked {
		if err := s.lookAhead(at); err != nil {
			return 0, false, err
		}
	}
	if s.next > s.durable {
		return s.to, false, nil
	}
	h, ok, err := s.head(at)
	if err != nil {
		return 0, false, err
	}
	if ok && (!s.ordered() || h.LSN == s.next) { // only the body is damaged
		s.lost(Lost{Offset: at, Bytes: h.whole(), First: h.LSN, Last: h.LSN, Hash: h.Hash, Known: true})
		s.next = h.LSN + 1
		return at + h.whole(), true, nil
	}
	to, h, ok, err = s.nextHead(at)
	if err != nil {
		return 0, false, err
	}
	l := Lost{Offset: at, Bytes: to - at}
	if s.ordered() {
		l.First, l.Last = s.next, s.durable
		if ok {
			l.Last = h.LSN - 1
		}
		s.next = l.Last + 1
	}
	if l.First <= l.Last {
		s.lost(l)
	}
	return to, ok, nil
}

// nextHead looks for the next header that can follow.
func (s *scanner) nextHead(at int64) (to int64, h head, ok bool, err error) {
	for ; at+recordHeader <= s.to; at += 8 {
		h, ok, err = s.head(at)
		if err != nil || ok && (!s.ordered() || h.LSN >= s.next) {
			return at, h, ok, err
		}
	}
	return s.to, h, false, nil
}

// lookAhead learns from all records behind an offset up to which number they were durable.
func (s *scanner) lookAhead(at int64) error {
	s.looked = true
	for {
		to, h, ok, err := s.nextHead(at)
		if err != nil || !ok {
			return err
		}
		s.durable = max(s.durable, h.Synced)
		at = to + h.whole()
	}
}

// window reads a file in pieces.
type window struct {
	f    file.File
	to   int64
	base int64
	buf  []byte
}

const windowBytes = 1 << 20

// peek gives n bytes, fewer at the end. They are valid until the next one.
func (w *window) peek(at int64, n int) ([]byte, error) {
	n = int(min(int64(n), max(0, w.to-at)))
	if at < w.base || at+int64(n) > w.base+int64(len(w.buf)) {
		want := int(min(int64(max(n, windowBytes)), w.to-at))
		if cap(w.buf) < want {
			w.buf = make([]byte, want)
		}
		w.base, w.buf = at, w.buf[:want]
		if got, err := w.f.ReadAt(w.buf, at); got < want {
			w.buf = w.buf[:0]
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
	return w.buf[at-w.base:][:n:n], nil
}
