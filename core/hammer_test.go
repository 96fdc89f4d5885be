package core

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"moorage/core/tensor"
)

// stamp fills an object with bytes that follow from its key and a number of its own, so that a torn, foreign or reused byte
// is seen wherever it is.
func stamp(b []byte, key byte, nonce uint64) {
	binary.LittleEndian.PutUint64(b, nonce<<8|uint64(key))
	binary.LittleEndian.PutUint64(b[8:], uint64(len(b)))
	for i := 16; i+8 <= len(b); i += 8 {
		binary.LittleEndian.PutUint64(b[i:], mix(nonce, i))
	}
	for i := len(b) &^ 7; i < len(b); i++ {
		b[i] = byte(nonce)
	}
}

func mix(nonce uint64, i int) uint64 { return (nonce + uint64(i)) * 0x9e3779b97f4a7c15 }

func checkStamp(b []byte, key byte) (nonce uint64, err error) {
	head := binary.LittleEndian.Uint64(b)
	nonce = head >> 8
	if byte(head) != key {
		return 0, fmt.Errorf("bytes of key %d under key %d", byte(head), key)
	}
	if n := binary.LittleEndian.Uint64(b[8:]); n != uint64(len(b)) {
		return 0, fmt.Errorf("bytes of an object of %d in one of %d", n, len(b))
	}
	for i := 16; i+8 <= len(b); i += 8 {
		if v := binary.LittleEndian.Uint64(b[i:]); v != mix(nonce, i) {
			return 0, fmt.Errorf("byte %d of %d of object %d: %x instead of %x", i, len(b), nonce, v, mix(nonce, i))
		}
	}
	for i := len(b) &^ 7; i < len(b); i++ {
		if b[i] != byte(nonce) {
			return 0, fmt.Errorf("byte %d of %d of object %d", i, len(b), nonce)
		}
	}
	return nonce, nil
}

const hammerKeys = 6

func hammerKey(k int) []byte { return fmt.Appendf(nil, "key-%d", k) }

// borrowed is a view that a worker holds and what it saw in it.
type borrowed struct {
	v     View
	key   byte
	nonce uint64
}

// child is a simulated child: what it may read by the addresses that it inherited.
type child struct {
	slot uint32
	mem  []memory
}

type memory struct {
	addr  uintptr
	size  uint64
	key   byte
	nonce uint64
}

func (m memory) check() error {
	nonce, err := checkStamp(bytesAt(m.addr, m.size), m.key)
	if err == nil && nonce != m.nonce {
		err = fmt.Errorf("object %d where %d was", nonce, m.nonce)
	}
	return err
}

// hammer is a store under the blows of several workers.
type hammer struct {
	s      *Store
	forks  *forks
	nonce  atomic.Uint64
	failed atomic.Pointer[error]
	let    chan borrowed // to be released by somebody else
}

func (h *hammer) fail(format string, args ...any) {
	err := fmt.Errorf(format, args...)
	h.failed.CompareAndSwap(nil, &err)
}

// worker is one goroutine's part.
type worker struct {
	*hammer
	r        *rand.Rand
	held     []borrowed
	children []child
	seen     [hammerKeys]uint64 // highest seq seen under each key
}

func (w *worker) size() int {
	if w.r.IntN(8) == 0 {
		return 32<<10 + w.r.IntN(64<<10)
	}
	return 16 + w.r.IntN(3000)
}

func (w *worker) options() PutOptions {
	return PutOptions{IfExists: IfExists(max(0, w.r.IntN(6)-3))}
}

// allow fails for an error that is not among those that may happen.
func (w *worker) allow(op string, err error, allowed ...error) {
	for _, a := range allowed {
		if errors.Is(err, a) {
			return
		}
	}
	if err != nil {
		w.fail("%s: %w", op, err)
	}
}

// look reads all of a view and remembers what it was.
func (w *worker) look(v View, key int) borrowed {
	nonce, err := checkStamp(v.Bytes(), byte(key))
	if err != nil {
		w.fail("seq %d: %w", v.Seq(), err)
	}
	if string(v.Key()) != string(hammerKey(key)) {
		w.fail("key %q under %q", v.Key(), hammerKey(key))
	}
	return borrowed{v, byte(key), nonce}
}

// letGo reads all of a view again and releases it.
func (h *hammer) letGo(b borrowed) {
	nonce, err := checkStamp(b.v.Bytes(), b.key)
	if err != nil || nonce != b.nonce {
		h.fail("a view of object %d changed (%d, %v)", b.nonce, nonce, err)
	}
	b.v.Release()
}

func (w *worker) step() {
	k := w.r.IntN(hammerKeys)
	switch n := w.r.IntN(100); {
	case n < 40:
		w.get(k)
	case n < 60:
		w.put(k)
	case n < 70:
		w.produce(k)
	case n < 78:
		w.allow("remove", w.s.Remove(hammerKey(k)), ErrNotFound)
	case n < 86:
		w.take(k)
	case n < 90:
		w.allow("pin", w.s.Pin(hammerKey(k), w.r.IntN(2) == 0), ErrNotFound)
	case n < 94:
		w.fork()
	case n < 97:
		w.endChild()
	default:
		w.inspect(k)
	}
}

func (w *worker) get(k int) {
	v, err := w.s.Get(hammerKey(k))
	if err != nil {
		w.allow("get", err, ErrNotFound)
		return
	}
	if v.Seq() < w.seen[k] {
		w.fail("seq %d after %d", v.Seq(), w.seen[k])
	}
	w.seen[k] = v.Seq()
	w.held = append(w.held, w.look(v, k))
	if len(w.held) > 4 {
		i := w.r.IntN(len(w.held))
		b := w.held[i]
		w.held = append(w.held[:i], w.held[i+1:]...)
		if w.r.IntN(2) == 0 {
			w.letGo(b)
		} else {
			w.let <- b
		}
	}
}

func (w *worker) put(k int) {
	data := make([]byte, w.size())
	stamp(data, byte(k), w.nonce.Add(1))
	_, err := w.s.Put(hammerKey(k), data, w.options())
	w.allow("put", err, ErrCapacity, ErrExists)
}

// produce reserves, fills and adopts; the producer lets go before, during or after.
func (w *worker) produce(k int) {
	n := w.size()
	wb, err := w.s.Reserve(uint64(n))
	if err != nil {
		w.allow("reserve", err, ErrCapacity)
		return
	}
	src := tensor.Source{Base: wb.Addr(), DType: bytesDType, Shape: []int64{int64(n)}}
	stamp(bytesAt(src.Base, uint64(n)), byte(k), w.nonce.Add(1))
	switch w.r.IntN(4) {
	case 0:
	case 1:
		_, err = wb.Commit(hammerKey(k), bytesDType, src.Shape, w.options())
	default:
		_, err = w.s.Adopt(hammerKey(k), src, w.options())
	}
	w.allow("adopt", err, ErrExists, ErrCapacity)
	if v := wb.view; v.c != nil && w.r.IntN(2) == 0 {
		wb.done()
		go v.Release()
		return
	}
	wb.Abort()
}

// take makes sure that the bytes are exclusive by destroying them.
func (w *worker) take(k int) {
	v, err := w.s.Take(hammerKey(k))
	if err != nil {
		w.allow("take", err, ErrNotFound, ErrBusy)
		return
	}
	w.look(v, k)
	clear(bytesAt(v.WriterAddr(), v.Size()))
	v.Release()
}

// fork makes a child that may read what this worker views, and then often lets go of it.
func (w *worker) fork() {
	if len(w.children) > 2 {
		w.endChild()
		return
	}
	var c child
	c.slot = w.forks.fork(func() {
		for _, b := range w.held {
			c.mem = append(c.mem, memory{b.v.Addr(), b.v.Size(), b.key, b.nonce})
		}
	})
	w.children = append(w.children, c)
	for _, b := range w.held {
		w.letGo(b)
	}
	w.held = w.held[:0]
}

func (w *worker) endChild() {
	if len(w.children) == 0 {
		return
	}
	c := w.children[0]
	w.children = w.children[1:]
	for _, m := range c.mem {
		if err := m.check(); err != nil {
			w.fail("what a child may read has changed: %w", err)
		}
	}
	w.forks.end(c.slot)
}

// inspect calls what looks at everything while it changes.
func (w *worker) inspect(k int) {
	switch w.r.IntN(5) {
	case 0:
		_, err := w.s.Stats()
		w.allow("stats", err)
	case 1:
		w.allow("borrows", w.s.Borrows(func(b Borrow) bool {
			if !b.Reserved && len(b.Key) != len(hammerKey(0)) || b.Size == 0 && b.Views > 0 && !b.Reserved {
				w.fail("borrow %+v", b)
			}
			return true
		}))
	case 2:
		_, err := w.s.Describe(hammerKey(k))
		w.allow("describe", err, ErrNotFound)
	case 3:
		_, err := w.s.List(nil, uint64(w.r.IntN(64))<<33, func([][]byte) bool { return true })
		w.allow("list", err)
	case 4:
		_, err := w.s.Trim()
		w.allow("trim", err)
	}
}

func (w *worker) finish() {
	for _, b := range w.held {
		w.letGo(b)
	}
	for len(w.children) > 0 {
		w.endChild()
	}
}

// run has workers hammer for a while and then looks whether everything is back.
func (h *hammer) run(t *testing.T, r *rand.Rand, workers int, d time.Duration) {
	var wg, other sync.WaitGroup
	other.Go(func() {
		for b := range h.let {
			h.letGo(b)
		}
	})
	until := time.Now().Add(d)
	var steps atomic.Int64
	for range workers {
		w := &worker{hammer: h, r: rand.New(rand.NewPCG(r.Uint64(), 1))}
		wg.Go(func() {
			for time.Now().Before(until) && h.failed.Load() == nil {
				w.step()
				steps.Add(1)
			}
			w.finish()
		})
	}
	wg.Wait()
	close(h.let)
	other.Wait()
	if err := h.failed.Load(); err != nil {
		t.Fatal(*err)
	}
	require.Eventually(t, func() bool {
		_, err := h.s.Clear()
		return err == nil && stats(t, h.s).Used == 0
	}, 10*time.Second, time.Millisecond)
	requireEmpty(t, h.s)
	st := stats(t, h.s)
	t.Logf("%d steps, %d gets, %d puts, %d adoptions, %d evictions", steps.Load(), st.Gets, st.Puts, st.Adoptions, st.Evictions)
}

func hammerFor(t *testing.T, d time.Duration) {
	for name, o := range map[string]Options{
		"roomy": {Capacity: 16 << 20},
		"full":  {Capacity: 512 << 10},
		"evict": {Capacity: 512 << 10, Eviction: EvictS3FIFO},
	} {
		t.Run(name, func(t *testing.T) {
			s := openOnHost(t, forkHost(), o)
			h := &hammer{s: s, forks: &forks{h: forkHost()}, let: make(chan borrowed, 16)}
			h.run(t, seeded(t), 4, d)
		})
	}
}

func TestHammer(t *testing.T) {
	if testing.Short() {
		hammerFor(t, 700*time.Millisecond)
	} else {
		hammerFor(t, 1500*time.Millisecond)
	}
}

// TestSoakHammer is the same for as long as MOORAGE_SOAK_MINUTES says.
func TestSoakHammer(t *testing.T) {
	minutes, err := strconv.Atoi(os.Getenv("MOORAGE_SOAK_MINUTES"))
	if err != nil {
		t.Skip("MOORAGE_SOAK_MINUTES is not set")
	}
	hammerFor(t, time.Duration(minutes)*time.Minute/3)
}
