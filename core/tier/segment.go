package tier

import (
	"errors"
	"fmt"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"moorage/core/tier/blockio"
	"moorage/core/tier/blocks"
	"moorage/core/tier/file"
	"moorage/core/tier/journal"
)

// segment is one file of blocks, behind a page that says which one it is.
type segment struct {
	number uint32
	blocks uint32
	f      file.File
	io     *blockio.Segment
	dirty  atomic.Bool // written since the last sync
}

// The values in a segment's header.
const (
	segmentBlocks = iota
	segmentBlockSize
)

func segmentName(number uint32) string { return fmt.Sprintf("segment-%08d", number) }

// offset is where a block lies in the file.
func offset(block uint32) int64 { return journal.HeaderBytes + int64(block)*blocks.Size }

// openFile opens a segment, past the page cache where that can be done. create: it is a new one.
func (d *Disk) openFile(name string, how file.How) (f file.File, direct bool, err error) {
	if !d.buffered.Load() {
		f, err = d.fs.Open(name, how|file.Direct)
		if !errors.Is(err, file.ErrUnsupported) {
			return f, err == nil, err
		}
		d.buffered.Store(true)
		d.log1("the file system knows no O_DIRECT: reads and writes go through the page cache")
	}
	f, err = d.fs.Open(name, how)
	return f, false, err
}

// page does something with a page of aligned memory.
func (d *Disk) page(do func(page []byte) error) error {
	slot, err := d.slots.take()
	if err != nil {
		return err
	}
	defer d.slots.give(slot)
	return do(bytesAt(slot.addr, journal.HeaderBytes))
}

// createSegment makes a segment of so many blocks, durable with its name.
func (d *Disk) createSegment(number, count uint32) (s *segment, err error) {
	name := segmentName(number)
	f, direct, err := d.openFile(name, file.Create)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = d.fs.Remove(name)
		}
	}()
	if err := f.Truncate(0); err != nil { // what a crash may have left
		return nil, err
	}
	if err := d.allocate(f, offset(count)); err != nil {
		return nil, err
	}
	h := journal.Header{Kind: journal.Segment, Tier: d.tier, Number: uint64(number)}
	h.Values[segmentBlocks], h.Values[segmentBlockSize] = uint64(count), blocks.Size
	if f, direct, err = d.writeHeader(f, name, direct, &h); err != nil {
		return nil, err
	}
	if err := errors.Join(f.Sync(), d.fs.Sync()); err != nil {
		return nil, err
	}
	return d.addSegment(number, count, f, direct)
}

// writeHeader shows as well whether O_DIRECT works: some file systems let one open a file in that way and then refuse.
func (d *Disk) writeHeader(f file.File, name string, direct bool, h *journal.Header) (file.File, bool, error) {
	err := d.page(func(page []byte) error {
		h.Encode(page)
		_, err := f.WriteAt(page, 0)
		return err
	})
	if !direct || !errors.Is(err, unix.EINVAL) {
		return f, direct, err
	}
	d.buffered.Store(true)
	d.log1("the file system refuses O_DIRECT: reads and writes go through the page cache")
	again, direct, err := d.openFile(name, 0)
	if err != nil {
		return f, direct, err
	}
	_ = f.Close()
	return d.writeHeader(again, name, direct, h)
}

// allocate takes the space of a whole file. Where the file system cannot do that, zeros are written.
func (d *Disk) allocate(f file.File, size int64) error {
	err := f.Allocate(0, size)
	if !errors.Is(err, file.ErrUnsupported) {
		return err
	}
	d.log1("the file system cannot allocate: segments are filled with zeros")
	slot, err := d.slots.take()
	if err != nil {
		return err
	}
	defer d.slots.give(slot)
	zeros := bytesAt(slot.addr, ChunkBytes)
	clear(zeros)
	for at := int64(0); at < size; at += ChunkBytes {
		if _, err := f.WriteAt(zeros[:min(ChunkBytes, size-at)], at); err != nil {
			return err
		}
	}
	return nil
}

func (d *Disk) addSegment(number, count uint32, f file.File, direct bool) (*segment, error) {
	io, err := d.engine.Add(f, direct)
	if err != nil {
		return nil, err
	}
	s := &segment{number: number, blocks: count, f: f, io: io}
	var list []*segment
	if old := d.segments.Load(); old != nil {
		list = append(list, *old...)
	}
	for int(number) >= len(list) {
		list = append(list, nil)
	}
	list[number] = s
	d.segments.Store(&list)
	d.space.blocks.Add(number, count)
	return s, nil
}

func (d *Disk) segmentList() []*segment {
	if list := d.segments.Load(); list != nil {
		return *list
	}
	return nil
}

// syncSegments makes what was written to segments durable.
func (d *Disk) syncSegments() error {
	for _, s := range d.segmentList() {
		if s == nil || !s.dirty.Swap(false) {
			continue
		}
		d.count.syncs.Add(1)
		if err := s.f.Sync(); err != nil {
			s.dirty.Store(true)
			return err
		}
	}
	return nil
}

// wrote notes that blocks were written.
func (d *Disk) wrote(runs []blocks.Run) {
	list := d.segmentList()
	for _, r := range runs {
		if s := list[r.Segment]; !s.dirty.Load() {
			s.dirty.Store(true)
		}
	}
}

func (d *Disk) closeSegments() (err error) {
	for _, s := range d.segmentList() {
		if s != nil {
			err = errors.Join(err, d.engine.Drop(s.io), s.f.Close())
		}
	}
	return err
}
