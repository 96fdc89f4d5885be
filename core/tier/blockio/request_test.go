package blockio

import (
	"context"
	"math"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestBadOptions(t *testing.T) {
	for name, o := range map[string]Options{
		"Depth": {Depth: -1}, "ChunkBytes": {ChunkBytes: 5000}, "Rings": {Rings: 1000}, "Align": {Align: 3000},
		"Buffers": {Buffers: 1<<14 + 1}, "Files": {Files: -5}, "MaxPath": {MaxPath: Paths},
	} {
		_, err := Open(o)
		require.ErrorIs(t, err, ErrInvalid)
		require.ErrorContains(t, err, name)
	}
}

// What is refused names the piece, begins nothing, and holds nothing.
func TestBadRequests(t *testing.T) {
	e, other := open(t, Options{}), open(t, Options{})
	f, direct := create(t, make([]byte, 64<<10))
	s, err := e.Add(f, direct)
	require.NoError(t, err)
	gone, err := e.Add(f, direct)
	require.NoError(t, err)
	require.NoError(t, e.Drop(gone))
	foreign, err := other.Add(f, direct)
	require.NoError(t, err)
	b := memory(t, 64<<10)
	a := addressOf(b)
	g, theirs := register(t, e, b[:32<<10]), register(t, other, b)

	for name, c := range map[string]struct {
		piece Piece
		want  error
		text  string
	}{
		"no file":        {Piece{a, nil, 0, 4096, nil}, ErrInvalid, "piece 1 has no File"},
		"foreign file":   {Piece{a, foreign, 0, 4096, nil}, ErrInvalid, "another engine"},
		"dropped file":   {Piece{a, gone, 0, 4096, nil}, ErrDropped, ""},
		"no bytes":       {Piece{a, s, 0, 0, nil}, ErrInvalid, "0 bytes"},
		"less than none": {Piece{a, s, 0, -4096, nil}, ErrInvalid, "-4096 bytes"},
		"offset":         {Piece{a, s, -4096, 4096, nil}, ErrInvalid, "at -4096"},
		"offset + len":   {Piece{a, s, math.MaxInt64 - 4095, 8192, nil}, ErrInvalid, "8192 bytes"},
		"no memory":      {Piece{0, s, 0, 4096, nil}, ErrInvalid, "address 0x0"},
		"end of memory":  {Piece{math.MaxUint64 - 4095, s, 0, 8192, nil}, ErrInvalid, "address"},
		"foreign buffer": {Piece{a, s, 0, 4096, theirs}, ErrInvalid, "not registered with this engine"},
		"nil buffer":     {Piece{a, s, 0, 4096, (*Region)(nil)}, ErrInvalid, "not registered with this engine"},
		"past its end":   {Piece{a + 28<<10, s, 0, 8192, g}, ErrInvalid, "outside of its Buffer"},
		"before it":      {Piece{a - 4096, s, 0, 4096, g}, ErrInvalid, "outside of its Buffer"},
	} {
		t.Run(name, func(t *testing.T) {
			r := &Request{Pieces: []Piece{{a, s, 0, 4096, nil}, c.piece}}
			times, err := e.Do(context.Background(), r)
			require.ErrorIs(t, err, c.want)
			require.ErrorContains(t, err, c.text)
			require.Zero(t, times.First)
			done := make(chan error)
			e.Go(r, func(_ Times, err error) { done <- err })
			require.ErrorIs(t, <-done, c.want)
		})
	}
	if direct {
		for _, p := range []Piece{{a + 512, s, 0, 4096, nil}, {a, s, 512, 4096, nil}, {a, s, 0, 4608, nil}} {
			_, err := e.Do(context.Background(), &Request{Pieces: []Piece{p}})
			require.ErrorIs(t, err, ErrInvalid)
			require.ErrorContains(t, err, "not aligned to 4096")
		}
	}
	require.NoError(t, e.Drop(s), "nobody holds it")
	for _, p := range e.Stats().Paths {
		require.Zero(t, p)
	}
}

func TestEmptyRequest(t *testing.T) {
	for path := range Paths {
		e := open(t, Options{MaxPath: path})
		times, err := e.Do(context.Background(), &Request{})
		require.NoError(t, err)
		require.Zero(t, times.Bytes)
		require.Equal(t, times.First, times.Last)
		require.Positive(t, times.First)
		done := make(chan error)
		e.Go(&Request{}, func(_ Times, err error) { done <- err })
		require.NoError(t, <-done)
	}
}

func TestDrop(t *testing.T) {
	e := open(t, Options{})
	f, direct := create(t, make([]byte, 4096))
	s, err := e.Add(f, direct)
	require.NoError(t, err)
	require.NoError(t, e.Drop(s))
	require.ErrorIs(t, e.Drop(s), ErrDropped)
	require.ErrorIs(t, e.Drop(nil), ErrDropped)
	require.ErrorIs(t, open(t, Options{}).Drop(s), ErrDropped)
}

// Only whole blocks that lie in the request are touched, in memory and in the file.
func TestNeighboursAreUntouched(t *testing.T) {
	needRings(t)
	for path := range Paths {
		t.Run(path.String(), func(t *testing.T) {
			e := open(t, Options{MaxPath: path, ChunkBytes: 8192})
			content := make([]byte, 64<<10)
			pattern(content, 5)
			f, direct := create(t, content)
			s, err := e.Add(f, direct)
			require.NoError(t, err)
			b := memory(t, 64<<10) // with a guard page on either side
			pattern(b, 6)
			want := append([]byte{}, b...)
			copy(want[8192:8192+20480], content[4096:])
			_, err = e.Do(context.Background(), &Request{Pieces: []Piece{
				{addressOf(b) + 8192, s, 4096, 12288, nil}, {addressOf(b) + 8192 + 12288, s, 4096 + 12288, 8192, nil}}})
			require.NoError(t, err)
			same(t, want, b)

			_, err = e.Do(context.Background(), &Request{Write: true, Pieces: []Piece{{addressOf(b), s, 16384, 20480, nil}}})
			require.NoError(t, err)
			copy(content[16384:], b[:20480])
			got, err := os.ReadFile(f.Name())
			require.NoError(t, err)
			same(t, content, got)

			_, err = e.Do(context.Background(), &Request{Pieces: []Piece{{addressOf(b), s, 0, 64 << 10, nil}}})
			require.NoError(t, err, "up to both guards")
			same(t, content, b)
		})
	}
}

// Every byte is told exactly once, when it is there.
func TestChunksAreTold(t *testing.T) {
	needRings(t)
	content := make([]byte, 3<<20)
	pattern(content, 8)
	for path := range Paths {
		for _, how := range []string{"Do", "Go"} {
			t.Run(path.String()+" "+how, func(t *testing.T) {
				e := open(t, Options{MaxPath: path, ChunkBytes: 128 << 10, Depth: 4})
				f, direct := create(t, content)
				s, err := e.Add(f, direct)
				require.NoError(t, err)
				b := memory(t, len(content))
				told := make([]bool, len(content)/4096)
				pieces := []Piece{
					{addressOf(b), s, 0, 1 << 20, nil}, {addressOf(b) + 1<<20, s, 1 << 20, 1<<20 + 4096, nil},
					{addressOf(b) + 2<<20 + 4096, s, 2<<20 + 4096, 1<<20 - 4096, nil}}
				at := []int{0, 1 << 20, 2<<20 + 4096}
				r := &Request{Pieces: pieces, Chunk: func(piece, off, n int) {
					from := at[piece] + off
					same(t, content[from:from+n], b[from:from+n])
					for block := from / 4096; block < (from+n)/4096; block++ {
						require.False(t, told[block], "told twice")
						told[block] = true
					}
				}}
				if how == "Do" {
					_, err = e.Do(context.Background(), r)
				} else {
					done := make(chan error)
					e.Go(r, func(_ Times, err error) { done <- err })
					err = <-done
				}
				require.NoError(t, err)
				require.NotContains(t, told, false)
			})
		}
	}
}

func TestSizes(t *testing.T) {
	sizes := []int{4096, 64 << 10, 1<<20 + 4096, 16 << 20}
	if !testing.Short() {
		sizes = append(sizes, 256<<20)
	}
	e := open(t, Options{})
	for _, size := range sizes {
		f, direct := create(t, nil)
		require.NoError(t, f.Truncate(int64(size)))
		s, err := e.Add(f, direct)
		require.NoError(t, err)
		b := memory(t, size)
		pattern(b, uint64(size))
		g := register(t, e, b)
		r := &Request{Write: true, Pieces: []Piece{{addressOf(b), s, 0, size, g}}}
		times, err := e.Do(context.Background(), r)
		require.NoError(t, err)
		checkTimes(t, times, size, (size+1<<20-1)/(1<<20))
		want := append([]byte{}, b...)
		clear(b)
		r.Write = false
		_, err = e.Do(context.Background(), r)
		require.NoError(t, err)
		same(t, want, b)
		require.NoError(t, e.Drop(s))
	}
}
