/* SPDX-License-Identifier: Apache-2.0
 *
 * Entry points: opening, closing, counters, upkeep.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "check.h"

uint32_t moor_disks;

static int32_t check_disk_options(const moor_disk_options *o) {
  if (o == NULL) return MOOR_OK;
  MOOR_TRY(moor_check_input_struct(o, sizeof *o, "options->disk"));
  MOOR_TRY(moor_check_not_null(o->path, "options->disk->path"));
  if (o->path[0] == 0) return moor_fail(MOOR_ERR_INVALID_ARGUMENT, "options->disk->path is empty");
  if (o->capacity > (uint64_t)PTRDIFF_MAX) {
    return moor_fail(MOOR_ERR_INVALID_ARGUMENT, "options->disk->capacity is %llu bytes",
                     (unsigned long long)o->capacity);
  }
  MOOR_TRY(moor_check_choice(o->durability, MOOR_DURABLE_EACH, "options->disk->durability", "MOOR_DURABLE_*"));
  MOOR_TRY(moor_check_choice(o->verify, MOOR_VERIFY_OFF, "options->disk->verify", "MOOR_VERIFY_*"));
  MOOR_TRY(moor_check_choice(o->promote, MOOR_PROMOTE_NEVER, "options->disk->promote", "MOOR_PROMOTE_*"));
  MOOR_TRY(moor_check_choice(o->write, MOOR_WRITE_THROUGH, "options->disk->write", "MOOR_WRITE_*"));
  return moor_check_choice(o->read_path, MOOR_READ_MMAP, "options->disk->read_path", "MOOR_READ_*");
}

static int32_t check_store_options(const moor_store_options *o) {
  if (o == NULL) return MOOR_OK;
  MOOR_TRY(moor_check_input_struct(o, sizeof *o, "options"));
  MOOR_TRY(moor_check_choice(o->eviction, MOOR_EVICT_S3FIFO, "options->eviction", "MOOR_EVICT_*"));
  MOOR_TRY(moor_check_choice(o->hugepages, MOOR_HUGE_OFF, "options->hugepages", "MOOR_HUGE_*"));
  MOOR_TRY(moor_check_choice(o->prefault, MOOR_PREFAULT_OPEN, "options->prefault", "MOOR_PREFAULT_*"));
  MOOR_TRY(check_disk_options(o->disk));
  MOOR_TRY(moor_check_choice(o->registering, MOOR_REGISTERING_REQUIRE, "options->registering", "MOOR_REGISTERING_*"));
  MOOR_TRY(moor_check_choice(o->reserved, 0, "options->reserved", "0"));
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
  if (options != NULL && options->disk != NULL) __atomic_store_n(&moor_disks, 1, __ATOMIC_RELAXED);
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
