/* SPDX-License-Identifier: Apache-2.0
 *
 * The Go exports behind the public entry points, as C sees them. Included by the Go files too, so that a wrong width
 * or kind of argument stops the build. entry.c has checked: the fork flag, NULL pointers, struct sizes, key lengths.
 * All return a status, and have set the text of the error on failure.
 */
#ifndef MOOR_EXPORTS_H_
#define MOOR_EXPORTS_H_

#include "layout.h"

/* cgo forgets const in its own prototypes; these names carry it. */
typedef const void *moor_cbytes;
typedef const moor_part *moor_cparts;
typedef const moor_span *moor_cspans;
typedef const DLTensor *moor_ctensor;
typedef const DLTensor *const *moor_ctensors;
typedef const moor_put_options *moor_cput_options;
typedef const moor_store_options *moor_cstore_options;
typedef const moor_file_options *moor_cfile_options;
typedef const moor_keys *moor_ckeys;
typedef const uint64_t *moor_cu64;
typedef const char *moor_cstring;

int32_t moorgo_store_open(moor_cstore_options options, uint64_t *id_out);
int32_t moorgo_store_close(uint64_t store, uint32_t flags);

int32_t moorgo_put_parts(uint64_t store, moor_cbytes key, uint64_t key_size, moor_cparts parts, uint64_t part_count,
                         moor_cput_options options, moor_put_result *result_out);
int32_t moorgo_put_tensor(uint64_t store, moor_cbytes key, uint64_t key_size, moor_ctensor tensor,
                          moor_cput_options options, moor_put_result *result_out);
int32_t moorgo_put_batch(uint64_t store, moor_ckeys keys, moor_cparts parts, moor_cu64 part_ends,
                         moor_cput_options options, moor_put_result *results_out, int32_t *statuses_out);
int32_t moorgo_put_tensors(uint64_t store, moor_ckeys keys, moor_ctensors tensors, moor_cput_options options,
                           moor_put_result *results_out, int32_t *statuses_out);

/* hold_out->data is the writer's address; the hold is the producer's. */
int32_t moorgo_reserve(uint64_t store, uint64_t size, uint64_t *reservation_out, uint64_t *data_out);
int32_t moorgo_commit(uint64_t reservation, moor_cbytes key, uint64_t key_size, moor_ctensor tensor,
                      moor_cput_options options, moor_put_result *result_out);
int32_t moorgo_abort(uint64_t reservation);
int32_t moorgo_empty(uint64_t store, moor_ctensor like, moor_hold *hold_out);
/* 1: some of the bytes belong to an object that was produced in place and has a name, or had one. */
int32_t moorgo_is_published(uint64_t address, uint64_t size);
int32_t moorgo_adopt(uint64_t store, moor_cbytes key, uint64_t key_size, moor_ctensor tensor,
                     moor_cput_options options, moor_put_result *result_out);

/* The look-up: counts one view and describes it. */
int32_t moorgo_get(uint64_t store, moor_cbytes key, uint64_t key_size, moor_hold *hold_out);
int32_t moorgo_get_batch(uint64_t store, moor_ckeys keys, moor_hold *holds_out, int32_t *statuses_out);
/* keys NULL: everything that starts with prefix. gathered_out has room made by moor_gather_room. */
int32_t moorgo_snapshot(uint64_t store, moor_ckeys keys, moor_cbytes prefix, uint64_t prefix_size,
                        moor_gathered *gathered_out);
int32_t moorgo_wait(uint64_t store, moor_ckeys keys, uint64_t timeout_ns);
int32_t moorgo_take(uint64_t store, moor_cbytes key, uint64_t key_size, moor_hold *hold_out);

int32_t moorgo_remove(uint64_t store, moor_cbytes key, uint64_t key_size);
int32_t moorgo_remove_batch(uint64_t store, moor_ckeys keys, int32_t *statuses_out);
int32_t moorgo_clear(uint64_t store, uint64_t *removed_out);
int32_t moorgo_pin(uint64_t store, moor_cbytes key, uint64_t key_size, uint32_t pinned);
int32_t moorgo_exists(uint64_t store, moor_ckeys keys, uint8_t *found_out);
int32_t moorgo_count_leading(uint64_t store, moor_ckeys keys, uint64_t *count_out);
int32_t moorgo_count_objects(uint64_t store, uint64_t *objects_out, uint64_t *views_out);
int32_t moorgo_describe(uint64_t store, moor_cbytes key, uint64_t key_size, moor_description *description_out);
int32_t moorgo_list_keys(uint64_t store, moor_cbytes prefix, uint64_t prefix_size, uint64_t *cursor, void *buffer,
                         uint64_t buffer_size, uint64_t *ends, uint64_t ends_size, uint64_t *count_out);
int32_t moorgo_list_borrows(uint64_t store, void *buffer, uint64_t buffer_size, moor_borrow *borrows,
                            uint64_t borrows_size, uint64_t *count_out, uint64_t *bytes_out);
int32_t moorgo_queue_open(uint64_t *queue_out);
int32_t moorgo_queue_close(uint64_t queue);
int32_t moorgo_queue_get_fd(uint64_t queue, int32_t *fd_out);
int32_t moorgo_queue_drain(uint64_t queue, moor_completion *completions_out, uint64_t room, uint64_t *count_out);
int32_t moorgo_submit_keys(uint64_t store, uint64_t queue, uint32_t kind, moor_ckeys keys, uint64_t tag,
                           uint64_t *job_out);
int32_t moorgo_submit_get_into(uint64_t store, uint64_t queue, moor_ckeys keys, moor_cu64 offsets, moor_cu64 nbytes,
                               moor_cspans spans, moor_cu64 span_ends, uint64_t tag, uint64_t *job_out);
int32_t moorgo_submit_put(uint64_t store, uint64_t queue, moor_ckeys keys, moor_cparts parts, moor_cu64 part_ends,
                          moor_cput_options options, uint64_t tag, uint64_t *job_out);
int32_t moorgo_submit_put_tensors(uint64_t store, uint64_t queue, moor_ckeys keys, moor_ctensors tensors,
                                  moor_cput_options options, uint64_t tag, uint64_t *job_out);
int32_t moorgo_job_cancel(uint64_t job);
int32_t moorgo_job_wait(uint64_t job, uint64_t timeout_ns);
int32_t moorgo_job_get_status(uint64_t job, uint64_t index);
int32_t moorgo_job_get_results(uint64_t job, uint64_t first, uint64_t count, moor_completion *results_out);
/* Hands over the views of keys from first on; a status each. */
int32_t moorgo_job_take(uint64_t job, uint64_t first, uint64_t count, moor_hold *holds_out, int32_t *statuses_out);
int32_t moorgo_job_close(uint64_t job);
/* Addresses go as numbers: nothing looks at what is there. */
int32_t moorgo_register(uint64_t store, uint64_t data, uint64_t size, uint32_t flags, uint64_t *registration_out);
int32_t moorgo_registration_release(uint64_t registration, uint64_t timeout_ns);
int32_t moorgo_find_registration(uint64_t store, uint64_t data, uint64_t size, moor_registration_info *info_out);
int32_t moorgo_persist(uint64_t store, moor_ckeys keys, int32_t *statuses_out);
int32_t moorgo_flush(uint64_t store);
int32_t moorgo_get_disk_stats(uint64_t store, moor_disk_stats *stats_out);
int32_t moorgo_inspect_directory(moor_cstring path, moor_directory_info *info_out);
int32_t moorgo_get_timings(uint64_t store, moor_timing *timings, uint64_t timings_size, uint64_t *count_out,
                           moor_timings_info *info_out);
int32_t moorgo_list_operations(uint64_t store, moor_operation *operations, uint64_t operations_size,
                               uint64_t *count_out);
/* From disk straight to data, which has room for `room` bytes. MOOR_ELSEWHERE: nothing was done, take the way through
 * memory, which also finds what is wrong. */
#define MOOR_ELSEWHERE 1
int32_t moorgo_read_into(uint64_t store, moor_cbytes key, uint64_t key_size, uint64_t offset, uint64_t nbytes,
                         uint64_t data, uint64_t room, uint64_t *copied_out);
int32_t moorgo_list_devices(moor_device *devices, uint64_t devices_size, moor_device_list *list_out);
int32_t moorgo_attach_device(uint64_t store, moor_cstring name, char *name_out);
int32_t moorgo_detach_device(uint64_t store, moor_cstring name, uint64_t timeout_ns);
int32_t moorgo_explain_device(moor_cstring name, uint32_t registering, char *text_out, uint64_t text_size);
int32_t moorgo_list_attached(uint64_t store, moor_device_stats *stats, uint64_t stats_size, uint64_t *count_out);
int32_t moorgo_get_stats(uint64_t store, moor_stats *stats_out);
int32_t moorgo_trim(uint64_t store, uint64_t *freed_out);
int32_t moorgo_import_safetensors(uint64_t store, moor_cstring path, moor_cbytes prefix, uint64_t prefix_size,
                                  moor_cfile_options options, uint64_t *count_out);
int32_t moorgo_export_safetensors(uint64_t store, moor_cstring path, moor_ckeys keys, uint64_t prefix_size,
                                  moor_cfile_options options);

#endif
