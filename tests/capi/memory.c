/* SPDX-License-Identifier: Apache-2.0
 *
 * Each allocation of the plain C fails once: the call says so, and nothing stays held. Linked with --wrap for the
 * functions below.
 */
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>

#include "expect.h"
#include "standin.h"

static int fail_at; /* the n-th allocation from now on fails; 0 = none */
static int live;    /* allocations that were not given back */

static int no_threads;

static int fails(void) { return fail_at > 0 && --fail_at == 0; }

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void __real_free(void *p);
int __real_posix_memalign(void **out, size_t alignment, size_t size);
void *__real_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset);
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *with);

void *__wrap_malloc(size_t size) {
  if (fails()) return NULL;
  live++;
  return __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size) {
  if (fails()) return NULL;
  live++;
  return __real_calloc(count, size);
}

void __wrap_free(void *p) {
  live -= p != NULL;
  __real_free(p);
}

int __wrap_posix_memalign(void **out, size_t alignment, size_t size) {
  if (fails()) return ENOMEM;
  live++;
  return __real_posix_memalign(out, alignment, size);
}

void *__wrap_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset) {
  if (!fails()) return __real_mmap(at, size, protection, flags, fd, offset);
  errno = ENOMEM;
  return MAP_FAILED;
}

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *with) {
  return no_threads ? EAGAIN : __real_pthread_create(thread, attributes, run, with);
}

static moor_store store;

static void nothing_is_held(void) {
  standin_state s;
  EXPECT_OK(moor_remove(store, "1", 1));
  EXPECT_OK(moor_remove(store, "2", 1));
  standin_drain();
  standin_state_get(&s);
  EXPECT(s.home == STANDIN_SLOTS && s.windows == 0 && s.views == 0);
}

static void put(void) {
  static char data[100000];
  EXPECT_OK(moor_put(store, "1", 1, data, 100, NULL, NULL));
  EXPECT_OK(moor_put(store, "2", 1, data, sizeof data, NULL, NULL));
}

/* How many allocations the call makes until it succeeds. */
static int tensor(const char *key, uint32_t mode) {
  DLManagedTensorVersioned *t = NULL;
  for (int n = 1;; n++) {
    put();
    fail_at = n;
    int32_t status = moor_get_tensor(store, key, 1, mode, &t);
    int failed = fail_at == 0;
    fail_at = 0;
    if (status == MOOR_OK) t->deleter(t);
    nothing_is_held();
    if (!failed) return n - 1;
    /* A window that could not be mapped is a copy. */
    EXPECT(status == MOOR_ERR_NO_MEMORY || (status == MOOR_OK && mode == MOOR_MODE_COW));
    EXPECT(status == MOOR_OK || strstr(moor_last_error(), "memory") != NULL);
  }
}

/* A refused take leaves the name and the bytes, a refused empty nothing at all. */
static void what_changes_the_store(void) {
  DLManagedTensorVersioned *t = NULL;
  moor_buffer b;
  put();
  fail_at = 1;
  EXPECT_STATUS(moor_take_tensor(store, "1", 1, &t), MOOR_ERR_NO_MEMORY);
  EXPECT(fail_at == 0 && t == NULL);
  EXPECT_OK(moor_get_buffer(store, "1", 1, MOOR_MODE_VIEW, &b));
  EXPECT(b.size == 100);
  EXPECT_STATUS(moor_take_tensor(store, "1", 1, &t), MOOR_ERR_BUSY);
  b.release(&b);
  EXPECT_OK(moor_take_tensor(store, "1", 1, &t));
  EXPECT(t->dl_tensor.shape[0] == 100 && t->dl_tensor.strides[0] == 1 && t->flags == 0);
  t->deleter(t);

  int64_t shape = 100;
  DLTensor like = {.ndim = 1, .shape = &shape, .dtype = {kDLUInt, 8, 1}};
  t = NULL;
  fail_at = 1;
  EXPECT_STATUS(moor_empty_tensor(store, &like, &t), MOOR_ERR_NO_MEMORY);
  EXPECT(fail_at == 0 && t == NULL);
  EXPECT_OK(moor_empty_tensor(store, &like, &t));
  t->deleter(t);
  put();
  nothing_is_held();
}

static void buffers_and_batches(void) {
  enum { MANY = 100 };
  char bytes[MANY];
  uint64_t ends[MANY];
  moor_buffer buffers[MANY];
  int32_t statuses[MANY];
  moor_keys keys = {bytes, ends, MANY};
  for (int i = 0; i < MANY; i++) {
    bytes[i] = i % 2 ? '1' : '2';
    ends[i] = (uint64_t)i + 1;
  }
  for (int n = 1;; n++) {
    put();
    fail_at = n;
    int32_t status = moor_get_buffers(store, &keys, MOOR_MODE_COPY, buffers, statuses);
    int failed = fail_at == 0, lacking = 0;
    fail_at = 0;
    if (status == MOOR_OK) {
      for (int i = 0; i < MANY; i++) {
        lacking += statuses[i] != MOOR_OK;
        if (statuses[i] == MOOR_OK) buffers[i].release(&buffers[i]);
      }
    }
    nothing_is_held();
    if (!failed) break;
    EXPECT(status == MOOR_ERR_NO_MEMORY || lacking == 1);
  }
}

/* What opening a snapshot allocates: the stand-in's list of names, three arrays of what was gathered, the snapshot, its
 * facts and its table, and the first time the slots. */
enum { OF_A_SNAPSHOT = 7, SLOTS = 1 };

static void open_or_fail(const moor_keys *keys, int allocations) {
  for (int n = 1;; n++) {
    moor_snapshot snapshot = {77};
    put();
    int before = live;
    fail_at = n;
    int32_t status = moor_snapshot_open(store, keys, NULL, 0, &snapshot);
    int failed = fail_at == 0;
    fail_at = 0;
    if (status == MOOR_OK) {
      EXPECT_OK(moor_snapshot_close(snapshot));
    } else {
      EXPECT(status == MOOR_ERR_NO_MEMORY && snapshot.id == 77 && strstr(moor_last_error(), "memory") != NULL);
    }
    EXPECT(live == before + (status == MOOR_OK && n == OF_A_SNAPSHOT + SLOTS + 1));
    nothing_is_held();
    EXPECT(failed == (status != MOOR_OK));
    if (failed) continue;
    EXPECT(n == allocations + 1);
    return;
  }
}

/* A view out of a snapshot that could not be made leaves the snapshot's own hold. */
static void views_of_snapshots(void) {
  moor_snapshot snapshot;
  DLManagedTensorVersioned *t;
  DLManagedTensor *plain;
  moor_buffer b;
  standin_state s;
  put();
  EXPECT_OK(moor_snapshot_open(store, NULL, NULL, 0, &snapshot));
  for (uint32_t mode = MOOR_MODE_VIEW; mode <= MOOR_MODE_COPY; mode++) {
    fail_at = 1;
    EXPECT_STATUS(moor_snapshot_get_tensor(snapshot, 1, mode, &t), MOOR_ERR_NO_MEMORY);
    fail_at = 1;
    EXPECT_STATUS(moor_snapshot_get_tensor_unversioned(snapshot, 1, mode, &plain), MOOR_ERR_NO_MEMORY);
    fail_at = 1;
    EXPECT_STATUS(moor_snapshot_get_buffer(snapshot, 1, mode, &b), MOOR_ERR_NO_MEMORY);
  }
  fail_at = 2;
  EXPECT_STATUS(moor_snapshot_get_tensor(snapshot, 1, MOOR_MODE_COPY, &t), MOOR_ERR_NO_MEMORY);
  standin_state_get(&s);
  EXPECT(s.views == 2);
  EXPECT_OK(moor_snapshot_get_buffer(snapshot, 1, MOOR_MODE_VIEW, &b));
  EXPECT_OK(moor_remove(store, "2", 1));
  EXPECT_OK(moor_snapshot_close(snapshot));
  standin_drain();
  standin_state_get(&s);
  EXPECT(s.home == STANDIN_SLOTS - 2 && s.views == 1); /* "1" has its name, and "2" the view */
  b.release(&b);
  put();
  nothing_is_held();
}

static void snapshots(void) {
  uint64_t ends[3] = {1, 2, 3};
  moor_keys keys = {"121", ends, 3};
  open_or_fail(&keys, OF_A_SNAPSHOT + SLOTS);
  open_or_fail(NULL, OF_A_SNAPSHOT);
  views_of_snapshots();
}

/* No thread can be started: everybody copies alone. */
static void copies_without_threads(void) {
  size_t size = 4u << 20;
  char *from = malloc(size), *to = calloc(1, size);
  memset(from, 'x', size);
  no_threads = 1;
  EXPECT(moor_copy((uintptr_t)to, (uintptr_t)from, size, NULL) == 0);
  EXPECT(memcmp(from, to, size) == 0);
  free(from);
  free(to);
}

int main(void) {
  EXPECT_OK(moor_store_open(NULL, &store));
  EXPECT(tensor("1", MOOR_MODE_VIEW) == 1);
  EXPECT(tensor("1", MOOR_MODE_COPY) == 1); /* a small copy lies in the block */
  EXPECT(tensor("2", MOOR_MODE_COPY) == 2);
  EXPECT(tensor("2", MOOR_MODE_COW) == 2);
  what_changes_the_store();
  buffers_and_batches();
  snapshots();
  copies_without_threads();
  printf("ok every allocation failed once\n");
  return 0;
}
