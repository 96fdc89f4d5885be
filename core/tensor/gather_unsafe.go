package tensor

import "unsafe"

// pair is an element of 16 bytes. Its alignment asks for no more than that of
// any other: loads and stores here may be unaligned, which x86-64 and arm64
// both allow for ordinary memory.
type pair [2]uint64

type element interface {
	uint8 | uint16 | uint32 | uint64 | pair
}

// copyRows copies elements [first, end) of the destination, row after row.
func copyRows[T element](p *Plan, dst uintptr, first, end uint64) {
	axes := p.axes()
	inner := axes[0]
	var w walk
	w.seek(axes[1:], first/uint64(inner.extent))
	column := int64(first % uint64(inner.extent))
	to := at(dst + uintptr(first)*unsafe.Sizeof(*new(T)))
	for left := int64(end - first); left > 0; {
		n := min(inner.extent-column, left)
		row := unsafe.Slice((*T)(to), n)
		from := at(p.base + uintptr(w.offset+column*inner.stride))
		switch {
		case inner.stride == 0:
			fill(row, *(*T)(from))
		default:
			strided(row, from, inner.stride)
		}
		left -= n
		if left == 0 {
			return
		}
		to = unsafe.Add(to, uintptr(n)*unsafe.Sizeof(*new(T)))
		column = 0
		w.next(axes[1:])
	}
}

func strided[T element](row []T, from unsafe.Pointer, stride int64) {
	offset := int64(0)
	for i := range row {
		row[i] = *(*T)(unsafe.Add(from, offset))
		offset += stride
	}
}

// fill writes the value once and then copies what is there, a block that stays
// in the first cache.
func fill[T element](row []T, value T) {
	const block = 4096
	row[0] = value
	for done := 1; done < len(row); {
		done += copy(row[done:], row[:min(done, block)])
	}
}

// copyTiles copies tiles [first, end).
func copyTiles[T element](p *Plan, dst uintptr, first, end uint64) {
	var buffer [tileBytes / 8]uint64
	tile := unsafe.Pointer(&buffer)
	axes := p.axes()
	width, height := axes[0], axes[p.cross]
	var w tileWalk
	w.seek(p, first)
	for left := end - first; left > 0; left-- {
		columns := min(tileColumns, width.extent-w.index[0])
		rows := min(p.tileRows(), height.extent-w.index[p.cross])
		loadTile[T](tile, at(p.base+uintptr(w.source)), columns, rows, width.stride, height.stride)
		storeTile[T](at(dst+uintptr(w.dest)), tile, columns, rows, w.pitch[p.cross])
		w.next(axes)
	}
}

// loadTile reads column by column, along which the source is close together,
// and keeps them so.
func loadTile[T element](tile, from unsafe.Pointer, columns, rows, column, row int64) {
	for j := range columns {
		to, source := unsafe.Slice((*T)(unsafe.Add(tile, j*tileLine)), rows), unsafe.Add(from, j*column)
		if row == int64(unsafe.Sizeof(*new(T))) {
			copy(to, unsafe.Slice((*T)(source), rows))
		} else {
			strided(to, source, row)
		}
	}
}

// storeTile writes row by row.
func storeTile[T element](to, tile unsafe.Pointer, columns, rows, pitch int64) {
	for i := range rows {
		row := unsafe.Slice((*T)(unsafe.Add(to, i*pitch)), columns)
		strided(row, unsafe.Add(tile, i*int64(unsafe.Sizeof(*new(T)))), tileLine)
	}
}
