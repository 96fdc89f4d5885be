/* SPDX-License-Identifier: Apache-2.0 */
#include <stddef.h>
#include <stdint.h>

#include "check.h"

#define MOST ((uint64_t)PTRDIFF_MAX)

typedef unsigned long long ull;

int32_t moor_refuse_forked(void) {
  return moor_fail(MOOR_ERR_FORKED,
                   "this process was forked from one that uses moorage, and its stores stay with the parent; views and "
                   "snapshots taken before the fork stay readable. Take a snapshot first, or start workers with spawn or "
                   "forkserver");
}

int32_t moor_check_not_null(const void *pointer, const char *name) {
  return pointer != NULL ? MOOR_OK : moor_fail(MOOR_ERR_INVALID_ARGUMENT, "%s is NULL", name);
}

int32_t moor_check_memory(const void *data, uint64_t size, const char *name) {
  if (size > MOST) return moor_fail(MOOR_ERR_INVALID_ARGUMENT, "the size of %s is %llu bytes", name, (ull)size);
  if (data == NULL && size > 0) {
    return moor_fail(MOOR_ERR_INVALID_ARGUMENT, "%s is NULL, and its size is %llu bytes", name, (ull)size);
  }
  return MOOR_OK;
}

int32_t moor_check_array(const void *entries, uint64_t count, uint64_t entry_size, const char *name) {
  if (entries == NULL && count > 0) return moor_fail(MOOR_ERR_INVALID_ARGUMENT, "%s is NULL", name);
  if (count <= (uint64_t)PTRDIFF_MAX / entry_size) return MOOR_OK;
  return moor_fail(MOOR_ERR_INVALID_ARGUMENT, "%s_size is %llu entries", name, (ull)count);
}

int32_t moor_check_key(const void *key, uint64_t key_size) {
  if (key == NULL) return moor_fail(MOOR_ERR_INVALID_ARGUMENT, "key is NULL");
  if (key_size < 1 || key_size > MOOR_MAX_KEY) {
    return moor_fail(MOOR_ERR_INVALID_ARGUMENT, "key has %llu bytes; keys have 1 to %d", (ull)key_size, MOOR_MAX_KEY);
  }
  return MOOR_OK;
}

int32_t moor_check_prefix(const void *prefix, uint64_t prefix_size) {
  if (prefix_size > MOOR_MAX_KEY) {
    return moor_fail(MOOR_ERR_INVALID_ARGUMENT, "prefix has %llu bytes; keys have at most %d", (ull)prefix_size,
                     MOOR_MAX_KEY);
  }
  return moor_check_memory(prefix, prefix_size, "prefix");
}

/* A struct cannot be absurdly larger than what any version of this library would know. */
#define STRUCT_ROOM 65536

int32_t moor_check_output_struct(uint32_t struct_size, uint64_t known, const char *name) {
  if (struct_size >= known && struct_size <= STRUCT_ROOM) return MOOR_OK;
  return moor_fail(MOOR_ERR_INVALID_ARGUMENT, "%s->struct_size is %u; set it to sizeof(the struct), which is %llu here",
                   name, struct_size, (ull)known);
}

int32_t moor_check_input_struct(const void *options, uint64_t known, const char *name) {
  uint32_t size = *(const uint32_t *)options;
  MOOR_TRY(moor_check_output_struct(size, known, name));
  for (const unsigned char *byte = (const unsigned char *)options + known; byte < (const unsigned char *)options + size;
       byte++) {
    if (*byte != 0) {
      return moor_fail(MOOR_ERR_INVALID_ARGUMENT, "%s asks for something that this library, ABI level %d, does not know",
                       name, MOOR_ABI_LEVEL);
    }
  }
  return MOOR_OK;
}

int32_t moor_check_put_options(const moor_put_options *options, uint32_t allowed_flags) {
  if (options == NULL) return MOOR_OK;
  MOOR_TRY(moor_check_input_struct(options, sizeof *options, "options"));
  if (options->if_exists > MOOR_IF_EXISTS_RAISE) {
    return moor_fail(MOOR_ERR_INVALID_ARGUMENT, "options->if_exists is %u; it is one of MOOR_IF_EXISTS_*",
                     options->if_exists);
  }
  if ((options->flags & ~allowed_flags) != 0) {
    return moor_fail(MOOR_ERR_INVALID_ARGUMENT, "options->flags is 0x%x; this call takes%s%s%s%s", options->flags,
                     allowed_flags == 0 ? " none" : "",
                     (allowed_flags & MOOR_PUT_AS_BYTES) != 0 ? " MOOR_PUT_AS_BYTES" : "",
                     (allowed_flags & MOOR_PUT_NO_PROTECT) != 0 ? " MOOR_PUT_NO_PROTECT" : "",
                     (allowed_flags & MOOR_PUT_ATOMIC) != 0 ? " MOOR_PUT_ATOMIC" : "");
  }
  if (options->reserved != 0) return moor_fail(MOOR_ERR_INVALID_ARGUMENT, "options->reserved is not 0");
  if (options->meta_size > MOOR_MAX_META) {
    return moor_fail(MOOR_ERR_INVALID_ARGUMENT, "options->meta_size is %llu bytes; user metadata has at most %d",
                     (ull)options->meta_size, MOOR_MAX_META);
  }
  return moor_check_memory(options->meta, options->meta_size, "options->meta");
}

int32_t moor_check_file_options(const moor_file_options *options) {
  if (options == NULL) return MOOR_OK;
  MOOR_TRY(moor_check_input_struct(options, sizeof *options, "options"));
  if (options->if_exists > MOOR_IF_EXISTS_RAISE) {
    return moor_fail(MOOR_ERR_INVALID_ARGUMENT, "options->if_exists is %u; it is one of MOOR_IF_EXISTS_*",
                     options->if_exists);
  }
  return MOOR_OK;
}

int32_t moor_check_choice(uint32_t value, uint32_t most, const char *name, const char *choices) {
  if (value <= most) return MOOR_OK;
  return moor_fail(MOOR_ERR_INVALID_ARGUMENT, "%s is %u; it is one of %s", name, value, choices);
}

int32_t moor_check_mode(uint32_t mode) {
  if (mode <= MOOR_MODE_COPY) return MOOR_OK;
  return moor_fail(MOOR_ERR_INVALID_ARGUMENT, "mode is %u; it is one of MOOR_MODE_*", mode);
}

int32_t moor_check_parts(const moor_part *parts, uint64_t count, int64_t index) {
  if (count > MOST / sizeof *parts) return moor_fail(MOOR_ERR_INVALID_ARGUMENT, "part_count is %llu", (ull)count);
  if (parts == NULL && count > 0) return moor_fail(MOOR_ERR_INVALID_ARGUMENT, "parts is NULL");
  uint64_t total = 0;
  for (uint64_t i = 0; i < count; i++) {
    if (parts[i].data == NULL && parts[i].size > 0) {
      return moor_fail(MOOR_ERR_INVALID_ARGUMENT, "parts[%llu].data is NULL, and its size is %llu bytes", (ull)i,
                       (ull)parts[i].size);
    }
    if (parts[i].size > MOST - total) {
      return index < 0 ? moor_fail(MOOR_ERR_INVALID_ARGUMENT, "the sizes of parts add up to more than memory can hold")
                       : moor_fail(MOOR_ERR_INVALID_ARGUMENT,
                                   "the sizes of the parts of key %lld add up to more than memory can hold",
                                   (long long)index);
    }
    total += parts[i].size;
  }
  return MOOR_OK;
}

int32_t moor_check_keys(const moor_keys *keys) {
  if (keys == NULL) return moor_fail(MOOR_ERR_INVALID_ARGUMENT, "keys is NULL");
  if (keys->count == 0) return MOOR_OK;
  if (keys->count > MOST / sizeof(moor_hold)) {
    return moor_fail(MOOR_ERR_INVALID_ARGUMENT, "keys->count is %llu", (ull)keys->count);
  }
  if (keys->bytes == NULL) return moor_fail(MOOR_ERR_INVALID_ARGUMENT, "keys->bytes is NULL");
  if (keys->ends == NULL) return moor_fail(MOOR_ERR_INVALID_ARGUMENT, "keys->ends is NULL");
  uint64_t start = 0;
  for (uint64_t i = 0; i < keys->count; i++) {
    uint64_t end = keys->ends[i];
    if (end <= start || end - start > MOOR_MAX_KEY || end > MOST) {
      return moor_fail(MOOR_ERR_INVALID_ARGUMENT,
                       "keys->ends[%llu] is %llu after %llu; keys have 1 to %d bytes, and their ends rise", (ull)i,
                       (ull)end, (ull)start, MOOR_MAX_KEY);
    }
    start = end;
  }
  return MOOR_OK;
}

int32_t moor_check_ends(const uint64_t *ends, uint64_t count, const void *array, uint64_t element, const char *name) {
  if (count == 0) return MOOR_OK;
  if (ends == NULL) return moor_fail(MOOR_ERR_INVALID_ARGUMENT, "%s_ends is NULL", name);
  uint64_t start = 0;
  for (uint64_t i = 0; i < count; i++) {
    if (ends[i] < start || ends[i] > MOST / element) {
      return moor_fail(MOOR_ERR_INVALID_ARGUMENT, "%s_ends[%llu] is %llu after %llu; ends do not fall", name, (ull)i,
                       (ull)ends[i], (ull)start);
    }
    start = ends[i];
  }
  if (array == NULL && start > 0) return moor_fail(MOOR_ERR_INVALID_ARGUMENT, "%ss is NULL", name);
  return MOOR_OK;
}

static const char *device_name(int32_t type) {
  static const char *const names[] = {"?",      "CPU",      "CUDA",   "CUDA host", "OpenCL",       "?",
                                      "?",      "Vulkan",   "Metal",  "VPI",       "ROCm",         "ROCm host",
                                      "ExtDev", "CUDA managed", "oneAPI", "WebGPU",    "Hexagon",      "MAIA"};
  return type >= 0 && type < (int32_t)(sizeof names / sizeof *names) ? names[type] : "?";
}

static int32_t check_device(const DLTensor *tensor, const char *name) {
  int32_t type = (int32_t)tensor->device.device_type;
  if (type == kDLCPU || type == kDLCUDAHost || type == kDLROCMHost) return MOOR_OK;
  return moor_fail(MOOR_ERR_UNSUPPORTED, "%s is on device type %d (%s); a store takes CPU memory: copy it there first",
                   name, (int)type, device_name(type));
}

/* Dense size in bytes; UINT64_MAX when it exceeds what memory can hold. */
static uint64_t dense_bytes(const DLTensor *t) {
  uint64_t bits = (uint64_t)t->dtype.bits * t->dtype.lanes;
  int huge = 0;
  for (int32_t i = 0; i < t->ndim; i++) {
    if (t->shape[i] == 0) return 0;
    if ((uint64_t)t->shape[i] > UINT64_MAX / bits) {
      huge = 1;
    } else if (!huge) {
      bits *= (uint64_t)t->shape[i];
    }
  }
  uint64_t bytes = bits / 8 + (bits % 8 != 0);
  return huge || bytes > MOST ? UINT64_MAX : bytes;
}

int32_t moor_check_tensor(const DLTensor *tensor, int with_data, const char *name) {
  if (tensor == NULL) return moor_fail(MOOR_ERR_INVALID_ARGUMENT, "%s is NULL", name);
  if (tensor->ndim < 0 || tensor->ndim > MOOR_MAX_DIMS) {
    return moor_fail(MOOR_ERR_INVALID_ARGUMENT, "%s->ndim is %d; tensors have 0 to %d dimensions", name, tensor->ndim,
                     MOOR_MAX_DIMS);
  }
  if (tensor->ndim > 0 && tensor->shape == NULL) {
    return moor_fail(MOOR_ERR_INVALID_ARGUMENT, "%s->shape is NULL, and ndim is %d", name, tensor->ndim);
  }
  for (int32_t i = 0; i < tensor->ndim; i++) {
    if (tensor->shape[i] < 0) {
      return moor_fail(MOOR_ERR_INVALID_ARGUMENT, "%s->shape[%d] is %lld", name, i, (long long)tensor->shape[i]);
    }
  }
  if (tensor->dtype.bits == 0 || tensor->dtype.lanes == 0) {
    return moor_fail(MOOR_ERR_UNSUPPORTED, "%s->dtype has %u bits and %u lanes", name, tensor->dtype.bits,
                     tensor->dtype.lanes);
  }
  uint64_t bytes = dense_bytes(tensor);
  if (bytes == UINT64_MAX) {
    return moor_fail(MOOR_ERR_INVALID_ARGUMENT, "the bytes of %s are more than memory can hold", name);
  }
  if (!with_data) return MOOR_OK;
  MOOR_TRY(check_device(tensor, name));
  if (tensor->data == NULL && bytes > 0) {
    return moor_fail(MOOR_ERR_INVALID_ARGUMENT, "%s->data is NULL, and it has %llu bytes", name, (ull)bytes);
  }
  return MOOR_OK;
}
