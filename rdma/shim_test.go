package rdma

import (
	"errors"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"moorage/rdma/internal/ibv"
	"moorage/rdma/internal/shim"
)

// bare is a queue pair that is connected to itself, with nothing of ours around it.
type bare struct {
	cq    ibv.CQ
	qp    ibv.QP
	read  shim.Read // of the second half of some memory into the first
	to    []ibv.SGE
	bytes []byte
}

func newBare(t testing.TB, f *fake) *bare {
	d := open(t, f, "fake0", DomainOptions{})
	cq, err := d.verbs.CreateCQ(d.context, 256, 0)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.verbs.DestroyCQ(cq)) })
	return newBareOn(t, d, cq)
}

func newBareOn(t testing.TB, d *Domain, cq ibv.CQ) *bare {
	b := &bare{bytes: memory(t, 8192), cq: cq}
	var err error
	b.qp, err = d.verbs.CreateQP(d.pd, &ibv.QPInitAttr{SendCQ: b.cq, RecvCQ: b.cq, Type: ibv.TypeRC,
		Cap: ibv.QPCap{MaxSendWR: 256, MaxSendSGE: 1}})
	require.NoError(t, err)
	r := register(t, d, b.bytes, LocalTarget|RemoteRead)
	b.read = shim.Read{Remote: r.addr + 4096, N: 1, RKey: r.mr.RKey}
	b.to = []ibv.SGE{{Addr: r.addr, Len: 8, LKey: r.mr.LKey}}
	t.Cleanup(func() { require.NoError(t, d.verbs.DestroyQP(b.qp)) })
	c := &Conn{domain: d, queues: []*queue{{qp: b.qp}}, peer: &hello{mtu: 3, reads: 1, queues: []address{{b.qp.Number(), 1}}}}
	require.NoError(t, c.options.complete())
	gid, err := d.verbs.QueryGIDOnly(d.context, 1, 1)
	require.NoError(t, err)
	c.peer.gid = gid
	require.NoError(t, d.verbs.ModifyQP(b.qp, &ibv.QPAttr{State: ibv.StateInit, Port: 1, Access: ibv.AccessRemoteRead},
		ibv.AttrState|ibv.AttrPKeyIndex|ibv.AttrPort|ibv.AttrAccess))
	require.NoError(t, c.connectQueues(&hello{linkLayer: ibv.LinkEthernet, mtu: 3, reads: 1, queues: c.peer.queues},
		end{gid: candidate{gid: gid, index: 1}, reads: 1}))
	return b
}

func (b *bare) chain(n int) []shim.Read {
	reads := make([]shim.Read, n)
	for i := range reads {
		reads[i] = b.read
		reads[i].ID = uint64(i)
	}
	reads[n-1].Signaled = 1
	return reads
}

type poster interface {
	Post(ibv.QP, []shim.Read, []ibv.SGE) (int, error)
	Close() error
}

type pollFunc func(ibv.CQ, []ibv.WC, time.Duration) int

// Both ways of posting and polling do the same.
func eachShim(t *testing.T, f func(t *testing.T, b *bare, p poster, poll pollFunc, f *fake)) {
	t.Run("as built", func(t *testing.T) {
		fk := provider(t)
		p, err := shim.NewPoster()
		require.NoError(t, err)
		defer p.Close()
		f(t, newBare(t, fk), p, shim.Poll, fk)
	})
	t.Run("without cgo", func(t *testing.T) {
		fk := provider(t)
		p, err := shim.NewPurePoster()
		require.NoError(t, err)
		defer p.Close()
		f(t, newBare(t, fk), p, shim.PurePoll, fk)
	})
}

func TestShimPostsAChain(t *testing.T) {
	eachShim(t, func(t *testing.T, b *bare, p poster, poll pollFunc, f *fake) {
		fill(b.bytes[4096:])
		n, err := p.Post(b.qp, b.chain(100), b.to)
		require.NoError(t, err)
		require.Equal(t, shim.MaxChain, n, "no more than a chain")
		n, err = p.Post(b.qp, b.chain(36), b.to)
		require.NoError(t, err)
		require.Equal(t, 36, n)
		require.Equal(t, b.bytes[4096:4104], b.bytes[:8])
		var wc [8]ibv.WC
		require.Equal(t, 1, poll(b.cq, wc[:], 0), "the last of the second chain")
		require.EqualValues(t, 35, wc[0].ID)
		require.Equal(t, ibv.Success, wc[0].Status)
		require.EqualValues(t, 8, wc[0].ByteLen)
		require.Equal(t, b.qp.Number(), wc[0].QPN)
		n, err = p.Post(b.qp, nil, b.to)
		require.NoError(t, err)
		require.Zero(t, n)
		require.Zero(t, poll(b.cq, nil, time.Second))
	})
}

func TestShimSaysHowManyWereTaken(t *testing.T) {
	eachShim(t, func(t *testing.T, b *bare, p poster, poll pollFunc, f *fake) {
		for _, after := range []int{0, 1, 63} {
			f.Set(t, "post_after", int64(after))
			f.Set(t, "post_errno", int64(syscall.ENOMEM))
			n, err := p.Post(b.qp, b.chain(64), b.to)
			require.ErrorIs(t, err, syscall.ENOMEM)
			require.Equal(t, after, n)
		}
		f.Set(t, "post_errno", -1)
		_, err := p.Post(b.qp, b.chain(1), b.to)
		require.ErrorIs(t, err, syscall.EIO, "a driver that returns -1")
		f.Set(t, "post_errno", -int64(syscall.ENOMEM))
		_, err = p.Post(b.qp, b.chain(1), b.to)
		require.ErrorIs(t, err, syscall.ENOMEM, "a driver that returns -errno")
	})
}

func TestShimPolls(t *testing.T) {
	eachShim(t, func(t *testing.T, b *bare, p poster, poll pollFunc, f *fake) {
		var wc [8]ibv.WC
		began := time.Now()
		require.Zero(t, poll(b.cq, wc[:], 5*time.Millisecond))
		require.GreaterOrEqual(t, time.Since(began), 5*time.Millisecond)
		f.Set(t, "delay_us", 2000)
		_, err := p.Post(b.qp, b.chain(1), b.to)
		require.NoError(t, err)
		require.Equal(t, 1, poll(b.cq, wc[:], 10*time.Second), "as soon as there is one")
		f.Set(t, "poll_error", 1)
		require.Equal(t, -1, poll(b.cq, wc[:], time.Second))
	})
}

func TestClosedPurePoster(t *testing.T) {
	b := newBare(t, provider(t))
	p, err := shim.NewPurePoster()
	require.NoError(t, err)
	require.NoError(t, errors.Join(p.Close(), p.Close()))
	_, err = p.Post(b.qp, b.chain(1), b.to)
	require.Error(t, err)
}

func TestPostingAllocatesNothing(t *testing.T) {
	if !shim.InC {
		t.Skip("probed the shim: built without cgo, where posting allocates")
	}
	b := newBare(t, provider(t))
	p, err := shim.NewPoster()
	require.NoError(t, err)
	chain, wc := b.chain(64), make([]ibv.WC, 64)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		_, _ = p.Post(b.qp, chain, b.to)
		_ = shim.Poll(b.cq, wc, 0)
	}))
}

// A batch costs the same few allocations whether it is ten reads or ten thousand.
func TestReadsAllocateNothingEach(t *testing.T) {
	p := newPair(t, 1<<20, ConnOptions{}, nil)
	count := func(part int) float64 {
		reads := p.parts(part)
		return testing.AllocsPerRun(20, func() {
			if err := p.ab.Read(t.Context(), reads); err != nil {
				t.Error(err)
			}
		})
	}
	few, many := count(1<<17), count(1<<10)
	if !shim.InC {
		t.Skipf("probed the shim: built without cgo, where posting allocates (%v and %v)", few, many)
	}
	require.Less(t, many, few+30, "8 reads %v allocations, 1024 reads %v", few, many)
}

func BenchmarkPost(b *testing.B) {
	for _, n := range []int{1, 16, 64} {
		for _, way := range []string{"shim", "purego"} {
			b.Run(way+"/chain="+map[int]string{1: "1", 16: "16", 64: "64"}[n], func(b *testing.B) {
				at := newBare(b, provider(b))
				var p poster
				var err error
				poll := pollFunc(shim.Poll)
				if p, err = shim.NewPoster(); way == "purego" {
					poll = shim.PurePoll
					p, err = shim.NewPurePoster()
				}
				require.NoError(b, err)
				defer p.Close()
				chain, wc := at.chain(n), make([]ibv.WC, 64)
				b.ReportAllocs()
				b.ResetTimer()
				for done := 0; done < b.N; done += n {
					if _, err := p.Post(at.qp, chain, at.to); err != nil {
						b.Fatal(err)
					}
					if poll(at.cq, wc, 0) != 1 {
						b.Fatal("no completion")
					}
				}
			})
		}
	}
}

// BenchmarkRead is a whole batch of 64 reads of 4 KiB, from Submit to Wait; an operation is one read.
func BenchmarkRead(b *testing.B) {
	p := newPair(b, 64*4096, ConnOptions{}, nil)
	reads := p.parts(4096)
	b.ReportAllocs()
	b.ResetTimer()
	for done := 0; done < b.N; done += len(reads) {
		if err := p.ab.Read(b.Context(), reads); err != nil {
			b.Fatal(err)
		}
	}
}
