/* SPDX-License-Identifier: Apache-2.0
 *
 * The builtins that get. Those that hand something out (tensor, array, buffer) give it, or call `look`, a Python
 * function, with (key, mode, what came instead) and give what that gives. The others answer with a status when the
 * call failed. Either way None stands for "the arguments are not what I know, look at them": Python finds the words
 * for the exception, or takes the slow road.
 */
#include "pyapi.h"

#include <stdlib.h>
#include <string.h>

/* Whether managed_to_object certainly knows this dtype. It does not say who owns a tensor that it refuses, so it is
 * only given what it cannot refuse; a capsule has no such doubt. */
static int plain_dtype(DLDataType d) {
  static const uint8_t widths[] = {
      [kDLInt] = 8 | 16 | 32 | 64, [kDLUInt] = 8 | 16 | 32 | 64, [kDLFloat] = 16 | 32 | 64,
      [kDLBfloat] = 16,            [kDLComplex] = 64 | 128,      [kDLBool] = 8,
  };
  return d.lanes == 1 && d.code < sizeof widths && (widths[d.code] & d.bits) == d.bits && d.bits != 0;
}

/* Hands the case to Python. Takes `instead` over; NULL stands for None. */
static object *look_at(object *look, object *const *args, object *instead) {
  if (instead == NULL) instead = declined();
  object *result = py.PyObject_CallFunctionObjArgs(look, args[0], args[1], instead, NULL);
  py.Py_DecRef(instead);
  return result;
}

/* GIL held for a view, else released: a window or a copy takes its time, and so does a disk. */
static void *leave_for(long mode) {
  return mode == MOOR_MODE_VIEW && !moor_may_wait() ? NULL : py.PyEval_SaveThread();
}

/* 1 and the tensor; 0 and what Python has to look at (NULL: the arguments). */
static int fetch(object *id, object *const *args, long mode, DLManagedTensorVersioned **tensor, object **instead) {
  call c;
  *instead = NULL;
  if (mode < 0 || !understand(&c, id, args[0])) return 0;
  void *thread = leave_for(mode);
  int32_t status = moor_get_tensor(c.store, c.key, c.key_size, (uint32_t)mode, tensor);
  enter_python(thread);
  if (status == MOOR_OK) return 1;
  *instead = status_object(status);
  return 0;
}

/* Takes the tensor over, in any case. A torch tensor, or NULL and in *instead a capsule that torch did not take. */
static object *to_torch(DLManagedTensorVersioned *tensor, object *from_dlpack, object **instead) {
  const exchange_table *t = moor_py_exchange();
  object *made = NULL;
  *instead = NULL;
  if (t != NULL && plain_dtype(tensor->dl_tensor.dtype)) return t->managed_to_object(tensor, &made) == 0 ? made : NULL;
  object *capsule = moor_py_capsule_of(tensor);
  if (capsule == NULL) return NULL;
  made = py.PyObject_CallFunctionObjArgs(from_dlpack, capsule, NULL);
  if (made != NULL) {
    py.Py_DecRef(capsule);
  } else {
    py.PyErr_Clear();
    *instead = capsule;
  }
  return made;
}

/* tensor(key, mode); self is (store, mode of None, look, torch's from_dlpack) */
object *moor_py_tensor(object *self, object *const *args, ssize count) {
  DLManagedTensorVersioned *tensor;
  object *made, *instead;
  if (count != 2) return wrong_count();
  long mode = mode_number(args[1], py.PyTuple_GetItem(self, 1));
  if (fetch(py.PyTuple_GetItem(self, 0), args, mode, &tensor, &instead)) {
    made = to_torch(tensor, py.PyTuple_GetItem(self, 3), &instead);
    if (made != NULL || instead == NULL) return made;
  }
  return look_at(py.PyTuple_GetItem(self, 2), args, instead);
}

/* tensor(number, mode) of a snapshot; self is (snapshot, mode of None, look, torch's from_dlpack) */
object *moor_py_snapshot_tensor(object *self, object *const *args, ssize count) {
  DLManagedTensorVersioned *tensor;
  object *made, *instead = NULL;
  if (count != 2) return wrong_count();
  long mode = mode_number(args[1], py.PyTuple_GetItem(self, 1));
  uint64_t number = mode < 0 ? 0 : py.PyLong_AsUnsignedLongLong(args[0]);
  if (mode >= 0 && py.PyErr_Occurred() == NULL) {
    moor_snapshot snapshot = {store_id(py.PyTuple_GetItem(self, 0))};
    void *thread = leave_for(mode);
    int32_t status = moor_snapshot_get_tensor(snapshot, number, (uint32_t)mode, &tensor);
    enter_python(thread);
    if (status == MOOR_OK) {
      made = to_torch(tensor, py.PyTuple_GetItem(self, 3), &instead);
      if (made != NULL || instead == NULL) return made;
    } else {
      instead = status_object(status);
    }
  }
  py.PyErr_Clear();
  return look_at(py.PyTuple_GetItem(self, 2), args, instead);
}

/* Takes the tensor over. An array; NULL without an exception when numpy did not take it. */
static object *to_numpy(DLManagedTensorVersioned *tensor, object *type, object *from_dlpack) {
  object *carrying = moor_py_carry(type, tensor);
  if (carrying == NULL) return NULL;
  object *made = py.PyObject_CallFunctionObjArgs(from_dlpack, carrying, NULL);
  if (made == NULL) py.PyErr_Clear();
  py.Py_DecRef(carrying);
  return made;
}

/* array(key, mode); self is (store, look, type of carriers, numpy's from_dlpack) */
object *moor_py_array(object *self, object *const *args, ssize count) {
  DLManagedTensorVersioned *tensor;
  object *made = NULL, *instead;
  if (count != 2) return wrong_count();
  if (fetch(py.PyTuple_GetItem(self, 0), args, mode_number(args[1], NULL), &tensor, &instead))
    made = to_numpy(tensor, py.PyTuple_GetItem(self, 2), py.PyTuple_GetItem(self, 3));
  return made != NULL ? made : look_at(py.PyTuple_GetItem(self, 1), args, instead);
}

typedef struct batch {
  ssize count;
  key_pack keys;
  DLManagedTensorVersioned **tensors;
  int32_t *statuses;
} batch;

static void free_batch(batch *b) {
  free(b->keys.bytes);
  free(b->keys.ends);
}

/* One block for everything that has an entry a key. */
static int allocate_batch(batch *b, ssize count) {
  size_t entry = sizeof *b->keys.ends + sizeof *b->keys.texts + sizeof *b->tensors + sizeof *b->statuses;
  b->count = count;
  b->keys.bytes = NULL;
  b->keys.ends = malloc((size_t)count * entry + 1);
  if (b->keys.ends == NULL) return 0;
  b->keys.texts = (const char **)(b->keys.ends + count);
  b->tensors = (DLManagedTensorVersioned **)(b->keys.texts + count);
  b->statuses = (int32_t *)(b->tensors + count);
  return 1;
}

/* The list of results, as a tuple when one of them needs a look. Takes all tensors over. */
static object *batch_result(batch *b, object *from_dlpack) {
  int look = 0;
  object *list = py.PyList_New(b->count);
  for (ssize i = 0; i < b->count; i++) {
    int ok = b->statuses[i] == MOOR_OK;
    if (list == NULL) { /* an exception is set; what is left has to be ended */
      if (ok) b->tensors[i]->deleter(b->tensors[i]);
      continue;
    }
    object *instead = NULL, *item = ok ? to_torch(b->tensors[i], from_dlpack, &instead) : status_object(b->statuses[i]);
    look |= !ok || instead != NULL;
    if (item == NULL) item = instead;
    if (item == NULL || py.PyList_SetItem(list, i, item) != 0) {
      py.Py_DecRef(list);
      list = NULL;
    }
  }
  if (list == NULL || !look) return list;
  object *tuple = py.PyList_AsTuple(list);
  py.Py_DecRef(list);
  return tuple;
}

static object *get_batch(uint64_t store, object *keys, long mode, object *from_dlpack) {
  batch b;
  object *result;
  if (!allocate_batch(&b, py.PyTuple_Size(keys))) return py.PyErr_NoMemory();
  int packed = moor_py_pack_keys(&b.keys, keys, py.PyTuple_GetItem, 0, b.count);
  if (packed == 1) {
    moor_keys packed_keys = {b.keys.bytes, b.keys.ends, (uint64_t)b.count};
    void *thread = leave_for(mode);
    int32_t status = moor_get_tensors((moor_store){store}, &packed_keys, (uint32_t)mode, b.tensors, b.statuses);
    enter_python(thread);
    result = status == MOOR_OK ? batch_result(&b, from_dlpack) : status_object(status);
  } else {
    result = packed == 0 ? declined() : py.PyErr_NoMemory();
  }
  free_batch(&b);
  return result;
}

/* tensors(keys, mode); self is (store, mode of None, torch's from_dlpack). A list; a tuple with a status or a capsule in
 * some places; a status of the call; or None. */
object *moor_py_tensors(object *self, object *const *args, ssize count) {
  if (count != 2) return wrong_count();
  long mode = mode_number(args[1], py.PyTuple_GetItem(self, 1));
  object *keys = mode < 0 ? NULL : py.PySequence_Tuple(args[0]);
  if (keys == NULL) return declined();
  object *result = get_batch(store_id(py.PyTuple_GetItem(self, 0)), keys, mode, py.PyTuple_GetItem(self, 2));
  py.Py_DecRef(keys);
  return result;
}

/* The object's size can change between asking and copying, so ask again until it fits. */
static object *copy_out(const call *c, uint64_t size) {
  for (;;) {
    object *bytes = py.PyBytes_FromStringAndSize(NULL, (ssize)size);
    if (bytes == NULL) return NULL;
    uint64_t room = size;
    char *data = py.PyBytes_AsString(bytes);
    void *thread = leave_python(gil_bytes(room));
    int32_t status = moor_get(c->store, c->key, c->key_size, data, room, &size);
    enter_python(thread);
    if (status == MOOR_OK && size == room) return bytes;
    if (status == MOOR_OK) { /* replaced by a smaller one */
      object *shorter = py.PyBytes_FromStringAndSize(data, (ssize)size);
      py.Py_DecRef(bytes);
      return shorter;
    }
    py.Py_DecRef(bytes);
    if (status != MOOR_ERR_TOO_SMALL) return status_object(status);
  }
}

/* read(key) */
object *moor_py_read(object *self, object *const *args, ssize count) {
  char small[512];
  uint64_t size = 0;
  call c;
  if (count != 1) return wrong_count();
  if (!understand(&c, self, args[0])) return declined();
  void *thread = leave_python(gil_bytes(0));
  int32_t status = moor_get(c.store, c.key, c.key_size, small, sizeof small, &size);
  enter_python(thread);
  if (status == MOOR_OK) return py.PyBytes_FromStringAndSize(small, (ssize)size);
  return status == MOOR_ERR_TOO_SMALL ? copy_out(&c, size) : status_object(status);
}

/* Where a get_into reads, and how much. */
typedef struct range {
  call c;
  uint64_t offset, nbytes;
} range;

/* args: key, out, offset, nbytes or None. 0 when one of them has to be looked at. */
static int understand_range(range *r, object *self, object *const *args) {
  if (!understand(&r->c, self, args[0])) return 0;
  r->offset = py.PyLong_AsUnsignedLongLong(args[2]);
  r->nbytes = args[3] == py.none ? MOOR_ALL : py.PyLong_AsUnsignedLongLong(args[3]);
  return py.PyErr_Occurred() == NULL && r->offset <= INT64_MAX && (args[3] == py.none || r->nbytes <= INT64_MAX);
}

static object *read_range(const range *r, void *data, uint64_t size, uint64_t weight) {
  uint64_t copied;
  moor_span span = {data, size};
  void *thread = leave_python(weight);
  int32_t status = moor_get_into(r->c.store, r->c.key, r->c.key_size, r->offset, r->nbytes, &span, 1, &copied);
  enter_python(thread);
  return status == MOOR_OK ? py.PyLong_FromUnsignedLongLong(copied) : status_object(status);
}

/* Whether the items are, or hold, pointers to Python objects, by a format of the struct module; names stand between
 * colons. */
static int holds_objects(const char *format) {
  int in_name = 0;
  for (; format != NULL && *format != 0; format++) {
    if (*format == ':') in_name = !in_name;
    if (*format == 'O' && !in_name) return 1;
  }
  return 0;
}

/* into(key, out, offset, nbytes or None): how many bytes were copied. out is one buffer. */
object *moor_py_into(object *self, object *const *args, ssize count) {
  object *result = NULL;
  py_buffer out;
  range r;
  if (count != 4) return wrong_count();
  if (!understand_range(&r, self, args) || py.PyObject_GetBuffer(args[1], &out, BUF_WRITABLE | BUF_FORMAT) != 0)
    return declined();
  int known = !holds_objects(out.format);
  if (known) result = read_range(&r, out.buf, (uint64_t)out.len, gil_bytes((uint64_t)out.len));
  py.PyBuffer_Release(&out);
  return known ? result : none();
}

static int dense(const DLTensor *t) {
  int64_t step = 1;
  for (int32_t i = t->ndim; t->strides != NULL && i-- > 0;) {
    if (t->shape[i] != 1 && t->strides[i] != step) return 0;
    step *= t->shape[i];
  }
  return 1;
}

/* into_tensor(key, torch tensor, offset, nbytes or None): the same. The caller has seen: neither conjugate nor negative. */
object *moor_py_into_tensor(object *self, object *const *args, ssize count) {
  const exchange_table *t = moor_py_exchange();
  DLManagedTensorVersioned *held = NULL;
  DLTensor out;
  range r;
  if (count != 4) return wrong_count();
  if (!understand_range(&r, self, args) || !moor_py_borrow(t, args[1], &out) || !dense(&out)) return declined();
  uint64_t size = tensor_bytes(&out), weight = gil_bytes(size);
  if (weight >= KEEP_GIL) { /* the GIL will be released */
    if (t->managed_from_object(args[1], &held) != 0) return declined();
    out = held->dl_tensor;
  }
  object *result = read_range(&r, (char *)out.data + out.byte_offset, size, weight);
  if (held != NULL && held->deleter != NULL) held->deleter(held);
  return result;
}

/* has(key) */
object *moor_py_has(object *self, object *const *args, ssize count) {
  uint8_t found;
  call c;
  if (count != 1) return wrong_count();
  if (!understand(&c, self, args[0])) return declined();
  moor_keys one = {c.key, &c.key_size, 1};
  int32_t status = moor_exists(c.store, &one, &found);
  return status_object(status == MOOR_OK ? found : status);
}

/* buffer(key, mode); self is (store, look, type of buffers) */
object *moor_py_buffer(object *self, object *const *args, ssize count) {
  moor_buffer buffer;
  call c;
  if (count != 2) return wrong_count();
  object *look = py.PyTuple_GetItem(self, 1);
  long mode = mode_number(args[1], NULL);
  if (mode < 0 || !understand(&c, py.PyTuple_GetItem(self, 0), args[0])) return look_at(look, args, NULL);
  void *thread = leave_for(mode);
  int32_t status = moor_get_buffer(c.store, c.key, c.key_size, (uint32_t)mode, &buffer);
  enter_python(thread);
  if (status != MOOR_OK) return look_at(look, args, status_object(status));
  object *made = moor_py_wrap_buffer(py.PyTuple_GetItem(self, 2), &buffer);
  if (made == NULL) buffer.release(&buffer);
  return made;
}
