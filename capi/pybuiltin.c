/* SPDX-License-Identifier: Apache-2.0
 *
 * Builtin functions for Python, made without Python.h.
 *
 * ctypes alone costs two to three times what torch.from_dlpack does (most of it converting arguments). A builtin
 * function does not.
 */
#include "pyapi.h"

/* By the numbers of moorage/_builtin.py. */
static method_def builtins[] = {
    {"tensor", (void *)moor_py_tensor, METH_FASTCALL, NULL},
    {"tensors", (void *)moor_py_tensors, METH_FASTCALL, NULL},
    {"array", (void *)moor_py_array, METH_FASTCALL, NULL},
    {"buffer", (void *)moor_py_buffer, METH_FASTCALL, NULL},
    {"read", (void *)moor_py_read, METH_FASTCALL, NULL},
    {"into", (void *)moor_py_into, METH_FASTCALL, NULL},
    {"has", (void *)moor_py_has, METH_FASTCALL, NULL},
    {"put", (void *)moor_py_put, METH_FASTCALL, NULL},
    {"put_array", (void *)moor_py_put_array, METH_FASTCALL, NULL},
    {"put_tensor", (void *)moor_py_put_tensor, METH_FASTCALL, NULL},
    {"put_parts", (void *)moor_py_put_parts, METH_FASTCALL, NULL},
    {"into_tensor", (void *)moor_py_into_tensor, METH_FASTCALL, NULL},
    {"put_many", (void *)moor_py_put_many, METH_FASTCALL, NULL},
    {"snapshot_tensor", (void *)moor_py_snapshot_tensor, METH_FASTCALL, NULL},
};

object *moor_py_bind(int32_t number, object *self) {
  if (number >= 0 && (size_t)number < sizeof builtins / sizeof builtins[0])
    return py.PyCFunction_NewEx(&builtins[number], self, NULL);
  py.PyErr_SetString(py.value_error, "there is no builtin of this number");
  return NULL;
}
