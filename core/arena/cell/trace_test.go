package cell

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// traceFiles is where the C half of the traces is. tests/capi/trace/trace_c.c says what the operations and the answers are.
var traceFiles = filepath.Join("..", "..", "..", "tests", "capi", "trace")

const traceCells = 8

// machine runs a trace through this package and answers as trace_c does.
type machine struct {
	p       Process
	list    Control
	cells   [traceCells + 1]Cell
	used    [traceCells + 1]bool
	views   [traceCells + 1]int // counts that somebody may release
	held    []uint32
	forking bool
	out     strings.Builder
}

func newMachine() *machine {
	m := new(machine)
	m.p.Wake.Store(-1)
	return m
}

func (m *machine) run(op string, n uint32) {
	switch op {
	case "prepare", "parent", "drain", "look", "close":
		fmt.Fprintf(&m.out, "%s -> ", op)
	default:
		fmt.Fprintf(&m.out, "%s %d -> ", op, n)
	}
	m.out.WriteString(m.do(op, n))
	m.state()
}

func (m *machine) do(op string, n uint32) string {
	var c *Cell
	if n <= traceCells {
		c = &m.cells[n]
	}
	switch op {
	case "begin":
		c.Begin(&m.p)
		m.used[n], m.views[n] = true, 0
	case "open":
		c.BeginOpen(&m.p)
		m.used[n], m.views[n] = true, 1
	case "get":
		c.Acquire(&m.p)
		m.views[n]++
	case "release":
		m.views[n]--
		return m.pushIf(c.Release(&m.p), n)
	case "kill":
		return m.pushIf(c.Kill(), n)
	case "evict":
		if !c.Evict() {
			return "no"
		}
		return m.pushIf(true, n)
	case "take":
		if !c.Idle() || c.HeldByChild(&m.p) || !c.Take(&m.p) {
			return "no"
		}
		m.views[n]++
	case "commit":
		if !c.Commit() {
			return "no"
		}
	case "prepare":
		m.prepare()
	case "parent":
		m.forking = false
		m.p.Epoch.Add(1)
	case "ended":
		m.p.ChildEnded(n)
	case "drain":
		return m.drain()
	case "look":
		held := m.held
		m.held = nil
		return m.homeOf(held)
	case "close":
		m.list.Close()
	}
	return "ok"
}

func (m *machine) prepare() {
	slot := uint32(0)
	for m.p.Child[slot].Load() != 0 {
		slot++
	}
	m.p.forkPrepare(slot)
	m.forking = true
}

func (m *machine) pushIf(dead bool, n uint32) string {
	if !dead {
		return "ok"
	}
	m.list.Push(&m.p, &m.cells[n], n)
	return "push"
}

func (m *machine) drain() string {
	var all []uint32
	for u := m.list.TakeAll(); u != 0; u = m.cells[u].Next() {
		all = append(all, u)
	}
	return m.homeOf(all)
}

func (m *machine) homeOf(units []uint32) string {
	out := ""
	for _, u := range units {
		if m.cells[u].HeldByChild(&m.p) {
			m.held = append(m.held, u)
			continue
		}
		m.used[u] = false
		out += fmt.Sprint(" ", u)
	}
	if out == "" {
		out = " -"
	}
	return "home" + out
}

func (m *machine) state() {
	p := &m.p
	var slots, cells, list, held []string
	for i := range p.High.Load() {
		slots = append(slots, fmt.Sprint(p.Child[i].Load()))
	}
	for i := 1; i <= traceCells; i++ {
		if c := &m.cells[i]; m.used[i] {
			w, pair := c.word.Load(), c.pair.Load()
			state := "alive"
			if w&Open != 0 {
				state = "open"
			} else if w&Dead != 0 {
				state = "dead"
			}
			cells = append(cells, fmt.Sprintf("%d{%s,%d %d,%d}", i, state, w&Count, first(pair), last(pair)))
		}
	}
	for u := uint32(m.list.head.Load()); u != 0; u = m.cells[u].Next() {
		list = append(list, fmt.Sprint(u))
	}
	for _, u := range m.held {
		held = append(held, fmt.Sprint(u))
	}
	mark := "open"
	if m.list.IsClosed() {
		mark = "closed"
	}
	or := func(all []string, sep string) string {
		if len(all) == 0 {
			return "-"
		}
		return strings.Join(all, sep)
	}
	fmt.Fprintf(&m.out, "; E=%d kids=%d high=%d child=%s; %s; list=%s %s; held=%s\n", p.Epoch.Load(), p.Kids.Load(), p.High.Load(),
		or(slots, ","), or(cells, " "), mark, or(list, " "), or(held, ","))
}

// choose gives an operation that a store could do next. Cells are named, viewed and released as they may be, no more.
func (m *machine) choose(r *rand.Rand) (op string, n uint32) {
	for {
		n = 1 + r.Uint32N(traceCells)
		c := &m.cells[n]
		w := c.word.Load()
		named := m.used[n] && w&Dead == 0
		switch r.IntN(16) {
		case 0, 1:
			if !m.used[n] {
				return "begin", n
			}
		case 2:
			if !m.used[n] {
				return "open", n
			}
		case 3, 4, 5:
			if named {
				return "get", n
			}
		case 6, 7, 8:
			if m.used[n] && m.views[n] > 0 {
				return "release", n
			}
		case 9:
			if named {
				return []string{"kill", "evict", "take"}[r.IntN(3)], n
			}
		case 10:
			if m.used[n] && m.views[n] > 0 {
				return "commit", n
			}
		case 11, 12:
			if m.forking {
				return "parent", 0
			}
			if m.p.Kids.Load() < 6 && r.IntN(2) == 0 {
				return "prepare", 0
			}
		case 13:
			if slot := r.Uint32N(6); !m.forking && m.p.Child[slot].Load() != 0 {
				return "ended", slot
			}
		case 14:
			return []string{"drain", "look"}[r.IntN(2)], 0
		case 15:
			if r.IntN(100) == 0 {
				return "close", 0
			}
		}
	}
}

func TestGoldenTrace(t *testing.T) {
	trace, err := os.ReadFile(filepath.Join(traceFiles, "basic.trace"))
	require.NoError(t, err)
	want, err := os.ReadFile(filepath.Join(traceFiles, "basic.expected"))
	require.NoError(t, err)
	m := newMachine()
	for _, line := range strings.Split(string(trace), "\n") {
		var op string
		var n uint32
		if words, _ := fmt.Sscan(line, &op, &n); words > 0 && op[0] != '#' {
			m.run(op, n)
		}
	}
	require.Equal(t, string(want), m.out.String())
}

// The library's C and this package do the same to the same memory, for traces that nobody thought of.
func TestGoAndCAgree(t *testing.T) {
	cc, err := exec.LookPath("cc")
	if err != nil {
		t.Skip("no C compiler called cc")
	}
	root := filepath.Join("..", "..", "..")
	tool := filepath.Join(t.TempDir(), "trace_c")
	out, err := exec.Command(cc, "-std=gnu11", "-O1", "-I"+filepath.Join(root, "include"), "-I"+filepath.Join(root, "capi"),
		filepath.Join(traceFiles, "trace_c.c"), "-o", tool, "-lpthread").CombinedOutput()
	require.NoError(t, err, "%s", out)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 20 {
		m := newMachine()
		var trace bytes.Buffer
		for range 500 {
			op, n := m.choose(r)
			fmt.Fprintln(&trace, op, n)
			m.run(op, n)
		}
		text := strings.NewReplacer("prepare 0", "prepare", "parent 0", "parent", "drain 0", "drain", "look 0", "look", "close 0", "close").
			Replace(trace.String())
		cmd := exec.Command(tool)
		cmd.Stdin = strings.NewReader(text)
		got, err := cmd.Output()
		require.NoError(t, err)
		require.Equal(t, string(got), m.out.String(), "trace:\n%s", text)
	}
}
