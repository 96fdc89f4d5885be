package arena

import (
	"math"
	"math/bits"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// limitAge is how long a look at the limits is good for.
const limitAge = 10 * time.Millisecond

// noLimit is the answer where nothing can be found out.
const noLimit = uint64(math.MaxUint64)

// memory is what the system says about the memory this process may use. root
// stands before every path that is read, for tests.
type memory struct {
	root string

	mu       sync.Mutex
	levels   []level // control groups that have a limit
	levelsAt time.Time
	room     uint64
	roomAt   time.Time
}

// process is the memory of this process.
var process = &memory{}

// MemoryLimit is how many bytes this process may use: the least of the
// physical memory and the limits (memory.max, memory.high, v1's
// memory.limit_in_bytes) of its control group and all groups above.
// RLIMIT_AS is of no interest: it is about addresses.
func MemoryLimit() uint64 { return process.limit() }

// DefaultCapacity is a quarter of MemoryLimit in whole units of 2 MiB, at
// least one.
func DefaultCapacity() uint64 { return process.capacity() }

// Headroom is how many bytes may be touched now before the limit of a control
// group, or the memory of the machine, is reached. File cache that is clean
// counts as free. The answer is at most 10 ms old.
func Headroom() uint64 { return process.recentHeadroom() }

func (m *memory) limit() uint64 {
	least := m.physical()
	for _, g := range m.groups() {
		least = min(least, g.limit(m.root), g.soft(m.root))
	}
	return least
}

func (m *memory) capacity() uint64 {
	limit := m.limit()
	if limit == noLimit {
		limit = 4 << 30
	}
	return max(down(limit/4, hugePage), hugePage)
}

func (m *memory) recentHeadroom() uint64 {
	m.mu.Lock()
	fresh := time.Since(m.roomAt) < limitAge
	room := m.room
	m.mu.Unlock()
	if fresh {
		return room
	}
	room = m.headroom()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.room, m.roomAt = room, time.Now()
	return room
}

// headroom reads it anew. The list of groups is kept for a second.
func (m *memory) headroom() uint64 {
	m.mu.Lock()
	if m.levelsAt.IsZero() || time.Since(m.levelsAt) > time.Second {
		m.levels = limited(m.root, m.groups())
		m.levelsAt = time.Now()
	}
	levels := m.levels
	m.mu.Unlock()
	least := m.available()
	for _, l := range levels {
		least = min(least, l.headroom(m.root))
	}
	return least
}

// physical is the memory of the machine.
func (m *memory) physical() uint64 {
	if kib, ok := readFields(m.root + "/proc/meminfo")["MemTotal"]; ok {
		return kib << 10
	}
	var s unix.Sysinfo_t
	if m.root == "" && unix.Sysinfo(&s) == nil {
		return uint64(s.Totalram) * uint64(s.Unit)
	}
	return noLimit
}

// available is what the machine could still give, swap included.
func (m *memory) available() uint64 {
	info := readFields(m.root + "/proc/meminfo")
	kib, ok := info["MemAvailable"]
	if !ok {
		return noLimit
	}
	return (kib + info["SwapFree"]) << 10
}

// sample is one look at the headroom, together with what stood behind the
// region just before.
type sample struct {
	mu       sync.Mutex
	at       time.Time
	room     uint64
	resident uint64
}

// admit says whether fresh bytes may be touched when touched bytes are touched
// already or may be without asking. What was not yet touched at the last look
// is still to come, so it is taken off the headroom of that look.
func (a *Arena) admit(fresh, touched uint64) error {
	s := &a.sample
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.at) > limitAge {
		resident, err := a.Resident()
		if err != nil {
			return err
		}
		s.resident, s.room, s.at = resident, a.limits.headroom(), time.Now()
	}
	owed := touched - min(touched, s.resident)
	if need := owed + fresh; withTables(need) > s.room {
		return failf("alloc", ErrMemoryLimit,
			"%d bytes fresh and %d promised before, headroom is %d: lower the capacity or raise the memory limit (memory.max)", fresh, owed, s.room)
	}
	return nil
}

// roomFor is admit for prefault.
func (a *Arena) roomFor(n uint64) error {
	if a.Extents.admit == nil {
		return nil
	}
	return a.admit(n, a.Touched())
}

// withTables adds what touching n bytes costs beside them: page tables of two
// mappings (of three, when an extent is read while they wait in the park), and
// some air for everything else in the group.
func withTables(n uint64) uint64 {
	sum, carry := bits.Add64(n, n/128+4<<20, 0)
	if carry != 0 {
		return noLimit
	}
	return sum
}
