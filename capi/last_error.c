/* SPDX-License-Identifier: Apache-2.0
 *
 * The text of the last error, one per thread.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "layout.h"

#define TEXT_SIZE 1024

static __thread char text[TEXT_SIZE];

const char *moor_last_error(void) { return text; }

/* Ends the text before a UTF-8 character that was cut in two. */
static void end_text(size_t length) {
  size_t start = length;
  while (start > 0 && length - start < 3 && ((unsigned char)text[start - 1] & 0xC0) == 0x80) start--;
  if (start > 0) {
    unsigned char lead = (unsigned char)text[start - 1];
    size_t need = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC0 ? 2 : 1;
    if (length - (start - 1) < need) length = start - 1;
  }
  text[length] = 0;
}

int32_t moor_fail(int32_t status, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  int n = vsnprintf(text, TEXT_SIZE, format, arguments);
  va_end(arguments);
  if (n < 0) n = 0;
  if (n >= TEXT_SIZE) end_text(TEXT_SIZE - 1);
  return status;
}

void moor_set_error(const char *from, uint64_t size) {
  size_t n = size < TEXT_SIZE ? (size_t)size : TEXT_SIZE - 1;
  if (n > 0) memcpy(text, from, n);
  if (n < size) {
    end_text(n);
  } else {
    text[n] = 0;
  }
}
