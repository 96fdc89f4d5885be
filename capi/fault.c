/* SPDX-License-Identifier: Apache-2.0 */
#include "layout.h"
void moor_fault_install(void) {}
