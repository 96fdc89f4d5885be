package tier

import "moorage/core/tier/blocks"

// Peek is Lookup that is no access.
func (d *Disk) Peek(key []byte) (*Entry, bool) {
	e := d.hold(key)
	return e, e != nil
}

// FreeBytes is how much more Reserve can take at this moment.
func (d *Disk) FreeBytes() uint64 {
	p := &d.space
	taken := p.used.Load() + p.reserved.Load() + p.pending.Load()
	return (p.capacity - min(p.capacity, taken)) * blocks.Size
}

// Reclaim frees blocks of what is gone, and waits for the journal where they wait for it. False: there was nothing to free.
func (d *Disk) Reclaim() bool { return d.space.sweep() > 0 || d.space.settle() }

// SpaceFor is what an object of size bytes takes of it.
func SpaceFor(size uint64) uint64 { return blocksOf(size) * blocks.Size }
