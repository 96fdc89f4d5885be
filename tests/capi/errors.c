/* SPDX-License-Identifier: Apache-2.0
 *
 * What must be refused, and that a refused call changes nothing: NULL pointers, stale and foreign handles, wrong struct
 * sizes, absurd lengths, read-only destinations. Against the library.
 */
#include <stdint.h>
#include <string.h>

#include "expect.h"

#define KEY "k", 1
#define INVALID(call) refused(call, MOOR_ERR_INVALID_ARGUMENT, #call, __LINE__)
#define STALE(call) refused(call, MOOR_ERR_BAD_HANDLE, #call, __LINE__)
#define ABSURD (UINT64_MAX - 7)

static moor_store store, none, closed;
static moor_snapshot snapshot;
static int count;

/* Every text says something; that it names the parameter is for the reader of the table to see. */
static void refused(int32_t got, int32_t wanted, const char *call, int line) {
  count++;
  if (got == wanted && strlen(moor_last_error()) > 5) return;
  fprintf(stderr, "errors.c:%d: %s is %s, not %s; text: %s\n", line, call, moor_status_name(got), moor_status_name(wanted),
          moor_last_error());
  exit(1);
}

static void null_pointers(void) {
  DLManagedTensorVersioned *t;
  moor_buffer b;
  char out[8];
  uint64_t n, ends[1] = {1};
  uint8_t found;
  int32_t status;
  moor_keys keys = {"k", ends, 1}, no_bytes = {NULL, ends, 1}, no_ends = {"k", NULL, 1};
  moor_part part = {NULL, 3};
  moor_span span = {NULL, 3};
  void *data;
  moor_reservation r;
  moor_snapshot other;
  moor_keys keys_out;
  DLManagedTensor *plain;
  moor_put_options atomic = {.struct_size = sizeof atomic, .flags = MOOR_PUT_ATOMIC};
  INVALID(moor_store_open(NULL, NULL));
  INVALID(moor_put(store, NULL, 1, "x", 1, NULL, NULL));
  INVALID(moor_put(store, KEY, NULL, 1, NULL, NULL));
  INVALID(moor_put_parts(store, KEY, NULL, 1, NULL, NULL));
  INVALID(moor_put_parts(store, KEY, &part, 1, NULL, NULL));
  INVALID(moor_put_tensor(store, KEY, NULL, NULL, NULL));
  INVALID(moor_reserve(store, 8, NULL, &data));
  INVALID(moor_reserve(store, 8, &r, NULL));
  INVALID(moor_empty_tensor(store, NULL, &t));
  INVALID(moor_adopt_tensor(store, KEY, NULL, NULL, NULL));
  INVALID(moor_get_tensor(store, NULL, 1, MOOR_MODE_VIEW, &t));
  INVALID(moor_get_tensor(store, KEY, MOOR_MODE_VIEW, NULL));
  INVALID(moor_get_tensor_unversioned(store, KEY, MOOR_MODE_VIEW, NULL));
  INVALID(moor_get_buffer(store, KEY, MOOR_MODE_VIEW, NULL));
  INVALID(moor_get(store, KEY, NULL, 8, &n));
  INVALID(moor_get(store, KEY, out, 8, NULL));
  INVALID(moor_get_into(store, KEY, 0, MOOR_ALL, NULL, 1, &n));
  INVALID(moor_get_into(store, KEY, 0, MOOR_ALL, &span, 1, &n));
  INVALID(moor_get_into(store, KEY, 0, MOOR_ALL, &(moor_span){out, 8}, 1, NULL));
  INVALID(moor_take_tensor(store, KEY, NULL));
  INVALID(moor_remove(store, NULL, 1));
  INVALID(moor_pin(store, NULL, 1));
  INVALID(moor_describe(store, KEY, NULL));
  INVALID(moor_list_keys(store, NULL, 3, &n, out, 8, ends, 1, &n));
  INVALID(moor_list_keys(store, NULL, 0, NULL, out, 8, ends, 1, &n));
  INVALID(moor_list_keys(store, NULL, 0, &n, NULL, 8, ends, 1, &n));
  INVALID(moor_list_keys(store, NULL, 0, &n, out, 8, NULL, 1, &n));
  INVALID(moor_list_keys(store, NULL, 0, &n, out, 8, ends, 1, NULL));
  INVALID(moor_list_borrows(store, out, 8, NULL, 1, &n, &n));
  INVALID(moor_list_borrows(store, out, 8, NULL, 0, NULL, &n));
  INVALID(moor_get_tensors(store, NULL, MOOR_MODE_VIEW, &t, &status));
  INVALID(moor_get_tensors(store, &no_bytes, MOOR_MODE_VIEW, &t, &status));
  INVALID(moor_get_tensors(store, &no_ends, MOOR_MODE_VIEW, &t, &status));
  INVALID(moor_get_tensors(store, &keys, MOOR_MODE_VIEW, NULL, &status));
  INVALID(moor_get_tensors(store, &keys, MOOR_MODE_VIEW, &t, NULL));
  INVALID(moor_get_buffers(store, &keys, MOOR_MODE_VIEW, &b, NULL));
  INVALID(moor_put_batch(store, &keys, NULL, ends, NULL, NULL, &status));
  INVALID(moor_put_batch(store, &keys, &part, NULL, NULL, NULL, &status));
  INVALID(moor_put_tensors(store, &keys, NULL, NULL, NULL, &status));
  INVALID(moor_put_tensors(store, &keys, (const DLTensor *const[]){NULL}, NULL, NULL, &status));
  INVALID(moor_put_batch(store, &keys, NULL, ends, &atomic, NULL, &status));
  INVALID(moor_put_batch(store, &keys, &(moor_part){"x", 1}, ends, &atomic, NULL, NULL));
  INVALID(moor_put_tensors(store, &keys, (const DLTensor *const[]){NULL}, &atomic, NULL, &status));
  INVALID(moor_get_batch_into(store, &keys, NULL, NULL, NULL, ends, NULL, &status));
  INVALID(moor_get_batch_into(store, &keys, NULL, NULL, &(moor_span){out, 8}, ends, NULL, NULL));
  INVALID(moor_remove_batch(store, &keys, NULL));
  INVALID(moor_exists(store, NULL, &found));
  INVALID(moor_exists(store, &keys, NULL));
  INVALID(moor_count_leading(store, &keys, NULL));
  INVALID(moor_wait(store, NULL, 0));
  INVALID(moor_wait(store, &no_ends, 0));
  INVALID(moor_snapshot_open(store, &keys, NULL, 0, NULL));
  INVALID(moor_snapshot_open(store, NULL, NULL, 0, NULL));
  INVALID(moor_snapshot_open(store, NULL, NULL, 1, &other));
  INVALID(moor_snapshot_open(store, &keys, "k", 1, &other));
  INVALID(moor_snapshot_open(store, &no_bytes, NULL, 0, &other));
  INVALID(moor_snapshot_open(store, &no_ends, NULL, 0, &other));
  INVALID(moor_snapshot_get_keys(snapshot, NULL));
  INVALID(moor_snapshot_find(snapshot, NULL, 1, &n));
  INVALID(moor_snapshot_find(snapshot, KEY, NULL));
  INVALID(moor_snapshot_get_tensor(snapshot, 0, MOOR_MODE_VIEW, NULL));
  INVALID(moor_snapshot_get_tensor_unversioned(snapshot, 0, MOOR_MODE_VIEW, NULL));
  INVALID(moor_snapshot_get_buffer(snapshot, 0, MOOR_MODE_VIEW, NULL));
  INVALID(moor_snapshot_get_info(snapshot, NULL));
  INVALID(moor_snapshot_get_tensor(snapshot, 0, 3, &t));
  INVALID(moor_snapshot_get_tensor_unversioned(snapshot, 0, 3, &plain));
  INVALID(moor_snapshot_get_buffer(snapshot, 0, 3, &b));
  EXPECT_OK(moor_snapshot_get_keys(snapshot, &keys_out));
  INVALID(moor_register_memory(store, NULL, 8, NULL, &(moor_registration){0}));
  INVALID(moor_register_memory(store, out, 8, NULL, NULL));
  INVALID(moor_find_registration(store, NULL, 8, &(moor_registration_info){.struct_size = 40}));
  INVALID(moor_find_registration(store, out, 8, NULL));
  INVALID(moor_list_devices(NULL, 1, &(moor_device_list){.struct_size = sizeof(moor_device_list)}));
  INVALID(moor_list_devices(NULL, 0, NULL));
  INVALID(moor_list_devices(NULL, 0, &(moor_device_list){.struct_size = 8}));
  INVALID(moor_detach_device(store, NULL, 0));
  INVALID(moor_list_attached(store, NULL, 1, &(uint64_t){0}));
  INVALID(moor_list_attached(store, NULL, 0, NULL));
  INVALID(moor_explain_device(NULL, 0, NULL, 8));
  INVALID(moor_explain_device(NULL, 0, out, 0));
  INVALID(moor_explain_device(NULL, 4, out, sizeof out));
  INVALID(moor_get_stats(store, NULL));
  INVALID(moor_persist(store, NULL, &(int32_t){0}));
  INVALID(moor_persist(store, &keys, NULL));
  INVALID(moor_get_disk_stats(store, NULL));
  INVALID(moor_get_timings(store, NULL, 1, &(uint64_t){0}, NULL));
  INVALID(moor_get_timings(store, NULL, 0, NULL, NULL));
  INVALID(moor_get_timings(store, NULL, 0, &(uint64_t){0}, &(moor_timings_info){.struct_size = 4}));
  INVALID(moor_list_operations(store, NULL, 1, &(uint64_t){0}));
  INVALID(moor_list_operations(store, NULL, 0, NULL));
  INVALID(moor_inspect_directory(NULL, &(moor_directory_info){.struct_size = sizeof(moor_directory_info)}));
  INVALID(moor_inspect_directory("/", NULL));
  INVALID(moor_inspect_directory("/", &(moor_directory_info){.struct_size = 4}));
  INVALID(moor_import_safetensors(store, NULL, NULL, 0, NULL, NULL));
  INVALID(moor_export_safetensors(store, NULL, &keys, 0, NULL));
  INVALID(moor_export_safetensors(store, "/tmp/x", NULL, 0, NULL));
}

static void absurd_lengths(void) {
  static const char long_key[MOOR_MAX_KEY + 1] = "k";
  char out[8];
  uint64_t n, falling[2] = {5, 3}, flat[2] = {3, 3}, far[1] = {ABSURD}, one[1] = {1};
  int32_t statuses[2];
  DLManagedTensorVersioned *tensors[2];
  moor_keys falling_keys = {"kkkkk", falling, 2}, flat_keys = {"kkkkk", flat, 2}, far_keys = {"k", far, 1},
            many_keys = {"k", one, ABSURD}, keys = {"k", one, 1};
  moor_part overflowing[2] = {{out, (uint64_t)INT64_MAX}, {out, (uint64_t)INT64_MAX}};
  moor_span wrapping[2] = {{out, UINT64_MAX}, {out, 2}};
  void *data;
  moor_reservation r;
  INVALID(moor_put(store, "k", 0, "x", 1, NULL, NULL));
  INVALID(moor_put(store, long_key, sizeof long_key, "x", 1, NULL, NULL));
  INVALID(moor_put(store, "k", ABSURD, "x", 1, NULL, NULL));
  INVALID(moor_put(store, KEY, "x", ABSURD, NULL, NULL));
  INVALID(moor_put_parts(store, KEY, overflowing, 2, NULL, NULL));
  INVALID(moor_put_parts(store, KEY, overflowing, ABSURD, NULL, NULL));
  INVALID(moor_reserve(store, ABSURD, &r, &data));
  INVALID(moor_get(store, KEY, out, ABSURD, &n));
  INVALID(moor_get_into(store, KEY, 0, MOOR_ALL, wrapping, 2, &n));
  INVALID(moor_get_into(store, KEY, 0, MOOR_ALL, wrapping, ABSURD, &n));
  INVALID(moor_list_keys(store, "k", ABSURD, &n, out, 8, one, 1, &n));
  INVALID(moor_list_keys(store, "k", 1, &n, out, ABSURD, one, 1, &n));
  INVALID(moor_list_keys(store, "k", 1, &n, out, 8, one, ABSURD, &n));
  INVALID(moor_list_keys(store, "k", 1, &n, out, 8, one, 0, &n));
  INVALID(moor_list_borrows(store, out, 8, (moor_borrow *)(void *)out, ABSURD, &n, &n));
  INVALID(moor_get_tensors(store, &falling_keys, MOOR_MODE_VIEW, tensors, statuses));
  INVALID(moor_get_tensors(store, &flat_keys, MOOR_MODE_VIEW, tensors, statuses));
  INVALID(moor_get_tensors(store, &far_keys, MOOR_MODE_VIEW, tensors, statuses));
  INVALID(moor_get_tensors(store, &many_keys, MOOR_MODE_VIEW, tensors, statuses));
  INVALID(moor_put_batch(store, &keys, overflowing, far, NULL, NULL, statuses));
  INVALID(moor_get_batch_into(store, &keys, NULL, NULL, wrapping, far, NULL, statuses));
  INVALID(moor_export_safetensors(store, "/tmp/x", &keys, ABSURD, NULL));
  moor_snapshot other;
  /* So many are refused before the first of their ends is looked at. */
  moor_keys beyond = {"k", one, (1ULL << 31) + 1};
  INVALID(moor_snapshot_open(store, &beyond, NULL, 0, &other));
  EXPECT(strstr(moor_last_error(), "a snapshot has at most") != NULL);
  INVALID(moor_snapshot_open(store, &many_keys, NULL, 0, &other));
  INVALID(moor_snapshot_open(store, &falling_keys, NULL, 0, &other));
  INVALID(moor_snapshot_open(store, &flat_keys, NULL, 0, &other));
  INVALID(moor_snapshot_open(store, &far_keys, NULL, 0, &other));
  INVALID(moor_snapshot_open(store, NULL, long_key, sizeof long_key, &other));
  INVALID(moor_snapshot_open(store, NULL, "k", ABSURD, &other));
  INVALID(moor_snapshot_open(store, &keys, NULL, ABSURD, &other));
  INVALID(moor_wait(store, &many_keys, 0));
  INVALID(moor_wait(store, &flat_keys, UINT64_MAX));
  INVALID(moor_snapshot_find(snapshot, "", 0, &n));
  INVALID(moor_snapshot_find(snapshot, long_key, sizeof long_key, &n));
  INVALID(moor_snapshot_find(snapshot, "k", ABSURD, &n));
  INVALID(moor_snapshot_get_tensor(snapshot, 1, MOOR_MODE_VIEW, tensors));
  INVALID(moor_snapshot_get_tensor(snapshot, UINT64_MAX, MOOR_MODE_VIEW, tensors));
  INVALID(moor_snapshot_get_buffer(snapshot, ABSURD, MOOR_MODE_COPY, (moor_buffer *)(void *)out));
}

static void structs(void) {
  struct {
    moor_put_options options;
    uint64_t newer;
  } grown = {.options = {.struct_size = sizeof grown}};
  moor_put_options small = {.struct_size = sizeof small - 1}, unset = {0}, huge = {.struct_size = UINT32_MAX};
  moor_put_options policy = {.struct_size = sizeof policy, .if_exists = 3};
  moor_put_options flags = {.struct_size = sizeof flags, .flags = 8}, as_bytes = {.struct_size = sizeof flags, .flags = 1};
  moor_put_options atomic = {.struct_size = sizeof atomic, .flags = MOOR_PUT_ATOMIC};
  moor_put_options both = {.struct_size = sizeof both, .flags = MOOR_PUT_ATOMIC | MOOR_PUT_NO_PROTECT};
  uint64_t one[1] = {1};
  int32_t status;
  moor_keys keys = {"k", one, 1};
  moor_part part = {"x", 1};
  struct {
    moor_snapshot_info known;
    uint64_t newer;
  } info = {.newer = 7};
  moor_put_options reserved = {.struct_size = sizeof reserved, .reserved = 1};
  moor_put_options meta = {.struct_size = sizeof meta, .meta = "m", .meta_size = MOOR_MAX_META + 1};
  moor_put_options no_meta = {.struct_size = sizeof meta, .meta_size = 1};
  moor_store_options capacity = {.struct_size = sizeof capacity, .capacity = ABSURD};
  moor_store_options eviction = {.struct_size = sizeof eviction, .eviction = 2};
  moor_store_options pages = {.struct_size = sizeof pages, .hugepages = 4};
  moor_store_options prefault = {.struct_size = sizeof prefault, .prefault = 3}, nothing = {0};
  moor_file_options file = {.struct_size = 3};
  moor_stats stats = {.struct_size = 8};
  moor_description description = {.struct_size = 8};
  moor_store other;
  EXPECT_OK(moor_put(store, "grown", 5, "x", 1, &grown.options, NULL));
  EXPECT_OK(moor_remove(store, "grown", 5));
  grown.newer = 1;
  INVALID(moor_put(store, KEY, "x", 1, &grown.options, NULL));
  INVALID(moor_put(store, KEY, "x", 1, &small, NULL));
  INVALID(moor_put(store, KEY, "x", 1, &unset, NULL));
  INVALID(moor_put(store, KEY, "x", 1, &huge, NULL));
  INVALID(moor_put(store, KEY, "x", 1, &policy, NULL));
  INVALID(moor_put(store, KEY, "x", 1, &flags, NULL));
  INVALID(moor_put(store, KEY, "x", 1, &as_bytes, NULL));
  INVALID(moor_put(store, KEY, "x", 1, &reserved, NULL));
  INVALID(moor_put(store, KEY, "x", 1, &meta, NULL));
  INVALID(moor_put(store, KEY, "x", 1, &no_meta, NULL));
  INVALID(moor_put(store, KEY, "x", 1, &atomic, NULL));
  INVALID(moor_put_parts(store, KEY, &part, 1, &atomic, NULL));
  INVALID(moor_put_batch(store, &keys, &part, one, &both, NULL, &status));
  EXPECT(strstr(moor_last_error(), "MOOR_PUT_ATOMIC") != NULL);
  INVALID(moor_snapshot_get_info(snapshot, &info.known));
  info.known.struct_size = sizeof info.known - 8;
  INVALID(moor_snapshot_get_info(snapshot, &info.known));
  info.known.struct_size = UINT32_MAX;
  INVALID(moor_snapshot_get_info(snapshot, &info.known));
  EXPECT(info.newer == 7 && info.known.objects == 0);
  info.known.struct_size = sizeof info; /* a newer program gets zeros for what is not known here */
  EXPECT_OK(moor_snapshot_get_info(snapshot, &info.known));
  EXPECT(info.newer == 0 && info.known.objects == 1 && info.known.struct_size == sizeof info);
  INVALID(moor_store_open(&capacity, &other));
  INVALID(moor_store_open(&eviction, &other));
  INVALID(moor_store_open(&pages, &other));
  INVALID(moor_store_open(&prefault, &other));
  INVALID(moor_store_open(&nothing, &other));
  INVALID(moor_import_safetensors(store, "/tmp/x", NULL, 0, &file, NULL));
  INVALID(moor_get_stats(store, &stats));
  INVALID(moor_describe(store, KEY, &description));
  INVALID(moor_store_close(store, 2));
  DLManagedTensorVersioned *t;
  INVALID(moor_get_tensor(store, KEY, 3, &t));
}

static void dltensors(void) {
  float data[4] = {0};
  int64_t shape[2] = {2, 2}, negative[2] = {2, -1}, absurd[2] = {INT64_MAX, INT64_MAX}, empty[3] = {1LL << 40, 3, 0};
  DLTensor good = {.data = data, .device = {kDLCPU, 0}, .ndim = 2, .dtype = {kDLFloat, 32, 1}, .shape = shape}, t;
#define BAD(field, value, status)                                                             \
  do {                                                                                        \
    t = good;                                                                                 \
    t.field = value;                                                                          \
    refused(moor_put_tensor(store, KEY, &t, NULL, NULL), status, #field " = " #value, __LINE__); \
  } while (0)
  BAD(ndim, -1, MOOR_ERR_INVALID_ARGUMENT);
  BAD(ndim, MOOR_MAX_DIMS + 1, MOOR_ERR_INVALID_ARGUMENT);
  BAD(shape, NULL, MOOR_ERR_INVALID_ARGUMENT);
  BAD(shape, negative, MOOR_ERR_INVALID_ARGUMENT);
  BAD(shape, absurd, MOOR_ERR_INVALID_ARGUMENT);
  BAD(data, NULL, MOOR_ERR_INVALID_ARGUMENT);
  BAD(device.device_type, kDLCUDA, MOOR_ERR_UNSUPPORTED);
  EXPECT(strstr(moor_last_error(), "CUDA") != NULL);
  BAD(device.device_type, (DLDeviceType)99, MOOR_ERR_UNSUPPORTED);
  BAD(dtype.code, 99, MOOR_ERR_UNSUPPORTED);
  BAD(dtype.code, kDLOpaqueHandle, MOOR_ERR_UNSUPPORTED);
  BAD(dtype.bits, 0, MOOR_ERR_UNSUPPORTED);
  BAD(dtype.bits, 31, MOOR_ERR_UNSUPPORTED);
  BAD(dtype.lanes, 0, MOOR_ERR_UNSUPPORTED);
  t = good;
  t.ndim = 3;
  t.shape = empty;
  t.data = NULL;
  EXPECT_OK(moor_put_tensor(store, "empty", 5, &t, NULL, NULL));
  EXPECT_OK(moor_remove(store, "empty", 5));
}

static void stale_snapshots(void) {
  moor_snapshot ended;
  EXPECT_OK(moor_snapshot_open(store, NULL, NULL, 0, &ended));
  EXPECT_OK(moor_snapshot_close(ended));
  /* Zero, closed, other kinds, a slot that never was, another serial, another kind in the highest bits, anything. */
  const uint64_t ids[] = {0,
                          ended.id,
                          store.id,
                          closed.id,
                          snapshot.id ^ 0x800,
                          snapshot.id ^ 0xFFFFF,
                          snapshot.id ^ (1ULL << 20),
                          snapshot.id ^ (1ULL << 56),
                          UINT64_MAX};
  for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
    moor_snapshot s = {ids[i]};
    moor_keys keys_out;
    uint64_t n;
    DLManagedTensorVersioned *t;
    DLManagedTensor *plain;
    moor_buffer b;
    moor_snapshot_info info = {.struct_size = sizeof info};
    STALE(moor_snapshot_close(s));
    STALE(moor_snapshot_get_keys(s, &keys_out));
    STALE(moor_snapshot_find(s, KEY, &n));
    STALE(moor_snapshot_get_tensor(s, 0, MOOR_MODE_VIEW, &t));
    STALE(moor_snapshot_get_tensor_unversioned(s, 0, MOOR_MODE_VIEW, &plain));
    STALE(moor_snapshot_get_buffer(s, 0, MOOR_MODE_VIEW, &b));
    STALE(moor_snapshot_get_info(s, &info));
  }
}

static void handles(void) {
  moor_store foreign = {store.id ^ (1ULL << 40)};
  moor_store odd[3] = {none, closed, foreign};
  moor_reservation r;
  void *data;
  EXPECT_OK(moor_reserve(store, 8, &r, &data));
  for (int i = 0; i < 5; i++) {
    moor_store s = i < 3 ? odd[i] : (moor_store){i == 3 ? r.id : snapshot.id};
    DLManagedTensorVersioned *t;
    DLManagedTensor *u;
    DLTensor like = {.dtype = {kDLFloat, 32, 1}, .device = {kDLCPU, 0}, .data = &s};
    moor_buffer b;
    moor_reservation other;
    char out[8];
    uint64_t n = 0, m, ends[1] = {1};
    uint8_t found;
    int32_t status = 1;
    moor_keys keys = {"k", ends, 1};
    moor_part part = {"x", 1};
    moor_span span = {out, 8};
    moor_stats stats = {.struct_size = sizeof stats};
    moor_description d = {.struct_size = sizeof d};
    moor_borrow borrow;
    const DLTensor *const in[1] = {&like};
    STALE(moor_store_close(s, 0));
    STALE(moor_put(s, KEY, "x", 1, NULL, NULL));
    STALE(moor_put_parts(s, KEY, &part, 1, NULL, NULL));
    STALE(moor_put_tensor(s, KEY, &like, NULL, NULL));
    STALE(moor_reserve(s, 8, &other, &data));
    STALE(moor_empty_tensor(s, &like, &t));
    STALE(moor_adopt_tensor(s, KEY, &like, NULL, NULL));
    STALE(moor_get_tensor(s, KEY, MOOR_MODE_VIEW, &t));
    STALE(moor_get_tensor_unversioned(s, KEY, MOOR_MODE_VIEW, &u));
    STALE(moor_get_buffer(s, KEY, MOOR_MODE_VIEW, &b));
    STALE(moor_get(s, KEY, out, 8, &n));
    STALE(moor_get_into(s, KEY, 0, MOOR_ALL, &span, 1, &n));
    STALE(moor_take_tensor(s, KEY, &t));
    STALE(moor_remove(s, KEY));
    STALE(moor_clear(s, NULL));
    STALE(moor_pin(s, KEY));
    STALE(moor_unpin(s, KEY));
    STALE(moor_describe(s, KEY, &d));
    STALE(moor_list_keys(s, NULL, 0, &n, out, 8, ends, 1, &m));
    STALE(moor_list_borrows(s, out, 8, &borrow, 1, &n, &m));
    ends[0] = 1;
    STALE(moor_get_tensors(s, &keys, MOOR_MODE_VIEW, &t, &status));
    STALE(moor_get_buffers(s, &keys, MOOR_MODE_VIEW, &b, &status));
    STALE(moor_put_batch(s, &keys, &part, ends, NULL, NULL, &status));
    STALE(moor_put_tensors(s, &keys, in, NULL, NULL, &status));
    STALE(moor_get_batch_into(s, &keys, NULL, NULL, &span, ends, NULL, &status));
    STALE(moor_remove_batch(s, &keys, &status));
    STALE(moor_exists(s, &keys, &found));
    STALE(moor_count_leading(s, &keys, &n));
    STALE(moor_count_objects(s, &n, &n));
    moor_snapshot snap;
    STALE(moor_wait(s, &keys, 0));
    STALE(moor_snapshot_open(s, &keys, NULL, 0, &snap));
    STALE(moor_snapshot_open(s, NULL, "k", 1, &snap));
    STALE(moor_register_memory(s, out, 8, NULL, &(moor_registration){0}));
    STALE(moor_find_registration(s, out, 8, &(moor_registration_info){.struct_size = sizeof(moor_registration_info)}));
    STALE(moor_registration_release((moor_registration){s.id}, 0));
    STALE(moor_attach_device(s, "x", NULL));
    STALE(moor_detach_device(s, "x", 0));
    STALE(moor_list_attached(s, NULL, 0, &(uint64_t){0}));
    STALE(moor_get_stats(s, &stats));
    STALE(moor_trim(s, NULL));
    STALE(moor_persist(s, &keys, &status));
    STALE(moor_flush(s));
    STALE(moor_get_disk_stats(s, &(moor_disk_stats){.struct_size = sizeof(moor_disk_stats)}));
    STALE(moor_get_timings(s, NULL, 0, &n, NULL));
    STALE(moor_list_operations(s, NULL, 0, &n));
    STALE(moor_import_safetensors(s, "/nonexistent", NULL, 0, NULL, NULL));
    STALE(moor_export_safetensors(s, "/nonexistent/x", &keys, 0, NULL));
    EXPECT(status == 1);
  }
  stale_snapshots();
  STALE(moor_abort((moor_reservation){snapshot.id}));
  STALE(moor_abort((moor_reservation){0}));
  STALE(moor_abort((moor_reservation){store.id}));
  STALE(moor_commit((moor_reservation){store.id}, KEY, NULL, NULL, NULL));
  EXPECT_OK(moor_abort(r));
  STALE(moor_commit(r, KEY, NULL, NULL, NULL));
}

/* What cannot be registered. */
static void registering(void) {
  char out[64];
  moor_registration r = {77};
  moor_register_options options = {.struct_size = sizeof options, .flags = 6};
  moor_registration_info info = {.struct_size = sizeof info, .offset = 77};
  INVALID(moor_register_memory(store, out, 0, NULL, &r));
  INVALID(moor_register_memory(store, out, ABSURD, NULL, &r));
  INVALID(moor_register_memory(store, (void *)4096, 8, NULL, &r));
  INVALID(moor_register_memory(store, out, 1ull << 60, NULL, &r));
  INVALID(moor_register_memory(store, out, 8, &options, &r));
  options = (moor_register_options){.struct_size = 3};
  INVALID(moor_register_memory(store, out, 8, &options, &r));
  DLManagedTensorVersioned *v;
  EXPECT_OK(moor_get_tensor(store, KEY, MOOR_MODE_VIEW, &v));
  INVALID(moor_register_memory(store, v->dl_tensor.data, 7, NULL, &r));
  v->deleter(v);
  INVALID(moor_find_registration(store, out, ABSURD, &info));
  refused(moor_find_registration(store, out, 8, &info), MOOR_ERR_NOT_FOUND, "find what is not registered", __LINE__);
  info.struct_size = 4;
  INVALID(moor_find_registration(store, out, 8, &info));
  EXPECT(r.id == 77 && info.offset == 77);
}

static void disk_options(void) {
  const moor_disk_options good = {.struct_size = sizeof good, .path = "/nonexistent/moorage"};
  moor_store other = {77};
  moor_store_options options = {.struct_size = sizeof options, .capacity = 1u << 20};
#define WRONG(field, value)                      \
  do {                                         \
    moor_disk_options bad = good;              \
    bad.field = value;                         \
    options.disk = &bad;                       \
    INVALID(moor_store_open(&options, &other)); \
  } while (0)
  WRONG(struct_size, 4);
  WRONG(path, NULL);
  WRONG(path, "");
  WRONG(capacity, ABSURD);
  WRONG(capacity, 1);
  WRONG(durability, 4);
  WRONG(verify, 3);
  WRONG(promote, 3);
  WRONG(write, 2);
  WRONG(read_path, 3);
#undef WRONG
  moor_disk_options file = good;
  file.path = "/dev/null";
  file.capacity = 1u << 20;
  options.disk = &file;
  refused(moor_store_open(&options, &other), MOOR_ERR_IO, "open a disk in what is no directory", __LINE__);
  moor_directory_info info = {.struct_size = sizeof info};
  refused(moor_inspect_directory("/dev/null", &info), MOOR_ERR_IO, "inspect what is no directory", __LINE__);
  EXPECT(other.id == 77);
  int32_t status = 1;
  uint64_t end = 1, n;
  moor_keys one = {"k", &end, 1};
  refused(moor_persist(store, &one, &status), MOOR_ERR_UNSUPPORTED, "persist without a disk", __LINE__);
  refused(moor_flush(store), MOOR_ERR_UNSUPPORTED, "flush without a disk", __LINE__);
  refused(moor_list_operations(store, NULL, 0, &n), MOOR_ERR_UNSUPPORTED, "operations without a disk", __LINE__);
  EXPECT(status == 1);
}

/* Devices: those of the stand-in, or none. */
static void devices(void) {
  char long_name[MOOR_DEVICE_NAME + 1], out[MOOR_DEVICE_NAME] = "as it was";
  memset(long_name, 'x', sizeof long_name);
  long_name[MOOR_DEVICE_NAME] = 0;
  INVALID(moor_attach_device(store, "", out));
  INVALID(moor_attach_device(store, long_name, out));
  INVALID(moor_detach_device(store, long_name, 0));
  INVALID(moor_explain_device(long_name, 0, out, sizeof out));
  refused(moor_attach_device(store, "no such device", out), MOOR_ERR_NO_DEVICE, "attach what is not there", __LINE__);
  refused(moor_explain_device("no such device", 0, out, sizeof out), MOOR_ERR_NO_DEVICE, "explain what is not there", __LINE__);
  refused(moor_detach_device(store, "fake0", 0), MOOR_ERR_NOT_FOUND, "detach what is not attached", __LINE__);
  EXPECT(strcmp(out, "as it was") == 0);
  moor_store_options options = {.struct_size = sizeof options, .capacity = 1 << 20, .registering = 4};
  moor_store other;
  INVALID(moor_store_open(&options, &other));
  options.registering = 0, options.reserved = 1;
  INVALID(moor_store_open(&options, &other));
}

/* The destination of a copy lies in the store. */
/* What a producer has published, and a reservation, which may be filled from the store. */
static void destinations_of_producers(void) {
  int64_t shape = 64;
  DLTensor like = {.ndim = 1, .shape = &shape, .dtype = {kDLUInt, 8, 1}};
  DLManagedTensorVersioned *t;
  uint64_t n;
  EXPECT_OK(moor_empty_tensor(store, &like, &t));
  moor_span span = {t->dl_tensor.data, 64};
  EXPECT_OK(moor_get_into(store, KEY, 0, MOOR_ALL, &span, 1, &n));
  EXPECT_OK(moor_adopt_tensor(store, "adopted", 7, &t->dl_tensor, NULL, NULL));
  refused(moor_get_into(store, KEY, 0, MOOR_ALL, &span, 1, &n), MOOR_ERR_READ_ONLY, "get_into what was adopted", __LINE__);
  EXPECT_OK(moor_remove(store, "adopted", 7));
  refused(moor_get(store, KEY, span.data, 64, &n), MOOR_ERR_READ_ONLY, "get into what was adopted", __LINE__);
  t->deleter(t);
}

static void read_only_destinations(void) {
  static char outside[64];
  DLManagedTensorVersioned *v;
  uint64_t n = 77, ends[1] = {1}, span_ends[1] = {2};
  int32_t status;
  EXPECT_OK(moor_get_tensor(store, KEY, MOOR_MODE_VIEW, &v));
  char *inside = v->dl_tensor.data;
  moor_span spans[2] = {{outside, 1}, {inside, 64}};
  memset(outside, '.', sizeof outside);
  refused(moor_get(store, KEY, inside, 64, &n), MOOR_ERR_READ_ONLY, "get into a view", __LINE__);
  refused(moor_get_into(store, KEY, 0, MOOR_ALL, spans, 2, &n), MOOR_ERR_READ_ONLY, "get_into a view", __LINE__);
  EXPECT(n == 77 && outside[0] == '.');
  EXPECT_OK(moor_get_into(store, KEY, 0, 1, spans, 2, &n)); /* the second span is not reached */
  moor_keys keys = {"k", ends, 1};
  EXPECT_OK(moor_get_batch_into(store, &keys, NULL, NULL, spans, span_ends, NULL, &status));
  EXPECT(status == MOOR_ERR_READ_ONLY);
  v->deleter(v);
}

static void ranges(void) {
  char out[64];
  uint64_t n;
  moor_span span = {out, sizeof out};
  INVALID(moor_get_into(store, KEY, 8, MOOR_ALL, &span, 1, &n));
  INVALID(moor_get_into(store, KEY, 0, 8, &span, 1, &n));
  INVALID(moor_get_into(store, KEY, 3, ABSURD, &span, 1, &n));
  INVALID(moor_get_into(store, KEY, ABSURD, MOOR_ALL, &span, 1, &n));
  EXPECT_OK(moor_get_into(store, KEY, 7, MOOR_ALL, &span, 1, &n));
  EXPECT(n == 0);
}

static void nothing_changed(uint64_t seq) {
  char out[16] = "";
  uint64_t size;
  moor_stats stats = {.struct_size = sizeof stats};
  EXPECT_OK(moor_get(store, KEY, out, sizeof out, &size));
  EXPECT(size == 7 && memcmp(out, "as ever", 7) == 0);
  EXPECT_OK(moor_get_stats(store, &stats));
  EXPECT(stats.objects == 1 && stats.borrowed_objects == 1);
  moor_description d = {.struct_size = sizeof d};
  EXPECT_OK(moor_describe(store, KEY, &d));
  EXPECT(d.seq == seq && d.views == 1); /* the snapshot's */
}

int main(void) {
  moor_store_options options = {.struct_size = sizeof options, .capacity = 16u << 20};
  moor_put_result result;
  EXPECT_OK(moor_store_open(&options, &closed));
  EXPECT_OK(moor_store_close(closed, 0));
  EXPECT_OK(moor_store_open(&options, &store));
  EXPECT_OK(moor_put(store, KEY, "as ever", 7, NULL, &result));
  EXPECT_OK(moor_snapshot_open(store, NULL, NULL, 0, &snapshot));
  null_pointers();
  absurd_lengths();
  structs();
  dltensors();
  handles();
  destinations_of_producers();
  disk_options();
  read_only_destinations();
  ranges();
  registering();
  devices();
  nothing_changed(result.seq);
  EXPECT_OK(moor_snapshot_close(snapshot));
  EXPECT_OK(moor_store_close(store, 0));
  printf("ok %d calls refused\n", count);
  return 0;
}
