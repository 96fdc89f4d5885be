/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MOOR_VERSION_H_
#define MOOR_VERSION_H_

/* The version of the library; the build may set it. */
#ifndef MOOR_VERSION
#define MOOR_VERSION "0.1.0"
#endif

#endif
