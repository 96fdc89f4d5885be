/* SPDX-License-Identifier: Apache-2.0
 *
 * Runs a trace of protocol operations through the library's C (release, push, fork handlers) and prints the state after
 * each step. A Go program that runs the same trace through core/arena/cell must print the same, byte for byte.
 *
 * The trace, from standard input: one operation a line, words separated by spaces, "#" starts a comment line, empty
 * lines are skipped. N is a cell, 1 to 8; S a child slot.
 *
 *   begin N      a new object: alive, counted by its name            open N    a reservation, counted by its producer
 *   get N        one more view, found by name                        release N one view less; pushed if it was the last
 *   kill N       the name goes (remove, replace); pushed if last     evict N   the same, only if nobody views it
 *   take N       the name's count becomes a view, if alone           commit N  a reservation gets a name
 *   prepare      what happens before a fork                          parent    what happens after it, in the parent
 *   ended S      the child of slot S is known to have ended
 *   drain        takes the list back; what a child holds is kept     look      looks at the kept cells again
 *   close        the list is marked closed
 *
 * The answer to each operation is one line:
 *
 *   get 1 -> ok; E=2 kids=1 high=1 child=1,0; 1{alive,2 0,1} 3{dead,0 0,1}; list=open 3; held=-
 *
 * "ok", or "no" when evict, take or commit refused, or "push" when the operation put the cell on the list; child: the slots
 * below high; cells that are not home, by number, with state (alive, dead, open), count, first and last epoch; the list from its
 * newest; the kept cells in the order in which they came. "-" stands for nothing. drain and look answer "home" and the cells
 * that went home, in order ("home -").
 */
#include "../../../capi/fork.c"
#include "../../../capi/last_error.c"
#include "../../../capi/notice.c"
#include "../../../capi/release.c"

#include "../protocol.h"

#include <stdio.h>

#define CELLS 8

static moor_cell cells[CELLS + 1];
static int used[CELLS + 1];
static moor_control list;
static uint32_t held[CELLS], held_count;

static void print_cells(void) {
  int any = 0;
  for (int i = 1; i <= CELLS; i++) {
    const moor_cell *c = &cells[i];
    if (!used[i]) continue;
    const char *state = (c->word & MOOR_CELL_OPEN) != 0 ? "open" : (c->word & MOOR_CELL_DEAD) != 0 ? "dead" : "alive";
    printf("%s%d{%s,%llu %u,%u}", any++ ? " " : "", i, state,
           (unsigned long long)(c->word & ~(MOOR_CELL_DEAD | MOOR_CELL_OPEN)), first_of(c->pair), last_of(c->pair));
  }
  printf("%s; ", any ? "" : "-");
}

static void print_state(void) {
  const moor_process *p = moor_process_words();
  printf("; E=%u kids=%u high=%u child=", p->epoch, p->kids, p->high);
  for (uint32_t i = 0; i < p->high; i++) printf("%s%llu", i ? "," : "", (unsigned long long)p->child[i]);
  printf("%s; ", p->high ? "" : "-");
  print_cells();
  printf("list=%s", (list.head & MOOR_LIST_CLOSED) != 0 ? "closed" : "open");
  if ((uint32_t)list.head == 0) printf(" -");
  for (uint32_t u = (uint32_t)list.head; u != 0; u = cells[u].next) printf(" %u", u);
  printf("; held=");
  for (uint32_t i = 0; i < held_count; i++) printf("%s%u", i ? "," : "", held[i]);
  printf("%s\n", held_count ? "" : "-");
}

static int go_home_or_keep(uint32_t unit) {
  if (is_held(moor_process_words(), cells[unit].pair)) {
    held[held_count++] = unit;
    return 0;
  }
  printf(" %u", unit);
  used[unit] = 0;
  return 1;
}

static void drain(void) {
  int any = 0;
  printf("home");
  for (uint32_t u = list_take(&list), next; u != 0; u = next) {
    next = cells[u].next;
    any += go_home_or_keep(u);
  }
  if (!any) printf(" -");
}

static void look_again(void) {
  uint32_t n = held_count;
  int any = 0;
  held_count = 0;
  printf("home");
  for (uint32_t i = 0; i < n; i++) any += go_home_or_keep(held[i]);
  if (!any) printf(" -");
}

static const char *push_if(int dead, uint32_t n) {
  if (!dead) return "ok";
  list_push(&list, &cells[n], n, moor_process_words());
  return "push";
}

/* The release of the library says nothing about whether it pushed; the list does. */
static const char *release_one(uint32_t n) {
  moor_hold hold = {.cell = (uintptr_t)&cells[n], .control = (uintptr_t)&list, .unit = n};
  uint64_t head = list.head;
  moor_hold_release(&hold);
  return list.head != head ? "push" : "ok";
}

static const char *run(const char *op, uint32_t n) {
  moor_process *p = moor_process_words();
  moor_cell *c = &cells[n <= CELLS ? n : 0];
  if (strcmp(op, "begin") == 0 || strcmp(op, "open") == 0) {
    cell_begin(c, p, op[0] == 'o');
    used[n] = 1;
    return "ok";
  }
  if (strcmp(op, "get") == 0) return cell_get(c, p), "ok";
  if (strcmp(op, "release") == 0) return release_one(n);
  if (strcmp(op, "kill") == 0) return push_if(cell_kill(c), n);
  if (strcmp(op, "evict") == 0) return cell_evict(c) ? push_if(1, n) : "no";
  if (strcmp(op, "take") == 0) return cell_take(c, p) ? "ok" : "no";
  if (strcmp(op, "commit") == 0) return cell_commit(c) ? "ok" : "no";
  if (strcmp(op, "prepare") == 0) return prepare(), "ok";
  if (strcmp(op, "parent") == 0) return parent(), "ok";
  if (strcmp(op, "ended") == 0) return child_ended(p, n), "ok";
  if (strcmp(op, "drain") == 0) return drain(), "";
  if (strcmp(op, "look") == 0) return look_again(), "";
  if (strcmp(op, "close") == 0) {
    __atomic_fetch_or(&list.head, MOOR_LIST_CLOSED, __ATOMIC_ACQ_REL);
    return "ok";
  }
  return NULL;
}

int main(void) {
  char text[256], op[32];
  int fd = (int)syscall(SYS_memfd_create, "trace", MFD_CLOEXEC);
  moor_region like = {.fd = fd, .writer = 4096, .reader = 8192, .len = 4096};
  if (moor_fork_init() != MOOR_OK || moor_region_add(&like) == NULL) return 2;
  while (fgets(text, sizeof text, stdin) != NULL) {
    unsigned n = 0;
    int words = sscanf(text, "%31s %u", op, &n);
    if (words < 1 || op[0] == '#') continue;
    int needs_cell = strcmp(op, "prepare") != 0 && strcmp(op, "parent") != 0 && strcmp(op, "ended") != 0 &&
                     strcmp(op, "drain") != 0 && strcmp(op, "look") != 0 && strcmp(op, "close") != 0;
    if (needs_cell && (n < 1 || n > CELLS)) {
      fprintf(stderr, "trace_c: no cell %u: %s", n, text);
      return 2;
    }
    if (words == 2) {
      printf("%s %u -> ", op, n);
    } else {
      printf("%s -> ", op);
    }
    const char *answer = run(op, n);
    if (answer == NULL) {
      fprintf(stderr, "trace_c: unknown operation: %s", text);
      return 2;
    }
    printf("%s", answer);
    print_state();
    moor_child child;
    while (strcmp(op, "parent") == 0 && moor_child_next(&child)) {
      close(child.pipe);
      close(child.token);
    }
  }
  return 0;
}
