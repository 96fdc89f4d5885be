/* SPDX-License-Identifier: Apache-2.0
 *
 * Builtin functions and a buffer type for Python, made without Python.h.
 *
 * ctypes alone costs two to three times what torch.from_dlpack does (most of it converting arguments). A builtin
 * function does not, and all that one needs has been exported by name, unchanged, since Python 3.7: it is found with
 * dlsym when the package asks for it. So one library file serves every Python, and a Python without these names falls
 * back to plain ctypes.
 *
 * Two kinds of builtin. Those that hand something out (tensor, array, buffer) give it, or call `look`, a Python
 * function, with (key, mode, what came instead) and give what that gives. The others answer with a status when the
 * call failed. Either way None stands for "the arguments are not what I know, look at them": Python finds the words
 * for the exception, or takes the slow road.
 *
 * The GIL is held for a look-up in mode view, which neither copies nor waits, and released for everything else that
 * is not small. While it is released we touch no Python object; the caller's references keep the arguments alive.
 */
#define _GNU_SOURCE
#include "pybuiltin.h"
#include "layout.h"

#include <dlfcn.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

typedef moor_py_object object;
typedef intptr_t ssize;

/* ---- the C API of Python ---- */

typedef object *(*fastcall)(object *self, object *const *args, ssize count);

typedef struct method_def {
  const char *name;
  void *function;
  int flags;
  const char *doc;
} method_def;
#define METH_NOARGS 0x4
#define METH_KEYWORDS 0x2
#define METH_FASTCALL 0x80

typedef struct type_slot {
  int slot;
  void *function;
} type_slot;

typedef struct type_spec {
  const char *name;
  int basicsize;
  int itemsize;
  unsigned int flags;
  type_slot *slots;
} type_spec;
#define TYPE_BASETYPE (1u << 10)
#define TYPE_HAVE_VERSION_TAG (1u << 18)
#define SLOT_GETBUFFER 1
#define SLOT_RELEASEBUFFER 2
#define SLOT_MP_LENGTH 4
#define SLOT_DEALLOC 52
#define SLOT_METHODS 64
#define SLOT_FREE 74

typedef struct py_buffer {
  void *buf;
  object *obj;
  ssize len;
  ssize itemsize;
  int readonly;
  int ndim;
  char *format;
  ssize *shape;
  ssize *strides;
  ssize *suboffsets;
  void *internal;
} py_buffer;
#define BUF_SIMPLE 0
#define BUF_WRITABLE 1
#define BUF_STRIDED_RO 0x18
#define BUF_MAX_DIMS 64

#define PYTHON_FUNCTIONS(X)                                                     \
  X(object *, PyBytes_FromStringAndSize, (const char *, ssize))                 \
  X(char *, PyBytes_AsString, (object *))                                       \
  X(int, PyBuffer_FillInfo, (py_buffer *, object *, void *, ssize, int, int))   \
  X(void, PyBuffer_Release, (py_buffer *))                                      \
  X(object *, PyCapsule_New, (void *, const char *, void (*)(object *)))        \
  X(void *, PyCapsule_GetPointer, (object *, const char *))                     \
  X(int, PyCapsule_IsValid, (object *, const char *))                           \
  X(object *, PyCFunction_NewEx, (method_def *, object *, object *))            \
  X(void, PyErr_Clear, (void))                                                  \
  X(object *, PyErr_NoMemory, (void))                                           \
  X(object *, PyErr_Occurred, (void))                                           \
  X(void, PyErr_SetString, (object *, const char *))                            \
  X(void *, PyEval_SaveThread, (void))                                          \
  X(void, PyEval_RestoreThread, (void *))                                       \
  X(object *, PyList_AsTuple, (object *))                                       \
  X(object *, PyList_New, (ssize))                                              \
  X(int, PyList_SetItem, (object *, ssize, object *))                           \
  X(object *, PyLong_FromLong, (long))                                          \
  X(object *, PyLong_FromLongLong, (long long))                                 \
  X(object *, PyLong_FromUnsignedLongLong, (unsigned long long))                \
  X(long, PyLong_AsLong, (object *))                                            \
  X(unsigned long long, PyLong_AsUnsignedLongLong, (object *))                  \
  X(object *, PyObject_CallFunctionObjArgs, (object *, ...))                    \
  X(int, PyObject_GetBuffer, (object *, py_buffer *, int))                      \
  X(object *, PyObject_Type, (object *))                                        \
  X(object *, PySequence_Tuple, (object *))                                     \
  X(object *, PyTuple_GetItem, (object *, ssize))                               \
  X(object *, PyTuple_New, (ssize))                                             \
  X(int, PyTuple_SetItem, (object *, ssize, object *))                          \
  X(ssize, PyTuple_Size, (object *))                                            \
  X(object *, PyType_FromSpec, (type_spec *))                                   \
  X(object *, PyType_GenericAlloc, (object *, ssize))                           \
  X(void *, PyType_GetSlot, (object *, int))                                    \
  X(const char *, PyUnicode_AsUTF8AndSize, (object *, ssize *))                 \
  X(object *, PyUnicode_InternFromString, (const char *))                       \
  X(void, Py_DecRef, (object *))                                                \
  X(void, Py_IncRef, (object *))

static struct {
#define DECLARE(result, name, arguments) result(*name) arguments;
  PYTHON_FUNCTIONS(DECLARE)
#undef DECLARE
  object *none;
  object *buffer_error;
  object *type_error;
  object *value_error;
  object *modes[3]; /* "view", "cow", "copy", interned as the literals in Python are; by number */
} py;

static int find(void *where, const char *name, int indirect) {
  void *symbol = dlsym(RTLD_DEFAULT, name);
  if (symbol == NULL) {
    moor_fail(MOOR_ERR_UNSUPPORTED, "this Python does not export %s", name);
    return 0;
  }
  if (indirect) symbol = *(void **)symbol;
  memcpy(where, &symbol, sizeof symbol);
  return 1;
}

static int find_all(void) {
  int all = 1;
#define FIND(result, name, arguments) all &= find(&py.name, #name, 0);
  PYTHON_FUNCTIONS(FIND)
#undef FIND
  all &= find(&py.none, "_Py_NoneStruct", 0);
  all &= find(&py.buffer_error, "PyExc_BufferError", 1);
  all &= find(&py.type_error, "PyExc_TypeError", 1);
  all &= find(&py.value_error, "PyExc_ValueError", 1);
  return all;
}

int32_t moor_py_ready(void) {
  static const char *const names[] = {"view", "cow", "copy"};
  if (!find_all()) return MOOR_ERR_UNSUPPORTED;
  for (int i = 0; i < 3; i++)
    if ((py.modes[i] = py.PyUnicode_InternFromString(names[i])) == NULL) {
      py.PyErr_Clear();
      return moor_fail(MOOR_ERR_NO_MEMORY, "no memory for the names of the modes");
    }
  return MOOR_OK;
}

static object *none(void) {
  py.Py_IncRef(py.none);
  return py.none;
}

/* "Look at it yourself", whatever Python had to say about it. */
static object *declined(void) {
  py.PyErr_Clear();
  return none();
}

static object *status_object(int32_t status) { return py.PyLong_FromLong(status); }

static object *wrong_count(void) {
  py.PyErr_SetString(py.type_error, "wrong number of arguments for a builtin of moorage");
  return NULL;
}

/* ---- the arguments that all have in common ---- */

typedef struct call {
  moor_store store;
  const char *key;
  uint64_t key_size;
} call;

static uint64_t store_id(object *self) { return py.PyLong_AsUnsignedLongLong(self); }

/* 0 when the key is not text that can be written as UTF-8. */
static int understand(call *c, object *self, object *key) {
  ssize size;
  c->store.id = store_id(self);
  c->key = py.PyUnicode_AsUTF8AndSize(key, &size);
  c->key_size = (uint64_t)size;
  return c->key != NULL;
}

/* The number of a mode; -1 when it has to be looked at. */
static long mode_number(object *mode, object *usual) {
  if (mode == py.modes[MOOR_MODE_VIEW]) return MOOR_MODE_VIEW;
  if (mode == py.modes[MOOR_MODE_COW]) return MOOR_MODE_COW;
  if (mode == py.modes[MOOR_MODE_COPY]) return MOOR_MODE_COPY;
  return mode == py.none && usual != NULL ? py.PyLong_AsLong(usual) : -1;
}

/* Below this, moving the bytes costs less than handing the GIL to another thread and getting it back. */
#define KEEP_GIL (32u << 10)

static void *leave_python(uint64_t bytes) { return bytes >= KEEP_GIL ? py.PyEval_SaveThread() : NULL; }
static void enter_python(void *thread) {
  if (thread != NULL) py.PyEval_RestoreThread(thread);
}

/* ---- DLPack: capsules, and torch's table of C functions ---- */

static const char versioned[] = "dltensor_versioned";
static const char unversioned[] = "dltensor";

void moor_py_capsule_end(object *capsule) {
  if (py.PyCapsule_IsValid(capsule, versioned)) {
    DLManagedTensorVersioned *tensor = py.PyCapsule_GetPointer(capsule, versioned);
    if (tensor->deleter != NULL) tensor->deleter(tensor);
  } else if (py.PyCapsule_IsValid(capsule, unversioned)) {
    DLManagedTensor *tensor = py.PyCapsule_GetPointer(capsule, unversioned);
    if (tensor->deleter != NULL) tensor->deleter(tensor);
  }
}

/* Takes the tensor over, in any case. */
static object *capsule_of(DLManagedTensorVersioned *tensor) {
  object *capsule = py.PyCapsule_New(tensor, versioned, moor_py_capsule_end);
  if (capsule == NULL) tensor->deleter(tensor);
  return capsule;
}

/* DLPackExchangeAPI of dlpack.h 1.3, as far as it is used. */
typedef struct exchange_table {
  DLPackVersion version;
  const struct exchange_table *previous;
  void *allocate;
  int (*managed_from_object)(object *tensor, DLManagedTensorVersioned **out);
  int (*managed_to_object)(DLManagedTensorVersioned *tensor, object **out);
  int (*borrow_from_object)(object *tensor, DLTensor *out); /* may be NULL */
  void *current_stream;
} exchange_table;

static _Atomic(const exchange_table *) exchange;

int32_t moor_py_use_exchange(const void *table) {
  const exchange_table *t = table;
  while (t != NULL && t->version.major != DLPACK_MAJOR_VERSION) t = t->previous;
  if (t == NULL || t->managed_to_object == NULL)
    return moor_fail(MOOR_ERR_UNSUPPORTED, "the DLPack exchange table of torch has no version that is understood");
  atomic_store(&exchange, t);
  return MOOR_OK;
}

/* Whether managed_to_object certainly knows this dtype. It does not say who owns a tensor that it refuses, so it is
 * only given what it cannot refuse; a capsule has no such doubt. */
static int plain_dtype(DLDataType d) {
  static const uint8_t widths[] = {
      [kDLInt] = 8 | 16 | 32 | 64, [kDLUInt] = 8 | 16 | 32 | 64, [kDLFloat] = 16 | 32 | 64,
      [kDLBfloat] = 16,            [kDLComplex] = 64 | 128,      [kDLBool] = 8,
  };
  return d.lanes == 1 && d.code < sizeof widths && (widths[d.code] & d.bits) == d.bits && d.bits != 0;
}

/* ---- getting ---- */

/* Hands the case to Python. Takes `instead` over; NULL stands for None. */
static object *look_at(object *look, object *const *args, object *instead) {
  if (instead == NULL) instead = declined();
  object *result = py.PyObject_CallFunctionObjArgs(look, args[0], args[1], instead, NULL);
  py.Py_DecRef(instead);
  return result;
}

/* GIL held for a view, else released: a window or a copy takes its time. */
static void *leave_for(long mode) { return mode == MOOR_MODE_VIEW ? NULL : py.PyEval_SaveThread(); }

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
  const exchange_table *t = atomic_load_explicit(&exchange, memory_order_acquire);
  object *made = NULL;
  *instead = NULL;
  if (t != NULL && plain_dtype(tensor->dl_tensor.dtype)) return t->managed_to_object(tensor, &made) == 0 ? made : NULL;
  object *capsule = capsule_of(tensor);
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
static object *get_tensor(object *self, object *const *args, ssize count) {
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

/* What numpy's from_dlpack wants to see: an object with __dlpack__. It gives its tensor once. */
typedef struct carrier {
  _Atomic(DLManagedTensorVersioned *) tensor;
} carrier;

static uint64_t head_size; /* of a Python object: ours begins behind it */

static carrier *carrier_of(object *self) { return (carrier *)((char *)self + head_size); }

static void free_object(object *self) {
  object *type = py.PyObject_Type(self);
  void (*free_self)(object *) = (void (*)(object *))py.PyType_GetSlot(type, SLOT_FREE);
  free_self(self);
  py.Py_DecRef(type); /* ours */
  py.Py_DecRef(type); /* the object's: heap types are counted by their instances */
}

static void carrier_dealloc(object *self) {
  DLManagedTensorVersioned *tensor = atomic_load(&carrier_of(self)->tensor);
  if (tensor != NULL) tensor->deleter(tensor);
  free_object(self);
}

static object *carrier_dlpack(object *self, object *const *args, ssize count, object *names) {
  DLManagedTensorVersioned *tensor = atomic_exchange(&carrier_of(self)->tensor, NULL);
  (void)args, (void)count, (void)names;
  if (tensor != NULL) return capsule_of(tensor);
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

/* Takes the tensor over. An array; NULL without an exception when numpy did not take it. */
static object *to_numpy(DLManagedTensorVersioned *tensor, object *type, object *from_dlpack) {
  object *carrying = py.PyType_GenericAlloc(type, 0);
  if (carrying == NULL) {
    tensor->deleter(tensor);
    return NULL;
  }
  atomic_store(&carrier_of(carrying)->tensor, tensor);
  object *made = py.PyObject_CallFunctionObjArgs(from_dlpack, carrying, NULL);
  if (made == NULL) py.PyErr_Clear();
  py.Py_DecRef(carrying);
  return made;
}

/* array(key, mode); self is (store, look, type of carriers, numpy's from_dlpack) */
static object *get_array(object *self, object *const *args, ssize count) {
  DLManagedTensorVersioned *tensor;
  object *made = NULL, *instead;
  if (count != 2) return wrong_count();
  if (fetch(py.PyTuple_GetItem(self, 0), args, mode_number(args[1], NULL), &tensor, &instead))
    made = to_numpy(tensor, py.PyTuple_GetItem(self, 2), py.PyTuple_GetItem(self, 3));
  return made != NULL ? made : look_at(py.PyTuple_GetItem(self, 1), args, instead);
}

typedef struct batch {
  ssize count;
  const char **keys; /* borrowed from the strings, until they are packed */
  char *bytes;
  uint64_t *ends;
  DLManagedTensorVersioned **tensors;
  int32_t *statuses;
} batch;

static void free_batch(batch *b) {
  free(b->bytes);
  free(b->ends);
}

/* One block for everything that has an entry a key. */
static int allocate_batch(batch *b, ssize count) {
  size_t entry = sizeof *b->ends + sizeof *b->keys + sizeof *b->tensors + sizeof *b->statuses;
  b->count = count;
  b->bytes = NULL;
  b->ends = malloc((size_t)count * entry + 1);
  if (b->ends == NULL) return 0;
  b->keys = (const char **)(b->ends + count);
  b->tensors = (DLManagedTensorVersioned **)(b->keys + count);
  b->statuses = (int32_t *)(b->tensors + count);
  return 1;
}

/* 1; 0 when a key is not text; -1 without memory. */
static int pack_keys(batch *b, object *keys) {
  uint64_t total = 0, from = 0;
  for (ssize i = 0; i < b->count; i++) {
    ssize size;
    b->keys[i] = py.PyUnicode_AsUTF8AndSize(py.PyTuple_GetItem(keys, i), &size);
    if (b->keys[i] == NULL) return 0;
    b->ends[i] = total += (uint64_t)size;
  }
  b->bytes = malloc(total + 1);
  if (b->bytes == NULL) return -1;
  for (ssize i = 0; i < b->count; from = b->ends[i++]) memcpy(b->bytes + from, b->keys[i], b->ends[i] - from);
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
  int packed = pack_keys(&b, keys);
  if (packed == 1) {
    moor_keys packed_keys = {b.bytes, b.ends, (uint64_t)b.count};
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
static object *get_tensors(object *self, object *const *args, ssize count) {
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
    void *thread = leave_python(room);
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
static object *get_bytes(object *self, object *const *args, ssize count) {
  char small[512];
  uint64_t size = 0;
  call c;
  if (count != 1) return wrong_count();
  if (!understand(&c, self, args[0])) return declined();
  int32_t status = moor_get(c.store, c.key, c.key_size, small, sizeof small, &size);
  if (status == MOOR_OK) return py.PyBytes_FromStringAndSize(small, (ssize)size);
  return status == MOOR_ERR_TOO_SMALL ? copy_out(&c, size) : status_object(status);
}

/* into(key, out, offset, nbytes or None): how many bytes were copied. out is one buffer. */
static object *get_into(object *self, object *const *args, ssize count) {
  uint64_t copied;
  py_buffer out;
  call c;
  if (count != 4) return wrong_count();
  if (!understand(&c, self, args[0])) return declined();
  uint64_t offset = py.PyLong_AsUnsignedLongLong(args[2]);
  uint64_t nbytes = args[3] == py.none ? MOOR_ALL : py.PyLong_AsUnsignedLongLong(args[3]);
  if (py.PyErr_Occurred() != NULL || py.PyObject_GetBuffer(args[1], &out, BUF_WRITABLE) != 0) return declined();
  moor_span span = {out.buf, (uint64_t)out.len};
  void *thread = leave_python(span.size);
  int32_t status = moor_get_into(c.store, c.key, c.key_size, offset, nbytes, &span, 1, &copied);
  enter_python(thread);
  py.PyBuffer_Release(&out);
  return status == MOOR_OK ? py.PyLong_FromUnsignedLongLong(copied) : status_object(status);
}

/* has(key) */
static object *has_key(object *self, object *const *args, ssize count) {
  uint8_t found;
  call c;
  if (count != 1) return wrong_count();
  if (!understand(&c, self, args[0])) return declined();
  moor_keys one = {c.key, &c.key_size, 1};
  int32_t status = moor_exists(c.store, &one, &found);
  return status_object(status == MOOR_OK ? found : status);
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

/* Bytes of a dense tensor, and 0 for one that no store has made. */
static uint64_t tensor_bytes(const DLTensor *t) {
  uint64_t bits = (uint64_t)t->dtype.bits * t->dtype.lanes;
  for (int32_t i = 0; i < t->ndim; i++) bits *= (uint64_t)t->shape[i];
  return bits / 8;
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

/* buffer(key, mode); self is (store, look, type of buffers) */
static object *get_buffer(object *self, object *const *args, ssize count) {
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

/* ---- putting ---- */

typedef struct putting {
  call c;
  moor_put_options options;
  py_buffer meta;
  moor_put_result result;
} putting;

/* args: key, data, if_exists, meta. 0 when one of them has to be looked at. */
static int begin_put(putting *p, object *self, object *const *args) {
  if (!understand(&p->c, self, args[0])) return 0;
  if (py.PyObject_GetBuffer(args[3], &p->meta, BUF_SIMPLE) != 0) return 0;
  p->options = (moor_put_options){
      .struct_size = sizeof p->options,
      .if_exists = (uint32_t)py.PyLong_AsLong(args[2]),
      .meta = p->meta.len ? p->meta.buf : NULL,
      .meta_size = (uint64_t)p->meta.len,
  };
  return 1;
}

/* The outcome, or the status when it failed. */
static object *end_put(putting *p, int32_t status) {
  py.PyBuffer_Release(&p->meta);
  return status_object(status == MOOR_OK ? (int32_t)p->result.outcome : status);
}

static int32_t put_tensor_of(putting *p, const DLTensor *tensor, uint64_t bytes) {
  void *thread = leave_python(bytes);
  int32_t status = moor_put_tensor(p->c.store, p->c.key, p->c.key_size, tensor, &p->options, &p->result);
  enter_python(thread);
  return status;
}

/* A strided buffer as a tensor of bytes: one more dimension for the bytes of an item. */
static int32_t put_strided(putting *p, const py_buffer *view) {
  int64_t shape[BUF_MAX_DIMS + 1], strides[BUF_MAX_DIMS + 1];
  for (int i = 0; i < view->ndim; i++) {
    shape[i] = view->shape[i];
    strides[i] = view->strides[i];
  }
  shape[view->ndim] = view->itemsize;
  strides[view->ndim] = 1;
  DLTensor bytes = {
      .data = view->buf,
      .device = {kDLCPU, 0},
      .ndim = view->ndim + (view->itemsize != 1 || view->ndim == 0),
      .dtype = {kDLUInt, 8, 1},
      .shape = shape,
      .strides = strides,
  };
  p->options.flags = MOOR_PUT_AS_BYTES;
  return put_tensor_of(p, &bytes, (uint64_t)view->len);
}

static int32_t put_dense(putting *p, const py_buffer *view) {
  void *thread = leave_python((uint64_t)view->len);
  int32_t status = moor_put(p->c.store, p->c.key, p->c.key_size, view->buf, (uint64_t)view->len, &p->options, &p->result);
  enter_python(thread);
  return status;
}

static int open_strided(object *data, py_buffer *view) {
  py.PyErr_Clear();
  if (py.PyObject_GetBuffer(data, view, BUF_STRIDED_RO) != 0) return 0;
  if (view->ndim <= BUF_MAX_DIMS && (view->ndim == 0 || view->strides != NULL)) return 1;
  py.PyBuffer_Release(view);
  return 0;
}

/* put(key, data, if_exists, meta) */
static object *put(object *self, object *const *args, ssize count) {
  putting p;
  py_buffer view;
  int32_t status;
  if (count != 4) return wrong_count();
  if (!begin_put(&p, self, args)) return declined();
  if (py.PyObject_GetBuffer(args[1], &view, BUF_SIMPLE) == 0) {
    status = put_dense(&p, &view);
  } else if (open_strided(args[1], &view)) {
    status = put_strided(&p, &view);
  } else {
    py.PyBuffer_Release(&p.meta);
    return declined();
  }
  py.PyBuffer_Release(&view);
  return end_put(&p, status);
}

/* An array whose buffer has strides in whole items; 0 when it does not. */
static int array_tensor(const py_buffer *view, DLDataType dtype, int64_t *dims, DLTensor *out) {
  int64_t *shape = dims, *strides = dims + BUF_MAX_DIMS;
  for (int i = 0; i < view->ndim; i++) {
    if (view->strides[i] % view->itemsize != 0) return 0;
    shape[i] = view->shape[i];
    strides[i] = view->strides[i] / view->itemsize;
  }
  *out = (DLTensor){
      .data = view->buf,
      .device = {kDLCPU, 0},
      .ndim = view->ndim,
      .dtype = dtype,
      .shape = shape,
      .strides = strides,
  };
  return 1;
}

/* put_array(key, array, if_exists, meta, code << 8 | bits) */
static object *put_array(object *self, object *const *args, ssize count) {
  int64_t dims[2 * BUF_MAX_DIMS];
  DLTensor tensor;
  putting p;
  py_buffer view;
  if (count != 5) return wrong_count();
  if (!begin_put(&p, self, args)) return declined();
  long packed = py.PyLong_AsLong(args[4]);
  DLDataType dtype = {(uint8_t)(packed >> 8), (uint8_t)packed, 1};
  if (!open_strided(args[1], &view)) {
    py.PyBuffer_Release(&p.meta);
    return declined();
  }
  int whole = array_tensor(&view, dtype, dims, &tensor);
  int32_t status = whole ? put_tensor_of(&p, &tensor, (uint64_t)view.len) : 0;
  py.PyBuffer_Release(&view);
  if (whole) return end_put(&p, status);
  py.PyBuffer_Release(&p.meta);
  return declined();
}

/* From here on the source is held by a reference of our own while the GIL is released: another thread may then
 * resize the tensor or give it other storage. */
static int32_t put_held(putting *p, const exchange_table *t, object *source, uint64_t bytes, int *failed) {
  DLManagedTensorVersioned *held = NULL;
  *failed = t->managed_from_object(source, &held) != 0;
  if (*failed) return 0;
  int32_t status = put_tensor_of(p, &held->dl_tensor, bytes);
  if (held->deleter != NULL) held->deleter(held);
  return status;
}

/* put_tensor(key, torch tensor, if_exists, meta). The caller has seen: a known dtype, neither conjugate nor negative. */
static object *put_tensor(object *self, object *const *args, ssize count) {
  const exchange_table *t = atomic_load_explicit(&exchange, memory_order_acquire);
  DLTensor tensor;
  putting p;
  int32_t status;
  int failed = 0;
  if (count != 4) return wrong_count();
  if (t == NULL || t->borrow_from_object == NULL) return none();
  if (t->borrow_from_object(args[1], &tensor) != 0) return declined();
  uint64_t bytes = tensor_bytes(&tensor);
  if (tensor.device.device_type != kDLCPU || (tensor.data == NULL && bytes != 0)) return none();
  if (!begin_put(&p, self, args)) return declined();
  status = bytes < KEEP_GIL ? put_tensor_of(&p, &tensor, bytes) : put_held(&p, t, args[1], bytes, &failed);
  if (!failed) return end_put(&p, status);
  py.PyBuffer_Release(&p.meta);
  return declined();
}

/* ---- all of them, by the numbers of moorage/_builtin.py ---- */

static method_def builtins[] = {
    {"tensor", (void *)get_tensor, METH_FASTCALL, NULL},
    {"tensors", (void *)get_tensors, METH_FASTCALL, NULL},
    {"array", (void *)get_array, METH_FASTCALL, NULL},
    {"buffer", (void *)get_buffer, METH_FASTCALL, NULL},
    {"read", (void *)get_bytes, METH_FASTCALL, NULL},
    {"into", (void *)get_into, METH_FASTCALL, NULL},
    {"has", (void *)has_key, METH_FASTCALL, NULL},
    {"put", (void *)put, METH_FASTCALL, NULL},
    {"put_array", (void *)put_array, METH_FASTCALL, NULL},
    {"put_tensor", (void *)put_tensor, METH_FASTCALL, NULL},
};

object *moor_py_bind(int32_t number, object *self) {
  if (number >= 0 && (size_t)number < sizeof builtins / sizeof builtins[0])
    return py.PyCFunction_NewEx(&builtins[number], self, NULL);
  py.PyErr_SetString(py.value_error, "there is no builtin of this number");
  return NULL;
}
