/* What a program of somebody else does with an installed Moorage. Compiled as C and as C++. */
#include <moorage.h>
#if defined(__cplusplus) && defined(__has_include)
#if __has_include(<moorage.hpp>)
#include <moorage.hpp>
#endif
#endif

#include <stdio.h>
#include <string.h>

#define CHECK(condition)                                                                            \
  do {                                                                                              \
    if (!(condition)) {                                                                             \
      fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #condition, moor_last_error());        \
      return 1;                                                                                     \
    }                                                                                               \
  } while (0)

int main(void) {
  static const char key[] = "greeting";
  static const char text[] = "bytes that never move";
  moor_store_options options;
  moor_store store;
  moor_buffer buffer;

  CHECK(moor_abi_level() >= MOOR_ABI_LEVEL);

  memset(&options, 0, sizeof options);
  options.struct_size = sizeof options;
  options.capacity = 16u << 20;
  CHECK(moor_store_open(&options, &store) == MOOR_OK);
  CHECK(moor_put(store, key, sizeof key - 1, text, sizeof text, NULL, NULL) == MOOR_OK);

  CHECK(moor_get_buffer(store, key, sizeof key - 1, MOOR_MODE_VIEW, &buffer) == MOOR_OK);
  CHECK(moor_remove(store, key, sizeof key - 1) == MOOR_OK);
  CHECK(moor_store_close(store, 0) == MOOR_OK);
  CHECK(moor_store_close(store, 0) == MOOR_ERR_BAD_HANDLE);
  CHECK(buffer.size == sizeof text && memcmp(buffer.data, text, sizeof text) == 0);
  buffer.release(&buffer);
  CHECK(buffer.release == NULL);

  printf("%s\n", moor_version());
  return 0;
}
