/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MOOR_TEST_EXPECT_H_
#define MOOR_TEST_EXPECT_H_

#include <stdio.h>
#include <stdlib.h>

#include "moorage.h"

/* Ends the program with the place and the last error when a condition does not hold. */
#define EXPECT(condition)                                                                                  \
  do {                                                                                                     \
    if (!(condition)) {                                                                                    \
      fprintf(stderr, "%s:%d: %s does not hold; last error: %s\n", __FILE__, __LINE__, #condition, moor_last_error()); \
      exit(1);                                                                                             \
    }                                                                                                      \
  } while (0)

#define EXPECT_STATUS(call, wanted)                                                                          \
  do {                                                                                                       \
    int32_t got_ = (call);                                                                                   \
    if (got_ != (wanted)) {                                                                                  \
      fprintf(stderr, "%s:%d: %s is %s, not %s; last error: %s\n", __FILE__, __LINE__, #call,                  \
              moor_status_name(got_), moor_status_name(wanted), moor_last_error());                            \
      exit(1);                                                                                               \
    }                                                                                                        \
  } while (0)

#define EXPECT_OK(call) EXPECT_STATUS(call, MOOR_OK)

#endif
