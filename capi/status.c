/* SPDX-License-Identifier: Apache-2.0
 *
 * Names of statuses, version, ABI level.
 */
#include "layout.h"
#include "version.h"

const char *moor_version(void) { return MOOR_VERSION; }

int32_t moor_abi_level(void) { return MOOR_ABI_LEVEL; }

const char *moor_status_name(int32_t status) {
  switch (status) {
#define NAME(s) \
  case s:       \
    return #s
    NAME(MOOR_OK);
    NAME(MOOR_IN_PROGRESS);
    NAME(MOOR_ERR_INVALID_ARGUMENT);
    NAME(MOOR_ERR_BAD_HANDLE);
    NAME(MOOR_ERR_FORKED);
    NAME(MOOR_ERR_NOT_FOUND);
    NAME(MOOR_ERR_EXISTS);
    NAME(MOOR_ERR_CAPACITY);
    NAME(MOOR_ERR_NO_MEMORY);
    NAME(MOOR_ERR_BUSY);
    NAME(MOOR_ERR_TOO_SMALL);
    NAME(MOOR_ERR_READ_ONLY);
    NAME(MOOR_ERR_UNSUPPORTED);
    NAME(MOOR_ERR_HUGE_PAGES);
    NAME(MOOR_ERR_ALREADY_ADOPTED);
    NAME(MOOR_ERR_CANCELLED);
    NAME(MOOR_ERR_IO);
    NAME(MOOR_ERR_FORMAT);
    NAME(MOOR_ERR_SYSTEM);
    NAME(MOOR_ERR_INTERNAL);
    NAME(MOOR_ERR_TIMEOUT);
    NAME(MOOR_ERR_NO_DEVICE);
#undef NAME
    default:
      return "MOOR_ERR_UNKNOWN";
  }
}
