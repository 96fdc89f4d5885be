/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "standin.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "exports.h"
#include "protocol.h"

#define LEN ((size_t)STANDIN_SLOTS * STANDIN_SLOT_SIZE)
#define UNITS 16 /* of a record: the cell, then a body with one dimension and a short key */
#define TILED 65535

static struct {
  pthread_rwlock_t names_lock;
  uint32_t name[STANDIN_NAMES]; /* unit of the record, 0 = none; guarded by names_lock */
  pthread_mutex_t drain_lock;   /* the rest is guarded by this */
  uint32_t home[STANDIN_SLOTS];
  uint32_t home_count;
  uint32_t held[STANDIN_SLOTS];
  uint32_t held_count;
} store = {.names_lock = PTHREAD_RWLOCK_INITIALIZER, .drain_lock = PTHREAD_MUTEX_INITIALIZER};

/* What does not change while the store is open. */
static char *writer, *reader, *park, *chunk;
static moor_control *control;
static moor_region *region;
static uint32_t *directory;
static uint64_t last_seq; /* atomic */
static int children;      /* atomic */
static int open_once;

char *standin_writer(void) { return writer; }
char *standin_reader(void) { return reader; }
char *standin_park(void) { return park; }

static moor_cell *cell_at(uint32_t unit) { return (moor_cell *)(chunk + (size_t)(unit & 65535) * MOOR_RECORD_UNIT); }
static moor_body *body_at(uint32_t unit) { return (moor_body *)cell_at(unit + 2); }
static int64_t *shape_of(moor_body *b) { return (int64_t *)(b + 1); }
static char *key_of(moor_body *b) { return (char *)(shape_of(b) + b->ndim); }

/* ---- taking back ---- */

static int go_home(uint32_t unit) {
  moor_cell *c = cell_at(unit);
  if (is_held(moor_process_words(), __atomic_load_n(&c->pair, __ATOMIC_SEQ_CST))) return 0;
  if ((c->flags & MOOR_FLAG_PROTECTED) != 0) {
    mprotect(writer + c->off, STANDIN_SLOT_SIZE, PROT_READ | PROT_WRITE);
    c->flags = 0;
  }
  c->kind = MOOR_KIND_FREE;
  store.home[store.home_count++] = unit;
  return 1;
}

static void drain_locked(void) {
  uint32_t again = store.held_count, kept = 0;
  for (uint32_t i = 0; i < again; i++) {
    if (!go_home(store.held[i])) store.held[kept++] = store.held[i];
  }
  store.held_count = kept;
  for (uint32_t u = list_take(control), next; u != 0; u = next) {
    next = __atomic_load_n(&cell_at(u)->next, __ATOMIC_SEQ_CST);
    if (!go_home(u)) store.held[store.held_count++] = u;
  }
}

void standin_drain(void) {
  pthread_mutex_lock(&store.drain_lock);
  drain_locked();
  pthread_mutex_unlock(&store.drain_lock);
}

static uint32_t allocate(void) {
  pthread_mutex_lock(&store.drain_lock);
  if (store.home_count == 0) drain_locked();
  uint32_t unit = store.home_count > 0 ? store.home[--store.home_count] : 0;
  pthread_mutex_unlock(&store.drain_lock);
  return unit;
}

static void kill_cell(uint32_t unit) {
  if (unit != 0 && cell_kill(cell_at(unit))) list_push(control, cell_at(unit), unit, moor_process_words());
}

void standin_state_get(standin_state *s) {
  pthread_mutex_lock(&store.drain_lock);
  s->home = store.home_count;
  s->held = store.held_count;
  pthread_mutex_unlock(&store.drain_lock);
  s->windows = __atomic_load_n(&control->windows, __ATOMIC_SEQ_CST);
  s->views = __atomic_load_n(&control->views, __ATOMIC_SEQ_CST);
  s->copied_out = __atomic_load_n(&control->copied_out, __ATOMIC_SEQ_CST);
  s->window_copies = __atomic_load_n(&control->window_copies, __ATOMIC_SEQ_CST);
  s->children = (uint64_t)__atomic_load_n(&children, __ATOMIC_SEQ_CST);
}

/* ---- children ---- */

static void *follow(void *given) {
  moor_child c = *(moor_child *)given;
  free(given);
  char byte;
  while (read(c.pipe, &byte, 1) > 0) {
  }
  close(c.pipe);
  while (fcntl(c.token, F_ADD_SEALS, F_SEAL_WRITE) != 0) usleep(2000);
  close(c.token);
  child_ended(moor_process_words(), c.slot);
  standin_drain();
  __atomic_fetch_sub(&children, 1, __ATOMIC_SEQ_CST);
  return NULL;
}

static void *watch(void *unused) {
  struct pollfd wake = {.fd = moor_process_words()->wake, .events = POLLIN};
  (void)unused;
  for (;;) {
    uint64_t count;
    moor_child c;
    poll(&wake, 1, -1);
    if (read(wake.fd, &count, sizeof count) < 0) continue;
    while (moor_child_next(&c)) {
      moor_child *given = malloc(sizeof *given);
      pthread_t thread;
      *given = c;
      __atomic_fetch_add(&children, 1, __ATOMIC_SEQ_CST);
      pthread_create(&thread, NULL, follow, given);
      pthread_detach(thread);
    }
  }
  return NULL;
}

int standin_await_children(void) {
  const moor_process *p = moor_process_words();
  for (int i = 0; i < 5000; i++) {
    if (__atomic_load_n(&p->kids, __ATOMIC_SEQ_CST) == 0 && __atomic_load_n(&children, __ATOMIC_SEQ_CST) == 0) {
      usleep(2000); /* for their threads to be gone, which under AddressSanitizer must not hold its locks at a fork */
      standin_drain();
      return 1;
    }
    usleep(2000);
  }
  return 0;
}

/* ---- opening ---- */

static void die(const char *what) {
  perror(what);
  exit(2);
}

static void *map(size_t size, int protection, int flags, int fd) {
  void *p = mmap(NULL, size, protection, flags, fd, 0);
  if (p == MAP_FAILED) die("mmap");
  return p;
}

static void make_records(void) {
  size_t bytes = 64 + 8 * 65536 + 65536;
  directory = map(bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
  chunk = map(2u << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
  madvise(chunk, 2u << 20, MADV_DONTFORK);
  ((char **)(void *)((char *)directory + 64))[1] = chunk;
  for (uint32_t i = 0; i < STANDIN_SLOTS; i++) {
    uint32_t unit = 65536 + i * UNITS;
    cell_at(unit)->units = UNITS;
    store.home[store.home_count++] = unit;
  }
  cell_at(65536 + STANDIN_SLOTS * UNITS)->units = TILED - STANDIN_SLOTS * UNITS;
  directory[1] = TILED;
  directory[2] = MOOR_RECORD_UNIT;
  directory[0] = 1;
}

int32_t moorgo_store_open(moor_cstore_options options, uint64_t *id_out) {
  pthread_t watcher;
  (void)options;
  if (open_once++) return moor_fail(MOOR_ERR_UNSUPPORTED, "the stand-in has one store");
  int fd = (int)syscall(SYS_memfd_create, "standin", 1U);
  if (fd < 0 || ftruncate(fd, (off_t)LEN) != 0) die("memfd");
  writer = map(LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
  reader = map(LEN, PROT_READ, MAP_SHARED, fd);
  park = map(LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
  control = map(4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
  madvise(control, 4096, MADV_DONTFORK);
  make_records();
  moor_fork_lock();
  moor_region like = {.fd = fd, .writer = (uintptr_t)writer, .reader = (uintptr_t)reader, .park = (uintptr_t)park,
                      .len = LEN, .records = (uintptr_t)directory};
  region = moor_region_add(&like);
  moor_fork_unlock();
  if (region == NULL) die("region");
  pthread_create(&watcher, NULL, watch, NULL);
  pthread_detach(watcher);
  *id_out = 1;
  return MOOR_OK;
}

int32_t moorgo_store_close(uint64_t id, uint32_t flags) {
  (void)flags;
  if (id != 1) return moor_fail(MOOR_ERR_BAD_HANDLE, "no such store");
  pthread_rwlock_wrlock(&store.names_lock);
  for (int i = 0; i < STANDIN_NAMES; i++) {
    kill_cell(store.name[i]);
    store.name[i] = 0;
  }
  pthread_rwlock_unlock(&store.names_lock);
  __atomic_fetch_or(&control->head, MOOR_LIST_CLOSED, __ATOMIC_SEQ_CST);
  return MOOR_OK;
}

/* ---- objects ---- */

static int find(uint64_t id, const void *key, uint64_t key_size, uint32_t *name_out) {
  const char *digits = key;
  uint32_t n = 0;
  for (uint64_t i = 0; i < key_size; i++) {
    if (digits[i] < '0' || digits[i] > '9' || key_size > 2) return moor_fail(MOOR_ERR_NOT_FOUND, "no such name");
    n = n * 10 + (uint32_t)(digits[i] - '0');
  }
  if (id != 1) return moor_fail(MOOR_ERR_BAD_HANDLE, "no such store");
  if (n >= STANDIN_NAMES) return moor_fail(MOOR_ERR_NOT_FOUND, "no such name");
  *name_out = n;
  return MOOR_OK;
}

static void fill_body(uint32_t unit, uint64_t size, const void *key, uint64_t key_size) {
  moor_cell *c = cell_at(unit);
  moor_body *b = body_at(unit);
  c->off = (uint64_t)((unit & 65535) / UNITS) * STANDIN_SLOT_SIZE;
  c->bytes = size;
  c->body = unit + 2;
  c->kind = MOOR_KIND_RECORD;
  memset(b, 0, sizeof *b);
  b->ndim = 1;
  b->tensor = 1;
  b->dtype_code = kDLUInt;
  b->dtype_bits = 8;
  b->dtype_lanes = 1;
  b->key_len = (uint16_t)key_size;
  shape_of(b)[0] = (int64_t)size;
  memcpy(key_of(b), key, key_size);
}

static void describe(uint32_t unit, moor_hold *h) {
  moor_cell *c = cell_at(unit);
  moor_body *b = body_at(unit);
  memset(h, 0, sizeof *h);
  h->cell = (uintptr_t)c;
  h->control = (uintptr_t)control;
  h->region = (uintptr_t)region;
  h->data = (uintptr_t)(reader + c->off);
  h->size = c->bytes;
  h->offset = c->off;
  h->seq = c->seq;
  h->shape = (uintptr_t)shape_of(b);
  h->meta = (uintptr_t)key_of(b); /* the key serves as user metadata */
  h->meta_size = b->key_len;
  h->unit = unit;
  h->ndim = 1;
  h->flags = MOOR_HOLD_TENSOR;
  h->dtype = (DLDataType){b->dtype_code, b->dtype_bits, b->dtype_lanes};
}

int32_t moorgo_put_parts(uint64_t id, moor_cbytes key, uint64_t key_size, moor_cparts parts, uint64_t part_count,
                         moor_cput_options options, moor_put_result *result_out) {
  uint32_t n = 0;
  uint64_t size = 0;
  (void)options;
  int32_t status = find(id, key, key_size, &n);
  if (status != MOOR_OK) return status;
  for (uint64_t i = 0; i < part_count; i++) size += parts[i].size;
  if (size > STANDIN_SLOT_SIZE) return moor_fail(MOOR_ERR_CAPACITY, "too large");
  uint32_t unit = allocate();
  if (unit == 0) return moor_fail(MOOR_ERR_CAPACITY, "full");
  fill_body(unit, size, key, key_size);
  moor_cell *c = cell_at(unit);
  char *to = writer + c->off;
  for (uint64_t i = 0; i < part_count; i++) {
    moor_copy((uintptr_t)to, (uintptr_t)parts[i].data, parts[i].size, &control->closing);
    to += parts[i].size;
  }
  c->seq = __atomic_add_fetch(&last_seq, 1, __ATOMIC_SEQ_CST);
  cell_begin(c, moor_process_words(), 0);
  pthread_rwlock_wrlock(&store.names_lock);
  uint32_t old = store.name[n];
  store.name[n] = unit;
  pthread_rwlock_unlock(&store.names_lock);
  kill_cell(old);
  result_out->seq = c->seq;
  result_out->outcome = MOOR_STORED;
  return MOOR_OK;
}

int32_t moorgo_get(uint64_t id, moor_cbytes key, uint64_t key_size, moor_hold *hold_out) {
  uint32_t n = 0;
  int32_t status = find(id, key, key_size, &n);
  if (status != MOOR_OK) return status;
  pthread_rwlock_rdlock(&store.names_lock);
  uint32_t unit = store.name[n];
  if (unit != 0) cell_get(cell_at(unit), moor_process_words());
  pthread_rwlock_unlock(&store.names_lock);
  if (unit == 0) return moor_fail(MOOR_ERR_NOT_FOUND, "nothing under this name");
  describe(unit, hold_out);
  return MOOR_OK;
}

int32_t moorgo_get_batch(uint64_t id, moor_ckeys keys, moor_hold *holds_out, int32_t *statuses_out) {
  uint64_t start = 0;
  for (uint64_t i = 0; i < keys->count; start = keys->ends[i++]) {
    statuses_out[i] = moorgo_get(id, (const char *)keys->bytes + start, keys->ends[i] - start, &holds_out[i]);
  }
  return MOOR_OK;
}

/* ---- many at once ---- */

/* The names of a snapshot: those of keys, or all that start with prefix. */
static int32_t names_of(uint64_t id, moor_ckeys keys, moor_cbytes prefix, uint64_t prefix_size, uint32_t *names) {
  uint64_t start = 0;
  for (uint64_t i = 0; keys != NULL && i < keys->count; start = keys->ends[i++]) {
    int32_t status = find(id, (const char *)keys->bytes + start, keys->ends[i] - start, &names[i]);
    if (status != MOOR_OK) return status;
  }
  for (uint32_t n = 0; keys == NULL && n < STANDIN_NAMES; n++) {
    char text[8];
    snprintf(text, sizeof text, "%u", n);
    names[n] = prefix_size < sizeof text && strncmp(text, prefix_size > 0 ? prefix : "", prefix_size) == 0 ? n : UINT32_MAX;
  }
  return MOOR_OK;
}

/* The record under each name that is there, counted, at one moment. The names become units, 0 where there is none. */
static int hold_all(uint32_t *names, uint64_t count) {
  int missing = 0;
  pthread_rwlock_rdlock(&store.names_lock);
  for (uint64_t i = 0; i < count; i++) {
    uint32_t unit = names[i] < STANDIN_NAMES ? store.name[names[i]] : 0;
    if (unit != 0) cell_get(cell_at(unit), moor_process_words());
    names[i] = unit;
    missing += unit == 0;
  }
  pthread_rwlock_unlock(&store.names_lock);
  return missing;
}

static void let_all_go(const uint32_t *units, uint64_t count) {
  moor_hold h;
  for (uint64_t i = 0; i < count; i++) {
    if (units[i] == 0) continue;
    describe(units[i], &h);
    moor_hold_release(&h);
  }
}

static int32_t gather(const uint32_t *units, uint64_t count, moor_gathered *out) {
  uint64_t there = 0, bytes = 0, used = 0;
  for (uint64_t i = 0; i < count; i++) {
    if (units[i] == 0) continue;
    there++;
    bytes += body_at(units[i])->key_len;
  }
  int32_t status = moor_gather_room(out, there, bytes);
  if (status != MOOR_OK) {
    let_all_go(units, count);
    return status;
  }
  for (uint64_t i = 0, n = 0; i < count; i++) {
    if (units[i] == 0) continue;
    moor_body *b = body_at(units[i]);
    memcpy(out->keys + used, key_of(b), b->key_len);
    out->ends[n] = used += b->key_len;
    describe(units[i], &out->holds[n++]);
  }
  return MOOR_OK;
}

int32_t moorgo_snapshot(uint64_t id, moor_ckeys keys, moor_cbytes prefix, uint64_t prefix_size, moor_gathered *out) {
  uint64_t count = keys != NULL ? keys->count : STANDIN_NAMES;
  if (id != 1) return moor_fail(MOOR_ERR_BAD_HANDLE, "no such store");
  uint32_t *names = malloc(count * sizeof *names + 1);
  if (names == NULL) return moor_fail(MOOR_ERR_NO_MEMORY, "no memory for the names");
  int32_t status = names_of(id, keys, prefix, prefix_size, names);
  if (status == MOOR_OK && hold_all(names, count) > 0 && keys != NULL) {
    let_all_go(names, count);
    status = moor_fail(MOOR_ERR_NOT_FOUND, "nothing under one of the names");
  } else if (status == MOOR_OK) {
    status = gather(names, count, out);
  }
  free(names);
  return status;
}

static int all_there(const uint32_t *names, uint64_t count) {
  int there = 1;
  pthread_rwlock_rdlock(&store.names_lock);
  for (uint64_t i = 0; i < count; i++) there &= store.name[names[i]] != 0;
  pthread_rwlock_unlock(&store.names_lock);
  return there;
}

int32_t moorgo_wait(uint64_t id, moor_ckeys keys, uint64_t timeout_ns) {
  if (id != 1) return moor_fail(MOOR_ERR_BAD_HANDLE, "no such store");
  uint32_t *names = malloc(keys->count * sizeof *names + 1);
  if (names == NULL) return moor_fail(MOOR_ERR_NO_MEMORY, "no memory for the names");
  int32_t status = names_of(id, keys, NULL, 0, names);
  for (uint64_t ns = 0; status == MOOR_OK && !all_there(names, keys->count); ns += 1000000) {
    if (ns >= timeout_ns) status = moor_fail(MOOR_ERR_TIMEOUT, "a name is missing");
    usleep(1000);
  }
  free(names);
  return status;
}

int32_t moorgo_take(uint64_t id, moor_cbytes key, uint64_t key_size, moor_hold *hold_out) {
  uint32_t n = 0;
  int32_t status = find(id, key, key_size, &n);
  if (status != MOOR_OK) return status;
  pthread_rwlock_wrlock(&store.names_lock);
  uint32_t unit = store.name[n];
  if (unit == 0) {
    status = moor_fail(MOOR_ERR_NOT_FOUND, "nothing under this name");
  } else if (cell_take(cell_at(unit), moor_process_words())) {
    store.name[n] = 0;
  } else {
    status = moor_fail(MOOR_ERR_BUSY, "viewed");
  }
  pthread_rwlock_unlock(&store.names_lock);
  if (status != MOOR_OK) return status;
  describe(unit, hold_out);
  hold_out->data = (uintptr_t)(writer + hold_out->offset);
  return MOOR_OK;
}

int32_t moorgo_remove(uint64_t id, moor_cbytes key, uint64_t key_size) {
  uint32_t n = 0;
  int32_t status = find(id, key, key_size, &n);
  if (status != MOOR_OK) return status;
  pthread_rwlock_wrlock(&store.names_lock);
  uint32_t unit = store.name[n];
  store.name[n] = 0;
  pthread_rwlock_unlock(&store.names_lock);
  if (unit == 0) return moor_fail(MOOR_ERR_NOT_FOUND, "nothing under this name");
  kill_cell(unit);
  return MOOR_OK;
}

/* A reservation without a name: a writable tensor of one slot. */
int32_t moorgo_empty(uint64_t id, moor_ctensor like, moor_hold *hold_out) {
  if (id != 1) return moor_fail(MOOR_ERR_BAD_HANDLE, "no such store");
  uint32_t unit = allocate();
  if (unit == 0) return moor_fail(MOOR_ERR_CAPACITY, "full");
  fill_body(unit, like->ndim > 0 ? (uint64_t)like->shape[0] : 1, "empty", 5);
  cell_begin(cell_at(unit), moor_process_words(), 1);
  describe(unit, hold_out);
  hold_out->data = (uintptr_t)(writer + hold_out->offset);
  return MOOR_OK;
}

/* Publishes the slot in which tensor lies. */
int32_t moorgo_adopt(uint64_t id, moor_cbytes key, uint64_t key_size, moor_ctensor tensor, moor_cput_options options,
                     moor_put_result *result_out) {
  uint32_t n = 0;
  (void)options;
  int32_t status = find(id, key, key_size, &n);
  if (status != MOOR_OK) return status;
  uint64_t slot = (uint64_t)((char *)tensor->data - writer) / STANDIN_SLOT_SIZE;
  uint32_t unit = 65536 + (uint32_t)slot * UNITS;
  moor_cell *c = cell_at(unit);
  moor_body *b = body_at(unit);
  b->key_len = (uint16_t)key_size;
  memcpy(key_of(b), key, key_size);
  if (mprotect(writer + c->off, STANDIN_SLOT_SIZE, PROT_READ) != 0) die("mprotect");
  c->flags = MOOR_FLAG_PROTECTED;
  c->seq = __atomic_add_fetch(&last_seq, 1, __ATOMIC_SEQ_CST);
  pthread_rwlock_wrlock(&store.names_lock);
  uint32_t old = store.name[n];
  if (cell_commit(c)) store.name[n] = unit;
  pthread_rwlock_unlock(&store.names_lock);
  kill_cell(old);
  result_out->seq = c->seq;
  result_out->outcome = MOOR_ADOPTED;
  return MOOR_OK;
}

/* ---- what the stand-in does not have ---- */

#define ABSENT(name, ...) \
  int32_t name(__VA_ARGS__) { return moor_fail(MOOR_ERR_UNSUPPORTED, "the stand-in has no " #name); }

#pragma GCC diagnostic ignored "-Wunused-parameter"
ABSENT(moorgo_put_tensor, uint64_t a, moor_cbytes b, uint64_t c, moor_ctensor d, moor_cput_options e, moor_put_result *f)
ABSENT(moorgo_put_batch, uint64_t a, moor_ckeys b, moor_cparts c, moor_cu64 d, moor_cput_options e, moor_put_result *f,
       int32_t *g)
ABSENT(moorgo_put_tensors, uint64_t a, moor_ckeys b, moor_ctensors c, moor_cput_options d, moor_put_result *e,
       int32_t *f)
ABSENT(moorgo_reserve, uint64_t a, uint64_t b, uint64_t *c, uint64_t *d)
ABSENT(moorgo_commit, uint64_t a, moor_cbytes b, uint64_t c, moor_ctensor d, moor_cput_options e, moor_put_result *f)
ABSENT(moorgo_abort, uint64_t a)
int32_t moorgo_is_published(uint64_t address, uint64_t size) { return 0; }
ABSENT(moorgo_remove_batch, uint64_t a, moor_ckeys b, int32_t *c)
ABSENT(moorgo_clear, uint64_t a, uint64_t *b)
ABSENT(moorgo_pin, uint64_t a, moor_cbytes b, uint64_t c, uint32_t d)
ABSENT(moorgo_exists, uint64_t a, moor_ckeys b, uint8_t *c)
ABSENT(moorgo_count_leading, uint64_t a, moor_ckeys b, uint64_t *c)
ABSENT(moorgo_count_objects, uint64_t a, uint64_t *b, uint64_t *c)
ABSENT(moorgo_describe, uint64_t a, moor_cbytes b, uint64_t c, moor_description *d)
ABSENT(moorgo_list_keys, uint64_t a, moor_cbytes b, uint64_t c, uint64_t *d, void *e, uint64_t f, uint64_t *g, uint64_t h,
       uint64_t *i)
ABSENT(moorgo_list_borrows, uint64_t a, void *b, uint64_t c, moor_borrow *d, uint64_t e, uint64_t *f, uint64_t *g)
ABSENT(moorgo_register, uint64_t a, uint64_t b, uint64_t c, uint32_t d, uint64_t *e)
ABSENT(moorgo_registration_release, uint64_t a, uint64_t b)
ABSENT(moorgo_find_registration, uint64_t a, uint64_t b, uint64_t c, moor_registration_info *d)
ABSENT(moorgo_queue_open, uint64_t *a)
ABSENT(moorgo_queue_close, uint64_t a)
ABSENT(moorgo_queue_get_fd, uint64_t a, int32_t *b)
ABSENT(moorgo_queue_drain, uint64_t a, moor_completion *b, uint64_t c, uint64_t *d)
ABSENT(moorgo_submit_keys, uint64_t a, uint64_t b, uint32_t c, moor_ckeys d, uint64_t e, uint64_t *f)
ABSENT(moorgo_submit_get_into, uint64_t a, uint64_t b, moor_ckeys c, moor_cu64 d, moor_cu64 e, moor_cspans f, moor_cu64 g,
       uint64_t h, uint64_t *i)
ABSENT(moorgo_submit_put, uint64_t a, uint64_t b, moor_ckeys c, moor_cparts d, moor_cu64 e, moor_cput_options f,
       uint64_t g, uint64_t *h)
ABSENT(moorgo_submit_put_tensors, uint64_t a, uint64_t b, moor_ckeys c, moor_ctensors d, moor_cput_options e, uint64_t f,
       uint64_t *g)
ABSENT(moorgo_job_cancel, uint64_t a)
ABSENT(moorgo_job_wait, uint64_t a, uint64_t b)
ABSENT(moorgo_job_get_status, uint64_t a, uint64_t b)
ABSENT(moorgo_job_get_results, uint64_t a, uint64_t b, uint64_t c, moor_completion *d)
ABSENT(moorgo_job_take, uint64_t a, uint64_t b, uint64_t c, moor_hold *d, int32_t *e)
ABSENT(moorgo_job_close, uint64_t a)
ABSENT(moorgo_list_devices, moor_device *a, uint64_t b, moor_device_list *c)
ABSENT(moorgo_attach_device, uint64_t a, moor_cstring b, char *c)
ABSENT(moorgo_detach_device, uint64_t a, moor_cstring b, uint64_t c)
ABSENT(moorgo_explain_device, moor_cstring a, uint32_t b, char *c, uint64_t d)
ABSENT(moorgo_list_attached, uint64_t a, moor_device_stats *b, uint64_t c, uint64_t *d)
ABSENT(moorgo_get_stats, uint64_t a, moor_stats *b)
ABSENT(moorgo_trim, uint64_t a, uint64_t *b)
ABSENT(moorgo_persist, uint64_t a, moor_ckeys b, int32_t *c)
ABSENT(moorgo_flush, uint64_t a)
ABSENT(moorgo_read_into, uint64_t a, moor_cbytes b, uint64_t c, uint64_t d, uint64_t e, uint64_t f, uint64_t g,
       uint64_t *h)
ABSENT(moorgo_get_disk_stats, uint64_t a, moor_disk_stats *b)
ABSENT(moorgo_inspect_directory, moor_cstring a, moor_directory_info *b)
ABSENT(moorgo_get_timings, uint64_t a, moor_timing *b, uint64_t c, uint64_t *d, moor_timings_info *e)
ABSENT(moorgo_list_operations, uint64_t a, moor_operation *b, uint64_t c, uint64_t *d)
ABSENT(moorgo_import_safetensors, uint64_t a, moor_cstring b, moor_cbytes c, uint64_t d, moor_cfile_options e,
       uint64_t *f)
ABSENT(moorgo_export_safetensors, uint64_t a, moor_cstring b, moor_ckeys c, uint64_t d, moor_cfile_options e)
