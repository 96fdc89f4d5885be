/* SPDX-License-Identifier: Apache-2.0
 *
 * A C program that has nothing of Go's but libmoorage: registers with a real device, and asks the kernel what it has.
 */
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../../capi/expect.h"

#define KEY(k) (k), strlen(k)

enum { MIB = 1 << 20, CAPACITY = 96 * MIB, SLABS = 2 };

/* How many memory regions the kernel has. */
static long kernel_regions(void) {
  char line[256] = "";
  FILE *f = popen("rdma resource show", "r");
  EXPECT(f != NULL && fgets(line, sizeof line, f) != NULL);
  EXPECT(pclose(f) == 0);
  char *mr = strstr(line, " mr ");
  return mr == NULL ? -1 : strtol(mr + 4, NULL, 10);
}

static moor_device_stats one_device(moor_store store) {
  moor_device_stats stats;
  uint64_t count = 0;
  EXPECT_OK(moor_list_attached(store, &stats, 1, &count));
  EXPECT(count == 1);
  return stats;
}

static void what_there_is(void) {
  moor_device device;
  moor_device_list list = {.struct_size = sizeof list};
  char text[1024];
  EXPECT_OK(moor_list_devices(&device, 1, &list));
  EXPECT(list.missing == MOOR_MISSING_NOTHING && list.count == 1 && list.text[0] == 0);
  EXPECT(strcmp(device.name, "rxe0") == 0 && device.active == 1 && device.port == 1 && device.link == MOOR_LINK_ETHERNET);
  EXPECT_OK(moor_explain_device(NULL, MOOR_REGISTERING_AUTO, text, sizeof text));
  EXPECT(strncmp(text, "rxe0: ", 6) == 0);
  printf("%s", text);
}

/* The memory of the store, and that of the caller; the same numbers here and in the kernel. */
static void registered(moor_store store, char *memory) {
  moor_registration outer, inner;
  moor_registration_info info = {.struct_size = sizeof info};
  for (int i = 0; one_device(store).regions < SLABS && i < 5000; i++) usleep(2000); /* prefault is in the background */
  moor_device_stats stats = one_device(store);
  EXPECT(strcmp(stats.name, "rxe0") == 0 && stats.regions == SLABS && stats.bytes == CAPACITY && stats.register_ns > 0);
  EXPECT(kernel_regions() == SLABS);

  EXPECT_OK(moor_register_memory(store, memory, 8 * MIB, NULL, &outer));
  EXPECT_OK(moor_register_memory(store, memory + 100, 5000, NULL, &inner));
  EXPECT(one_device(store).regions == SLABS + 2 && kernel_regions() == SLABS + 2);
  EXPECT_OK(moor_find_registration(store, memory + MIB, MIB, &info));
  EXPECT(info.registration.id == outer.id && info.offset == MIB && info.in_flight == 0);
  EXPECT_OK(moor_registration_release(inner, 0));
  EXPECT_OK(moor_registration_release(outer, UINT64_MAX));
  EXPECT_STATUS(moor_find_registration(store, memory, 1, &info), MOOR_ERR_NOT_FOUND);
  EXPECT(one_device(store).registrations == SLABS + 2 && kernel_regions() == SLABS);

  char *nobody = mmap(NULL, MIB, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  EXPECT_STATUS(moor_register_memory(store, nobody, MIB, NULL, &outer), MOOR_ERR_INVALID_ARGUMENT); /* a card writes there */
  EXPECT(munmap(nobody, MIB) == 0 && kernel_regions() == SLABS);
}

/* Pages that were given back while the device had them: registered again by nobody but a transfer. */
static void trimmed(moor_store store, char *memory) {
  EXPECT_OK(moor_put(store, KEY("k"), memory, 8 * MIB, NULL, NULL));
  uint64_t made = one_device(store).registrations, freed = 0;
  EXPECT_OK(moor_remove(store, KEY("k")));
  EXPECT_OK(moor_trim(store, &freed));
  EXPECT(freed >= 8 * MIB && kernel_regions() == 0);
  EXPECT_OK(moor_put(store, KEY("k"), memory, 8 * MIB, NULL, NULL));
  EXPECT(one_device(store).registrations == made && kernel_regions() == 0); /* puts register nothing */
}

int main(void) {
  char name[MOOR_DEVICE_NAME];
  moor_store store;
  moor_store_options options = {.struct_size = sizeof options, .capacity = CAPACITY, .prefault = MOOR_PREFAULT_BACKGROUND};
  char *memory = mmap(NULL, 8 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  EXPECT(memory != MAP_FAILED);
  memset(memory, 7, 8 * MIB);
  what_there_is();
  EXPECT_OK(moor_store_open(&options, &store));
  EXPECT_STATUS(moor_attach_device(store, "mlx5_9", name), MOOR_ERR_NO_DEVICE);
  EXPECT_OK(moor_attach_device(store, NULL, name));
  EXPECT(strcmp(name, "rxe0") == 0);
  EXPECT_STATUS(moor_attach_device(store, "rxe0", NULL), MOOR_ERR_EXISTS);
  registered(store, memory);
  trimmed(store, memory);

  moor_registration kept;
  EXPECT_OK(moor_register_memory(store, memory, MIB, NULL, &kept));
  EXPECT(kernel_regions() == 1);
  EXPECT_OK(moor_detach_device(store, "rxe0", 0));
  EXPECT(kernel_regions() == 0);
  EXPECT_OK(moor_attach_device(store, "rxe0", NULL));
  EXPECT_OK(moor_store_close(store, MOOR_CLOSE_WAIT));
  for (int i = 0; kernel_regions() > 0 && i < 1000; i++) usleep(5000);
  EXPECT(kernel_regions() == 0);
  EXPECT_OK(moor_registration_release(kept, 0));
  printf("ok a C program\n");
  return 0;
}
