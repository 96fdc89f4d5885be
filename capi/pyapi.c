/* SPDX-License-Identifier: Apache-2.0
 *
 * Finding Python's C API; capsules; torch's table of C functions.
 */
#define _GNU_SOURCE
#include "pyapi.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

struct moor_python moor_python;

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
  all &= find(&py.no, "_Py_FalseStruct", 0);
  all &= find(&py.buffer_error, "PyExc_BufferError", 1);
  all &= find(&py.type_error, "PyExc_TypeError", 1);
  all &= find(&py.value_error, "PyExc_ValueError", 1);
  return all;
}

int32_t moor_py_ready(void) {
  static const char *const names[] = {"view", "cow", "copy"};
  if (!find_all()) return MOOR_ERR_UNSUPPORTED;
  for (int i = 0; i < 3 && py.modes[i] == NULL; i++) /* once: other interpreters of the process share them or do without */
    if ((py.modes[i] = py.PyUnicode_InternFromString(names[i])) == NULL) {
      py.PyErr_Clear();
      return moor_fail(MOOR_ERR_NO_MEMORY, "no memory for the names of the modes");
    }
  return MOOR_OK;
}

/* ---- keys ---- */

int moor_py_pack_keys(key_pack *pack, object *sequence, object *(*item)(object *, ssize), ssize from, ssize count) {
  uint64_t total = 0, begin = 0;
  pack->bytes = NULL;
  for (ssize i = 0; i < count; i++) {
    ssize size;
    pack->texts[i] = py.PyUnicode_AsUTF8AndSize(item(sequence, from + i), &size);
    if (pack->texts[i] == NULL) return 0;
    pack->ends[i] = total += (uint64_t)size;
  }
  pack->bytes = malloc(total + 1);
  if (pack->bytes == NULL) return -1;
  for (ssize i = 0; i < count; begin = pack->ends[i++])
    memcpy(pack->bytes + begin, pack->texts[i], pack->ends[i] - begin);
  return 1;
}

/* ---- DLPack ---- */

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

object *moor_py_capsule_of(DLManagedTensorVersioned *tensor) {
  object *capsule = py.PyCapsule_New(tensor, versioned, moor_py_capsule_end);
  if (capsule == NULL) tensor->deleter(tensor);
  return capsule;
}

static _Atomic(const exchange_table *) exchange;

int32_t moor_py_use_exchange(const void *table) {
  const exchange_table *t = table;
  while (t != NULL && t->version.major != DLPACK_MAJOR_VERSION) t = t->previous;
  if (t == NULL || t->managed_to_object == NULL)
    return moor_fail(MOOR_ERR_UNSUPPORTED, "the DLPack exchange table of torch has no version that is understood");
  atomic_store(&exchange, t);
  return MOOR_OK;
}

const exchange_table *moor_py_exchange(void) { return atomic_load_explicit(&exchange, memory_order_acquire); }

int moor_py_borrow(const exchange_table *t, object *tensor, DLTensor *out) {
  if (t == NULL || t->borrow_from_object == NULL || t->borrow_from_object(tensor, out) != 0) return 0;
  return out->device.device_type == kDLCPU && (out->data != NULL || tensor_bytes(out) == 0);
}
