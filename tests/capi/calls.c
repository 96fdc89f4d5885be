/* SPDX-License-Identifier: Apache-2.0
 *
 * Every function of the header once, the way a C program uses it, against the library.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "expect.h"

#define KEY(text) text, sizeof text - 1

static moor_store store;

static DLTensor floats(void *data, int64_t *shape, int32_t ndim) {
  return (DLTensor){.data = data, .device = {kDLCPU, 0}, .ndim = ndim, .dtype = {kDLFloat, 32, 1}, .shape = shape};
}

static void versions(void) {
  EXPECT(strlen(moor_version()) >= 5);
  EXPECT(moor_abi_level() >= MOOR_ABI_LEVEL);
  EXPECT(strcmp(moor_status_name(MOOR_ERR_CAPACITY), "MOOR_ERR_CAPACITY") == 0);
  EXPECT(strcmp(moor_status_name(-4711), "MOOR_ERR_UNKNOWN") == 0);
  EXPECT(strcmp(moor_status_name(MOOR_OK), "MOOR_OK") == 0);
  EXPECT(moor_last_error() != NULL);
}

static void bytes_in_and_out(void) {
  moor_put_result result;
  moor_put_options options = {.struct_size = sizeof options, .meta = "m", .meta_size = 1};
  char out[16] = "";
  uint64_t size = 0;
  EXPECT_OK(moor_put(store, KEY("bytes"), "hello", 5, &options, &result));
  EXPECT(result.outcome == MOOR_STORED && result.seq > 0);
  uint64_t seq = result.seq;
  options.if_exists = MOOR_IF_EXISTS_KEEP;
  EXPECT_OK(moor_put(store, KEY("bytes"), "other", 5, &options, &result));
  EXPECT(result.outcome == MOOR_KEPT && result.seq == seq);
  options.if_exists = MOOR_IF_EXISTS_RAISE;
  EXPECT_STATUS(moor_put(store, KEY("bytes"), "other", 5, &options, &result), MOOR_ERR_EXISTS);

  EXPECT_STATUS(moor_get(store, KEY("bytes"), out, 4, &size), MOOR_ERR_TOO_SMALL);
  EXPECT(size == 5 && out[0] == 0);
  EXPECT_OK(moor_get(store, KEY("bytes"), out, sizeof out, &size));
  EXPECT(size == 5 && memcmp(out, "hello", 5) == 0);

  moor_part parts[3] = {{"con", 3}, {NULL, 0}, {"cat", 3}};
  EXPECT_OK(moor_put_parts(store, KEY("parts"), parts, 3, NULL, NULL));
  moor_span spans[2] = {{out, 2}, {out + 8, 8}};
  uint64_t copied = 0;
  memset(out, '.', sizeof out);
  EXPECT_OK(moor_get_into(store, KEY("parts"), 1, MOOR_ALL, spans, 2, &copied));
  EXPECT(copied == 5 && memcmp(out, "on......cat.", 12) == 0);

  moor_buffer b;
  EXPECT_OK(moor_get_buffer(store, KEY("bytes"), MOOR_MODE_VIEW, &b));
  EXPECT(b.version == 1 && b.flags == MOOR_BUFFER_READ_ONLY && b.size == 5 && b.seq == seq);
  EXPECT(b.meta_size == 1 && memcmp(b.meta, "m", 1) == 0 && memcmp(b.data, "hello", 5) == 0 && b.dtype.bits == 0);
  moor_buffer moved = b;
  b.release = NULL;
  moved.release(&moved);
  EXPECT(moved.release == NULL);
}

static void tensors(void) {
  float numbers[6] = {0, 1, 2, 3, 4, 5};
  int64_t shape[2] = {2, 3}, transposed[2] = {3, 2}, strides[2] = {1, 3};
  DLTensor t = floats(numbers, shape, 2);
  EXPECT_OK(moor_put_tensor(store, KEY("t"), &t, NULL, NULL));
  DLTensor u = floats(numbers, transposed, 2);
  u.strides = strides;
  EXPECT_OK(moor_put_tensor(store, KEY("u"), &u, NULL, NULL));

  DLManagedTensorVersioned *v, *w;
  EXPECT_OK(moor_get_tensor(store, KEY("t"), MOOR_MODE_VIEW, &v));
  EXPECT(v->version.major == 1 && v->flags == DLPACK_FLAG_BITMASK_READ_ONLY);
  EXPECT(v->dl_tensor.ndim == 2 && v->dl_tensor.strides[0] == 3 && v->dl_tensor.strides[1] == 1);
  EXPECT((uintptr_t)v->dl_tensor.data % 64 == 0 && memcmp(v->dl_tensor.data, numbers, sizeof numbers) == 0);
  EXPECT_OK(moor_get_tensor(store, KEY("u"), MOOR_MODE_COPY, &w));
  const float wanted[6] = {0, 3, 1, 4, 2, 5};
  EXPECT(w->flags == DLPACK_FLAG_BITMASK_IS_COPIED && memcmp(w->dl_tensor.data, wanted, sizeof wanted) == 0);
  w->deleter(w);
  v->deleter(v);

  DLManagedTensor *old;
  EXPECT_OK(moor_get_tensor_unversioned(store, KEY("bytes"), MOOR_MODE_VIEW, &old));
  EXPECT(old->dl_tensor.ndim == 1 && old->dl_tensor.shape[0] == 5 && old->dl_tensor.dtype.code == kDLUInt);
  old->deleter(old);

  DLTensor nothing = floats(NULL, (int64_t[]){0, 3}, 2), scalar = floats(numbers + 5, NULL, 0);
  EXPECT_OK(moor_put_tensor(store, KEY("nothing"), &nothing, NULL, NULL));
  EXPECT_OK(moor_put_tensor(store, KEY("scalar"), &scalar, NULL, NULL));
  for (uint32_t mode = MOOR_MODE_VIEW; mode <= MOOR_MODE_COPY; mode++) {
    EXPECT_OK(moor_get_tensor(store, KEY("nothing"), mode, &v));
    EXPECT(v->dl_tensor.data != NULL && v->dl_tensor.shape[0] == 0 && v->dl_tensor.strides[0] == 3);
    v->deleter(v);
    EXPECT_OK(moor_get_tensor(store, KEY("scalar"), mode, &v));
    EXPECT(v->dl_tensor.ndim == 0 && *(float *)v->dl_tensor.data == 5);
    v->deleter(v);
  }
}

static void windows(void) {
  uint64_t size = 300000;
  char *data = malloc(size);
  moor_stats stats = {.struct_size = sizeof stats};
  memset(data, 'w', size);
  EXPECT_OK(moor_put(store, KEY("window"), data, size, NULL, NULL));
  DLManagedTensorVersioned *w, *v;
  EXPECT_OK(moor_get_tensor(store, KEY("window"), MOOR_MODE_COW, &w));
  EXPECT(w->flags == 0 && memcmp(w->dl_tensor.data, data, size) == 0);
  memset(w->dl_tensor.data, 'x', size);
  EXPECT_OK(moor_get_tensor(store, KEY("window"), MOOR_MODE_VIEW, &v));
  EXPECT(memcmp(v->dl_tensor.data, data, size) == 0);
  EXPECT_OK(moor_get_stats(store, &stats));
  EXPECT(stats.windows == 1 && stats.window_copies == 0 && stats.bytes_copied_out < size);
  v->deleter(v);
  w->deleter(w);
  EXPECT_OK(moor_get_stats(store, &stats));
  EXPECT(stats.windows == 0);
  free(data);
}

/* Windows stop well below the limit of mappings; then they are copies, and counted. */
static void many_windows(void) {
  enum { MORE = 20 };
  unsigned long maps = 0;
  FILE *f = fopen("/proc/sys/vm/max_map_count", "re");
  EXPECT(f != NULL && fscanf(f, "%lu", &maps) == 1);
  fclose(f);
  if (maps > 200000) {
    printf("skip: many_windows (vm.max_map_count is %lu; the test makes as many windows)\n", maps);
    return;
  }
  size_t limit = maps / 8 * 3, n = limit + MORE;
  DLManagedTensorVersioned **windows = malloc(n * sizeof *windows);
  char *data = calloc(1, 64u << 10);
  moor_stats stats = {.struct_size = sizeof stats};
  EXPECT_OK(moor_put(store, KEY("window"), data, 64u << 10, NULL, NULL));
  for (size_t i = 0; i < n; i++) EXPECT_OK(moor_get_tensor(store, KEY("window"), MOOR_MODE_COW, &windows[i]));
  EXPECT_OK(moor_get_stats(store, &stats));
  EXPECT(stats.windows == limit && stats.window_copies == MORE);
  EXPECT(windows[0]->flags == 0 && windows[n - 1]->flags == DLPACK_FLAG_BITMASK_IS_COPIED);
  for (size_t i = 0; i < n; i++) windows[i]->deleter(windows[i]);
  EXPECT_OK(moor_get_stats(store, &stats));
  EXPECT(stats.windows == 0);
  free(windows);
  free(data);
}

static void in_place(void) {
  moor_reservation r;
  void *data;
  moor_put_result result;
  EXPECT_OK(moor_reserve(store, 8, &r, &data));
  memcpy(data, "reserved", 8);
  EXPECT_OK(moor_commit(r, KEY("made"), NULL, NULL, &result));
  EXPECT(result.outcome == MOOR_ADOPTED);
  EXPECT_STATUS(moor_commit(r, KEY("made"), NULL, NULL, NULL), MOOR_ERR_BAD_HANDLE);
  EXPECT_OK(moor_reserve(store, 8, &r, &data));
  EXPECT_OK(moor_abort(r));
  EXPECT_STATUS(moor_abort(r), MOOR_ERR_BAD_HANDLE);

  int64_t shape[1] = {1000};
  DLTensor like = floats(NULL, shape, 1);
  DLManagedTensorVersioned *t;
  EXPECT_OK(moor_empty_tensor(store, &like, &t));
  EXPECT((t->flags & DLPACK_FLAG_BITMASK_READ_ONLY) == 0);
  for (int i = 0; i < 1000; i++) ((float *)t->dl_tensor.data)[i] = (float)i;
  EXPECT_OK(moor_adopt_tensor(store, KEY("adopted"), &t->dl_tensor, NULL, &result));
  EXPECT(result.outcome == MOOR_ADOPTED);
  EXPECT_STATUS(moor_adopt_tensor(store, KEY("again"), &t->dl_tensor, NULL, NULL), MOOR_ERR_ALREADY_ADOPTED);
  t->deleter(t);

  EXPECT_OK(moor_take_tensor(store, KEY("adopted"), &t));
  ((float *)t->dl_tensor.data)[0] = 1;
  t->deleter(t);
}

static void names(void) {
  moor_description d = {.struct_size = sizeof d};
  EXPECT_OK(moor_pin(store, KEY("t")));
  EXPECT_OK(moor_pin(store, KEY("t")));
  EXPECT_OK(moor_describe(store, KEY("t"), &d));
  EXPECT(d.struct_size == sizeof d && d.flags == (MOOR_DESC_TENSOR | MOOR_DESC_PINNED) && d.size == 24 && d.views == 0);
  EXPECT(d.ndim == 2 && d.shape[1] == 3 && d.dtype.bits == 32 && d.extent >= 24);
  EXPECT_OK(moor_unpin(store, KEY("t")));

  char buffer[8192];
  uint64_t ends[64], cursor = 0, count, total = 0, bytes;
  while (cursor != MOOR_LIST_END) {
    EXPECT_OK(moor_list_keys(store, NULL, 0, &cursor, buffer, sizeof buffer, ends, 64, &count));
    total += count;
  }
  moor_stats stats = {.struct_size = sizeof stats};
  EXPECT_OK(moor_get_stats(store, &stats));
  EXPECT(total == stats.objects);

  DLManagedTensorVersioned *v;
  moor_borrow borrows[4];
  EXPECT_OK(moor_get_tensor(store, KEY("t"), MOOR_MODE_VIEW, &v));
  EXPECT_OK(moor_list_borrows(store, buffer, sizeof buffer, borrows, 4, &count, &bytes));
  EXPECT(count == 1 && borrows[0].views == 1 && borrows[0].size == 24 && memcmp(buffer, "t", 1) == 0);
  EXPECT_STATUS(moor_take_tensor(store, KEY("t"), &v), MOOR_ERR_BUSY);
  v->deleter(v);

  EXPECT_OK(moor_remove(store, KEY("t")));
  EXPECT_STATUS(moor_remove(store, KEY("t")), MOOR_ERR_NOT_FOUND);
  uint64_t freed = 0;
  EXPECT_OK(moor_trim(store, &freed));
}

static void batches(void) {
  uint64_t ends[3] = {2, 4, 6}, part_ends[3] = {1, 3, 3}, span_ends[3] = {1, 2, 2}, copied[3] = {0}, count;
  moor_keys keys = {"k1k2k3", ends, 3};
  moor_part parts[3] = {{"one", 3}, {"tw", 2}, {"o", 1}};
  moor_put_result results[3];
  int32_t statuses[3];
  EXPECT_OK(moor_put_batch(store, &keys, parts, part_ends, NULL, results, statuses));
  EXPECT(statuses[0] == MOOR_OK && statuses[1] == MOOR_OK && statuses[2] == MOOR_OK && results[1].seq > 0);

  DLManagedTensorVersioned *tensors_out[3];
  EXPECT_OK(moor_get_tensors(store, &keys, MOOR_MODE_VIEW, tensors_out, statuses));
  for (int i = 0; i < 3; i++) tensors_out[i]->deleter(tensors_out[i]);
  moor_buffer buffers[3];
  EXPECT_OK(moor_get_buffers(store, &keys, MOOR_MODE_VIEW, buffers, statuses));
  EXPECT(buffers[1].size == 3 && memcmp(buffers[1].data, "two", 3) == 0 && buffers[2].size == 0);
  for (int i = 0; i < 3; i++) buffers[i].release(&buffers[i]);

  char a[4], b[2];
  moor_span spans[2] = {{a, sizeof a}, {b, sizeof b}};
  EXPECT_OK(moor_get_batch_into(store, &keys, NULL, NULL, spans, span_ends, copied, statuses));
  EXPECT(statuses[0] == MOOR_OK && copied[0] == 3 && memcmp(a, "one", 3) == 0);
  EXPECT(statuses[1] == MOOR_ERR_TOO_SMALL && statuses[2] == MOOR_OK);

  int64_t shape[1] = {2};
  float numbers[2] = {1, 2};
  DLTensor t = floats(numbers, shape, 1);
  const DLTensor *const in[3] = {&t, &t, &t};
  EXPECT_OK(moor_put_tensors(store, &keys, in, NULL, NULL, statuses));
  EXPECT(statuses[2] == MOOR_OK);

  uint8_t found[3];
  EXPECT_OK(moor_remove(store, "k2", 2));
  EXPECT_OK(moor_exists(store, &keys, found));
  EXPECT(found[0] == 1 && found[1] == 0 && found[2] == 1);
  EXPECT_OK(moor_count_leading(store, &keys, &count));
  uint64_t objects = 0, views = 0;
  EXPECT_OK(moor_count_objects(store, &objects, NULL));
  EXPECT_OK(moor_count_objects(store, NULL, &views));
  EXPECT(objects > 0);
  EXPECT(views == 0);
  EXPECT(count == 1);
  EXPECT_OK(moor_remove_batch(store, &keys, statuses));
  EXPECT(statuses[0] == MOOR_OK && statuses[1] == MOOR_ERR_NOT_FOUND && statuses[2] == MOOR_OK);

  /* More keys than have room on the stack. */
  enum { MANY = 500 };
  static uint64_t many_ends[MANY];
  static char many_bytes[MANY * 4];
  static DLManagedTensorVersioned *many[MANY];
  static int32_t many_statuses[MANY];
  for (int i = 0; i < MANY; i++) {
    memcpy(&many_bytes[4 * i], &i, 4);
    many_ends[i] = 4 * (uint64_t)(i + 1);
    if (i % 3 != 0) EXPECT_OK(moor_put(store, &many_bytes[4 * i], 4, &i, sizeof i, NULL, NULL));
  }
  moor_keys many_keys = {many_bytes, many_ends, MANY};
  EXPECT_OK(moor_get_tensors(store, &many_keys, MOOR_MODE_COW, many, many_statuses));
  for (int i = 0; i < MANY; i++) {
    EXPECT(many_statuses[i] == (i % 3 != 0 ? MOOR_OK : MOOR_ERR_NOT_FOUND));
    if (many_statuses[i] != MOOR_OK) continue;
    EXPECT(memcmp(many[i]->dl_tensor.data, &i, sizeof i) == 0);
    many[i]->deleter(many[i]);
  }
}

/* ---- sets, snapshots, waiting ---- */

static const uint64_t set_ends[3] = {2, 4, 6};
static const moor_keys set_keys = {"s1s2s3", set_ends, 3};

/* All of it or nothing. */
static void atomic_sets(void) {
  uint64_t part_ends[3] = {1, 2, 2}, twice_ends[2] = {2, 4};
  moor_keys twice = {"s1s1", twice_ends, 2};
  moor_part parts[2] = {{"one", 3}, {"two", 3}};
  moor_put_options atomic = {.struct_size = sizeof atomic, .flags = MOOR_PUT_ATOMIC};
  moor_put_result results[3] = {{.seq = 7}};
  int32_t statuses[3] = {7, 7, 7};
  EXPECT_OK(moor_put_batch(store, &set_keys, parts, part_ends, &atomic, results, statuses));
  EXPECT(statuses[0] == MOOR_OK && statuses[2] == MOOR_OK && results[0].seq > 0 && results[0].seq != results[2].seq);

  int64_t shape[1] = {2}, huge[1] = {1LL << 40};
  float numbers[2] = {1, 2};
  DLTensor t = floats(numbers, shape, 1), too_large = floats(numbers, huge, 1);
  const DLTensor *const in[3] = {&t, &t, &t}, *const bad[3] = {&t, &too_large, &t};
  moor_description d = {.struct_size = sizeof d};
  statuses[0] = 7;
  results[0].seq = 7;
  EXPECT_STATUS(moor_put_tensors(store, &set_keys, bad, &atomic, results, statuses), MOOR_ERR_CAPACITY);
  EXPECT_STATUS(moor_put_batch(store, &twice, parts, part_ends, &atomic, results, statuses), MOOR_ERR_INVALID_ARGUMENT);
  atomic.if_exists = MOOR_IF_EXISTS_RAISE;
  EXPECT_STATUS(moor_put_tensors(store, &set_keys, in, &atomic, results, statuses), MOOR_ERR_EXISTS);
  EXPECT(statuses[0] == 7 && results[0].seq == 7);
  EXPECT_OK(moor_describe(store, KEY("s1"), &d));
  EXPECT((d.flags & MOOR_DESC_TENSOR) == 0 && d.size == 3);
  atomic.if_exists = MOOR_IF_EXISTS_REPLACE;
  EXPECT_OK(moor_put_tensors(store, &set_keys, in, &atomic, NULL, statuses));
  EXPECT_OK(moor_describe(store, KEY("s3"), &d));
  EXPECT((d.flags & MOOR_DESC_TENSOR) != 0 && d.size == 8);
}

static moor_snapshot_info info_of(moor_snapshot s) {
  moor_snapshot_info info = {.struct_size = sizeof info};
  EXPECT_OK(moor_snapshot_get_info(s, &info));
  EXPECT(info.struct_size == sizeof info);
  return info;
}

static uint64_t views_held(void) {
  uint64_t views;
  EXPECT_OK(moor_count_objects(store, NULL, &views));
  return views;
}

static void snapshots(void) {
  moor_snapshot s, all, empty;
  moor_keys keys;
  uint64_t index, ends[4] = {2, 4, 6, 8};
  moor_keys wanted = {"s3s1s3s2", ends, 4}, missing = {"s1no", ends, 2}, none = {NULL, NULL, 0};
  moor_put_options options = {.struct_size = sizeof options, .meta = "about", .meta_size = 5};
  EXPECT_OK(moor_put(store, KEY("s1"), "first", 5, &options, NULL));
  s.id = 7;
  EXPECT_STATUS(moor_snapshot_open(store, &missing, NULL, 0, &s), MOOR_ERR_NOT_FOUND);
  EXPECT(strstr(moor_last_error(), "no") != NULL && s.id == 7 && views_held() == 0);
  EXPECT_OK(moor_snapshot_open(store, &wanted, NULL, 0, &s));
  EXPECT_OK(moor_snapshot_open(store, NULL, KEY("s"), &all));
  EXPECT_OK(moor_snapshot_open(store, &none, NULL, 0, &empty));
  EXPECT(views_held() == 4 + info_of(all).objects && info_of(all).objects >= 3);
  EXPECT(info_of(s).objects == 4 && info_of(s).bytes == 8 + 5 + 8 + 8 && info_of(s).flags == 0);
  EXPECT(info_of(s).child_windows == 0 && info_of(s).child_window_copies == 0 && info_of(s).child_bytes_copied == 0);
  EXPECT(info_of(empty).objects == 0);

  EXPECT_OK(moor_snapshot_get_keys(s, &keys));
  EXPECT(keys.count == 4 && memcmp(keys.bytes, "s3s1s3s2", 8) == 0 && keys.ends[3] == 8);
  EXPECT_OK(moor_snapshot_find(s, KEY("s3"), &index));
  EXPECT(index == 0); /* the first of two */
  EXPECT_OK(moor_snapshot_find(s, KEY("s2"), &index));
  EXPECT(index == 3);
  EXPECT_STATUS(moor_snapshot_find(s, KEY("s"), &index), MOOR_ERR_NOT_FOUND);
  EXPECT_STATUS(moor_snapshot_find(s, KEY("s33"), &index), MOOR_ERR_NOT_FOUND);
  EXPECT_STATUS(moor_snapshot_find(empty, KEY("s1"), &index), MOOR_ERR_NOT_FOUND);
  EXPECT(index == 3);

  /* As they were, and where they were. */
  DLManagedTensorVersioned *v, *again;
  DLManagedTensor *plain;
  moor_buffer b;
  EXPECT_OK(moor_snapshot_get_tensor(s, 3, MOOR_MODE_VIEW, &v));
  EXPECT_OK(moor_get_tensor(store, KEY("s2"), MOOR_MODE_VIEW, &again));
  EXPECT(v->dl_tensor.data == again->dl_tensor.data && v->flags == DLPACK_FLAG_BITMASK_READ_ONLY);
  again->deleter(again);
  EXPECT_OK(moor_clear(store, NULL));
  EXPECT_OK(moor_put(store, KEY("s1"), "other", 5, NULL, NULL));
  EXPECT_OK(moor_snapshot_get_buffer(s, 1, MOOR_MODE_VIEW, &b));
  EXPECT(memcmp(b.data, "first", 5) == 0 && b.meta_size == 5 && memcmp(b.meta, "about", 5) == 0 && b.dtype.bits == 0);
  EXPECT_OK(moor_snapshot_get_tensor_unversioned(s, 0, MOOR_MODE_COPY, &plain));
  EXPECT(plain->dl_tensor.ndim == 1 && plain->dl_tensor.shape[0] == 2 && ((float *)plain->dl_tensor.data)[1] == 2);
  ((float *)plain->dl_tensor.data)[1] = 9;
  plain->deleter(plain);

  EXPECT_OK(moor_snapshot_close(all));
  EXPECT_OK(moor_snapshot_close(empty));
  EXPECT_OK(moor_snapshot_close(s));
  EXPECT_STATUS(moor_snapshot_close(s), MOOR_ERR_BAD_HANDLE);
  EXPECT_STATUS(moor_snapshot_get_keys(s, &keys), MOOR_ERR_BAD_HANDLE);
  EXPECT(views_held() == 2 && memcmp(b.data, "first", 5) == 0 && ((float *)v->dl_tensor.data)[1] == 2);
  v->deleter(v);
  b.release(&b);
  EXPECT(views_held() == 0);
}

/* A key is not found by its beginning, or by more than itself. */
static void keys_are_compared_whole(void) {
  static const char key[] = "a key of some length!";
  uint64_t end = sizeof key - 2, index = 7;
  moor_keys keys = {key, &end, 1};
  moor_snapshot s;
  EXPECT_OK(moor_put(store, key, end, "x", 1, NULL, NULL));
  EXPECT_OK(moor_snapshot_open(store, &keys, NULL, 0, &s));
  for (uint64_t size = 1; size < sizeof key; size++) {
    EXPECT_STATUS(moor_snapshot_find(s, key, size, &index), size == end ? MOOR_OK : MOOR_ERR_NOT_FOUND);
    EXPECT(index == (size < end ? 7 : 0));
  }
  EXPECT_OK(moor_snapshot_close(s));
  EXPECT_OK(moor_remove(store, key, end));
}

/* ---- one generation ---- */

/* Sets of WIDE objects of one number: under the same names again and again, and under new ones when wanted is raised. */
enum { WIDE = 64 };
static uint64_t wanted; /* atomic */
static int swapped;     /* atomic */

static void name_set(char kind, uint64_t n, char *bytes, uint64_t *ends) {
  for (int i = 0; i < WIDE; i++) {
    snprintf(bytes + 12 * i, 13, "%c%08llu.%02d", kind, (unsigned long long)n, i);
    ends[i] = 12 * (uint64_t)(i + 1);
  }
}

static void put_generation(char kind, uint64_t n, uint64_t value) {
  char bytes[12 * WIDE + 1];
  uint64_t ends[WIDE], part_ends[WIDE];
  moor_keys keys = {bytes, ends, WIDE};
  moor_part parts[WIDE];
  int32_t statuses[WIDE];
  moor_put_options atomic = {.struct_size = sizeof atomic, .flags = MOOR_PUT_ATOMIC};
  name_set(kind, n, bytes, ends);
  for (int i = 0; i < WIDE; i++) {
    parts[i] = (moor_part){&value, sizeof value};
    part_ends[i] = (uint64_t)i + 1;
  }
  EXPECT_OK(moor_put_batch(store, &keys, parts, part_ends, &atomic, NULL, statuses));
}

static void *swap(void *unused) {
  (void)unused;
  for (uint64_t n = 1, given = 0; !__atomic_load_n(&swapped, __ATOMIC_SEQ_CST); n++) {
    put_generation('=', 0, n);
    uint64_t now = __atomic_load_n(&wanted, __ATOMIC_SEQ_CST);
    if (now > given) put_generation('+', given = now, n);
  }
  return NULL;
}

static void read_swapped(const moor_keys *keys) {
  moor_buffer b[WIDE];
  DLManagedTensorVersioned *t[WIDE];
  int32_t statuses[WIDE];
  uint64_t values[WIDE], ends[WIDE];
  moor_span spans[WIDE];
  moor_snapshot s;
  EXPECT_OK(moor_get_buffers(store, keys, MOOR_MODE_VIEW, b, statuses));
  for (int i = 0; i < WIDE; i++) EXPECT(*(uint64_t *)b[i].data == *(uint64_t *)b[0].data);
  for (int i = 0; i < WIDE; i++) b[i].release(&b[i]);
  EXPECT_OK(moor_get_tensors(store, keys, MOOR_MODE_VIEW, t, statuses));
  for (int i = 0; i < WIDE; i++) EXPECT(*(uint64_t *)t[i]->dl_tensor.data == *(uint64_t *)t[0]->dl_tensor.data);
  for (int i = 0; i < WIDE; i++) t[i]->deleter(t[i]);
  for (int i = 0; i < WIDE; i++) {
    spans[i] = (moor_span){&values[i], sizeof values[i]};
    ends[i] = (uint64_t)i + 1;
  }
  EXPECT_OK(moor_get_batch_into(store, keys, NULL, NULL, spans, ends, NULL, statuses));
  for (int i = 0; i < WIDE; i++) EXPECT(statuses[i] == MOOR_OK && values[i] == values[0]);
  for (int by_prefix = 0; by_prefix < 2; by_prefix++) {
    EXPECT_OK(moor_snapshot_open(store, by_prefix ? NULL : keys, "=", (uint64_t)by_prefix, &s));
    for (uint64_t i = 0; i < WIDE; i++) {
      EXPECT_OK(moor_snapshot_get_buffer(s, i, MOOR_MODE_VIEW, &b[0]));
      values[i] = *(uint64_t *)b[0].data;
      b[0].release(&b[0]);
      EXPECT(values[i] == values[0]);
    }
    EXPECT_OK(moor_snapshot_close(s));
  }
}

/* The names of one that is on its way: all of them are there or none. */
static void ask_for_new(int counting) {
  char bytes[12 * WIDE + 1];
  uint64_t ends[WIDE], leading = 0;
  uint8_t found[WIDE] = {0};
  moor_keys keys = {bytes, ends, WIDE};
  name_set('+', __atomic_add_fetch(&wanted, 1, __ATOMIC_SEQ_CST), bytes, ends);
  while (counting && leading == 0) {
    EXPECT_OK(moor_count_leading(store, &keys, &leading));
    EXPECT(leading == 0 || leading == WIDE);
  }
  while (!counting && !found[0]) {
    EXPECT_OK(moor_exists(store, &keys, found));
    for (int i = 0; i < WIDE; i++) EXPECT(found[i] == found[0]);
  }
  EXPECT_OK(moor_wait(store, &keys, 0));
  EXPECT_OK(moor_remove_batch(store, &keys, (int32_t[WIDE]){0}));
}

static void sets_are_seen_whole(void) {
  pthread_t thread;
  char bytes[12 * WIDE + 1];
  uint64_t ends[WIDE], removed;
  moor_keys keys = {bytes, ends, WIDE};
  struct timespec start, now;
  name_set('=', 0, bytes, ends);
  put_generation('=', 0, 0);
  EXPECT(pthread_create(&thread, NULL, swap, NULL) == 0);
  clock_gettime(CLOCK_MONOTONIC, &start);
  do {
    read_swapped(&keys);
    for (int i = 0; i < 20; i++) ask_for_new(i % 2);
    clock_gettime(CLOCK_MONOTONIC, &now);
  } while (now.tv_sec - start.tv_sec < 2);
  __atomic_store_n(&swapped, 1, __ATOMIC_SEQ_CST);
  pthread_join(thread, NULL);
  EXPECT_OK(moor_clear(store, &removed));
}

/* ---- many snapshots, many objects ---- */

/* The least of three times that a snapshot of one key so often takes. */
static double seconds_to_open(uint64_t often) {
  char *bytes = malloc(2 * often);
  uint64_t *ends = malloc(often * sizeof *ends), index = 7;
  moor_keys keys = {bytes, ends, often};
  moor_snapshot s;
  struct timespec before, after;
  double least = 1e9;
  for (uint64_t i = 0; i < often; i++) {
    memcpy(bytes + 2 * i, "s1", 2);
    ends[i] = 2 * (i + 1);
  }
  for (int i = 0; i < 3; i++) {
    clock_gettime(CLOCK_MONOTONIC, &before);
    EXPECT_OK(moor_snapshot_open(store, &keys, NULL, 0, &s));
    clock_gettime(CLOCK_MONOTONIC, &after);
    double seconds = (double)(after.tv_sec - before.tv_sec) + (double)(after.tv_nsec - before.tv_nsec) * 1e-9;
    if (seconds < least) least = seconds;
    EXPECT_OK(moor_snapshot_find(s, KEY("s1"), &index));
    EXPECT(index == 0 && views_held() == often && info_of(s).objects == often);
    EXPECT_OK(moor_snapshot_close(s));
  }
  EXPECT(views_held() == 0);
  free(bytes);
  free(ends);
  return least;
}

/* Ten times as many repetitions may not take a hundred times as long. */
static void one_key_often(void) { EXPECT(seconds_to_open(60000) < 40 * seconds_to_open(6000)); }

/* Ids differ though slots are used again. */
static void many_snapshots(void) {
  enum { MANY = 3000 };
  static moor_snapshot open[MANY];
  moor_snapshot last = {0};
  for (int i = 0; i < MANY; i++) {
    EXPECT_OK(moor_snapshot_open(store, NULL, KEY("s1"), &open[i]));
    EXPECT(open[i].id != last.id);
    last = open[i];
  }
  EXPECT(views_held() == MANY);
  for (int i = 0; i < MANY; i++) EXPECT_OK(moor_snapshot_close(open[i]));
  for (int i = 0; i < MANY; i++) {
    EXPECT_OK(moor_snapshot_open(store, NULL, KEY("s1"), &last));
    EXPECT(last.id != open[i].id);
    EXPECT_OK(moor_snapshot_close(last));
    EXPECT_STATUS(moor_snapshot_close(open[i]), MOOR_ERR_BAD_HANDLE);
  }
}

static void *put_later(void *unused) {
  (void)unused;
  usleep(30000);
  EXPECT_OK(moor_put(store, KEY("s2"), "2", 1, NULL, NULL));
  usleep(30000);
  EXPECT_OK(moor_put(store, KEY("s3"), "3", 1, NULL, NULL));
  return NULL;
}

static void *close_later(void *given) {
  usleep(30000);
  EXPECT_OK(moor_store_close(*(moor_store *)given, 0));
  return NULL;
}

static void waiting(void) {
  pthread_t thread;
  moor_store other;
  moor_keys none = {NULL, NULL, 0};
  EXPECT_STATUS(moor_wait(store, &set_keys, 0), MOOR_ERR_TIMEOUT);
  EXPECT_STATUS(moor_wait(store, &set_keys, 1000000), MOOR_ERR_TIMEOUT);
  EXPECT(strstr(moor_last_error(), "s2") != NULL); /* the first that is missing */
  EXPECT_OK(moor_wait(store, &none, 0));
  pthread_create(&thread, NULL, put_later, NULL);
  EXPECT_OK(moor_wait(store, &set_keys, UINT64_MAX));
  pthread_join(thread, NULL);
  EXPECT_OK(moor_wait(store, &set_keys, 0));
  EXPECT_OK(moor_store_open(NULL, &other));
  pthread_create(&thread, NULL, close_later, &other);
  EXPECT_STATUS(moor_wait(other, &set_keys, UINT64_MAX), MOOR_ERR_CANCELLED);
  pthread_join(thread, NULL);
}

/* ---- files ---- */

static int32_t count_calls(void *context, uint64_t done, uint64_t total) {
  EXPECT(done <= total);
  (*(int *)context)++;
  return 0;
}

static void files(void) {
  char path[256], prefix[] = "again.";
  const char *folder = getenv("MOOR_TMP");
  snprintf(path, sizeof path, "%s/calls.safetensors", folder != NULL ? folder : "/tmp");
  float numbers[4] = {1, 2, 3, 4};
  int64_t shape[2] = {2, 2};
  DLTensor t = floats(numbers, shape, 2);
  EXPECT_OK(moor_put_tensor(store, KEY("file.w"), &t, NULL, NULL));
  uint64_t end = 6, count = 0;
  moor_keys keys = {"file.w", &end, 1};
  int calls = 0;
  moor_file_options options = {.struct_size = sizeof options, .progress = count_calls, .context = &calls};
  int32_t status = moor_export_safetensors(store, path, &keys, 5, &options);
  EXPECT_OK(status);
  EXPECT_OK(moor_import_safetensors(store, path, prefix, 6, &options, &count));
  unlink(path);
  EXPECT(count == 1 && calls > 0);
  DLManagedTensorVersioned *v;
  EXPECT_OK(moor_get_tensor(store, KEY("again.w"), MOOR_MODE_VIEW, &v));
  EXPECT(memcmp(v->dl_tensor.data, numbers, sizeof numbers) == 0);
  v->deleter(v);
}

static void *release_there(void *tensor) {
  DLManagedTensorVersioned *t = tensor;
  t->deleter(t);
  return NULL;
}

static int regions_mapped(void) {
  char line[512];
  int n = 0;
  FILE *maps = fopen("/proc/self/maps", "re");
  EXPECT(maps != NULL);
  while (fgets(line, sizeof line, maps) != NULL) n += strstr(line, "memfd:moorage") != NULL;
  fclose(maps);
  return n;
}

static void registered(void) {
  static char memory[3 * 4096];
  moor_registration outer, inner;
  moor_registration_info info = {.struct_size = sizeof info};
  moor_register_options lock = {.struct_size = sizeof lock, .flags = MOOR_REGISTER_LOCK};
  moor_stats stats = {.struct_size = sizeof stats};
  EXPECT_OK(moor_register_memory(store, memory, sizeof memory, NULL, &outer));
  EXPECT_OK(moor_register_memory(store, memory + 100, 5000, &lock, &inner));
  EXPECT(outer.id != inner.id);
  EXPECT_OK(moor_find_registration(store, memory + 6000, 10, &info));
  EXPECT(info.registration.id == outer.id && info.offset == 6000 && info.size == sizeof memory && info.flags == 0 &&
         info.in_flight == 0);
  EXPECT_STATUS(moor_find_registration(store, memory + 1, sizeof memory, &info), MOOR_ERR_NOT_FOUND);
  EXPECT_OK(moor_get_stats(store, &stats));
  EXPECT(stats.registrations == 2 && stats.registered_bytes == sizeof memory + 5000 && stats.locked_bytes == 5000);
  EXPECT(stats.devices == 0 && stats.slab_bytes == 0 && stats.device_registrations == 0);
  /* The first byte of a handle is its kind, and no two kinds are the same. */
  moor_snapshot snapshot;
  EXPECT_OK(moor_snapshot_open(store, NULL, NULL, 0, &snapshot));
  EXPECT(snapshot.id >> 56 != outer.id >> 56 && snapshot.id >> 56 != store.id >> 56);
  EXPECT_STATUS(moor_registration_release((moor_registration){snapshot.id}, 0), MOOR_ERR_BAD_HANDLE);
  EXPECT_STATUS(moor_snapshot_close((moor_snapshot){outer.id}), MOOR_ERR_BAD_HANDLE);
  EXPECT_OK(moor_snapshot_close(snapshot));
  EXPECT_OK(moor_registration_release(outer, 0));
  EXPECT_STATUS(moor_registration_release(outer, 0), MOOR_ERR_BAD_HANDLE);
  EXPECT_OK(moor_find_registration(store, memory + 100, 5000, &info));
  EXPECT(info.registration.id == inner.id && info.flags == MOOR_REGISTERED_LOCKED);
  EXPECT_OK(moor_registration_release(inner, UINT64_MAX));
  EXPECT_STATUS(moor_find_registration(store, memory + 100, 1, &info), MOOR_ERR_NOT_FOUND);

  DLManagedTensorVersioned *v;
  EXPECT_OK(moor_put(store, KEY("own"), memory, sizeof memory, NULL, NULL));
  EXPECT_OK(moor_get_tensor(store, KEY("own"), MOOR_MODE_VIEW, &v));
  EXPECT_OK(moor_find_registration(store, v->dl_tensor.data, sizeof memory, &info));
  EXPECT(info.flags == MOOR_REGISTERED_STORE && info.registration.id == 0 && info.size == stats.capacity);
  v->deleter(v);

  moor_store other;
  moor_store_options options = {.struct_size = sizeof options, .capacity = 1u << 20};
  EXPECT_OK(moor_store_open(&options, &other));
  EXPECT_OK(moor_register_memory(other, memory, sizeof memory, &lock, &outer));
  EXPECT_OK(moor_store_close(other, MOOR_CLOSE_WAIT));
  EXPECT_OK(moor_registration_release(outer, 0)); /* it ended with the store */
  EXPECT_STATUS(moor_registration_release(outer, 0), MOOR_ERR_BAD_HANDLE);
}

/* What memory has no room for goes to disk and comes back; what is persistent is found again. */
static void a_disk(void) {
  enum { COUNT = 24, SIZE = 200000 };
  static unsigned char bytes[SIZE], back[SIZE + 1];
  char path[512];
  const char *folder = getenv("MOOR_TMP");
  snprintf(path, sizeof path, "%s/disk.%d", folder != NULL ? folder : "/tmp", (int)getpid());
  moor_disk_options disk = {.struct_size = sizeof disk, .path = path, .capacity = 32u << 20};
  moor_store_options options = {.struct_size = sizeof options, .capacity = 1u << 20, .disk = &disk};
  moor_store s, second;
  EXPECT_OK(moor_store_open(&options, &s));
  EXPECT_STATUS(moor_store_open(&options, &second), MOOR_ERR_BUSY);
  for (int i = 0; i < COUNT; i++) {
    memset(bytes, i + 1, sizeof bytes);
    EXPECT_OK(moor_put(s, &i, sizeof i, bytes, sizeof bytes, NULL, NULL));
  }
  uint64_t objects, views, n;
  EXPECT_OK(moor_count_objects(s, &objects, &views));
  EXPECT(objects == COUNT);
  moor_disk_stats stats = {.struct_size = sizeof stats};
  EXPECT_OK(moor_get_disk_stats(s, &stats));
  EXPECT(stats.demotions > 0 && stats.objects > 0 && stats.capacity == disk.capacity && stats.struct_size == sizeof stats);
  for (int i = 0; i < COUNT; i++) {
    memset(bytes, i + 1, sizeof bytes);
    back[SIZE] = 0xa5;
    moor_span span = {back, SIZE};
    EXPECT_OK(moor_get_into(s, &i, sizeof i, 0, MOOR_ALL, &span, 1, &n));
    EXPECT(n == SIZE && memcmp(bytes, back, SIZE) == 0 && back[SIZE] == 0xa5);
    moor_buffer b;
    EXPECT_OK(moor_get_buffer(s, &i, sizeof i, MOOR_MODE_VIEW, &b));
    EXPECT(b.size == SIZE && memcmp(bytes, b.data, SIZE) == 0);
    b.release(&b);
  }
  int first = 0;
  moor_description d = {.struct_size = sizeof d};
  EXPECT_OK(moor_describe(s, &first, sizeof first, &d));
  EXPECT(d.size == SIZE);
  uint64_t end = sizeof first;
  moor_keys one = {(const char *)&first, &end, 1};
  int32_t status = 1;
  EXPECT_OK(moor_persist(s, &one, &status));
  EXPECT(status == MOOR_OK);
  EXPECT_OK(moor_flush(s));
  moor_timing timings[32];
  moor_timings_info info = {.struct_size = sizeof info};
  EXPECT_OK(moor_get_timings(s, timings, 32, &n, &info));
  EXPECT(n > 2 && n <= 32 && info.inconsistent == 0 && info.recorded > COUNT);
  moor_operation last[8];
  EXPECT_OK(moor_list_operations(s, last, 8, &n));
  EXPECT(n == 8);
  for (uint64_t i = 0; i < n; i++) EXPECT(last[i].t0 <= last[i].t1 && last[i].t1 <= last[i].t2 && last[i].t2 <= last[i].t3);
  EXPECT_OK(moor_store_close(s, 0));

  disk.durability = MOOR_DURABLE_EACH;
  disk.promote = MOOR_PROMOTE_NEVER;
  EXPECT_OK(moor_store_open(&options, &s)); /* the directory is free when close has returned */
  EXPECT_OK(moor_count_objects(s, &objects, &views));
  EXPECT(objects == COUNT);
  EXPECT_OK(moor_describe(s, &first, sizeof first, &d));
  EXPECT((d.flags & MOOR_DESC_ON_DISK) != 0 && d.extent == 0);
  memset(bytes, 1, sizeof bytes);
  EXPECT_OK(moor_get(s, &first, sizeof first, back, sizeof back, &n));
  EXPECT(n == SIZE && memcmp(bytes, back, SIZE) == 0);
  EXPECT_OK(moor_remove(s, &first, sizeof first));
  EXPECT_STATUS(moor_remove(s, &first, sizeof first), MOOR_ERR_NOT_FOUND);
  EXPECT_OK(moor_clear(s, &n));
  EXPECT(n == COUNT - 1);
  EXPECT_OK(moor_store_close(s, MOOR_CLOSE_WAIT));
  moor_directory_info place = {.struct_size = sizeof place};
  EXPECT_OK(moor_inspect_directory(path, &place));
  EXPECT(place.size > 0 && place.file_system[0] != 0);
}

/* Views that outlive their store end one by one, each noticed; with the last one the memory is unmapped. */
/* With the stand-in for libibverbs, which has two devices. */
static void devices(void) {
  static char memory[5 * 4096];
  moor_device found[3];
  moor_device_list list = {.struct_size = sizeof list};
  EXPECT_OK(moor_list_devices(found, 3, &list));
  if (getenv("MOORAGE_LIBIBVERBS") == NULL) return;
  EXPECT(list.count == 2 && list.missing == MOOR_MISSING_NOTHING && list.text[0] == 0);
  EXPECT(strcmp(found[0].name, "fake0") == 0 && found[0].active == 1 && found[0].port == 1 && found[0].refusal[0] == 0);
  EXPECT(found[1].link == MOOR_LINK_ETHERNET && found[1].numa_node == -1);
  memset(found, 0, sizeof found);
  EXPECT_OK(moor_list_devices(found, 1, &list));
  EXPECT(list.count == 2 && strcmp(found[0].name, "fake0") == 0 && found[1].name[0] == 0);

  moor_store one;
  moor_store_options options = {.struct_size = sizeof options, .capacity = 1u << 20, .prefault = MOOR_PREFAULT_OPEN,
                                .registering = MOOR_REGISTERING_REQUIRE};
  char name[MOOR_DEVICE_NAME];
  moor_registration before, r;
  moor_device_stats stats[2];
  moor_stats all = {.struct_size = sizeof all};
  uint64_t count = 0;
  EXPECT_OK(moor_store_open(&options, &one));
  EXPECT_OK(moor_register_memory(one, memory, sizeof memory, NULL, &before));
  EXPECT_OK(moor_attach_device(one, NULL, name));
  EXPECT(strcmp(name, "fake0") == 0);
  EXPECT_STATUS(moor_attach_device(one, "fake0", NULL), MOOR_ERR_EXISTS);
  EXPECT_STATUS(moor_attach_device(one, NULL, NULL), MOOR_ERR_EXISTS);
  EXPECT_OK(moor_attach_device(one, "fake1", NULL));
  EXPECT_OK(moor_register_memory(one, memory, 100, NULL, &r));
  for (int i = 0; i < 5000; i++) { /* the slab, in the background */
    EXPECT_OK(moor_list_attached(one, stats, 2, &count));
    if (stats[0].regions == 2 && stats[1].regions == 2) break;
    usleep(1000);
  }
  EXPECT(count == 2 && strcmp(stats[0].name, "fake0") == 0 && strcmp(stats[1].name, "fake1") == 0);
  EXPECT(stats[0].regions == 2 && stats[0].bytes == options.capacity + 100 && stats[0].registrations == 2);
  EXPECT_OK(moor_get_stats(one, &all));
  EXPECT(all.devices == 2 && all.device_registrations == 4 && all.slab_bytes == options.capacity);
  EXPECT(all.registering == MOOR_REGISTERING_REQUIRE && all.registrations == 2);
  EXPECT_OK(moor_detach_device(one, "fake0", 0));
  EXPECT_STATUS(moor_detach_device(one, "fake0", 0), MOOR_ERR_NOT_FOUND);
  EXPECT_OK(moor_list_attached(one, NULL, 0, &count));
  EXPECT(count == 1);
  char text[64];
  EXPECT_OK(moor_explain_device(NULL, MOOR_REGISTERING_AUTO, text, sizeof text));
  EXPECT(strncmp(text, "fake0: ", 7) == 0 && strlen(text) == sizeof text - 1); /* what fits of it */
  EXPECT_OK(moor_store_close(one, MOOR_CLOSE_WAIT));
  EXPECT_OK(moor_registration_release(r, 0));
  EXPECT_OK(moor_registration_release(before, 0));
}

static void closing(void) {
  DLManagedTensorVersioned *v, *w, *other;
  uint64_t removed = 0, end = 5;
  pthread_t thread;
  moor_keys other_key = {"other", &end, 1};
  moor_snapshot snapshot;
  EXPECT_OK(moor_put(store, KEY("last"), "last", 4, NULL, NULL));
  EXPECT_OK(moor_get_tensor(store, KEY("last"), MOOR_MODE_VIEW, &v));
  EXPECT_OK(moor_get_tensor(store, KEY("last"), MOOR_MODE_COPY, &w));
  EXPECT_OK(moor_put(store, KEY("other"), "other", 5, NULL, NULL));
  EXPECT_OK(moor_snapshot_open(store, &other_key, NULL, 0, &snapshot));
  EXPECT_OK(moor_clear(store, &removed));
  EXPECT(removed > 0);
  EXPECT_OK(moor_store_close(store, MOOR_CLOSE_WAIT));
  EXPECT_STATUS(moor_store_close(store, 0), MOOR_ERR_BAD_HANDLE);
  EXPECT_STATUS(moor_remove(store, KEY("last")), MOOR_ERR_BAD_HANDLE);
  EXPECT_STATUS(moor_snapshot_open(store, NULL, NULL, 0, &snapshot), MOOR_ERR_BAD_HANDLE);
  EXPECT(memcmp(v->dl_tensor.data, "last", 4) == 0);
  pthread_create(&thread, NULL, release_there, v);
  pthread_join(thread, NULL);
  w->deleter(w);
  usleep(50000); /* the first one is taken back by itself */
  EXPECT_OK(moor_snapshot_get_tensor(snapshot, 0, MOOR_MODE_VIEW, &other)); /* a snapshot outlives its store, too */
  EXPECT_OK(moor_snapshot_close(snapshot));
  EXPECT(regions_mapped() > 0 && memcmp(other->dl_tensor.data, "other", 5) == 0);
  other->deleter(other);
  for (int i = 0; regions_mapped() > 0; i++) {
    EXPECT(i < 1000);
    usleep(10000);
  }
}

int main(void) {
  moor_store_options options = {.struct_size = sizeof options, .capacity = 64u << 20};
  EXPECT_OK(moor_store_open(&options, &store));
#define RUN(test)             \
  do {                        \
    test();                   \
    printf("ok %s\n", #test); \
    fflush(stdout);           \
  } while (0)
  RUN(versions);
  RUN(bytes_in_and_out);
  RUN(tensors);
  RUN(windows);
  RUN(many_windows);
  RUN(in_place);
  RUN(names);
  RUN(batches);
  RUN(atomic_sets);
  RUN(snapshots);
  RUN(keys_are_compared_whole);
  RUN(one_key_often);
  RUN(many_snapshots);
  RUN(waiting);
  RUN(sets_are_seen_whole);
  RUN(files);
  RUN(registered);
  RUN(a_disk);
  RUN(devices);
  RUN(closing);
  return 0;
}
