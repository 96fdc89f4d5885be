/* SPDX-License-Identifier: Apache-2.0
 *
 * Entry points: network devices.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "check.h"

static int32_t check_name(const char *name) {
  size_t length = strnlen(name, MOOR_DEVICE_NAME);
  if (length >= 1 && length < MOOR_DEVICE_NAME) return MOOR_OK;
  return moor_fail(MOOR_ERR_INVALID_ARGUMENT, "name has %s bytes; names of devices have 1 to %d",
                   length == 0 ? "no" : "too many", MOOR_DEVICE_NAME - 1);
}

int32_t moor_list_devices(moor_device *devices, uint64_t devices_size, moor_device_list *list_out) {
  MOOR_ENTER();
  if (devices_size > 0) MOOR_NOT_NULL(devices);
  MOOR_NOT_NULL(list_out);
  uint32_t asked = list_out->struct_size;
  MOOR_TRY(moor_check_output_struct(asked, sizeof *list_out, "list_out"));
  moor_device_list list;
  memset(&list, 0, sizeof list);
  MOOR_TRY(moorgo_list_devices(MOOR_USED(devices, devices_size), devices_size, &list));
  memset(list_out, 0, asked);
  *list_out = list;
  list_out->struct_size = asked;
  return MOOR_OK;
}

int32_t moor_attach_device(moor_store store, const char *name, char *name_out) {
  MOOR_ENTER();
  if (name != NULL) MOOR_TRY(check_name(name));
  char attached[MOOR_DEVICE_NAME] = {0};
  MOOR_TRY(moorgo_attach_device(store.id, name, attached));
  if (name_out != NULL) memcpy(name_out, attached, sizeof attached);
  return MOOR_OK;
}

int32_t moor_detach_device(moor_store store, const char *name, uint64_t timeout_ns) {
  MOOR_ENTER();
  MOOR_NOT_NULL(name);
  MOOR_TRY(check_name(name));
  return moorgo_detach_device(store.id, name, timeout_ns);
}

int32_t moor_list_attached(moor_store store, moor_device_stats *stats, uint64_t stats_size, uint64_t *count_out) {
  MOOR_ENTER();
  if (stats_size > 0) MOOR_NOT_NULL(stats);
  MOOR_NOT_NULL(count_out);
  return moorgo_list_attached(store.id, MOOR_USED(stats, stats_size), stats_size, count_out);
}

int32_t moor_explain_device(const char *name, uint32_t registering, char *text_out, uint64_t text_size) {
  MOOR_ENTER();
  if (name != NULL) MOOR_TRY(check_name(name));
  if (registering > MOOR_REGISTERING_REQUIRE) {
    return moor_fail(MOOR_ERR_INVALID_ARGUMENT, "registering is %u; it is one of MOOR_REGISTERING_*", registering);
  }
  MOOR_NOT_NULL(text_out);
  MOOR_TRY(moor_check_memory(text_out, text_size, "text_out"));
  if (text_size == 0) return moor_fail(MOOR_ERR_INVALID_ARGUMENT, "text_size is 0");
  return moorgo_explain_device(name, registering, text_out, text_size);
}
