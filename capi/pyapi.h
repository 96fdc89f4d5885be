/* SPDX-License-Identifier: Apache-2.0
 *
 * Python's C API as far as it is used, and what the builtins and types made from it have in common.
 *
 * All that they need has been exported by name, unchanged, since Python 3.7. It is found with dlsym when the package asks
 * for it: so one library file serves every Python, and a Python without these names falls back to plain ctypes.
 *
 * The GIL is held for a look-up in mode view, which neither copies nor waits, and released for everything else that
 * is not small. While it is released we touch no Python object; the caller's references keep the arguments alive.
 */
#ifndef MOOR_PYAPI_H_
#define MOOR_PYAPI_H_

#include "pybuiltin.h"
#include "layout.h"

#include <stdatomic.h>
#include <stddef.h>

typedef moor_py_object object;
typedef intptr_t ssize;

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
#define BUF_FORMAT 4
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
  X(object *, PyList_GetItem, (object *, ssize))                                \
  X(object *, PyList_New, (ssize))                                              \
  X(int, PyList_SetItem, (object *, ssize, object *))                           \
  X(ssize, PyList_Size, (object *))                                             \
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

/* Found by moor_py_ready; nothing here is called before. */
struct moor_python {
#define DECLARE(result, name, arguments) result(*name) arguments;
  PYTHON_FUNCTIONS(DECLARE)
#undef DECLARE
  object *none;
  object *no; /* False */
  object *buffer_error;
  object *type_error;
  object *value_error;
  object *modes[3]; /* "view", "cow", "copy", interned as the literals in Python are; by number */
};
extern struct moor_python moor_python;
#define py moor_python

static inline object *none(void) {
  py.Py_IncRef(py.none);
  return py.none;
}

/* "Look at it yourself", whatever Python had to say about it. */
static inline object *declined(void) {
  py.PyErr_Clear();
  return none();
}

static inline object *status_object(int32_t status) { return py.PyLong_FromLong(status); }

static inline object *wrong_count(void) {
  py.PyErr_SetString(py.type_error, "wrong number of arguments for a builtin of moorage");
  return NULL;
}

/* ---- the arguments that all have in common ---- */

typedef struct call {
  moor_store store;
  const char *key;
  uint64_t key_size;
} call;

static inline uint64_t store_id(object *self) { return py.PyLong_AsUnsignedLongLong(self); }

/* 0 when the key is not text that can be written as UTF-8. */
static inline int understand(call *c, object *self, object *key) {
  ssize size = 0;
  c->store.id = store_id(self);
  c->key = py.PyUnicode_AsUTF8AndSize(key, &size);
  c->key_size = (uint64_t)size;
  return c->key != NULL;
}

/* The number of a mode; -1 when it has to be looked at. */
static inline long mode_number(object *mode, object *usual) {
  if (mode == py.modes[MOOR_MODE_VIEW]) return MOOR_MODE_VIEW;
  if (mode == py.modes[MOOR_MODE_COW]) return MOOR_MODE_COW;
  if (mode == py.modes[MOOR_MODE_COPY]) return MOOR_MODE_COPY;
  return mode == py.none && usual != NULL ? py.PyLong_AsLong(usual) : -1;
}

/* Below this, moving the bytes costs less than handing the GIL to another thread and getting it back. */
#define KEEP_GIL (32u << 10)

static inline void *leave_python(uint64_t bytes) { return bytes >= KEEP_GIL ? py.PyEval_SaveThread() : NULL; }
/* What a call of so many bytes counts for: with a store that has a disk any may have to wait for it. Ask once a call. */
static inline uint64_t gil_bytes(uint64_t bytes) { return moor_may_wait() && bytes < KEEP_GIL ? KEEP_GIL : bytes; }
static inline void enter_python(void *thread) {
  if (thread != NULL) py.PyEval_RestoreThread(thread);
}

/* Keys of a batch: `count` of them from number `from` on, as `item` (PyTuple_GetItem, PyList_GetItem) gives them. */
typedef struct key_pack {
  uint64_t *ends;      /* room for count */
  const char **texts;  /* same; borrowed from the strings, until they are packed */
  char *bytes;         /* ends by free() */
} key_pack;
/* 1; 0 when a key is not text; -1 without memory. */
int moor_py_pack_keys(key_pack *pack, object *sequence, object *(*item)(object *, ssize), ssize from, ssize count);

/* ---- DLPack: capsules, and torch's table of C functions ---- */

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

/* NULL until torch is there, or when its table is not understood. */
const exchange_table *moor_py_exchange(void);

/* 1 and what a torch tensor on the CPU is, valid while nobody else runs. 0 also without a table. */
int moor_py_borrow(const exchange_table *t, object *tensor, DLTensor *out);

/* A capsule that takes the tensor over, in any case. */
object *moor_py_capsule_of(DLManagedTensorVersioned *tensor);

/* Bytes of a dense tensor, and 0 for one that no store has made. */
static inline uint64_t tensor_bytes(const DLTensor *t) {
  uint64_t bits = (uint64_t)t->dtype.bits * t->dtype.lanes;
  for (int32_t i = 0; i < t->ndim; i++) bits *= (uint64_t)t->shape[i];
  return bits / 8;
}

/* ---- pytypes.c ---- */

/* Puts a tensor into a carrier (moor_py_carrier_type), which takes it over in any case. */
object *moor_py_carry(object *type, DLManagedTensorVersioned *tensor);

/* ---- the builtins, each of which is bound to what it wants as self ---- */

typedef object *builtin(object *self, object *const *args, ssize count);
builtin moor_py_tensor, moor_py_tensors, moor_py_array, moor_py_buffer, moor_py_read, moor_py_into, moor_py_into_tensor,
    moor_py_has; /* pyget.c */
builtin moor_py_snapshot_tensor; /* pyget.c */
builtin moor_py_put, moor_py_put_parts, moor_py_put_array, moor_py_put_tensor, moor_py_put_many; /* pyput.c */

#endif
