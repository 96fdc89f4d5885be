/* SPDX-License-Identifier: Apache-2.0
 *
 * Entry points: safetensors files.
 */
#include <stddef.h>
#include <stdint.h>

#include "check.h"

static __thread int in_progress;

int moor_in_progress(void) { return in_progress; }

int32_t moor_progress_call(moor_progress progress, uint64_t context, uint64_t done, uint64_t total) {
  int before = in_progress; /* a callback may import, too */
  in_progress = 1;
  int32_t answer = progress((void *)(uintptr_t)context, done, total);
  in_progress = before;
  return answer;
}

int32_t moor_import_safetensors(moor_store store, const char *path, const void *prefix, uint64_t prefix_size,
                                const moor_file_options *options, uint64_t *count_out) {
  MOOR_ENTER();
  MOOR_NOT_NULL(path);
  MOOR_TRY(moor_check_prefix(prefix, prefix_size));
  MOOR_TRY(moor_check_file_options(options));
  moor_fault_install();
  uint64_t count = 0;
  MOOR_TRY(moorgo_import_safetensors(store.id, path, MOOR_USED(prefix, prefix_size), prefix_size, options, &count));
  if (count_out != NULL) *count_out = count;
  return MOOR_OK;
}

int32_t moor_export_safetensors(moor_store store, const char *path, const moor_keys *keys, uint64_t prefix_size,
                                const moor_file_options *options) {
  MOOR_ENTER();
  MOOR_NOT_NULL(path);
  MOOR_TRY(moor_check_keys(keys));
  if (prefix_size > MOOR_MAX_KEY) {
    return moor_fail(MOOR_ERR_INVALID_ARGUMENT, "prefix_size is %llu bytes; keys have at most %d",
                     (unsigned long long)prefix_size, MOOR_MAX_KEY);
  }
  MOOR_TRY(moor_check_file_options(options));
  moor_fault_install();
  return moorgo_export_safetensors(store.id, path, keys, prefix_size, options);
}
