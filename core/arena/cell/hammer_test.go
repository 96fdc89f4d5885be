package cell

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// world is one name, few cells, forks and a drain, with a plain int as the bytes of a cell: the race detector sees whoever touches it
// without a right to, and the value says whose it is.
type world struct {
	p     Process
	list  Control
	cells [5]Cell
	bytes [5]int // of the cell's extent

	names sync.RWMutex
	named uint32 // the cell of the name; guarded by names

	mu   sync.Mutex
	free []uint32
	held []uint32

	fork sync.Mutex
	gone atomic.Int64
}

func (w *world) release(n uint32) {
	if w.cells[n].Release(&w.p) {
		w.list.Push(&w.p, &w.cells[n], n)
	}
}

func (w *world) kill(n uint32) {
	if w.cells[n].Kill() {
		w.list.Push(&w.p, &w.cells[n], n)
	}
}

// put gives the name to a cell of its own, if there is one.
func (w *world) put(value int) {
	w.drain(w.list.TakeAll)
	w.mu.Lock()
	if len(w.free) == 0 {
		w.mu.Unlock()
		return
	}
	n := w.free[len(w.free)-1]
	w.free = w.free[:len(w.free)-1]
	w.mu.Unlock()
	w.bytes[n] = value
	w.cells[n].Begin(&w.p)
	w.names.Lock()
	old := w.named
	w.named = n
	w.names.Unlock()
	if old != 0 {
		w.kill(old)
	}
}

// unname takes the name away: how decides whether the cell lets it.
func (w *world) unname(how func(*Cell) bool) (n uint32, ok bool) {
	w.names.Lock()
	defer w.names.Unlock()
	n = w.named
	if n == 0 || !how(&w.cells[n]) {
		return 0, false
	}
	w.named = 0
	return n, true
}

func (w *world) get() (n uint32) {
	w.names.RLock()
	defer w.names.RUnlock()
	if w.named != 0 {
		w.cells[w.named].Acquire(&w.p)
	}
	return w.named
}

// drain takes the list back, or looks at what was held. One at a time.
func (w *world) drain(take func() uint32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []uint32
	for u := take(); u != 0; u = w.cells[u].Next() {
		all = append(all, u)
	}
	all = append(all, w.held...)
	w.held = w.held[:0]
	for _, u := range all {
		if w.cells[u].HeldByChild(&w.p) {
			w.held = append(w.held, u)
			continue
		}
		w.bytes[u] = -1
		w.free = append(w.free, u)
		w.gone.Add(1)
	}
}

func TestHammer(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	w := &world{free: []uint32{1, 2, 3, 4}}
	w.p.Wake.Store(-1)
	until := time.Now().Add(700 * time.Millisecond)
	var wg sync.WaitGroup
	for g := range 4 {
		r := rand.New(rand.NewPCG(seed, uint64(g)))
		wg.Go(func() {
			for i := 1; time.Now().Before(until); i++ {
				switch r.IntN(8) {
				case 0, 1:
					w.put(i)
				case 2:
					if n, ok := w.unname((*Cell).Named); ok {
						w.kill(n)
					}
				case 3:
					if n, ok := w.unname((*Cell).Evict); ok {
						w.list.Push(&w.p, &w.cells[n], n)
					}
				case 4:
					take := func(c *Cell) bool { return c.Idle() && !c.HeldByChild(&w.p) && c.Take(&w.p) }
					if n, ok := w.unname(take); ok {
						w.bytes[n]++ // alone with it
						w.release(n)
					}
				case 5:
					w.viewOverFork(t, uint32(g))
				default:
					if n := w.get(); n != 0 {
						if w.bytes[n] < 0 {
							t.Error("viewed what was given back")
						}
						w.release(n)
					}
				}
			}
		})
	}
	wg.Wait()
	if n, ok := w.unname((*Cell).Named); ok {
		w.kill(n)
	}
	w.drain(w.list.TakeAll)
	require.Len(t, w.free, 4, "a cell was lost or came back twice")
	require.Empty(t, w.held)
	require.ElementsMatch(t, []uint32{1, 2, 3, 4}, w.free)
	t.Logf("%d cells went home", w.gone.Load())
}

// viewOverFork holds a view while a child is made, lets go of it, and reads what that child may read before it ends.
func (w *world) viewOverFork(t *testing.T, slot uint32) {
	n := w.get()
	if n == 0 {
		return
	}
	value := w.bytes[n]
	w.fork.Lock()
	w.p.forkPrepare(slot)
	w.p.forkParent()
	w.fork.Unlock()
	w.release(n)
	if again := w.get(); again != 0 {
		w.release(again)
	}
	time.Sleep(20 * time.Microsecond)
	if w.bytes[n] != value {
		t.Error("reused while a child held it")
	}
	w.p.ChildEnded(slot)
	w.drain(func() uint32 { return 0 })
}
