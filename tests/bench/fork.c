/* SPDX-License-Identifier: Apache-2.0
 *
 * What a full store adds to a fork. Two programs fork in turns, one with many objects, and one that has done as many
 * puts but all to the same few keys; what counts is the difference of the medians. The child ends at once, and the
 * parent's time is taken.
 *
 *   fork [OBJECTS]         default ten million, of 64 bytes, with keys of 40 bytes
 *   fork serve PUTS KEYS   one of the two: a fork for each byte from standard input, its time to standard output
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"

enum { ROUNDS = 101, BATCH = 512, KEY = 40, BYTES = 64 };

static void fill(moor_store store, long puts, long different) {
  static char keys[BATCH * KEY + 1];
  static uint64_t ends[BATCH], part_ends[BATCH];
  static moor_part parts[BATCH];
  static int32_t statuses[BATCH];
  static const char bytes[BYTES];
  for (int i = 0; i < BATCH; i++) {
    ends[i] = (uint64_t)(i + 1) * KEY;
    part_ends[i] = (uint64_t)i + 1;
    parts[i] = (moor_part){bytes, BYTES};
  }
  for (long done = 0; done < puts; done += BATCH) {
    long n = puts - done < BATCH ? puts - done : BATCH;
    for (long i = 0; i < n; i++)
      snprintf(keys + i * KEY, KEY + 1, "model/layers/attention/tensor/%010u", (uint32_t)((done + i) % different));
    moor_keys packed = {keys, ends, (uint64_t)n};
    check(moor_put_batch(store, &packed, parts, part_ends, NULL, NULL, statuses), "moor_put_batch");
    for (long i = 0; i < n; i++) check(statuses[i], "moor_put_batch");
  }
}

static double time_fork(void) {
  double begin = now_ns();
  pid_t child = fork();
  if (child == 0) _exit(0);
  double took = now_ns() - begin;
  if (child < 0) {
    perror("fork");
    exit(1);
  }
  waitpid(child, NULL, 0);
  return took;
}

static int serve(long puts, long different) {
  moor_store store;
  moor_store_options options = {.struct_size = sizeof options, .capacity = (uint64_t)different * BYTES + (64 << 20)};
  check(moor_store_open(&options, &store), "moor_store_open");
  fill(store, puts, different);
  char go;
  while (read(STDIN_FILENO, &go, 1) == 1) {
    double took = time_fork();
    if (write(STDOUT_FILENO, &took, sizeof took) != sizeof took) return 1;
  }
  return 0;
}

typedef struct side {
  int to, from;
  double times[ROUNDS];
} side;

static void start(side *s, const char *puts, const char *different) {
  int in[2], out[2];
  if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0) {
    perror("pipe2");
    exit(1);
  }
  if (fork() == 0) {
    dup2(in[0], STDIN_FILENO);
    dup2(out[1], STDOUT_FILENO);
    execl("/proc/self/exe", "fork", "serve", puts, different, (char *)NULL);
    _exit(1);
  }
  close(in[0]);
  close(out[1]);
  s->to = in[1];
  s->from = out[0];
}

static double ask(side *s) {
  double took;
  if (write(s->to, "", 1) != 1 || read(s->from, &took, sizeof took) != sizeof took) {
    fprintf(stderr, "fork: the program with the store has ended\n");
    exit(1);
  }
  return took;
}

int main(int argc, char **argv) {
  if (argc == 4) return serve(atol(argv[2]), atol(argv[3]));
  const char *objects = argc > 1 ? argv[1] : "10000000";
  signal(SIGPIPE, SIG_IGN);
  static side empty, full;
  start(&empty, objects, "512");
  start(&full, objects, objects);
  ask(&empty);
  ask(&full); /* waits until the puts are done */
  for (int i = 0; i < ROUNDS; i++) {
    empty.times[i] = ask(&empty);
    full.times[i] = ask(&full);
  }
  double without = median(empty.times, ROUNDS) / 1e6, with = median(full.times, ROUNDS) / 1e6;
  printf("BenchmarkC/fork %d %.3f ms-without %.3f ms-with %.3f ms-more %s objects\n", ROUNDS, without, with,
         with - without, objects);
  return 0;
}
