/* SPDX-License-Identifier: Apache-2.0
 *
 * Jobs and queues against the library: each kind of job, what is refused, the descriptor, cancel, close, fork; then
 * threads that submit, cancel, drain and close at random moments. Memory of an acknowledged job is written over at once:
 * a late write of the library is seen there, a late read in what is stored.
 *
 * MOORAGE_HAMMER_SECONDS (default 2); the seed is printed.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "expect.h"

typedef unsigned long long ull;

static moor_store store;
static moor_queue queue;
static int on_disk; /* the store has a disk, and memory for a few objects */

/* ---- keys ---- */

typedef struct names {
  char bytes[512];
  uint64_t ends[64];
  moor_keys keys;
} names;

static const moor_keys *pack(names *n, const char *const *list, uint64_t count) {
  uint64_t used = 0;
  for (uint64_t i = 0; i < count; i++) {
    memcpy(n->bytes + used, list[i], strlen(list[i]));
    n->ends[i] = used += strlen(list[i]);
  }
  n->keys = (moor_keys){n->bytes, n->ends, count};
  return &n->keys;
}
#define PACK(n, ...) pack(n, (const char *const[]){__VA_ARGS__}, sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))

static int is_readable(moor_queue q) {
  int32_t fd = -1;
  EXPECT_OK(moor_queue_get_fd(q, &fd));
  struct pollfd p = {.fd = fd, .events = POLLIN};
  EXPECT(fd >= 0 && poll(&p, 1, 0) >= 0);
  return (p.revents & POLLIN) != 0;
}

static uint64_t drain(moor_queue q, moor_completion *out, uint64_t room) {
  uint64_t count = 77;
  EXPECT_OK(moor_queue_drain(q, out, room, &count));
  EXPECT(count <= room);
  return count;
}

static void await(moor_job job) { EXPECT_OK(moor_job_wait(job, UINT64_MAX)); }

/* Takes everything out of memory that may go. */
static void push_out(void) {
  enum { SIZE = 1 << 20, FILLERS = 8 };
  if (!on_disk) return;
  char *memory = calloc(1, SIZE);
  for (char i = 0; i < FILLERS; i++) EXPECT_OK(moor_put(store, (char[]){'f', i}, 2, memory, SIZE, NULL, NULL));
  for (char i = 0; i < FILLERS; i++) EXPECT_OK(moor_remove(store, (char[]){'f', i}, 2));
  free(memory);
}

/* ---- each kind ---- */

static void put_some(void) {
  names n;
  moor_job job;
  moor_completion done[4];
  char memory[100000];
  memset(memory, 'm', sizeof memory);
  moor_part parts[4] = {{"con", 3}, {"cat", 3}, {memory, sizeof memory}, {NULL, 0}};
  uint64_t ends[3] = {2, 3, 4};
  moor_put_options options = {.struct_size = sizeof options, .meta = "meta", .meta_size = 4};
  EXPECT(!is_readable(queue));
  EXPECT_OK(moor_submit_put(store, queue, PACK(&n, "small", "large", "none"), parts, ends, &options, 7, &job));
  await(job);
  EXPECT(is_readable(queue) && drain(queue, done, 1) == 1 && is_readable(queue));
  EXPECT(drain(queue, done + 1, 3) == 2 && !is_readable(queue));
  int seen = 0;
  for (int i = 0; i < 3; i++) {
    EXPECT(done[i].job.id == job.id && done[i].tag == 7 && done[i].status == MOOR_OK && done[i].value > 0);
    EXPECT(done[i].outcome == MOOR_STORED && done[i].flags == (i == 2 ? MOOR_COMPLETION_LAST : 0));
    seen |= 1 << done[i].index;
  }
  EXPECT(seen == 7);
  EXPECT_OK(moor_job_close(job));
  EXPECT_STATUS(moor_job_close(job), MOOR_ERR_BAD_HANDLE);
}

static void get_some(void) {
  names n;
  moor_job job;
  moor_completion done[3];
  moor_buffer b[3];
  DLManagedTensorVersioned *t[3];
  DLManagedTensor *old;
  int32_t statuses[3];
  EXPECT_OK(moor_submit_keys(store, queue, MOOR_JOB_GET, PACK(&n, "small", "absent", "large"), 8, &job));
  await(job);
  EXPECT_OK(moor_job_get_results(job, 0, 3, done));
  EXPECT(done[0].status == MOOR_OK && done[0].value == 6 && done[2].value == 100000 && done[1].index == 1);
  EXPECT(done[1].status == MOOR_ERR_NOT_FOUND && done[0].tag == 8 && done[2].job.id == job.id);
  EXPECT_STATUS(moor_job_get_status(job, 1), MOOR_ERR_NOT_FOUND);
  EXPECT(strstr(moor_last_error(), "no object") != NULL);
  EXPECT_OK(moor_job_get_buffers(job, 0, 1, MOOR_MODE_VIEW, b, statuses));
  EXPECT(statuses[0] == MOOR_OK && b[0].size == 6 && memcmp(b[0].data, "concat", 6) == 0 && b[0].meta_size == 4);
  EXPECT_OK(moor_job_get_tensors(job, 0, 3, MOOR_MODE_COW, t, statuses));
  EXPECT(statuses[0] == MOOR_ERR_INVALID_ARGUMENT && statuses[1] == MOOR_ERR_NOT_FOUND && statuses[2] == MOOR_OK);
  EXPECT(t[2]->dl_tensor.shape[0] == 100000 && ((char *)t[2]->dl_tensor.data)[99999] == 'm');
  t[2]->deleter(t[2]);
  b[0].release(&b[0]);
  EXPECT(drain(queue, done, 3) == 3);
  EXPECT_OK(moor_job_close(job));

  EXPECT_OK(moor_submit_keys(store, queue, MOOR_JOB_GET, PACK(&n, "small", "large"), 9, &job));
  await(job);
  EXPECT_OK(moor_job_get_tensors_unversioned(job, 1, 1, MOOR_MODE_VIEW, &old, statuses));
  EXPECT(statuses[0] == MOOR_OK && old->dl_tensor.shape[0] == 100000);
  EXPECT_OK(moor_job_close(job)); /* lets "small" go, and leaves what was handed out */
  EXPECT(((char *)old->dl_tensor.data)[0] == 'm');
  old->deleter(old);
  EXPECT(drain(queue, done, 3) == 2);
}

static void get_into_some(void) {
  names n;
  moor_job job;
  moor_completion done[3];
  char out[16];
  DLManagedTensorVersioned *view;
  memset(out, '.', sizeof out);
  EXPECT_OK(moor_get_tensor(store, "large", 5, MOOR_MODE_VIEW, &view));
  moor_span spans[4] = {{out, 2}, {out + 8, 2}, {out + 12, 4}, {view->dl_tensor.data, 64}};
  uint64_t ends[3] = {2, 3, 4}, offsets[3] = {1, 0, 0}, nbytes[3] = {4, MOOR_ALL, 64};
  EXPECT_OK(moor_submit_get_into(store, queue, PACK(&n, "small", "small", "large"), offsets, nbytes, spans, ends, 1, &job));
  await(job);
  EXPECT_OK(moor_job_get_results(job, 0, 3, done));
  EXPECT(done[0].status == MOOR_OK && done[0].value == 4 && memcmp(out, "on......ca..", 12) == 0);
  EXPECT(done[1].status == MOOR_ERR_TOO_SMALL && done[2].status == MOOR_ERR_READ_ONLY && out[12] == '.');
  EXPECT_OK(moor_job_close(job));
  EXPECT(drain(queue, done, 3) == 3);
  uint64_t end = 1;
  EXPECT_OK(moor_submit_get_into(store, queue, PACK(&n, "small"), NULL, NULL, &(moor_span){out, 16}, &end, 1, &job));
  await(job);
  EXPECT(memcmp(out, "concat", 6) == 0 && drain(queue, done, 3) == 1 && done[0].value == 6);
  EXPECT_OK(moor_job_close(job));
  view->deleter(view);
}

static void tensors(void) {
  names n;
  moor_job job;
  moor_completion done[2];
  DLManagedTensorVersioned *v;
  float numbers[6] = {0, 1, 2, 3, 4, 5};
  int64_t shape[2] = {2, 3}, turned[2] = {3, 2}, strides[2] = {1, 3};
  DLTensor a = {.data = numbers, .device = {kDLCPU, 0}, .ndim = 2, .dtype = {kDLFloat, 32, 1}, .shape = shape}, b = a;
  b.shape = turned;
  b.strides = strides;
  const DLTensor *const both[2] = {&a, &b};
  moor_put_options atomic = {.struct_size = sizeof atomic, .flags = MOOR_PUT_ATOMIC, .if_exists = MOOR_IF_EXISTS_RAISE};
  EXPECT_OK(moor_submit_put_tensors(store, queue, PACK(&n, "a", "b"), both, &atomic, 1, &job));
  memset(shape, 0x7f, sizeof shape); /* was copied */
  memset(&atomic, 0x7f, sizeof atomic);
  await(job);
  EXPECT(drain(queue, done, 2) == 2 && done[0].status == MOOR_OK && done[1].status == MOOR_OK);
  EXPECT_OK(moor_job_close(job));
  EXPECT_OK(moor_get_tensor(store, "b", 1, MOOR_MODE_VIEW, &v));
  const float wanted[6] = {0, 3, 1, 4, 2, 5};
  EXPECT(v->dl_tensor.shape[0] == 3 && memcmp(v->dl_tensor.data, wanted, sizeof wanted) == 0);
  v->deleter(v);
}

static int32_t one_by_one(uint32_t kind, const moor_keys *keys, moor_completion *done) {
  moor_job job;
  moor_completion drained[8];
  EXPECT_OK(moor_submit_keys(store, queue, kind, keys, 3, &job));
  await(job);
  EXPECT_OK(moor_job_get_results(job, 0, keys->count, done));
  EXPECT(drain(queue, drained, 8) == keys->count);
  EXPECT_OK(moor_job_close(job));
  return done[0].status;
}

static void keys_only(void) {
  names n;
  moor_completion done[4];
  moor_job job;
  EXPECT_OK(one_by_one(MOOR_JOB_EXISTS, PACK(&n, "a", "absent", "b"), done));
  EXPECT(done[0].value == 1 && done[1].value == 0 && done[2].value == 1 && done[1].status == MOOR_OK);
  EXPECT_OK(one_by_one(MOOR_JOB_PREFETCH, PACK(&n, "a", "absent"), done));
  EXPECT(done[1].status == MOOR_ERR_NOT_FOUND);
  EXPECT_STATUS(one_by_one(MOOR_JOB_PERSIST, PACK(&n, "a"), done), on_disk ? MOOR_OK : MOOR_ERR_UNSUPPORTED);
  EXPECT_OK(one_by_one(MOOR_JOB_REMOVE, PACK(&n, "a", "absent"), done));
  EXPECT(done[1].status == MOOR_ERR_NOT_FOUND);
  moor_keys none = {NULL, NULL, 0};
  EXPECT_OK(moor_submit_keys(store, queue, MOOR_JOB_GET, &none, 5, &job));
  EXPECT_OK(moor_job_wait(job, 0));
  EXPECT(drain(queue, done, 4) == 1 && done[0].index == MOOR_ALL && done[0].flags == MOOR_COMPLETION_LAST);
  EXPECT_OK(moor_job_get_results(job, 0, 0, NULL));
  EXPECT_OK(moor_job_get_buffers(job, 0, 0, MOOR_MODE_VIEW, NULL, NULL));
  EXPECT_OK(moor_job_cancel(job));
  EXPECT_OK(moor_job_close(job));
  EXPECT_OK(moor_remove(store, "b", 1));
}

/* Keys that are on disk, and a job that is cancelled at once: each has a result and a record of its times. */
static void cancelled_reads(void) {
  enum { COUNT = 32, SIZE = 100000 };
  char bytes[2 * COUNT], *memory = calloc(1, SIZE);
  uint64_t ends[COUNT], before, n;
  moor_timings_info info = {.struct_size = sizeof info};
  moor_completion done[COUNT];
  moor_job job;
  for (int i = 0; i < COUNT; i++) {
    bytes[2 * i] = 'r';
    bytes[2 * i + 1] = (char)i;
    ends[i] = 2 * (uint64_t)i + 2;
    EXPECT_OK(moor_put(store, bytes + 2 * i, 2, memory, SIZE, NULL, NULL));
  }
  free(memory);
  push_out();
  moor_keys keys = {bytes, ends, COUNT};
  EXPECT_OK(moor_get_timings(store, NULL, 0, &n, &info));
  before = info.recorded;
  EXPECT_OK(moor_submit_keys(store, queue, MOOR_JOB_PREFETCH, &keys, 6, &job));
  EXPECT_OK(moor_job_cancel(job));
  await(job);
  EXPECT(drain(queue, done, COUNT) == COUNT);
  uint64_t last = 0, cancelled = 0, records = 0, waited = 0;
  for (int i = 0; i < COUNT; i++) {
    EXPECT(done[i].status == MOOR_OK || done[i].status == MOOR_ERR_CANCELLED);
    cancelled += done[i].status == MOOR_ERR_CANCELLED;
    last += done[i].flags == MOOR_COMPLETION_LAST;
  }
  EXPECT(last == 1 && done[COUNT - 1].flags == MOOR_COMPLETION_LAST);
  EXPECT_OK(moor_job_close(job));
  static moor_operation operations[4096];
  EXPECT_OK(moor_list_operations(store, operations, 4096, &n));
  for (uint64_t i = 0; i < n; i++) {
    const moor_operation *o = &operations[i];
    if (o->sequence <= before || o->kind != MOOR_TIMED_PREFETCH) continue;
    records++;
    EXPECT((o->t1 - o->t0) + (o->t3 - o->t2) + (o->t2 - o->t1) == o->t3 - o->t0 && o->queue_wait >= 0);
    EXPECT(o->outcome == MOOR_OUTCOME_CANCELLED || o->t2 > o->t1 || o->path == MOOR_PATH_MEMORY);
    waited += o->outcome == MOOR_OUTCOME_CANCELLED && o->queue_wait > 0;
  }
  EXPECT(records == COUNT && waited == cancelled);
  EXPECT_OK(moor_get_timings(store, NULL, 0, &n, &info));
  EXPECT(info.inconsistent == 0);
}

/* ---- what is refused ---- */

#define REFUSED(call, wanted)                                 \
  do {                                                        \
    EXPECT_STATUS(call, wanted);                              \
    EXPECT(strlen(moor_last_error()) > 5);                    \
  } while (0)
#define INVALID(call) REFUSED(call, MOOR_ERR_INVALID_ARGUMENT)
#define STALE(call) REFUSED(call, MOOR_ERR_BAD_HANDLE)

static void nonsense(void) {
  names n;
  const moor_keys *keys = PACK(&n, "small");
  uint64_t far = UINT64_MAX - 7, one = 1, count = 0, ends[1] = {1};
  moor_keys no_ends = {"k", NULL, 1}, many = {"k", &one, far};
  moor_job job = {77};
  moor_completion done;
  moor_buffer b;
  DLManagedTensorVersioned *t;
  DLManagedTensor *old;
  int32_t status, fd;
  char out[8];
  moor_put_options reserved = {.struct_size = sizeof reserved, .reserved = 1};
  INVALID(moor_queue_open(NULL));
  INVALID(moor_queue_get_fd(queue, NULL));
  INVALID(moor_queue_drain(queue, NULL, 1, &count));
  INVALID(moor_queue_drain(queue, &done, far, &count));
  INVALID(moor_queue_drain(queue, &done, 1, NULL));
  for (uint32_t kind = 0; kind < 10; kind++) {
    int own = kind == MOOR_JOB_GET_INTO || kind == MOOR_JOB_PUT || kind == 0 || kind > MOOR_JOB_PERSIST;
    if (own) INVALID(moor_submit_keys(store, queue, kind, keys, 0, &job));
  }
  INVALID(moor_submit_keys(store, queue, UINT32_MAX, keys, 0, &job));
  INVALID(moor_submit_keys(store, queue, MOOR_JOB_GET, NULL, 0, &job));
  INVALID(moor_submit_keys(store, queue, MOOR_JOB_GET, &no_ends, 0, &job));
  INVALID(moor_submit_keys(store, queue, MOOR_JOB_GET, &many, 0, &job));
  INVALID(moor_submit_keys(store, queue, MOOR_JOB_GET, keys, 0, NULL));
  INVALID(moor_submit_get_into(store, queue, keys, NULL, NULL, NULL, ends, 0, &job));
  INVALID(moor_submit_get_into(store, queue, keys, NULL, NULL, &(moor_span){NULL, 8}, ends, 0, &job));
  INVALID(moor_submit_get_into(store, queue, keys, NULL, NULL, &(moor_span){out, 8}, NULL, 0, &job));
  INVALID(moor_submit_get_into(store, queue, keys, NULL, NULL, &(moor_span){out, 8}, &far, 0, &job));
  INVALID(moor_submit_get_into(store, queue, keys, NULL, NULL, &(moor_span){out, 8}, ends, 0, NULL));
  INVALID(moor_submit_put(store, queue, keys, NULL, ends, NULL, 0, &job));
  INVALID(moor_submit_put(store, queue, keys, &(moor_part){NULL, 8}, ends, NULL, 0, &job));
  INVALID(moor_submit_put(store, queue, keys, &(moor_part){out, 8}, ends, &reserved, 0, &job));
  INVALID(moor_submit_put(store, queue, keys, &(moor_part){out, 8}, ends, NULL, 0, NULL));
  INVALID(moor_submit_put_tensors(store, queue, keys, NULL, NULL, 0, &job));
  INVALID(moor_submit_put_tensors(store, queue, keys, (const DLTensor *const[]){NULL}, NULL, 0, &job));
  EXPECT(job.id == 77);

  EXPECT_OK(moor_submit_keys(store, queue, MOOR_JOB_GET, keys, 0, &job));
  await(job);
  INVALID(moor_job_get_status(job, 1));
  INVALID(moor_job_get_status(job, UINT64_MAX));
  INVALID(moor_job_get_results(job, 0, 1, NULL));
  INVALID(moor_job_get_results(job, 1, 1, &done));
  INVALID(moor_job_get_results(job, UINT64_MAX, 2, &done));
  INVALID(moor_job_get_results(job, 0, far, &done));
  INVALID(moor_job_get_tensors(job, 0, 1, 3, &t, &status));
  INVALID(moor_job_get_tensors(job, 0, 1, MOOR_MODE_VIEW, NULL, &status));
  INVALID(moor_job_get_tensors(job, 0, 1, MOOR_MODE_VIEW, &t, NULL));
  INVALID(moor_job_get_tensors(job, 0, 2, MOOR_MODE_VIEW, &t, &status));
  INVALID(moor_job_get_tensors(job, 0, far, MOOR_MODE_VIEW, &t, &status));
  INVALID(moor_job_get_tensors_unversioned(job, 2, 1, MOOR_MODE_VIEW, &old, &status));
  INVALID(moor_job_get_buffers(job, UINT64_MAX, 1, MOOR_MODE_VIEW, &b, &status));
  EXPECT_OK(moor_job_get_buffers(job, 0, 1, MOOR_MODE_VIEW, &b, &status)); /* none of that took it */
  EXPECT_OK(status);
  b.release(&b);
  EXPECT(drain(queue, &done, 1) == 1);

  moor_queue other;
  EXPECT_OK(moor_queue_open(&other));
  EXPECT_OK(moor_queue_close(other));
  const uint64_t ids[] = {0, store.id, other.id, UINT64_MAX};
  for (int i = 0; i < 4; i++) {
    moor_queue q = {ids[i]};
    moor_job j = {i == 2 ? queue.id : ids[i]};
    STALE(moor_queue_close(q));
    STALE(moor_queue_get_fd(q, &fd));
    STALE(moor_queue_drain(q, &done, 1, &count));
    STALE(moor_submit_keys(store, q, MOOR_JOB_GET, keys, 0, &job));
    STALE(moor_submit_keys((moor_store){i == 1 ? queue.id : ids[i]}, queue, MOOR_JOB_GET, keys, 0, &job));
    STALE(moor_submit_get_into(store, q, keys, NULL, NULL, &(moor_span){out, 8}, ends, 0, &job));
    STALE(moor_submit_put(store, q, keys, &(moor_part){out, 8}, ends, NULL, 0, &job));
    STALE(moor_job_cancel(j));
    STALE(moor_job_wait(j, UINT64_MAX));
    STALE(moor_job_get_status(j, 0));
    STALE(moor_job_get_results(j, 0, 1, &done));
    STALE(moor_job_get_tensors(j, 0, 1, MOOR_MODE_VIEW, &t, &status));
    STALE(moor_job_get_tensors_unversioned(j, 0, 1, MOOR_MODE_VIEW, &old, &status));
    STALE(moor_job_get_buffers(j, 0, 1, MOOR_MODE_VIEW, &b, &status));
    STALE(moor_job_close(j));
  }
  EXPECT_OK(moor_job_close(job));
}

/* More keys than a store takes at a time. */
static void too_many(void) {
  enum { MOST = 65536 };
  static char bytes[MOST + 1];
  static uint64_t ends[MOST + 1];
  moor_job job;
  memset(bytes, 'k', sizeof bytes);
  for (uint64_t i = 0; i <= MOST; i++) ends[i] = i + 1;
  moor_keys keys = {bytes, ends, MOST + 1};
  INVALID(moor_submit_keys(store, queue, MOOR_JOB_PREFETCH, &keys, 0, &job));
  EXPECT(strstr(moor_last_error(), "65536") != NULL);
  keys.count = MOST;
  EXPECT_OK(moor_submit_keys(store, queue, MOOR_JOB_REMOVE, &keys, 0, &job));
  keys.count = MOST;
  moor_job other;
  int32_t status = moor_submit_keys(store, queue, MOOR_JOB_REMOVE, &keys, 0, &other);
  EXPECT(status == MOOR_ERR_BUSY || status == MOOR_OK); /* the first one may have been quick */
  EXPECT_OK(moor_job_cancel(job));
  await(job);
  EXPECT_OK(moor_job_close(job));
  if (status == MOOR_OK) {
    await(other);
    EXPECT_OK(moor_job_close(other));
  }
  static moor_completion done[2 * MOST];
  EXPECT(drain(queue, done, 2 * MOST) == (status == MOOR_OK ? 2 : 1) * (uint64_t)MOST);
}

static void forked(void) {
  names n;
  moor_job job, other;
  moor_completion done;
  uint64_t count;
  int32_t fd;
  EXPECT_OK(moor_submit_keys(store, queue, MOOR_JOB_GET, PACK(&n, "small"), 0, &job));
  pid_t child = fork();
  if (child == 0) {
    int all = moor_queue_open(&(moor_queue){0}) == MOOR_ERR_FORKED && moor_queue_close(queue) == MOOR_ERR_FORKED &&
              moor_queue_get_fd(queue, &fd) == MOOR_ERR_FORKED &&
              moor_queue_drain(queue, &done, 1, &count) == MOOR_ERR_FORKED &&
              moor_submit_keys(store, queue, 99, NULL, 0, &other) == MOOR_ERR_FORKED &&
              moor_submit_get_into(store, queue, NULL, 0, 0, 0, 0, 0, 0) == MOOR_ERR_FORKED &&
              moor_submit_put(store, queue, NULL, 0, 0, 0, 0, 0) == MOOR_ERR_FORKED &&
              moor_submit_put_tensors(store, queue, NULL, 0, 0, 0, 0) == MOOR_ERR_FORKED &&
              moor_job_cancel(job) == MOOR_ERR_FORKED && moor_job_wait(job, UINT64_MAX) == MOOR_ERR_FORKED &&
              moor_job_get_status(job, 0) == MOOR_ERR_FORKED && moor_job_get_results(job, 0, 1, 0) == MOOR_ERR_FORKED &&
              moor_job_get_tensors(job, 0, 1, 9, 0, 0) == MOOR_ERR_FORKED &&
              moor_job_get_tensors_unversioned(job, 0, 1, 9, 0, 0) == MOOR_ERR_FORKED &&
              moor_job_get_buffers(job, 0, 1, 9, 0, 0) == MOOR_ERR_FORKED && moor_job_close(job) == MOOR_ERR_FORKED;
    _exit(all ? 0 : 1);
  }
  int status = -1;
  EXPECT(child > 0 && waitpid(child, &status, 0) == child && status == 0);
  await(job);
  EXPECT(is_readable(queue) && drain(queue, &done, 1) == 1 && done.status == MOOR_OK);
  EXPECT_OK(moor_job_close(job));
}

/* ---- closing ---- */

static void closing(void) {
  enum { JOBS = 64, SIZE = 1 << 20 };
  names n;
  moor_store other;
  moor_queue own;
  moor_job jobs[JOBS], got;
  moor_completion done[JOBS];
  moor_buffer b;
  int32_t status;
  uint64_t ends[1] = {1}, last = 0;
  moor_store_options options = {.struct_size = sizeof options, .capacity = 8 * SIZE};
  char *memory = malloc(SIZE);
  memset(memory, 'c', SIZE);
  EXPECT_OK(moor_store_open(&options, &other));
  EXPECT_OK(moor_queue_open(&own));
  EXPECT_OK(moor_put(other, "k", 1, memory, SIZE, NULL, NULL));
  EXPECT_OK(moor_submit_keys(other, own, MOOR_JOB_GET, PACK(&n, "k"), 0, &got));
  await(got);
  EXPECT(drain(own, done, 1) == 1);
  for (int i = 0; i < JOBS; i++) {
    EXPECT_OK(moor_submit_put(other, own, PACK(&n, "l"), &(moor_part){memory, SIZE}, ends, NULL, (uint64_t)i, &jobs[i]));
  }
  EXPECT_OK(moor_store_close(other, 0));
  for (int i = 0; i < JOBS; i++) {
    await(jobs[i]);
    status = moor_job_get_status(jobs[i], 0);
    EXPECT(status == MOOR_OK || status == MOOR_ERR_CANCELLED);
    EXPECT_OK(moor_job_close(jobs[i]));
  }
  EXPECT_STATUS(moor_submit_keys(other, own, MOOR_JOB_GET, PACK(&n, "k"), 0, &jobs[0]), MOOR_ERR_BAD_HANDLE);
  free(memory);
  EXPECT(is_readable(own));
  uint64_t count = drain(own, done, JOBS);
  for (uint64_t i = 0; i < count; i++) last += done[i].flags == MOOR_COMPLETION_LAST;
  EXPECT(count == JOBS && last == JOBS);
  EXPECT_OK(moor_job_get_buffers(got, 0, 1, MOOR_MODE_VIEW, &b, &status)); /* it outlives the store, as views do */
  EXPECT(status == MOOR_OK && ((char *)b.data)[SIZE - 1] == 'c');
  EXPECT_OK(moor_job_close(got));
  EXPECT_OK(moor_queue_close(own));
  EXPECT(((char *)b.data)[0] == 'c');
  b.release(&b);
}

/* ---- the hammer ---- */

static int stop; /* atomic */
static uint64_t submitted_keys, told_of, acknowledged, submitted_jobs; /* atomic */

typedef struct worker {
  pthread_t thread;
  uint64_t state;
} worker;

static uint64_t next(worker *w) {
  w->state ^= w->state << 13;
  w->state ^= w->state >> 7;
  w->state ^= w->state << 17;
  return w->state;
}

enum { BATCH = 6, ROOM = 70000 };

/* Bytes that are all the same, and the same as the last of the key. */
static void check_bytes(const unsigned char *p, uint64_t size) {
  for (uint64_t i = 0; i < size; i += 1 + size / 64) EXPECT(p[i] == p[0]);
  if (size > 0) EXPECT(p[0] >= 'a' && p[0] <= 'h' && p[size - 1] == p[0]);
}

static void take_some(worker *w, moor_job job, uint64_t count) {
  DLManagedTensorVersioned *t[BATCH];
  moor_buffer b[BATCH];
  int32_t statuses[BATCH];
  uint32_t mode = (uint32_t)(next(w) % 3);
  uint64_t half = count / 2;
  EXPECT_OK(moor_job_get_tensors(job, 0, half, mode, t, statuses));
  for (uint64_t i = 0; i < half; i++) {
    if (statuses[i] != MOOR_OK) continue;
    check_bytes(t[i]->dl_tensor.data, (uint64_t)t[i]->dl_tensor.shape[0]);
    t[i]->deleter(t[i]);
  }
  EXPECT_OK(moor_job_get_buffers(job, half, count - half, mode, b, statuses));
  for (uint64_t i = 0; i < count - half; i++) {
    if (statuses[i] != MOOR_OK) continue;
    check_bytes(b[i].data, b[i].size);
    b[i].release(&b[i]);
  }
}

static int32_t submit_one(worker *w, const moor_keys *keys, uint32_t kind, unsigned char **memory, uint64_t *sizes,
                          moor_job *job) {
  moor_part parts[BATCH];
  moor_span spans[BATCH];
  uint64_t ends[BATCH], nbytes[BATCH];
  moor_put_options options = {.struct_size = sizeof options, .flags = next(w) % 4 == 0 ? MOOR_PUT_ATOMIC : 0};
  for (uint64_t i = 0; i < keys->count; i++) {
    parts[i] = (moor_part){memory[i], sizes[i]};
    spans[i] = (moor_span){memory[i], sizes[i]};
    ends[i] = i + 1;
    nbytes[i] = 1;
  }
  if (kind == MOOR_JOB_PUT) return moor_submit_put(store, queue, keys, parts, ends, &options, keys->count, job);
  if (kind == MOOR_JOB_GET_INTO) {
    return moor_submit_get_into(store, queue, keys, NULL, nbytes, spans, ends, keys->count, job);
  }
  return moor_submit_keys(store, queue, kind, keys, keys->count, job);
}

static void one_job(worker *w) {
  names n;
  moor_job job;
  const char *list[BATCH];
  static const char *const all[8] = {"a", "b", "c", "d", "e", "f", "g", "h"};
  unsigned char *memory[BATCH];
  uint64_t sizes[BATCH], count = next(w) % (BATCH + 1), first = next(w);
  uint32_t kind = (uint32_t)(1 + next(w) % MOOR_JOB_PERSIST);
  for (uint64_t i = 0; i < count; i++) {
    list[i] = all[(first + i) % 8];
    sizes[i] = 1 + next(w) % (next(w) % 8 == 0 ? ROOM : 500);
    memory[i] = malloc(sizes[i]);
    memset(memory[i], list[i][0], sizes[i]);
  }
  EXPECT_OK(submit_one(w, pack(&n, list, count), kind, memory, sizes, &job));
  __atomic_fetch_add(&submitted_keys, count > 0 ? count : 1, __ATOMIC_RELAXED);
  __atomic_fetch_add(&submitted_jobs, 1, __ATOMIC_RELAXED);
  if (next(w) % 4 == 0) EXPECT_OK(moor_job_cancel(job));
  int closed = next(w) % 6 == 0 && kind != MOOR_JOB_PUT && kind != MOOR_JOB_GET_INTO;
  if (closed) {
    EXPECT_OK(moor_job_close(job));
  } else {
    await(job);
    if (kind == MOOR_JOB_GET && next(w) % 2) take_some(w, job, count);
  }
  for (uint64_t i = 0; i < count; i++) {
    if (!closed) EXPECT(kind == MOOR_JOB_GET_INTO || memory[i][sizes[i] - 1] == (unsigned char)list[i][0]);
    memset(memory[i], '!', sizes[i]); /* ours again: nobody else may see it, or write to it */
  }
  sched_yield();
  for (uint64_t i = 0; i < count; i++) {
    EXPECT(memory[i][0] == '!' && memory[i][sizes[i] - 1] == '!');
    free(memory[i]);
  }
  if (!closed) EXPECT_OK(moor_job_close(job));
}

static void *run(void *given) {
  worker *w = given;
  while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) one_job(w);
  return NULL;
}

static void *drain_all(void *unused) {
  moor_completion done[10];
  (void)unused;
  for (;;) {
    int ended = __atomic_load_n(&stop, __ATOMIC_ACQUIRE) == 2;
    uint64_t count = drain(queue, done, 10);
    for (uint64_t i = 0; i < count; i++) {
      __atomic_fetch_add(&told_of, 1, __ATOMIC_RELAXED);
      __atomic_fetch_add(&acknowledged, done[i].flags == MOOR_COMPLETION_LAST, __ATOMIC_RELAXED);
      EXPECT(done[i].status != MOOR_IN_PROGRESS && (done[i].index < done[i].tag || done[i].index == MOOR_ALL));
    }
    if (count > 0) continue;
    if (ended) return NULL;
    int32_t fd;
    EXPECT_OK(moor_queue_get_fd(queue, &fd));
    struct pollfd p = {.fd = fd, .events = POLLIN};
    poll(&p, 1, 10);
  }
}

static void hammer(void) {
  const char *seconds = getenv("MOORAGE_HAMMER_SECONDS");
  worker workers[4];
  pthread_t drainer;
  uint64_t seed = (uint64_t)time(NULL) * 1000003 + (uint64_t)getpid();
  printf("jobs: seed %llu\n", (ull)seed);
  pthread_create(&drainer, NULL, drain_all, NULL);
  for (int i = 0; i < 4; i++) {
    workers[i].state = (seed + (uint64_t)i) * 0x9E3779B97F4A7C15ULL | 1;
    pthread_create(&workers[i].thread, NULL, run, &workers[i]);
  }
  usleep((seconds != NULL ? (unsigned)atoi(seconds) : 2) * 1000000u);
  __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
  for (int i = 0; i < 4; i++) pthread_join(workers[i].thread, NULL);
  for (int i = 0; i < 1000 && __atomic_load_n(&told_of, __ATOMIC_RELAXED) < submitted_keys; i++) usleep(10000);
  __atomic_store_n(&stop, 2, __ATOMIC_RELEASE);
  pthread_join(drainer, NULL);
  printf("jobs: %llu jobs, %llu keys\n", (ull)submitted_jobs, (ull)submitted_keys);
  EXPECT(told_of == submitted_keys && acknowledged == submitted_jobs);
}

static int descriptors(void) {
  int n = 0;
  DIR *d = opendir("/proc/self/fd");
  while (d != NULL && readdir(d) != NULL) n++;
  if (d != NULL) closedir(d);
  return n;
}

static void nothing_is_left(int before) {
  moor_stats stats = {.struct_size = sizeof stats};
  EXPECT_OK(moor_clear(store, NULL));
  for (int i = 0; i < 1000; i++) {
    EXPECT_OK(moor_get_stats(store, &stats));
    if (stats.used == 0 && stats.children == 0) break;
    usleep(5000);
  }
  EXPECT(stats.objects == 0 && stats.used == 0 && stats.borrowed_objects == 0);
  EXPECT_OK(moor_store_close(store, MOOR_CLOSE_WAIT));
  EXPECT(!is_readable(queue));
  EXPECT_OK(moor_queue_close(queue));
  EXPECT_STATUS(moor_queue_close(queue), MOOR_ERR_BAD_HANDLE);
  for (int i = 0; i < 1000 && descriptors() > before; i++) usleep(5000);
  EXPECT(descriptors() <= before);
}

#define RUN(test)                                            \
  do {                                                       \
    push_out();                                              \
    test();                                                  \
    printf("ok %s%s\n", #test, on_disk ? ", on disk" : ""); \
    fflush(stdout);                                          \
  } while (0)

static void each_kind(void) {
  RUN(put_some);
  RUN(get_some);
  RUN(get_into_some);
  RUN(tensors);
  RUN(keys_only);
  RUN(nonsense);
  RUN(too_many);
  RUN(forked);
  RUN(closing);
  RUN(hammer);
}

/* The same over a store whose memory holds a part of it. */
static void with_a_disk(void) {
  char path[512];
  const char *folder = getenv("MOOR_TMP");
  snprintf(path, sizeof path, "%s/jobs.%d", folder != NULL ? folder : "/tmp", (int)getpid());
  moor_disk_options disk = {.struct_size = sizeof disk, .path = path, .capacity = 64u << 20, .promote = MOOR_PROMOTE_NEVER};
  moor_store_options options = {.struct_size = sizeof options, .capacity = 4u << 20, .disk = &disk};
  EXPECT_OK(moor_store_open(&options, &store));
  EXPECT_OK(moor_queue_open(&queue));
  stop = 0;
  submitted_keys = told_of = acknowledged = submitted_jobs = 0;
  on_disk = 1;
  each_kind();
  RUN(cancelled_reads);
  moor_disk_stats stats = {.struct_size = sizeof stats};
  EXPECT_OK(moor_get_disk_stats(store, &stats));
  EXPECT(stats.demotions > 0 && stats.reads > 0);
}

int main(void) {
  moor_store_options options = {.struct_size = sizeof options, .capacity = 64u << 20};
  EXPECT_OK(moor_store_open(&options, &store));
  EXPECT_OK(moor_store_close(store, MOOR_CLOSE_WAIT)); /* what the library opens once, it has opened */
  usleep(50000);
  int before = descriptors();
  EXPECT_OK(moor_store_open(&options, &store));
  EXPECT_OK(moor_queue_open(&queue));
  each_kind();
  nothing_is_left(before);
  with_a_disk();
  nothing_is_left(before);
  printf("ok nothing is left\n");
  return 0;
}
