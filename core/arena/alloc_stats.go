package arena

// ExtentStats are the figures of an allocator at one moment, in bytes unless
// the name says otherwise.
type ExtentStats struct {
	Size uint64
	// Used is the sum of the extents in use, rounding included.
	Used uint64
	// FreeWarm is free memory that was touched before, FreeCold memory that
	// was never touched or was given back; with Used they add up to Size.
	FreeWarm, FreeCold uint64
	// LargestFree is the longest stretch of free memory. With more than 64 of
	// nearly that length it may be up to 3 % more.
	LargestFree uint64
	// Touched is memory that may have pages behind it.
	Touched uint64
	// Extents counts those in use, FreeBlocks the stretches between them.
	Extents, FreeBlocks uint64
}

// Stats gives the current figures. Memory that trim or prefault is working on
// counts as free.
func (a *Extents) Stats() ExtentStats {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return ExtentStats{}
	}
	cold := a.cold * a.page
	return ExtentStats{
		Size: a.size, Used: a.used, FreeCold: cold, FreeWarm: a.size - a.used - cold,
		LargestFree: a.largest(), Touched: a.touched(), Extents: a.live, FreeBlocks: a.idle,
	}
}

// Touched is how many bytes may have pages behind them: all that was ever
// handed out or prefaulted, less what was trimmed.
func (a *Extents) Touched() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.touched()
}

func (a *Extents) touched() uint64 { return a.size - a.cold*a.page }

// largest is the length of the longest free block, as far as a bounded look at
// the highest class can tell: every allocation that fails asks for it.
func (a *Extents) largest() (n uint64) {
	for _, s := range []*bins{&a.warm, &a.rest} {
		c := s.top()
		if c < 0 {
			continue
		}
		b := s.head[c]
		for left := 64; b != 0 && left > 0; left-- {
			n = max(n, a.length(b))
			b = a.blocks.at(b).after
		}
	}
	return n
}
