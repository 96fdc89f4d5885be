/* SPDX-License-Identifier: Apache-2.0
 *
 * Threads that put, replace, get in every mode, copy out, take and remove, on few names and few extents, over the
 * stand-in. Every object is one 64-bit stamp repeated: a byte of another object under a view is seen. Snapshots are
 * opened, read and closed, some of them by all threads at once.
 *
 *   hammer SECONDS THREADS [fork]
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "expect.h"
#include "standin.h"

static moor_store store;
static int stop; /* atomic */

typedef struct worker {
  pthread_t thread;
  uint64_t state;
  uint64_t gets, puts, takes, snapshots;
} worker;

/* Ids of snapshots that everybody reads, and whoever replaces one closes it. */
enum { SHARED = 3 };
static uint64_t shared[SHARED]; /* atomic */

static uint64_t next(worker *w) {
  w->state ^= w->state << 13;
  w->state ^= w->state >> 7;
  w->state ^= w->state << 17;
  return w->state;
}

static void check_stamps(const void *data, uint64_t size) {
  const uint64_t *words = data;
  for (uint64_t i = 1; i < size / 8; i++) EXPECT(words[i] == words[0]);
}

static uint64_t name_of(worker *w, char *key) { return (uint64_t)snprintf(key, 8, "%d", (int)(next(w) % 8)); }

static void put(worker *w) {
  static const uint64_t sizes[] = {64, 4096, 65536, 131072};
  char key[8];
  uint64_t key_size = name_of(w, key), size = sizes[next(w) % 4], stamp = next(w);
  uint64_t *data = malloc(size);
  for (uint64_t i = 0; i < size / 8; i++) data[i] = stamp;
  int32_t status = moor_put(store, key, key_size, data, size, NULL, NULL);
  EXPECT(status == MOOR_OK || status == MOOR_ERR_CAPACITY);
  free(data);
  w->puts++;
}

static void check_tensor(worker *w, DLManagedTensorVersioned *t, uint32_t mode) {
  uint64_t size = (uint64_t)t->dl_tensor.shape[0];
  check_stamps(t->dl_tensor.data, size);
  if (mode != MOOR_MODE_VIEW) {
    /* Our own: a write must stay ours. */
    memset(t->dl_tensor.data, (int)next(w), size);
  } else if (next(w) % 4 == 0) {
    sched_yield();
    check_stamps(t->dl_tensor.data, size);
  }
}

static void get_tensor(worker *w, const char *key, uint64_t key_size, uint32_t mode) {
  DLManagedTensorVersioned *t;
  int32_t status = moor_get_tensor(store, key, key_size, mode, &t);
  if (status == MOOR_ERR_NOT_FOUND) return;
  EXPECT(status == MOOR_OK);
  check_tensor(w, t, mode);
  t->deleter(t);
}

static void get_buffer(const char *key, uint64_t key_size, uint32_t mode) {
  moor_buffer b;
  int32_t status = moor_get_buffer(store, key, key_size, mode, &b);
  if (status == MOOR_ERR_NOT_FOUND) return;
  EXPECT(status == MOOR_OK);
  EXPECT(b.meta_size == key_size && memcmp(b.meta, key, key_size) == 0);
  check_stamps(b.data, b.size);
  b.release(&b);
  EXPECT(b.release == NULL);
}

static void get_into(worker *w, const char *key, uint64_t key_size) {
  static __thread uint64_t room[131072 / 8];
  uint64_t cut = 8 * (next(w) % 9), copied = 0;
  moor_span spans[2] = {{room, cut}, {room + cut / 8, sizeof room - cut}};
  int32_t status = moor_get_into(store, key, key_size, 0, MOOR_ALL, spans, 2, &copied);
  if (status == MOOR_ERR_NOT_FOUND) return;
  EXPECT(status == MOOR_OK);
  check_stamps(room, copied);
}

static void take(worker *w, const char *key, uint64_t key_size) {
  DLManagedTensorVersioned *t;
  int32_t status = moor_take_tensor(store, key, key_size, &t);
  if (status == MOOR_ERR_NOT_FOUND || status == MOOR_ERR_BUSY) return;
  EXPECT(status == MOOR_OK);
  uint64_t size = (uint64_t)t->dl_tensor.shape[0];
  check_stamps(t->dl_tensor.data, size);
  memset(t->dl_tensor.data, (int)next(w), size);
  t->deleter(t);
  w->takes++;
}

/* ---- snapshots ---- */

/* Of a few names, some of which may be missing; or of all that begin with a digit. */
static int32_t open_snapshot(worker *w, moor_snapshot *snapshot_out) {
  if (next(w) % 2) return moor_snapshot_open(store, NULL, "4", next(w) % 2, snapshot_out);
  char bytes[4];
  uint64_t ends[4];
  for (uint64_t i = 0; i < 4; i++) {
    bytes[i] = (char)('0' + next(w) % 8);
    ends[i] = i + 1;
  }
  moor_keys keys = {bytes, ends, 4};
  int32_t status = moor_snapshot_open(store, &keys, NULL, 0, snapshot_out);
  EXPECT(status == MOOR_OK || status == MOOR_ERR_NOT_FOUND);
  return status;
}

/* Each key is found where it stands, or where it stood first, and its object carries its name. */
static void check_keys(moor_snapshot snapshot) {
  moor_keys keys;
  moor_buffer b;
  uint64_t index, start = 0;
  EXPECT_OK(moor_snapshot_get_keys(snapshot, &keys));
  for (uint64_t i = 0; i < keys.count; start = keys.ends[i++]) {
    const char *key = (const char *)keys.bytes + start;
    uint64_t size = keys.ends[i] - start;
    EXPECT_OK(moor_snapshot_find(snapshot, key, size, &index));
    EXPECT(index <= i);
    EXPECT_OK(moor_snapshot_get_buffer(snapshot, index, MOOR_MODE_VIEW, &b));
    EXPECT(b.meta_size == size && memcmp(b.meta, key, size) == 0);
    check_stamps(b.data, b.size);
    b.release(&b);
  }
  EXPECT_STATUS(moor_snapshot_find(snapshot, "nobody", 6, &index), MOOR_ERR_NOT_FOUND);
}

static void own_snapshot(worker *w) {
  moor_snapshot snapshot;
  DLManagedTensorVersioned *t;
  uint32_t mode = (uint32_t)(next(w) % 3);
  if (open_snapshot(w, &snapshot) != MOOR_OK) return;
  check_keys(snapshot);
  int32_t status = moor_snapshot_get_tensor(snapshot, 0, mode, &t);
  EXPECT(status == MOOR_OK || status == MOOR_ERR_INVALID_ARGUMENT); /* it may be empty */
  EXPECT_OK(moor_snapshot_close(snapshot));
  EXPECT_STATUS(moor_snapshot_close(snapshot), MOOR_ERR_BAD_HANDLE);
  w->snapshots++;
  if (status != MOOR_OK) return;
  check_tensor(w, t, mode); /* outlives it */
  t->deleter(t);
}

/* Somebody may close it at any moment. */
static void read_shared(worker *w) {
  moor_snapshot snapshot = {__atomic_load_n(&shared[next(w) % SHARED], __ATOMIC_RELAXED)};
  moor_snapshot_info info = {.struct_size = sizeof info};
  DLManagedTensorVersioned *t;
  uint64_t index;
  uint32_t mode = (uint32_t)(next(w) % 3);
  int32_t status = moor_snapshot_get_info(snapshot, &info);
  EXPECT(status == MOOR_OK || status == MOOR_ERR_BAD_HANDLE);
  status = moor_snapshot_find(snapshot, "4", 1, &index);
  EXPECT(status == MOOR_OK || status == MOOR_ERR_BAD_HANDLE || status == MOOR_ERR_NOT_FOUND);
  status = moor_snapshot_get_tensor(snapshot, next(w) % 5, mode, &t);
  EXPECT(status == MOOR_OK || status == MOOR_ERR_BAD_HANDLE || status == MOOR_ERR_INVALID_ARGUMENT);
  if (status != MOOR_OK) return;
  check_tensor(w, t, mode);
  t->deleter(t);
}

static void replace_shared(worker *w) {
  moor_snapshot snapshot = {0};
  if (next(w) % 4 != 0 && open_snapshot(w, &snapshot) != MOOR_OK) return;
  snapshot.id = __atomic_exchange_n(&shared[next(w) % SHARED], snapshot.id, __ATOMIC_RELAXED);
  EXPECT_STATUS(moor_snapshot_close(snapshot), snapshot.id != 0 ? MOOR_OK : MOOR_ERR_BAD_HANDLE);
  w->snapshots++;
}

static void snapshots(worker *w) {
  switch (next(w) % 8) {
    case 0: replace_shared(w); break;
    case 1:
    case 2: own_snapshot(w); break;
    default: read_shared(w);
  }
}

static void *run(void *given) {
  worker *w = given;
  while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
    char key[8];
    uint64_t key_size = name_of(w, key), what = next(w) % 24;
    if (what < 4) {
      put(w);
    } else if (what < 10) {
      get_tensor(w, key, key_size, (uint32_t)(next(w) % 3));
    } else if (what < 12) {
      get_buffer(key, key_size, (uint32_t)(next(w) % 3));
    } else if (what < 14) {
      get_into(w, key, key_size);
    } else if (what == 14) {
      take(w, key, key_size);
    } else if (what > 15) {
      snapshots(w);
    } else {
      int32_t status = moor_remove(store, key, key_size);
      EXPECT(status == MOOR_OK || status == MOOR_ERR_NOT_FOUND);
    }
    w->gets++;
  }
  return NULL;
}

/* Private writable mappings of the store's file: windows that were not unmapped. */
static int windows_mapped(void) {
  char line[512];
  int n = 0;
  FILE *maps = fopen("/proc/self/maps", "re");
  EXPECT(maps != NULL);
  while (fgets(line, sizeof line, maps) != NULL) n += strstr(line, "memfd:standin") != NULL && strstr(line, " rw-p ") != NULL;
  fclose(maps);
  return n;
}

/* What a child does with a snapshot that it inherited. With descriptors it maps windows, without it copies; both are
 * counted. */
static void look(worker *w, moor_snapshot snapshot, int descriptors) {
  moor_snapshot_info info = {.struct_size = sizeof info};
  DLManagedTensorVersioned *t;
  EXPECT_OK(moor_snapshot_get_info(snapshot, &info));
  EXPECT(info.flags == MOOR_SNAPSHOT_FORKED);
  uint64_t windows = info.child_windows, copies = info.child_window_copies;
  check_keys(snapshot);
  for (uint64_t i = 0; i < info.objects; i++) {
    for (uint32_t mode = MOOR_MODE_VIEW; mode <= MOOR_MODE_COPY; mode++) {
      EXPECT_OK(moor_snapshot_get_tensor(snapshot, i, mode, &t));
      int large = t->dl_tensor.shape[0] >= (64 << 10), copied = (t->flags & DLPACK_FLAG_BITMASK_IS_COPIED) != 0;
      EXPECT(copied == (mode == MOOR_MODE_COPY || (mode == MOOR_MODE_COW && !(large && descriptors))));
      copies += mode == MOOR_MODE_COW && large && !descriptors;
      check_tensor(w, t, mode);
      t->deleter(t);
    }
  }
  EXPECT_OK(moor_snapshot_get_info(snapshot, &info));
  EXPECT(info.child_windows == windows && info.child_window_copies == copies);
}

/* AddressSanitizer's allocator may be locked for ever in a child that was forked beside other threads (as of GCC 12).
 * There a child only looks; the test fork does the rest under it, where nobody else is at work. */
#ifdef __SANITIZE_ADDRESS__
enum { CHILDREN_ALLOCATE = 0 };
#else
enum { CHILDREN_ALLOCATE = 1 };
#endif

static void use_and_close(worker *w, moor_snapshot snapshot, DLManagedTensorVersioned **views, int n) {
  int descriptors = (int)(next(w) % 2);
  for (int fd = 3; !descriptors && fd < 64; fd++) close(fd);
  for (int round = 0; round < 10; round++, usleep(1000)) {
    look(w, snapshot, descriptors);
    read_shared(w);
  }
  for (int i = 0; i < n; i++) views[i]->deleter(views[i]);
  EXPECT_OK(moor_snapshot_close(snapshot));
  EXPECT_STATUS(moor_snapshot_close(snapshot), MOOR_ERR_BAD_HANDLE);
}

static void child(worker *w, moor_snapshot snapshot, DLManagedTensorVersioned **views, int n) {
  moor_keys keys;
  uint64_t index;
  int status;
  pid_t grandchild = -1;
  if (next(w) % 2) EXPECT((grandchild = fork()) >= 0);
  w->state ^= (uint64_t)getpid() << 20;
  EXPECT_OK(moor_snapshot_get_keys(snapshot, &keys));
  for (int round = 0; round < 10; round++, usleep(1000)) {
    for (int i = 0; i < n; i++) check_stamps(views[i]->dl_tensor.data, (uint64_t)views[i]->dl_tensor.shape[0]);
    if (keys.count > 0) EXPECT_OK(moor_snapshot_find(snapshot, keys.bytes, keys.ends[0], &index));
  }
  if (CHILDREN_ALLOCATE) use_and_close(w, snapshot, views, n);
  if (grandchild > 0) EXPECT(waitpid(grandchild, &status, 0) == grandchild && status == 0);
  _exit(0);
}

/* Forks now and then while the others are at it; the child checks the views and the snapshots that it inherited, for a
 * while. */
static void fork_once(worker *w) {
  DLManagedTensorVersioned *views[8];
  moor_snapshot snapshot;
  int n = 0;
  for (int i = 0; i < 8; i++) {
    char key[8];
    if (moor_get_tensor(store, key, name_of(w, key), MOOR_MODE_VIEW, &views[n]) == MOOR_OK) n++;
  }
  while (open_snapshot(w, &snapshot) != MOOR_OK) sched_yield();
  pid_t pid = fork();
  EXPECT(pid >= 0);
  if (pid == 0) child(w, snapshot, views, n);
  for (int i = 0; i < n; i++) views[i]->deleter(views[i]);
  EXPECT_OK(moor_snapshot_close(snapshot));
  int status;
  EXPECT(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

int main(int argc, char **argv) {
  EXPECT(argc >= 3);
  int seconds = atoi(argv[1]), count = atoi(argv[2]), forks = argc > 3, forked = 0;
  worker workers[16] = {0}, forker = {.state = 77};
  uint64_t seed = (uint64_t)time(NULL);
  printf("hammer: seed %llu\n", (unsigned long long)seed);
  EXPECT_OK(moor_store_open(NULL, &store));
  for (int i = 0; i < count; i++) {
    workers[i].state = (seed + (uint64_t)i) * 0x9E3779B97F4A7C15ULL | 1;
    pthread_create(&workers[i].thread, NULL, run, &workers[i]);
  }
  for (time_t end = time(NULL) + seconds; time(NULL) < end;) {
    if (forks) {
      fork_once(&forker);
      forked++;
    } else {
      usleep(50000);
    }
  }
  __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
  uint64_t gets = 0, puts = 0, takes = 0, opened = 0;
  for (int i = 0; i < count; i++) {
    pthread_join(workers[i].thread, NULL);
    gets += workers[i].gets;
    puts += workers[i].puts;
    takes += workers[i].takes;
    opened += workers[i].snapshots;
  }
  EXPECT(standin_await_children());
  EXPECT_OK(moor_store_close(store, 0));
  for (int i = 0; i < SHARED; i++) { /* snapshots outlive the store */
    if (shared[i] != 0) EXPECT_OK(moor_snapshot_close((moor_snapshot){shared[i]}));
  }
  standin_drain();
  standin_state s;
  standin_state_get(&s);
  printf("hammer: %llu rounds, %llu puts, %llu takes, %llu snapshots, %d forks\n", (unsigned long long)gets,
         (unsigned long long)puts, (unsigned long long)takes, (unsigned long long)opened, forked);
  EXPECT(s.home == STANDIN_SLOTS);
  EXPECT(s.held == 0 && s.windows == 0 && s.views == 0 && windows_mapped() == 0);
  return 0;
}
