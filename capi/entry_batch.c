/* SPDX-License-Identifier: Apache-2.0
 *
 * Entry points: batches. One crossing into Go for all keys.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "check.h"
#include "scatter.h"

#define ON_STACK 64 /* holds of a small batch need no memory */

/* Looks up all keys. holds_out is either small, which has room for ON_STACK, or from malloc; end with free_holds. */
static int32_t look_up(moor_store store, const moor_keys *keys, moor_hold *small, moor_hold **holds_out,
                       int32_t *statuses_out) {
  moor_hold *holds = small;
  if (keys->count > ON_STACK) {
    holds = malloc((size_t)keys->count * sizeof *holds);
    if (holds == NULL) {
      return moor_fail(MOOR_ERR_NO_MEMORY, "no memory for a batch of %llu keys; give fewer at a time",
                       (unsigned long long)keys->count);
    }
  }
  int32_t status = moorgo_get_batch(store.id, keys, holds, MOOR_USED(statuses_out, keys->count));
  if (status == MOOR_OK) {
    *holds_out = holds;
  } else if (holds != small) {
    free(holds);
  }
  return status;
}

static void free_holds(moor_hold *holds, const moor_hold *small) {
  if (holds != small) free(holds);
}

int32_t moor_get_tensors(moor_store store, const moor_keys *keys, uint32_t mode,
                         DLManagedTensorVersioned **tensors_out, int32_t *statuses_out) {
  MOOR_ENTER();
  MOOR_TRY(moor_check_keys(keys));
  MOOR_TRY(moor_check_mode(mode));
  MOOR_NOT_NULL(tensors_out);
  MOOR_NOT_NULL(statuses_out);
  moor_hold small[ON_STACK], *holds;
  MOOR_TRY(look_up(store, keys, small, &holds, statuses_out));
  for (uint64_t i = 0; i < keys->count; i++) {
    if (statuses_out[i] == MOOR_OK) statuses_out[i] = moor_view_tensor(&holds[i], mode, &tensors_out[i]);
  }
  free_holds(holds, small);
  return MOOR_OK;
}

int32_t moor_get_buffers(moor_store store, const moor_keys *keys, uint32_t mode, moor_buffer *buffers_out,
                         int32_t *statuses_out) {
  MOOR_ENTER();
  MOOR_TRY(moor_check_keys(keys));
  MOOR_TRY(moor_check_mode(mode));
  MOOR_NOT_NULL(buffers_out);
  MOOR_NOT_NULL(statuses_out);
  moor_hold small[ON_STACK], *holds;
  MOOR_TRY(look_up(store, keys, small, &holds, statuses_out));
  for (uint64_t i = 0; i < keys->count; i++) {
    if (statuses_out[i] == MOOR_OK) statuses_out[i] = moor_view_buffer(&holds[i], mode, &buffers_out[i]);
  }
  free_holds(holds, small);
  return MOOR_OK;
}

int32_t moor_put_batch(moor_store store, const moor_keys *keys, const moor_part *parts, const uint64_t *part_ends,
                       const moor_put_options *options, moor_put_result *results_out, int32_t *statuses_out) {
  MOOR_ENTER();
  MOOR_TRY(moor_check_keys(keys));
  MOOR_TRY(moor_check_ends(part_ends, keys->count, parts, sizeof *parts, "part"));
  uint64_t start = 0;
  for (uint64_t i = 0; i < keys->count; start = part_ends[i++]) {
    MOOR_TRY(moor_check_parts(parts == NULL ? NULL : parts + start, part_ends[i] - start, (int64_t)i));
  }
  MOOR_TRY(moor_check_put_options(options, MOOR_PUT_ATOMIC));
  MOOR_NOT_NULL(statuses_out);
  uint64_t n = keys->count;
  return moorgo_put_batch(store.id, keys, MOOR_USED(parts, start), MOOR_USED(part_ends, n), options,
                          MOOR_USED(results_out, n), MOOR_USED(statuses_out, n));
}

int32_t moor_put_tensors(moor_store store, const moor_keys *keys, const DLTensor *const *tensors,
                         const moor_put_options *options, moor_put_result *results_out, int32_t *statuses_out) {
  MOOR_ENTER();
  MOOR_TRY(moor_check_keys(keys));
  if (keys->count > 0) MOOR_NOT_NULL(tensors);
  for (uint64_t i = 0; i < keys->count; i++) {
    MOOR_TRY(moor_check_tensor(tensors[i], MOOR_WITH_DATA, "a tensor of tensors"));
  }
  MOOR_TRY(moor_check_put_options(options, MOOR_PUT_AS_BYTES | MOOR_PUT_ATOMIC));
  MOOR_NOT_NULL(statuses_out);
  uint64_t n = keys->count;
  return moorgo_put_tensors(store.id, keys, MOOR_USED(tensors, n), options, MOOR_USED(results_out, n),
                            MOOR_USED(statuses_out, n));
}

int32_t moor_get_batch_into(moor_store store, const moor_keys *keys, const uint64_t *offsets, const uint64_t *nbytes,
                            const moor_span *spans, const uint64_t *span_ends, uint64_t *copied_out,
                            int32_t *statuses_out) {
  MOOR_ENTER();
  MOOR_TRY(moor_check_keys(keys));
  MOOR_TRY(moor_check_ends(span_ends, keys->count, spans, sizeof *spans, "span"));
  uint64_t start = 0;
  for (uint64_t i = 0; i < keys->count; start = span_ends[i++]) {
    MOOR_TRY(moor_check_spans(spans == NULL ? NULL : spans + start, span_ends[i] - start));
  }
  MOOR_NOT_NULL(statuses_out);
  moor_hold small[ON_STACK], *holds;
  MOOR_TRY(look_up(store, keys, small, &holds, statuses_out));
  start = 0;
  for (uint64_t i = 0; i < keys->count; start = span_ends[i++]) {
    if (statuses_out[i] != MOOR_OK) continue;
    uint64_t copied = 0;
    statuses_out[i] =
        moor_scatter(&holds[i], offsets != NULL ? offsets[i] : 0, nbytes != NULL ? nbytes[i] : MOOR_ALL,
                     spans == NULL ? NULL : spans + start, span_ends[i] - start, &copied);
    if (statuses_out[i] == MOOR_OK && copied_out != NULL) copied_out[i] = copied;
  }
  free_holds(holds, small);
  return MOOR_OK;
}

int32_t moor_remove_batch(moor_store store, const moor_keys *keys, int32_t *statuses_out) {
  MOOR_ENTER();
  MOOR_TRY(moor_check_keys(keys));
  MOOR_NOT_NULL(statuses_out);
  return moorgo_remove_batch(store.id, keys, MOOR_USED(statuses_out, keys->count));
}

int32_t moor_exists(moor_store store, const moor_keys *keys, uint8_t *found_out) {
  MOOR_ENTER();
  MOOR_TRY(moor_check_keys(keys));
  MOOR_NOT_NULL(found_out);
  return moorgo_exists(store.id, keys, MOOR_USED(found_out, keys->count));
}

int32_t moor_count_objects(moor_store store, uint64_t *objects_out, uint64_t *views_out) {
  MOOR_ENTER();
  uint64_t objects, views;
  MOOR_TRY(moorgo_count_objects(store.id, &objects, &views));
  if (objects_out != NULL) *objects_out = objects;
  if (views_out != NULL) *views_out = views;
  return MOOR_OK;
}

int32_t moor_wait(moor_store store, const moor_keys *keys, uint64_t timeout_ns) {
  MOOR_ENTER();
  MOOR_TRY(moor_check_keys(keys));
  return moorgo_wait(store.id, keys, timeout_ns);
}

int32_t moor_count_leading(moor_store store, const moor_keys *keys, uint64_t *count_out) {
  MOOR_ENTER();
  MOOR_TRY(moor_check_keys(keys));
  MOOR_NOT_NULL(count_out);
  return moorgo_count_leading(store.id, keys, count_out);
}
