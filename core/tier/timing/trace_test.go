package timing

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// counting is a writer that counts lines.
type counting struct{ lines atomic.Uint64 }

func (w *counting) Write(p []byte) (int, error) {
	w.lines.Add(uint64(bytes.Count(p, []byte("\n"))))
	return len(p), nil
}

// stuck is a writer that hangs until it is let go.
type stuck struct{ free chan struct{} }

func (w stuck) Write(p []byte) (int, error) {
	<-w.free
	return len(p), nil
}

var errFull = errors.New("no room")

// full is a writer that takes some lines.
type full struct{ room int }

func (w *full) Write(p []byte) (int, error) {
	if w.room--; w.room < 0 {
		return 0, errFull
	}
	return len(p), nil
}

type short struct{}

func (short) Write(p []byte) (int, error) { return len(p) / 2, nil }

func TestATraceSaysWhatItMeansAndEverythingThatHappened(t *testing.T) {
	r := random(t)
	var out bytes.Buffer
	trace := NewTrace(&out)
	c := NewRecorder(0, trace)
	for range 50 {
		c.Add(read(r))
	}
	failed := read(r)
	failed.Kind, failed.Class, failed.Path, failed.Durability, failed.Shared = Put, Failed, Direct, Each, true
	c.Add(failed)
	require.NoError(t, trace.Close(t.Context()))
	require.NoError(t, trace.Close(t.Context()))

	lines := bufio.NewScanner(&out)
	lines.Buffer(nil, 1<<20)
	next := func() (v map[string]any) {
		require.True(t, lines.Scan())
		require.NoError(t, json.Unmarshal(lines.Bytes(), &v))
		return v
	}
	header := next()
	require.EqualValues(t, 1, header["moorage_trace"])
	require.Equal(t, "t2-t1", header["device"])
	definitions := header["definitions"].(map[string]any)
	require.Len(t, definitions, int(paths))
	require.Equal(t, Definition(Buffered, true), definitions["buffered"].(map[string]any)["write"])
	for i, want := range c.Recent(0) {
		v := next()
		require.EqualValues(t, i+1, v["sequence"])
		require.Equal(t, want.Kind.String(), v["kind"])
		require.Equal(t, want.Class.String(), v["class"])
		require.Equal(t, want.Path.String(), v["path"])
		require.Equal(t, want.Durability.String(), v["durability"])
		require.Equal(t, want.Shared, v["shared"])
		require.EqualValues(t, want.Bytes, v["bytes"])
		require.EqualValues(t, want.T0, v["t0"])
		require.EqualValues(t, want.T3, v["t3"])
		require.EqualValues(t, want.ChunkSum, v["chunk_sum"])
		for m, value := range want.measures() {
			require.EqualValues(t, value, v[Measure(m).String()], Measure(m))
		}
		require.Equal(t, v["total"], v["host"].(float64)+v["device"].(float64))
	}
	require.Equal(t, map[string]any{"written": 51.0, "dropped": 0.0}, next())
	require.False(t, lines.Scan())
}

func TestAWriterThatHangsHoldsUpNobody(t *testing.T) {
	w := stuck{make(chan struct{})}
	trace := NewTrace(w)
	c := NewRecorder(8, trace)
	const more = 100
	for range traceQueue + more {
		c.Add(Record{})
	}
	require.EqualValues(t, more, trace.Stats().Dropped)
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	require.ErrorIs(t, trace.Close(ctx), context.DeadlineExceeded)
	c.Add(Record{})
	require.EqualValues(t, more+1, trace.Stats().Dropped, "closed: dropped, not sent")
	close(w.free)
	require.NoError(t, trace.Close(t.Context()))
	require.Equal(t, TraceStats{Written: traceQueue, Dropped: more + 1}, trace.Stats())
}

func TestAWriterThatFailsIsTold(t *testing.T) {
	trace := NewTrace(&full{room: 3})
	c := NewRecorder(8, trace)
	for range 10 {
		c.Add(Record{})
	}
	require.ErrorIs(t, trace.Close(t.Context()), errFull)
	v := c.Snapshot()
	require.Equal(t, TraceStats{Written: 2, Dropped: 8, Failed: errFull}, v.Trace)

	trace = NewTrace(short{})
	require.Error(t, trace.Close(t.Context()))
}

func TestATraceCostsTheOperationNoAllocation(t *testing.T) {
	w := stuck{make(chan struct{})}
	trace := NewTrace(w)
	c := NewRecorder(8, trace)
	c.Add(Record{})
	require.Zero(t, testing.AllocsPerRun(1000, func() { c.Add(Record{}) }))
	close(w.free)
	require.NoError(t, trace.Close(t.Context()))
}
