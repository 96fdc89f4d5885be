package core

import (
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// longest has call run again and again on a thread of its own until stop, and gives the longest time that one call took.
func longest(call func(i int)) (stop func() time.Duration) {
	var over atomic.Bool
	done := make(chan time.Duration)
	go func() {
		runtime.LockOSThread()
		worst := time.Duration(0)
		for i := 0; !over.Load(); i++ {
			began := time.Now()
			call(i)
			worst = max(worst, time.Since(began))
		}
		done <- worst
	}()
	return func() time.Duration { over.Store(true); return <-done }
}

// BenchmarkSnapshotPrefix takes all of a million names. longest-put is how long a put took meanwhile at most, and with
// nobody beside it: on a busy machine that is how long it waited for a core. held is how long the scan has a shard.
func BenchmarkSnapshotPrefix(b *testing.B) {
	for _, n := range []int{10_000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := open(b, Options{Capacity: 256 << 20})
			for i := range n {
				put(b, s, fmt.Sprintf("model/layer/%d", i), nil)
			}
			other := make([][]byte, 1000)
			for i := range other {
				other[i] = fmt.Appendf(nil, "other/%d", i)
			}
			write := func(i int) {
				if _, err := s.Put(other[i%len(other)], nil, PutOptions{}); err != nil {
					b.Error(err)
				}
			}
			stop := longest(write)
			time.Sleep(300 * time.Millisecond)
			alone := stop()
			held := pieceTimes(s)
			stop = longest(write)
			b.ResetTimer()
			for range b.N {
				views, err := s.SnapshotPrefix([]byte("model/"))
				require.NoError(b, err)
				require.Len(b, views, n)
				releaseAll(views)
			}
			b.StopTimer()
			b.ReportMetric(float64(stop().Microseconds()), "longest-put-us")
			b.ReportMetric(float64(alone.Microseconds()), "longest-put-alone-us")
			b.ReportMetric(float64(held[len(held)/2].Nanoseconds())/1e3, "held-p50-us")
			b.ReportMetric(float64(held[len(held)*99/100].Nanoseconds())/1e3, "held-p99-us")
		})
	}
}

// pieceTimes is how long a scan of all names holds a shard's lock, each time, the shortest first.
func pieceTimes(s *Store) (all []time.Duration) {
	c := &scan{}
	for i := range s.shards {
		for cursor, done := uint64(0), false; !done; {
			began := time.Now()
			cursor, done = c.piece(s, &s.shards[i], cursor)
			all = append(all, time.Since(began))
		}
	}
	releaseAll(s.settle(c))
	slices.Sort(all)
	return all
}

// BenchmarkPutSet publishes sets of 10 000 objects; longest-get is how long a get of one of them had to wait at most.
func BenchmarkPutSet(b *testing.B) {
	const n = 10_000
	for name, o := range map[string]PutOptions{"replace": {}, "raise": {IfExists: Raise}} {
		b.Run(name, func(b *testing.B) {
			s := open(b, Options{Capacity: 256 << 20})
			items := make([]Item, n)
			for i := range items {
				items[i].Key = fmt.Appendf(nil, "model/layer/%d", i)
			}
			b.ResetTimer()
			worst := time.Duration(0)
			for range b.N {
				stop := longest(func(i int) {
					if v, err := s.Get(items[i%n].Key); err == nil {
						v.Release()
					}
				})
				require.NoError(b, s.PutSet(items, o, nil))
				worst = max(worst, stop())
				if o.IfExists == Raise {
					b.StopTimer()
					_, err := s.Clear()
					require.NoError(b, err)
					b.StartTimer()
				}
			}
			b.ReportMetric(float64(worst.Microseconds()), "longest-get-us")
		})
	}
}
