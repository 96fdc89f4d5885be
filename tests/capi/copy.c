/* SPDX-License-Identifier: Apache-2.0
 *
 * The copy pool: every length round the pieces, several copies at once, closing, threads.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "expect.h"
#include "layout.h"

#define MB (1u << 20)

static unsigned char *numbered(size_t size) {
  unsigned char *p = malloc(size);
  uint32_t x = 1;
  for (size_t i = 0; i < size; i++) p[i] = (unsigned char)((x = x * 1664525u + 1013904223u) >> 24);
  return p;
}

static uint64_t address(const void *p) { return (uintptr_t)p; }

static int pool_threads(void) {
  int n = 0;
  DIR *tasks = opendir("/proc/self/task");
  for (struct dirent *d; (d = readdir(tasks)) != NULL;) {
    char path[300], name[32] = "";
    snprintf(path, sizeof path, "/proc/self/task/%s/comm", d->d_name);
    int fd = open(path, O_RDONLY);
    if (fd < 0) continue;
    if (read(fd, name, sizeof name - 1) > 0) n += strcmp(name, "moorage-copy\n") == 0;
    close(fd);
  }
  closedir(tasks);
  return n;
}

static void lengths(void) {
  static const int64_t near[] = {-1, 0, 1, 63};
  unsigned char *from = numbered(14 * MB), *to = malloc(14 * MB);
  for (uint64_t pieces = 3; pieces <= 26; pieces++) {
    for (int i = 0; i < 4; i++) {
      uint64_t size = (uint64_t)((int64_t)(pieces * 512 * 1024) + near[i]);
      size_t apart = (size_t)(i * 5); /* from 12 MiB on, the stores are aligned ones */
      memset(to, 0, size + 64);
      EXPECT(moor_copy(address(to + apart), address(from + i), size, NULL) == 0);
      EXPECT(memcmp(to + apart, from + i, size) == 0 && to[apart + size] == 0 && (apart == 0 || to[apart - 1] == 0));
    }
  }
  EXPECT(moor_copy(address(to), address(from), 0, NULL) == 0);
  free(from);
  free(to);
}

/* One copy of 1 MiB is its caller's, the next ones are shared. */
static void rows(void) {
  enum { COPIES = 8, ROUNDS = 50 };
  unsigned char *from = numbered(2 * MB), *to = malloc(COPIES * 2 * MB);
  for (int round = 0; round < ROUNDS; round++) {
    uint64_t size = MB + (uint64_t)round * 20011;
    memset(to, 0, COPIES * 2 * MB);
    for (uint64_t i = 0; i < COPIES; i++) EXPECT(moor_copy(address(to + i * 2 * MB), address(from), size, NULL) == 0);
    for (uint64_t i = 0; i < COPIES; i++) EXPECT(memcmp(to + i * 2 * MB, from, size) == 0 && to[i * 2 * MB + size] == 0);
  }
  free(from);
  free(to);
}

static void *copy_often(void *given) {
  unsigned char *from = given, *to = malloc(5 * MB);
  for (int i = 0; i < 40; i++) {
    uint64_t size = 2 * MB + (uint64_t)i * 70001;
    memset(to, i, size);
    EXPECT(moor_copy(address(to), address(from), size, NULL) == 0);
    EXPECT(memcmp(to, from, size) == 0);
  }
  free(to);
  return NULL;
}

static void several_at_once(void) {
  pthread_t threads[5];
  unsigned char *from = numbered(5 * MB);
  for (int i = 0; i < 5; i++) pthread_create(&threads[i], NULL, copy_often, from);
  for (int i = 0; i < 5; i++) pthread_join(threads[i], NULL);
  free(from);
}

static void closing_stops(void) {
  uint32_t closing = 1;
  unsigned char *from = numbered(8 * MB), *to = calloc(1, 8 * MB);
  EXPECT(moor_copy(address(to), address(from), 8 * MB, &closing) == 1);
  closing = 0;
  EXPECT(moor_copy(address(to), address(from), 8 * MB, &closing) == 0);
  EXPECT(memcmp(to, from, 8 * MB) == 0);
  free(from);
  free(to);
}

static void forked_child_copies_alone(void) {
  unsigned char *from = numbered(4 * MB), *to = calloc(1, 4 * MB);
  pid_t pid = fork();
  if (pid == 0) {
    int good = moor_copy(address(to), address(from), 4 * MB, NULL) == 0 && memcmp(to, from, 4 * MB) == 0;
    _exit(good ? 0 : 1);
  }
  int status;
  EXPECT(waitpid(pid, &status, 0) == pid && status == 0);
  free(from);
  free(to);
}

int main(void) {
  unsigned char *p = numbered(4 * MB), *q = malloc(4 * MB);
  moor_copy(address(q), address(p), 2 * MB - 1, NULL);
  EXPECT(pool_threads() == 0);
  rows();
  lengths();
  usleep(50000); /* a thread gives itself its name */
  int threads = pool_threads();
  printf("%d copy threads beside the caller\n", threads);
  EXPECT(threads <= 3);
  several_at_once();
  closing_stops();
  forked_child_copies_alone();
  EXPECT(pool_threads() == threads);
  free(p);
  free(q);
  return 0;
}
