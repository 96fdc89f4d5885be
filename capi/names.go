package main

// #include "exports.h"
import "C"

import (
	"unsafe"

	"moorage/core"
)

//export moorgo_remove
func moorgo_remove(id C.uint64_t, key C.moor_cbytes, keySize C.uint64_t) (st C.int32_t) {
	defer guard(&st)
	s, ok := stores.Get(uint64(id))
	if !ok {
		return badHandle("store")
	}
	return remove(s, bytesOf(key, keySize))
}

func remove(s *store, key []byte) (st C.int32_t) {
	defer guard(&st)
	return status(s.Remove(key))
}

//export moorgo_remove_batch
func moorgo_remove_batch(id C.uint64_t, packed C.moor_ckeys, statusesOut *C.int32_t) (st C.int32_t) {
	defer guard(&st)
	s, ok := stores.Get(uint64(id))
	if !ok {
		return badHandle("store")
	}
	k := keysOf(packed)
	statuses := unsafe.Slice(statusesOut, k.len())
	for i := range statuses {
		statuses[i] = remove(s, k.at(i))
	}
	return C.MOOR_OK
}

//export moorgo_clear
func moorgo_clear(id C.uint64_t, removedOut *C.uint64_t) (st C.int32_t) {
	defer guard(&st)
	s, ok := stores.Get(uint64(id))
	if !ok {
		return badHandle("store")
	}
	n, err := s.Clear()
	if err != nil {
		return failed(err)
	}
	if removedOut != nil {
		*removedOut = C.uint64_t(n)
	}
	return C.MOOR_OK
}

//export moorgo_pin
func moorgo_pin(id C.uint64_t, key C.moor_cbytes, keySize C.uint64_t, pinned C.uint32_t) (st C.int32_t) {
	defer guard(&st)
	s, ok := stores.Get(uint64(id))
	if !ok {
		return badHandle("store")
	}
	return status(s.Pin(bytesOf(key, keySize), pinned != 0))
}

//export moorgo_exists
func moorgo_exists(id C.uint64_t, packed C.moor_ckeys, foundOut *C.uint8_t) (st C.int32_t) {
	defer guard(&st)
	s, ok := stores.Get(uint64(id))
	if !ok {
		return badHandle("store")
	}
	k := keysOf(packed)
	found := make([]C.uint8_t, k.len()) // an answer is given whole or not at all
	s.BetweenSets(func() {
		for i := 0; i < k.len() && st == C.MOOR_OK; i++ {
			there, err := s.Exists(k.at(i))
			st = status(err)
			if there {
				found[i] = 1
			}
		}
	})
	if st == C.MOOR_OK {
		copy(unsafe.Slice(foundOut, k.len()), found)
	}
	return st
}

//export moorgo_count_leading
func moorgo_count_leading(id C.uint64_t, packed C.moor_ckeys, countOut *C.uint64_t) (st C.int32_t) {
	defer guard(&st)
	s, ok := stores.Get(uint64(id))
	if !ok {
		return badHandle("store")
	}
	k := keysOf(packed)
	n := 0
	s.BetweenSets(func() {
		for there := true; n < k.len(); n++ {
			var err error
			if there, err = s.Exists(k.at(n)); err != nil || !there {
				st = status(err)
				return
			}
		}
	})
	if st == C.MOOR_OK {
		*countOut = C.uint64_t(n)
	}
	return st
}

//export moorgo_count_objects
func moorgo_count_objects(id C.uint64_t, objectsOut, viewsOut *C.uint64_t) (st C.int32_t) {
	defer guard(&st)
	s, ok := stores.Get(uint64(id))
	if !ok {
		return badHandle("store")
	}
	objects, views, err := s.Count()
	if err != nil {
		return failed(err)
	}
	*objectsOut, *viewsOut = C.uint64_t(objects), C.uint64_t(views)
	return C.MOOR_OK
}

//export moorgo_describe
func moorgo_describe(id C.uint64_t, key C.moor_cbytes, keySize C.uint64_t, out *C.moor_description) (st C.int32_t) {
	defer guard(&st)
	s, ok := stores.Get(uint64(id))
	if !ok {
		return badHandle("store")
	}
	d, err := s.Describe(bytesOf(key, keySize))
	if err != nil {
		return failed(err)
	}
	out.flags = 0
	for _, f := range []struct {
		on   bool
		flag C.uint32_t
	}{{d.Tensor, C.MOOR_DESC_TENSOR}, {d.Pinned, C.MOOR_DESC_PINNED}, {d.Adopted, C.MOOR_DESC_ADOPTED},
		{d.OnDisk, C.MOOR_DESC_ON_DISK}} {
		if f.on {
			out.flags |= f.flag
		}
	}
	out.size, out.extent, out.seq, out.views = C.uint64_t(d.Size), C.uint64_t(d.Extent), C.uint64_t(d.Seq), C.uint64_t(d.Views)
	out.dtype = C.DLDataType{code: C.uint8_t(d.DType.Code), bits: C.uint8_t(d.DType.Bits), lanes: C.uint16_t(d.DType.Lanes)}
	out.ndim = C.int32_t(len(d.Shape))
	copy(unsafe.Slice((*int64)(unsafe.Pointer(&out.shape)), C.MOOR_MAX_DIMS), d.Shape)
	out.meta_size = C.uint64_t(len(d.Meta))
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&out.meta)), C.MOOR_MAX_META), d.Meta)
	return C.MOOR_OK
}

//export moorgo_list_keys
func moorgo_list_keys(id C.uint64_t, prefix C.moor_cbytes, prefixSize C.uint64_t, cursor *C.uint64_t,
	buffer unsafe.Pointer, bufferSize C.uint64_t, endsOut *C.uint64_t, endsSize C.uint64_t, countOut *C.uint64_t) (st C.int32_t) {
	defer guard(&st)
	s, ok := stores.Get(uint64(id))
	if !ok {
		return badHandle("store")
	}
	out, ends := unsafe.Slice((*byte)(buffer), bufferSize), unsafe.Slice(endsOut, endsSize)
	used, count, full := 0, 0, false
	at := uint64(*cursor)
	for at != core.ListEnd && !full {
		next, err := s.List(bytesOf(prefix, prefixSize), at, func(group [][]byte) bool {
			n := 0
			for _, key := range group {
				n += len(key)
			}
			if full = len(group) > len(ends)-count || n > len(out)-used; full {
				return false
			}
			for _, key := range group {
				used += copy(out[used:], key)
				ends[count] = C.uint64_t(used)
				count++
			}
			return true
		})
		if err != nil {
			return failed(err)
		}
		at = next
	}
	if full && count == 0 {
		setText("buffer_size or ends_size is too small for the next keys; give a few times MOOR_MAX_KEY bytes and a few ends")
		return C.MOOR_ERR_TOO_SMALL
	}
	*cursor, *countOut = C.uint64_t(at), C.uint64_t(count)
	return C.MOOR_OK
}

//export moorgo_list_borrows
func moorgo_list_borrows(id C.uint64_t, buffer unsafe.Pointer, bufferSize C.uint64_t, borrowsOut *C.moor_borrow,
	borrowsSize C.uint64_t, countOut, bytesOut *C.uint64_t) (st C.int32_t) {
	defer guard(&st)
	s, ok := stores.Get(uint64(id))
	if !ok {
		return badHandle("store")
	}
	out, list := unsafe.Slice((*byte)(buffer), bufferSize), unsafe.Slice(borrowsOut, borrowsSize)
	count, used := 0, 0
	err := s.Borrows(func(b core.Borrow) bool {
		if count < len(list) && used+len(b.Key) <= len(out) {
			copy(out[used:], b.Key)
			list[count] = C.moor_borrow{
				key_end: C.uint64_t(used + len(b.Key)), views: C.uint64_t(b.Views), size: C.uint64_t(b.Size),
				seq: C.uint64_t(b.Seq), flags: borrowFlags(b), record: C.uint32_t(b.Record),
			}
		}
		used += len(b.Key)
		count++
		return true
	})
	if err != nil {
		return failed(err)
	}
	*countOut, *bytesOut = C.uint64_t(count), C.uint64_t(used)
	if count > len(list) || used > len(out) {
		setText("borrows_size or buffer_size is too small; count_out and bytes_out say what is needed")
		return C.MOOR_ERR_TOO_SMALL
	}
	return C.MOOR_OK
}

func borrowFlags(b core.Borrow) (f C.uint32_t) {
	if b.Unnamed {
		f |= C.MOOR_BORROW_UNNAMED
	}
	if b.Reserved {
		f |= C.MOOR_BORROW_RESERVED
	}
	if b.Child {
		f |= C.MOOR_BORROW_CHILD
	}
	return f
}
