package ibv

import (
	"errors"
	"fmt"
	"syscall"
	"unsafe"
)

// ErrAbsent says that there is no library, or none that can be used.
var ErrAbsent = errors.New("libibverbs cannot be loaded")

// DefaultPath is the name under which the dynamic loader finds the library.
const DefaultPath = "libibverbs.so.1"

// Library is a loaded libibverbs. It stays loaded as long as the process lives: drivers do not survive unloading.
type Library struct {
	getDeviceList, freeDeviceList                uintptr
	openDevice, closeDevice                      uintptr
	queryDevice, queryPort, queryGID, queryGIDEx uintptr
	allocPD, deallocPD                           uintptr
	regMR, regMRIOVA, deregMR                    uintptr
	createChannel, destroyChannel                uintptr
	createCQ, destroyCQ, getCQEvent, ackCQEvents uintptr
	createQP, modifyQP, destroyQP                uintptr
	getAsyncEvent, ackAsyncEvent                 uintptr
}

// Load opens the library at path. An error is an ErrAbsent: nothing is wrong, there is no RDMA.
func Load(path string) (*Library, error) {
	if path == "" {
		path = DefaultPath
	}
	handle, err := openLibrary(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAbsent, err)
	}
	l := &Library{}
	for _, s := range []struct {
		to   *uintptr
		name string
	}{
		{&l.getDeviceList, "ibv_get_device_list"}, {&l.freeDeviceList, "ibv_free_device_list"},
		{&l.openDevice, "ibv_open_device"}, {&l.closeDevice, "ibv_close_device"},
		{&l.queryDevice, "ibv_query_device"}, {&l.queryPort, "ibv_query_port"}, {&l.queryGID, "ibv_query_gid"},
		{&l.allocPD, "ibv_alloc_pd"}, {&l.deallocPD, "ibv_dealloc_pd"},
		{&l.regMR, "ibv_reg_mr"}, {&l.deregMR, "ibv_dereg_mr"},
		{&l.createChannel, "ibv_create_comp_channel"}, {&l.destroyChannel, "ibv_destroy_comp_channel"},
		{&l.createCQ, "ibv_create_cq"}, {&l.destroyCQ, "ibv_destroy_cq"},
		{&l.getCQEvent, "ibv_get_cq_event"}, {&l.ackCQEvents, "ibv_ack_cq_events"},
		{&l.createQP, "ibv_create_qp"}, {&l.modifyQP, "ibv_modify_qp"}, {&l.destroyQP, "ibv_destroy_qp"},
		{&l.getAsyncEvent, "ibv_get_async_event"}, {&l.ackAsyncEvent, "ibv_ack_async_event"},
	} {
		if *s.to = symbol(handle, s.name); *s.to == 0 {
			return nil, fmt.Errorf("%w: %s has no %s", ErrAbsent, path, s.name)
		}
	}
	l.queryGIDEx = symbol(handle, "_ibv_query_gid_ex") // since v32
	l.regMRIOVA = symbol(handle, "ibv_reg_mr_iova")    // since v25
	return l, nil
}

func isNull(r uintptr) bool     { return r == 0 }
func isNegative(r uintptr) bool { return int32(r) < 0 }

// status turns the result of a verb that returns errno itself, or -1, into an error.
func status(r uintptr) error {
	switch code := int32(r); {
	case code == 0:
		return nil
	case code < 0:
		return syscall.EIO
	default:
		return syscall.Errno(code)
	}
}

// EachDevice calls f with every device. They are valid only until f returns; an opened context keeps its own. The error is
// ENOSYS where the kernel has no verbs.
func (l *Library) EachDevice(f func(d Device, name string) error) error {
	var n int32
	list, err := callErrno(isNull, l.getDeviceList, uintptr(unsafe.Pointer(&n)))
	if err != nil {
		return err
	}
	defer Call(l.freeDeviceList, list)
	for i := range uintptr(max(n, 0)) {
		d := loadPtr(list, i*pointerSize)
		if d == 0 {
			break
		}
		if err := f(Device(d), cString(d+deviceName, deviceNameLength)); err != nil {
			return err
		}
	}
	return nil
}
