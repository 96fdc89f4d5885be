package main

// #include "exports.h"
import "C"

import (
	"context"
	"errors"

	"moorage/capi/internal/handle"
	"moorage/core"
	"moorage/core/registry"
)

var registrations = handle.NewTable[*registry.Registration](4) // 3 is that of snapshots, in snapshot.c

//export moorgo_register
func moorgo_register(id C.uint64_t, data, size C.uint64_t, flags C.uint32_t, out *C.uint64_t) (st C.int32_t) {
	defer guard(&st)
	s, ok := stores.Get(uint64(id))
	if !ok {
		return badHandle("store")
	}
	g, err := s.Register(uintptr(data), uint64(size), registry.Options{Lock: flags&C.MOOR_REGISTER_LOCK != 0})
	if err != nil {
		return failed(err)
	}
	h, err := registrations.Add(g)
	if err != nil {
		return failed(errors.Join(err, core.Unregister(context.Background(), g)))
	}
	g.Tag.Store(h)
	*out = C.uint64_t(h)
	return C.MOOR_OK
}

//export moorgo_registration_release
func moorgo_registration_release(id, timeout C.uint64_t) (st C.int32_t) {
	defer guard(&st)
	g, ok := registrations.Get(uint64(id))
	if !ok {
		return badHandle("registration")
	}
	ctx, cancel := within(timeout)
	defer cancel()
	err := core.Unregister(ctx, g)
	if !errors.Is(err, core.ErrTimeout) {
		registrations.Remove(uint64(id))
	}
	return status(err)
}

//export moorgo_find_registration
func moorgo_find_registration(id C.uint64_t, data, size C.uint64_t, out *C.moor_registration_info) (st C.int32_t) {
	defer guard(&st)
	s, ok := stores.Get(uint64(id))
	if !ok {
		return badHandle("store")
	}
	f, err := s.FindRegistered(uintptr(data), uint64(size))
	if err != nil {
		return failed(err)
	}
	out.offset = C.uint64_t(f.Offset)
	if f.Store {
		out.flags, out.size = C.MOOR_REGISTERED_STORE, C.uint64_t(s.Capacity())
		return C.MOOR_OK
	}
	g := f.Registration
	out.registration.id, out.size = C.uint64_t(g.Tag.Load()), C.uint64_t(g.Size())
	out.in_flight = C.uint64_t(g.InFlight())
	if g.Locked() {
		out.flags = C.MOOR_REGISTERED_LOCKED
	}
	return C.MOOR_OK
}
