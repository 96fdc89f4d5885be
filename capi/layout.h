/* SPDX-License-Identifier: Apache-2.0
 *
 * What Go and C share in memory: pin cells, the control page of a store, the words of the process, and the hold that
 * a look-up in Go hands to C. Go's side is core/arena/cell (layout.go, words.go); store.go checks sizes and offsets
 * against these when the package is compiled.
 */
#ifndef MOOR_LAYOUT_H_
#define MOOR_LAYOUT_H_

#include <stdint.h>

/* Everything is compiled with -fvisibility=hidden; what the public header declares is what the library shows. */
#pragma GCC visibility push(default)
#include "moorage.h"
#pragma GCC visibility pop

#ifdef __cplusplus
#error "layout.h is for the C side of the library only"
#endif

/* Word bits of a cell. */
#define MOOR_CELL_DEAD (1ULL << 63)
#define MOOR_CELL_OPEN (1ULL << 62)

/* Kinds and flags of a block of record memory. */
#define MOOR_KIND_FREE 0
#define MOOR_KIND_RECORD 1
#define MOOR_KIND_BODY 2
#define MOOR_FLAG_PROTECTED 1

#define MOOR_RECORD_UNIT 32

typedef struct moor_cell {
  uint64_t word; /* {DEAD, OPEN, count}; atomic */
  uint64_t pair; /* {first << 32 | last}; atomic */
  uint64_t off;
  uint64_t bytes;
  uint64_t seq;
  uint32_t next; /* atomic */
  uint32_t body;
  uint32_t block;
  uint32_t freq; /* atomic */
  uint16_t units;
  uint8_t kind;
  uint8_t flags;
  uint32_t before; /* units of the block in front, for the heap alone */
} moor_cell;

typedef struct moor_body {
  uint16_t key_len;
  uint16_t meta_len;
  uint8_t ndim;
  uint8_t dtype_code;
  uint8_t dtype_bits;
  uint8_t pinned;
  uint16_t dtype_lanes;
  uint8_t tensor;
  uint8_t pad[5];
  /* int64_t shape[ndim]; key; meta */
} moor_body;

_Static_assert(sizeof(moor_cell) == 64, "cell");
_Static_assert(sizeof(moor_body) == 16, "body");

/* The control page of a store: private memory, MADV_DONTFORK, unmapped when the last cell is home. A release touches it last
 * when it pushes. CLOSED lives in head itself, so that the push learns whether to wake the drain. */
#define MOOR_LIST_CLOSED (1ULL << 63)
typedef struct moor_control {
  uint64_t head;          /* {CLOSED, unit of the cell that died last, 0 = empty}; atomic */
  uint32_t closing;       /* 1: long copies into the store stop; atomic */
  uint32_t reserved;
  uint64_t windows;       /* copy-on-write windows mapped now; atomic */
  uint64_t window_copies; /* windows that had to be copies; atomic */
  uint64_t views;         /* tensors and buffers handed out that hold a cell; atomic */
  uint64_t copied_out;    /* bytes copied out of the store; atomic */
  uint64_t asked;         /* gets that only learnt the size, which the caller had no room for; atomic */
} moor_control;

/* The words of the process (Process in Go). */
#define MOOR_CHILDREN 1024
#define MOOR_CHILD_PERMANENT (MOOR_CHILDREN - 1)
typedef struct moor_process {
  uint32_t epoch; /* all atomic */
  uint32_t kids;
  uint32_t high;
  int32_t wake;
  uint64_t child[MOOR_CHILDREN]; /* epoch, 0 = free; [PERMANENT]: first << 32 | last epoch of unfollowed children */
} moor_process;

/* One region of a store, as the fork handlers, the fault line, and the windows know it. In ordinary memory (a child
 * reads it too); entries are made and ended under the fork lock. */
typedef struct moor_region {
  int32_t fd;
  uint32_t huge;     /* 1: 2 MiB pages */
  uint64_t writer;   /* address of the read-write mapping */
  uint64_t reader;   /* address of the read-only mapping */
  uint64_t park;     /* a second writable mapping, which nobody uses the addresses of; 0: none */
  uint64_t len;
  uint64_t dev, ino; /* of the memfd: a descriptor that somebody closed and reused is noticed */
  uint64_t records;  /* address of the record heap's directory, for the fault line */
} moor_region;

/* A counted view, made by Go's look-up, ended by moor_hold_release. Addresses as integers. */
#define MOOR_HOLD_TENSOR 1u /* dtype and shape are set */
typedef struct moor_hold {
  uint64_t cell;    /* moor_cell * */
  uint64_t control; /* moor_control * */
  uint64_t region;  /* moor_region * */
  uint64_t data;    /* address of the bytes */
  uint64_t size;    /* bytes of the object */
  uint64_t offset;  /* in the region */
  uint64_t seq;
  uint64_t shape;   /* const int64_t *, inside the record: valid while held */
  uint64_t meta;    /* const uint8_t *, same */
  uint32_t meta_size;
  uint32_t unit;    /* the cell's number in the return list */
  int32_t ndim;
  uint32_t flags;
  DLDataType dtype;
  uint32_t reserved;
} moor_hold;

/* Many holds, as Go gathers them for a snapshot. All from malloc. */
typedef struct moor_gathered {
  moor_hold *holds;
  uint64_t *ends; /* of the keys */
  char *keys;
  uint64_t count;
} moor_gathered;

/* A child as the watcher in Go gets it. */
typedef struct moor_child {
  uint32_t slot;
  int32_t pipe;  /* read end: EOF is the signal */
  int32_t token; /* memfd: sealing it against writes works once nobody maps it any more */
  uint32_t reserved;
} moor_child;

/* ---- in C, for Go and for the other C files ---- */

/* release.c */
void moor_hold_release(const moor_hold *hold); /* checks alive; in a forked child it does nothing */
/* The same without looking at the alive word: the caller has. */
void moor_cell_release(moor_cell *cell, moor_control *control, uint32_t unit);
void moor_wake(int fd); /* writes the eventfd; may set errno */
int moor_alive(void);                          /* 0 in a forked child, from its first instruction */
moor_process *moor_process_words(void);

/* fork.c: the fork lock covers the list of regions, and with it every open, close and unmap of one. */
int32_t moor_fork_init(void);                  /* once, before the first region: handlers, alive page, wake */
void moor_fork_lock(void);
void moor_fork_unlock(void);
moor_region *moor_region_add(const moor_region *like); /* its dev and ino are found out */
void moor_region_remove(moor_region *region);
int moor_region_overlaps(uint64_t address, uint64_t size); /* 1: lies partly in a read-only mapping */
int moor_region_touches(uint64_t address, uint64_t size);  /* the same, or in a writer's mapping */
int32_t moor_child_next(moor_child *child_out);            /* 1: one more child to watch, 0: none */
uint64_t moor_children_unfollowed(void);                   /* children that are held for ever */
/* 1 while the descriptor of the region is still the region's memfd. */
int moor_region_fd_valid(const moor_region *region);
/* The region whose reader (in_writer = 0) or writer (1) mapping has the address, copied. Takes no lock, so that a
 * signal handler can ask. 1: found. */
int moor_region_find(uint64_t address, moor_region *region_out, int *in_writer);

/* view.c: turn a hold into what is handed out, by mode. The hold is consumed: it belongs to the result, or has been
 * released when the mode made a copy or the call failed. */
#define MOOR_COW_MIN (64u << 10) /* from this size on MOOR_MODE_COW maps a window */
int32_t moor_view_tensor(const moor_hold *hold, uint32_t mode, DLManagedTensorVersioned **tensor_out);
int32_t moor_view_tensor_unversioned(const moor_hold *hold, uint32_t mode, DLManagedTensor **tensor_out);
int32_t moor_view_buffer(const moor_hold *hold, uint32_t mode, moor_buffer *buffer_out);
/* For what is the caller's alone, a reservation or a taken object. Its memory is had before the store is changed, so that
 * nothing can fail after: a block has room for any shape. */
typedef struct moor_block moor_block;
int32_t moor_block_new(moor_block **block_out);
void moor_block_free(moor_block *block);
/* The record that is held by what has this block as its context; 0: none, it is a copy. */
uint32_t moor_block_record(const moor_block *block);
DLManagedTensorVersioned *moor_view_own(const moor_hold *hold, moor_block *block); /* consumes both */

/* The counters that views made in a forked child have; those of the stores are not there. A hold without a cell names them
 * as its control. */
moor_control *moor_child_control(void);

/* snapshot.c: makes room in *gathered for so many holds and bytes of keys. */
int32_t moor_gather_room(moor_gathered *gathered, uint64_t count, uint64_t key_bytes);

/* copypool.c */
#define MOOR_COPY_SHARED (2u << 20) /* from this size on the pool helps */
#define MOOR_COPY_IN_ROWS (1u << 20) /* from this size on it helps with one copy behind the other */
/* 0, or 1 when *closing was seen set. closing may be NULL. */
int32_t moor_copy(uint64_t dst, uint64_t src, uint64_t size, const uint32_t *closing);

/* last_error.c */
int32_t moor_fail(int32_t status, const char *format, ...) __attribute__((format(printf, 2, 3))); /* returns status */
void moor_set_error(const char *text, uint64_t size);

/* entry_file.c: calls a progress callback for Go, which cannot call a C function pointer itself. */
int32_t moor_progress_call(moor_progress progress, uint64_t context, uint64_t done, uint64_t total);
int moor_in_progress(void); /* 1 while this thread is inside such a callback */

/* notice.c: something went another way than was asked for. From any thread, under any lock. */
#define MOOR_NOTICE_WINDOW_COPY 1u /* the first copy of a store in place of a window */
#define MOOR_NOTICE_UNFOLLOWED 2u  /* the first child of the process that is held for ever */
#define MOOR_NOTICE_DISK 3u        /* the first step down of a store's disk */
#define MOOR_NOTICE_DAMAGE 4u      /* a store's disk was damaged when it was opened */
void moor_notice(uint32_t what);

/* fault.c */
void moor_fault_install(void); /* at each open, and on slow calls */

/* Whether a store with a disk was ever opened here: any call may have to wait then. */
extern uint32_t moor_disks; /* atomic */
static inline int moor_may_wait(void) { return __atomic_load_n(&moor_disks, __ATOMIC_RELAXED) != 0; }

#endif
