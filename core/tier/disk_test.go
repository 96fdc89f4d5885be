package tier

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"moorage/core/index"
	"moorage/core/tier/blocks"
	"moorage/core/tier/file"
	"moorage/core/tier/file/faulty"
)

var background = context.Background()

// memory is n bytes at an address that is aligned, but for skew bytes, between guards.
func memory(t testing.TB, n, skew int) []byte {
	t.Helper()
	whole := n + skew + 2*blocks.Size
	m, err := unix.Mmap(-1, 0, whole, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	require.NoError(t, err)
	for i := range m {
		m[i] = guard
	}
	p := m[blocks.Size+skew:][:n:n]
	t.Cleanup(func() {
		for i, b := range m {
			if at := i - blocks.Size - skew; (at < 0 || at >= n) && b != guard {
				t.Errorf("byte %d next to %d bytes of memory was written to", at, n)
				break
			}
		}
		require.NoError(t, unix.Munmap(m))
	})
	return p
}

const guard = 0xa5

// noise is what objects are cut from.
var noise = func() []byte {
	r, p := rand.NewPCG(1, 2), make([]byte, 1<<20+8)
	for i := 0; i+8 <= len(p); i += 8 {
		binary.LittleEndian.PutUint64(p[i:], r.Uint64())
	}
	return p
}()

// fill makes bytes that only this object has: each sector, as far as it has room, begins with who it is.
func fill(p []byte, seed uint64) []byte {
	from := seed * 4099 % (1 << 19)
	for at := 0; at < len(p); at += 1 << 19 {
		copy(p[at:], noise[from:][:1<<19])
	}
	for at := 0; at+16 <= len(p); at += faulty.Sector {
		binary.LittleEndian.PutUint64(p[at:], seed)
		binary.LittleEndian.PutUint64(p[at+8:], uint64(at))
	}
	return p
}

func at(p []byte) Memory { return Memory{Addr: addressOf(p)} }

// scratch is memory that tests of many objects use again.
type scratch struct{ in, out []byte }

func newScratch(t testing.TB, n int) *scratch {
	return &scratch{memory(t, n, 0), memory(t, n, 0)}
}

func (s *scratch) put(d *Disk, key string, seq uint64, n int) (bool, error) {
	w, err := d.Reserve([]byte(key), seq, uint64(n))
	if err != nil {
		return false, err
	}
	defer w.Drop()
	if _, err := w.Write(background, at(fill(s.in[:n], seq))); err != nil {
		return false, err
	}
	return w.Commit(index.Content{Meta: fmt.Appendf(nil, "%d", seq)})
}

// get reads an object and compares its bytes with those of its sequence number.
func (s *scratch) get(d *Disk, key string) (seq uint64, found bool, err error) {
	e, ok := d.Lookup([]byte(key))
	if !ok {
		return 0, false, nil
	}
	defer e.Release()
	n := int(e.Bytes())
	clear(s.out[:n])
	if _, err := d.Read(background, e, at(s.out), 0, uint64(n)); err != nil {
		return e.Seq(), true, err
	}
	if string(fill(s.in[:n], e.Seq())) != string(s.out[:n]) {
		return e.Seq(), true, fmt.Errorf("wrong bytes of %q, %d", key, e.Seq())
	}
	if string(e.Meta()) != fmt.Sprint(e.Seq()) || string(e.Key()) != key {
		return e.Seq(), true, errors.New("wrong metadata")
	}
	return e.Seq(), true, nil
}

func openDisk(t testing.TB, fs file.Dir, o Options) *Disk {
	t.Helper()
	o.FS = fs
	if o.Capacity == 0 {
		o.Capacity = 16 << 20
	}
	if o.SegmentBytes == 0 {
		o.SegmentBytes = 4 << 20
	}
	d, err := Open(o)
	require.NoError(t, err)
	return d
}

// adds up: the blocks of the bitmaps are those that the counters know of.
func addsUp(t testing.TB, d *Disk) {
	t.Helper()
	d.space.making.Lock()
	defer d.space.making.Unlock()
	taken := func(s Stats) uint64 { return s.Used + s.Reserved + s.Pending }
	var s Stats
	var bitmaps uint64
	for { // the keeper may free blocks between two looks
		s = d.Stats()
		bitmaps = (d.space.blocks.Total() - d.space.blocks.Free()) * blocks.Size
		if taken(s) == taken(d.Stats()) {
			break
		}
	}
	require.Equal(t, bitmaps, taken(s), "%+v", s)
	used := uint64(0)
	for i := range d.shards {
		d.shards[i].table.walk(uint64(i)<<(64-shardBits), 1<<40, func(e *Entry) bool { used += e.blocks(); return true })
	}
	require.Equal(t, used*blocks.Size, s.Used)
}

func TestPutGetRemove(t *testing.T) {
	for _, mode := range []Durability{None, Batch, Each} {
		t.Run(mode.String(), func(t *testing.T) {
			fs, s := faulty.New(), newScratch(t, 3<<20)
			d := openDisk(t, fs, Options{Durability: mode})
			for i, n := range []int{0, 1, 4095, 4096, 5000, 32 << 10, 100_001, 1 << 20, 2<<20 + 17} {
				key, seq := fmt.Sprint("key ", i), uint64(i+1)
				stored, err := s.put(d, key, seq, n)
				require.NoError(t, err)
				require.True(t, stored)
				got, found, err := s.get(d, key)
				require.NoError(t, err)
				require.True(t, found)
				require.Equal(t, seq, got)
			}
			require.Equal(t, 9, d.Len())
			require.True(t, d.Remove([]byte("key 3"), 100))
			require.False(t, d.Has([]byte("key 3")))
			addsUp(t, d)
			require.NoError(t, d.Close())
			d = openDisk(t, fs, Options{Durability: mode})
			require.Equal(t, 8, d.Recovered().Objects)
			require.True(t, d.Recovered().Clean)
			require.Empty(t, d.Recovered().Lost)
			for i := range 9 {
				_, found, err := s.get(d, fmt.Sprint("key ", i))
				require.NoError(t, err)
				require.Equal(t, i != 3, found, i)
			}
			addsUp(t, d)
			require.EqualValues(t, 9, d.MaxSeq())
			require.NoError(t, d.Close())
		})
	}
}
