/* SPDX-License-Identifier: Apache-2.0
 *
 * Entry points: jobs and the queues that tell of them.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "check.h"
#include "scatter.h"

typedef unsigned long long ull;

int32_t moor_queue_open(moor_queue *queue_out) {
  MOOR_ENTER();
  MOOR_NOT_NULL(queue_out);
  uint64_t id;
  MOOR_TRY(moorgo_queue_open(&id));
  queue_out->id = id;
  return MOOR_OK;
}

int32_t moor_queue_close(moor_queue queue) {
  MOOR_ENTER();
  return moorgo_queue_close(queue.id);
}

int32_t moor_queue_get_fd(moor_queue queue, int32_t *fd_out) {
  MOOR_ENTER();
  MOOR_NOT_NULL(fd_out);
  return moorgo_queue_get_fd(queue.id, fd_out);
}

/* Room for so many structs of the caller's. */
static int32_t check_room(const void *array, uint64_t count, uint64_t element, const char *name, const char *count_name) {
  if (count > (uint64_t)PTRDIFF_MAX / element) {
    return moor_fail(MOOR_ERR_INVALID_ARGUMENT, "%s is %llu", count_name, (ull)count);
  }
  return count > 0 ? moor_check_not_null(array, name) : MOOR_OK;
}

int32_t moor_queue_drain(moor_queue queue, moor_completion *completions_out, uint64_t room, uint64_t *count_out) {
  MOOR_ENTER();
  MOOR_TRY(check_room(completions_out, room, sizeof *completions_out, "completions_out", "room"));
  MOOR_NOT_NULL(count_out);
  return moorgo_queue_drain(queue.id, MOOR_USED(completions_out, room), room, count_out);
}

int32_t moor_submit_keys(moor_store store, moor_queue queue, uint32_t kind, const moor_keys *keys, uint64_t tag,
                         moor_job *job_out) {
  MOOR_ENTER();
  if (kind != MOOR_JOB_GET && (kind < MOOR_JOB_PREFETCH || kind > MOOR_JOB_PERSIST)) {
    return moor_fail(MOOR_ERR_INVALID_ARGUMENT,
                     "kind is %u; it is one of MOOR_JOB_*, without those that have a function of their own", kind);
  }
  MOOR_TRY(moor_check_keys(keys));
  MOOR_NOT_NULL(job_out);
  return moorgo_submit_keys(store.id, queue.id, kind, keys, tag, &job_out->id);
}

int32_t moor_submit_get_into(moor_store store, moor_queue queue, const moor_keys *keys, const uint64_t *offsets,
                             const uint64_t *nbytes, const moor_span *spans, const uint64_t *span_ends, uint64_t tag,
                             moor_job *job_out) {
  MOOR_ENTER();
  MOOR_TRY(moor_check_keys(keys));
  MOOR_TRY(moor_check_ends(span_ends, keys->count, spans, sizeof *spans, "span"));
  uint64_t start = 0;
  for (uint64_t i = 0; i < keys->count; start = span_ends[i++]) {
    MOOR_TRY(moor_check_spans(spans == NULL ? NULL : spans + start, span_ends[i] - start));
  }
  MOOR_NOT_NULL(job_out);
  uint64_t n = keys->count;
  return moorgo_submit_get_into(store.id, queue.id, keys, MOOR_USED(offsets, n), MOOR_USED(nbytes, n),
                                MOOR_USED(spans, start), MOOR_USED(span_ends, n), tag, &job_out->id);
}

int32_t moor_submit_put(moor_store store, moor_queue queue, const moor_keys *keys, const moor_part *parts,
                        const uint64_t *part_ends, const moor_put_options *options, uint64_t tag, moor_job *job_out) {
  MOOR_ENTER();
  MOOR_TRY(moor_check_keys(keys));
  MOOR_TRY(moor_check_ends(part_ends, keys->count, parts, sizeof *parts, "part"));
  uint64_t start = 0;
  for (uint64_t i = 0; i < keys->count; start = part_ends[i++]) {
    MOOR_TRY(moor_check_parts(parts == NULL ? NULL : parts + start, part_ends[i] - start, (int64_t)i));
  }
  MOOR_TRY(moor_check_put_options(options, MOOR_PUT_ATOMIC));
  MOOR_NOT_NULL(job_out);
  return moorgo_submit_put(store.id, queue.id, keys, MOOR_USED(parts, start), MOOR_USED(part_ends, keys->count),
                           options, tag, &job_out->id);
}

int32_t moor_submit_put_tensors(moor_store store, moor_queue queue, const moor_keys *keys,
                                const DLTensor *const *tensors, const moor_put_options *options, uint64_t tag,
                                moor_job *job_out) {
  MOOR_ENTER();
  MOOR_TRY(moor_check_keys(keys));
  if (keys->count > 0) MOOR_NOT_NULL(tensors);
  for (uint64_t i = 0; i < keys->count; i++) {
    MOOR_TRY(moor_check_tensor(tensors[i], MOOR_WITH_DATA, "a tensor of tensors"));
  }
  MOOR_TRY(moor_check_put_options(options, MOOR_PUT_AS_BYTES | MOOR_PUT_ATOMIC));
  MOOR_NOT_NULL(job_out);
  return moorgo_submit_put_tensors(store.id, queue.id, keys, MOOR_USED(tensors, keys->count), options, tag,
                                   &job_out->id);
}

int32_t moor_job_cancel(moor_job job) {
  MOOR_ENTER();
  return moorgo_job_cancel(job.id);
}

int32_t moor_job_wait(moor_job job, uint64_t timeout_ns) {
  MOOR_ENTER();
  return moorgo_job_wait(job.id, timeout_ns);
}

int32_t moor_job_get_status(moor_job job, uint64_t index) {
  MOOR_ENTER();
  return moorgo_job_get_status(job.id, index);
}

int32_t moor_job_get_results(moor_job job, uint64_t first, uint64_t count, moor_completion *results_out) {
  MOOR_ENTER();
  MOOR_TRY(check_room(results_out, count, sizeof *results_out, "results_out", "count"));
  return moorgo_job_get_results(job.id, first, count, MOOR_USED(results_out, count));
}

#define ON_STACK 64 /* holds of a few keys need no memory */

/* How views are handed out. */
typedef int32_t (*handing)(const moor_hold *hold, uint32_t mode, void *array, uint64_t i);

static int32_t as_tensor(const moor_hold *hold, uint32_t mode, void *array, uint64_t i) {
  return moor_view_tensor(hold, mode, (DLManagedTensorVersioned **)array + i);
}

static int32_t as_unversioned(const moor_hold *hold, uint32_t mode, void *array, uint64_t i) {
  return moor_view_tensor_unversioned(hold, mode, (DLManagedTensor **)array + i);
}

static int32_t as_buffer(const moor_hold *hold, uint32_t mode, void *array, uint64_t i) {
  return moor_view_buffer(hold, mode, (moor_buffer *)array + i);
}

static int32_t hand_out(moor_job job, uint64_t first, uint64_t count, uint32_t mode, handing make, void *array,
                        uint64_t element, const char *name, int32_t *statuses) {
  MOOR_TRY(moor_check_mode(mode));
  MOOR_TRY(check_room(array, count, element, name, "count"));
  MOOR_TRY(check_room(statuses, count, sizeof(moor_hold), "statuses_out", "count"));
  moor_hold small[ON_STACK], *holds = small;
  if (count > ON_STACK) {
    holds = malloc((size_t)count * sizeof *holds);
    if (holds == NULL) {
      return moor_fail(MOOR_ERR_NO_MEMORY, "no memory for the views of %llu keys; ask for fewer at a time", (ull)count);
    }
  }
  int32_t status = moorgo_job_take(job.id, first, count, holds, MOOR_USED(statuses, count));
  for (uint64_t i = 0; status == MOOR_OK && i < count; i++) {
    if (statuses[i] == MOOR_OK) statuses[i] = make(&holds[i], mode, array, i);
  }
  if (holds != small) free(holds);
  return status;
}

int32_t moor_job_get_tensors(moor_job job, uint64_t first, uint64_t count, uint32_t mode,
                             DLManagedTensorVersioned **tensors_out, int32_t *statuses_out) {
  MOOR_ENTER();
  return hand_out(job, first, count, mode, as_tensor, tensors_out, sizeof *tensors_out, "tensors_out", statuses_out);
}

int32_t moor_job_get_tensors_unversioned(moor_job job, uint64_t first, uint64_t count, uint32_t mode,
                                         DLManagedTensor **tensors_out, int32_t *statuses_out) {
  MOOR_ENTER();
  return hand_out(job, first, count, mode, as_unversioned, tensors_out, sizeof *tensors_out, "tensors_out",
                  statuses_out);
}

int32_t moor_job_get_buffers(moor_job job, uint64_t first, uint64_t count, uint32_t mode, moor_buffer *buffers_out,
                             int32_t *statuses_out) {
  MOOR_ENTER();
  return hand_out(job, first, count, mode, as_buffer, buffers_out, sizeof *buffers_out, "buffers_out", statuses_out);
}

int32_t moor_job_close(moor_job job) {
  MOOR_ENTER();
  return moorgo_job_close(job.id);
}
