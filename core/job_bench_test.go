package core

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

// What a job costs from Submit until all of it is drained, beside the same done by the caller.
func BenchmarkJob(b *testing.B) {
	for _, n := range []int{1, 128} {
		s, q := open(b, Options{}), openQueue(b)
		keys := make([][]byte, n)
		for i := range keys {
			keys[i] = fmt.Appendf(nil, "key/%d", i)
			put(b, s, string(keys[i]), make([]byte, 100))
		}
		out := make([]Completion, n)
		for name, kind := range map[string]JobKind{"get": JobGet, "exists": JobExists} {
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				b.ReportAllocs()
				for range b.N {
					j, err := s.Submit(q, JobRequest{Kind: kind, Keys: keys})
					if err != nil {
						b.Fatal(err)
					}
					for drained := 0; drained < n; {
						_, _ = unix.Poll([]unix.PollFd{{Fd: int32(q.FD()), Events: unix.POLLIN}}, -1)
						drained += q.Drain(out)
					}
					j.Close()
				}
			})
		}
		b.Run(fmt.Sprintf("get, by the caller/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				for _, key := range keys {
					v, err := s.Get(key)
					if err != nil {
						b.Fatal(err)
					}
					v.Release()
				}
			}
		})
	}
}
