package tier

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"moorage/core/index"
	"moorage/core/registry"
	"moorage/core/tier/blocks"
	"moorage/core/tier/file"
	"moorage/core/tier/file/faulty"
)

// crumbs opens a disk whose free blocks lie in crumbs, so that objects have many runs.
func crumbs(t *testing.T, fs file.Dir, o Options) *Disk {
	d := openDisk(t, fs, o)
	_, err := d.space.grow()
	require.NoError(t, err)
	for b, r := uint32(0), rand.N[uint32]; b < 1000; b += 2 + r(7) {
		require.NoError(t, d.space.blocks.Take([]blocks.Run{{Segment: 0, Start: b, Count: 1}}))
		d.space.used.Add(1)
	}
	return d
}

func writeBytes(t testing.TB, d *Disk, key string, seq uint64, p []byte) *Entry {
	t.Helper()
	w, err := d.Reserve([]byte(key), seq, uint64(len(p)))
	require.NoError(t, err)
	_, err = w.Write(background, at(p))
	require.NoError(t, err)
	stored, err := w.Commit(index.Content{})
	require.NoError(t, err)
	require.True(t, stored)
	e, ok := d.Lookup([]byte(key))
	require.True(t, ok)
	return e
}

// All parts of objects, to and from all kinds of addresses: the right bytes, and not one more. The guards look at the rest.
func TestParts(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	for _, verify := range []Verify{Always, Off} {
		d := crumbs(t, faulty.New(), Options{Verify: verify, Durability: None})
		for round := range 60 / slower {
			n := []int{r.IntN(70_000), r.IntN(1 << 20), r.IntN(3 << 20)}[r.IntN(3)]
			skew := []int{0, 0, 1, 512, 100}[r.IntN(5)]
			src := fill(memory(t, n, skew), uint64(round))
			e := writeBytes(t, d, "a", uint64(round+1), src)
			for range 8 {
				from := r.IntN(n + 1)
				if r.IntN(3) == 0 {
					from &^= blocks.Size - 1
				}
				size := r.IntN(n - from + 1)
				if r.IntN(4) == 0 {
					from, size = 0, n
				}
				skew := []int{0, from % blocks.Size, 1, 64}[r.IntN(4)]
				dst := memory(t, size, skew)
				io, err := d.Read(background, e, at(dst), uint64(from), uint64(size))
				require.NoError(t, err)
				require.True(t, string(src[from:from+size]) == string(dst), "%d bytes from %d of %d, skew %d", size, from, n, skew)
				require.LessOrEqual(t, io.Bounced, uint64(size))
				if size > 0 {
					require.Positive(t, io.First)
					require.GreaterOrEqual(t, io.Last, io.First)
				}
			}
			e.Release()
		}
		addsUpWith(t, d, func() {
			require.NoError(t, d.Close())
		})
	}
}

func addsUpWith(t testing.TB, d *Disk, then func()) {
	s := d.Stats()
	require.Equal(t, s.Capacity, s.Used+s.Reserved+s.Pending+s.Free)
	then()
}

// Aligned memory is read and written in place. What has room up to the next block needs no copy at all.
func TestNothingIsCopiedInPlace(t *testing.T) {
	d := openDisk(t, faulty.New(), Options{})
	defer func() { require.NoError(t, d.Close()) }()
	for _, n := range []int{bounceBelow, 100_000, 1<<20 + 1, 2 << 20} {
		src, dst := fill(memory(t, n, 0), 1), memory(t, int(up(uint64(n))), 0)
		tail := uint64(n % blocks.Size)
		w, err := d.Reserve([]byte("a"), uint64(n), uint64(n))
		require.NoError(t, err)
		io, err := w.Write(background, at(src))
		require.NoError(t, err)
		require.Equal(t, tail, io.Bounced, "the last block, so that nothing behind the object is written to disk")
		_, err = w.Commit(index.Content{})
		require.NoError(t, err)

		e, _ := d.Lookup([]byte("a"))
		io, err = d.Read(background, e, at(dst), 0, uint64(n))
		require.NoError(t, err)
		require.Equal(t, tail, io.Bounced)
		require.True(t, io.Verified)
		io, err = d.Read(background, e, Memory{Addr: addressOf(dst), Room: uint64(len(dst))}, 0, uint64(n))
		require.NoError(t, err)
		require.Zero(t, io.Bounced)
		require.Equal(t, string(src), string(dst[:n]))
		require.Equal(t, make([]byte, len(dst)-n), dst[n:], "zeros behind the object")
		io, err = d.Read(background, e, at(dst[1:]), 0, uint64(n)-1)
		require.NoError(t, err)
		require.EqualValues(t, n-1, io.Bounced)
		e.Release()
	}
	small := fill(memory(t, 1000, 0), 2)
	e := writeBytes(t, d, "b", 1, small)
	io, err := d.Read(background, e, at(small), 0, 1000)
	require.NoError(t, err)
	require.EqualValues(t, 1000, io.Bounced)
	e.Release()
}

// fakeRegion is registered memory to nobody.
type fakeRegion struct{}

func (fakeRegion) Deregister() error { return nil }

// The pieces that a request is cut into cover an object, block by block, in file and memory, at the borders of runs and slabs.
func TestPlan(t *testing.T) {
	d := openDisk(t, faulty.New(), Options{})
	defer func() { require.NoError(t, d.Close()) }()
	_, err := d.space.grow()
	require.NoError(t, err)
	const page = blocks.Size
	runs := []blocks.Run{{Segment: 0, Start: 10, Count: 3}, {Segment: 0, Start: 20, Count: 1}, {Segment: 0, Start: 30, Count: 6}}
	m := Memory{Addr: 64 * page, Parts: []registry.Piece{
		{Region: fakeRegion{}, Addr: 1000 * page, Size: 2 * page}, {Region: fakeRegion{}, Addr: 2000 * page, Size: 7 * page},
	}}
	require.True(t, m.inPlace(0, 9*page, page))
	require.NotNil(t, m.Parts)
	var p plan
	p.memory(d, runs, page, 10*page, &m, 0)
	type piece struct {
		addr uintptr
		off  int64
		n    int
		at   uint64
	}
	var got []piece
	for i, one := range p.pieces {
		got = append(got, piece{one.Addr / page, one.Off/page - 1, one.Len / page, p.starts[i] / page})
	}
	require.Equal(t, []piece{{1000, 11, 2, 1}, {2000, 20, 1, 3}, {2001, 30, 6, 4}}, got)
	p.reset()
	m.Parts = nil
	p.memory(d, runs, 0, 2*page, &m, 0)
	require.Len(t, p.pieces, 1)
	require.EqualValues(t, 64*page, p.pieces[0].Addr)
	// Parts that do not cover it, or whose borders are not aligned, are not used.
	for _, parts := range [][]registry.Piece{
		{{Region: fakeRegion{}, Addr: 1000 * page, Size: page}},
		{{Region: fakeRegion{}, Addr: 1000*page + 8, Size: 9 * page}},
		{{Region: fakeRegion{}, Addr: 1000 * page, Size: page + 8}, {Region: fakeRegion{}, Addr: 2000 * page, Size: 9 * page}},
	} {
		m.Parts = parts
		require.True(t, m.inPlace(0, 9*page, page))
		require.Nil(t, m.Parts)
	}
	require.False(t, m.inPlace(8, page, page))
}

func TestBadCalls(t *testing.T) {
	d := openDisk(t, faulty.New(), Options{Capacity: 8 << 20})
	for _, key := range []string{"", string(make([]byte, index.MaxKey+1))} {
		_, err := d.Reserve([]byte(key), 1, 1)
		require.ErrorIs(t, err, ErrInvalid)
	}
	_, err := d.Reserve([]byte("a"), 1, MaxObject+1)
	require.ErrorIs(t, err, ErrInvalid)
	_, err = d.Reserve([]byte("a"), 1, 8<<20+1)
	require.ErrorIs(t, err, ErrFull)
	require.ErrorContains(t, err, "disk_capacity")
	require.ErrorContains(t, err, fmt.Sprint(8<<20))

	src := fill(memory(t, 5000, 0), 1)
	w, err := d.Reserve([]byte("a"), 1, 5000)
	require.NoError(t, err)
	_, err = w.Commit(index.Content{})
	require.ErrorIs(t, err, ErrInvalid, "nothing was written")
	_, err = w.Write(background, at(src))
	require.NoError(t, err)
	_, err = w.Commit(index.Content{Meta: make([]byte, index.MaxMeta+1)})
	require.ErrorIs(t, err, ErrInvalid)
	_, err = w.Commit(index.Content{Tensor: true, Shape: make([]int64, index.MaxDims+1)})
	require.ErrorIs(t, err, ErrInvalid)
	stored, err := w.Commit(index.Content{Tensor: true, Code: 2, Bits: 16, Lanes: 1, Shape: []int64{50, 50}, Meta: []byte("m")})
	require.NoError(t, err)
	require.True(t, stored)
	_, err = w.Commit(index.Content{})
	require.ErrorIs(t, err, ErrInvalid)
	_, err = w.Write(background, at(src))
	require.ErrorIs(t, err, ErrInvalid)
	w.Drop()

	e, ok := d.Lookup([]byte("a"))
	require.True(t, ok)
	require.Equal(t, index.Content{Key: []byte("a"), Meta: []byte("m"), Tensor: true, Code: 2, Bits: 16, Lanes: 1, Shape: []int64{50, 50}}, e.Content())
	for _, part := range [][2]uint64{{0, 5001}, {5001, 0}, {1, 5000}, {^uint64(0), 1}, {1, ^uint64(0)}} {
		_, err := d.Read(background, e, at(src), part[0], part[1])
		require.ErrorIs(t, err, ErrInvalid)
	}
	ctx, cancel := context.WithCancel(background)
	cancel()
	_, err = d.Read(ctx, e, at(src), 0, 5000)
	require.ErrorIs(t, err, context.Canceled)
	require.EqualValues(t, 1, d.Stats().Cancelled)
	require.Zero(t, d.Stats().ReadErrors)
	e.Release()
	require.NoError(t, d.Close())

	require.ErrorIs(t, d.Close(), ErrClosed)
	_, err = d.Reserve([]byte("a"), 1, 1)
	require.ErrorIs(t, err, ErrClosed)
	require.ErrorIs(t, d.Sync(), ErrClosed)
	require.ErrorIs(t, d.Settle(), ErrClosed)
	_, ok = d.Lookup([]byte("a"))
	require.False(t, ok)
	require.False(t, d.Remove([]byte("a"), 9))
	require.Equal(t, ListEnd, d.List(nil, 0, nil))
}

func TestBadOptions(t *testing.T) {
	for name, o := range map[string]Options{
		"no directory": {Capacity: 1 << 30}, "disk_capacity": {FS: faulty.New(), Capacity: 4095}, "at most": {FS: faulty.New(), Capacity: 1 << 61},
		"segments": {FS: faulty.New(), Capacity: 1 << 30, SegmentBytes: 5000}, "durability": {FS: faulty.New(), Capacity: 1 << 30, Durability: 7},
		"verify": {FS: faulty.New(), Capacity: 1 << 30, Verify: 7}, "negative": {FS: faulty.New(), Capacity: 1 << 30, BatchEvery: -1},
	} {
		_, err := Open(o)
		require.ErrorIs(t, err, ErrInvalid)
		require.ErrorContains(t, err, name)
	}
}
