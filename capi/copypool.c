/* SPDX-License-Identifier: Apache-2.0
 *
 * Copies of 2 MiB and more are shared with a few standing threads, which claim pieces of 512 KiB; from 1 MiB on those that
 * come in a row, too. The threads start with the first such copy and live as long as the process. Whoever copies works as well, from the front; the threads claim
 * from the end, so that each stays in neighbouring pages. Several copies may run at once: a thread helps the
 * oldest that has pieces left.
 *
 * Copies of 12 MiB and more go past the cache: what is that large is gone from it before somebody reads it, and a plain
 * store of a line first loads what it is about to overwrite. (A C library does so too, but sees single pieces here.)
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "layout.h"

#define PIECE (512u << 10)
#define STREAM_FROM (12u << 20)
#define MAX_THREADS 4 /* the caller is one of them */
#define STACK_SIZE (256u << 10)
#define AWAIT_SPINS 6000 /* a tenth of a millisecond or two: the last pieces take no longer, and being woken would */
/* Copies come in rows, and being woken costs 50 to 60 us, as much as one thread's half of 4 MiB. So a thread stays
 * awake after a copy for ten times the time that it took, a millisecond at most, and gives way to whoever else wants
 * the CPU. */
#define AWAKE_TIMES 10
#define AWAKE_MOST 1000000 /* ns */
#define SPINS_PER_LOOK 64  /* at the clock */
#define ROW 50000          /* ns from the end of one copy to the next: well below what a thread stays awake */

typedef struct job {
  struct job *next; /* guarded by mutex */
  char *dst;
  const char *src;
  uint64_t size;
  uint64_t pieces;
  const uint32_t *closing;
  uint32_t stopped; /* atomic */
  uint32_t helpers; /* threads at work on it; raised under mutex, lowered without; atomic */
  uint64_t claimed; /* atomic; at or above pieces: none is left */
  uint64_t front;   /* atomic; pieces claimed from the front */
  uint64_t back;    /* atomic; from the end */
} job;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static job *oldest, **newest = &oldest; /* guarded by mutex */
static uint32_t rounds;                 /* atomic futex: raised by every new job */
static uint32_t sleepers;               /* atomic */
static uint32_t done;                   /* atomic futex: raised when a thread has left a job */
static int threads = -1;                /* guarded by mutex; -1: not tried yet */

static void futex_wait(const uint32_t *word, uint32_t seen) {
  syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
}

static void futex_wake(const uint32_t *word, int count) {
  syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
}

static void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

/* ---- a job ---- */

static int is_stopped(job *j) {
  if (j->closing != NULL && __atomic_load_n(j->closing, __ATOMIC_RELAXED) != 0) {
    __atomic_store_n(&j->stopped, 1, __ATOMIC_RELAXED);
  }
  return __atomic_load_n(&j->stopped, __ATOMIC_RELAXED) != 0;
}

#if defined(__SSE2__)
#define LINE 64

static void copy_past_cache(char *dst, const char *src, size_t size) {
  size_t head = -(uintptr_t)dst % sizeof(__m128i);
  if (head > size) head = size;
  memcpy(dst, src, head);
  for (dst += head, src += head, size -= head; size >= LINE; dst += LINE, src += LINE, size -= LINE) {
    const __m128i *from = (const __m128i *)src;
    __m128i *to = (__m128i *)dst;
    __m128i a = _mm_loadu_si128(from), b = _mm_loadu_si128(from + 1);
    __m128i c = _mm_loadu_si128(from + 2), d = _mm_loadu_si128(from + 3);
    _mm_stream_si128(to, a);
    _mm_stream_si128(to + 1, b);
    _mm_stream_si128(to + 2, c);
    _mm_stream_si128(to + 3, d);
  }
  _mm_sfence(); /* such stores are not ordered before what says that the piece is done */
  memcpy(dst, src, size);
}
#else
#define copy_past_cache memcpy
#endif

static void copy_piece(job *j, uint64_t at) {
  size_t size = j->size - at < PIECE ? (size_t)(j->size - at) : PIECE;
  if (j->size >= STREAM_FROM) {
    copy_past_cache(j->dst + at, j->src + at, size);
  } else {
    memcpy(j->dst + at, j->src + at, size);
  }
}

/* Copies pieces until none is left. The two ends cannot meet: both together give out no more than all pieces. */
static void work(job *j, int helper) {
  while (!is_stopped(j) && __atomic_fetch_add(&j->claimed, 1, __ATOMIC_RELAXED) < j->pieces) {
    uint64_t n = __atomic_fetch_add(helper ? &j->back : &j->front, 1, __ATOMIC_RELAXED);
    copy_piece(j, (helper ? j->pieces - 1 - n : n) * PIECE);
  }
}

static int has_pieces(job *j) { return __atomic_load_n(&j->claimed, __ATOMIC_RELAXED) < j->pieces; }

/* ---- the threads ---- */

static job *join(void) {
  pthread_mutex_lock(&mutex);
  job *j = oldest;
  while (j != NULL && !has_pieces(j)) j = j->next;
  if (j != NULL) __atomic_fetch_add(&j->helpers, 1, __ATOMIC_RELAXED);
  pthread_mutex_unlock(&mutex);
  return j;
}

/* The caller may return, and the job be gone, as soon as helpers is lowered; so the futex is not in the job. */
static void leave(job *j) {
  __atomic_fetch_sub(&j->helpers, 1, __ATOMIC_RELEASE);
  __atomic_fetch_add(&done, 1, __ATOMIC_SEQ_CST);
  futex_wake(&done, INT_MAX);
}

static int64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void sleep_until_new(uint32_t seen, int64_t awake_until) {
  do {
    for (int i = 0; i < SPINS_PER_LOOK; i++) {
      if (__atomic_load_n(&rounds, __ATOMIC_ACQUIRE) != seen) return;
      relax();
    }
    sched_yield();
  } while (now_ns() < awake_until);
  __atomic_fetch_add(&sleepers, 1, __ATOMIC_SEQ_CST);
  if (__atomic_load_n(&rounds, __ATOMIC_SEQ_CST) == seen) futex_wait(&rounds, seen);
  __atomic_fetch_sub(&sleepers, 1, __ATOMIC_SEQ_CST);
}

static void *help(void *unused) {
  (void)unused;
  pthread_setname_np(pthread_self(), "moorage-copy");
  int64_t awake_until = 0;
  for (;;) {
    uint32_t seen = __atomic_load_n(&rounds, __ATOMIC_SEQ_CST);
    job *j = join();
    if (j == NULL) {
      sleep_until_new(seen, awake_until);
      continue;
    }
    int64_t began = now_ns();
    work(j, 1);
    leave(j);
    int64_t ended = now_ns(), awake = AWAKE_TIMES * (ended - began);
    awake_until = ended + (awake < AWAKE_MOST ? awake : AWAKE_MOST);
  }
  return NULL;
}

/* ---- how many ---- */

/* A cgroup's limit in whole CPUs, rounded up; INT_MAX when there is none. v2: "max 100000" or "200000 100000". */
static int read_quota(const char *folder, const char *path) {
  char name[PATH_MAX], text[64] = "";
  long long quota = 0, period = 0;
  if (snprintf(name, sizeof name, "/sys/fs/cgroup%s%s/cpu.max", folder, path) >= (int)sizeof name) return INT_MAX;
  int fd = open(name, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return INT_MAX;
  ssize_t n = read(fd, text, sizeof text - 1);
  close(fd);
  if (n <= 0 || sscanf(text, "%lld %lld", &quota, &period) != 2 || quota <= 0 || period <= 0) return INT_MAX;
  return (int)((quota + period - 1) / period);
}

static int read_number(const char *folder, const char *path, const char *file, long long *number) {
  char name[PATH_MAX], text[64] = "";
  if (snprintf(name, sizeof name, "/sys/fs/cgroup%s%s/%s", folder, path, file) >= (int)sizeof name) return 0;
  int fd = open(name, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  ssize_t n = read(fd, text, sizeof text - 1);
  close(fd);
  return n > 0 && sscanf(text, "%lld", number) == 1;
}

/* The same of a v1 controller, which has two files. */
static int read_quota_v1(const char *folder, const char *path) {
  long long quota, period;
  if (!read_number(folder, path, "cpu.cfs_quota_us", &quota) || quota <= 0) return INT_MAX;
  if (!read_number(folder, path, "cpu.cfs_period_us", &period) || period <= 0) return INT_MAX;
  return (int)((quota + period - 1) / period);
}

static int least(int a, int b) { return a < b ? a : b; }

/* The tightest limit from a group up to the root. */
static int climb(const char *folder, char *path, int (*read_one)(const char *, const char *)) {
  int cpus = INT_MAX;
  for (;;) {
    cpus = least(cpus, read_one(folder, path));
    char *slash = strrchr(path, '/');
    if (slash == NULL) return cpus;
    *slash = 0;
  }
}

static int cgroup_cpus(void) {
  int cpus = INT_MAX;
  char line[PATH_MAX + 64];
  FILE *groups = fopen("/proc/self/cgroup", "re");
  if (groups == NULL) return cpus;
  while (fgets(line, sizeof line, groups) != NULL) {
    line[strcspn(line, "\n")] = 0;
    char *controllers = strchr(line, ':');
    char *path = controllers != NULL ? strchr(controllers + 1, ':') : NULL;
    if (path == NULL) continue;
    *path++ = 0;
    controllers++;
    if (*controllers == 0) {
      cpus = least(cpus, climb("", path, read_quota));
    } else if (strstr(controllers, "cpu") != NULL && strstr(controllers, "cpuset") != controllers) {
      cpus = least(cpus, climb("/cpu", path, read_quota_v1));
    }
  }
  fclose(groups);
  return cpus;
}

/* Where the threads may run: the wider of the masks of the main thread and of the calling one, either of which may be
 * bound to one CPU by its program. */
static int usable_cpus(cpu_set_t *set) {
  cpu_set_t mine;
  CPU_ZERO(set);
  CPU_ZERO(&mine);
  int all = sched_getaffinity(getpid(), sizeof *set, set) == 0 ? CPU_COUNT(set) : 0;
  if (sched_getaffinity(0, sizeof mine, &mine) == 0 && CPU_COUNT(&mine) > all) {
    *set = mine;
    all = CPU_COUNT(set);
  }
  return least(all, cgroup_cpus());
}

/* ---- start ---- */

static int start_thread(const cpu_set_t *set, size_t stack) {
  pthread_attr_t attributes;
  pthread_t thread;
  if (pthread_attr_init(&attributes) != 0) return 0;
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  if (stack > 0) pthread_attr_setstacksize(&attributes, stack);
  pthread_attr_setaffinity_np(&attributes, sizeof *set, set);
  int ok = pthread_create(&thread, &attributes, help, NULL) == 0;
  pthread_attr_destroy(&attributes);
  return ok;
}

/* Called once, with mutex locked. No thread at all is fine: then everybody copies alone. */
static int start(void) {
  cpu_set_t set;
  sigset_t all, before;
  int wanted = least(MAX_THREADS, usable_cpus(&set)) - 1;
  int started = 0;
  sigfillset(&all);
  /* A fault has to reach whoever prints it. */
  sigdelset(&all, SIGSEGV);
  sigdelset(&all, SIGBUS);
  sigdelset(&all, SIGILL);
  sigdelset(&all, SIGFPE);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  /* A program with much thread-local memory may not fit into a small stack. */
  while (started < wanted && (start_thread(&set, STACK_SIZE) || start_thread(&set, 0))) started++;
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  return started;
}

/* ---- the caller ---- */

static int64_t last; /* atomic: when a copy of MOOR_COPY_IN_ROWS or more ended */

static int in_a_row(void) { return now_ns() - __atomic_load_n(&last, __ATOMIC_RELAXED) < ROW; }

static int submit(job *j) {
  pthread_mutex_lock(&mutex);
  if (threads < 0) threads = start();
  int helped = threads > 0;
  if (helped) {
    *newest = j;
    newest = &j->next;
  }
  pthread_mutex_unlock(&mutex);
  if (helped) {
    __atomic_fetch_add(&rounds, 1, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&sleepers, __ATOMIC_SEQ_CST) > 0) futex_wake(&rounds, INT_MAX);
  }
  return helped;
}

static void withdraw(job *j) {
  pthread_mutex_lock(&mutex);
  job **at = &oldest;
  while (*at != j) at = &(*at)->next;
  *at = j->next;
  if (newest == &j->next) newest = at;
  pthread_mutex_unlock(&mutex);
}

static void await_helpers(job *j) {
  for (int i = 0; i < AWAIT_SPINS; i++) {
    if (__atomic_load_n(&j->helpers, __ATOMIC_ACQUIRE) == 0) return;
    relax();
  }
  for (;;) {
    uint32_t seen = __atomic_load_n(&done, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&j->helpers, __ATOMIC_ACQUIRE) == 0) return;
    futex_wait(&done, seen);
  }
}

int32_t moor_copy(uint64_t dst, uint64_t src, uint64_t size, const uint32_t *closing) {
  int shared = size >= MOOR_COPY_SHARED || (size >= MOOR_COPY_IN_ROWS && in_a_row());
  if (!shared || !moor_alive()) {
    if (size > 0) memcpy((void *)(uintptr_t)dst, (const void *)(uintptr_t)src, (size_t)size);
    if (size >= MOOR_COPY_IN_ROWS) __atomic_store_n(&last, now_ns(), __ATOMIC_RELAXED);
    return 0;
  }
  job j = {
      .dst = (char *)(uintptr_t)dst,
      .src = (const char *)(uintptr_t)src,
      .size = size,
      .pieces = (size + PIECE - 1) / PIECE,
      .closing = closing,
  };
  int helped = submit(&j);
  work(&j, 0);
  if (helped) {
    withdraw(&j);
    await_helpers(&j);
  }
  __atomic_store_n(&last, now_ns(), __ATOMIC_RELAXED);
  return __atomic_load_n(&j.stopped, __ATOMIC_RELAXED) != 0;
}
