package registry

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"moorage/internal/leak"
)

// live is how many regions of fake devices are registered.
var live atomic.Int64

// TestMain fails when the tests have left a registration, locked memory, or a goroutine.
func TestMain(m *testing.M) {
	os.Exit(leak.Run(m, leftovers))
}

func leftovers() (left string) {
	if n := live.Load(); n != 0 {
		left += fmt.Sprintf("%d regions of devices; ", n)
	}
	if locked, _ := memoryHeld(); locked != 0 {
		left += fmt.Sprintf("%d bytes of locked memory; ", locked)
	}
	return left + leak.Goroutines("moorage/core")
}

// card is a device that pins nothing and remembers everything.
type card struct {
	name string
	fail atomic.Pointer[error] // what Register says
	slow time.Duration

	mu       sync.Mutex
	regions  map[*region]struct{}
	made     int
	failDrop error
}

type region struct {
	card     *card
	at, as   uintptr
	size     uintptr
	use      Use
	inFlight atomic.Int64
	gone     atomic.Bool
}

func newCard(name string) *card { return &card{name: name, regions: map[*region]struct{}{}} }

func (c *card) Name() string { return c.name }

func (c *card) Register(at, as, size uintptr, use Use) (Region, error) {
	time.Sleep(c.slow)
	if err := c.fail.Load(); err != nil {
		return nil, *err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	g := &region{card: c, at: at, as: as, size: size, use: use}
	c.regions[g] = struct{}{}
	c.made++
	live.Add(1)
	return g, nil
}

func (g *region) Deregister() error {
	if g.gone.Swap(true) {
		panic("deregistered twice")
	}
	if n := g.inFlight.Load(); n != 0 {
		panic(fmt.Sprintf("deregistered with %d transfers in flight", n))
	}
	g.card.mu.Lock()
	defer g.card.mu.Unlock()
	delete(g.card.regions, g)
	live.Add(-1)
	return g.card.failDrop
}

func (c *card) live() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.regions)
}

func (c *card) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.made
}

// transfer stands for what a device does with a piece.
func transfer(t testing.TB, p Piece, from uintptr, n uint64) {
	g := p.Region.(*region)
	g.inFlight.Add(1)
	require.False(t, g.gone.Load())
	require.GreaterOrEqual(t, p.Addr, g.as)
	require.LessOrEqual(t, p.Addr+uintptr(p.Size), g.as+g.size)
	require.LessOrEqual(t, p.Size, n)
	runtime.Gosched()
	require.False(t, g.gone.Load(), "deregistered under a transfer")
	g.inFlight.Add(-1)
}

// mapped gives memory that is unmapped at the end of the test.
func mapped(t testing.TB, n int) uintptr {
	t.Helper()
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, unix.Munmap(b)) })
	return addressOf(b)
}

// anywhere is a kernel for which all memory is mapped and nothing is locked.
func anywhere() kernel {
	ok := func(uintptr, uintptr) error { return nil }
	return kernel{
		mlock: ok, munlock: ok, mapped: ok,
		memlock: func() uint64 { return 1 << 20 },
		used:    func() (uint64, uint64) { return 0, 0 },
	}
}

func fakeRegistry(m Memory) *Registry { return New(&Locks{sys: anywhere()}, m) }

var errCard = errors.New("the card says no")
