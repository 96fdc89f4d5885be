package blockio

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// endless is a segment whose reads are in flight until somebody writes into the pipe.
func endless(t testing.TB, e *Engine) (s *Segment, w *os.File) {
	t.Helper()
	needRings(t)
	fds := make([]int, 2)
	require.NoError(t, unix.Pipe2(fds, unix.O_CLOEXEC))
	r, w := os.NewFile(uintptr(fds[0]), "pipe"), os.NewFile(uintptr(fds[1]), "pipe")
	t.Cleanup(func() { _, _ = r.Close(), w.Close() })
	s, err := e.Add(osFile{r}, true)
	require.NoError(t, err)
	return s, w
}

// slow is a File whose reads wait for the test.
type slow struct {
	layer
	begun chan struct{}
	end   chan struct{}
}

func newSlow(n int) *slow {
	return &slow{layer: layer{content: make([]byte, n)}, begun: make(chan struct{}, 1000), end: make(chan struct{})}
}

func (f *slow) ReadAt(p []byte, off int64) (int, error) {
	f.begun <- struct{}{}
	<-f.end
	return f.layer.ReadAt(p, off)
}

func never(t testing.TB, ch <-chan error, what string) {
	t.Helper()
	select {
	case err := <-ch:
		require.Fail(t, what, "%v", err)
	case <-time.After(50 * time.Millisecond):
	}
}

func soon(t testing.TB, ch <-chan error) error {
	t.Helper()
	select {
	case err := <-ch:
		return err
	case <-time.After(10 * time.Second):
		require.Fail(t, "it hangs")
		return nil
	}
}

// What cannot be stopped is waited for: the memory is the engine's until then.
func TestCancelWaitsForWhatIsInFlight(t *testing.T) {
	e := open(t, Options{ChunkBytes: 4096})
	f := newSlow(64 << 10)
	for i := range f.content {
		f.content[i] = 7
	}
	s, err := e.Add(f, false)
	require.NoError(t, err)
	b := memory(t, 64<<10)
	ctx, cancel := context.WithCancelCause(context.Background())
	ended := make(chan error, 1)
	go func() {
		_, err := e.Do(ctx, &Request{Pieces: []Piece{{addressOf(b), s, 0, len(b), nil}}})
		ended <- err
	}()
	<-f.begun
	why := errors.New("no longer wanted")
	cancel(why)
	never(t, ended, "it ended while a read was in flight")
	close(f.end)
	err = soon(t, ended)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, err, why)
	require.Equal(t, uint64(1), e.Stats().Cancelled)
	after := append([]byte{}, b...)
	time.Sleep(20 * time.Millisecond)
	same(t, after, b)
	require.Contains(t, b, byte(0), "the rest was not begun")
}

// A cancelled ring has nothing in flight any more when Do returns: nothing is written to the memory, and nothing taken from
// the file.
func TestCancelOnARing(t *testing.T) {
	e := open(t, Options{Rings: 1, ChunkBytes: 4096, Depth: 8})
	s, w := endless(t, e)
	b := memory(t, 64<<10)
	r := &Request{Pieces: []Piece{{addressOf(b), s, 0, len(b), nil}}}
	for range 3 {
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		var times Times
		go func() {
			var err error
			times, err = e.Do(ctx, r)
			ended <- err
		}()
		never(t, ended, "there is nothing to read")
		cancel()
		require.ErrorIs(t, soon(t, ended), context.Canceled)
		require.Positive(t, times.First)
		require.Greater(t, times.Last-times.First, int64(40*time.Millisecond))
		require.Equal(t, 8, times.Depth)
		l := <-e.idle
		require.Len(t, l.free, len(l.flights), "chunks are in flight in a ring that is idle")
		e.idle <- l
	}
	require.Equal(t, uint64(3), e.Stats().Cancelled)
	_, err := w.Write(make([]byte, 4096))
	require.NoError(t, err)
	n, err := unix.IoctlGetInt(int(w.Fd()), unix.TIOCINQ)
	require.NoError(t, err)
	require.Equal(t, 4096, n, "nobody reads any more")

	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	times, err := e.Do(ctx, r)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Equal(t, int64(4096), times.Bytes)
}

func TestCancelBeforeTheBeginning(t *testing.T) {
	e := open(t, Options{Rings: 1})
	s, w := endless(t, e)
	b := memory(t, 4096)
	r := &Request{Pieces: []Piece{{addressOf(b), s, 0, 4096, nil}}}
	done, cancel := context.WithCancel(context.Background())
	cancel()
	times, err := e.Do(done, r)
	require.ErrorIs(t, err, context.Canceled)
	require.Zero(t, times.First)

	ended := make(chan error, 1)
	go func() {
		_, err := e.Do(context.Background(), r)
		ended <- err
	}()
	require.Eventually(t, func() bool { return len(e.idle) == 0 }, 10*time.Second, time.Millisecond)
	soonOver, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	_, err = e.Do(soonOver, r)
	require.ErrorIs(t, err, context.DeadlineExceeded, "all rings are in use")
	_, err = w.Write(make([]byte, 4096))
	require.NoError(t, err)
	require.NoError(t, soon(t, ended))
}

// Close waits for what is in flight on every path, refuses what waits for a ring, and everything after.
func TestCloseWaits(t *testing.T) {
	for _, how := range []string{"Do", "Go", "Do layer", "Go layer"} {
		t.Run(how, func(t *testing.T) {
			e, err := Open(Options{Rings: 1})
			require.NoError(t, err)
			var s *Segment
			var release func()
			if how == "Do" || how == "Go" {
				var w *os.File
				s, w = endless(t, e)
				release = func() { _, _ = w.Write(make([]byte, 4096)) }
			} else {
				f := newSlow(4096)
				s, err = e.Add(f, false)
				require.NoError(t, err)
				release = func() { close(f.end) }
			}
			b := memory(t, 4096)
			r := &Request{Pieces: []Piece{{addressOf(b), s, 0, 4096, nil}}}
			ended := make(chan error, 1)
			if how[:2] == "Do" {
				go func() {
					_, err := e.Do(context.Background(), r)
					ended <- err
				}()
			} else {
				e.Go(r, func(_ Times, err error) { ended <- err })
			}
			never(t, ended, "there is nothing to read")
			waiting := make(chan error, 1)
			if how == "Do" {
				go func() {
					_, err := e.Do(context.Background(), r)
					waiting <- err
				}()
				never(t, waiting, "the ring is in use")
			}
			closed := make(chan error, 2)
			for range 2 {
				go func() { closed <- e.Close() }()
			}
			never(t, closed, "closed with a read in flight")
			if how == "Do" {
				require.ErrorIs(t, soon(t, waiting), ErrClosed)
			}
			_, err = e.Do(context.Background(), r)
			require.ErrorIs(t, err, ErrClosed)
			release()
			require.NoError(t, soon(t, ended))
			require.NoError(t, soon(t, closed))
			require.NoError(t, soon(t, closed))

			_, err = e.Do(context.Background(), r)
			require.ErrorIs(t, err, ErrClosed)
			e.Go(r, func(_ Times, err error) { ended <- err })
			require.ErrorIs(t, soon(t, ended), ErrClosed)
			_, err = e.Add(newSlow(1), false)
			require.ErrorIs(t, err, ErrClosed)
			_, err = e.Register(4096, 4096, 4096, 0)
			require.ErrorIs(t, err, ErrClosed)
			require.NoError(t, e.Drop(s), "a segment may go later")
		})
	}
}

func TestDropWaits(t *testing.T) {
	e := open(t, Options{})
	s, w := endless(t, e)
	b := memory(t, 4096)
	r := &Request{Pieces: []Piece{{addressOf(b), s, 0, 4096, nil}}}
	ended := make(chan error, 1)
	e.Go(r, func(_ Times, err error) { ended <- err })
	dropped := make(chan error, 1)
	go func() { dropped <- e.Drop(s) }()
	never(t, dropped, "dropped with a read in flight")
	_, err := e.Do(context.Background(), r)
	require.ErrorIs(t, err, ErrDropped)
	_, err = w.Write(make([]byte, 4096))
	require.NoError(t, err)
	require.NoError(t, soon(t, ended))
	require.NoError(t, soon(t, dropped))
}

// Waiting for a ring is told apart.
func TestWaitForARing(t *testing.T) {
	e := open(t, Options{Rings: 1})
	s, w := endless(t, e)
	b := memory(t, 8192)
	ended := make(chan error, 2)
	var waits [2]Times
	for i := range waits {
		go func() {
			r := &Request{Pieces: []Piece{{addressOf(b) + uintptr(i)*4096, s, 0, 4096, nil}}}
			var err error
			waits[i], err = e.Do(context.Background(), r)
			ended <- err
		}()
	}
	never(t, ended, "there is nothing to read")
	for range 2 {
		_, err := w.Write(make([]byte, 4096))
		require.NoError(t, err)
		require.NoError(t, soon(t, ended))
	}
	require.Greater(t, max(waits[0].Wait, waits[1].Wait), int64(40*time.Millisecond))
	require.Less(t, min(waits[0].Wait, waits[1].Wait), int64(40*time.Millisecond))
}

// Readers and writers of one file each in its own part, in every way there is, some of them cancelled, until the engine is
// closed under them.
func TestHammer(t *testing.T) {
	needRings(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	for _, path := range []Path{UringFixed, Direct, Layer} {
		t.Run(path.String(), func(t *testing.T) { hammer(t, path, seed) })
	}
}

func hammer(t *testing.T, path Path, seed uint64) {
	const workers, part, duration = 8, 1 << 20, 300 * time.Millisecond
	e, err := Open(Options{MaxPath: path, ChunkBytes: 32 << 10, Depth: 8, Rings: 3})
	require.NoError(t, err)
	content := make([]byte, workers*part)
	pattern(content, seed)
	f, direct := create(t, content)
	s, err := e.Add(f, direct)
	require.NoError(t, err)
	var group sync.WaitGroup
	var moved, refused, cancelled atomic.Int64
	for i := range workers {
		b := memory(t, part)
		mine := content[i*part : (i+1)*part]
		random := rand.New(rand.NewPCG(seed, uint64(i)))
		group.Go(func() {
			for {
				off := random.IntN(part/4096) * 4096
				n := min(part-off, (1+random.IntN(64))*4096)
				r := &Request{Write: random.IntN(3) == 0, Pieces: []Piece{{addressOf(b), s, int64(i*part + off), n, nil}}}
				deregister := func() error { return nil }
				if g, err := e.Register(addressOf(b), addressOf(b), part, 0); err == nil && random.IntN(2) == 0 {
					r.Pieces[0].Buffer, deregister = g, g.Deregister
				} else if err == nil {
					require.NoError(t, g.Deregister())
				}
				if r.Write {
					pattern(b[:n], random.Uint64())
				} else {
					clear(b[:n])
				}
				ctx, cancel := context.Background(), context.CancelFunc(func() {})
				var err error
				switch random.IntN(3) {
				case 0:
					done := make(chan error)
					e.Go(r, func(_ Times, err error) { done <- err })
					err = <-done
				case 1:
					ctx, cancel = context.WithTimeout(ctx, time.Duration(random.IntN(1000))*time.Microsecond)
					_, err = e.Do(ctx, r)
				default:
					_, err = e.Do(ctx, r)
				}
				cancel()
				require.NoError(t, deregister())
				r.Pieces[0].Buffer = nil
				switch {
				case errors.Is(err, ErrClosed):
					refused.Add(1)
					return
				case errors.Is(err, context.DeadlineExceeded):
					cancelled.Add(1)
					if r.Write { // some of it is there
						r.Write = false
						_, err = e.Do(context.Background(), r)
						copy(mine[off:off+n], b[:n])
						if errors.Is(err, ErrClosed) {
							refused.Add(1)
							return
						}
						require.NoError(t, err)
					}
				case r.Write:
					require.NoError(t, err)
					copy(mine[off:off+n], b[:n])
				default:
					require.NoError(t, err)
					same(t, mine[off:off+n], b[:n])
				}
				moved.Add(1)
			}
		})
	}
	time.Sleep(duration)
	require.NoError(t, e.Close())
	group.Wait()
	require.Equal(t, int64(workers), refused.Load())
	require.Positive(t, moved.Load())
	t.Logf("%d moved, %d cancelled", moved.Load(), cancelled.Load())
}
