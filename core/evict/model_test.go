package evict

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// model is S3-FIFO once more: slices, linear searches, nothing shared with the
// code under test but Candidate, Reason and Counters.
type model struct {
	capacity uint64
	counters Counters
	q        [2][]Candidate // small, main
	cursor   [2]int         // the sweep's place in each; -1: not sweeping
	ghosts   []uint64       // newest last; 0: taken or superseded
	live     int

	inRound, passedOver, final bool
	untried                    int
}

func newModel(capacity uint64, c Counters) *model {
	return &model{capacity: capacity, counters: c, cursor: [2]int{-1, -1}}
}

func (m *model) bytes(i int) (sum uint64) {
	for _, c := range m.q[i] {
		sum += c.Bytes
	}
	return sum
}

func (m *model) trim() {
	limit := max(16, m.live-m.live/10)
	m.ghosts = m.ghosts[max(0, len(m.ghosts)-limit):]
}

func (m *model) forget(hash uint64) (known bool) {
	for i, g := range m.ghosts {
		if g == hash {
			m.ghosts[i], known = 0, true
		}
	}
	return known
}

func (m *model) Added(c Candidate) {
	m.live++
	if m.forget(c.Hash) || c.Bytes > m.capacity/10 {
		m.q[1] = append(m.q[1], c)
	} else {
		m.q[0] = append(m.q[0], c)
	}
}

func (m *model) Removed() {
	m.live--
	m.trim()
	if m.cursor == [2]int{-1, -1} {
		if len(m.q[0])+len(m.q[1])-m.live <= max(64, m.live/7) {
			return
		}
		m.cursor = [2]int{0, 0}
	}
	steps := 16
	for i := range m.q {
		for ; m.cursor[i] >= 0 && m.cursor[i] < len(m.q[i]) && steps > 0; steps-- {
			at := m.cursor[i]
			if _, alive := m.counters.Load(m.q[i][at]); alive {
				m.cursor[i]++
			} else {
				m.q[i] = append(m.q[i][:at:at], m.q[i][at+1:]...)
			}
		}
		if m.cursor[i] == len(m.q[i]) {
			m.cursor[i] = -1
		}
		if m.cursor[i] >= 0 {
			return
		}
	}
}

func (m *model) pop(i int) Candidate {
	c := m.q[i][0]
	m.q[i] = m.q[i][1:]
	if m.cursor[i] > 0 {
		m.cursor[i]--
	}
	c.small = i == 0
	return c
}

func (m *model) Next() (Candidate, bool) {
	passed := 0
	for {
		if m.untried > len(m.q[1]) {
			m.untried = len(m.q[1])
		}
		mainDone := len(m.q[1]) == 0 || m.inRound && m.untried == 0
		var c Candidate
		if len(m.q[0]) > 0 && (mainDone || m.bytes(0) >= m.capacity/10) {
			c = m.pop(0)
		} else if !mainDone {
			m.untried = max(0, m.untried-1)
			c = m.pop(1)
		} else if m.inRound && m.passedOver && !m.final && len(m.q[1]) > 0 {
			m.final, m.untried = true, len(m.q[1])
			continue
		} else {
			m.inRound, m.passedOver, m.final, m.untried = false, false, false, 0
			return Candidate{}, false
		}
		f, alive := m.counters.Load(c)
		if !alive {
			continue
		}
		hot := c.small && f >= 2 || !c.small && f >= 1
		if !hot || m.final || passed == 1024 {
			return c, true
		}
		passed++
		m.passedOver = true
		if c.small {
			f = 1
		}
		m.counters.Set(c, f-1)
		c.small = false
		m.q[1] = append(m.q[1], c)
	}
}

func (m *model) Evicted(c Candidate) {
	m.live--
	m.inRound, m.passedOver, m.final, m.untried = false, false, false, 0
	m.trim()
	if c.small {
		m.forget(c.Hash)
		m.ghosts = append(m.ghosts, c.Hash)
		m.trim()
	}
}

func (m *model) Refused(c Candidate, r Reason) {
	if r == Stale {
		return
	}
	if !m.inRound {
		m.inRound, m.passedOver, m.final, m.untried = true, false, false, len(m.q[1])
	}
	c.small = false
	m.q[1] = append(m.q[1], c)
}

// cells are the counters of a test: seq 0 is a dead unit.
type cells []cell

type cell struct {
	seq       uint64
	frequency uint8
}

func (c cells) Load(o Candidate) (uint8, bool) {
	return c[o.Unit].frequency, c[o.Unit].seq == o.Seq
}

func (c cells) Set(o Candidate, frequency uint8) { c[o.Unit].frequency = frequency }

func (c cells) hit(unit uint32) {
	if c[unit].frequency < MaxFrequency {
		c[unit].frequency++
	}
}

// pair drives the policy and its model with the same calls and compares them.
type pair struct {
	t           testing.TB
	policy      *S3FIFO
	model       *model
	cells, twin cells
	seq         uint64
	units       uint32
}

func newPair(t testing.TB, capacity uint64, units uint32) *pair {
	p := &pair{t: t, cells: make(cells, units), twin: make(cells, units), units: units}
	p.policy = NewS3FIFO(capacity, p.cells)
	p.model = newModel(capacity, p.twin)
	return p
}

func (p *pair) add(unit uint32, bytes, key uint64) {
	if p.cells[unit].seq != 0 {
		p.remove(unit)
	}
	p.seq++
	p.cells[unit] = cell{seq: p.seq}
	p.twin[unit] = cell{seq: p.seq}
	c := Candidate{Unit: unit, Seq: p.seq, Bytes: bytes, Hash: key + 1}
	p.policy.Added(c)
	p.model.Added(c)
}

func (p *pair) remove(unit uint32) {
	p.cells[unit].seq, p.twin[unit].seq = 0, 0
	p.policy.Removed()
	p.model.Removed()
}

func (p *pair) hit(unit uint32) {
	p.cells.hit(unit)
	p.twin.hit(unit)
}

func (p *pair) next() (Candidate, bool) {
	got, ok := p.policy.Next()
	want, wantOK := p.model.Next()
	require.Equal(p.t, wantOK, ok)
	require.Equal(p.t, want, got)
	return got, ok
}

func (p *pair) evicted(c Candidate) {
	p.cells[c.Unit].seq, p.twin[c.Unit].seq = 0, 0
	p.policy.Evicted(c)
	p.model.Evicted(c)
}

func (p *pair) refused(c Candidate, r Reason) {
	p.policy.Refused(c, r)
	p.model.Refused(c, r)
}

func (p *pair) compare() {
	u := p.policy.Usage()
	require.Equal(p.t, len(p.model.q[0]), u.SmallObjects)
	require.Equal(p.t, len(p.model.q[1]), u.MainObjects)
	require.Equal(p.t, p.model.bytes(0), u.SmallBytes)
	require.Equal(p.t, p.model.bytes(1), u.MainBytes)
	require.Equal(p.t, p.model.live, p.policy.live)
	require.Equal(p.t, p.cells, p.twin)
	for _, g := range p.model.ghosts {
		if g != 0 {
			i, found := p.policy.ghost.find(fingerprint(g))
			require.True(p.t, found && p.policy.ghost.fresh(p.policy.ghost.slots[i]))
		}
	}
	require.Equal(p.t, p.blocksHeld(), p.policy.pool.blocks)
}

// blocksHeld counts the blocks in sight, and none may lie outside its queue.
func (p *pair) blocksHeld() int {
	n := p.policy.pool.spares
	for _, q := range []*queue{&p.policy.small, &p.policy.main} {
		for i, b := range q.dir {
			if b == nil {
				continue
			}
			n++
			first, last := q.head/blockLen, q.tail/blockLen
			at := first + (uint64(i)-first)&uint64(len(q.dir)-1)
			require.LessOrEqual(p.t, at, last)
		}
	}
	return n
}

// step does one operation chosen by op on what arg picks.
func (p *pair) step(op byte, arg uint32) {
	unit := arg % p.units
	switch {
	case op < 90:
		p.add(unit, uint64(arg>>8%40)*64, uint64(arg>>3)%(3*uint64(p.units)))
	case op < 150:
		p.hit(unit)
	case op < 185:
		if p.cells[unit].seq != 0 {
			p.remove(unit)
		}
	case op < 235:
		if c, ok := p.next(); ok {
			p.evicted(c)
		}
	case op < 252:
		if c, ok := p.next(); ok {
			p.refused(c, Held)
		}
	case op < 254:
		if c, ok := p.next(); ok {
			p.remove(c.Unit)
			p.refused(c, Stale)
		}
	default:
		for range 2*len(p.model.q[0]) + 2*len(p.model.q[1]) + 1 {
			c, ok := p.next()
			if !ok {
				return
			}
			p.refused(c, Held)
		}
		require.Fail(p.t, "a round of refusals did not end")
	}
}

func TestDecidesAsTheModel(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	for run := range uint64(24) {
		r := rand.New(rand.NewPCG(seed, run))
		units := []uint32{5, 60, 600, 3000}[run%4]
		p := newPair(t, uint64(units)*[]uint64{200, 1300, 4000}[run%3], units)
		mood := byte(0)
		for i := range 6000 {
			if i%500 == 0 {
				mood = byte(r.IntN(3))
			}
			op := byte(r.UintN(256))
			switch {
			case op >= 254 && r.IntN(30) > 0:
				op = 0
			case mood == 1 && op >= 185 && op < 235: // grow
				op = 0
			case mood == 2 && op < 60: // churn
				op = 160
			}
			p.step(op, r.Uint32())
			if i%97 == 0 {
				p.compare()
			}
		}
		p.compare()
	}
}

func FuzzDecidesAsTheModel(f *testing.F) {
	f.Add([]byte("\x00aaaa\x00bbbb\x64aaaa\xc8cccc\xf0dddd\xffeeee"))
	f.Fuzz(func(t *testing.T, ops []byte) {
		p := newPair(t, 20_000, 300)
		for len(ops) >= 5 {
			repeat := 1
			if ops[0]%7 == 0 {
				repeat = 40
			}
			arg := binary.LittleEndian.Uint32(ops[1:])
			for i := range repeat {
				p.step(ops[0], arg+uint32(i))
			}
			ops = ops[5:]
		}
		p.compare()
	})
}
