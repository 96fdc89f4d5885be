package timing

import "sync"

// Cost is what timing itself takes, in nanoseconds. An operation takes four stamps and a few for its parts, and adds one
// record.
type Cost struct{ Stamp, Record float64 }

// Overhead is measured once in a process, when it is asked for the first time; that takes about a millisecond.
func Overhead() Cost { return overhead() }

var overhead = sync.OnceValue(measureOverhead)

const (
	overheadRounds = 20
	overheadCalls  = 200
)

// measureOverhead takes the fastest of short rounds: what else the machine does can only add to it.
func measureOverhead() Cost {
	c := NewRecorder(64, nil)
	r := Record{Stamps: Stamps{0, 1000, 100_000, 101_000}, Path: UringFixed, Chunks: 1, ChunkSum: 99_000, ChunkMax: 99_000}
	c.Add(r)
	return Cost{
		Stamp:  fastest(func() { Now() }),
		Record: fastest(func() { c.Add(r) }),
	}
}

func fastest(do func()) float64 {
	best := int64(1) << 62
	for range overheadRounds {
		begin := Now()
		for range overheadCalls {
			do()
		}
		best = min(best, Now()-begin)
	}
	return float64(best) / overheadCalls
}
