package rdma

import (
	"testing"

	"github.com/stretchr/testify/require"

	"moorage/rdma/internal/shim"
)

// TestScatter: one range of the peer's goes to many places of two regions, however many targets a request may have and however
// long it may be; nothing beside them is written.
func TestScatter(t *testing.T) {
	const size = 64 << 10
	for _, limits := range []struct{ targets, message int64 }{{1, 1 << 20}, {4, 1 << 20}, {100, 1 << 20}, {4, 1000}, {3, 7}} {
		p := newPair(t, size, ConnOptions{}, func(f *fake) {
			f.Set(t, "max_sge", limits.targets)
			f.Set(t, "max_message", limits.message)
		})
		other := memory(t, size)
		second := register(t, p.a, other, LocalTarget)
		r := seeded(t)
		bytes, regions := [][]byte{p.to, other}, []*Region{p.target, second}
		want := [][]byte{make([]byte, size), make([]byte, size)}
		free := [2]uint64{}
		var reads []Read
		for from := uint64(0); from < size/2; {
			read := Read{From: p.source.Remote(), FromOffset: from}
			for range 1 + r.IntN(40) {
				k, n := r.IntN(2), r.Uint64N(200)
				n = min(n, size/2-from-read.Length)
				at := free[k] + r.Uint64N(3)
				copy(want[k][at:], p.from[from+read.Length:][:n])
				read.Scatter = append(read.Scatter, Target{regions[k], at, n})
				free[k], read.Length = at+n, read.Length+n
			}
			reads = append(reads, read)
			from += read.Length
		}
		reads = append(reads, Read{From: p.source.Remote(), Scatter: []Target{}}) // of nothing
		before := p.f.Get("requests")
		require.NoError(t, p.ab.Read(t.Context(), reads))
		made := p.f.Get("requests") - before
		for k := range bytes {
			require.True(t, string(want[k]) == string(bytes[k]), "%+v", limits)
		}
		most := 0
		for i := range reads {
			n := reads[i].pieces(uint64(limits.message), int(min(limits.targets, shim.MaxTargets)))
			require.GreaterOrEqual(t, n, int((reads[i].Length+uint64(limits.message)-1)/uint64(limits.message)))
			most += n
		}
		require.EqualValues(t, most, made, "as many requests as were counted before: %+v", limits)
		require.NoError(t, second.Close(t.Context()), "no read holds it any more")
	}
}

// TestScatterIsGathered: what fits goes in one request.
func TestScatterIsGathered(t *testing.T) {
	p := newPair(t, 8192, ConnOptions{}, func(f *fake) { f.Set(t, "max_sge", 4) })
	read := Read{From: p.source.Remote(), Length: 8000}
	for i := range uint64(8) {
		read.Scatter = append(read.Scatter, Target{p.target, 7000 - i*1000, 1000})
	}
	before := p.f.Get("requests")
	require.NoError(t, p.ab.Read(t.Context(), []Read{read}))
	require.EqualValues(t, 2, p.f.Get("requests")-before)
	for i := range 8 {
		require.Equal(t, p.from[i*1000:(i+1)*1000], p.to[7000-i*1000:][:1000])
	}
}

func TestBadScatter(t *testing.T) {
	p := newPair(t, 4096, ConnOptions{}, nil)
	foreign := register(t, p.b, memory(t, 4096), LocalTarget)
	noTarget := register(t, p.a, memory(t, 4096), RemoteRead)
	good := Target{p.target, 0, 100}
	for says, bad := range map[string]Read{
		"beside Scatter":      {To: p.target, Length: 100, Scatter: []Target{good}},
		"less than Length":    {Length: 101, Scatter: []Target{good}},
		"more than the 150":   {Length: 150, Scatter: []Target{good, good}},
		"number 1 of Scatter": {Length: 200, Scatter: []Target{good, {}}},
		"another domain":      {Length: 100, Scatter: []Target{{foreign, 0, 100}}},
		"without LocalTarget": {Length: 100, Scatter: []Target{{noTarget, 0, 100}}},
		"leave the region":    {Length: 100, Scatter: []Target{{p.target, 4000, 100}}},
		"Offset":              {Length: 200, Scatter: []Target{good, {p.target, 1 << 63, 100}}},
	} {
		bad.From = p.source.Remote()
		err := p.ab.Read(t.Context(), []Read{bad})
		require.ErrorIs(t, err, ErrInvalid)
		require.ErrorContains(t, err, says)
	}
	require.NoError(t, p.ab.Err())
	closed := register(t, p.a, memory(t, 4096), LocalTarget)
	require.NoError(t, closed.Close(t.Context()))
	require.ErrorIs(t, p.ab.Read(t.Context(), []Read{{From: p.source.Remote(), Length: 200,
		Scatter: []Target{good, {closed, 0, 100}}}}), ErrClosed)
	require.NoError(t, p.target.Close(t.Context()), "what was refused holds nothing")
}

// TestShimTargets: a read whose targets are not there is refused before it reaches the device.
func TestShimTargets(t *testing.T) {
	eachShim(t, func(t *testing.T, b *bare, p poster, _ pollFunc, f *fake) {
		before := f.Get("posts")
		for _, bad := range []struct{ first, n uint32 }{{0, 0}, {0, 2}, {1, 1}, {1<<32 - 1, 1}, {0, 1<<32 - 1}} {
			chain := b.chain(3)
			chain[2].First, chain[2].N = bad.first, bad.n
			n, err := p.Post(b.qp, chain, b.to)
			require.Error(t, err, "%+v", bad)
			require.Zero(t, n)
		}
		require.Equal(t, before, f.Get("posts"))
	})
}
