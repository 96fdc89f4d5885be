/* SPDX-License-Identifier: Apache-2.0
 *
 * A small store in C that stands in for the Go exports, so that the C of the library can be run alone: under the
 * sanitizers, and over forks. One store, id 1, a fixed number of extents in one memfd, names "0" to "31".
 */
#ifndef MOOR_TEST_STANDIN_H_
#define MOOR_TEST_STANDIN_H_

#include <stdint.h>

#include "layout.h"

#define STANDIN_SLOTS 64
#define STANDIN_SLOT_SIZE (256u << 10)
#define STANDIN_NAMES 32

typedef struct standin_state {
  uint64_t home;   /* cells that are free */
  uint64_t held;   /* kept for children */
  uint64_t windows, copied_out, window_copies;
  uint64_t views;  /* tensors and buffers that hold a cell, and objects of snapshots */
  uint64_t children; /* followed now */
} standin_state;

void standin_state_get(standin_state *state_out);
/* Waits until no child is followed any more, and drains. 0: not within ten seconds. */
int standin_await_children(void);
void standin_drain(void);
/* The address of the memory as the store writes it. */
char *standin_writer(void);
char *standin_reader(void);
char *standin_park(void); /* writable, too; a child has none */

#endif
