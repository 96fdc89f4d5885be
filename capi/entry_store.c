/* SPDX-License-Identifier: Apache-2.0
 *
 * Entry points: opening, closing, counters, upkeep.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "check.h"

static int32_t check_store_options(const moor_store_options *o) {
  if (o == NULL) return MOOR_OK;
  MOOR_TRY(moor_check_input_struct(o, sizeof *o, "options"));
  if (o->eviction > MOOR_EVICT_S3FIFO) {
    return moor_fail(MOOR_ERR_INVALID_ARGUMENT, "options->eviction is %u; it is one of MOOR_EVICT_*", o->eviction);
  }
  if (o->hugepages > MOOR_HUGE_REQUIRE) {
    return moor_fail(MOOR_ERR_INVALID_ARGUMENT, "options->hugepages is %u; it is one of MOOR_HUGE_*", o->hugepages);
  }
  if (o->prefault > MOOR_PREFAULT_OPEN) {
    return moor_fail(MOOR_ERR_INVALID_ARGUMENT, "options->prefault is %u; it is one of MOOR_PREFAULT_*", o->prefault);
  }
  if (o->registering > MOOR_REGISTERING_REQUIRE) {
    return moor_fail(MOOR_ERR_INVALID_ARGUMENT, "options->registering is %u; it is one of MOOR_REGISTERING_*",
                     o->registering);
  }
  if (o->reserved != 0) return moor_fail(MOOR_ERR_INVALID_ARGUMENT, "options->reserved is not 0");
  if (o->capacity > (uint64_t)PTRDIFF_MAX) {
    return moor_fail(MOOR_ERR_INVALID_ARGUMENT, "options->capacity is %llu bytes", (unsigned long long)o->capacity);
  }
  return MOOR_OK;
}

int32_t moor_store_open(const moor_store_options *options, moor_store *store_out) {
  MOOR_ENTER();
  MOOR_TRY(check_store_options(options));
  MOOR_NOT_NULL(store_out);
  MOOR_TRY(moor_fork_init());
  uint64_t id;
  MOOR_TRY(moorgo_store_open(options, &id));
  moor_fault_install();
  store_out->id = id;
  return MOOR_OK;
}

int32_t moor_store_close(moor_store store, uint32_t flags) {
  MOOR_ENTER();
  if ((flags & ~MOOR_CLOSE_WAIT) != 0) {
    return moor_fail(MOOR_ERR_INVALID_ARGUMENT, "flags is 0x%x; it is 0 or MOOR_CLOSE_WAIT", flags);
  }
  if (moor_in_progress()) {
    return moor_fail(MOOR_ERR_BUSY, "a store cannot be closed from a progress callback: close would wait for the call "
                                    "that called it; return a number other than 0 to stop, and close afterwards");
  }
  return moorgo_store_close(store.id, flags);
}

int32_t moor_get_stats(moor_store store, moor_stats *stats_out) {
  MOOR_ENTER();
  MOOR_NOT_NULL(stats_out);
  uint32_t size = stats_out->struct_size;
  MOOR_TRY(moor_check_output_struct(size, sizeof *stats_out, "stats_out"));
  moor_fault_install();
  moor_stats stats;
  memset(&stats, 0, sizeof stats);
  stats.struct_size = sizeof stats;
  MOOR_TRY(moorgo_get_stats(store.id, &stats));
  /* What a newer program asks for and this library does not count is 0. */
  memset(stats_out, 0, size);
  *stats_out = stats;
  stats_out->struct_size = size;
  return MOOR_OK;
}

int32_t moor_trim(moor_store store, uint64_t *freed_out) {
  MOOR_ENTER();
  moor_fault_install();
  uint64_t freed = 0;
  MOOR_TRY(moorgo_trim(store.id, &freed));
  if (freed_out != NULL) *freed_out = freed;
  return MOOR_OK;
}
