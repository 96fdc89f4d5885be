/* SPDX-License-Identifier: Apache-2.0
 *
 * What the py*.c files give to the Python package. Private: only moorage/_lib.py calls these, through ctypes.PyDLL (the
 * GIL is held).
 */
#ifndef MOOR_PYBUILTIN_H_
#define MOOR_PYBUILTIN_H_

#include <stdint.h>
#include "moorage.h"

#define MOOR_PY_EXPORT __attribute__((visibility("default")))

typedef struct moor_py_object moor_py_object;

/* Finds the C API of the Python that runs. MOOR_ERR_UNSUPPORTED when some of it cannot be found (another
 * implementation, or a libpython that was loaded with RTLD_LOCAL); the text names what is missing. */
MOOR_PY_EXPORT int32_t moor_py_ready(void);

/* The builtin function of this number (moorage/_builtin.py lists them), bound to what it wants as self. */
MOOR_PY_EXPORT moor_py_object *moor_py_bind(int32_t number, moor_py_object *self);

/* From now on tensors are made and read through this table of torch's (DLPackExchangeAPI); 0 when its version is
 * understood, else MOOR_ERR_UNSUPPORTED. */
MOOR_PY_EXPORT int32_t moor_py_use_exchange(const void *table);

/* A new heap type with the buffer protocol, to be subclassed. object_size is object.__basicsize__. */
MOOR_PY_EXPORT moor_py_object *moor_py_buffer_type(uint64_t object_size);
/* An object of such a type that takes over a buffer, or a tensor's bytes. NULL with an exception: nothing was taken. */
MOOR_PY_EXPORT moor_py_object *moor_py_wrap_buffer(moor_py_object *type, moor_buffer *buffer);
MOOR_PY_EXPORT moor_py_object *moor_py_wrap_tensor(moor_py_object *type, DLManagedTensorVersioned *tensor);
/* A new heap type of objects that hand one tensor to numpy. */
MOOR_PY_EXPORT moor_py_object *moor_py_carrier_type(uint64_t object_size);

/* A note tells whether something that was handed out is still there. It belongs to the view and to who took it: the view
 * marks it when it ends, from any thread and without Python; drop gives the other half back. NULL: it holds nothing (it is a
 * copy), has a note already, or there is no memory. record_out: the record that is held, as in moor_borrow. */
typedef struct moor_py_note moor_py_note;
MOOR_PY_EXPORT moor_py_note *moor_py_note_tensor(DLManagedTensorVersioned *tensor, uint32_t *record_out);
MOOR_PY_EXPORT moor_py_note *moor_py_note_unversioned(DLManagedTensor *tensor, uint32_t *record_out);
MOOR_PY_EXPORT moor_py_note *moor_py_note_buffer(moor_buffer *buffer, uint32_t *record_out);
MOOR_PY_EXPORT int32_t moor_py_note_viewed(const moor_py_note *note); /* 1 until the view has ended */
MOOR_PY_EXPORT void moor_py_note_drop(moor_py_note *note);

/* From now on notices (MOOR_NOTICE_* in layout.h) are told: later(tell, number) makes Python call tell(number) when it suits.
 * NULL, NULL ends it. */
typedef int (*moor_py_tell)(void *number);
typedef int (*moor_py_later)(moor_py_tell tell, void *number); /* Py_AddPendingCall */
MOOR_PY_EXPORT void moor_py_listen(moor_py_later later, moor_py_tell tell);

/* Destructor of a capsule "dltensor_versioned" or "dltensor": ends the tensor unless a consumer took it. */
MOOR_PY_EXPORT void moor_py_capsule_end(moor_py_object *capsule);

#endif
