/*
 * Keeps libmoorage.so loadable on glibc 2.17, whatever newer glibc it is built on.
 *
 * A symbol that glibc moved or revised carries a new version, and the linker takes the newest. Each line below asks
 * for the version that glibc 2.17 already had; the linker finds it in every later glibc, which keeps the old ones.
 * The build script includes this file in front of every C file of the program, those of Go's runtime/cgo as well, and
 * checks the result; a function that is missing here shows there, with the version that it would need.
 *
 * Only functions whose old version behaves alike may stand here. Functions that glibc 2.17 did not have at all
 * (memfd_create, gettid, getrandom, stat, fstat ...) cannot be had this way: call the kernel instead.
 */
#ifndef MOOR_GLIBC_FLOOR_H
#define MOOR_GLIBC_FLOOR_H

/* runtime/cgo has assembler files, and the header goes in front of those too. */
#if !defined(__ASSEMBLER__) && defined(__linux__)

#if defined(__x86_64__)
#define MOOR_FLOOR_AS(name, old, version) __asm__(".symver " #name "," #old "@" version);
#elif defined(__aarch64__)
/* The first glibc for this machine was 2.17: every old version has that name. */
#define MOOR_FLOOR_AS(name, old, version) __asm__(".symver " #name "," #old "@GLIBC_2.17");
#else
#define MOOR_FLOOR_AS(name, old, version)
#endif
#define MOOR_FLOOR(name, version) MOOR_FLOOR_AS(name, name, version)

/* libpthread became part of libc in 2.34 (a few functions in 2.32). */
MOOR_FLOOR(pthread_attr_getguardsize, "GLIBC_2.2.5")
MOOR_FLOOR(pthread_attr_getstack, "GLIBC_2.2.5")
MOOR_FLOOR(pthread_attr_getstacksize, "GLIBC_2.2.5")
MOOR_FLOOR(pthread_attr_setaffinity_np, "GLIBC_2.3.4")
MOOR_FLOOR(pthread_attr_setguardsize, "GLIBC_2.2.5")
MOOR_FLOOR(pthread_attr_setstack, "GLIBC_2.2.5")
MOOR_FLOOR(pthread_attr_setstacksize, "GLIBC_2.2.5")
MOOR_FLOOR(pthread_barrier_destroy, "GLIBC_2.2.5")
MOOR_FLOOR(pthread_barrier_init, "GLIBC_2.2.5")
MOOR_FLOOR(pthread_barrier_wait, "GLIBC_2.2.5")
MOOR_FLOOR(pthread_cancel, "GLIBC_2.2.5")
MOOR_FLOOR(pthread_condattr_setclock, "GLIBC_2.3.3")
MOOR_FLOOR(pthread_create, "GLIBC_2.2.5")
MOOR_FLOOR(pthread_detach, "GLIBC_2.2.5")
MOOR_FLOOR(pthread_getaffinity_np, "GLIBC_2.3.4")
MOOR_FLOOR(pthread_getattr_np, "GLIBC_2.2.5")
MOOR_FLOOR(pthread_getcpuclockid, "GLIBC_2.2.5")
MOOR_FLOOR(pthread_getname_np, "GLIBC_2.12")
MOOR_FLOOR(pthread_getspecific, "GLIBC_2.2.5")
MOOR_FLOOR(pthread_join, "GLIBC_2.2.5")
MOOR_FLOOR(pthread_key_create, "GLIBC_2.2.5")
MOOR_FLOOR(pthread_key_delete, "GLIBC_2.2.5")
MOOR_FLOOR(pthread_kill, "GLIBC_2.2.5")
MOOR_FLOOR(pthread_mutex_timedlock, "GLIBC_2.2.5")
MOOR_FLOOR(pthread_mutex_trylock, "GLIBC_2.2.5")
MOOR_FLOOR(pthread_mutexattr_destroy, "GLIBC_2.2.5")
MOOR_FLOOR(pthread_mutexattr_init, "GLIBC_2.2.5")
MOOR_FLOOR(pthread_mutexattr_settype, "GLIBC_2.2.5")
MOOR_FLOOR(pthread_once, "GLIBC_2.2.5")
MOOR_FLOOR(pthread_rwlock_destroy, "GLIBC_2.2.5")
MOOR_FLOOR(pthread_rwlock_init, "GLIBC_2.2.5")
MOOR_FLOOR(pthread_rwlock_rdlock, "GLIBC_2.2.5")
MOOR_FLOOR(pthread_rwlock_tryrdlock, "GLIBC_2.2.5")
MOOR_FLOOR(pthread_rwlock_trywrlock, "GLIBC_2.2.5")
MOOR_FLOOR(pthread_rwlock_unlock, "GLIBC_2.2.5")
MOOR_FLOOR(pthread_rwlock_wrlock, "GLIBC_2.2.5")
MOOR_FLOOR(pthread_setaffinity_np, "GLIBC_2.3.4")
MOOR_FLOOR(pthread_setname_np, "GLIBC_2.12")
MOOR_FLOOR(pthread_setspecific, "GLIBC_2.2.5")
MOOR_FLOOR(pthread_sigmask, "GLIBC_2.2.5")
MOOR_FLOOR(pthread_spin_init, "GLIBC_2.2.5")
MOOR_FLOOR(pthread_spin_lock, "GLIBC_2.2.5")
MOOR_FLOOR(pthread_spin_trylock, "GLIBC_2.2.5")
MOOR_FLOOR(pthread_spin_unlock, "GLIBC_2.2.5")
MOOR_FLOOR(sem_destroy, "GLIBC_2.2.5")
MOOR_FLOOR(sem_init, "GLIBC_2.2.5")
MOOR_FLOOR(sem_post, "GLIBC_2.2.5")
MOOR_FLOOR(sem_timedwait, "GLIBC_2.2.5")
MOOR_FLOOR(sem_trywait, "GLIBC_2.2.5")
MOOR_FLOOR(sem_wait, "GLIBC_2.2.5")

/* So did libdl, in 2.34. */
MOOR_FLOOR(dladdr, "GLIBC_2.2.5")
MOOR_FLOOR(dlclose, "GLIBC_2.2.5")
MOOR_FLOOR(dlerror, "GLIBC_2.2.5")
MOOR_FLOOR(dlopen, "GLIBC_2.2.5")
MOOR_FLOOR(dlsym, "GLIBC_2.2.5")
MOOR_FLOOR(dlvsym, "GLIBC_2.2.5")

/* Headers of glibc 2.28 and 2.38 rename these under the program's feet. */
MOOR_FLOOR_AS(fcntl64, fcntl, "GLIBC_2.2.5")
MOOR_FLOOR_AS(__isoc23_strtol, strtol, "GLIBC_2.2.5")
MOOR_FLOOR_AS(__isoc23_strtoll, strtoll, "GLIBC_2.2.5")
MOOR_FLOOR_AS(__isoc23_strtoul, strtoul, "GLIBC_2.2.5")
MOOR_FLOOR_AS(__isoc23_strtoull, strtoull, "GLIBC_2.2.5")
MOOR_FLOOR_AS(__isoc23_sscanf, __isoc99_sscanf, "GLIBC_2.7")

#undef MOOR_FLOOR
#undef MOOR_FLOOR_AS

#endif
#endif
