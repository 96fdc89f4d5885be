package timing

import "strconv"

// line makes an object of JSON on one line. Keys and texts are our own words and need no escapes.
type line []byte

func (l line) key(key string) line {
	if l[len(l)-1] != '{' {
		l = append(l, ',')
	}
	l = append(l, '"')
	l = append(l, key...)
	return append(l, `":`...)
}

func (l line) text(key, value string) line {
	l = append(l.key(key), '"')
	l = append(l, value...)
	return append(l, '"')
}

func (l line) number(key string, value int64) line { return strconv.AppendInt(l.key(key), value, 10) }

func (l line) fraction(key string, value float64) line {
	return strconv.AppendFloat(l.key(key), value, 'f', 1, 64)
}

func (l line) truth(key string, value bool) line { return strconv.AppendBool(l.key(key), value) }

func (l line) open(key string) line { return append(l.key(key), '{') }

func (l line) close() line { return append(l, '}') }

// appendHeader is the first line of a trace: what the others mean, and what taking them costs.
func appendHeader(b []byte) []byte {
	l := append(line(b), '{').number("moorage_trace", 1).text("clock", "CLOCK_MONOTONIC").text("unit", "ns")
	l = l.text("device", "t2-t1").text("host", "(t1-t0)+(t3-t2)").text("total", "t3-t0").open("definitions")
	for p := range paths {
		l = l.open(p.String()).text("read", Definition(p, false)).text("write", Definition(p, true)).close()
	}
	cost := Overhead()
	l = l.close().open("overhead").fraction("stamp", cost.Stamp).fraction("record", cost.Record).close()
	return append(l.close(), '\n')
}

// appendRecord is a record.
func appendRecord(b []byte, r *Record) []byte {
	l := append(line(b), '{').number("sequence", int64(r.Sequence)).text("kind", r.Kind.String())
	l = l.text("class", r.Class.String()).text("path", r.Path.String()).text("durability", r.Durability.String())
	l = l.truth("shared", r.Shared).truth("overlapped", r.Overlapped)
	l = l.number("bytes", int64(r.Bytes)).number("chunks", int64(r.Chunks)).number("depth", int64(r.Depth))
	l = l.number("t0", r.T0).number("t1", r.T1).number("t2", r.T2).number("t3", r.T3)
	for m, v := range r.measures() {
		l = l.number(Measure(m).String(), v)
	}
	l = l.number("chunk_min", r.ChunkMin).number("chunk_max", r.ChunkMax).number("chunk_sum", r.ChunkSum)
	return append(l.close(), '\n')
}

// appendTrailer is the last line.
func appendTrailer(b []byte, v TraceStats) []byte {
	l := append(line(b), '{').number("written", int64(v.Written)).number("dropped", int64(v.Dropped))
	return append(l.close(), '\n')
}
