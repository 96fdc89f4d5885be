package main

// #include "exports.h"
import "C"

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"moorage/core/cost"
	"moorage/core/registry"
	"moorage/core/verbs"
	"moorage/rdma"
)

// What is missing is counted alike on both sides.
var (
	_ = [1]struct{}{}[C.MOOR_MISSING_PLATFORM-rdma.NoPlatform]
	_ = [1]struct{}{}[C.MOOR_MISSING_LIBRARY-rdma.NoLibrary]
	_ = [1]struct{}{}[C.MOOR_MISSING_KERNEL-rdma.NoKernel]
	_ = [1]struct{}{}[C.MOOR_MISSING_DEVICE-rdma.NoDevice]
	_ = [1]struct{}{}[C.MOOR_MISSING_PERMISSION-rdma.NoPermission]
	_ = [1]struct{}{}[C.MOOR_MISSING_ACTIVE_PORT-rdma.NoActivePort]
)

//export moorgo_list_devices
func moorgo_list_devices(devices *C.moor_device, size C.uint64_t, out *C.moor_device_list) (st C.int32_t) {
	defer guard(&st)
	found, err := verbs.List()
	var missing *rdma.UnavailableError
	switch {
	case errors.As(err, &missing):
		out.missing = C.uint32_t(missing.Reason)
		giveText(out.text[:], missing.Error())
	case err != nil:
		return deviceFailed(err)
	}
	out.count = C.uint64_t(len(found))
	for i, d := range given(devices, size, len(found)) {
		giveDevice(found[i], d)
	}
	return C.MOOR_OK
}

// given are the first n of size elements in memory of C's.
func given[T any](p *T, size C.uint64_t, n int) []*T {
	all := make([]*T, min(uint64(size), uint64(n)))
	for i := range all {
		all[i] = (*T)(unsafe.Add(unsafe.Pointer(p), uintptr(i)*unsafe.Sizeof(*p)))
	}
	return all
}

func giveDevice(i verbs.Info, out *C.moor_device) {
	*out = C.moor_device{port: C.uint32_t(i.Port), numa_node: C.int32_t(i.NUMANode)}
	giveText(out.name[:], i.Name)
	if i.Err != nil {
		giveText(out.refusal[:], i.Err.Error())
	}
	switch i.Link {
	case "InfiniBand":
		out.link = C.MOOR_LINK_INFINIBAND
	case "Ethernet":
		out.link = C.MOOR_LINK_ETHERNET
	}
	if i.Active {
		out.active = 1
	}
}

// giveText fills an array that is zero with what fits of a text, and its end.
func giveText(out []C.char, text string) {
	for i := 0; i < len(text) && i < len(out)-1; i++ {
		out[i] = C.char(text[i])
	}
}

//export moorgo_attach_device
func moorgo_attach_device(id C.uint64_t, name C.moor_cstring, nameOut *C.char) (st C.int32_t) {
	defer guard(&st)
	s, ok := stores.Get(uint64(id))
	if !ok {
		return badHandle("store")
	}
	s.attaching.Lock()
	defer s.attaching.Unlock()
	wanted := C.GoString(name)
	if s.attached(wanted) != nil {
		return isAttached(wanted)
	}
	d, err := verbs.Open(wanted, verbs.Options{})
	if err != nil {
		return deviceFailed(noSuchDevice(wanted, err))
	}
	if s.attached(d.Name()) != nil {
		_ = d.Close() // nothing is on it
		return isAttached(d.Name())
	}
	if _, err := s.Attach(d); err != nil {
		return failed(errors.Join(err, d.Close()))
	}
	giveText(unsafe.Slice(nameOut, C.MOOR_DEVICE_NAME), d.Name())
	return C.MOOR_OK
}

// attached is the device of that name, nil if the store does not have it.
func (s *store) attached(name string) *registry.Attached {
	for _, a := range s.Registry().Devices() {
		if a.Name() == name {
			return a
		}
	}
	return nil
}

func isAttached(name string) C.int32_t {
	setText(fmt.Sprintf("the store has the device %s already", name))
	return C.MOOR_ERR_EXISTS
}

// noSuchDevice says beside a name that no device has which names there are.
func noSuchDevice(name string, err error) error {
	if !errors.Is(err, rdma.ErrInvalid) {
		return err
	}
	found, _ := verbs.List()
	names := make([]string, len(found))
	for i, d := range found {
		names[i] = d.Name
	}
	if len(names) == 0 {
		names = []string{"none"}
	}
	return fmt.Errorf("%w; there is: %s", err, strings.Join(names, ", "))
}

// deviceFailed gives the status of what opening or listing devices ended with.
func deviceFailed(err error) C.int32_t {
	setText(err.Error())
	for _, none := range []error{rdma.ErrUnavailable, rdma.ErrInvalid, rdma.ErrDevice} {
		if errors.Is(err, none) {
			return C.MOOR_ERR_NO_DEVICE
		}
	}
	if errors.Is(err, unix.ENOMEM) {
		return C.MOOR_ERR_NO_MEMORY
	}
	return C.MOOR_ERR_SYSTEM
}

//export moorgo_detach_device
func moorgo_detach_device(id C.uint64_t, name C.moor_cstring, timeout C.uint64_t) (st C.int32_t) {
	defer guard(&st)
	s, ok := stores.Get(uint64(id))
	if !ok {
		return badHandle("store")
	}
	a := s.attached(C.GoString(name))
	if a == nil {
		setText(fmt.Sprintf("the store has no device %s", C.GoString(name)))
		return C.MOOR_ERR_NOT_FOUND
	}
	ctx, cancel := within(timeout)
	defer cancel()
	return status(s.Detach(ctx, a))
}

// within ends after so many nanoseconds; a very large number is for ever.
func within(timeout C.uint64_t) (context.Context, context.CancelFunc) {
	if timeout >= math.MaxInt64 {
		return context.Background(), func() {}
	}
	return context.WithTimeout(context.Background(), time.Duration(timeout))
}

//export moorgo_explain_device
func moorgo_explain_device(name C.moor_cstring, registering C.uint32_t, out *C.char, size C.uint64_t) (st C.int32_t) {
	defer guard(&st)
	if _, err := host(); err != nil { // the copy threads are its
		return failed(err)
	}
	wanted := C.GoString(name)
	d, err := verbs.Open(wanted, verbs.Options{})
	if err != nil {
		return deviceFailed(noSuchDevice(wanted, err))
	}
	var endless atomic.Uint32 // nothing is closed meanwhile
	figures, err := d.Figures(func(dst, src, n uintptr) { copyC(dst, src, n, &endless) })
	if err = errors.Join(err, d.Close()); err != nil {
		return deviceFailed(err)
	}
	model := cost.Model{Policy: cost.Policy(registering), Figures: figures}
	explained := model.Explain()
	text := unsafe.Slice(out, min(uint64(size), uint64(len(explained))+1))
	giveText(text, explained)
	text[len(text)-1] = 0
	return C.MOOR_OK
}

//export moorgo_list_attached
func moorgo_list_attached(id C.uint64_t, stats *C.moor_device_stats, size C.uint64_t, countOut *C.uint64_t) (st C.int32_t) {
	defer guard(&st)
	s, ok := stores.Get(uint64(id))
	if !ok {
		return badHandle("store")
	}
	all := s.Registry().Devices()
	for i, out := range given(stats, size, len(all)) {
		d := all[i].Stats()
		*out = C.moor_device_stats{
			regions: C.uint64_t(d.Regions), bytes: C.uint64_t(d.Bytes), registrations: C.uint64_t(d.Registered),
			register_ns: C.uint64_t(d.Time),
		}
		giveText(out.name[:], d.Name)
	}
	*countOut = C.uint64_t(len(all))
	return C.MOOR_OK
}
