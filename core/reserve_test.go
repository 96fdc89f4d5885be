package core

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"moorage/core/tensor"
)

func dtype(t testing.TB, name string) tensor.DType {
	t.Helper()
	d, err := tensor.ParseDType(name)
	require.NoError(t, err)
	return d
}

// produced is a reservation of whole float32 rows, filled with one byte.
func produced(t testing.TB, s *Store, n int, fill byte) (*WriteBuffer, tensor.Source) {
	t.Helper()
	w, err := s.ReserveTensor(dtype(t, "float32"), []int64{int64(n / 4)})
	require.NoError(t, err)
	copy(bytesAt(w.Addr(), w.Size()), bytes.Repeat([]byte{fill}, n))
	return w, tensor.Source{Base: w.Addr(), DType: dtype(t, "float32"), Shape: []int64{int64(n / 4)}}
}

func TestAdoptTakesWholeReservationsOnly(t *testing.T) {
	const n = 8192
	half := func(s tensor.Source) tensor.Source { s.Shape = []int64{n / 8}; return s }
	for name, c := range map[string]struct {
		of      func(tensor.Source) tensor.Source
		outcome Outcome
	}{
		"whole":            {func(s tensor.Source) tensor.Source { return s }, Adopted},
		"other shape":      {func(s tensor.Source) tensor.Source { s.Shape = []int64{2, n / 8}; return s }, Adopted},
		"other dtype":      {func(s tensor.Source) tensor.Source { s.DType, s.Shape = bytesDType, []int64{n}; return s }, Adopted},
		"first half":       {half, Stored},
		"second half":      {func(s tensor.Source) tensor.Source { s = half(s); s.Base += n / 2; return s }, Stored},
		"transposed":       {func(s tensor.Source) tensor.Source { s.Shape, s.Strides = []int64{2, n / 8}, []int64{1, 2}; return s }, Stored},
		"read-only window": {func(s tensor.Source) tensor.Source { return s }, Stored},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, Options{})
			w, src := produced(t, s, n, 7)
			src = c.of(src)
			if name == "read-only window" {
				src.Base = s.arena.ReaderAddr(w.view.c.Off)
			}
			r, err := s.Adopt([]byte("k"), src, PutOptions{})
			require.NoError(t, err)
			require.Equal(t, c.outcome, r.Outcome)
			st, v := stats(t, s), get(t, s, "k")
			require.Equal(t, bytes.Repeat([]byte{7}, int(v.Size())), v.Bytes())
			require.Equal(t, src.Shape, v.Shape())
			if c.outcome == Adopted {
				require.Zero(t, st.CopiedIn)
				require.EqualValues(t, 1, st.Protected)
				require.Equal(t, w.view.c, v.c)
			} else {
				require.Equal(t, v.Size(), st.CopiedIn)
				require.EqualValues(t, 1, st.AdoptCopies)
				require.Zero(t, st.Protected)
				_, err = s.Adopt([]byte("rest"), tensor.Source{Base: w.Addr(), DType: bytesDType, Shape: []int64{n}}, PutOptions{})
				require.NoError(t, err, "a copy leaves the reservation open")
			}
			v.Release()
			w.Abort()
			_, err = s.Clear()
			require.NoError(t, err)
			requireEmpty(t, s)
		})
	}
}

func TestCommitTwiceIsRefusedAndChangesNothing(t *testing.T) {
	s := open(t, Options{})
	w, src := produced(t, s, 4096, 1)
	for range 2 {
		put(t, s, "taken", []byte("old"))
		r, err := s.Adopt([]byte("taken"), src, PutOptions{IfExists: Keep})
		require.NoError(t, err)
		require.Equal(t, Kept, r.Outcome)
		_, err = s.Adopt([]byte("taken"), src, PutOptions{IfExists: Raise})
		require.ErrorIs(t, err, ErrExists)
		require.ErrorContains(t, err, "adopt")
		require.Zero(t, stats(t, s).Protected)
	}
	bytesAt(w.Addr(), 1)[0] = 2 // still open, still writable
	_, err := w.Commit([]byte("k"), dtype(t, "float32"), []int64{2048}, PutOptions{})
	require.ErrorIs(t, err, ErrInvalid, "more than was reserved")
	_, err = w.Commit(nil, dtype(t, "float32"), []int64{1}, PutOptions{})
	require.ErrorIs(t, err, ErrInvalid, "no key")
	r, err := w.Commit([]byte("k"), dtype(t, "float32"), []int64{4}, PutOptions{})
	require.NoError(t, err)
	require.Equal(t, Adopted, r.Outcome)
	_, err = w.Commit([]byte("again"), dtype(t, "float32"), []int64{4}, PutOptions{})
	require.ErrorIs(t, err, ErrAlreadyAdopted)
	_, err = s.Adopt([]byte("again"), src, PutOptions{})
	require.ErrorIs(t, err, ErrAlreadyAdopted)
	v := get(t, s, "k")
	require.EqualValues(t, 16, v.Size())
	require.Equal(t, []byte{2, 1, 1, 1}, v.Bytes()[:4])
	v.Release()
	w.Abort()
	require.EqualValues(t, 2, stats(t, s).Objects)
	_, err = s.Clear()
	require.NoError(t, err)
	requireEmpty(t, s)
}

func TestTakenTensorIsCopiedWhenAdoptedAgain(t *testing.T) {
	s := open(t, Options{})
	w, src := produced(t, s, 4096, 3)
	_, err := s.Adopt([]byte("a"), src, PutOptions{})
	require.NoError(t, err)
	w.Abort()
	v, err := s.Take([]byte("a"))
	require.NoError(t, err)
	require.Zero(t, stats(t, s).Protected)
	bytesAt(v.WriterAddr(), 1)[0] = 4
	r, err := s.Adopt([]byte("b"), src, PutOptions{})
	require.NoError(t, err)
	require.Equal(t, Stored, r.Outcome)
	v.Release()
	b := get(t, s, "b")
	require.Equal(t, []byte{4, 3}, b.Bytes()[:2])
	b.Release()
}

func TestAdoptCopiesWhenTooManyExtentsAreProtected(t *testing.T) {
	s := open(t, Options{})
	s.host.protected.Add(maxProtected)
	defer s.host.protected.Add(-maxProtected)
	w, src := produced(t, s, 4096, 3)
	r, err := s.Adopt([]byte("a"), src, PutOptions{})
	require.NoError(t, err)
	require.Equal(t, Stored, r.Outcome)
	require.EqualValues(t, 1, stats(t, s).AdoptCopies)
	_, err = w.Commit([]byte("b"), tensor.DType{}, nil, PutOptions{})
	require.ErrorIs(t, err, ErrMemory)
	r, err = w.Commit([]byte("b"), tensor.DType{}, nil, PutOptions{NoProtect: true})
	require.NoError(t, err)
	require.Equal(t, Adopted, r.Outcome)
	require.Zero(t, stats(t, s).Protected)
}

func TestNoProtectLeavesThePagesWritable(t *testing.T) {
	s := open(t, Options{})
	w, _ := produced(t, s, 4096, 1)
	addr := w.Addr()
	_, err := w.Commit([]byte("k"), tensor.DType{}, nil, PutOptions{NoProtect: true})
	require.NoError(t, err)
	bytesAt(addr, 1)[0] = 9
	require.Zero(t, stats(t, s).Protected)
}

func TestAbandonedReservationGoesHome(t *testing.T) {
	s := open(t, Options{})
	func() {
		w, err := s.Reserve(1 << 20)
		require.NoError(t, err)
		require.NotZero(t, w.Addr())
	}()
	require.Eventually(t, func() bool {
		runtime.GC()
		return stats(t, s).Used == 0
	}, 10e9, 1e6)
	requireEmpty(t, s)
	_, err := s.Reserve(1 << 63)
	require.ErrorIs(t, err, ErrInvalid)
	_, err = s.Reserve(65 << 20)
	require.ErrorIs(t, err, ErrCapacity)
	requireEmpty(t, s)
}

// The producer lets go in one goroutine while another commits: its cell must not go home and be used again under the commit.
func TestProducerLetsGoDuringCommit(t *testing.T) {
	s := open(t, Options{Capacity: 1 << 20})
	rounds := 2000
	if testing.Short() {
		rounds = 300
	}
	for i := range rounds {
		w, src := produced(t, s, 4096, byte(i))
		v := w.view
		w.done()
		var wg sync.WaitGroup
		wg.Go(func() { v.Release(); s.drain() })
		wg.Go(func() {
			other, err := s.Reserve(4096) // wants the cell and the extent
			if err == nil {
				other.Abort()
			}
		})
		r, err := s.commit("adopt", s.offsetOf(src.Base), []byte("k"), 4096, contentOf(src.DType, src.Shape), PutOptions{})
		wg.Wait()
		if err == nil {
			require.Equal(t, Adopted, r.Outcome)
			got := get(t, s, "k")
			require.Equal(t, bytes.Repeat([]byte{byte(i)}, 4096), got.Bytes())
			got.Release()
		} else {
			require.ErrorIs(t, err, ErrInvalid, "gone before the commit began")
		}
	}
	_, err := s.Clear()
	require.NoError(t, err)
	requireEmpty(t, s)
}

func (s *Store) offsetOf(addr uintptr) uint64 {
	off, _ := s.arena.Contains(addr)
	return off
}

// Several commits of one reservation: one wins, whatever the others do is without effect.
func TestManyCommitsOfOneReservation(t *testing.T) {
	s := open(t, Options{})
	for range 200 {
		w, src := produced(t, s, 4096, 5)
		var wg sync.WaitGroup
		var mu sync.Mutex
		won := 0
		for _, key := range []string{"a", "b", "c"} {
			wg.Go(func() {
				_, err := s.Adopt([]byte(key), src, PutOptions{})
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					won++
				} else if !errors.Is(err, ErrAlreadyAdopted) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		require.Equal(t, 1, won)
		require.EqualValues(t, 1, stats(t, s).Protected)
		w.Abort()
		n, err := s.Clear()
		require.NoError(t, err)
		require.EqualValues(t, 1, n)
		requireEmpty(t, s)
	}
}

// victimEnv makes the test binary a process that dies of a late write.
const victimEnv = "MOORAGE_CORE_VICTIM"

func victim() {
	s, err := Open(Options{Capacity: 1 << 20})
	if err != nil {
		os.Exit(3)
	}
	w, err := s.Reserve(4096)
	if err != nil {
		os.Exit(3)
	}
	addr := w.Addr()
	bytesAt(addr, 1)[0] = 1
	if _, err := w.Commit([]byte("k"), tensor.DType{}, nil, PutOptions{}); err != nil {
		os.Exit(3)
	}
	if os.Getenv(victimEnv) == "reader" {
		v, err := s.Get([]byte("k"))
		if err != nil {
			os.Exit(3)
		}
		addr = v.Addr()
	}
	bytesAt(addr, 1)[0] = 2
	os.Exit(0) // nothing has stopped it
}

func TestWritingToAnObjectIsAFault(t *testing.T) {
	for _, who := range []string{"producer", "reader"} {
		t.Run(who, func(t *testing.T) {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), victimEnv+"="+who, "GOTRACEBACK=none")
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			require.ErrorAs(t, err, &exit, "%s", out)
			signalled := exit.Sys().(syscall.WaitStatus).Signaled()
			require.True(t, signalled || bytes.Contains(out, []byte("SIGSEGV")) || bytes.Contains(out, []byte("fault address")), "%s", out)
		})
	}
}
