/* SPDX-License-Identifier: Apache-2.0
 *
 * Entry points: registered memory.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "check.h"

int32_t moor_register_memory(moor_store store, void *data, uint64_t size, const moor_register_options *options,
                             moor_registration *registration_out) {
  MOOR_ENTER();
  MOOR_NOT_NULL(data);
  if (size == 0) return moor_fail(MOOR_ERR_INVALID_ARGUMENT, "size is 0: there is nothing to register");
  MOOR_TRY(moor_check_memory(data, size, "data"));
  uint32_t flags = 0;
  if (options != NULL) {
    MOOR_TRY(moor_check_input_struct(options, sizeof *options, "options"));
    flags = options->flags;
  }
  if ((flags & ~MOOR_REGISTER_LOCK) != 0) {
    return moor_fail(MOOR_ERR_INVALID_ARGUMENT, "options->flags is 0x%x; it is 0 or MOOR_REGISTER_LOCK", flags);
  }
  MOOR_NOT_NULL(registration_out);
  if (moor_region_touches((uint64_t)(uintptr_t)data, size)) {
    return moor_fail(MOOR_ERR_INVALID_ARGUMENT, "data lies in the memory of a store, which registers that by itself");
  }
  uint64_t id;
  MOOR_TRY(moorgo_register(store.id, (uint64_t)(uintptr_t)data, size, flags, &id));
  registration_out->id = id;
  return MOOR_OK;
}

int32_t moor_registration_release(moor_registration registration, uint64_t timeout_ns) {
  MOOR_ENTER();
  return moorgo_registration_release(registration.id, timeout_ns);
}

int32_t moor_find_registration(moor_store store, const void *data, uint64_t size, moor_registration_info *info_out) {
  MOOR_ENTER();
  MOOR_NOT_NULL(data);
  MOOR_TRY(moor_check_memory(data, size, "data"));
  MOOR_NOT_NULL(info_out);
  uint32_t asked = info_out->struct_size;
  MOOR_TRY(moor_check_output_struct(asked, sizeof *info_out, "info_out"));
  moor_registration_info info;
  memset(&info, 0, sizeof info);
  MOOR_TRY(moorgo_find_registration(store.id, (uint64_t)(uintptr_t)data, size, &info));
  memset(info_out, 0, asked);
  *info_out = info;
  info_out->struct_size = asked;
  return MOOR_OK;
}
