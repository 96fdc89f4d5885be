/* SPDX-License-Identifier: Apache-2.0
 *
 * A view from C, taken and released, beside the least that a call from C to Go costs. Both alternate in short rounds;
 * what counts is the median of the rounds' ratios.
 */
#include <string.h>

#include "clock.h"

void crossing(void); /* tests/bench/crossing */

enum { ROUNDS = 301, CALLS = 2000, KEYS = 64 };

static moor_store store;
static char keys[KEYS][41];

static void get_buffer(int i) {
  moor_buffer buffer;
  check(moor_get_buffer(store, keys[i % KEYS], 40, MOOR_MODE_VIEW, &buffer), "moor_get_buffer");
  buffer.release(&buffer);
}

static void get_tensor(int i) {
  DLManagedTensorVersioned *tensor;
  check(moor_get_tensor(store, keys[i % KEYS], 40, MOOR_MODE_VIEW, &tensor), "moor_get_tensor");
  tensor->deleter(tensor);
}

static void cross(int i) {
  (void)i;
  crossing();
}

/* Nanoseconds a call. The calls go through a pointer on both sides. */
static double round_of(void (*call)(int)) {
  double begin = now_ns();
  for (int i = 0; i < CALLS; i++) call(i);
  return (now_ns() - begin) / CALLS;
}

static void compare(const char *name, void (*call)(int)) {
  static double times[ROUNDS], floors[ROUNDS], ratios[ROUNDS];
  round_of(call);
  for (int i = 0; i < ROUNDS; i++) {
    times[i] = round_of(call);
    floors[i] = round_of(cross);
    ratios[i] = times[i] / floors[i];
  }
  printf("BenchmarkC/%s %d %.1f ns/op %.1f ns/crossing %.3f x-crossing\n", name, ROUNDS * CALLS, median(times, ROUNDS),
         median(floors, ROUNDS), median(ratios, ROUNDS));
  fflush(stdout);
}

int main(void) {
  moor_store_options options = {.struct_size = sizeof options, .capacity = 16 << 20};
  check(moor_store_open(&options, &store), "moor_store_open");
  static float numbers[1024];
  int64_t shape[2] = {32, 32};
  DLTensor tensor = {
      .data = numbers, .device = {kDLCPU, 0}, .ndim = 2, .dtype = {kDLFloat, 32, 1}, .shape = shape, .strides = NULL};
  for (int i = 0; i < KEYS; i++) {
    snprintf(keys[i], sizeof keys[i], "model/layers/attention/tensor/%010d", i);
    check(moor_put_tensor(store, keys[i], 40, &tensor, NULL, NULL), "moor_put_tensor");
  }
  compare("get_buffer", get_buffer);
  compare("get_tensor", get_tensor);
  check(moor_store_close(store, MOOR_CLOSE_WAIT), "moor_store_close");
  return 0;
}
