/* SPDX-License-Identifier: Apache-2.0
 *
 * The builtins that put. They answer with the outcome, or the status of a failure, or None: the arguments are not what
 * they know, look at them.
 */
#include "pyapi.h"

#include <stdlib.h>
#include <string.h>

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

/* A strided buffer as a tensor of bytes: one more dimension for the bytes of an item, and none for sizes of 1, so that
 * an array of 64 dimensions has room for it. */
static int32_t put_strided(putting *p, const py_buffer *view) {
  int64_t shape[BUF_MAX_DIMS + 1], strides[BUF_MAX_DIMS + 1];
  int32_t ndim = 0;
  for (int i = 0; i < view->ndim; i++) {
    if (view->shape[i] == 1) continue;
    shape[ndim] = view->shape[i];
    strides[ndim++] = view->strides[i];
  }
  shape[ndim] = view->itemsize;
  strides[ndim++] = 1;
  DLTensor bytes = {
      .data = view->buf,
      .device = {kDLCPU, 0},
      .ndim = ndim,
      .dtype = {kDLUInt, 8, 1},
      .shape = shape,
      .strides = strides,
  };
  p->options.flags = MOOR_PUT_AS_BYTES;
  return put_tensor_of(p, &bytes, gil_bytes((uint64_t)view->len));
}

static int32_t put_dense(putting *p, const py_buffer *view) {
  void *thread = leave_python(gil_bytes((uint64_t)view->len));
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
object *moor_py_put(object *self, object *const *args, ssize count) {
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
  int64_t *shape = dims, *strides = dims + view->ndim;
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
object *moor_py_put_array(object *self, object *const *args, ssize count) {
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
  int32_t status = whole ? put_tensor_of(&p, &tensor, gil_bytes((uint64_t)view.len)) : 0;
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
object *moor_py_put_tensor(object *self, object *const *args, ssize count) {
  const exchange_table *t = moor_py_exchange();
  DLTensor tensor;
  putting p;
  int32_t status;
  int failed = 0;
  if (count != 4) return wrong_count();
  if (!begin_put(&p, self, args)) return declined(); /* first: meta can be an object that runs Python */
  if (moor_py_borrow(t, args[1], &tensor)) {
    uint64_t bytes = gil_bytes(tensor_bytes(&tensor));
    status = bytes < KEEP_GIL ? put_tensor_of(&p, &tensor, bytes) : put_held(&p, t, args[1], bytes, &failed);
    if (!failed) return end_put(&p, status);
  }
  py.PyBuffer_Release(&p.meta);
  return declined();
}

/* ---- the concatenation of several buffers ---- */

#define PARTS_ON_STACK 8

static uint64_t bytes_of(const moor_part *parts, ssize count) {
  uint64_t sum = 0;
  for (ssize i = 0; i < count; i++) sum += parts[i].size;
  return sum;
}

/* Buffers of the parts until one is not dense; how many there are. */
static ssize open_parts(object *tuple, ssize count, py_buffer *views, moor_part *parts) {
  ssize i = 0;
  for (; i < count && py.PyObject_GetBuffer(py.PyTuple_GetItem(tuple, i), &views[i], BUF_SIMPLE) == 0; i++)
    parts[i] = (moor_part){views[i].buf, (uint64_t)views[i].len};
  return i;
}

/* put_parts(key, tuple of buffers, if_exists, meta) */
object *moor_py_put_parts(object *self, object *const *args, ssize count) {
  py_buffer few_views[PARTS_ON_STACK], *views = few_views;
  moor_part few_parts[PARTS_ON_STACK], *parts = few_parts;
  putting p;
  if (count != 4) return wrong_count();
  ssize wanted = py.PyTuple_Size(args[1]);
  if (!begin_put(&p, self, args)) return declined();
  if (wanted > PARTS_ON_STACK) {
    views = malloc((size_t)wanted * (sizeof *views + sizeof *parts));
    parts = (moor_part *)(views + wanted);
  }
  ssize open = views == NULL ? -1 : open_parts(args[1], wanted, views, parts);
  int32_t status = 0;
  if (open == wanted) {
    void *thread = leave_python(gil_bytes(bytes_of(parts, open)));
    status = moor_put_parts(p.c.store, p.c.key, p.c.key_size, parts, (uint64_t)open, &p.options, &p.result);
    enter_python(thread);
  }
  for (ssize i = 0; i < open; i++) py.PyBuffer_Release(&views[i]);
  if (views != few_views) free(views);
  if (open == wanted) return end_put(&p, status);
  py.PyBuffer_Release(&p.meta);
  return declined();
}

/* ---- many tensors ---- */

/* A call does not take more than this at a time, so that signals are heard in between. */
#define MOST_TENSORS 512
#define MOST_BYTES (64u << 20)

/* One tensor of a batch, and what has to end with the call. */
typedef struct source {
  DLTensor tensor;
  DLManagedTensorVersioned *held; /* of torch, while the GIL is released */
  py_buffer view;                 /* of an array: obj is not NULL */
  int64_t *dims;                  /* of an array: shape and strides */
} source;

typedef struct sources {
  key_pack keys;
  ssize count;
  uint64_t bytes;
  source *all;
  const DLTensor **tensors;
  moor_put_result *results;
  int32_t *statuses;
} sources;

static int allocate_sources(sources *b, ssize room) {
  size_t entry = sizeof *b->all + sizeof *b->results + sizeof *b->keys.ends + sizeof *b->keys.texts +
                 sizeof *b->tensors + sizeof *b->statuses;
  *b = (sources){.all = malloc((size_t)room * entry + 1)};
  if (b->all == NULL) return 0;
  b->results = (moor_put_result *)(b->all + room);
  b->keys.ends = (uint64_t *)(b->results + room);
  b->keys.texts = (const char **)(b->keys.ends + room);
  b->tensors = (const DLTensor **)(b->keys.texts + room);
  b->statuses = (int32_t *)(b->tensors + room);
  return 1;
}

/* What is put as it is: exactly these types. None where the module is not there. */
typedef struct plain_types {
  object *array, *tensor, *parameter;
  object *is_neg, *is_conj; /* methods of tensors */
} plain_types;

static int says_no(object *method, object *tensor) {
  object *answer = py.PyObject_CallFunctionObjArgs(method, tensor, NULL);
  if (answer == NULL) return 0;
  py.Py_DecRef(answer);
  return answer == py.no;
}

/* dtype of an array by its format, of the struct module; bits are 0 when it is none that is put as it is. */
static DLDataType array_dtype(const py_buffer *view) {
  static const struct {
    const char *format;
    uint8_t code;
  } known[] = {{"bhilq", kDLInt}, {"BHILQ", kDLUInt}, {"efd", kDLFloat}, {"?", kDLBool}};
  const char *f = view->format;
  DLDataType dtype = {0, 0, 1};
  int complex = f != NULL && f[0] == 'Z';
  f += complex;
  if (f == NULL || f[0] == 0 || f[1] != 0) return dtype;
  for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
    if (strchr(known[i].format, f[0]) == NULL || (complex && known[i].code != kDLFloat)) continue;
    dtype.code = complex ? kDLComplex : known[i].code;
    dtype.bits = (uint8_t)(8 * view->itemsize);
  }
  return dtype;
}

static int open_array(source *s, object *value) {
  if (py.PyObject_GetBuffer(value, &s->view, BUF_STRIDED_RO | BUF_FORMAT) != 0) {
    s->view.obj = NULL;
    return 0;
  }
  DLDataType dtype = array_dtype(&s->view);
  if (dtype.bits == 0 || s->view.ndim > BUF_MAX_DIMS) return 0;
  s->dims = malloc(2 * (size_t)s->view.ndim * sizeof *s->dims + 1);
  return s->dims != NULL && array_tensor(&s->view, dtype, s->dims, &s->tensor);
}

/* 0 when it has to be looked at. What is open then ends with end_sources all the same. */
static int open_source(source *s, const plain_types *types, object *value) {
  object *type = py.PyObject_Type(value);
  py.Py_DecRef(type); /* its instance keeps it */
  s->held = NULL;
  s->view.obj = NULL;
  s->dims = NULL;
  if (type == types->array) return open_array(s, value);
  if (type != types->tensor && type != types->parameter) return 0;
  return moor_py_borrow(moor_py_exchange(), value, &s->tensor) && says_no(types->is_neg, value) &&
         (s->tensor.dtype.code != kDLComplex || says_no(types->is_conj, value));
}

static void end_source(source *s) {
  if (s->held != NULL && s->held->deleter != NULL) s->held->deleter(s->held);
  if (s->view.obj != NULL) py.PyBuffer_Release(&s->view);
  free(s->dims);
}

static void end_sources(sources *b) {
  for (ssize i = 0; i < b->count; i++) end_source(&b->all[i]);
  free(b->keys.bytes);
  free(b->all);
}

/* As many as one call takes, up to the first that has to be looked at. */
static void open_sources(sources *b, const plain_types *types, object *values, ssize from, ssize room, uint64_t most) {
  while (b->count < room && b->bytes < most) {
    source *s = &b->all[b->count];
    if (!open_source(s, types, py.PyList_GetItem(values, from + b->count))) {
      py.PyErr_Clear();
      end_source(s);
      return;
    }
    b->tensors[b->count++] = &s->tensor;
    b->bytes += tensor_bytes(&s->tensor);
  }
}

/* Torch tensors as they are now: is_neg can have run Python, in a mode of torch's, and others may run when the GIL is
 * released (see put_held). */
static int settle_sources(sources *b, object *values, ssize from, int release) {
  const exchange_table *t = moor_py_exchange();
  for (ssize i = 0; i < b->count; i++) {
    source *s = &b->all[i];
    object *value = py.PyList_GetItem(values, from + i);
    if (s->view.obj != NULL) continue;
    if (!release) {
      if (!moor_py_borrow(t, value, &s->tensor)) return 0;
    } else if (t->managed_from_object(value, &s->held) == 0) {
      b->tensors[i] = &s->held->dl_tensor;
    } else {
      s->held = NULL;
      return 0;
    }
  }
  return 1;
}

static object *outcomes_of(const sources *b) {
  object *list = py.PyList_New(b->count);
  for (ssize i = 0; list != NULL && i < b->count; i++) {
    object *one = status_object(b->statuses[i] == MOOR_OK ? (int32_t)b->results[i].outcome : b->statuses[i]);
    if (one == NULL || py.PyList_SetItem(list, i, one) != 0) {
      py.Py_DecRef(list);
      return NULL;
    }
  }
  return list;
}

static object *put_sources(sources *b, object *store, object *keys, ssize from, uint32_t if_exists, uint32_t flags,
                           uint64_t weight) {
  int packed = moor_py_pack_keys(&b->keys, keys, py.PyList_GetItem, from, b->count);
  if (packed < 0) return py.PyErr_NoMemory();
  if (packed == 0) return declined();
  moor_keys names = {b->keys.bytes, b->keys.ends, (uint64_t)b->count};
  moor_put_options options = {.struct_size = sizeof options, .if_exists = if_exists, .flags = flags};
  uint64_t id = store_id(store);
  void *thread = leave_python(weight);
  int32_t status = moor_put_tensors((moor_store){id}, &names, b->tensors, &options, b->results, b->statuses);
  enter_python(thread);
  if (status != MOOR_OK && (flags & MOOR_PUT_ATOMIC) != 0) return status_object(status);
  return status == MOOR_OK ? outcomes_of(b) : declined();
}

/* put_many(keys, tensors, if_exists, from): lists; begins at number `from`. A list of outcomes and statuses, which ends
 * before the first tensor that has to be looked at. With from = -1 all of them as one set: outcomes, or a status, or None
 * when one of them has to be looked at. self is (store, types and methods of plain_types). */
object *moor_py_put_many(object *self, object *const *args, ssize count) {
  plain_types types = {py.PyTuple_GetItem(self, 1), py.PyTuple_GetItem(self, 2), py.PyTuple_GetItem(self, 3),
                       py.PyTuple_GetItem(self, 4), py.PyTuple_GetItem(self, 5)};
  sources b;
  if (count != 4) return wrong_count();
  long if_exists = py.PyLong_AsLong(args[2]);
  ssize from = (ssize)py.PyLong_AsLong(args[3]);
  int as_set = from == -1;
  if (as_set) from = 0;
  ssize room = py.PyList_Size(args[0]) - from;
  if (room > MOST_TENSORS && !as_set) room = MOST_TENSORS;
  if (room < 1) return py.PyList_New(0);
  if (!allocate_sources(&b, room)) return py.PyErr_NoMemory();
  open_sources(&b, &types, args[1], from, room, as_set ? UINT64_MAX : MOST_BYTES);
  object *result;
  uint64_t weight = gil_bytes(b.bytes);
  if (as_set && b.count < room)
    result = none();
  else if (b.count == 0)
    result = py.PyList_New(0);
  else if (settle_sources(&b, args[1], from, weight >= KEEP_GIL))
    result = put_sources(&b, py.PyTuple_GetItem(self, 0), args[0], from, (uint32_t)if_exists,
                         as_set ? MOOR_PUT_ATOMIC : 0, weight);
  else
    result = declined();
  end_sources(&b);
  return result;
}
