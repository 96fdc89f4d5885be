/* SPDX-License-Identifier: Apache-2.0
 *
 * Notices: that something went another way than was asked for. They are told to the host program's log, if it listens,
 * never printed. The host is asked to listen later, on a thread of its own: nothing of it runs under our locks.
 */
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "layout.h"
#include "pybuiltin.h"

static _Atomic(moor_py_later) later;
static _Atomic(moor_py_tell) tell;

void moor_py_listen(moor_py_later how, moor_py_tell what) {
  atomic_store(&later, NULL);
  atomic_store(&tell, what);
  atomic_store(&later, how);
}

void moor_notice(uint32_t what) {
  moor_py_later how = atomic_load(&later);
  if (how != NULL) how(atomic_load(&tell), (void *)(uintptr_t)what);
}
