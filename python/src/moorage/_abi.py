"""The C ABI as ctypes sees it: constants, structs, declarations. Tests compare all of it with moorage.h.

Nothing here loads the library; see `_lib`.
"""

from __future__ import annotations

import ctypes
from ctypes import (
    POINTER,
    Structure,
    c_char,
    c_char_p,
    c_int32,
    c_int64,
    c_uint8,
    c_uint16,
    c_uint32,
    c_uint64,
    c_void_p,
)
from typing import Any, Callable

ABI_LEVEL = 1
MAX_KEY = 4096
MAX_META = 4096
MAX_DIMS = 64
ALL = 2**64 - 1
LIST_END = 2**64 - 1

STATUS = {
    "MOOR_OK": 0,
    "MOOR_ERR_INVALID_ARGUMENT": -1,
    "MOOR_ERR_BAD_HANDLE": -2,
    "MOOR_ERR_FORKED": -3,
    "MOOR_ERR_NOT_FOUND": -4,
    "MOOR_ERR_EXISTS": -5,
    "MOOR_ERR_CAPACITY": -6,
    "MOOR_ERR_NO_MEMORY": -7,
    "MOOR_ERR_BUSY": -8,
    "MOOR_ERR_TOO_SMALL": -9,
    "MOOR_ERR_READ_ONLY": -10,
    "MOOR_ERR_UNSUPPORTED": -11,
    "MOOR_ERR_HUGE_PAGES": -12,
    "MOOR_ERR_ALREADY_ADOPTED": -13,
    "MOOR_ERR_CANCELLED": -14,
    "MOOR_ERR_IO": -15,
    "MOOR_ERR_FORMAT": -16,
    "MOOR_ERR_SYSTEM": -17,
    "MOOR_ERR_INTERNAL": -18,
    "MOOR_ERR_TIMEOUT": -19,
    "MOOR_ERR_NO_DEVICE": -20,
}
OK = 0
IN_PROGRESS = 1
NOT_FOUND = STATUS["MOOR_ERR_NOT_FOUND"]
TOO_SMALL = STATUS["MOOR_ERR_TOO_SMALL"]
CANCELLED = STATUS["MOOR_ERR_CANCELLED"]
TIMEOUT = STATUS["MOOR_ERR_TIMEOUT"]
FORKED = STATUS["MOOR_ERR_FORKED"]

STORED, KEPT, ADOPTED = 0, 1, 2
MODES = {"view": 0, "cow": 1, "copy": 2}
IF_EXISTS = {"replace": 0, "keep": 1, "raise": 2}
EVICTION = {"none": 0, "s3fifo": 1}
HUGEPAGES = {"auto": 0, "try": 1, "require": 2, "off": 3}
PREFAULT = {"none": 0, "background": 1, "open": 2}
DURABILITY = {"none": 1, "batch": 2, "each": 3}
VERIFY = {"always": 0, "sampled": 1, "off": 2}
PROMOTE = {"always": 0, "second hit": 1, "never": 2}
WRITE = {"back": 0, "through": 1}
READ_PATH = {"direct": 0, "buffered": 1, "mmap": 2}
REGISTERING = {"auto": 0, "never": 1, "always": 2, "require": 3}
CLOSE_WAIT = 1
PUT_AS_BYTES = 1
PUT_ATOMIC = 4
SNAPSHOT_FORKED = 1
REGISTER_LOCK = 1
REGISTERED_STORE, REGISTERED_LOCKED = 1, 2
COMPLETION_LAST = 1
JOB_GET, JOB_GET_INTO, JOB_PUT, JOB_PREFETCH, JOB_EXISTS, JOB_REMOVE, JOB_PERSIST = range(1, 8)
MISSING = {"nothing": 0, "platform": 1, "library": 2, "kernel": 3, "device": 4, "permission": 5, "active_port": 6}
LINKS = {"unknown": 0, "infiniband": 1, "ethernet": 2}
DEVICE_NAME = 64
BUFFER_READ_ONLY, BUFFER_TENSOR, BUFFER_COPIED = 1, 2, 4
DESC_TENSOR, DESC_PINNED, DESC_ADOPTED, DESC_ON_DISK = 1, 2, 4, 8
BORROW_UNNAMED, BORROW_RESERVED, BORROW_CHILD = 1, 2, 4

DL_CPU = 1
DL_MAJOR = 1
DL_READ_ONLY = 1
DL_PADDED = 4  # elements of less than a byte take one each


class DLDevice(Structure):
    _fields_ = [("device_type", c_int32), ("device_id", c_int32)]


class DLDataType(Structure):
    _fields_ = [("code", c_uint8), ("bits", c_uint8), ("lanes", c_uint16)]


class DLTensor(Structure):
    _fields_ = [
        ("data", c_void_p),
        ("device", DLDevice),
        ("ndim", c_int32),
        ("dtype", DLDataType),
        ("shape", POINTER(c_int64)),
        ("strides", POINTER(c_int64)),
        ("byte_offset", c_uint64),
    ]


class DLPackVersion(Structure):
    _fields_ = [("major", c_uint32), ("minor", c_uint32)]


class DLManagedTensor(Structure):
    _fields_ = [("dl_tensor", DLTensor), ("manager_ctx", c_void_p), ("deleter", c_void_p)]


class DLManagedTensorVersioned(Structure):
    _fields_ = [
        ("version", DLPackVersion),
        ("manager_ctx", c_void_p),
        ("deleter", c_void_p),
        ("flags", c_uint64),
        ("dl_tensor", DLTensor),
    ]


class DiskOptions(Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("durability", c_uint32),
        ("path", c_char_p),
        ("capacity", c_uint64),
        ("verify", c_uint32),
        ("promote", c_uint32),
        ("write", c_uint32),
        ("read_path", c_uint32),
        ("trace", c_char_p),
    ]


class StoreOptions(Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("eviction", c_uint32),
        ("capacity", c_uint64),
        ("hugepages", c_uint32),
        ("prefault", c_uint32),
        ("disk", POINTER(DiskOptions)),
        ("registering", c_uint32),
        ("reserved", c_uint32),
    ]


class PutOptions(Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("if_exists", c_uint32),
        ("meta", c_void_p),
        ("meta_size", c_uint64),
        ("flags", c_uint32),
        ("reserved", c_uint32),
    ]


class PutResult(Structure):
    _fields_ = [("seq", c_uint64), ("outcome", c_uint32), ("reserved", c_uint32)]


class Part(Structure):
    _fields_ = [("data", c_void_p), ("size", c_uint64)]


class Span(Structure):
    _fields_ = [("data", c_void_p), ("size", c_uint64)]


class Buffer(Structure):
    _fields_ = [
        ("version", c_uint32),
        ("flags", c_uint32),
        ("release", c_void_p),
        ("private_data", c_void_p),
        ("data", c_void_p),
        ("size", c_uint64),
        ("seq", c_uint64),
        ("dtype", DLDataType),
        ("ndim", c_int32),
        ("shape", POINTER(c_int64)),
        ("meta", c_void_p),
        ("meta_size", c_uint64),
    ]


class Description(Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("flags", c_uint32),
        ("size", c_uint64),
        ("extent", c_uint64),
        ("seq", c_uint64),
        ("views", c_uint64),
        ("dtype", DLDataType),
        ("ndim", c_int32),
        ("shape", c_int64 * MAX_DIMS),
        ("meta_size", c_uint64),
        ("meta", c_uint8 * MAX_META),
    ]


class Borrow(Structure):
    _fields_ = [
        ("key_end", c_uint64),
        ("views", c_uint64),
        ("size", c_uint64),
        ("seq", c_uint64),
        ("flags", c_uint32),
        ("record", c_uint32),
    ]


class Keys(Structure):
    _fields_ = [("bytes", c_void_p), ("ends", c_void_p), ("count", c_uint64)]


class Stats(Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("hugepages", c_uint32),
        ("capacity", c_uint64),
        ("used", c_uint64),
        ("free_warm", c_uint64),
        ("free_cold", c_uint64),
        ("largest_free", c_uint64),
        ("resident", c_uint64),
        ("metadata", c_uint64),
        ("objects", c_uint64),
        ("pinned_objects", c_uint64),
        ("pinned_bytes", c_uint64),
        ("borrowed_objects", c_uint64),
        ("borrowed_bytes", c_uint64),
        ("held_bytes", c_uint64),
        ("children", c_uint64),
        ("children_unfollowed", c_uint64),
        ("windows", c_uint64),
        ("puts", c_uint64),
        ("gets", c_uint64),
        ("misses", c_uint64),
        ("removes", c_uint64),
        ("evictions", c_uint64),
        ("adoptions", c_uint64),
        ("adopt_copies", c_uint64),
        ("bytes_copied_in", c_uint64),
        ("bytes_copied_out", c_uint64),
        ("window_copies", c_uint64),
        ("protected_extents", c_uint64),
        ("last_seq", c_uint64),
        ("registrations", c_uint64),
        ("registered_bytes", c_uint64),
        ("locked_bytes", c_uint64),
        ("devices", c_uint64),
        ("slab_bytes", c_uint64),
        ("device_registrations", c_uint64),
        ("register_ns", c_uint64),
        ("registering", c_uint32),
        ("reserved", c_uint32),
    ]


class RegisterOptions(Structure):
    _fields_ = [("struct_size", c_uint32), ("flags", c_uint32)]


class RegistrationInfo(Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("flags", c_uint32),
        ("registration", c_uint64),
        ("offset", c_uint64),
        ("size", c_uint64),
        ("in_flight", c_uint64),
    ]


class Device(Structure):
    _fields_ = [
        ("name", c_char * DEVICE_NAME),
        ("refusal", c_char * 256),
        ("port", c_uint32),
        ("link", c_uint32),
        ("active", c_uint32),
        ("numa_node", c_int32),
    ]


class DeviceList(Structure):
    _fields_ = [("struct_size", c_uint32), ("missing", c_uint32), ("count", c_uint64), ("text", c_char * 512)]


class DeviceStats(Structure):
    _fields_ = [
        ("name", c_char * DEVICE_NAME),
        ("regions", c_uint64),
        ("bytes", c_uint64),
        ("registrations", c_uint64),
        ("register_ns", c_uint64),
    ]


class SnapshotInfo(Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("flags", c_uint32),
        ("objects", c_uint64),
        ("bytes", c_uint64),
        ("child_windows", c_uint64),
        ("child_window_copies", c_uint64),
        ("child_bytes_copied", c_uint64),
    ]


class Completion(Structure):
    _fields_ = [
        ("job", c_uint64),
        ("tag", c_uint64),
        ("index", c_uint64),
        ("status", c_int32),
        ("flags", c_uint32),
        ("value", c_uint64),
        ("outcome", c_uint32),
        ("reserved", c_uint32),
        ("wait_ns", c_uint64),
        ("run_ns", c_uint64),
    ]


Progress = ctypes.CFUNCTYPE(c_int32, c_void_p, c_uint64, c_uint64)


class DiskStats(Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("memory_backed", c_uint32),
        ("capacity", c_uint64),
        ("used", c_uint64),
        ("objects", c_uint64),
        ("resident_objects", c_uint64),
        ("recovered_objects", c_uint64),
        ("lost_objects", c_uint64),
        ("reads", c_uint64),
        ("bytes_read", c_uint64),
        ("shared_reads", c_uint64),
        ("writes", c_uint64),
        ("bytes_written", c_uint64),
        ("promotions", c_uint64),
        ("demotions", c_uint64),
        ("evictions", c_uint64),
        ("damaged", c_uint64),
        ("bytes_bounced", c_uint64),
        ("by_uring_fixed", c_uint64),
        ("by_uring", c_uint64),
        ("by_direct", c_uint64),
        ("by_buffered", c_uint64),
        ("fallbacks", c_uint64),
    ]


class DirectoryInfo(Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("direct", c_uint32),
        ("memory_backed", c_uint32),
        ("rotational", c_uint32),
        ("memory_align", c_uint32),
        ("offset_align", c_uint32),
        ("size", c_uint64),
        ("free", c_uint64),
        ("file_system", c_char * 32),
        ("device", c_char * 64),
        ("model", c_char * 64),
        ("memory", c_char * 128),
        ("not_direct", c_char * 128),
    ]


class Distribution(Structure):
    _fields_ = [
        ("count", c_uint64),
        ("sum", c_int64),
        ("min", c_int64),
        ("max", c_int64),
        ("p50", c_int64),
        ("p95", c_int64),
        ("p99", c_int64),
        ("p999", c_int64),
    ]


class Timing(Structure):
    _fields_ = [
        ("kind", c_uint32),
        ("outcome", c_uint32),
        ("count", c_uint64),
        ("failed", c_uint64),
        ("cancelled", c_uint64),
        ("bytes", c_uint64),
        ("shared", c_uint64),
        ("paths", c_uint64 * 8),
        ("chunks", c_uint64),
        ("chunk_sum", c_int64),
        ("chunk_max", c_int64),
        ("total", Distribution),
        ("device", Distribution),
        ("host", Distribution),
        ("lookup", Distribution),
        ("queue_wait", Distribution),
        ("buffer_wait", Distribution),
        ("submit", Distribution),
        ("complete", Distribution),
        ("verify", Distribution),
        ("copy", Distribution),
        ("other", Distribution),
        ("verify_overlapped", Distribution),
    ]


class Operation(Structure):
    _fields_ = [
        ("sequence", c_uint64),
        ("kind", c_uint32),
        ("outcome", c_uint32),
        ("path", c_uint32),
        ("durability", c_uint32),
        ("flags", c_uint32),
        ("depth", c_uint32),
        ("chunks", c_uint32),
        ("reserved", c_uint32),
        ("bytes", c_uint64),
        ("t0", c_int64),
        ("t1", c_int64),
        ("t2", c_int64),
        ("t3", c_int64),
        ("lookup", c_int64),
        ("queue_wait", c_int64),
        ("buffer_wait", c_int64),
        ("submit", c_int64),
        ("complete", c_int64),
        ("verify", c_int64),
        ("copy", c_int64),
        ("verify_overlapped", c_int64),
        ("chunk_min", c_int64),
        ("chunk_max", c_int64),
        ("chunk_sum", c_int64),
    ]


class TimingsInfo(Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("reserved", c_uint32),
        ("recorded", c_uint64),
        ("inconsistent", c_uint64),
        ("trace_written", c_uint64),
        ("trace_dropped", c_uint64),
        ("stamp_ps", c_uint64),
        ("record_ps", c_uint64),
    ]


class FileOptions(Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("if_exists", c_uint32),
        ("progress", Progress),
        ("context", c_void_p),
    ]


# The struct in C for each one here.
STRUCTS = {
    "DLDevice": DLDevice,
    "DLDataType": DLDataType,
    "DLTensor": DLTensor,
    "DLPackVersion": DLPackVersion,
    "DLManagedTensor": DLManagedTensor,
    "DLManagedTensorVersioned": DLManagedTensorVersioned,
    "moor_store_options": StoreOptions,
    "moor_disk_options": DiskOptions,
    "moor_disk_stats": DiskStats,
    "moor_directory_info": DirectoryInfo,
    "moor_distribution": Distribution,
    "moor_timing": Timing,
    "moor_operation": Operation,
    "moor_timings_info": TimingsInfo,
    "moor_put_options": PutOptions,
    "moor_put_result": PutResult,
    "moor_part": Part,
    "moor_span": Span,
    "moor_buffer": Buffer,
    "moor_description": Description,
    "moor_borrow": Borrow,
    "moor_keys": Keys,
    "moor_stats": Stats,
    "moor_file_options": FileOptions,
    "moor_snapshot_info": SnapshotInfo,
    "moor_completion": Completion,
    "moor_register_options": RegisterOptions,
    "moor_registration_info": RegistrationInfo,
    "moor_device": Device,
    "moor_device_list": DeviceList,
    "moor_device_stats": DeviceStats,
}

# A handle is a struct of one uint64_t, which every ABI we run on passes as that integer.
_store = c_uint64
_reservation = c_uint64
_snapshot = c_uint64
_registration = c_uint64
_queue = c_uint64
_job = c_uint64
_out = c_void_p  # any out parameter: byref() of the right type, or an array
_key = (c_char_p, c_uint64)
_options = POINTER(PutOptions)
_result = POINTER(PutResult)
_tensor = POINTER(DLTensor)
_keys = POINTER(Keys)

# name: (restype, argtypes). Hot functions are declared without argtypes by `_lib` (HOT).
FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "moor_version": (c_char_p, ()),
    "moor_abi_level": (c_int32, ()),
    "moor_status_name": (c_char_p, (c_int32,)),
    "moor_last_error": (c_char_p, ()),
    "moor_store_open": (c_int32, (POINTER(StoreOptions), _out)),
    "moor_store_close": (c_int32, (_store, c_uint32)),
    "moor_put": (c_int32, (_store, *_key, c_void_p, c_uint64, _options, _result)),
    "moor_put_parts": (c_int32, (_store, *_key, c_void_p, c_uint64, _options, _result)),
    "moor_put_tensor": (c_int32, (_store, *_key, _tensor, _options, _result)),
    "moor_reserve": (c_int32, (_store, c_uint64, _out, _out)),
    "moor_commit": (c_int32, (_reservation, *_key, _tensor, _options, _result)),
    "moor_abort": (c_int32, (_reservation,)),
    "moor_empty_tensor": (c_int32, (_store, _tensor, _out)),
    "moor_adopt_tensor": (c_int32, (_store, *_key, _tensor, _options, _result)),
    "moor_get_tensor": (c_int32, (_store, *_key, c_uint32, _out)),
    "moor_get_tensor_unversioned": (c_int32, (_store, *_key, c_uint32, _out)),
    "moor_get_buffer": (c_int32, (_store, *_key, c_uint32, POINTER(Buffer))),
    "moor_get": (c_int32, (_store, *_key, c_void_p, c_uint64, _out)),
    "moor_get_into": (c_int32, (_store, *_key, c_uint64, c_uint64, c_void_p, c_uint64, _out)),
    "moor_take_tensor": (c_int32, (_store, *_key, _out)),
    "moor_remove": (c_int32, (_store, *_key)),
    "moor_clear": (c_int32, (_store, _out)),
    "moor_pin": (c_int32, (_store, *_key)),
    "moor_unpin": (c_int32, (_store, *_key)),
    "moor_describe": (c_int32, (_store, *_key, POINTER(Description))),
    "moor_list_keys": (c_int32, (_store, *_key, _out, c_void_p, c_uint64, c_void_p, c_uint64, _out)),
    "moor_list_borrows": (c_int32, (_store, c_void_p, c_uint64, c_void_p, c_uint64, _out, _out)),
    "moor_get_tensors": (c_int32, (_store, _keys, c_uint32, _out, _out)),
    "moor_get_buffers": (c_int32, (_store, _keys, c_uint32, POINTER(Buffer), _out)),
    "moor_put_batch": (c_int32, (_store, _keys, c_void_p, c_void_p, _options, _result, _out)),
    "moor_put_tensors": (c_int32, (_store, _keys, c_void_p, _options, _result, _out)),
    "moor_get_batch_into": (c_int32, (_store, _keys, c_void_p, c_void_p, c_void_p, c_void_p, _out, _out)),
    "moor_remove_batch": (c_int32, (_store, _keys, _out)),
    "moor_exists": (c_int32, (_store, _keys, _out)),
    "moor_count_leading": (c_int32, (_store, _keys, _out)),
    "moor_count_objects": (c_int32, (_store, _out, _out)),
    "moor_wait": (c_int32, (_store, _keys, c_uint64)),
    "moor_snapshot_open": (c_int32, (_store, _keys, *_key, _out)),
    "moor_snapshot_close": (c_int32, (_snapshot,)),
    "moor_snapshot_get_keys": (c_int32, (_snapshot, _keys)),
    "moor_snapshot_find": (c_int32, (_snapshot, *_key, _out)),
    "moor_snapshot_get_tensor": (c_int32, (_snapshot, c_uint64, c_uint32, _out)),
    "moor_snapshot_get_tensor_unversioned": (c_int32, (_snapshot, c_uint64, c_uint32, _out)),
    "moor_snapshot_get_buffer": (c_int32, (_snapshot, c_uint64, c_uint32, POINTER(Buffer))),
    "moor_snapshot_get_info": (c_int32, (_snapshot, POINTER(SnapshotInfo))),
    "moor_queue_open": (c_int32, (_out,)),
    "moor_queue_close": (c_int32, (_queue,)),
    "moor_queue_get_fd": (c_int32, (_queue, _out)),
    "moor_queue_drain": (c_int32, (_queue, POINTER(Completion), c_uint64, _out)),
    "moor_submit_keys": (c_int32, (_store, _queue, c_uint32, _keys, c_uint64, _out)),
    "moor_submit_get_into": (
        c_int32,
        (_store, _queue, _keys, c_void_p, c_void_p, c_void_p, c_void_p, c_uint64, _out),
    ),
    "moor_submit_put": (c_int32, (_store, _queue, _keys, c_void_p, c_void_p, _options, c_uint64, _out)),
    "moor_submit_put_tensors": (c_int32, (_store, _queue, _keys, c_void_p, _options, c_uint64, _out)),
    "moor_job_cancel": (c_int32, (_job,)),
    "moor_job_wait": (c_int32, (_job, c_uint64)),
    "moor_job_get_status": (c_int32, (_job, c_uint64)),
    "moor_job_get_results": (c_int32, (_job, c_uint64, c_uint64, POINTER(Completion))),
    "moor_job_get_tensors": (c_int32, (_job, c_uint64, c_uint64, c_uint32, _out, _out)),
    "moor_job_get_tensors_unversioned": (c_int32, (_job, c_uint64, c_uint64, c_uint32, _out, _out)),
    "moor_job_get_buffers": (c_int32, (_job, c_uint64, c_uint64, c_uint32, POINTER(Buffer), _out)),
    "moor_job_close": (c_int32, (_job,)),
    "moor_register_memory": (c_int32, (_store, c_void_p, c_uint64, POINTER(RegisterOptions), _out)),
    "moor_registration_release": (c_int32, (_registration, c_uint64)),
    "moor_find_registration": (c_int32, (_store, c_void_p, c_uint64, POINTER(RegistrationInfo))),
    "moor_persist": (c_int32, (_store, _keys, _out)),
    "moor_flush": (c_int32, (_store,)),
    "moor_get_disk_stats": (c_int32, (_store, POINTER(DiskStats))),
    "moor_inspect_directory": (c_int32, (c_char_p, POINTER(DirectoryInfo))),
    "moor_get_timings": (c_int32, (_store, c_void_p, c_uint64, _out, POINTER(TimingsInfo))),
    "moor_list_operations": (c_int32, (_store, c_void_p, c_uint64, _out)),
    "moor_list_devices": (c_int32, (_out, c_uint64, POINTER(DeviceList))),
    "moor_attach_device": (c_int32, (_store, c_char_p, _out)),
    "moor_detach_device": (c_int32, (_store, c_char_p, c_uint64)),
    "moor_explain_device": (c_int32, (c_char_p, c_uint32, _out, c_uint64)),
    "moor_list_attached": (c_int32, (_store, _out, c_uint64, _out)),
    "moor_get_stats": (c_int32, (_store, POINTER(Stats))),
    "moor_trim": (c_int32, (_store, _out)),
    "moor_import_safetensors": (c_int32, (_store, c_char_p, *_key, POINTER(FileOptions), _out)),
    "moor_export_safetensors": (c_int32, (_store, c_char_p, _keys, c_uint64, POINTER(FileOptions))),
}

# Called without argtypes: converting an argument costs more than some of these calls. The caller passes ctypes
# objects of the right width for all that is wider than an int.
HOT = frozenset(
    {
        "moor_get_tensor", "moor_get_tensor_unversioned", "moor_get_buffer", "moor_get_tensors",
        "moor_snapshot_get_tensor", "moor_snapshot_get_tensor_unversioned", "moor_snapshot_get_buffer",
    }
)  # fmt: skip

# What capi/py*.c export for this package, called with the GIL held.
PYTHON_FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "moor_py_ready": (c_int32, ()),
    "moor_py_bind": (ctypes.py_object, (c_int32, ctypes.py_object)),
    "moor_py_use_exchange": (c_int32, (c_void_p,)),
    "moor_py_buffer_type": (ctypes.py_object, (c_uint64,)),
    "moor_py_wrap_buffer": (ctypes.py_object, (ctypes.py_object, POINTER(Buffer))),
    "moor_py_wrap_tensor": (ctypes.py_object, (ctypes.py_object, c_void_p)),
    "moor_py_carrier_type": (ctypes.py_object, (c_uint64,)),
    "moor_py_capsule_end": (None, (ctypes.py_object,)),
    "moor_py_listen": (None, (c_void_p, c_void_p)),
    "moor_py_note_tensor": (c_void_p, (c_void_p, POINTER(c_uint32))),
    "moor_py_note_unversioned": (c_void_p, (c_void_p, POINTER(c_uint32))),
    "moor_py_note_buffer": (c_void_p, (POINTER(Buffer), POINTER(c_uint32))),
    "moor_py_note_viewed": (c_int32, (c_void_p,)),
    "moor_py_note_drop": (None, (c_void_p,)),
}

ReleaseBuffer: Callable[..., Any] = ctypes.CFUNCTYPE(None, POINTER(Buffer))
DeleteTensor: Callable[..., Any] = ctypes.CFUNCTYPE(None, c_void_p)
