/* SPDX-License-Identifier: Apache-2.0
 *
 * Objects of Go's ask for these without a version, and would get that of the glibc at hand. The linker is told to take
 * them from here (--wrap), where glibc_floor.h says which version they are.
 */
#include <dlfcn.h>

void *__wrap_dlopen(const char *path, int mode);
void *__wrap_dlsym(void *library, const char *name);
char *__wrap_dlerror(void);
int __wrap_dlclose(void *library);

void *__wrap_dlopen(const char *path, int mode) { return dlopen(path, mode); }
void *__wrap_dlsym(void *library, const char *name) { return dlsym(library, name); }
char *__wrap_dlerror(void) { return dlerror(); }
int __wrap_dlclose(void *library) { return dlclose(library); }
