package core

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// BenchmarkPacedPut puts objects into a full memory, one every few milliseconds: how long each takes, as somebody sees it who
// has to go on.
func BenchmarkPacedPut(b *testing.B) {
	for _, ahead := range []bool{false, true} {
		b.Run(fmt.Sprint("ahead=", ahead), func(b *testing.B) {
			o := onDir(b.TempDir())
			o.Capacity, o.Disk.Capacity = 64<<20, 256<<20
			o.Eviction = EvictS3FIFO
			s := open(b, o)
			if !ahead {
				s.tiered.cleaner.share = 0
			}
			const size = 1 << 20
			data := pattern(1, size)
			var times []time.Duration
			i := 0
			for b.Loop() {
				began := time.Now()
				_, err := s.Put(fmt.Append(nil, "key ", i%400), data, PutOptions{})
				require.NoError(b, err)
				if i++; i > 80 {
					times = append(times, time.Since(began))
				}
				time.Sleep(10 * time.Millisecond)
			}
			if len(times) > 10 {
				slices.Sort(times)
				for _, p := range []int{50, 90, 99} {
					b.ReportMetric(float64(times[len(times)*p/100].Microseconds()), fmt.Sprintf("p%d-us", p))
				}
			}
		})
	}
}
