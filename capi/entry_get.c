/* SPDX-License-Identifier: Apache-2.0
 *
 * Entry points: getting. Go looks the key up and counts a view; the rest is C.
 */
#include <stddef.h>
#include <stdint.h>

#include "check.h"
#include "scatter.h"

static int32_t look_up(moor_store store, const void *key, uint64_t key_size, uint32_t mode, const void *out,
                       const char *name, moor_hold *hold) {
  MOOR_TRY(moor_check_key(key, key_size));
  MOOR_TRY(moor_check_mode(mode));
  MOOR_TRY(moor_check_not_null(out, name));
  return moorgo_get(store.id, key, key_size, hold);
}

int32_t moor_get_tensor(moor_store store, const void *key, uint64_t key_size, uint32_t mode,
                        DLManagedTensorVersioned **tensor_out) {
  MOOR_ENTER();
  moor_hold hold;
  MOOR_TRY(look_up(store, key, key_size, mode, tensor_out, "tensor_out", &hold));
  return moor_view_tensor(&hold, mode, tensor_out);
}

int32_t moor_get_tensor_unversioned(moor_store store, const void *key, uint64_t key_size, uint32_t mode,
                                    DLManagedTensor **tensor_out) {
  MOOR_ENTER();
  moor_hold hold;
  MOOR_TRY(look_up(store, key, key_size, mode, tensor_out, "tensor_out", &hold));
  return moor_view_tensor_unversioned(&hold, mode, tensor_out);
}

int32_t moor_get_buffer(moor_store store, const void *key, uint64_t key_size, uint32_t mode, moor_buffer *buffer_out) {
  MOOR_ENTER();
  moor_hold hold;
  MOOR_TRY(look_up(store, key, key_size, mode, buffer_out, "buffer_out", &hold));
  return moor_view_buffer(&hold, mode, buffer_out);
}

int32_t moor_get(moor_store store, const void *key, uint64_t key_size, void *out, uint64_t capacity,
                 uint64_t *size_out) {
  MOOR_ENTER();
  MOOR_TRY(moor_check_key(key, key_size));
  MOOR_TRY(moor_check_memory(out, capacity, "out"));
  MOOR_NOT_NULL(size_out);
  moor_hold hold;
  MOOR_TRY(moorgo_get(store.id, key, key_size, &hold));
  uint64_t size = hold.size, copied;
  if (size > capacity) {
    moor_control *control = (moor_control *)(uintptr_t)hold.control;
    __atomic_fetch_add(&control->asked, 1, __ATOMIC_RELAXED);
    moor_hold_release(&hold);
    *size_out = size;
    return moor_fail(MOOR_ERR_TOO_SMALL, "the object has %llu bytes, and capacity is %llu", (unsigned long long)size,
                     (unsigned long long)capacity);
  }
  moor_span span = {.data = out, .size = size};
  MOOR_TRY(moor_scatter(&hold, 0, size, &span, 1, &copied));
  *size_out = size;
  return MOOR_OK;
}

int32_t moor_get_into(moor_store store, const void *key, uint64_t key_size, uint64_t offset, uint64_t nbytes,
                      const moor_span *spans, uint64_t span_count, uint64_t *copied_out) {
  MOOR_ENTER();
  MOOR_TRY(moor_check_key(key, key_size));
  MOOR_TRY(moor_check_spans(spans, span_count));
  MOOR_NOT_NULL(copied_out);
  if (moor_may_wait() && span_count == 1 && !moor_is_read_only(spans->data, spans->size)) {
    int32_t status = moorgo_read_into(store.id, key, key_size, offset, nbytes, (uintptr_t)spans->data, spans->size,
                                      copied_out);
    if (status != MOOR_ELSEWHERE) return status;
  }
  moor_hold hold;
  MOOR_TRY(moorgo_get(store.id, key, key_size, &hold));
  return moor_scatter(&hold, offset, nbytes, spans, span_count, copied_out);
}

int32_t moor_take_tensor(moor_store store, const void *key, uint64_t key_size, DLManagedTensorVersioned **tensor_out) {
  MOOR_ENTER();
  MOOR_TRY(moor_check_key(key, key_size));
  MOOR_NOT_NULL(tensor_out);
  moor_block *block;
  MOOR_TRY(moor_block_new(&block));
  moor_hold hold;
  int32_t status = moorgo_take(store.id, key, key_size, &hold);
  if (status == MOOR_OK) {
    *tensor_out = moor_view_own(&hold, block);
  } else {
    moor_block_free(block);
  }
  return status;
}
