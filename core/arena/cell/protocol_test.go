package cell

import (
	"os"
	"path/filepath"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestLayout(t *testing.T) {
	require.EqualValues(t, Size, unsafe.Sizeof(Cell{}))
	require.EqualValues(t, BodySize, unsafe.Sizeof(Body{}))
	require.EqualValues(t, 16+8*Children, unsafe.Sizeof(Process{}))
	require.EqualValues(t, 56, unsafe.Sizeof(Control{}))
}

// forkPrepare and forkParent are the steps of capi/fork.c on the words.
func (p *Process) forkPrepare(slot uint32) {
	p.Child[slot].Store(uint64(p.Epoch.Load() + 1))
	if p.High.Load() <= slot {
		p.High.Store(slot + 1)
	}
	p.Kids.Add(1)
	p.Epoch.Add(1)
}

func (p *Process) forkParent() { p.Epoch.Add(1) }

func named(p *Process) *Cell {
	c := new(Cell)
	c.Begin(p)
	return c
}

func TestViewsAndNameAreCounted(t *testing.T) {
	p := new(Process)
	c := named(p)
	require.True(t, c.Idle())
	c.Acquire(p)
	require.EqualValues(t, 1, c.Views())
	require.False(t, c.Evict(), "evicted while viewed")
	require.False(t, c.Take(p), "taken while viewed")
	require.False(t, c.Kill(), "died while viewed")
	require.False(t, c.Named())
	require.EqualValues(t, 1, c.Views())
	require.True(t, c.Release(p), "the last release must push")
}

func TestCommitNeedsOpen(t *testing.T) {
	p := new(Process)
	c := new(Cell)
	c.BeginOpen(p)
	require.True(t, c.IsOpen())
	require.True(t, c.Retain())
	require.True(t, c.Commit())
	require.False(t, c.Commit(), "committed twice")
	require.EqualValues(t, 2, c.Views())
	require.False(t, c.Release(p))
	require.False(t, c.Release(p))
	require.True(t, c.Idle())

	a := new(Cell)
	a.BeginOpen(p)
	require.True(t, a.Release(p), "an abandoned reservation must go home")
	require.False(t, a.Retain(), "what was pushed must not be held again")
}

// A view got, forked over, released, got and released again: one epoch per cell would forget the child's hold.
func TestGetForkReleaseGetReleaseReplace(t *testing.T) {
	p := new(Process)
	c := named(p)
	c.Acquire(p)
	p.forkPrepare(0)
	p.forkParent()
	c.Release(p)
	c.Acquire(p)
	c.Release(p)
	require.True(t, c.HeldByChild(p))
	require.True(t, c.Idle())
	require.True(t, c.Kill())
	require.True(t, c.HeldByChild(p))
	p.ChildEnded(0)
	require.False(t, c.HeldByChild(p))
}

func TestViewedOnlyAfterTheForkIsNotHeld(t *testing.T) {
	p := new(Process)
	c := named(p)
	p.forkPrepare(0)
	p.forkParent()
	c.Acquire(p)
	c.Release(p)
	require.False(t, c.HeldByChild(p))
}

func TestPermanentEntryHoldsWhatIsViewedFromThenOn(t *testing.T) {
	p := new(Process)
	before, during := named(p), named(p)
	before.Acquire(p)
	before.Release(p)
	p.Epoch.Store(2)
	p.Child[Permanent].Store(pack(3, 3))
	p.Kids.Add(1)
	p.Epoch.Store(3)
	during.Acquire(p)
	p.Epoch.Store(4)
	during.Release(p)
	require.False(t, before.HeldByChild(p))
	require.True(t, during.HeldByChild(p))
	after := named(p)
	after.Acquire(p)
	after.Release(p)
	require.False(t, after.HeldByChild(p), "viewed for the first time after that fork")
}

func TestListGivesBackEachCellOnce(t *testing.T) {
	p := new(Process)
	p.Wake.Store(-1)
	l := new(Control)
	cells := make([]*Cell, 5)
	for i := range cells {
		cells[i] = named(p)
		require.True(t, cells[i].Kill())
		l.Push(p, cells[i], uint32(i+1))
	}
	l.Close()
	var got []uint32
	for u := l.TakeAll(); u != 0; u = cells[u-1].Next() {
		got = append(got, u)
	}
	require.Equal(t, []uint32{5, 4, 3, 2, 1}, got)
	require.True(t, l.Empty())
	require.True(t, l.IsClosed(), "taking the list keeps the mark")
}

func TestSignalDoesNotWriteToFiles(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	require.NoError(t, err)
	defer f.Close()
	Signal(int32(f.Fd()))
	info, err := f.Stat()
	require.NoError(t, err)
	require.Zero(t, info.Size(), "a file that took the number of the eventfd was written to")

	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	require.NoError(t, err)
	defer unix.Close(fd)
	Signal(int32(fd))
	var counter [8]byte
	n, err := unix.Read(fd, counter[:])
	require.NoError(t, err)
	require.Equal(t, 8, n)
	Signal(-1)
}
