/* SPDX-License-Identifier: Apache-2.0
 *
 * Every byte that is copied is counted, and none is that need not be: a view, a window, an adoption and a take move
 * nothing, fault no page and register nothing. Against the library.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "expect.h"

enum { SMALL = 1000, LARGE = 3 << 20 };

static moor_store store;
static unsigned char bytes[LARGE], room[LARGE];

static moor_stats stats(void) {
  moor_stats s = {.struct_size = sizeof s};
  EXPECT_OK(moor_get_stats(store, &s));
  return s;
}

/* What the calls between two of these copied. */
static uint64_t in_before, out_before;
static void mark(void) {
  moor_stats s = stats();
  in_before = s.bytes_copied_in;
  out_before = s.bytes_copied_out;
}
static void copied(uint64_t in, uint64_t out) {
  moor_stats s = stats();
  EXPECT(s.bytes_copied_in - in_before == in);
  EXPECT(s.bytes_copied_out - out_before == out);
}

static void copies_in(void) {
  int64_t shape[2] = {30, 40}, strides[2] = {1, 30};
  DLTensor turned = {.data = bytes, .device = {kDLCPU, 0}, .ndim = 2, .dtype = {kDLFloat, 32, 1}, .shape = shape, .strides = strides};
  moor_part parts[2] = {{bytes, 300}, {bytes, 7}};
  moor_put_options keep = {.struct_size = sizeof keep, .if_exists = MOOR_IF_EXISTS_KEEP};
  mark();
  EXPECT_OK(moor_put(store, "small", 5, bytes, SMALL, NULL, NULL));
  EXPECT_OK(moor_put(store, "large", 5, bytes, LARGE, NULL, NULL));
  EXPECT_OK(moor_put_parts(store, "parts", 5, parts, 2, NULL, NULL));
  EXPECT_OK(moor_put_tensor(store, "turned", 6, &turned, NULL, NULL));
  EXPECT_OK(moor_put(store, "large", 5, bytes, LARGE, &keep, NULL));
  copied(SMALL + LARGE + 307 + 4800, 0);
}

static void get(const char *key, uint32_t mode, uint64_t out) {
  DLManagedTensorVersioned *t;
  moor_buffer b;
  mark();
  EXPECT_OK(moor_get_tensor(store, key, 5, mode, &t));
  EXPECT_OK(moor_get_buffer(store, key, 5, mode, &b));
  EXPECT(memcmp(t->dl_tensor.data, bytes, b.size) == 0 && memcmp(b.data, bytes, b.size) == 0);
  EXPECT((b.flags & MOOR_BUFFER_COPIED) == (out ? MOOR_BUFFER_COPIED : 0));
  EXPECT(!(t->flags & DLPACK_FLAG_BITMASK_IS_COPIED) == !out);
  copied(0, 2 * out);
  t->deleter(t);
  b.release(&b);
}

static void copies_out(void) {
  uint64_t n;
  moor_span spans[2] = {{room, 10}, {room + 100, 500}};
  get("small", MOOR_MODE_VIEW, 0);
  get("large", MOOR_MODE_VIEW, 0);
  get("small", MOOR_MODE_COW, SMALL); /* too small for a window */
  get("large", MOOR_MODE_COW, 0);
  get("small", MOOR_MODE_COPY, SMALL);
  get("large", MOOR_MODE_COPY, LARGE);
  mark();
  EXPECT_OK(moor_get(store, "large", 5, room, LARGE, &n));
  EXPECT_OK(moor_get_into(store, "small", 5, 3, 400, spans, 2, &n));
  EXPECT_STATUS(moor_get(store, "large", 5, room, 1, &n), MOOR_ERR_TOO_SMALL);
  EXPECT_STATUS(moor_get_into(store, "small", 5, 0, MOOR_ALL, spans, 2, &n), MOOR_ERR_TOO_SMALL);
  copied(0, LARGE + 400);
}

/* A snapshot copies nothing, and what it hands out copies as much as a get does. */
static void snapshots(void) {
  moor_snapshot s;
  DLManagedTensorVersioned *t;
  moor_buffer direct, b;
  uint64_t ends[2] = {5, 10}, small_ends[2] = {2, 4}, part_ends[2] = {1, 2};
  moor_keys keys = {"smalllarge", ends, 2}, set = {"a_b_", small_ends, 2};
  moor_part parts[2] = {{bytes, 300}, {bytes, 7}};
  moor_put_options atomic = {.struct_size = sizeof atomic, .flags = MOOR_PUT_ATOMIC};
  int32_t statuses[2];
  uint64_t before = stats().gets;
  mark();
  EXPECT_OK(moor_snapshot_open(store, &keys, NULL, 0, &s));
  EXPECT(stats().gets == before + 2 && stats().borrowed_objects == 2 && stats().borrowed_bytes == SMALL + LARGE);
  EXPECT_OK(moor_get_buffer(store, "large", 5, MOOR_MODE_VIEW, &direct));
  for (uint64_t i = 0; i < 2; i++) {
    EXPECT_OK(moor_snapshot_get_buffer(s, i, MOOR_MODE_VIEW, &b));
    EXPECT(i == 0 || b.data == direct.data);
    b.release(&b);
  }
  EXPECT_OK(moor_snapshot_get_tensor(s, 1, MOOR_MODE_COW, &t));
  EXPECT(stats().windows == 1);
  t->deleter(t);
  copied(0, 0);
  EXPECT_OK(moor_snapshot_get_tensor(s, 0, MOOR_MODE_COW, &t));
  copied(0, SMALL);
  t->deleter(t);
  EXPECT_OK(moor_snapshot_get_tensor(s, 1, MOOR_MODE_COPY, &t));
  copied(0, SMALL + LARGE);
  t->deleter(t);
  direct.release(&direct);
  EXPECT_OK(moor_snapshot_close(s));
  EXPECT(stats().borrowed_objects == 0 && stats().windows == 0);
  mark();
  EXPECT_OK(moor_put_batch(store, &set, parts, part_ends, &atomic, NULL, statuses));
  copied(307, 0);
}

static void handed_over(void) {
  int64_t shape = LARGE;
  DLTensor like = {.ndim = 1, .shape = &shape, .dtype = {kDLUInt, 8, 1}};
  DLManagedTensorVersioned *made, *taken;
  moor_put_result r;
  mark();
  EXPECT_OK(moor_empty_tensor(store, &like, &made));
  void *at = made->dl_tensor.data;
  memset(at, 7, LARGE);
  EXPECT_OK(moor_adopt_tensor(store, "adopted", 7, &made->dl_tensor, NULL, &r));
  EXPECT(r.outcome == MOOR_ADOPTED);
  made->deleter(made);
  EXPECT_OK(moor_take_tensor(store, "adopted", 7, &taken));
  EXPECT(taken->dl_tensor.data == at);
  memset(at, 8, LARGE);
  taken->deleter(taken);
  copied(0, 0);
  EXPECT(stats().adoptions == 1 && stats().adopt_copies == 0);
}

/* The mapping that has the address, as the kernel shows it. */
static void mapping(const void *address, char *line, size_t size) {
  FILE *maps = fopen("/proc/self/maps", "r");
  EXPECT(maps != NULL);
  unsigned long from, to;
  do {
    EXPECT(fgets(line, (int)size, maps) != NULL);
    EXPECT(sscanf(line, "%lx-%lx", &from, &to) == 2);
  } while ((uintptr_t)address < from || (uintptr_t)address >= to);
  fclose(maps);
}

static void views_are_the_stores_own(void) {
  char line[1024];
  moor_buffer a, b;
  EXPECT_OK(moor_get_buffer(store, "large", 5, MOOR_MODE_VIEW, &a));
  EXPECT_OK(moor_get_buffer(store, "large", 5, MOOR_MODE_VIEW, &b));
  EXPECT(a.data == b.data && (a.flags & MOOR_BUFFER_READ_ONLY) != 0);
  mapping(a.data, line, sizeof line);
  EXPECT(strstr(line, " r--s ") != NULL && strstr(line, "memfd:moorage") != NULL);
  a.release(&a);
  b.release(&b);
  EXPECT_OK(moor_get_buffer(store, "large", 5, MOOR_MODE_COW, &b));
  EXPECT((b.flags & MOOR_BUFFER_READ_ONLY) == 0);
  mapping(b.data, line, sizeof line);
  EXPECT(strstr(line, " rw-p ") != NULL && strstr(line, "memfd:moorage") != NULL);
  void *at = b.data;
  b.release(&b);
  EXPECT(stats().windows == 0);
  FILE *maps = fopen("/proc/self/maps", "r");
  unsigned long from, to;
  while (fgets(line, sizeof line, maps) != NULL) {
    EXPECT(sscanf(line, "%lx-%lx", &from, &to) == 2);
    EXPECT(strstr(line, "memfd:moorage") == NULL || (uintptr_t)at < from || (uintptr_t)at >= to);
  }
  fclose(maps);
}

/* AddressSanitizer does not use freed memory again at once, and that faults. */
#ifdef __SANITIZE_ADDRESS__
static void views_fault_no_page(void) {}
#else
static void views_fault_no_page(void) {
  enum { CALLS = 20000 };
  struct rusage before, after;
  for (int round = 0; round < 2; round++) { /* the first one warms up */
    getrusage(RUSAGE_THREAD, &before);
    for (int i = 0; i < CALLS; i++) {
      moor_buffer b;
      EXPECT_OK(moor_get_buffer(store, "large", 5, MOOR_MODE_VIEW, &b));
      b.release(&b);
    }
    getrusage(RUSAGE_THREAD, &after);
  }
  EXPECT(after.ru_minflt - before.ru_minflt < CALLS / 100 && after.ru_majflt == before.ru_majflt);
}
#endif

/* No memory is pinned, and there is no ring or device to register it with. */
static void nothing_is_registered(void) {
  char line[1024], name[300];
  long locked = -1, pinned = -1;
  FILE *status = fopen("/proc/self/status", "r");
  while (status != NULL && fgets(line, sizeof line, status) != NULL) {
    sscanf(line, "VmLck: %ld", &locked);
    sscanf(line, "VmPin: %ld", &pinned);
  }
  if (status != NULL) fclose(status);
  EXPECT(locked == 0 && pinned == 0);
  DIR *open = opendir("/proc/self/fd");
  for (struct dirent *e; open != NULL && (e = readdir(open)) != NULL;) {
    snprintf(name, sizeof name, "/proc/self/fd/%s", e->d_name);
    ssize_t n = readlink(name, line, sizeof line - 1);
    line[n > 0 ? n : 0] = 0;
    EXPECT(strstr(line, "io_uring") == NULL && strncmp(line, "/dev/infiniband", 15) != 0);
  }
  if (open != NULL) closedir(open);
}

int main(void) {
  moor_store_options options = {.struct_size = sizeof options, .capacity = 32 << 20};
  for (size_t i = 0; i < LARGE; i++) bytes[i] = (unsigned char)(i * 31 + i / 4096);
  EXPECT_OK(moor_store_open(&options, &store));
  copies_in();
  copies_out();
  snapshots();
  handed_over();
  views_are_the_stores_own();
  views_fault_no_page();
  nothing_is_registered();
  EXPECT_OK(moor_store_close(store, MOOR_CLOSE_WAIT));
  printf("ok copies are counted, views move nothing\n");
  return 0;
}
