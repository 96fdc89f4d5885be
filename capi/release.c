/* SPDX-License-Identifier: Apache-2.0
 *
 * The end of a view: a few atomics, no lock, no Go. It runs on any thread, after the store was closed, and while the
 * process exits. core/arena/cell has the same steps for callers in Go, over the same memory; core/arena/model checks
 * their order.
 */
#define _GNU_SOURCE /* syscall */
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "layout.h"

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif

static moor_process process = {.wake = -1};

moor_process *moor_process_words(void) { return &process; }

/* The alive word lies in a page that the kernel zeroes in a forked child, before anybody's fork handlers run there.
 * A kernel older than 4.14 cannot do that: then a handler of our own clears a plain word, which is only later. */
static uint32_t plain_alive = 1;
static uint32_t *alive = &plain_alive;

static void child_clears_alive(void) { __atomic_store_n(&plain_alive, 0, __ATOMIC_RELAXED); }

__attribute__((constructor(101))) static void make_alive_page(void) {
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  void *p = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p != MAP_FAILED && madvise(p, page, MADV_WIPEONFORK) == 0) {
    alive = p;
    *alive = 1;
    return;
  }
  if (p != MAP_FAILED) munmap(p, page);
  pthread_atfork(NULL, NULL, child_clears_alive);
}

int moor_alive(void) { return __atomic_load_n(alive, __ATOMIC_RELAXED) != 0; }

static void note_last_epoch(moor_cell *cell) {
  /* Never earlier than the call: an old epoch would forget a child that was forked while the view was held. */
  uint32_t e = __atomic_load_n(&process.epoch, __ATOMIC_SEQ_CST);
  uint64_t pair = __atomic_load_n(&cell->pair, __ATOMIC_ACQUIRE);
  while ((uint32_t)pair < e) {
    uint64_t raised = (pair & ~(uint64_t)UINT32_MAX) | e;
    if (__atomic_compare_exchange_n(&cell->pair, &pair, raised, 1, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) return;
  }
}

/* Puts a dead cell on the return list. The exchange is the last access to memory of the store: the drain may unmap it
 * right after. */
static void push(moor_cell *cell, moor_control *control, uint32_t unit) {
  int wake = __atomic_load_n(&process.wake, __ATOMIC_RELAXED);
  uint64_t head = __atomic_load_n(&control->head, __ATOMIC_ACQUIRE);
  do {
    __atomic_store_n(&cell->next, (uint32_t)head, __ATOMIC_RELAXED);
  } while (!__atomic_compare_exchange_n(&control->head, &head, (head & MOOR_LIST_CLOSED) | unit, 1, __ATOMIC_ACQ_REL,
                                        __ATOMIC_ACQUIRE));
  if ((head & MOOR_LIST_CLOSED) != 0) moor_wake(wake);
}

void moor_cell_release(moor_cell *cell, moor_control *control, uint32_t unit) {
  note_last_epoch(cell);
  uint64_t word = __atomic_sub_fetch(&cell->word, 1, __ATOMIC_ACQ_REL);
  if ((word & ~MOOR_CELL_OPEN) == MOOR_CELL_DEAD) push(cell, control, unit);
}

void moor_hold_release(const moor_hold *hold) {
  if (!moor_alive()) return;
  moor_cell_release((moor_cell *)(uintptr_t)hold->cell, (moor_control *)(uintptr_t)hold->control, hold->unit);
}

/* Somebody may have closed the eventfd, and its number may be a file by now. The kernel's nameless files have no type. */
static int is_nameless(int fd) {
  struct stat st;
  return syscall(SYS_fstat, fd, &st) == 0 && (st.st_mode & S_IFMT) == 0;
}

void moor_wake(int fd) {
  if (fd < 0 || !is_nameless(fd)) return;
  uint64_t one = 1;
  /* A full counter is fine too: its reader has been woken. */
  ssize_t ignored = write(fd, &one, sizeof one);
  (void)ignored;
}
