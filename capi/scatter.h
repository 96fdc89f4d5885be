/* SPDX-License-Identifier: Apache-2.0
 *
 * Copies out of the store into memory of the caller.
 */
#ifndef MOOR_SCATTER_H_
#define MOOR_SCATTER_H_

#include "layout.h"

/* Whether bytes may not be written to: they are a view's, or those of a producer that has published them. */
int moor_is_read_only(const void *data, uint64_t size);
int32_t moor_check_spans(const moor_span *spans, uint64_t count);
/* Copies nbytes from offset into checked spans and ends the hold. All is checked before the first byte is written. */
int32_t moor_scatter(const moor_hold *hold, uint64_t offset, uint64_t nbytes, const moor_span *spans, uint64_t count,
                     uint64_t *copied_out);

#endif
