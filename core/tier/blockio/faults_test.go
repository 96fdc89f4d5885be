package blockio

import (
	"context"
	"io"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// layer is a File without a descriptor, that does what a test wants.
type layer struct {
	content []byte
	calls   atomic.Int64
	fault   func(call int64, off int64, n int) (most int, err error)
}

func (*layer) FD() int { return -1 }

func (f *layer) at(p []byte, off int64, write bool) (int, error) {
	most, err := len(p), error(nil)
	if f.fault != nil {
		most, err = f.fault(f.calls.Add(1), off, len(p))
	}
	if off > int64(len(f.content)) {
		return 0, io.EOF
	}
	if most = min(most, len(p)); write {
		return copy(f.content[off:], p[:most]), err
	}
	n := copy(p[:most], f.content[off:])
	if n < most && err == nil {
		err = io.EOF
	}
	return n, err
}

func (f *layer) ReadAt(p []byte, off int64) (int, error)  { return f.at(p, off, false) }
func (f *layer) WriteAt(p []byte, off int64) (int, error) { return f.at(p, off, true) }

// What a system call says, on every path: for the layer by the file, for rings by changing results.
func TestFaults(t *testing.T) {
	const size = 256 << 10
	cases := map[string]struct {
		most  int // of what a try was to move
		err   error
		times int64 // how many tries are like that; 0: all
		want  error
		short bool
		again bool
	}{
		"EIO":                   {0, unix.EIO, 0, unix.EIO, false, false},
		"EIO once":              {0, unix.EIO, 1, unix.EIO, false, false},
		"ENOSPC":                {0, unix.ENOSPC, 0, unix.ENOSPC, false, false},
		"again":                 {0, unix.EAGAIN, 7, nil, false, true},
		"interrupted":           {0, unix.EINTR, 7, nil, false, true},
		"again, for ever":       {0, unix.EAGAIN, 0, unix.EAGAIN, false, true},
		"short, to a block":     {8192, nil, 3, nil, true, false},
		"short, inside a block": {5000, nil, 3, nil, true, false},
		"short, always":         {8192, nil, 0, nil, true, false},
		"nothing":               {0, nil, 1, ErrShort, true, false},
	}
	for name, c := range cases {
		for _, path := range []Path{UringFixed, Layer} {
			for _, write := range []bool{false, true} {
				t.Run(name+" "+path.String()+map[bool]string{false: " read", true: " write"}[write], func(t *testing.T) {
					content := make([]byte, size)
					pattern(content, 11)
					e := open(t, Options{ChunkBytes: 64 << 10, Depth: 4})
					var calls atomic.Int64
					var over atomic.Bool
					affected := func() bool { return !over.Load() && (c.times == 0 || calls.Add(1) <= c.times) }
					var file File
					direct := false
					if path == Layer {
						file = &layer{content: content, fault: func(_, _ int64, n int) (int, error) {
							if affected() {
								return c.most, c.err
							}
							return n, nil
						}}
					} else {
						needRings(t)
						var f osFile
						f, direct = create(t, content)
						if !direct {
							t.Skip("probed O_DIRECT: not on this file system")
						}
						file = f
						e.bend = func(_ int64, n int, result int32) int32 {
							if !affected() {
								return result
							}
							if errno, ok := c.err.(unix.Errno); ok {
								return -int32(errno)
							}
							return min(result, int32(c.most))
						}
					}
					s, err := e.Add(file, direct)
					require.NoError(t, err)
					b := memory(t, size)
					if write {
						pattern(b, 12)
					}
					r := &Request{Write: write, Pieces: []Piece{{addressOf(b), s, 0, size, register(t, e, b)}}}
					times, err := e.Do(context.Background(), r)
					stats := e.Stats()
					require.Equal(t, path, times.Path)
					require.Equal(t, c.short, stats.Short > 0, "%d short", stats.Short)
					require.Equal(t, c.again, stats.Retried > 0, "%d retried", stats.Retried)
					require.Equal(t, uint64(1), stats.Paths[path].Operations)
					require.Positive(t, times.First)
					require.Greater(t, times.Last, times.First, "an error is not latency zero")
					if c.want != nil {
						require.ErrorIs(t, err, c.want)
						require.Less(t, times.Bytes, int64(size))
						require.Equal(t, uint64(1), stats.Paths[path].Errors)
						return
					}
					require.NoError(t, err)
					require.Equal(t, int64(size), times.Bytes)
					require.Zero(t, stats.Paths[path].Errors)
					want := b
					over.Store(true)
					if write {
						want = append([]byte{}, b...)
						r.Write = false
						clear(b)
						_, err = e.Do(context.Background(), r)
						require.NoError(t, err)
					} else {
						want = content
					}
					same(t, want, b)
				})
			}
		}
	}
}

// A file that ends before the piece does is an error on every path, wherever it ends, and what was there is there.
func TestEndOfFile(t *testing.T) {
	needRings(t)
	const size = 256 << 10
	for path := range Paths {
		for _, length := range []int{0, 4096, 100 << 10, 100<<10 + 512, 64 << 10, size - 1} {
			e := open(t, Options{MaxPath: path, ChunkBytes: 64 << 10})
			content := make([]byte, length)
			pattern(content, 13)
			f, direct := create(t, content)
			s, err := e.Add(f, direct)
			require.NoError(t, err)
			b := memory(t, size)
			times, err := e.Do(context.Background(), &Request{Pieces: []Piece{{addressOf(b), s, 0, size, register(t, e, b)}}})
			require.ErrorIs(t, err, ErrShort, "%v, %d bytes", path, length)
			require.Positive(t, times.First)
			require.Greater(t, times.Last, times.First)
			same(t, content[:length&^4095], b[:length&^4095])
			require.LessOrEqual(t, times.Bytes, int64(length))
			require.Equal(t, uint64(1), e.Stats().Paths[path].Errors)
		}
	}
}

// A ring that the kernel refuses to enter fails what it was given, and hangs nobody.
func TestRingThatFails(t *testing.T) {
	needRings(t)
	e := open(t, Options{Rings: 1, ChunkBytes: 64 << 10})
	content := make([]byte, 256<<10)
	pattern(content, 14)
	f, direct := create(t, content)
	s, err := e.Add(f, direct)
	require.NoError(t, err)
	if s.path > Uring {
		t.Skip("probed O_DIRECT: not on this file system")
	}
	b := memory(t, len(content))
	r := &Request{Pieces: []Piece{{addressOf(b), s, 0, len(content), nil}}}

	ring := e.rings[0].FD()
	kept, err := unix.Dup(ring)
	require.NoError(t, err)
	require.NoError(t, unix.Dup3(f.FD(), ring, unix.O_CLOEXEC)) // no ring any more
	ended := make(chan error, 1)
	go func() {
		_, err := e.Do(context.Background(), r)
		ended <- err
	}()
	require.ErrorIs(t, soon(t, ended), unix.EOPNOTSUPP)
	require.NoError(t, unix.Dup3(kept, ring, unix.O_CLOEXEC))
	require.NoError(t, unix.Close(kept))

	_, err = e.Do(context.Background(), r)
	require.NoError(t, err)
	same(t, content, b)
}
