package blockio

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
)

// Each path moves the same bytes, both ways, and says which it was.
func TestPaths(t *testing.T) {
	needRings(t)
	const size = 5<<20 + 3*4096
	content := make([]byte, size)
	pattern(content, 1)
	for path := range Paths {
		t.Run(path.String(), func(t *testing.T) {
			e := open(t, Options{MaxPath: path, ChunkBytes: 256 << 10, Depth: 4})
			f, direct := create(t, content)
			if !direct && path < Buffered {
				t.Skip("probed O_DIRECT: not on this file system")
			}
			s, err := e.Add(f, direct)
			require.NoError(t, err)
			b := memory(t, size)
			g := register(t, e, b)
			require.Equal(t, path == UringFixed, g.Registered())

			read := &Request{Pieces: []Piece{{addressOf(b), s, 0, size, g}}}
			times, err := e.Do(context.Background(), read)
			require.NoError(t, err)
			same(t, content, b)
			require.Equal(t, path, times.Path)
			checkTimes(t, times, size, 21)

			pattern(b, 2)
			write := &Request{Write: true, Pieces: []Piece{{addressOf(b) + 8192, s, 4096, size - 8192, g}}}
			times, err = e.Do(context.Background(), write)
			require.NoError(t, err)
			require.Equal(t, path, times.Path)
			checkTimes(t, times, size-8192, 21)
			want := append([]byte{}, content...)
			copy(want[4096:], b[8192:])
			clear(b)
			done := make(chan error)
			e.Go(read, func(times Times, err error) {
				checkTimes(t, times, size, 21)
				done <- err
			})
			require.NoError(t, <-done)
			same(t, want, b)
			require.Equal(t, uint64(3), e.Stats().Paths[path].Operations)
			require.Equal(t, uint64(3*size-8192), e.Stats().Paths[path].Bytes)
			require.NoError(t, e.Drop(s))
		})
	}
}

func checkTimes(t testing.TB, times Times, size, chunks int) {
	t.Helper()
	require.Equal(t, int64(size), times.Bytes)
	require.Equal(t, chunks, times.Chunks)
	require.Positive(t, times.First)
	require.Greater(t, times.Last, times.First)
	require.Positive(t, times.ChunkMin)
	require.LessOrEqual(t, times.ChunkMin, times.ChunkMax)
	require.LessOrEqual(t, times.ChunkMax, times.Last-times.First)
	require.LessOrEqual(t, times.ChunkMax, times.ChunkSum)
	require.GreaterOrEqual(t, times.Wait, int64(0))
	require.GreaterOrEqual(t, times.Submit, int64(0))
	require.GreaterOrEqual(t, times.Reap, int64(0))
	require.Positive(t, times.Depth)
	require.LessOrEqual(t, times.Depth, chunks)
}

// TestFlying: no more chunks than a request allows are in flight, on every path, and all come.
func TestFlying(t *testing.T) {
	content := make([]byte, 1<<20)
	pattern(content, 5)
	for path := range Layer {
		e := open(t, Options{MaxPath: path, ChunkBytes: 32 << 10})
		f, direct := create(t, content)
		s, err := e.Add(f, direct)
		require.NoError(t, err)
		b := memory(t, len(content))
		for _, most := range []int{1, 3, 1000} {
			clear(b)
			told := 0
			times, err := e.Do(context.Background(), &Request{
				Pieces: []Piece{{addressOf(b), s, 0, len(b), nil}}, Flying: most, Chunk: func(_, _, n int) { told += n },
			})
			require.NoError(t, err)
			require.LessOrEqual(t, times.Depth, most)
			require.Equal(t, 32, times.Chunks)
			require.Equal(t, len(content), told)
			same(t, content, b)
		}
	}
}
