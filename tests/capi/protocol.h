/* SPDX-License-Identifier: Apache-2.0
 *
 * The half of the pin protocol that the library has in Go only, in C, for tests: looking up, killing, taking back. Same
 * steps and same order as core/arena/cell.
 */
#ifndef MOOR_TEST_PROTOCOL_H_
#define MOOR_TEST_PROTOCOL_H_

#include <stdint.h>

#include "layout.h"

static inline uint64_t pack(uint32_t first, uint32_t last) { return (uint64_t)first << 32 | last; }
static inline uint32_t first_of(uint64_t pair) { return (uint32_t)(pair >> 32); }
static inline uint32_t last_of(uint64_t pair) { return (uint32_t)pair; }

static inline int is_held(const moor_process *p, uint64_t pair) {
  if (__atomic_load_n(&p->kids, __ATOMIC_SEQ_CST) == 0) return 0;
  uint32_t high = __atomic_load_n(&p->high, __ATOMIC_SEQ_CST);
  for (uint32_t i = 0; i < high; i++) {
    uint64_t e = __atomic_load_n(&p->child[i], __ATOMIC_SEQ_CST);
    if (e != 0 && first_of(pair) <= e && e <= last_of(pair)) return 1;
  }
  uint64_t e = __atomic_load_n(&p->child[MOOR_CHILD_PERMANENT], __ATOMIC_SEQ_CST);
  return e != 0 && first_of(pair) <= last_of(e) && first_of(e) <= last_of(pair);
}

static inline void child_ended(moor_process *p, uint32_t slot) {
  __atomic_store_n(&p->child[slot], 0, __ATOMIC_SEQ_CST);
  __atomic_fetch_sub(&p->kids, 1, __ATOMIC_SEQ_CST);
}

static inline void cell_begin(moor_cell *c, moor_process *p, int open) {
  __atomic_store_n(&c->pair, pack(__atomic_load_n(&p->epoch, __ATOMIC_SEQ_CST), 0), __ATOMIC_SEQ_CST);
  __atomic_store_n(&c->word, open ? MOOR_CELL_DEAD | MOOR_CELL_OPEN | 1 : 1, __ATOMIC_SEQ_CST);
}

/* The lock of the names is held. */
static inline void cell_get(moor_cell *c, moor_process *p) {
  uint32_t e = __atomic_load_n(&p->epoch, __ATOMIC_SEQ_CST);
  if (__atomic_fetch_add(&c->word, 1, __ATOMIC_SEQ_CST) != 1) return;
  uint64_t pair = __atomic_load_n(&c->pair, __ATOMIC_SEQ_CST);
  while (first_of(pair) != e && !is_held(p, pair)) {
    if (__atomic_compare_exchange_n(&c->pair, &pair, pack(e, last_of(pair)), 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
      return;
    }
  }
}

/* 1: died with it, to be pushed. */
static inline int cell_kill(moor_cell *c) {
  uint64_t word = __atomic_add_fetch(&c->word, MOOR_CELL_DEAD - 1, __ATOMIC_SEQ_CST);
  return (word & ~MOOR_CELL_OPEN) == MOOR_CELL_DEAD;
}

static inline int cell_evict(moor_cell *c) {
  uint64_t alone = 1;
  return __atomic_compare_exchange_n(&c->word, &alone, MOOR_CELL_DEAD, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

static inline int cell_take(moor_cell *c, moor_process *p) {
  uint64_t alone = 1;
  if (__atomic_load_n(&c->word, __ATOMIC_SEQ_CST) != 1) return 0;
  if (is_held(p, __atomic_load_n(&c->pair, __ATOMIC_SEQ_CST))) return 0;
  uint32_t e = __atomic_load_n(&p->epoch, __ATOMIC_SEQ_CST);
  if (!__atomic_compare_exchange_n(&c->word, &alone, MOOR_CELL_DEAD | 1, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
    return 0;
  }
  uint64_t pair = __atomic_load_n(&c->pair, __ATOMIC_SEQ_CST);
  __atomic_store_n(&c->pair, pack(e, last_of(pair)), __ATOMIC_SEQ_CST);
  return 1;
}

static inline int cell_commit(moor_cell *c) {
  uint64_t word = __atomic_load_n(&c->word, __ATOMIC_SEQ_CST);
  while ((word & MOOR_CELL_OPEN) != 0) {
    uint64_t alive = (word & ~(MOOR_CELL_DEAD | MOOR_CELL_OPEN)) + 1;
    if (__atomic_compare_exchange_n(&c->word, &word, alive, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) return 1;
  }
  return 0;
}

/* Of a cell whose last count is gone. */
static inline void list_push(moor_control *list, moor_cell *c, uint32_t unit, const moor_process *p) {
  int wake = __atomic_load_n(&p->wake, __ATOMIC_SEQ_CST);
  uint64_t head = __atomic_load_n(&list->head, __ATOMIC_SEQ_CST);
  do {
    __atomic_store_n(&c->next, (uint32_t)head, __ATOMIC_SEQ_CST);
  } while (!__atomic_compare_exchange_n(&list->head, &head, (head & MOOR_LIST_CLOSED) | unit, 0, __ATOMIC_SEQ_CST,
                                        __ATOMIC_SEQ_CST));
  if ((head & MOOR_LIST_CLOSED) != 0) moor_wake(wake);
}

/* The unit of the first cell of the list, which is empty then. */
static inline uint32_t list_take(moor_control *list) {
  return (uint32_t)__atomic_fetch_and(&list->head, MOOR_LIST_CLOSED, __ATOMIC_SEQ_CST);
}

#endif
