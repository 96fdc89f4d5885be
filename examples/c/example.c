/* SPDX-License-Identifier: Apache-2.0
 *
 * Tensors in and out from C: produced in place, viewed without a copy, read into a buffer of one's own, and alive after
 * the store was closed.
 *
 *   example [MODEL.safetensors]
 */
#include <moorage.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CAPACITY ((uint64_t)256 << 20)
#define ROWS 512
#define COLUMNS 256

/* Ends the program with the text of the failure. */
static void check(int32_t status, const char *what) {
  if (status == MOOR_OK) return;
  fprintf(stderr, "%s: %s: %s\n", what, moor_status_name(status), moor_last_error());
  exit(1);
}

static const float *floats(const DLTensor *t) { return (const float *)((const char *)t->data + t->byte_offset); }

static uint64_t elements(const DLTensor *t) {
  uint64_t n = 1;
  for (int32_t i = 0; i < t->ndim; i++) n *= (uint64_t)t->shape[i];
  return n;
}

/* A matrix that is computed into the store's memory and gets a name there: no copy. */
static void produce(moor_store store, const char *key) {
  int64_t shape[] = {ROWS, COLUMNS};
  DLTensor like;
  moor_reservation room;
  moor_put_result result;
  void *data;

  memset(&like, 0, sizeof like);
  like.device.device_type = kDLCPU;
  like.dtype.code = kDLFloat;
  like.dtype.bits = 32;
  like.dtype.lanes = 1;
  like.ndim = 2;
  like.shape = shape;
  check(moor_reserve(store, ROWS * COLUMNS * sizeof(float), &room, &data), "reserve");
  for (int i = 0; i < ROWS * COLUMNS; i++) ((float *)data)[i] = (float)(i % 7);
  /* From here on the memory is read-only for everybody, this function included. */
  check(moor_commit(room, key, strlen(key), &like, NULL, &result), "commit");
  printf("produced %s in place, commit number %" PRIu64 "\n", key, result.seq);
}

/* The same memory for every reader, and the reader's until its deleter is called. */
static DLManagedTensorVersioned *view(moor_store store, const char *key) {
  DLManagedTensorVersioned *tensor;
  check(moor_get_tensor(store, key, strlen(key), MOOR_MODE_VIEW, &tensor), "get_tensor");
  return tensor;
}

static void print_sum(const char *key, const DLTensor *t) {
  double sum = 0;
  if (t->dtype.code != kDLFloat || t->dtype.bits != 32) return;
  for (uint64_t i = 0, n = elements(t); i < n; i++) sum += floats(t)[i];
  printf("%s has %" PRIu64 " elements, their sum is %.3f\n", key, elements(t), sum);
}

/* A row of a matrix, into a buffer that can be used again. */
static void read_row(moor_store store, const char *key, uint64_t row) {
  float line[COLUMNS];
  moor_span span;
  uint64_t copied;
  span.data = line;
  span.size = sizeof line;
  check(moor_get_into(store, key, strlen(key), row * sizeof line, sizeof line, &span, 1, &copied), "get_into");
  printf("row %" PRIu64 " of %s: %" PRIu64 " bytes, begins with %g\n", row, key, copied, (double)line[0]);
}

/* A private window is writable, and what is written to it never reaches the store. */
static void change_a_window(moor_store store, const char *key) {
  DLManagedTensorVersioned *window, *original = view(store, key);
  check(moor_get_tensor(store, key, strlen(key), MOOR_MODE_COW, &window), "get_tensor");
  ((float *)window->dl_tensor.data)[1] = -1;
  printf("written to a window: %g; in the store: %g\n", (double)floats(&window->dl_tensor)[1],
         (double)floats(&original->dl_tensor)[1]);
  window->deleter(window);
  original->deleter(original);
}

/* The tensors of a file, straight into the store. */
static void import(moor_store store, const char *path) {
  char keys[4 * MOOR_MAX_KEY];
  uint64_t ends[64], cursor = 0, count, imported;
  check(moor_import_safetensors(store, path, NULL, 0, NULL, &imported), "import");
  printf("imported %" PRIu64 " tensors\n", imported);
  while (cursor != MOOR_LIST_END) {
    check(moor_list_keys(store, NULL, 0, &cursor, keys, sizeof keys, ends, 64, &count), "list_keys");
    for (uint64_t i = 0, begin = 0; i < count; begin = ends[i++]) {
      char key[MOOR_MAX_KEY + 1];
      DLManagedTensorVersioned *tensor;
      memcpy(key, keys + begin, ends[i] - begin);
      key[ends[i] - begin] = '\0';
      tensor = view(store, key);
      print_sum(key, &tensor->dl_tensor);
      tensor->deleter(tensor);
    }
  }
}

int main(int argc, char **argv) {
  moor_store_options options;
  moor_store store;
  DLManagedTensorVersioned *kept;

  memset(&options, 0, sizeof options);
  options.struct_size = sizeof options;
  options.capacity = CAPACITY;
  check(moor_store_open(&options, &store), "open");
  if (argc > 1) import(store, argv[1]);
  produce(store, "matrix");
  read_row(store, "matrix", 3);
  change_a_window(store, "matrix");

  kept = view(store, "matrix");
  check(moor_remove(store, "matrix", strlen("matrix")), "remove");
  check(moor_store_close(store, 0), "close");
  print_sum("after remove and close, matrix", &kept->dl_tensor);
  kept->deleter(kept); /* the store's memory goes with its last view */
  return 0;
}
