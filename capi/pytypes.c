/* SPDX-License-Identifier: Apache-2.0
 *
 * Two heap types made for the running Python: a carrier, which hands one tensor to numpy, and the buffer, an object's
 * bytes with the buffer protocol.
 */
#include "pyapi.h"

static uint64_t head_size; /* of a Python object: ours begins behind it */

static void free_object(object *self) {
  object *type = py.PyObject_Type(self);
  void (*free_self)(object *) = (void (*)(object *))py.PyType_GetSlot(type, SLOT_FREE);
  free_self(self);
  py.Py_DecRef(type); /* ours */
  py.Py_DecRef(type); /* the object's: heap types are counted by their instances */
}

/* ---- the carrier ---- */

/* What numpy's from_dlpack wants to see: an object with __dlpack__. It gives its tensor once. */
typedef struct carrier {
  _Atomic(DLManagedTensorVersioned *) tensor;
} carrier;

static carrier *carrier_of(object *self) { return (carrier *)((char *)self + head_size); }
static void carrier_dealloc(object *self) {
  DLManagedTensorVersioned *tensor = atomic_load(&carrier_of(self)->tensor);
  if (tensor != NULL) tensor->deleter(tensor);
  free_object(self);
}

static object *carrier_dlpack(object *self, object *const *args, ssize count, object *names) {
  DLManagedTensorVersioned *tensor = atomic_exchange(&carrier_of(self)->tensor, NULL);
  (void)args, (void)count, (void)names;
  if (tensor != NULL) return moor_py_capsule_of(tensor);
  py.PyErr_SetString(py.buffer_error, "this tensor has been handed over already");
  return NULL;
}

object *moor_py_carrier_type(uint64_t object_size) {
  static method_def methods[] = {
      {"__dlpack__", (void *)carrier_dlpack, METH_FASTCALL | METH_KEYWORDS, NULL},
      {NULL, NULL, 0, NULL},
  };
  static type_slot slots[] = {{SLOT_DEALLOC, (void *)carrier_dealloc}, {SLOT_METHODS, (void *)methods}, {0, NULL}};
  type_spec spec = {"moorage.dlpack._Carrier", (int)(object_size + sizeof(carrier)), 0, TYPE_HAVE_VERSION_TAG, slots};
  head_size = object_size;
  return py.PyType_FromSpec(&spec);
}
object *moor_py_carry(object *type, DLManagedTensorVersioned *tensor) {
  object *carrying = py.PyType_GenericAlloc(type, 0);
  if (carrying == NULL) {
    tensor->deleter(tensor);
    return NULL;
  }
  atomic_store(&carrier_of(carrying)->tensor, tensor);
  return carrying;
}

/* ---- the buffer type ---- */

#define ALIVE (1ull << 63)

/* What an object of the type carries, behind the head of a Python object. */
typedef struct holder {
  moor_buffer buffer;
  _Atomic uint64_t state; /* {ALIVE, exports}: 0 is released */
} holder;

static holder *holder_of(object *self) { return (holder *)((char *)self + head_size); }

static int hold(holder *h) {
  uint64_t state = atomic_load(&h->state);
  do {
    if (!(state & ALIVE)) return 0;
  } while (!atomic_compare_exchange_weak(&h->state, &state, state + 1));
  return 1;
}

static void let_go(holder *h) { atomic_fetch_sub(&h->state, 1); }

static int refuse_released(void) {
  py.PyErr_SetString(py.value_error, "this buffer has been released");
  return -1;
}

static int buffer_get(object *self, py_buffer *view, int flags) {
  holder *h = holder_of(self);
  view->obj = NULL;
  if (!hold(h)) return refuse_released();
  int read_only = (h->buffer.flags & MOOR_BUFFER_READ_ONLY) != 0;
  int failed = py.PyBuffer_FillInfo(view, self, h->buffer.data, (ssize)h->buffer.size, read_only, flags);
  if (failed) let_go(h);
  return failed;
}

static void buffer_put_back(object *self, py_buffer *view) {
  (void)view;
  let_go(holder_of(self));
}

static ssize buffer_length(object *self) {
  holder *h = holder_of(self);
  if (!hold(h)) return refuse_released();
  ssize size = (ssize)h->buffer.size;
  let_go(h);
  return size;
}

static void buffer_dealloc(object *self) {
  holder *h = holder_of(self);
  if (atomic_exchange(&h->state, 0) & ALIVE) h->buffer.release(&h->buffer);
  free_object(self);
}

/* release() */
static object *buffer_release(object *self, object *unused) {
  holder *h = holder_of(self);
  uint64_t state = ALIVE;
  (void)unused;
  if (atomic_compare_exchange_strong(&h->state, &state, 0)) {
    h->buffer.release(&h->buffer);
  } else if (state & ALIVE) {
    py.PyErr_SetString(py.buffer_error, "memoryviews or arrays of this buffer still exist; let go of them first");
    return NULL;
  }
  return none();
}

static object *shape_tuple(const moor_buffer *b) {
  object *shape = py.PyTuple_New(b->ndim);
  for (int32_t i = 0; shape != NULL && i < b->ndim; i++) {
    object *n = py.PyLong_FromLongLong(b->shape[i]);
    if (n == NULL || py.PyTuple_SetItem(shape, i, n) != 0) {
      py.Py_DecRef(shape);
      return NULL;
    }
  }
  return shape;
}

/* The items are taken over; with one missing there is no tuple. */
static object *tuple_of(object **items, ssize count) {
  object *tuple = py.PyTuple_New(count);
  int whole = tuple != NULL;
  for (ssize i = 0; i < count; i++) {
    whole = whole && items[i] != NULL;
    if (tuple != NULL && items[i] != NULL)
      py.PyTuple_SetItem(tuple, i, items[i]);
    else if (items[i] != NULL)
      py.Py_DecRef(items[i]);
  }
  if (whole) return tuple;
  if (tuple != NULL) py.Py_DecRef(tuple);
  return NULL;
}

/* describe() -> (flags, code, bits, lanes, shape, meta, seq, size) */
static object *buffer_describe(object *self, object *unused) {
  holder *h = holder_of(self);
  const moor_buffer *b = &h->buffer;
  (void)unused;
  if (!hold(h)) {
    refuse_released();
    return NULL;
  }
  object *items[] = {
      py.PyLong_FromLong((long)b->flags),
      py.PyLong_FromLong(b->dtype.code),
      py.PyLong_FromLong(b->dtype.bits),
      py.PyLong_FromLong(b->dtype.lanes),
      shape_tuple(b),
      py.PyBytes_FromStringAndSize(b->meta, (ssize)b->meta_size),
      py.PyLong_FromUnsignedLongLong(b->seq),
      py.PyLong_FromUnsignedLongLong(b->size),
  };
  let_go(h);
  return tuple_of(items, sizeof items / sizeof items[0]);
}

object *moor_py_buffer_type(uint64_t object_size) {
  static method_def methods[] = {
      {"release", (void *)buffer_release, METH_NOARGS, "release()\n--\n\nGives the bytes back. Idempotent."},
      {"_describe", (void *)buffer_describe, METH_NOARGS, NULL},
      {NULL, NULL, 0, NULL},
  };
  static type_slot slots[] = {
      {SLOT_GETBUFFER, (void *)buffer_get},   {SLOT_RELEASEBUFFER, (void *)buffer_put_back},
      {SLOT_MP_LENGTH, (void *)buffer_length}, {SLOT_DEALLOC, (void *)buffer_dealloc},
      {SLOT_METHODS, (void *)methods},        {0, NULL},
  };
  type_spec spec = {"moorage.buffer._Exporter", (int)(object_size + sizeof(holder)), 0,
                    TYPE_BASETYPE | TYPE_HAVE_VERSION_TAG, slots};
  head_size = object_size;
  return py.PyType_FromSpec(&spec);
}

object *moor_py_wrap_buffer(object *type, moor_buffer *buffer) {
  object *made = py.PyType_GenericAlloc(type, 0);
  if (made == NULL) return NULL;
  holder *h = holder_of(made);
  h->buffer = *buffer;
  buffer->release = NULL;
  atomic_store(&h->state, ALIVE);
  return made;
}

static void release_tensor(moor_buffer *buffer) {
  DLManagedTensorVersioned *tensor = buffer->private_data;
  buffer->release = NULL;
  tensor->deleter(tensor);
}
object *moor_py_wrap_tensor(object *type, DLManagedTensorVersioned *tensor) {
  const DLTensor *t = &tensor->dl_tensor;
  moor_buffer buffer = {
      .version = 1,
      .flags = MOOR_BUFFER_TENSOR | (tensor->flags & DLPACK_FLAG_BITMASK_READ_ONLY ? MOOR_BUFFER_READ_ONLY : 0),
      .release = release_tensor,
      .private_data = tensor,
      .data = (char *)t->data + t->byte_offset,
      .size = tensor_bytes(t),
      .dtype = t->dtype,
      .ndim = t->ndim,
      .shape = t->shape,
  };
  return moor_py_wrap_buffer(type, &buffer);
}
