/* SPDX-License-Identifier: Apache-2.0
 *
 * Snapshots: many views held together, with everything that is needed to hand them out kept on this side, in ordinary
 * memory. A forked child inherits that memory, and what a snapshot views at the fork stays as long as the child lives:
 * so a look-up there needs neither Go nor the cells, which a child does not have.
 *
 * A handle leads to a slot that counts who is at work with the snapshot. The lock here is only for giving slots out and
 * taking them back, which a child does not: it may have inherited it locked, by a thread that it does not have.
 */
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

typedef unsigned long long ull;

typedef struct snapshot {
  uint64_t count, bytes;
  moor_hold *holds; /* shape and meta point into facts */
  char *facts;      /* shapes, then user metadata */
  char *keys;       /* one behind the other */
  uint64_t *ends;
  uint32_t *table; /* number of a key + 1, 0 = empty; places is a power of two, and twice count or more */
  uint64_t places;
} snapshot;

#define MOST_OBJECTS (1ULL << 31) /* the table has their numbers in 32 bits */

/* ---- handles: {kind, serial, slot}, as in internal/handle ---- */

#define KIND (3ULL << 56) /* no table in Go has it */
#define SLOT_BITS 20
#define SERIAL_BITS 36
#define OPEN (1ULL << 27) /* in a slot's word: {serial : 36, open : 1, users : 27} */
#define USERS (OPEN - 1)
#define SERIAL_SHIFT 28
#define CHUNK 1024
#define CHUNKS ((1u << SLOT_BITS) / CHUNK)

typedef struct slot {
  uint64_t word;      /* atomic */
  snapshot *s;        /* set before word is open */
  uint32_t next_free; /* index + 1, 0: none; guarded by mutex */
} slot;

static slot *chunks[CHUNKS]; /* atomic; never freed */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static uint32_t first_free;  /* index + 1, 0: none; guarded by mutex */
static uint32_t slots_used;  /* how many were ever given out; guarded by mutex */

static slot *slot_at(uint64_t index) {
  slot *chunk = __atomic_load_n(&chunks[index / CHUNK], __ATOMIC_ACQUIRE);
  return chunk == NULL ? NULL : chunk + index % CHUNK;
}

/* A slot that was given back, or a new one; NULL when there is no memory for one, or a million are open. The mutex is
 * held. */
static slot *take_slot(uint32_t *index_out) {
  if (first_free != 0) {
    slot *at = slot_at(*index_out = first_free - 1);
    first_free = at->next_free;
    return at;
  }
  if (slots_used == 1u << SLOT_BITS) return NULL;
  if (slot_at(slots_used) == NULL) {
    slot *chunk = calloc(CHUNK, sizeof *chunk);
    if (chunk == NULL) return NULL;
    __atomic_store_n(&chunks[slots_used / CHUNK], chunk, __ATOMIC_RELEASE);
  }
  return slot_at(*index_out = slots_used++);
}

static void give_back(slot *at, uint32_t index) {
  /* A slot that has used up its serials is not given out again: an id is never used twice. */
  if (__atomic_load_n(&at->word, __ATOMIC_RELAXED) >> SERIAL_SHIFT == (1ULL << SERIAL_BITS) - 1) return;
  pthread_mutex_lock(&mutex);
  at->next_free = first_free;
  first_free = index + 1;
  pthread_mutex_unlock(&mutex);
}

/* Gives s a handle; 0 when there is none. */
static uint64_t add(snapshot *s) {
  uint32_t index;
  pthread_mutex_lock(&mutex);
  slot *at = take_slot(&index);
  pthread_mutex_unlock(&mutex);
  if (at == NULL) return 0;
  uint64_t serial = (__atomic_load_n(&at->word, __ATOMIC_RELAXED) >> SERIAL_SHIFT) + 1;
  at->s = s;
  __atomic_store_n(&at->word, serial << SERIAL_SHIFT | OPEN | 1, __ATOMIC_RELEASE);
  return KIND | serial << SLOT_BITS | index;
}

static slot *slot_of(uint64_t id) {
  if (id >> 56 != KIND >> 56) return NULL;
  return slot_at(id & ((1u << SLOT_BITS) - 1));
}

static uint64_t serial_of(uint64_t id) { return id >> SLOT_BITS & ((1ULL << SERIAL_BITS) - 1); }

/* Counts the caller in. NULL: the handle is not an open one. End with leave. */
static snapshot *enter(moor_snapshot handle, slot **slot_out) {
  slot *at = slot_of(handle.id);
  if (at == NULL) return NULL;
  uint64_t word = __atomic_load_n(&at->word, __ATOMIC_ACQUIRE);
  do {
    if (word >> SERIAL_SHIFT != serial_of(handle.id) || (word & OPEN) == 0) return NULL;
  } while (!__atomic_compare_exchange_n(&at->word, &word, word + 1, 1, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE));
  *slot_out = at;
  return at->s;
}

static void drop(snapshot *s);

/* The last one out after the close ends the snapshot. */
static void leave(slot *at, uint64_t id) {
  snapshot *s = at->s;
  if ((__atomic_sub_fetch(&at->word, 1, __ATOMIC_ACQ_REL) & (OPEN | USERS)) != 0) return;
  if (moor_alive()) give_back(at, (uint32_t)(id & ((1u << SLOT_BITS) - 1)));
  drop(s);
}

static int32_t bad_handle(void) {
  return moor_fail(MOOR_ERR_BAD_HANDLE,
                   "snapshot is not an open handle of its kind (zero, closed, or another object's)");
}

/* ---- making one ---- */

static void free_parts(snapshot *s) {
  free(s->holds);
  free(s->facts);
  free(s->keys);
  free(s->ends);
  free(s->table);
  free(s);
}

/* A forked child has no cells; what it inherited stays until it ends. */
static void drop(snapshot *s) {
  if (moor_alive() && s->count > 0) {
    moor_control *control = (moor_control *)(uintptr_t)s->holds[0].control;
    /* First: after the releases the store may be gone. */
    __atomic_fetch_sub(&control->views, s->count, __ATOMIC_RELAXED);
    for (uint64_t i = 0; i < s->count; i++) moor_hold_release(&s->holds[i]);
  }
  free_parts(s);
}

int32_t moor_gather_room(moor_gathered *g, uint64_t count, uint64_t key_bytes) {
  g->holds = malloc((size_t)count * sizeof *g->holds + 1);
  g->ends = malloc((size_t)count * sizeof *g->ends + 1);
  g->keys = malloc((size_t)key_bytes + 1);
  g->count = count;
  if (g->holds != NULL && g->ends != NULL && g->keys != NULL) return MOOR_OK;
  free(g->holds);
  free(g->ends);
  free(g->keys);
  g->holds = NULL;
  return moor_fail(MOOR_ERR_NO_MEMORY, "no memory for a snapshot of %llu objects", (ull)count);
}

static const char *key_at(const snapshot *s, uint64_t i, uint64_t *size_out) {
  uint64_t begin = i > 0 ? s->ends[i - 1] : 0;
  *size_out = s->ends[i] - begin;
  return s->keys + begin;
}

/* FNV-1a, 64 bits (Fowler, Noll, Vo), folded. */
static uint64_t place_of(const snapshot *s, const void *key, uint64_t size) {
  uint64_t h = 0xcbf29ce484222325ULL;
  for (uint64_t i = 0; i < size; i++) h = (h ^ ((const unsigned char *)key)[i]) * 0x100000001b3ULL;
  return (h ^ h >> 32) & (s->places - 1);
}

/* The entry of a key, or the empty one where it belongs. There always is an empty one. */
static uint32_t *entry_of(const snapshot *s, const void *key, uint64_t size) {
  uint64_t at = place_of(s, key, size);
  for (; s->table[at] != 0; at = (at + 1) & (s->places - 1)) {
    uint64_t known_size;
    const char *known = key_at(s, s->table[at] - 1, &known_size);
    if (known_size == size && memcmp(known, key, (size_t)size) == 0) break;
  }
  return &s->table[at];
}

/* A key that comes more than once has one entry, for the first time. */
static int make_table(snapshot *s) {
  s->places = 2;
  while (s->places < 2 * s->count) s->places *= 2;
  s->table = calloc((size_t)s->places, sizeof *s->table);
  if (s->table == NULL) return 0;
  for (uint64_t i = 0; i < s->count; i++) {
    uint64_t size;
    const char *key = key_at(s, i, &size);
    uint32_t *entry = entry_of(s, key, size);
    if (*entry == 0) *entry = (uint32_t)(i + 1);
  }
  return 1;
}

/* Copies shapes and metadata out of the records, which a child does not have. */
static int copy_facts(snapshot *s) {
  size_t shapes = 0, metas = 0;
  for (uint64_t i = 0; i < s->count; i++) {
    shapes += (size_t)(s->holds[i].ndim > 0 ? s->holds[i].ndim : 0) * sizeof(int64_t);
    metas += s->holds[i].meta_size;
  }
  s->facts = malloc(shapes + metas + 1);
  if (s->facts == NULL) return 0;
  char *shape = s->facts, *meta = s->facts + shapes;
  for (uint64_t i = 0; i < s->count; i++) {
    moor_hold *h = &s->holds[i];
    size_t size = (size_t)(h->ndim > 0 ? h->ndim : 0) * sizeof(int64_t);
    if (size > 0) memcpy(shape, (const void *)(uintptr_t)h->shape, size);
    if (h->meta_size > 0) memcpy(meta, (const void *)(uintptr_t)h->meta, h->meta_size);
    h->shape = (uintptr_t)shape;
    h->meta = (uintptr_t)meta;
    shape += size;
    meta += h->meta_size;
    s->bytes += h->size;
  }
  return 1;
}

/* Takes over what was gathered, in any case. */
static snapshot *make(moor_gathered *g) {
  snapshot *s = calloc(1, sizeof *s);
  if (s == NULL) {
    for (uint64_t i = 0; i < g->count; i++) moor_hold_release(&g->holds[i]);
    free(g->holds);
    free(g->ends);
    free(g->keys);
    return NULL;
  }
  s->count = g->count;
  s->holds = g->holds;
  s->ends = g->ends;
  s->keys = g->keys;
  if (s->count > 0) {
    moor_control *control = (moor_control *)(uintptr_t)s->holds[0].control;
    __atomic_fetch_add(&control->views, s->count, __ATOMIC_RELAXED);
  }
  if (copy_facts(s) && make_table(s)) return s;
  drop(s);
  return NULL;
}

int32_t moor_snapshot_open(moor_store store, const moor_keys *keys, const void *prefix, uint64_t prefix_size,
                           moor_snapshot *snapshot_out) {
  MOOR_ENTER();
  if (keys != NULL) {
    if (keys->count > MOST_OBJECTS) {
      return moor_fail(MOOR_ERR_INVALID_ARGUMENT, "keys->count is %llu; a snapshot has at most %llu objects",
                       (ull)keys->count, (ull)MOST_OBJECTS);
    }
    MOOR_TRY(moor_check_keys(keys));
    if (prefix_size > 0) {
      return moor_fail(MOOR_ERR_INVALID_ARGUMENT, "keys and prefix are both given; prefix goes with keys = NULL");
    }
  }
  MOOR_TRY(moor_check_prefix(prefix, prefix_size));
  MOOR_NOT_NULL(snapshot_out);
  moor_gathered gathered = {0};
  MOOR_TRY(moorgo_snapshot(store.id, keys, MOOR_USED(prefix, prefix_size), prefix_size, &gathered));
  snapshot *s = make(&gathered);
  uint64_t id = s == NULL ? 0 : add(s);
  if (id == 0) {
    if (s != NULL) drop(s);
    return moor_fail(MOOR_ERR_NO_MEMORY, "no memory for a snapshot of %llu objects, or a million snapshots are open",
                     (ull)gathered.count);
  }
  snapshot_out->id = id;
  return MOOR_OK;
}

int32_t moor_snapshot_close(moor_snapshot handle) {
  slot *at = slot_of(handle.id);
  if (at == NULL) return bad_handle();
  uint64_t word = __atomic_load_n(&at->word, __ATOMIC_ACQUIRE);
  do {
    if (word >> SERIAL_SHIFT != serial_of(handle.id) || (word & OPEN) == 0) return bad_handle();
  } while (!__atomic_compare_exchange_n(&at->word, &word, word & ~OPEN, 1, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE));
  leave(at, handle.id);
  return MOOR_OK;
}

/* ---- looking ---- */

int32_t moor_snapshot_get_keys(moor_snapshot handle, moor_keys *keys_out) {
  slot *at;
  MOOR_NOT_NULL(keys_out);
  const snapshot *s = enter(handle, &at);
  if (s == NULL) return bad_handle();
  *keys_out = (moor_keys){s->keys, s->ends, s->count};
  leave(at, handle.id);
  return MOOR_OK;
}

int32_t moor_snapshot_find(moor_snapshot handle, const void *key, uint64_t key_size, uint64_t *index_out) {
  slot *at;
  MOOR_TRY(moor_check_key(key, key_size));
  MOOR_NOT_NULL(index_out);
  const snapshot *s = enter(handle, &at);
  if (s == NULL) return bad_handle();
  uint32_t entry = *entry_of(s, key, key_size);
  leave(at, handle.id);
  if (entry == 0) return moor_fail(MOOR_ERR_NOT_FOUND, "the snapshot has no object under this key");
  *index_out = entry - 1;
  return MOOR_OK;
}

/* A hold of its own on number index, for one view more. The snapshot counts already, so the pair of the cell stays as
 * it is (core/arena/model, clone). In a forked child there is no cell, and nothing to count. */
static int32_t hold_of(moor_snapshot handle, uint64_t index, uint32_t mode, const void *out, const char *name,
                       moor_hold *hold_out, slot **slot_out) {
  MOOR_TRY(moor_check_mode(mode));
  MOOR_TRY(moor_check_not_null(out, name));
  const snapshot *s = enter(handle, slot_out);
  if (s == NULL) return bad_handle();
  uint64_t count = s->count;
  if (index >= count) {
    leave(*slot_out, handle.id);
    return moor_fail(MOOR_ERR_INVALID_ARGUMENT, "index is %llu; the snapshot has %llu objects", (ull)index, (ull)count);
  }
  *hold_out = s->holds[index];
  if (moor_alive()) {
    __atomic_fetch_add(&((moor_cell *)(uintptr_t)hold_out->cell)->word, 1, __ATOMIC_RELAXED);
  } else {
    hold_out->cell = 0;
    hold_out->control = (uintptr_t)moor_child_control();
  }
  return MOOR_OK;
}

int32_t moor_snapshot_get_tensor(moor_snapshot handle, uint64_t index, uint32_t mode,
                                 DLManagedTensorVersioned **tensor_out) {
  moor_hold hold;
  slot *at;
  MOOR_TRY(hold_of(handle, index, mode, tensor_out, "tensor_out", &hold, &at));
  int32_t status = moor_view_tensor(&hold, mode, tensor_out);
  leave(at, handle.id); /* after: shape and metadata are the snapshot's */
  return status;
}

int32_t moor_snapshot_get_tensor_unversioned(moor_snapshot handle, uint64_t index, uint32_t mode,
                                             DLManagedTensor **tensor_out) {
  moor_hold hold;
  slot *at;
  MOOR_TRY(hold_of(handle, index, mode, tensor_out, "tensor_out", &hold, &at));
  int32_t status = moor_view_tensor_unversioned(&hold, mode, tensor_out);
  leave(at, handle.id);
  return status;
}

int32_t moor_snapshot_get_buffer(moor_snapshot handle, uint64_t index, uint32_t mode, moor_buffer *buffer_out) {
  moor_hold hold;
  slot *at;
  MOOR_TRY(hold_of(handle, index, mode, buffer_out, "buffer_out", &hold, &at));
  int32_t status = moor_view_buffer(&hold, mode, buffer_out);
  leave(at, handle.id);
  return status;
}

int32_t moor_snapshot_get_info(moor_snapshot handle, moor_snapshot_info *info_out) {
  slot *at;
  MOOR_NOT_NULL(info_out);
  uint32_t size = info_out->struct_size;
  MOOR_TRY(moor_check_output_struct(size, sizeof *info_out, "info_out"));
  const snapshot *s = enter(handle, &at);
  if (s == NULL) return bad_handle();
  const moor_control *child = moor_child_control();
  memset(info_out, 0, size); /* what a newer program asks for as well */
  *info_out = (moor_snapshot_info){
      .struct_size = size,
      .flags = moor_alive() ? 0 : MOOR_SNAPSHOT_FORKED,
      .objects = s->count,
      .bytes = s->bytes,
      .child_windows = __atomic_load_n(&child->windows, __ATOMIC_RELAXED),
      .child_window_copies = __atomic_load_n(&child->window_copies, __ATOMIC_RELAXED),
      .child_bytes_copied = __atomic_load_n(&child->copied_out, __ATOMIC_RELAXED),
  };
  leave(at, handle.id);
  return MOOR_OK;
}
