/* SPDX-License-Identifier: Apache-2.0
 *
 * Entry points: the disk of a store.
 */
#include <string.h>

#include "check.h"

int32_t moor_persist(moor_store store, const moor_keys *keys, int32_t *statuses_out) {
  MOOR_ENTER();
  MOOR_TRY(moor_check_keys(keys));
  MOOR_NOT_NULL(statuses_out);
  return moorgo_persist(store.id, keys, MOOR_USED(statuses_out, keys->count));
}

int32_t moor_flush(moor_store store) {
  MOOR_ENTER();
  return moorgo_flush(store.id);
}

int32_t moor_get_disk_stats(moor_store store, moor_disk_stats *stats_out) {
  MOOR_ENTER();
  MOOR_NOT_NULL(stats_out);
  uint32_t size = stats_out->struct_size;
  MOOR_TRY(moor_check_output_struct(size, sizeof *stats_out, "stats_out"));
  moor_disk_stats stats;
  memset(&stats, 0, sizeof stats);
  MOOR_TRY(moorgo_get_disk_stats(store.id, &stats));
  memset(stats_out, 0, size);
  *stats_out = stats;
  stats_out->struct_size = size;
  return MOOR_OK;
}

int32_t moor_get_timings(moor_store store, moor_timing *timings_out, uint64_t timings_size, uint64_t *count_out,
                         moor_timings_info *info_out) {
  MOOR_ENTER();
  MOOR_TRY(moor_check_array(timings_out, timings_size, sizeof *timings_out, "timings"));
  MOOR_NOT_NULL(count_out);
  uint32_t size = info_out == NULL ? 0 : info_out->struct_size;
  if (info_out != NULL) MOOR_TRY(moor_check_output_struct(size, sizeof *info_out, "info_out"));
  moor_timings_info info;
  memset(&info, 0, sizeof info);
  MOOR_TRY(moorgo_get_timings(store.id, MOOR_USED(timings_out, timings_size), timings_size, count_out, &info));
  if (info_out != NULL) {
    memset(info_out, 0, size);
    *info_out = info;
    info_out->struct_size = size;
  }
  return MOOR_OK;
}

int32_t moor_list_operations(moor_store store, moor_operation *operations_out, uint64_t operations_size,
                             uint64_t *count_out) {
  MOOR_ENTER();
  MOOR_TRY(moor_check_array(operations_out, operations_size, sizeof *operations_out, "operations"));
  MOOR_NOT_NULL(count_out);
  return moorgo_list_operations(store.id, MOOR_USED(operations_out, operations_size), operations_size, count_out);
}

int32_t moor_inspect_directory(const char *path, moor_directory_info *info_out) {
  MOOR_ENTER();
  MOOR_NOT_NULL(path);
  MOOR_NOT_NULL(info_out);
  uint32_t size = info_out->struct_size;
  MOOR_TRY(moor_check_output_struct(size, sizeof *info_out, "info_out"));
  moor_directory_info info;
  memset(&info, 0, sizeof info);
  MOOR_TRY(moorgo_inspect_directory(path, &info));
  memset(info_out, 0, size);
  *info_out = info;
  info_out->struct_size = size;
  return MOOR_OK;
}
