/* SPDX-License-Identifier: Apache-2.0
 *
 * What the entry points check before anything else. Each returns MOOR_OK, or a status with its text set.
 */
#ifndef MOOR_CHECK_H_
#define MOOR_CHECK_H_

#include "exports.h"

/* First in every function that returns a status: nothing else may be looked at in a forked child. */
#define MOOR_ENTER()             \
  do {                           \
    if (!moor_alive()) return moor_refuse_forked(); \
  } while (0)

/* Runs a check and hands on its status. */
#define MOOR_TRY(check)                 \
  do {                                  \
    int32_t status_ = (check);          \
    if (status_ != MOOR_OK) return status_; \
  } while (0)

#define MOOR_NOT_NULL(pointer) MOOR_TRY(moor_check_not_null((pointer), #pointer))

/* What goes on to Go when there may be nothing to point to: a pointer to nothing can be any number (that of an empty
 * slice in Rust is 1), and Go's runtime ends the process when it meets a small one on a stack. */
#define MOOR_USED(pointer, size) ((size) > 0 ? (pointer) : NULL)

int32_t moor_refuse_forked(void);
int32_t moor_check_not_null(const void *pointer, const char *name);
/* Memory of the caller: not NULL unless empty, no longer than there can be. */
int32_t moor_check_memory(const void *data, uint64_t size, const char *name);
/* Room for entries of so many bytes. */
int32_t moor_check_array(const void *entries, uint64_t count, uint64_t entry_size, const char *name);
int32_t moor_check_key(const void *key, uint64_t key_size);
int32_t moor_check_prefix(const void *prefix, uint64_t prefix_size);
/* known is the size of the struct here; a larger one must be zero beyond it. */
int32_t moor_check_input_struct(const void *options, uint64_t known, const char *name);
int32_t moor_check_output_struct(uint32_t struct_size, uint64_t known, const char *name);
int32_t moor_check_put_options(const moor_put_options *options, uint32_t allowed_flags);
int32_t moor_check_file_options(const moor_file_options *options);
int32_t moor_check_mode(uint32_t mode);
/* value is 0 up to most. */
int32_t moor_check_choice(uint32_t value, uint32_t most, const char *name, const char *choices);
/* index is that of the key in a batch, or -1. */
int32_t moor_check_parts(const moor_part *parts, uint64_t count, int64_t index);
int32_t moor_check_keys(const moor_keys *keys);
/* ends of vectors, one a key: rising, not beyond the array. */
int32_t moor_check_ends(const uint64_t *ends, uint64_t count, const void *array, uint64_t element, const char *name);

#define MOOR_SHAPE_ONLY 0 /* dtype and shape are read, data is not */
#define MOOR_WITH_DATA 1
int32_t moor_check_tensor(const DLTensor *tensor, int with_data, const char *name);

#endif
