/* SPDX-License-Identifier: Apache-2.0
 *
 * Fork: the handlers, the list of regions that they need, and the children to watch.
 *
 * A forked child goes on reading the views that it inherited. Its epoch is published before the fork, so that nothing
 * which was viewed then is reused while it lives. Its end is told by a pipe, and proved by a page of memory that it
 * keeps mapped: a child may close descriptors that it does not know. In the child the writer mapping becomes private and
 * the park goes, so that it cannot change a byte of its parent's.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "layout.h"

#ifndef MFD_CLOEXEC
#define MFD_CLOEXEC 1U
#endif
#ifndef MFD_ALLOW_SEALING
#define MFD_ALLOW_SEALING 2U
#endif

/* From here on the epoch is not raised any more, and all children share the permanent entry. */
#define LAST_EPOCH (UINT32_MAX - 3)

/* The fork lock: from prepare to parent or child, and around every change of the list of regions. */
static pthread_mutex_t fork_mutex = PTHREAD_MUTEX_INITIALIZER;
static int initialized; /* guarded by fork_mutex */

void moor_fork_lock(void) { pthread_mutex_lock(&fork_mutex); }
void moor_fork_unlock(void) { pthread_mutex_unlock(&fork_mutex); }

/* ---- regions ---- */

/* Slots are never freed, so that overlap checks and the fault line may walk them without a lock. A count of changes, odd
 * while one is made, tells them to look again. */
#define SLOTS 32
typedef struct slots {
  struct slots *next; /* atomic */
  moor_region region[SLOTS];
} slots;

static slots first_slots;
static uint32_t changes;      /* atomic */
static uint32_t slots_used;   /* atomic: how many slots, in their order, were ever used */
static uint32_t region_count; /* guarded by fork_mutex */

/* A slot is free when its length is 0. All fields that are read without the lock are written atomically. */
static void fill(moor_region *slot, const moor_region *with) {
  __atomic_store_n(&changes, changes + 1, __ATOMIC_RELAXED);
  slot->fd = with->fd;
  slot->park = with->park;
  slot->dev = with->dev;
  slot->ino = with->ino;
  __atomic_store_n(&slot->huge, with->huge, __ATOMIC_RELEASE);
  __atomic_store_n(&slot->records, with->records, __ATOMIC_RELEASE);
  __atomic_store_n(&slot->writer, with->writer, __ATOMIC_RELEASE);
  __atomic_store_n(&slot->reader, with->reader, __ATOMIC_RELEASE);
  __atomic_store_n(&slot->len, with->len, __ATOMIC_RELEASE);
  __atomic_store_n(&changes, changes + 1, __ATOMIC_RELEASE);
}

static moor_region *free_slot(void) {
  uint32_t n = 0;
  for (slots *s = &first_slots;; s = s->next) {
    for (int i = 0; i < SLOTS; i++, n++) {
      if (s->region[i].len != 0) continue;
      if (n >= slots_used) __atomic_store_n(&slots_used, n + 1, __ATOMIC_RELEASE);
      return &s->region[i];
    }
    if (s->next == NULL) {
      slots *more = calloc(1, sizeof *more);
      if (more == NULL) return NULL;
      __atomic_store_n(&s->next, more, __ATOMIC_RELEASE);
    }
  }
}

/* By the system call: glibc has had fstat as a function of its own only since 2.33. */
static int identity(int fd, uint64_t *dev, uint64_t *ino) {
  struct stat st;
  if (syscall(SYS_fstat, fd, &st) != 0) return 0;
  *dev = (uint64_t)st.st_dev;
  *ino = (uint64_t)st.st_ino;
  return 1;
}

/* The fork lock is held. NULL: no memory, or its descriptor is not an open file. */
moor_region *moor_region_add(const moor_region *like) {
  moor_region r = *like;
  if (r.len == 0 || !identity(r.fd, &r.dev, &r.ino)) return NULL;
  moor_region *slot = free_slot();
  if (slot == NULL) return NULL;
  fill(slot, &r);
  region_count++;
  return slot;
}

/* The fork lock is held, and the mappings are still there. */
void moor_region_remove(moor_region *region) {
  if (region == NULL || region->len == 0) return;
  moor_region none = {.fd = -1};
  fill(region, &none);
  region_count--;
}

int moor_region_fd_valid(const moor_region *region) {
  uint64_t dev, ino;
  return identity(region->fd, &dev, &ino) && dev == region->dev && ino == region->ino;
}

typedef struct place {
  uint64_t writer, reader, len, records;
  uint32_t huge;
} place;

static place look(const moor_region *slot) {
  place p;
  p.len = __atomic_load_n(&slot->len, __ATOMIC_ACQUIRE);
  p.reader = __atomic_load_n(&slot->reader, __ATOMIC_ACQUIRE);
  p.writer = __atomic_load_n(&slot->writer, __ATOMIC_ACQUIRE);
  p.records = __atomic_load_n(&slot->records, __ATOMIC_ACQUIRE);
  p.huge = __atomic_load_n(&slot->huge, __ATOMIC_ACQUIRE);
  return p;
}

static int within(uint64_t address, uint64_t start, uint64_t len) { return address - start < len; }

static int touches(uint64_t address, uint64_t size, uint64_t start, uint64_t len) {
  return within(address, start, len) || within(start, address, size);
}

/* Looks for a region whose reader mapping, or writer mapping if writers is set, has some of these bytes. What it saw is of
 * one moment, unless tries run out: then it found nothing. */
static int find(uint64_t address, uint64_t size, int writers, uint64_t tries, place *found_out) {
  for (; tries > 0; tries--) {
    uint32_t before = __atomic_load_n(&changes, __ATOMIC_ACQUIRE);
    uint32_t left = __atomic_load_n(&slots_used, __ATOMIC_ACQUIRE);
    int found = 0;
    for (const slots *s = &first_slots; left > 0 && !found; s = __atomic_load_n(&s->next, __ATOMIC_ACQUIRE)) {
      for (int i = 0; i < SLOTS && left > 0 && !found; i++, left--) {
        place p = look(&s->region[i]);
        found = p.len != 0 && (touches(address, size, p.reader, p.len) ||
                               (writers && touches(address, size, p.writer, p.len)));
        if (found) *found_out = p;
      }
    }
    if ((before & 1) == 0 && __atomic_load_n(&changes, __ATOMIC_RELAXED) == before) return found;
  }
  return 0;
}

int moor_region_overlaps(uint64_t address, uint64_t size) {
  place p;
  return size != 0 && find(address, size, 0, UINT64_MAX, &p);
}

int moor_region_touches(uint64_t address, uint64_t size) {
  place p;
  return size != 0 && find(address, size, 1, UINT64_MAX, &p);
}

int moor_region_find(uint64_t address, moor_region *region_out, int *in_writer) {
  place p;
  /* A bounded number of tries: the thread that is changing the list may be the one that faulted. */
  if (!find(address, 1, 1, 1000, &p)) return 0;
  memset(region_out, 0, sizeof *region_out);
  region_out->fd = -1;
  region_out->huge = p.huge;
  region_out->writer = p.writer;
  region_out->reader = p.reader;
  region_out->len = p.len;
  region_out->records = p.records;
  *in_writer = within(address, p.writer, p.len);
  return 1;
}

/* ---- children ---- */

static struct {
  int forking;    /* between prepare and parent: there is something to undo */
  int followed;   /* a slot, a pipe and a token were had */
  uint32_t slot;
  int pipe[2];
  int token;
  void *page;     /* the token, mapped */
} now;            /* guarded by fork_mutex */

/* Children that Go has not asked for yet, oldest first. There is room for all: each has a slot. */
static moor_child waiting[MOOR_CHILDREN];
static uint32_t waiting_from, waiting_count; /* guarded by fork_mutex */
static uint64_t unfollowed;                  /* atomic */

uint64_t moor_children_unfollowed(void) { return __atomic_load_n(&unfollowed, __ATOMIC_RELAXED); }

int32_t moor_child_next(moor_child *child_out) {
  pthread_mutex_lock(&fork_mutex);
  int32_t got = waiting_count > 0;
  if (got) {
    *child_out = waiting[waiting_from];
    waiting_from = (waiting_from + 1) % MOOR_CHILDREN;
    waiting_count--;
  }
  pthread_mutex_unlock(&fork_mutex);
  return got;
}

static size_t page_size(void) { return (size_t)sysconf(_SC_PAGESIZE); }

static int find_child_slot(const moor_process *p, uint32_t *slot_out) {
  for (uint32_t i = 0; i < MOOR_CHILD_PERMANENT; i++) {
    if (__atomic_load_n(&p->child[i], __ATOMIC_ACQUIRE) == 0) {
      *slot_out = i;
      return 1;
    }
  }
  return 0;
}

static int make_token(void) {
  now.token = (int)syscall(SYS_memfd_create, "moorage child", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (now.token < 0) return 0;
  if (ftruncate(now.token, (off_t)page_size()) == 0) {
    now.page = mmap(NULL, page_size(), PROT_READ | PROT_WRITE, MAP_SHARED, now.token, 0);
    if (now.page != MAP_FAILED) return 1;
  }
  close(now.token);
  return 0;
}

static int make_pipe_and_token(void) {
  if (pipe2(now.pipe, O_CLOEXEC) != 0) return 0;
  if (make_token()) return 1;
  close(now.pipe[0]);
  close(now.pipe[1]);
  return 0;
}

/* Holds whatever is viewed from epoch first to epoch last for ever. Nothing that is unlucky twice may hold less. */
static void hold_for_ever(moor_process *p, uint32_t first, uint32_t last) {
  uint64_t *entry = &p->child[MOOR_CHILD_PERMANENT];
  uint64_t old = __atomic_load_n(entry, __ATOMIC_RELAXED);
  if (old != 0 && (uint32_t)(old >> 32) < first) first = (uint32_t)(old >> 32);
  if (old != 0 && (uint32_t)old > last) last = (uint32_t)old;
  __atomic_store_n(entry, (uint64_t)first << 32 | last, __ATOMIC_SEQ_CST);
  if (old == 0) __atomic_fetch_add(&p->kids, 1, __ATOMIC_SEQ_CST);
  __atomic_fetch_add(&unfollowed, 1, __ATOMIC_RELAXED);
}

static void publish(moor_process *p, uint32_t slot, uint32_t epoch) {
  if (__atomic_load_n(&p->high, __ATOMIC_RELAXED) <= slot) __atomic_store_n(&p->high, slot + 1, __ATOMIC_SEQ_CST);
  __atomic_store_n(&p->child[slot], epoch, __ATOMIC_SEQ_CST);
  __atomic_fetch_add(&p->kids, 1, __ATOMIC_SEQ_CST);
}

static void prepare(void) {
  if (!moor_alive()) return; /* a grandchild inherits pipe and token, and there is nothing else to do */
  int saved = errno;
  pthread_mutex_lock(&fork_mutex);
  now.forking = region_count > 0; /* without a region there is nothing that a child could view */
  if (now.forking) {
    moor_process *p = moor_process_words();
    uint32_t e = __atomic_load_n(&p->epoch, __ATOMIC_SEQ_CST);
    int raise = e < LAST_EPOCH;
    now.followed = raise && find_child_slot(p, &now.slot) && make_pipe_and_token();
    if (now.followed) {
      publish(p, now.slot, e + 1);
    } else {
      hold_for_ever(p, raise ? e + 1 : e, raise ? e + 1 : UINT32_MAX);
    }
    /* Only now: whoever sees the raised epoch must find the child. */
    if (raise) __atomic_store_n(&p->epoch, e + 1, __ATOMIC_SEQ_CST);
  }
  errno = saved;
}

/* Runs after a fork that failed, too: then the pipe and the token show at once that nobody is there. */
static void parent(void) {
  if (!moor_alive()) return;
  int saved = errno;
  moor_process *p = moor_process_words();
  if (now.forking) {
    uint32_t e = __atomic_load_n(&p->epoch, __ATOMIC_SEQ_CST);
    if ((e & 1) != 0) __atomic_store_n(&p->epoch, e + 1, __ATOMIC_SEQ_CST);
  }
  if (now.forking && now.followed) {
    munmap(now.page, page_size());
    close(now.pipe[1]);
    waiting[(waiting_from + waiting_count++) % MOOR_CHILDREN] =
        (moor_child){.slot = now.slot, .pipe = now.pipe[0], .token = now.token};
    moor_wake(p->wake);
  }
  int first_unfollowed = now.forking && !now.followed && moor_children_unfollowed() == 1;
  now.forking = 0;
  pthread_mutex_unlock(&fork_mutex);
  if (first_unfollowed) moor_notice(MOOR_NOTICE_UNFOLLOWED);
  errno = saved;
}

/* The parent's bytes must be out of reach, whatever fails. The page tables that wait in the park are not missed: a child
 * finds the pages by the file. */
static void make_private(const moor_region *r) {
  void *at = (void *)(uintptr_t)r->writer, *park = (void *)(uintptr_t)r->park;
  if (park != NULL && munmap(park, r->len) != 0) mprotect(park, r->len, PROT_NONE);
  if (moor_region_fd_valid(r)) {
    /* A private mapping of huge pages could find none left and die on a write. */
    int protection = r->huge ? PROT_READ : PROT_READ | PROT_WRITE;
    int flags = r->huge ? MAP_SHARED | MAP_FIXED : MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE;
    if (mmap(at, r->len, protection, flags, r->fd, 0) != MAP_FAILED) return;
  }
  if (mprotect(at, r->len, PROT_READ) != 0) munmap(at, r->len);
}

static void child(void) {
  int saved = errno;
  if (now.forking) {
    for (slots *s = &first_slots; s != NULL; s = s->next) {
      for (int i = 0; i < SLOTS; i++) {
        if (s->region[i].len != 0) make_private(&s->region[i]);
      }
    }
    if (now.followed) {
      /* The write end of the pipe and the page stay: with them go the signal and the proof. */
      close(now.pipe[0]);
      close(now.token);
    }
    now.forking = 0; /* a grandchild finds nothing to do */
  }
  pthread_mutex_init(&fork_mutex, NULL);
  errno = saved;
}

int32_t moor_fork_init(void) {
  int32_t status = MOOR_OK;
  moor_process *p = moor_process_words();
  pthread_mutex_lock(&fork_mutex);
  if (!initialized) {
    int wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (wake < 0) {
      status = moor_fail(MOOR_ERR_SYSTEM, "eventfd: %s", strerror(errno));
    } else if (pthread_atfork(prepare, parent, child) != 0) {
      close(wake);
      status = moor_fail(MOOR_ERR_NO_MEMORY, "pthread_atfork: no memory for the fork handlers");
    } else {
      __atomic_store_n(&p->wake, wake, __ATOMIC_SEQ_CST);
      initialized = 1;
    }
  }
  pthread_mutex_unlock(&fork_mutex);
  return status;
}
