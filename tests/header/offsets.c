/* SPDX-License-Identifier: Apache-2.0
 *
 * Prints the size of every struct of the header and the place and size of every field, as the C compiler has them, and the
 * constants, as JSON. tests compare this with the declarations in Python.
 */
#include <stddef.h>
#include <stdio.h>

#include "moorage.h"

static const char *between = "";
static const char *field_between;

#define STRUCT(type)                                                                   \
  printf("%s\n    \"%s\": {\"size\": %zu, \"fields\": {", between, #type, sizeof(type)); \
  between = ",";                                                                       \
  field_between = ""
#define FIELD(type, name)                                                                                          \
  printf("%s\"%s\": [%zu, %zu]", field_between, #name, offsetof(type, name), sizeof(((type *)0)->name)); \
  field_between = ", "
#define END() printf("}}")
#define NUMBER(name)                                                     \
  printf("%s\n    \"%s\": %lld", between, #name, (long long)(name)); \
  between = ","

static void structs(void) {
  STRUCT(DLPackVersion);
  FIELD(DLPackVersion, major);
  FIELD(DLPackVersion, minor);
  END();
  STRUCT(DLDevice);
  FIELD(DLDevice, device_type);
  FIELD(DLDevice, device_id);
  END();
  STRUCT(DLDataType);
  FIELD(DLDataType, code);
  FIELD(DLDataType, bits);
  FIELD(DLDataType, lanes);
  END();
  STRUCT(DLTensor);
  FIELD(DLTensor, data);
  FIELD(DLTensor, device);
  FIELD(DLTensor, ndim);
  FIELD(DLTensor, dtype);
  FIELD(DLTensor, shape);
  FIELD(DLTensor, strides);
  FIELD(DLTensor, byte_offset);
  END();
  STRUCT(DLManagedTensor);
  FIELD(DLManagedTensor, dl_tensor);
  FIELD(DLManagedTensor, manager_ctx);
  FIELD(DLManagedTensor, deleter);
  END();
  STRUCT(DLManagedTensorVersioned);
  FIELD(DLManagedTensorVersioned, version);
  FIELD(DLManagedTensorVersioned, manager_ctx);
  FIELD(DLManagedTensorVersioned, deleter);
  FIELD(DLManagedTensorVersioned, flags);
  FIELD(DLManagedTensorVersioned, dl_tensor);
  END();
  STRUCT(moor_store);
  FIELD(moor_store, id);
  END();
  STRUCT(moor_store_options);
  FIELD(moor_store_options, struct_size);
  FIELD(moor_store_options, eviction);
  FIELD(moor_store_options, capacity);
  FIELD(moor_store_options, hugepages);
  FIELD(moor_store_options, prefault);
  END();
  STRUCT(moor_put_options);
  FIELD(moor_put_options, struct_size);
  FIELD(moor_put_options, if_exists);
  FIELD(moor_put_options, meta);
  FIELD(moor_put_options, meta_size);
  FIELD(moor_put_options, flags);
  FIELD(moor_put_options, reserved);
  END();
  STRUCT(moor_put_result);
  FIELD(moor_put_result, seq);
  FIELD(moor_put_result, outcome);
  FIELD(moor_put_result, reserved);
  END();
  STRUCT(moor_part);
  FIELD(moor_part, data);
  FIELD(moor_part, size);
  END();
  STRUCT(moor_reservation);
  FIELD(moor_reservation, id);
  END();
  STRUCT(moor_buffer);
  FIELD(moor_buffer, version);
  FIELD(moor_buffer, flags);
  FIELD(moor_buffer, release);
  FIELD(moor_buffer, private_data);
  FIELD(moor_buffer, data);
  FIELD(moor_buffer, size);
  FIELD(moor_buffer, seq);
  FIELD(moor_buffer, dtype);
  FIELD(moor_buffer, ndim);
  FIELD(moor_buffer, shape);
  FIELD(moor_buffer, meta);
  FIELD(moor_buffer, meta_size);
  END();
  STRUCT(moor_span);
  FIELD(moor_span, data);
  FIELD(moor_span, size);
  END();
  STRUCT(moor_description);
  FIELD(moor_description, struct_size);
  FIELD(moor_description, flags);
  FIELD(moor_description, size);
  FIELD(moor_description, extent);
  FIELD(moor_description, seq);
  FIELD(moor_description, views);
  FIELD(moor_description, dtype);
  FIELD(moor_description, ndim);
  FIELD(moor_description, shape);
  FIELD(moor_description, meta_size);
  FIELD(moor_description, meta);
  END();
  STRUCT(moor_borrow);
  FIELD(moor_borrow, key_end);
  FIELD(moor_borrow, views);
  FIELD(moor_borrow, size);
  FIELD(moor_borrow, seq);
  FIELD(moor_borrow, flags);
  FIELD(moor_borrow, record);
  END();
  STRUCT(moor_keys);
  FIELD(moor_keys, bytes);
  FIELD(moor_keys, ends);
  FIELD(moor_keys, count);
  END();
  STRUCT(moor_queue);
  FIELD(moor_queue, id);
  END();
  STRUCT(moor_job);
  FIELD(moor_job, id);
  END();
  STRUCT(moor_completion);
  FIELD(moor_completion, job);
  FIELD(moor_completion, tag);
  FIELD(moor_completion, index);
  FIELD(moor_completion, status);
  FIELD(moor_completion, flags);
  FIELD(moor_completion, value);
  FIELD(moor_completion, outcome);
  FIELD(moor_completion, reserved);
  FIELD(moor_completion, wait_ns);
  FIELD(moor_completion, run_ns);
  END();
  STRUCT(moor_snapshot);
  FIELD(moor_snapshot, id);
  END();
  STRUCT(moor_snapshot_info);
  FIELD(moor_snapshot_info, struct_size);
  FIELD(moor_snapshot_info, flags);
  FIELD(moor_snapshot_info, objects);
  FIELD(moor_snapshot_info, bytes);
  FIELD(moor_snapshot_info, child_windows);
  FIELD(moor_snapshot_info, child_window_copies);
  FIELD(moor_snapshot_info, child_bytes_copied);
  END();
  STRUCT(moor_stats);
  FIELD(moor_stats, struct_size);
  FIELD(moor_stats, hugepages);
  FIELD(moor_stats, capacity);
  FIELD(moor_stats, used);
  FIELD(moor_stats, free_warm);
  FIELD(moor_stats, free_cold);
  FIELD(moor_stats, largest_free);
  FIELD(moor_stats, resident);
  FIELD(moor_stats, metadata);
  FIELD(moor_stats, objects);
  FIELD(moor_stats, pinned_objects);
  FIELD(moor_stats, pinned_bytes);
  FIELD(moor_stats, borrowed_objects);
  FIELD(moor_stats, borrowed_bytes);
  FIELD(moor_stats, held_bytes);
  FIELD(moor_stats, children);
  FIELD(moor_stats, children_unfollowed);
  FIELD(moor_stats, windows);
  FIELD(moor_stats, puts);
  FIELD(moor_stats, gets);
  FIELD(moor_stats, misses);
  FIELD(moor_stats, removes);
  FIELD(moor_stats, evictions);
  FIELD(moor_stats, adoptions);
  FIELD(moor_stats, adopt_copies);
  FIELD(moor_stats, bytes_copied_in);
  FIELD(moor_stats, bytes_copied_out);
  FIELD(moor_stats, window_copies);
  FIELD(moor_stats, protected_extents);
  FIELD(moor_stats, last_seq);
  FIELD(moor_stats, registrations);
  FIELD(moor_stats, registered_bytes);
  FIELD(moor_stats, locked_bytes);
  FIELD(moor_stats, devices);
  FIELD(moor_stats, slab_bytes);
  FIELD(moor_stats, device_registrations);
  FIELD(moor_stats, register_ns);
  END();
  STRUCT(moor_registration);
  FIELD(moor_registration, id);
  END();
  STRUCT(moor_register_options);
  FIELD(moor_register_options, struct_size);
  FIELD(moor_register_options, flags);
  END();
  STRUCT(moor_registration_info);
  FIELD(moor_registration_info, struct_size);
  FIELD(moor_registration_info, flags);
  FIELD(moor_registration_info, registration);
  FIELD(moor_registration_info, offset);
  FIELD(moor_registration_info, size);
  FIELD(moor_registration_info, in_flight);
  END();
  STRUCT(moor_file_options);
  FIELD(moor_file_options, struct_size);
  FIELD(moor_file_options, if_exists);
  FIELD(moor_file_options, progress);
  FIELD(moor_file_options, context);
  END();
}

static void numbers(void) {
  NUMBER(MOOR_ABI_LEVEL);
  NUMBER(MOOR_MAX_KEY);
  NUMBER(MOOR_MAX_META);
  NUMBER(MOOR_MAX_DIMS);
  NUMBER(MOOR_OK);
  NUMBER(MOOR_IN_PROGRESS);
  NUMBER(MOOR_ERR_INVALID_ARGUMENT);
  NUMBER(MOOR_ERR_BAD_HANDLE);
  NUMBER(MOOR_ERR_FORKED);
  NUMBER(MOOR_ERR_NOT_FOUND);
  NUMBER(MOOR_ERR_EXISTS);
  NUMBER(MOOR_ERR_CAPACITY);
  NUMBER(MOOR_ERR_NO_MEMORY);
  NUMBER(MOOR_ERR_BUSY);
  NUMBER(MOOR_ERR_TOO_SMALL);
  NUMBER(MOOR_ERR_READ_ONLY);
  NUMBER(MOOR_ERR_UNSUPPORTED);
  NUMBER(MOOR_ERR_HUGE_PAGES);
  NUMBER(MOOR_ERR_ALREADY_ADOPTED);
  NUMBER(MOOR_ERR_CANCELLED);
  NUMBER(MOOR_ERR_IO);
  NUMBER(MOOR_ERR_FORMAT);
  NUMBER(MOOR_ERR_SYSTEM);
  NUMBER(MOOR_ERR_INTERNAL);
  NUMBER(MOOR_ERR_TIMEOUT);
  NUMBER(MOOR_EVICT_NONE);
  NUMBER(MOOR_EVICT_S3FIFO);
  NUMBER(MOOR_HUGE_OFF);
  NUMBER(MOOR_HUGE_TRY);
  NUMBER(MOOR_HUGE_REQUIRE);
  NUMBER(MOOR_PREFAULT_NONE);
  NUMBER(MOOR_PREFAULT_BACKGROUND);
  NUMBER(MOOR_PREFAULT_OPEN);
  NUMBER(MOOR_CLOSE_WAIT);
  NUMBER(MOOR_IF_EXISTS_REPLACE);
  NUMBER(MOOR_IF_EXISTS_KEEP);
  NUMBER(MOOR_IF_EXISTS_RAISE);
  NUMBER(MOOR_PUT_AS_BYTES);
  NUMBER(MOOR_PUT_NO_PROTECT);
  NUMBER(MOOR_PUT_ATOMIC);
  NUMBER(MOOR_STORED);
  NUMBER(MOOR_KEPT);
  NUMBER(MOOR_ADOPTED);
  NUMBER(MOOR_MODE_VIEW);
  NUMBER(MOOR_MODE_COW);
  NUMBER(MOOR_MODE_COPY);
  NUMBER(MOOR_BUFFER_READ_ONLY);
  NUMBER(MOOR_BUFFER_TENSOR);
  NUMBER(MOOR_BUFFER_COPIED);
  NUMBER(MOOR_DESC_TENSOR);
  NUMBER(MOOR_DESC_PINNED);
  NUMBER(MOOR_DESC_ADOPTED);
  NUMBER(MOOR_REGISTER_LOCK);
  NUMBER(MOOR_REGISTERED_STORE);
  NUMBER(MOOR_REGISTERED_LOCKED);
  NUMBER(MOOR_BORROW_UNNAMED);
  NUMBER(MOOR_BORROW_RESERVED);
  NUMBER(MOOR_BORROW_CHILD);
  NUMBER(MOOR_SNAPSHOT_FORKED);
  NUMBER(MOOR_COMPLETION_LAST);
  NUMBER(MOOR_JOB_GET);
  NUMBER(MOOR_JOB_GET_INTO);
  NUMBER(MOOR_JOB_PUT);
  NUMBER(MOOR_JOB_PREFETCH);
  NUMBER(MOOR_JOB_EXISTS);
  NUMBER(MOOR_JOB_REMOVE);
  NUMBER(MOOR_JOB_PERSIST);
}

int main(void) {
  printf("{\n  \"structs\": {");
  structs();
  between = "";
  printf("\n  },\n  \"numbers\": {");
  numbers();
  printf("\n  }\n}\n");
  return 0;
}
