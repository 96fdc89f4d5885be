package blockio

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// BenchmarkAgainstFio reads objects at random places of a file, one at a time, in turns with fio that does the same: io_uring,
// direct, registered buffers and files, chunks of the same size, as many in flight, and the next object when the last chunk
// of the one before has come; above 32 MiB fio cannot, and never pauses between objects. A step is ours, fio, fio, ours, of a second each.
func BenchmarkAgainstFio(b *testing.B) {
	if _, err := exec.LookPath("fio"); err != nil {
		b.Skip("probed fio: it is not installed (Debian: apt-get install fio)")
	}
	name := filepath.Join(b.TempDir(), "segment")
	fillFile(b, name, benchFile)
	for _, size := range []int{64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20, 64 << 20, 256 << 20} {
		b.Run(fmt.Sprintf("%d KiB", size>>10), func(b *testing.B) {
			e := open(b, Options{})
			s, err := e.Add(openFile(b, name, os.O_RDWR|unix.O_DIRECT), true)
			require.NoError(b, err)
			buffer := memory(b, size)
			r := &Request{Pieces: []Piece{{addressOf(buffer), s, 0, size, register(b, e, buffer)}}}
			var ours, theirs, cpu, theirCPU []float64
			for b.Loop() {
				for _, us := range []bool{true, false, false, true} {
					if us {
						speed, c := runOurs(b, e, r)
						ours, cpu = append(ours, speed), append(cpu, c)
					} else {
						speed, c := runFio(b, name, size)
						theirs, theirCPU = append(theirs, speed), append(theirCPU, c)
					}
				}
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(median(ours), "GiB/s")
			b.ReportMetric(median(theirs), "fio-GiB/s")
			b.ReportMetric(median(ours)/median(theirs), "of-fio")
			b.ReportMetric(median(cpu), "cpu-s/GiB")
			b.ReportMetric(median(theirCPU), "fio-cpu-s/GiB")
		})
	}
}

func median(v []float64) float64 {
	slices.Sort(v)
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

func runOurs(b *testing.B, e *Engine, r *Request) (speed, cpu float64) {
	p := &r.Pieces[0]
	before, began := processor(), time.Now()
	n := 0
	for time.Since(began) < time.Second {
		p.Off = int64(rand.IntN(benchFile/p.Len)) * int64(p.Len)
		_, err := e.Do(context.Background(), r)
		require.NoError(b, err)
		n++
	}
	gib := float64(n*p.Len) / (1 << 30)
	return gib / time.Since(began).Seconds(), float64(processor()-before) / 1e9 / gib
}

func runFio(b *testing.B, name string, size int) (speed, cpu float64) {
	chunk := min(size, 1<<20)
	depth := min(size/chunk, 32)
	args := []string{
		"--name=read", "--filename=" + name, fmt.Sprintf("--rw=randread:%d", size/chunk), "--ioengine=io_uring", "--direct=1", "--fixedbufs=1",
		"--registerfiles=1", "--time_based=1", "--runtime=1", "--invalidate=0", "--randrepeat=0", "--norandommap=1",
		fmt.Sprintf("--size=%d", benchFile), fmt.Sprintf("--bs=%d", chunk), fmt.Sprintf("--iodepth=%d", depth),
		"--output-format=json", "--gtod_reduce=1",
	}
	if depth*chunk == size { // all of one object, then the next
		args = append(args, fmt.Sprintf("--iodepth_batch_submit=%d", depth),
			fmt.Sprintf("--iodepth_batch_complete_min=%d", depth), fmt.Sprintf("--iodepth_batch_complete_max=%d", depth))
	}
	out, err := exec.Command("fio", args...).Output()
	require.NoError(b, err)
	var report struct {
		Jobs []struct {
			Read struct {
				Bytes   float64 `json:"io_bytes"`
				Runtime float64 `json:"runtime"` // milliseconds
			} `json:"read"`
			User   float64 `json:"usr_cpu"` // percent
			System float64 `json:"sys_cpu"`
		} `json:"jobs"`
	}
	require.NoError(b, json.Unmarshal(out, &report))
	j := report.Jobs[0]
	gib, seconds := j.Read.Bytes/(1<<30), j.Read.Runtime/1000
	return gib / seconds, (j.User + j.System) / 100 * seconds / gib
}
