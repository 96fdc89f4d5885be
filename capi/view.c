/* SPDX-License-Identifier: Apache-2.0
 *
 * What is handed out: one block of memory with the struct, shape, strides and whatever it takes to end the hold. The
 * callbacks that end it use nothing but the block, and the store's memory only outside of forked children.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "layout.h"

#define ALIGNMENT 64
#define ALIGNED_PLACE (2u << 20)
#define HUGE_COPY (4u << 20) /* from this size on a copy asks for huge pages: a third of the page faults' time */

typedef struct moor_block {
  union {
    DLManagedTensorVersioned versioned;
    DLManagedTensor plain;
  } tensor;
  moor_cell *cell; /* NULL: nothing is held; a block made in a forked child has none from the start */
  moor_control *control;
  uint32_t unit;
  void *window; /* NULL: none */
  size_t window_size;
  void *copy; /* memory of its own, NULL: none, or inside the block */
  int64_t numbers[]; /* shape, strides; then user metadata; then a small copy */
} moor_block;

/* ---- copy-on-write windows ---- */

static uint64_t window_count; /* of the process; atomic */
static uint64_t window_limit; /* 0 = not read yet; atomic */

/* The mappings of a process are limited, and mmap fails for everybody when they run out. Protected extents of adopted
 * objects may take about half of them (16 384, two mappings each). */
static uint64_t limit(void) {
  uint64_t known = __atomic_load_n(&window_limit, __ATOMIC_RELAXED);
  if (known != 0) return known;
  char digits[32] = "";
  uint64_t maps = 0;
  int fd = open("/proc/sys/vm/max_map_count", O_RDONLY | O_CLOEXEC);
  if (fd >= 0) {
    ssize_t n = read(fd, digits, sizeof digits - 1);
    close(fd);
    for (ssize_t i = 0; i < n && digits[i] >= '0' && digits[i] <= '9'; i++) maps = maps * 10 + (uint64_t)(digits[i] - '0');
  }
  if (maps < 1024) maps = 65530;
  known = maps / 8 * 3;
  __atomic_store_n(&window_limit, known, __ATOMIC_RELAXED);
  return known;
}

static size_t page_size(void) {
  static size_t known;
  size_t size = __atomic_load_n(&known, __ATOMIC_RELAXED);
  if (size == 0) {
    size = (size_t)sysconf(_SC_PAGESIZE);
    __atomic_store_n(&known, size, __ATOMIC_RELAXED);
  }
  return size;
}

/* A private writable mapping of the object's pages, NULL when there can be none. */
static void *map_window(const moor_hold *hold, moor_block *b) {
  const moor_region *region = (const moor_region *)(uintptr_t)hold->region;
  if (region->huge || !moor_region_fd_valid(region)) return NULL;
  if (__atomic_fetch_add(&window_count, 1, __ATOMIC_RELAXED) < limit()) {
    uint64_t inside = hold->offset & (page_size() - 1);
    size_t size = (size_t)((inside + hold->size + page_size() - 1) & ~(uint64_t)(page_size() - 1));
    /* The kernel looks for a place that suits huge pages when the length does, and 1 GiB then costs twice what 64 KiB
     * cost. The page more is nobody's: the tensor ends before it. */
    if (size % ALIGNED_PLACE == 0) size += page_size();
    void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, region->fd,
                    (off_t)(hold->offset - inside));
    if (at != MAP_FAILED) {
      b->window = at;
      b->window_size = size;
      __atomic_fetch_add(&b->control->windows, 1, __ATOMIC_RELAXED);
      return (char *)at + inside;
    }
  }
  __atomic_fetch_sub(&window_count, 1, __ATOMIC_RELAXED);
  return NULL;
}

/* ---- in a forked child ---- */

static moor_control child_counts;

moor_control *moor_child_control(void) { return &child_counts; }

/* Whether the counters of the block are there: those of a store are not, in a child. */
static int counted(const moor_block *b) { return b->control == &child_counts || moor_alive(); }

/* ---- the end ---- */

/* Gives the cell back. The count of views is lowered first: after the release the store may be gone. */
static void release(moor_block *b) {
  if (b->cell == NULL) return;
  __atomic_fetch_sub(&b->control->views, 1, __ATOMIC_RELAXED);
  moor_cell_release(b->cell, b->control, b->unit);
  b->cell = NULL;
}

/* Ends what the block holds, and the block. */
static void end(moor_block *b) {
  int saved = errno;
  if (b->window != NULL) {
    /* Before the release: pages that were not written to are still the store's. */
    munmap(b->window, b->window_size);
    __atomic_fetch_sub(&window_count, 1, __ATOMIC_RELAXED); /* in a child too, which inherited mapping and count */
  }
  if (counted(b)) {
    if (b->window != NULL) __atomic_fetch_sub(&b->control->windows, 1, __ATOMIC_RELAXED);
    release(b);
  }
  free(b->copy);
  free(b);
  errno = saved;
}

static void end_versioned(DLManagedTensorVersioned *self) {
  if (self != NULL) end(self->manager_ctx);
}

static void end_plain(DLManagedTensor *self) {
  if (self != NULL) end(self->manager_ctx);
}

static void end_buffer(moor_buffer *self) {
  if (self == NULL || self->release == NULL) return;
  moor_block *b = self->private_data;
  self->release = NULL;
  self->private_data = NULL;
  end(b);
}

/* ---- copies ---- */

/* Room for a copy behind the block, for small objects. */
static size_t room_in_block(const moor_hold *hold, int copied) {
  return copied && hold->size < MOOR_COW_MIN ? (size_t)hold->size + ALIGNMENT : 0;
}

static void *align(void *p) {
  return (void *)(((uintptr_t)p + ALIGNMENT - 1) & ~(uintptr_t)(ALIGNMENT - 1));
}

static void *memory_for_copy(moor_block *b, uint64_t size) {
  if (posix_memalign(&b->copy, ALIGNMENT, (size_t)size) != 0) {
    b->copy = NULL;
    return NULL;
  }
  if (size >= HUGE_COPY) {
    uintptr_t page = page_size();
    uintptr_t from = ((uintptr_t)b->copy + page - 1) & ~(page - 1);
    uintptr_t to = ((uintptr_t)b->copy + (uintptr_t)size) & ~(page - 1);
    madvise((void *)from, to - from, MADV_HUGEPAGE); /* a wish */
  }
  return b->copy;
}

/* Copies the object and ends the hold: the block keeps nothing of the store. NULL: no memory, and the hold is still
 * there. */
static void *copy_out(const moor_hold *hold, moor_block *b, void *room) {
  void *to = room != NULL ? align(room) : memory_for_copy(b, hold->size);
  if (to == NULL) return NULL;
  moor_copy((uintptr_t)to, hold->data, hold->size, NULL);
  __atomic_fetch_add(&b->control->copied_out, hold->size, __ATOMIC_RELAXED);
  release(b);
  return to;
}

/* ---- blocks ---- */

typedef struct made {
  moor_block *block;
  void *data;
  int copied, read_only;
  void *meta; /* room for the user metadata, when it was asked for */
} made;

static int32_t no_memory(uint64_t bytes, const char *what) {
  return moor_fail(MOOR_ERR_NO_MEMORY, "no memory for %s of %llu bytes", what, (unsigned long long)bytes);
}

/* Where the bytes of an object of size 0 are, should the store have no better address. */
static _Alignas(ALIGNMENT) char nothing[ALIGNMENT];

/* Makes the block the owner of the hold. meta is where user metadata belongs, should it be wanted. */
static void take_over(moor_block *b, const moor_hold *hold, size_t dims, made *m) {
  b->cell = (moor_cell *)(uintptr_t)hold->cell;
  b->control = (moor_control *)(uintptr_t)hold->control;
  b->unit = hold->unit;
  if (b->cell != NULL) __atomic_fetch_add(&b->control->views, 1, __ATOMIC_RELAXED);
  b->window = NULL;
  b->copy = NULL;
  if (hold->ndim > 0) memcpy(b->numbers, (const void *)(uintptr_t)hold->shape, (size_t)hold->ndim * sizeof(int64_t));
  m->block = b;
  m->data = hold->data != 0 ? (void *)(uintptr_t)hold->data : nothing;
  m->meta = (char *)b->numbers + 2 * dims * sizeof(int64_t);
  m->copied = m->read_only = 0;
}

/* Consumes the hold. */
static int32_t make(const moor_hold *hold, uint32_t mode, uint32_t meta_size, made *m) {
  int copied = mode == MOOR_MODE_COPY || (mode == MOOR_MODE_COW && hold->size < MOOR_COW_MIN);
  size_t dims = hold->ndim > 0 ? (size_t)hold->ndim : 1;
  size_t room = room_in_block(hold, copied);
  size_t size = sizeof(moor_block) + 2 * dims * sizeof(int64_t) + meta_size + room;
  moor_block *b = malloc(size);
  if (b == NULL) {
    moor_hold_release(hold);
    return no_memory(size, "a view");
  }
  take_over(b, hold, dims, m);
  m->copied = copied;
  m->read_only = mode == MOOR_MODE_VIEW;
  if (meta_size > 0) memcpy(m->meta, (const void *)(uintptr_t)hold->meta, meta_size);

  if (mode == MOOR_MODE_COW && !copied) {
    m->data = map_window(hold, b);
    if (m->data == NULL) {
      if (__atomic_fetch_add(&b->control->window_copies, 1, __ATOMIC_RELAXED) == 0) moor_notice(MOOR_NOTICE_WINDOW_COPY);
      m->copied = 1;
    }
  }
  if (m->copied) {
    m->data = copy_out(hold, b, room > 0 ? (char *)m->meta + meta_size : NULL);
    if (m->data == NULL) {
      end(b);
      return moor_fail(MOOR_ERR_NO_MEMORY, "no memory for a copy of %llu bytes; mode \"view\" needs none",
                       (unsigned long long)hold->size);
    }
  }
  return MOOR_OK;
}

static const DLDataType bytes_type = {kDLUInt, 8, 1};

/* Shape and strides of the block. The product may wrap in an object of size zero; nobody steps by it then. */
static void describe(const moor_hold *hold, const made *m, DLTensor *t) {
  moor_block *b = m->block;
  int tensor = (hold->flags & MOOR_HOLD_TENSOR) != 0;
  t->data = m->data;
  t->device.device_type = kDLCPU;
  t->device.device_id = 0;
  t->dtype = tensor ? hold->dtype : bytes_type;
  t->ndim = tensor ? hold->ndim : 1;
  t->shape = b->numbers;
  t->strides = b->numbers + (t->ndim > 0 ? t->ndim : 1);
  t->byte_offset = 0;
  if (!tensor) t->shape[0] = (int64_t)hold->size;
  uint64_t step = 1;
  for (int32_t i = t->ndim; i-- > 0;) {
    t->strides[i] = (int64_t)step;
    if (t->shape[i] > 1) step *= (uint64_t)t->shape[i];
  }
}

static DLManagedTensorVersioned *versioned(const moor_hold *hold, const made *m) {
  DLManagedTensorVersioned *t = &m->block->tensor.versioned;
  t->version.major = DLPACK_MAJOR_VERSION;
  t->version.minor = DLPACK_MINOR_VERSION;
  t->manager_ctx = m->block;
  t->deleter = end_versioned;
  t->flags = (m->read_only ? DLPACK_FLAG_BITMASK_READ_ONLY : 0) | (m->copied ? DLPACK_FLAG_BITMASK_IS_COPIED : 0);
  describe(hold, m, &t->dl_tensor);
  return t;
}

int32_t moor_view_tensor(const moor_hold *hold, uint32_t mode, DLManagedTensorVersioned **tensor_out) {
  made m;
  int32_t status = make(hold, mode, 0, &m);
  if (status == MOOR_OK) *tensor_out = versioned(hold, &m);
  return status;
}

/* ---- what belongs to the caller alone ---- */

int32_t moor_block_new(moor_block **block_out) {
  size_t size = sizeof(moor_block) + 2 * MOOR_MAX_DIMS * sizeof(int64_t);
  moor_block *b = malloc(size);
  if (b == NULL) return no_memory(size, "a tensor");
  *block_out = b;
  return MOOR_OK;
}

void moor_block_free(moor_block *b) { free(b); }

uint32_t moor_block_record(const moor_block *b) { return b->cell != NULL ? b->unit : 0; }

DLManagedTensorVersioned *moor_view_own(const moor_hold *hold, moor_block *b) {
  made m;
  take_over(b, hold, MOOR_MAX_DIMS, &m);
  return versioned(hold, &m);
}

/* ---- the other structs ---- */

int32_t moor_view_tensor_unversioned(const moor_hold *hold, uint32_t mode, DLManagedTensor **tensor_out) {
  made m;
  int32_t status = make(hold, mode, 0, &m);
  if (status != MOOR_OK) return status;
  DLManagedTensor *t = &m.block->tensor.plain;
  t->manager_ctx = m.block;
  t->deleter = end_plain;
  describe(hold, &m, &t->dl_tensor);
  *tensor_out = t;
  return MOOR_OK;
}

int32_t moor_view_buffer(const moor_hold *hold, uint32_t mode, moor_buffer *buffer_out) {
  made m;
  int32_t status = make(hold, mode, hold->meta_size, &m);
  if (status != MOOR_OK) return status;
  int tensor = (hold->flags & MOOR_HOLD_TENSOR) != 0;
  *buffer_out = (moor_buffer){
      .version = 1,
      .flags = (m.read_only ? MOOR_BUFFER_READ_ONLY : 0) | (tensor ? MOOR_BUFFER_TENSOR : 0) |
               (m.copied ? MOOR_BUFFER_COPIED : 0),
      .release = end_buffer,
      .private_data = m.block,
      .data = m.data,
      .size = hold->size,
      .seq = hold->seq,
      .ndim = tensor ? hold->ndim : 0,
      .shape = m.block->numbers,
      .meta = m.meta,
      .meta_size = hold->meta_size,
  };
  if (tensor) buffer_out->dtype = hold->dtype;
  return MOOR_OK;
}
