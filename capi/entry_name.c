/* SPDX-License-Identifier: Apache-2.0
 *
 * Entry points: names.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "check.h"

int32_t moor_remove(moor_store store, const void *key, uint64_t key_size) {
  MOOR_ENTER();
  MOOR_TRY(moor_check_key(key, key_size));
  return moorgo_remove(store.id, key, key_size);
}

int32_t moor_clear(moor_store store, uint64_t *removed_out) {
  MOOR_ENTER();
  uint64_t removed = 0;
  MOOR_TRY(moorgo_clear(store.id, &removed));
  if (removed_out != NULL) *removed_out = removed;
  return MOOR_OK;
}

int32_t moor_pin(moor_store store, const void *key, uint64_t key_size) {
  MOOR_ENTER();
  MOOR_TRY(moor_check_key(key, key_size));
  return moorgo_pin(store.id, key, key_size, 1);
}

int32_t moor_unpin(moor_store store, const void *key, uint64_t key_size) {
  MOOR_ENTER();
  MOOR_TRY(moor_check_key(key, key_size));
  return moorgo_pin(store.id, key, key_size, 0);
}

int32_t moor_describe(moor_store store, const void *key, uint64_t key_size, moor_description *description_out) {
  MOOR_ENTER();
  MOOR_TRY(moor_check_key(key, key_size));
  MOOR_NOT_NULL(description_out);
  uint32_t size = description_out->struct_size;
  MOOR_TRY(moor_check_output_struct(size, sizeof *description_out, "description_out"));
  MOOR_TRY(moorgo_describe(store.id, key, key_size, description_out));
  memset((char *)description_out + sizeof *description_out, 0, size - sizeof *description_out);
  description_out->struct_size = size;
  return MOOR_OK;
}

int32_t moor_list_keys(moor_store store, const void *prefix, uint64_t prefix_size, uint64_t *cursor, void *buffer,
                       uint64_t buffer_size, uint64_t *ends, uint64_t ends_size, uint64_t *count_out) {
  MOOR_ENTER();
  MOOR_TRY(moor_check_prefix(prefix, prefix_size));
  MOOR_NOT_NULL(cursor);
  MOOR_TRY(moor_check_memory(buffer, buffer_size, "buffer"));
  MOOR_NOT_NULL(ends);
  if (ends_size == 0 || ends_size > (uint64_t)PTRDIFF_MAX / sizeof *ends) {
    return moor_fail(MOOR_ERR_INVALID_ARGUMENT, "ends_size is %llu entries", (unsigned long long)ends_size);
  }
  MOOR_NOT_NULL(count_out);
  return moorgo_list_keys(store.id, MOOR_USED(prefix, prefix_size), prefix_size, cursor, MOOR_USED(buffer, buffer_size),
                          buffer_size, ends, ends_size, count_out);
}

int32_t moor_list_borrows(moor_store store, void *buffer, uint64_t buffer_size, moor_borrow *borrows,
                          uint64_t borrows_size, uint64_t *count_out, uint64_t *bytes_out) {
  MOOR_ENTER();
  MOOR_TRY(moor_check_memory(buffer, buffer_size, "buffer"));
  MOOR_TRY(moor_check_array(borrows, borrows_size, sizeof *borrows, "borrows"));
  MOOR_NOT_NULL(count_out);
  MOOR_NOT_NULL(bytes_out);
  moor_fault_install();
  return moorgo_list_borrows(store.id, MOOR_USED(buffer, buffer_size), buffer_size, MOOR_USED(borrows, borrows_size),
                             borrows_size, count_out, bytes_out);
}
