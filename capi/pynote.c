/* SPDX-License-Identifier: Apache-2.0
 *
 * Notes on what was handed out, for the debug mode of the Python package. A view with a note ends through the functions
 * below, which put back what stood there before; a view without one knows nothing of all this.
 */
#include "pybuiltin.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "layout.h"

struct moor_py_note {
  _Atomic uint32_t owners; /* the view, and who took the note */
  void *context;           /* what the view had before */
  union {
    void (*versioned)(DLManagedTensorVersioned *);
    void (*unversioned)(DLManagedTensor *);
    void (*buffer)(moor_buffer *);
  } end;
};

void moor_py_note_drop(moor_py_note *note) {
  if (note != NULL && atomic_fetch_sub_explicit(&note->owners, 1, memory_order_acq_rel) == 1) free(note);
}

int32_t moor_py_note_viewed(const moor_py_note *note) {
  return atomic_load_explicit(&note->owners, memory_order_acquire) == 2;
}

/* A note in the place of the context, unless nothing is held. */
static moor_py_note *place(void **context, uint32_t *record_out) {
  uint32_t record = moor_block_record(*context);
  moor_py_note *note = record != 0 ? malloc(sizeof *note) : NULL;
  if (note == NULL) return NULL;
  atomic_init(&note->owners, 2);
  note->context = *context;
  *context = note;
  *record_out = record;
  return note;
}

static void end_versioned(DLManagedTensorVersioned *self) {
  if (self == NULL) return;
  moor_py_note *note = self->manager_ctx;
  self->manager_ctx = note->context;
  self->deleter = note->end.versioned;
  moor_py_note_drop(note);
  self->deleter(self);
}

moor_py_note *moor_py_note_tensor(DLManagedTensorVersioned *tensor, uint32_t *record_out) {
  moor_py_note *note = tensor->deleter == end_versioned ? NULL : place(&tensor->manager_ctx, record_out);
  if (note == NULL) return NULL;
  note->end.versioned = tensor->deleter;
  tensor->deleter = end_versioned;
  return note;
}

static void end_unversioned(DLManagedTensor *self) {
  if (self == NULL) return;
  moor_py_note *note = self->manager_ctx;
  self->manager_ctx = note->context;
  self->deleter = note->end.unversioned;
  moor_py_note_drop(note);
  self->deleter(self);
}

moor_py_note *moor_py_note_unversioned(DLManagedTensor *tensor, uint32_t *record_out) {
  moor_py_note *note = tensor->deleter == end_unversioned ? NULL : place(&tensor->manager_ctx, record_out);
  if (note == NULL) return NULL;
  note->end.unversioned = tensor->deleter;
  tensor->deleter = end_unversioned;
  return note;
}

static void end_buffer(moor_buffer *self) {
  if (self == NULL || self->release == NULL) return;
  moor_py_note *note = self->private_data;
  self->private_data = note->context;
  self->release = note->end.buffer;
  moor_py_note_drop(note);
  self->release(self);
}

moor_py_note *moor_py_note_buffer(moor_buffer *buffer, uint32_t *record_out) {
  moor_py_note *note = buffer->release == end_buffer ? NULL : place(&buffer->private_data, record_out);
  if (note == NULL) return NULL;
  note->end.buffer = buffer->release;
  buffer->release = end_buffer;
  return note;
}
