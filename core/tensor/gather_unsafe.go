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

// strided reads four at a time: as many loads are under way at once, and the
// bounds of the row are looked at once.
func strided[T element](row []T, from unsafe.Pointer, stride int64) {
	offset := int64(0)
	for len(row) >= 4 {
		a := *(*T)(unsafe.Add(from, offset))
		b := *(*T)(unsafe.Add(from, offset+stride))
		c := *(*T)(unsafe.Add(from, offset+2*stride))
		d := *(*T)(unsafe.Add(from, offset+3*stride))
		row[0], row[1], row[2], row[3] = a, b, c, d
		row = row[4:]
		offset += 4 * stride
	}
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

// loadTile reads columns, along which the source is close together, and lays
// them down as rows. Four go abreast, so that four cache lines are waited for
// at once and each store is next to the one before.
func loadTile[T element](tile, from unsafe.Pointer, columns, rows, column, row int64) {
	size := int64(unsafe.Sizeof(*new(T)))
	j := int64(0)
	for ; j+4 <= columns; j += 4 {
		a, b, c, d := j*column, (j+1)*column, (j+2)*column, (j+3)*column
		place := j * size
		for range rows {
			four := (*[4]T)(unsafe.Add(tile, place))
			four[0] = *(*T)(unsafe.Add(from, a))
			four[1] = *(*T)(unsafe.Add(from, b))
			four[2] = *(*T)(unsafe.Add(from, c))
			four[3] = *(*T)(unsafe.Add(from, d))
			a, b, c, d = a+row, b+row, c+row, d+row
			place += tileColumns * size
		}
	}
	for ; j < columns; j++ {
		source, place := j*column, j*size
		for range rows {
			*(*T)(unsafe.Add(tile, place)) = *(*T)(unsafe.Add(from, source))
			source += row
			place += tileColumns * size
		}
	}
}

// storeTile writes whole rows.
func storeTile[T element](to, tile unsafe.Pointer, columns, rows, pitch int64) {
	size := int64(unsafe.Sizeof(*new(T)))
	for i := range rows {
		copy(unsafe.Slice((*byte)(unsafe.Add(to, i*pitch)), columns*size),
			unsafe.Slice((*byte)(unsafe.Add(tile, i*tileColumns*size)), columns*size))
	}
}
