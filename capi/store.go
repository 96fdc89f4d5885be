package main

// #include "exports.h"
import "C"

import (
	"sync"
	"unsafe"

	"moorage/capi/internal/handle"
	"moorage/core"
	"moorage/core/arena"
	"moorage/core/cost"
)

// store is what a store's handle leads to.
type store struct {
	*core.Store
	region C.uint64_t // address of the moor_region, which lives as long as a view

	attaching sync.Mutex // one at a time, so that no device is attached twice
}

var stores = handle.NewTable[*store](1)

//export moorgo_store_open
func moorgo_store_open(options C.moor_cstore_options, idOut *C.uint64_t) (st C.int32_t) {
	defer guard(&st)
	h, err := host()
	if err != nil {
		return failed(err)
	}
	t := new(tracker)
	var o core.Options
	if options != nil {
		o = core.Options{
			Capacity: uint64(options.capacity), Eviction: core.Eviction(options.eviction),
			HugePages: arena.HugePages(options.hugepages), Prefault: arena.Prefault(options.prefault),
			Disk:        diskOptions(options.disk),
			Registering: cost.Policy(options.registering),
		}
	}
	s, err := core.OpenOn(h, t, o)
	if err != nil {
		return failed(err)
	}
	if len(s.Recovered().Lost) > 0 {
		C.moor_notice(C.MOOR_NOTICE_DAMAGE)
	}
	t.region.records = C.uint64_t(s.RecordDirectory())
	id, err := stores.Add(&store{Store: s, region: C.uint64_t(uintptr(unsafe.Pointer(t.region)))})
	if err != nil {
		_ = s.Close(false)
		return failed(err)
	}
	*idOut = C.uint64_t(id)
	return C.MOOR_OK
}

//export moorgo_store_close
func moorgo_store_close(id C.uint64_t, flags C.uint32_t) (st C.int32_t) {
	defer guard(&st)
	s, ok := stores.Remove(uint64(id))
	if !ok {
		return badHandle("store")
	}
	return status(s.Close(flags&C.MOOR_CLOSE_WAIT != 0))
}

//export moorgo_get_stats
func moorgo_get_stats(id C.uint64_t, out *C.moor_stats) (st C.int32_t) {
	defer guard(&st)
	s, ok := stores.Get(uint64(id))
	if !ok {
		return badHandle("store")
	}
	v, err := s.Stats()
	if err != nil {
		return failed(err)
	}
	huge := C.uint32_t(C.MOOR_HUGE_OFF)
	if v.HugePages {
		huge = C.MOOR_HUGE_REQUIRE
	}
	*out = C.moor_stats{
		struct_size: out.struct_size, hugepages: huge,
		capacity: C.uint64_t(v.Capacity), used: C.uint64_t(v.Used), free_warm: C.uint64_t(v.FreeWarm),
		free_cold: C.uint64_t(v.FreeCold), largest_free: C.uint64_t(v.LargestFree), resident: C.uint64_t(v.Resident),
		metadata: C.uint64_t(v.Metadata), objects: C.uint64_t(v.Objects), pinned_objects: C.uint64_t(v.PinnedObjects),
		pinned_bytes: C.uint64_t(v.PinnedBytes), borrowed_objects: C.uint64_t(v.BorrowedObjects),
		borrowed_bytes: C.uint64_t(v.BorrowedBytes), held_bytes: C.uint64_t(v.HeldBytes),
		children: C.uint64_t(v.Children), children_unfollowed: C.moor_children_unfollowed(),
		windows: C.uint64_t(v.Windows), puts: C.uint64_t(v.Puts), gets: C.uint64_t(v.Gets), misses: C.uint64_t(v.Misses),
		removes: C.uint64_t(v.Removes), evictions: C.uint64_t(v.Evictions), adoptions: C.uint64_t(v.Adoptions),
		adopt_copies: C.uint64_t(v.AdoptCopies), bytes_copied_in: C.uint64_t(v.CopiedIn),
		bytes_copied_out: C.uint64_t(v.CopiedOut), window_copies: C.uint64_t(v.WindowCopies),
		protected_extents: C.uint64_t(v.Protected), last_seq: C.uint64_t(v.LastSeq),
		registrations: C.uint64_t(v.Registered.Registrations), registered_bytes: C.uint64_t(v.Registered.Bytes),
		locked_bytes: C.uint64_t(v.Registered.LockedBytes), devices: C.uint64_t(v.Registered.Devices),
		slab_bytes: C.uint64_t(v.Registered.SlabBytes), device_registrations: C.uint64_t(v.Registered.Registered),
		register_ns: C.uint64_t(v.Registered.Time),
		registering: C.uint32_t(v.Registering),
	}
	return C.MOOR_OK
}

//export moorgo_trim
func moorgo_trim(id C.uint64_t, freedOut *C.uint64_t) (st C.int32_t) {
	defer guard(&st)
	s, ok := stores.Get(uint64(id))
	if !ok {
		return badHandle("store")
	}
	freed, err := s.Trim()
	if err != nil {
		return failed(err)
	}
	if freedOut != nil {
		*freedOut = C.uint64_t(freed)
	}
	return C.MOOR_OK
}
