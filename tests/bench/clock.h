/* SPDX-License-Identifier: Apache-2.0
 *
 * What the C benchmarks share: the clock, medians, and the line that `go test -bench` prints.
 */
#ifndef MOORAGE_TESTS_BENCH_CLOCK_H_
#define MOORAGE_TESTS_BENCH_CLOCK_H_

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "moorage.h"

static inline double now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static inline int by_size(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/* The q-th part of n figures, which are put in order. */
static inline double quantile(double *figures, size_t n, double q) {
  qsort(figures, n, sizeof *figures, by_size);
  return figures[(size_t)(q * (double)(n - 1))];
}

static inline double median(double *figures, size_t n) { return quantile(figures, n, 0.5); }

/* Ends the program when a call of the library failed. */
static inline void check(int32_t status, const char *what) {
  if (status == MOOR_OK) return;
  fprintf(stderr, "%s: %s\n", what, moor_last_error());
  exit(1);
}

#endif
