/* SPDX-License-Identifier: Apache-2.0
 *
 * Threads that put, replace, get in every mode, copy out, take and remove, on few names and few extents, over the
 * stand-in. Every object is one 64-bit stamp repeated: a byte of another object under a view is seen.
 *
 *   hammer SECONDS THREADS [fork]
 */
#define _GNU_SOURCE
#include <pthread.h>
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
  uint64_t gets, puts, takes;
} worker;

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

static void get_tensor(worker *w, const char *key, uint64_t key_size, uint32_t mode) {
  DLManagedTensorVersioned *t;
  int32_t status = moor_get_tensor(store, key, key_size, mode, &t);
  if (status == MOOR_ERR_NOT_FOUND) return;
  EXPECT(status == MOOR_OK);
  uint64_t size = (uint64_t)t->dl_tensor.shape[0];
  check_stamps(t->dl_tensor.data, size);
  if (mode != MOOR_MODE_VIEW) {
    /* Our own: a write must stay ours. */
    memset(t->dl_tensor.data, (int)next(w), size);
  } else if (next(w) % 4 == 0) {
    sched_yield();
    check_stamps(t->dl_tensor.data, size);
  }
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

static void *run(void *given) {
  worker *w = given;
  while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
    char key[8];
    uint64_t key_size = name_of(w, key), what = next(w) % 16;
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

/* Forks now and then while the others are at it; the child checks the views that it inherited, for a while. */
static void fork_once(worker *w) {
  DLManagedTensorVersioned *views[8];
  int n = 0;
  for (int i = 0; i < 8; i++) {
    char key[8];
    if (moor_get_tensor(store, key, name_of(w, key), MOOR_MODE_VIEW, &views[n]) == MOOR_OK) n++;
  }
  pid_t pid = fork();
  EXPECT(pid >= 0);
  if (pid == 0) {
    for (int round = 0; round < 20; round++) {
      for (int i = 0; i < n; i++) check_stamps(views[i]->dl_tensor.data, (uint64_t)views[i]->dl_tensor.shape[0]);
      usleep(1000);
    }
    for (int i = 0; i < n; i++) views[i]->deleter(views[i]);
    _exit(0);
  }
  for (int i = 0; i < n; i++) views[i]->deleter(views[i]);
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
  uint64_t gets = 0, puts = 0, takes = 0;
  for (int i = 0; i < count; i++) {
    pthread_join(workers[i].thread, NULL);
    gets += workers[i].gets;
    puts += workers[i].puts;
    takes += workers[i].takes;
  }
  EXPECT(standin_await_children());
  EXPECT_OK(moor_store_close(store, 0));
  standin_drain();
  standin_state s;
  standin_state_get(&s);
  printf("hammer: %llu rounds, %llu puts, %llu takes, %d forks\n", (unsigned long long)gets, (unsigned long long)puts,
         (unsigned long long)takes, forked);
  EXPECT(s.home == STANDIN_SLOTS);
  EXPECT(s.held == 0 && s.windows == 0 && windows_mapped() == 0);
  return 0;
}
