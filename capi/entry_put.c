/* SPDX-License-Identifier: Apache-2.0
 *
 * Entry points: putting, and producing in place.
 */
#include <stddef.h>
#include <stdint.h>

#include "check.h"

/* Go writes into a struct of ours, so that the caller's is written only on success. */
static int32_t give(int32_t status, const moor_put_result *from, moor_put_result *to) {
  if (status == MOOR_OK && to != NULL) *to = *from;
  return status;
}

int32_t moor_put(moor_store store, const void *key, uint64_t key_size, const void *data, uint64_t size,
                 const moor_put_options *options, moor_put_result *result_out) {
  MOOR_ENTER();
  MOOR_TRY(moor_check_key(key, key_size));
  MOOR_TRY(moor_check_memory(data, size, "data"));
  MOOR_TRY(moor_check_put_options(options, 0));
  moor_put_result result = {0};
  moor_part part = {.data = data, .size = size};
  return give(moorgo_put_parts(store.id, key, key_size, &part, 1, options, &result), &result, result_out);
}

int32_t moor_put_parts(moor_store store, const void *key, uint64_t key_size, const moor_part *parts,
                       uint64_t part_count, const moor_put_options *options, moor_put_result *result_out) {
  MOOR_ENTER();
  MOOR_TRY(moor_check_key(key, key_size));
  MOOR_TRY(moor_check_parts(parts, part_count, -1));
  MOOR_TRY(moor_check_put_options(options, 0));
  moor_put_result result = {0};
  return give(moorgo_put_parts(store.id, key, key_size, MOOR_USED(parts, part_count), part_count, options, &result), &result, result_out);
}

int32_t moor_put_tensor(moor_store store, const void *key, uint64_t key_size, const DLTensor *tensor,
                        const moor_put_options *options, moor_put_result *result_out) {
  MOOR_ENTER();
  MOOR_TRY(moor_check_key(key, key_size));
  MOOR_TRY(moor_check_tensor(tensor, MOOR_WITH_DATA, "tensor"));
  MOOR_TRY(moor_check_put_options(options, MOOR_PUT_AS_BYTES));
  moor_put_result result = {0};
  return give(moorgo_put_tensor(store.id, key, key_size, tensor, options, &result), &result, result_out);
}

int32_t moor_reserve(moor_store store, uint64_t size, moor_reservation *reservation_out, void **data_out) {
  MOOR_ENTER();
  if (size > (uint64_t)PTRDIFF_MAX) {
    return moor_fail(MOOR_ERR_INVALID_ARGUMENT, "size is %llu bytes", (unsigned long long)size);
  }
  MOOR_NOT_NULL(reservation_out);
  MOOR_NOT_NULL(data_out);
  uint64_t id, data;
  MOOR_TRY(moorgo_reserve(store.id, size, &id, &data));
  reservation_out->id = id;
  *data_out = (void *)(uintptr_t)data;
  return MOOR_OK;
}

int32_t moor_commit(moor_reservation reservation, const void *key, uint64_t key_size, const DLTensor *tensor,
                    const moor_put_options *options, moor_put_result *result_out) {
  MOOR_ENTER();
  MOOR_TRY(moor_check_key(key, key_size));
  if (tensor != NULL) MOOR_TRY(moor_check_tensor(tensor, MOOR_SHAPE_ONLY, "tensor"));
  MOOR_TRY(moor_check_put_options(options, MOOR_PUT_NO_PROTECT));
  moor_put_result result = {0};
  return give(moorgo_commit(reservation.id, key, key_size, tensor, options, &result), &result, result_out);
}

int32_t moor_abort(moor_reservation reservation) {
  MOOR_ENTER();
  return moorgo_abort(reservation.id);
}

int32_t moor_empty_tensor(moor_store store, const DLTensor *like, DLManagedTensorVersioned **tensor_out) {
  MOOR_ENTER();
  MOOR_TRY(moor_check_tensor(like, MOOR_SHAPE_ONLY, "like"));
  MOOR_NOT_NULL(tensor_out);
  moor_block *block;
  MOOR_TRY(moor_block_new(&block));
  moor_hold hold;
  int32_t status = moorgo_empty(store.id, like, &hold);
  if (status == MOOR_OK) {
    *tensor_out = moor_view_own(&hold, block);
  } else {
    moor_block_free(block);
  }
  return status;
}

int32_t moor_adopt_tensor(moor_store store, const void *key, uint64_t key_size, const DLTensor *tensor,
                          const moor_put_options *options, moor_put_result *result_out) {
  MOOR_ENTER();
  MOOR_TRY(moor_check_key(key, key_size));
  MOOR_TRY(moor_check_tensor(tensor, MOOR_WITH_DATA, "tensor"));
  MOOR_TRY(moor_check_put_options(options, 0));
  moor_put_result result = {0};
  return give(moorgo_adopt(store.id, key, key_size, tensor, options, &result), &result, result_out);
}
