package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"moorage/core/tier/file"
	"moorage/core/tier/file/faulty"
)

var tier = [16]byte{1, 2, 3}

const name = "journal-00000001"

func header() Header { return Header{Kind: Journal, Tier: tier, Number: 1, Values: [6]uint64{1}} }

func start(t testing.TB) (*faulty.Dir, *Log) {
	t.Helper()
	dir := faulty.New()
	f, err := Create(dir, name, header())
	require.NoError(t, err)
	return dir, NewLog(f, HeaderBytes, tier, 1)
}

func nothing() error { return nil }

// scan reads a journal: bodies, what is lost, the end.
func scan(t testing.TB, dir *faulty.Dir, p Part) (bodies []string, lost []Lost, end End) {
	t.Helper()
	f, err := dir.Open(name, 0)
	require.NoError(t, err)
	end, err = Scan(f, tier, p, func(r *Record) error {
		if r.Kind != KindEcho {
			bodies = append(bodies, string(r.Body))
		}
		return nil
	}, func(l Lost) { lost = append(lost, l) })
	require.NoError(t, err)
	return bodies, lost, end
}

func TestHeader(t *testing.T) {
	h := Header{Kind: Snapshot, Tier: tier, Number: 7, Values: [6]uint64{1, 2, 3, 4, 5, 6}}
	page := make([]byte, HeaderBytes)
	h.Encode(page)
	got, damaged, err := DecodeHeader(page, Snapshot)
	require.NoError(t, err)
	require.False(t, damaged)
	require.Equal(t, h, got)

	for at := range HeaderBytes { // any one byte
		page[at] ^= 0x40
		got, damaged, err := DecodeHeader(page, Snapshot)
		require.NoError(t, err, at)
		require.Equal(t, h, got)
		require.Equal(t, at%headerCopy < headerLen, damaged, at)
		page[at] ^= 0x40
	}
	both := func(change func(b []byte)) error {
		p := bytes.Clone(page)
		change(p)
		change(p[headerCopy:])
		_, _, err := DecodeHeader(p, Snapshot)
		return err
	}
	require.ErrorIs(t, both(func(b []byte) { b[0] = 'x' }), ErrForeign)
	require.ErrorIs(t, both(func(b []byte) { b[12]++ }), ErrNewer)
	require.ErrorIs(t, both(func(b []byte) { b[40]++ }), ErrHeader)
	require.ErrorIs(t, both(func(b []byte) { clear(b[:headerLen]) }), ErrHeader)
	_, _, err = DecodeHeader(page, Journal)
	require.ErrorIs(t, err, ErrForeign)
	_, _, err = DecodeHeader(page[:100], Snapshot)
	require.ErrorIs(t, err, ErrHeader)
	for _, k := range []Kind{Journal, Snapshot, Segment} {
		require.NotEqual(t, "file", k.String())
	}
}

// The form of what stands in files: a change of it is a new version.
func TestGolden(t *testing.T) {
	page := make([]byte, HeaderBytes)
	h := header()
	h.Encode(page)
	require.Equal(t, "6d6f6f72616765000100000001000000010203", fmt.Sprintf("%x", page[:19]))
	b := AppendRecord(nil, Seed(tier), Record{LSN: 5, Synced: 4, Hash: 0x1122334455667788, Before: 9, Kind: 3, Body: []byte("body of it")})
	require.Len(t, b, 64)
	require.Equal(t, "6d726563", fmt.Sprintf("%x", b[:4]))
	require.Equal(t, "05000000000000000400000000000000"+"8877665544332211"+"0900000000000000"+"0a000003", fmt.Sprintf("%x", b[8:44]))
	require.Equal(t, "body of it\x00\x00\x00\x00\x00\x00", string(b[48:]))
	require.Equal(t, crc32.Update(Seed(tier), crc32.MakeTable(crc32.Castagnoli), []byte("body of it")), binary.LittleEndian.Uint32(b[44:]))
	require.Equal(t, crc32.Update(Seed(tier), crc32.MakeTable(crc32.Castagnoli), b[8:48]), binary.LittleEndian.Uint32(b[4:]))
}

func TestLogIsReadBack(t *testing.T) {
	dir, l := start(t)
	var want []string
	for i := range 1000 {
		body := fmt.Sprint("body ", i, string(make([]byte, i%77)))
		want = append(want, body)
		l.Append(1, uint64(i), []byte(body))
		switch i % 10 {
		case 3:
			require.NoError(t, l.Write(l.Last()))
			require.Equal(t, l.Last(), l.Written())
		case 7:
			require.NoError(t, l.Sync(l.Last(), nothing))
			require.Equal(t, l.Last(), l.Synced())
		}
	}
	require.NoError(t, l.Sync(l.Last(), nothing))
	got, lost, end := scan(t, dir, Part{Next: 1})
	require.Equal(t, want, got)
	require.Empty(t, lost)
	require.Equal(t, End{Offset: l.Size(), Next: l.Last() + 1}, end)
}

// What is written and synced, and in which order.
func TestOrder(t *testing.T) {
	dir, l := start(t)
	lsn := l.Append(1, 1, []byte("a"))
	before := dir.Bytes(name)
	require.Len(t, before, HeaderBytes, "Append writes nothing")
	asked := false
	require.NoError(t, l.Sync(lsn, func() error {
		asked = true
		require.Len(t, dir.Bytes(name), HeaderBytes, "the payload is made durable before the record is written")
		require.Less(t, l.Synced(), lsn)
		return nil
	}))
	require.True(t, asked)
	require.Greater(t, len(dir.Bytes(name)), HeaderBytes)
	_, writes := dir.Syncs()
	require.NoError(t, l.Sync(lsn, func() error { t.Fatal("it is durable"); return nil }))
	_, again := dir.Syncs()
	require.Equal(t, writes, again)
}

func TestATornTailIsCut(t *testing.T) {
	dir, l := start(t)
	for i := range 10 {
		l.Append(1, uint64(i), []byte("0123456789"))
	}
	require.NoError(t, l.Write(l.Last()))
	whole := dir.Bytes(name)
	for cut := HeaderBytes; cut < len(whole); cut++ {
		dir.SetBytes(name, whole[:cut])
		got, lost, end := scan(t, dir, Part{Next: 1})
		require.Len(t, got, (cut-HeaderBytes)/64)
		require.Empty(t, lost)
		require.EqualValues(t, HeaderBytes+len(got)*64, end.Offset)
		require.EqualValues(t, cut, end.Offset+end.Torn)
	}
	for at := HeaderBytes; at < len(whole); at++ { // any byte, and good records behind it: none of them was promised
		b := bytes.Clone(whole)
		b[at] ^= 1
		dir.SetBytes(name, b)
		got, lost, _ := scan(t, dir, Part{Next: 1})
		require.Len(t, got, min(10, (at-HeaderBytes)/64)+padding(at))
		require.Empty(t, lost)
	}
}

// padding: zeros behind a body are not covered by anything.
func padding(at int) int {
	if (at-HeaderBytes)%64 >= 58 {
		return 10 - (at-HeaderBytes)/64
	}
	return 0
}

// Records that a later one knows to have been durable: damage is damage, and it is known which ones are missing.
func TestDamageInTheMiddle(t *testing.T) {
	dir, l := start(t)
	for i := range 100 {
		l.Append(1, uint64(1000+i), []byte("0123456789"))
		require.NoError(t, l.Sync(l.Last(), nothing))
	}
	whole := dir.Bytes(name)
	offsets := map[uint64]int64{}
	f, err := dir.Open(name, 0)
	require.NoError(t, err)
	at := int64(HeaderBytes)
	_, err = Scan(f, tier, Part{Next: 1}, func(r *Record) error {
		offsets[r.LSN] = at
		at += int64(recordHeader+len(r.Body)+7) &^ 7
		return nil
	}, func(Lost) { t.Fatal("nothing is lost") })
	require.NoError(t, err)

	all, _, end := scan(t, dir, Part{Next: 1})
	damage := func(from, n int64) ([]string, []Lost, End) {
		b := bytes.Clone(whole)
		for i := range n {
			b[from+i] ^= 0xff
		}
		dir.SetBytes(name, b)
		return scan(t, dir, Part{Next: 1})
	}
	// The body alone: its key's hash is known.
	got, lost, e := damage(offsets[40]+recordHeader+3, 1)
	require.Len(t, got, len(all)-1)
	require.Equal(t, end, e)
	require.Len(t, lost, 1)
	require.True(t, lost[0].Known)
	require.EqualValues(t, 40, lost[0].First)
	// The header: an echo knows.
	got, lost, e = damage(offsets[40]+10, 1)
	require.Len(t, got, len(all)-1)
	require.Equal(t, end, e)
	require.Equal(t, []Lost{{Offset: offsets[40], Bytes: offsets[41] - offsets[40], First: 40, Last: 40}}, lost)
	// A page of them.
	got, lost, e = damage(offsets[40]+10, 512)
	require.Equal(t, end, e)
	require.Len(t, lost, 1)
	require.EqualValues(t, 40, lost[0].First)
	require.Len(t, got, len(all)-int(lost[0].Last-lost[0].First+1))
	// The end of the file, of which the next file knows.
	dir.SetBytes(name, whole[:offsets[90]+7])
	_, lost, e = scan(t, dir, Part{Next: 1, Durable: l.Last()})
	require.EqualValues(t, 90, lost[0].First)
	require.EqualValues(t, l.Last(), lost[len(lost)-1].Last)
	require.Equal(t, l.Last()+1, e.Next)
	dir.SetBytes(name, whole[:offsets[90]])
	_, lost, e = scan(t, dir, Part{Next: 1, Durable: l.Last()})
	require.Equal(t, []Lost{{Offset: offsets[90], First: 90, Last: l.Last()}}, lost)
	require.Equal(t, l.Last()+1, e.Next)
}

func TestEchoesKnowTheHashes(t *testing.T) {
	dir, l := start(t)
	want := map[uint64]uint64{}
	for i := range uint64(500) {
		want[l.Append(1, i*i+2, nil)] = i*i + 2
	}
	require.NoError(t, l.Write(l.Last()))
	f, err := dir.Open(name, 0)
	require.NoError(t, err)
	seen := map[uint64]int{}
	_, err = Scan(f, tier, Part{Next: 1}, func(r *Record) error {
		r.Echo(func(lsn, hash uint64) {
			seen[lsn]++
			require.Equal(t, max(want[lsn], NoKey), hash)
		})
		return nil
	}, nil)
	require.NoError(t, err)
	for lsn := uint64(1); lsn < l.Last()-2*echoEvery; lsn++ {
		require.GreaterOrEqual(t, seen[lsn], 3, lsn)
	}
}

// Records of another tier, and older ones behind the end, are none.
func TestForeignRecords(t *testing.T) {
	dir, l := start(t)
	l.Append(1, 1, []byte("mine"))
	require.NoError(t, l.Write(1))
	b := dir.Bytes(name)
	dir.SetBytes(name, AppendRecord(bytes.Clone(b), Seed([16]byte{9}), Record{LSN: 2, Kind: 1, Body: []byte("other")}))
	got, _, end := scan(t, dir, Part{Next: 1})
	require.Equal(t, []string{"mine"}, got)
	require.EqualValues(t, 56, end.Torn)
	dir.SetBytes(name, AppendRecord(bytes.Clone(b), Seed(tier), Record{LSN: 1, Kind: 1, Body: []byte("again")}))
	got, _, _ = scan(t, dir, Part{Next: 1})
	require.Equal(t, []string{"mine"}, got)
}

func TestFailedWritesAreTriedAgain(t *testing.T) {
	dir, l := start(t)
	l.Append(1, 1, []byte("first"))
	require.NoError(t, l.Write(1))
	dir.Inject(faulty.Rule{Op: faulty.Write, Name: name, Short: 13, Err: unix.ENOSPC, Times: 2})
	l.Append(1, 2, []byte("second"))
	require.ErrorIs(t, l.Write(2), file.ErrNoSpace)
	l.Append(1, 3, []byte("third"))
	require.ErrorIs(t, l.Sync(3, nothing), file.ErrNoSpace)
	require.EqualValues(t, 1, l.Written())
	require.NoError(t, l.Err())
	require.NoError(t, l.Write(3))
	got, lost, end := scan(t, dir, Part{Next: 1})
	require.Equal(t, []string{"first", "second", "third"}, got)
	require.Empty(t, lost)
	require.Zero(t, end.Torn)
}

// After a sync that failed nobody knows what the disk has: nothing is promised any more.
func TestFailedSyncsAreTheEnd(t *testing.T) {
	for _, payload := range []bool{false, true} {
		dir, l := start(t)
		l.Append(1, 1, []byte("first"))
		var err error
		if payload {
			err = l.Sync(1, func() error { return unix.EIO })
		} else {
			dir.Inject(faulty.Rule{Op: faulty.Sync, Name: name, Err: unix.EIO, Times: 1})
			err = l.Sync(1, nothing)
		}
		require.ErrorIs(t, err, ErrBroken)
		require.ErrorIs(t, err, unix.EIO)
		require.ErrorIs(t, l.Sync(1, nothing), ErrBroken)
		require.ErrorIs(t, l.Write(l.Append(1, 2, nil)), ErrBroken)
		require.ErrorIs(t, l.Err(), ErrBroken)
		require.Zero(t, l.Synced())
		require.Zero(t, l.Buffered(), "nothing piles up")
	}
}

func TestRotate(t *testing.T) {
	dir, l := start(t)
	l.Append(1, 1, []byte("old"))
	require.NoError(t, l.Rotate(nothing, func(first uint64, length int64) (file.File, error) {
		require.EqualValues(t, 2, first)
		require.EqualValues(t, len(dir.Bytes(name)), length)
		return Create(dir, "journal-00000002", header())
	}))
	l.Append(1, 2, []byte("new"))
	require.NoError(t, l.Write(2))
	got, _, _ := scan(t, dir, Part{Next: 1})
	require.Equal(t, []string{"old"}, got)
	require.Contains(t, string(dir.Bytes("journal-00000002")), "new")

	// It could not be made: the old one goes on. It may have been made: nothing goes on.
	require.ErrorIs(t, l.Rotate(nothing, func(uint64, int64) (file.File, error) { return nil, file.ErrNoSpace }), file.ErrNoSpace)
	require.NoError(t, l.Err())
	dir.Inject(faulty.Rule{Op: faulty.SyncDir, Err: unix.EIO})
	err := l.Rotate(nothing, func(uint64, int64) (file.File, error) { return Create(dir, "journal-00000003", header()) })
	require.ErrorIs(t, err, ErrBroken)
	require.ErrorIs(t, l.Err(), ErrBroken)
}

// A file is never seen under its name without its header.
func TestCreateIsWhole(t *testing.T) {
	for calls := 1; calls < 8; calls++ {
		dir := faulty.New()
		dir.DieAfter(calls)
		_, err := Create(dir, name, header())
		for seed := range uint64(30) {
			b := dir.Crash(seed).Bytes(name)
			if err == nil {
				require.NotNil(t, b)
			}
			if b != nil {
				_, damaged, err := DecodeHeader(b, Journal)
				require.NoError(t, err)
				require.False(t, damaged)
			}
		}
	}
}

// Random journals with random damage: never a record that was not written, and no number is forgotten.
func TestRandomDamage(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	for range 300 {
		dir, l := start(t)
		written := map[uint64]string{}
		for range 1 + r.IntN(120) {
			body := make([]byte, r.IntN(200))
			lsn := l.Append(1, r.Uint64(), body)
			written[lsn] = string(body)
			if r.IntN(5) == 0 {
				require.NoError(t, l.Sync(l.Last(), nothing))
			}
		}
		require.NoError(t, l.Sync(l.Last(), nothing))
		b := dir.Bytes(name)
		for range 1 + r.IntN(3) {
			at, n := HeaderBytes+r.IntN(len(b)-HeaderBytes), 1+r.IntN(1<<r.IntN(11))
			for i := at; i < min(len(b), at+n); i++ {
				b[i] = byte(r.Uint32())
			}
		}
		if r.IntN(4) == 0 {
			b = b[:HeaderBytes+r.IntN(len(b)-HeaderBytes)]
		}
		dir.SetBytes(name, b)
		f, err := dir.Open(name, 0)
		require.NoError(t, err)
		p := Part{Next: 1}
		if r.IntN(2) == 0 {
			p.Durable = l.Last()
		}
		next := uint64(1)
		end, err := Scan(f, tier, p, func(rec *Record) error {
			require.Equal(t, next, rec.LSN)
			if rec.Kind != KindEcho {
				require.Equal(t, written[rec.LSN], string(rec.Body))
			}
			next++
			return nil
		}, func(lost Lost) {
			require.Equal(t, next, lost.First)
			require.GreaterOrEqual(t, lost.Last, lost.First)
			next = lost.Last + 1
		})
		require.NoError(t, err)
		require.Equal(t, next, end.Next)
		if p.Durable != 0 {
			require.Equal(t, l.Last()+1, next)
		}
	}
}

func TestScanErrors(t *testing.T) {
	dir, l := start(t)
	l.Append(1, 1, []byte("a"))
	require.NoError(t, l.Write(1))
	f, err := dir.Open(name, 0)
	require.NoError(t, err)
	stop := errors.New("stop")
	_, err = Scan(f, tier, Part{Next: 1}, func(*Record) error { return stop }, nil)
	require.ErrorIs(t, err, stop)
	dir.Inject(faulty.Rule{Op: faulty.Read, Err: unix.EIO})
	_, err = Scan(f, tier, Part{Next: 1}, func(*Record) error { return nil }, nil)
	require.ErrorIs(t, err, unix.EIO)
	_, _, err = ReadHeader(f, Journal)
	require.ErrorIs(t, err, unix.EIO, "not ErrHeader: it is there, and could not be read")
}

func FuzzScan(f *testing.F) {
	b := AppendRecord(nil, Seed(tier), Record{LSN: 1, Hash: 1, Kind: 1, Body: []byte("one")})
	b = AppendRecord(b, Seed(tier), Record{LSN: 2, Synced: 1, Hash: 2, Kind: 2, Body: make([]byte, 100)})
	f.Add(b, uint64(1), uint64(0))
	f.Add(b[:70], uint64(0), uint64(5))
	f.Fuzz(func(t *testing.T, b []byte, next, durable uint64) {
		dir := faulty.New()
		dir.SetBytes(name, append(make([]byte, HeaderBytes), b...))
		file, err := dir.Open(name, 0)
		require.NoError(t, err)
		at := next
		end, err := Scan(file, tier, Part{Next: next, Durable: durable}, func(r *Record) error {
			if next != 0 {
				require.Equal(t, at, r.LSN)
				at++
			}
			r.Echo(func(lsn, _ uint64) { require.NotEqual(t, lsn, r.LSN) })
			return nil
		}, func(l Lost) { at = l.Last + 1 })
		require.NoError(t, err)
		require.LessOrEqual(t, end.Offset+end.Torn, int64(HeaderBytes+len(b)))
	})
}

func FuzzHeader(f *testing.F) {
	page := make([]byte, HeaderBytes)
	h := header()
	h.Encode(page)
	f.Add(page)
	f.Fuzz(func(t *testing.T, page []byte) {
		for _, kind := range []Kind{Journal, Snapshot, Segment} {
			if h, _, err := DecodeHeader(page, kind); err == nil {
				require.Equal(t, kind, h.Kind)
			}
		}
	})
}
