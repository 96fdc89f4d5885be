/* SPDX-License-Identifier: Apache-2.0
 *
 * Every function of the header once, the way a C program uses it, against the library.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <string.h>
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

/* Views that outlive their store end one by one, each noticed; with the last one the memory is unmapped. */
static void closing(void) {
  DLManagedTensorVersioned *v, *w, *other;
  uint64_t removed = 0;
  pthread_t thread;
  EXPECT_OK(moor_put(store, KEY("last"), "last", 4, NULL, NULL));
  EXPECT_OK(moor_get_tensor(store, KEY("last"), MOOR_MODE_VIEW, &v));
  EXPECT_OK(moor_get_tensor(store, KEY("last"), MOOR_MODE_COPY, &w));
  EXPECT_OK(moor_put(store, KEY("other"), "other", 5, NULL, NULL));
  EXPECT_OK(moor_get_tensor(store, KEY("other"), MOOR_MODE_VIEW, &other));
  EXPECT_OK(moor_clear(store, &removed));
  EXPECT(removed > 0);
  EXPECT_OK(moor_store_close(store, MOOR_CLOSE_WAIT));
  EXPECT_STATUS(moor_store_close(store, 0), MOOR_ERR_BAD_HANDLE);
  EXPECT_STATUS(moor_remove(store, KEY("last")), MOOR_ERR_BAD_HANDLE);
  EXPECT(memcmp(v->dl_tensor.data, "last", 4) == 0);
  pthread_create(&thread, NULL, release_there, v);
  pthread_join(thread, NULL);
  w->deleter(w);
  usleep(50000); /* the first one is taken back by itself */
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
  RUN(files);
  RUN(closing);
  return 0;
}
