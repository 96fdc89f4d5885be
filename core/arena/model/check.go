package model

import (
	"hash/maphash"
	"time"
)

// Result says what [Check] found.
type Result struct {
	States, Transitions int
	Rule                string   // the rule that broke, "" if none
	How                 string   // in words
	Trace               []string // a shortest way there
	Took                time.Duration
}

// digest stands for a state. Among 30 million states two are taken for one with a chance of one in
// 40 000; the seed is another one in every run, so nothing stays hidden.
type digest uint64

var seed = maphash.MakeSeed()

func sum(s *state) digest { return digest(maphash.Comparable(seed, *s)) }

func (c *Scenario) begin() state {
	s := state{epoch: c.Epoch}
	for t := range s.threads {
		s.threads[t].budget = c.Budget[t]
	}
	for i := range c.Preload {
		s.cells[i] = cell{count: 1, where: out, extent: uint8(i)}
		s.extents[i] = extent{used: 1}
		s.name[i] = uint8(i + 1)
	}
	return s
}

// origins is how states were reached: from which, by which of its transitions.
type origins struct {
	from []int32
	nth  []uint8
}

func (o *origins) add(from int32, nth int) {
	o.from = append(o.from, from)
	o.nth = append(o.nth, uint8(nth))
}

// Check visits every state of the scenario with the faults switched on, until a rule breaks.
func Check(c Scenario, f Faults) Result {
	start := time.Now()
	k := &explorer{Scenario: c, faults: f}
	first := c.begin()
	seen := map[digest]struct{}{sum(&first): {}}
	level, next := []state{first}, []state(nil)
	var from origins
	from.add(-1, 0)
	var res Result
	var cur int32  // the state at work
	var base int32 // the first one of its level
	nth, bad := 0, -1
	k.emit = func(n *state, _ string) {
		nth++
		res.Transitions++
		if k.broken == "" {
			k.judge(n)
		}
		if k.broken != "" {
			if bad < 0 {
				bad = nth - 1
			}
			return
		}
		h := sum(n)
		if _, ok := seen[h]; !ok {
			seen[h] = struct{}{}
			next = append(next, *n)
			from.add(cur, nth-1)
		}
	}
	for len(level) > 0 && k.broken == "" {
		for i := range level {
			cur, nth = base+int32(i), 0
			k.successors(&level[i])
			if nth == 0 {
				k.judgeEnd(&level[i])
			}
			if k.broken != "" {
				break
			}
		}
		base += int32(len(level))
		level, next = next, level[:0]
	}
	res.States, res.Rule, res.How = len(from.from), k.broken, k.how
	if k.broken != "" {
		res.Trace = k.retrace(first, &from, cur, bad)
	}
	res.Took = time.Since(start)
	return res
}

// retrace walks to state cur again, and along its transition last if that is not negative, this time
// with labels.
func (k *explorer) retrace(s state, o *origins, cur int32, last int) []string {
	var path []int
	if last >= 0 {
		path = append(path, last)
	}
	for i := cur; i > 0; i = o.from[i] {
		path = append(path, int(o.nth[i]))
	}
	k.tracing = true
	var trace []string
	for i := len(path) - 1; i >= 0; i-- {
		nth, to := 0, s
		k.emit = func(n *state, label string) {
			if nth == path[i] {
				k.judge(n)
				to = *n
				trace = append(trace, label)
			}
			nth++
		}
		k.successors(&s)
		s = to
	}
	return trace
}
