/* SPDX-License-Identifier: Apache-2.0 */
#include <stddef.h>
#include <stdint.h>

#include "exports.h"
#include "scatter.h"

typedef unsigned long long ull;

int32_t moor_check_spans(const moor_span *spans, uint64_t count) {
  if (count > (uint64_t)PTRDIFF_MAX / sizeof *spans) {
    return moor_fail(MOOR_ERR_INVALID_ARGUMENT, "span_count is %llu", (ull)count);
  }
  if (spans == NULL && count > 0) return moor_fail(MOOR_ERR_INVALID_ARGUMENT, "spans is NULL");
  uint64_t total = 0;
  for (uint64_t i = 0; i < count; i++) {
    if (spans[i].data == NULL && spans[i].size > 0) {
      return moor_fail(MOOR_ERR_INVALID_ARGUMENT, "spans[%llu].data is NULL, and its size is %llu bytes", (ull)i,
                       (ull)spans[i].size);
    }
    if (spans[i].size > (uint64_t)PTRDIFF_MAX - total) {
      return moor_fail(MOOR_ERR_INVALID_ARGUMENT, "the sizes of spans add up to more than memory can hold");
    }
    total += spans[i].size;
  }
  return MOOR_OK;
}

static uint64_t least(uint64_t a, uint64_t b) { return a < b ? a : b; }

int moor_is_read_only(const void *data, uint64_t size) {
  uint64_t address = (uintptr_t)data;
  return moor_region_overlaps(address, size) ||
         (moor_region_touches(address, size) && moorgo_is_published(address, size) != 0);
}

/* The spans that n bytes reach: room for them, and none of it read-only. */
static int32_t check_room(uint64_t n, const moor_span *spans, uint64_t count) {
  uint64_t left = n;
  for (uint64_t i = 0; i < count && left > 0; i++) {
    uint64_t part = least(spans[i].size, left);
    if (moor_is_read_only(spans[i].data, part)) {
      return moor_fail(MOOR_ERR_READ_ONLY,
                       "span %llu of the destination lies in the read-only memory of a store; give memory of your own",
                       (ull)i);
    }
    left -= part;
  }
  if (left == 0) return MOOR_OK;
  return moor_fail(MOOR_ERR_TOO_SMALL, "nbytes: %llu are to be copied, and the destination holds %llu", (ull)n,
                   (ull)(n - left));
}

static int32_t copy(const moor_hold *hold, uint64_t offset, uint64_t nbytes, const moor_span *spans, uint64_t count,
                    uint64_t *copied_out) {
  if (offset > hold->size || (nbytes != MOOR_ALL && nbytes > hold->size - offset)) {
    return moor_fail(MOOR_ERR_INVALID_ARGUMENT, "nbytes %llu from offset %llu exceed the object's %llu bytes",
                     (ull)nbytes, (ull)offset, (ull)hold->size);
  }
  uint64_t n = nbytes == MOOR_ALL ? hold->size - offset : nbytes;
  int32_t status = check_room(n, spans, count);
  if (status != MOOR_OK) return status;
  uint64_t from = hold->data + offset, left = n;
  for (uint64_t i = 0; left > 0; i++) {
    uint64_t part = least(spans[i].size, left);
    moor_copy((uintptr_t)spans[i].data, from, part, NULL);
    from += part;
    left -= part;
  }
  moor_control *control = (moor_control *)(uintptr_t)hold->control;
  __atomic_fetch_add(&control->copied_out, n, __ATOMIC_RELAXED);
  *copied_out = n;
  return MOOR_OK;
}

int32_t moor_scatter(const moor_hold *hold, uint64_t offset, uint64_t nbytes, const moor_span *spans, uint64_t count,
                     uint64_t *copied_out) {
  int32_t status = copy(hold, offset, nbytes, spans, count, copied_out);
  moor_hold_release(hold);
  return status;
}
