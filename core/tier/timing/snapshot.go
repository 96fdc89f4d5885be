package timing

// Snapshot is what a recorder has gathered at one moment; figures of operations that end meanwhile may be in it in part.
type Snapshot struct {
	Records      uint64 // all that were added
	Inconsistent uint64 // of them, those that could not be true and are in nothing below
	Kinds        []Summary
	Trace        TraceStats
}

// Summary is what is known of one kind of operation. A kind that did not happen has none.
type Summary struct {
	Kind              Kind
	Class             Class // OK or Background
	Count             uint64
	Failed, Cancelled uint64 // of this kind, whoever waited; in the first summary of a kind
	Bytes             uint64
	Shared            uint64
	Paths             [paths]uint64 // operations by Path
	Chunks            uint64
	ChunkMax          int64
	ChunkSum          int64
	Times             [Measures]Distribution // by Measure
}

// Snapshot looks at everything once. It stops nobody.
func (c *Recorder) Snapshot() Snapshot {
	v := Snapshot{Inconsistent: c.inconsistent.Load()}
	for k := range kinds {
		v.Kinds = append(v.Kinds, c.summaries(k)...)
	}
	v.Records = c.sequence.Load()
	if c.trace != nil {
		v.Trace = c.trace.Stats()
	}
	return v
}

// summaries are those of one kind. What failed was counted without a class, and stands with the first.
func (c *Recorder) summaries(k Kind) (found []Summary) {
	for class := range measured {
		if t := c.tallies[k][class].Load(); t != nil {
			one := Summary{Kind: k, Class: class}
			t.addTo(&one)
			found = append(found, one)
		}
	}
	failed, cancelled := c.refused[k][Failed].Load(), c.refused[k][Cancelled].Load()
	if failed+cancelled == 0 {
		return found
	}
	if len(found) == 0 {
		found = []Summary{{Kind: k}}
	}
	found[0].Failed, found[0].Cancelled = failed, cancelled
	return found
}

func (t *tally) addTo(s *Summary) {
	s.Count = t.count.Load()
	s.Bytes, s.Shared, s.Chunks = t.bytes.Load(), t.shared.Load(), t.chunks.Load()
	s.ChunkMax, s.ChunkSum = t.chunkMax.Load(), t.chunkSum.Load()
	for p := range t.byPath {
		s.Paths[p] = t.byPath[p].Load()
	}
	for m := range t.of {
		s.Times[m] = t.of[m].distribution(s.Count)
	}
}
