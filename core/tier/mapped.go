package tier

import (
	"errors"
	"fmt"
	"runtime/debug"

	"golang.org/x/sys/unix"

	"moorage/core/tier/blockio"
	"moorage/core/tier/blocks"
)

var errMapped = errors.New("a mapping of a segment cannot be read")

// mapped reads through a mapping of the segments: for those who want to compare. The device time is that of touching the pages,
// which is where the disk is read; then the bytes are copied. A page that cannot be read is an error, not the end of the process.
func (r *reading) mapped() (err error) {
	from, to := r.bounds()
	m := mappings{}
	defer m.close()
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if fault := recover(); fault != nil { // a page went between touching and reading it
			err = fmt.Errorf("%w: %v", errMapped, fault)
		}
	}()
	r.io.Mapped = true
	t := blockio.Times{Path: blockio.Buffered, Depth: 1}
	began := now()
	r.d.spans(r.runs, from, to, func(s *segment, off int64, at, n uint64) {
		if err == nil {
			err = m.add(s.f.FD(), off, int(n), at)
		}
	})
	if err != nil {
		return err
	}
	t.Submit, t.First = now()-began, now()
	for i := range m.areas {
		if err := m.touch(i, &t); err != nil {
			t.Last = now()
			r.io.step(t)
			return err
		}
	}
	t.Last = now()
	r.io.step(t)
	return r.fromMappings(m.areas)
}

// fromMappings verifies and copies what is mapped.
func (r *reading) fromMappings(areas []area) error {
	if r.verify {
		began := now()
		defer func() { r.io.Verify += now() - began - r.io.Copy }()
		for chunk := r.off / ChunkBytes; chunk < chunksOf(r.end); chunk++ {
			if checksum(chunk, r.size, areas) != r.e.body.crc(chunk) {
				return r.d.damaged(r.e, chunk)
			}
		}
	}
	for i := range areas {
		r.copyOut(&areas[i])
	}
	return nil
}

// mappings are parts of segments, and which part of the object each is.
type mappings struct {
	areas []area
	maps  [][]byte

	touched byte // so that touching is not left out
}

func (m *mappings) add(fd int, off int64, n int, at uint64) error {
	b, err := unix.Mmap(fd, off, n, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("%w: mmap: %w", errMapped, err)
	}
	m.maps = append(m.maps, b)
	m.areas = append(m.areas, area{at, at + uint64(n), addressOf(b)})
	return nil
}

// touch reads the pages of a mapping.
func (m *mappings) touch(i int, t *blockio.Times) error {
	began := now()
	err := unix.Madvise(m.maps[i], unix.MADV_POPULATE_READ)
	if err == unix.EINVAL { // an older kernel
		err = nil
		for at := 0; at < len(m.maps[i]); at += blocks.Size {
			m.touched += m.maps[i][at]
		}
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errMapped, err)
	}
	took := now() - began
	if t.Chunks == 0 || took < t.ChunkMin {
		t.ChunkMin = took
	}
	t.Chunks++
	t.ChunkMax, t.ChunkSum = max(t.ChunkMax, took), t.ChunkSum+took
	t.Bytes += int64(len(m.maps[i]))
	return nil
}

func (m *mappings) close() {
	for _, b := range m.maps {
		_ = unix.Munmap(b)
	}
}
