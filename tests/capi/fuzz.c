/* SPDX-License-Identifier: Apache-2.0
 *
 * Random calls of every public function, many of them with nonsense: stale and foreign handles, lengths, structs, pointers
 * to nothing. Memory is real only where the ABI asks for it. A model says what each call must answer and what the
 * store must hold; at the end nothing may be left. A second thread does the same to keys of its own, unmodelled.
 *
 * MOORAGE_FUZZ_SECONDS (default 2) and MOORAGE_FUZZ_SEED; the seed is printed.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <pthread.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "expect.h"

enum { NAMES = 24, SOURCE = 6 << 20, CAPACITY = 48 << 20, HOLDS = 48, OPEN = 8, BATCH = 8, PARTS = 3,
       SNAPSHOTS = 5 };

/* ---- chance ---- */

static uint64_t seed;
static __thread uint64_t state;

static uint64_t any(void) {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state * 0x2545F4914F6CDD1DULL;
}
static uint64_t below(uint64_t n) { return (any() >> 11) % n; }
static int one_in(uint64_t n) { return below(n) == 0; }

/* Mostly small, now and then large enough for windows and for the copy threads. */
static uint64_t some_size(void) {
  return one_in(12) ? 0 : one_in(40) ? below(3 << 20) : below((uint64_t)1 << (1 + below(17)));
}

static const uint64_t absurd[] = {UINT64_MAX, UINT64_MAX - 7, (uint64_t)INT64_MAX, (uint64_t)INT64_MAX + 1, 1ULL << 62, 1ULL << 45};
/* More than memory has, for sure; and more than there is. */
static uint64_t impossible_size(void) { return UINT64_MAX - below(1000); }
static uint64_t absurd_size(void) { return absurd[below(sizeof absurd / sizeof *absurd)]; }

/* A pointer to nothing may be any number. */
static void *nothing(void) {
  static const uintptr_t numbers[] = {0, 1, 8, 4095, UINTPTR_MAX, UINTPTR_MAX / 2};
  return (void *)numbers[below(sizeof numbers / sizeof *numbers)];
}

/* ---- the model ---- */

typedef struct object {
  int there;
  uint64_t size, hash, seq;
  int tensor, pinned;
  uint64_t meta_size;
} object;

typedef struct name {
  char text[MOOR_MAX_KEY + 1];
  uint64_t size;
  object now;
} name;

/* What was handed out. seq is that of the object it holds; 0: it has memory of its own. */
typedef struct hold {
  DLManagedTensorVersioned *tensor;
  DLManagedTensor *plain;
  moor_buffer buffer; /* release set: it is this */
  unsigned char *data;
  uint64_t size, hash, seq;
  int writable, produced; /* produced: by moor_empty_tensor, not adopted */
} hold;

typedef struct reservation {
  moor_reservation id;
  unsigned char *data;
  uint64_t size;
} reservation;

/* What a snapshot has of the names of the model. */
typedef struct snapshot {
  moor_snapshot id;
  int count;
  name *names[NAMES + BATCH];
  uint64_t index[NAMES + BATCH];
  object objects[NAMES + BATCH];
} snapshot;

static unsigned char source[SOURCE], scratch[SOURCE];
static name names[NAMES];
static hold holds[HOLDS];
static int held;
static reservation reservations[OPEN];
static int reserved;
static snapshot snapshots[SNAPSHOTS];
static int opened;
static moor_snapshot finished;
static moor_store store, closed;
static moor_queue queue;
static moor_reservation ended;
static uint64_t last_seq, calls, refusals;
static int must_fail; /* an argument is nonsense: the call may not succeed */

static uint64_t hash(const unsigned char *p, uint64_t n) {
  uint64_t h = n * 0x9E3779B97F4A7C15ULL, word;
  for (; n >= 8; p += 8, n -= 8) {
    memcpy(&word, p, 8);
    h = (h ^ word) * 0xFF51AFD7ED558CCDULL;
    h ^= h >> 32;
  }
  for (; n > 0; p++, n--) h = (h ^ *p) * 0x100000001B3ULL;
  return h;
}

static void wrong(const char *call, int line, int32_t status, int32_t wanted) {
  fprintf(stderr, "fuzz.c:%d: seed %llu, call %llu: %s is %s, not %s; last error: %s\n", line, (unsigned long long)seed,
          (unsigned long long)calls, call, moor_status_name(status), moor_status_name(wanted), moor_last_error());
  exit(1);
}

/* Judges an answer: wanted, or room for refusal; anything but success when an argument was nonsense. 1: it succeeded. */
static int judge(const char *call, int line, int32_t status, int32_t wanted, int may_be_full) {
  int nonsense = must_fail;
  must_fail = 0;
  calls++;
  refusals += status != MOOR_OK;
  if (status > 0 || status < MOOR_ERR_NO_DEVICE || status == MOOR_ERR_INTERNAL || status == MOOR_ERR_FORKED ||
      strlen(moor_last_error()) > 1023) {
    wrong(call, line, status, wanted);
  }
  if (nonsense ? status == MOOR_OK : status != wanted && !(may_be_full && wanted == MOOR_OK &&
      (status == MOOR_ERR_CAPACITY || status == MOOR_ERR_NO_MEMORY))) {
    wrong(nonsense ? "nonsense accepted by" : call, line, status, wanted);
  }
  return status == MOOR_OK;
}
#define GIVES(wanted, call) judge(#call, __LINE__, call, wanted, 0)
#define GIVES_OR_FULL(wanted, call) judge(#call, __LINE__, call, wanted, 1)

/* ---- arguments ---- */

static int nonsense(void) {
  if (must_fail || !one_in(12)) return 0;
  return must_fail = 1;
}

static moor_store a_store(void) {
  if (!nonsense()) return store;
  const uint64_t ids[] = {0, closed.id, any(), store.id + 1, store.id ^ (1ULL << below(64)), ended.id,
                          reserved ? reservations[0].id.id : 1, opened ? snapshots[0].id.id : 2};
  return (moor_store){ids[below(sizeof ids / sizeof *ids)]};
}

typedef struct key {
  const void *bytes;
  uint64_t size;
  name *name;
} key;

static key a_key(void) {
  name *n = &names[below(NAMES)];
  key k = {n->text, n->size, n};
  if (!nonsense()) return k;
  switch (below(3)) {
    case 0: k.bytes = NULL; break;
    case 1: k.size = 0, k.bytes = nothing(); break;
    default: k.size = one_in(2) ? MOOR_MAX_KEY + 1 : absurd_size();
  }
  return k;
}

static uint32_t a_mode(void) { return nonsense() ? 3 + (uint32_t)below(UINT32_MAX - 3) : (uint32_t)below(3); }

static struct {
  moor_put_options known;
  unsigned char newer[64];
} room;

/* What a put does to a name, and the options that say so. */
static const moor_put_options *an_option(uint32_t flags) {
  moor_put_options *o = &room.known;
  memset(&room, 0, sizeof room);
  o->struct_size = sizeof *o;
  if (one_in(3)) return NULL;
  o->if_exists = one_in(3) ? (uint32_t)below(3) : MOOR_IF_EXISTS_REPLACE;
  o->meta_size = one_in(2) ? 0 : below(one_in(8) ? MOOR_MAX_META + 1 : 40);
  o->meta = o->meta_size ? source + below(1000) : nothing();
  if (flags != 0 && one_in(2)) o->flags = flags & (uint32_t)any();
  if (one_in(4)) o->struct_size = sizeof room; /* a newer program, that asks for nothing new */
  if (!nonsense()) return o;
  switch (below(7)) {
    case 0: o->struct_size = (uint32_t)below(sizeof *o); break;
    case 1: o->struct_size = UINT32_MAX - (uint32_t)below(100); break;
    case 2: o->if_exists = 3 + (uint32_t)below(1000); break;
    case 3: o->flags = flags & MOOR_PUT_ATOMIC ? 8u << below(29) : 4u << below(30); break;
    case 4: o->reserved = 1; break;
    case 5: o->meta = NULL, o->meta_size = 1 + below(MOOR_MAX_META); break;
    default: o->meta_size = one_in(2) ? MOOR_MAX_META + 1 : absurd_size();
  }
  return o;
}

static uint32_t rule(const moor_put_options *o) { return o ? o->if_exists : MOOR_IF_EXISTS_REPLACE; }

static int32_t verdict(const name *n, const moor_put_options *o) {
  return n->now.there && rule(o) == MOOR_IF_EXISTS_RAISE ? MOOR_ERR_EXISTS : MOOR_OK;
}

/* Takes a put that succeeded into the model. */
static void stored(name *n, const moor_put_options *o, const moor_put_result *r, uint64_t size, uint64_t h, int tensor) {
  if (n->now.there && rule(o) == MOOR_IF_EXISTS_KEEP) {
    EXPECT(r->outcome == MOOR_KEPT && r->seq == n->now.seq);
    return;
  }
  EXPECT(r->outcome != MOOR_KEPT && r->seq > last_seq);
  last_seq = r->seq;
  n->now = (object){.there = 1, .size = size, .hash = h, .seq = r->seq, .tensor = tensor, .meta_size = o ? o->meta_size : 0,
                    .pinned = n->now.there && n->now.pinned};
}

static const unsigned char *some_bytes(uint64_t size) { return source + below(SOURCE - size + 1); }

/* A tensor over source, of any strides that stay inside. scratch gets what a store should make of it. */
typedef struct view {
  DLTensor t;
  int64_t shape[MOOR_MAX_DIMS + 1], strides[MOOR_MAX_DIMS + 1];
  uint64_t bytes;
} view;

static void spoil(view *v) {
  DLTensor *t = &v->t;
  t->shape = v->shape;
  switch (below(6)) {
    case 0: t->ndim = one_in(2) ? -1 - (int32_t)below(9) : MOOR_MAX_DIMS + 1 + (int32_t)below(1000); break;
    case 1: t->ndim = t->ndim > 0 ? t->ndim : 1, t->shape = NULL; break;
    case 2: t->ndim = 1, t->shape[0] = -1 - (int64_t)below(1000); break;
    case 3: t->ndim = 3, t->shape[0] = t->shape[1] = t->shape[2] = 1LL << (21 + below(40)); break;
    case 4: t->dtype.bits = t->dtype.lanes = 0; break;
    default: t->dtype.code = (uint8_t)(200 + below(56));
  }
}

static void a_tensor(view *v, int with_data) {
  static const DLDataType types[] = {{kDLUInt, 8, 1}, {kDLFloat, 32, 1}, {kDLBfloat, 16, 1}, {kDLComplex, 128, 1}, {kDLBool, 8, 1}};
  memset(v, 0, sizeof *v);
  v->t = (DLTensor){.device = {kDLCPU, 0}, .dtype = types[below(5)], .shape = v->shape, .strides = v->strides};
  uint64_t item = v->t.dtype.bits / 8u;
  v->bytes = item;
  v->t.ndim = (int32_t)(one_in(20) ? below(MOOR_MAX_DIMS + 1) : below(4));
  int64_t low = 0, step = 1 + (int64_t)below(2);
  for (int i = v->t.ndim; i-- > 0;) {
    v->shape[i] = i < 3 ? (int64_t)(one_in(15) ? 0 : 1 + below(one_in(20) ? 200 : 12)) : 1;
    v->strides[i] = one_in(8) ? 0 : one_in(4) ? -step : step;
    if (v->strides[i] < 0 && v->shape[i] > 0) low += (v->shape[i] - 1) * step;
    step *= v->shape[i] > 0 ? v->shape[i] : 1;
    v->bytes *= (uint64_t)v->shape[i];
  }
  if (v->bytes > SOURCE / 2 || (uint64_t)(low + step) * item > SOURCE) {
    v->t.ndim = 0, v->bytes = item, low = 0, step = 1;
  }
  v->t.data = source + (uint64_t)low * item;
  v->t.byte_offset = below(2) * item * below((SOURCE / item) - (uint64_t)(low + step) + 1);
  if (!with_data) v->t.data = nothing(), v->t.strides = nothing(), v->t.device.device_type = kDLCUDA;
  if (v->t.ndim == 0) v->t.shape = v->t.strides = nothing();
  if (nonsense()) spoil(v);
}

static void gather(const view *v) {
  uint64_t item = v->t.dtype.bits / 8u, at[MOOR_MAX_DIMS] = {0};
  const unsigned char *base = (const unsigned char *)v->t.data + v->t.byte_offset;
  for (uint64_t n = 0; n < v->bytes; n += item) {
    int64_t from = 0;
    for (int i = 0; i < v->t.ndim; i++) from += (int64_t)at[i] * v->strides[i];
    memcpy(scratch + n, base + from * (int64_t)item, item);
    for (int i = v->t.ndim; i-- > 0 && ++at[i] == (uint64_t)v->shape[i];) at[i] = 0;
  }
}

/* ---- what was handed out ---- */

static int is_held(uint64_t seq) {
  for (int i = 0; i < held; i++)
    if (holds[i].seq == seq) return 1;
  for (int i = 0; i < opened; i++) {
    for (int j = 0; j < snapshots[i].count; j++)
      if (snapshots[i].objects[j].seq == seq) return 1;
  }
  return 0;
}

static void let_go(int i) {
  hold h = holds[i];
  EXPECT(hash(h.data, h.size) == h.hash);
  if (h.writable && h.size > 0) memset(h.data + below(h.size), 0x5A, 1);
  holds[i] = holds[--held];
  if (h.tensor) h.tensor->deleter(h.tensor);
  if (h.plain) h.plain->deleter(h.plain);
  if (h.buffer.release) h.buffer.release(&h.buffer);
  EXPECT(h.buffer.release == NULL);
}

static void release(void) {
  if (held > 0) let_go((int)below((uint64_t)held));
}

static hold *new_hold(void) {
  if (held == HOLDS) release();
  memset(&holds[held], 0, sizeof holds[held]);
  return &holds[held];
}

static void keep(hold *h, const name *n, const DLTensor *t, uint32_t mode, int copied, int writable) {
  if (t != NULL) {
    h->data = (unsigned char *)t->data + t->byte_offset;
    EXPECT(t->device.device_type == kDLCPU && t->shape != NULL && t->strides != NULL);
  }
  h->size = n->now.size;
  h->hash = n->now.hash;
  h->writable = writable;
  h->seq = mode == MOOR_MODE_VIEW || (mode == MOOR_MODE_COW && !copied) ? n->now.seq : 0;
  EXPECT(hash(h->data, h->size) == h->hash);
  if (h->writable && h->size > 0) {
    h->data[below(h->size)] ^= 0xFF; /* reaches nobody else */
    h->hash = hash(h->data, h->size);
  }
  held++;
}

static void keep_tensor(DLManagedTensorVersioned *t, const name *n, uint32_t mode) {
  hold *h = new_hold();
  int read_only = (t->flags & DLPACK_FLAG_BITMASK_READ_ONLY) != 0;
  EXPECT(read_only == (mode == MOOR_MODE_VIEW));
  h->tensor = t;
  keep(h, n, &t->dl_tensor, mode, (t->flags & DLPACK_FLAG_BITMASK_IS_COPIED) != 0, !read_only);
}

static void keep_buffer(const moor_buffer *b, const name *n, uint32_t mode) {
  hold *h = new_hold();
  EXPECT(b->size == n->now.size && b->seq == n->now.seq && b->meta_size == n->now.meta_size);
  EXPECT(((b->flags & MOOR_BUFFER_TENSOR) != 0) == n->now.tensor);
  h->buffer = *b;
  h->data = b->data;
  keep(h, n, NULL, mode, (b->flags & MOOR_BUFFER_COPIED) != 0, (b->flags & MOOR_BUFFER_READ_ONLY) == 0);
}

/* ---- putting ---- */

static void put(void) {
  moor_put_result r;
  uint64_t size = some_size();
  const void *data = size ? some_bytes(size) : nothing();
  uint64_t h = hash(data, size);
  key k = a_key();
  const moor_put_options *o = an_option(0);
  moor_store s = a_store();
  if (nonsense()) one_in(2) ? (size = impossible_size()) : (data = NULL, size += 1);
  if (GIVES_OR_FULL(verdict(k.name, o), moor_put(s, k.bytes, k.size, data, size, o, &r))) stored(k.name, o, &r, size, h, 0);
}

static uint64_t some_parts(moor_part *parts, uint64_t count) {
  uint64_t size = 0;
  for (uint64_t i = 0; i < count; i++) {
    parts[i].size = below(one_in(10) ? 100000 : 300);
    parts[i].data = parts[i].size ? some_bytes(parts[i].size) : nothing();
    memcpy(scratch + size, parts[i].data ? parts[i].data : source, parts[i].size);
    size += parts[i].size;
  }
  return size;
}

static void put_parts(void) {
  moor_part parts[PARTS], *given = parts;
  moor_put_result r;
  uint64_t count = below(PARTS + 1), size = some_parts(parts, count), h = hash(scratch, size);
  key k = a_key();
  const moor_put_options *o = an_option(0);
  moor_store s = a_store();
  if (count == 0) given = nothing();
  if (nonsense()) {
    if (count == 0 || one_in(3)) {
      given = one_in(2) ? parts : NULL;
      count = absurd_size() | 1ULL << 61;
    } else if (one_in(2)) {
      parts[0].size = impossible_size();
    } else {
      parts[count - 1] = (moor_part){NULL, 1};
    }
  }
  if (GIVES_OR_FULL(verdict(k.name, o), moor_put_parts(s, k.bytes, k.size, given, count, o, &r))) {
    stored(k.name, o, &r, size, h, 0);
  }
}

static void put_tensor(void) {
  view v;
  moor_put_result r;
  a_tensor(&v, 1);
  key k = a_key();
  const moor_put_options *o = an_option(MOOR_PUT_AS_BYTES);
  moor_store s = a_store();
  int device = nonsense();
  if (device) v.t.device.device_type = kDLCUDA;
  if (!must_fail) gather(&v);
  if (GIVES_OR_FULL(verdict(k.name, o), moor_put_tensor(s, k.bytes, k.size, &v.t, o, &r))) {
    stored(k.name, o, &r, v.bytes, hash(scratch, v.bytes), !(o && o->flags & MOOR_PUT_AS_BYTES));
  }
}

/* ---- producing in place ---- */

static void reserve(void) {
  if (reserved == OPEN) return;
  reservation *r = &reservations[reserved];
  void *data = NULL;
  moor_store s = a_store();
  r->size = nonsense() ? absurd_size() : some_size();
  if (!GIVES_OR_FULL(MOOR_OK, moor_reserve(s, r->size, &r->id, &data))) return;
  EXPECT(((uintptr_t)data & 4095) == 0);
  r->data = data;
  memcpy(data, some_bytes(r->size), r->size);
  reserved++;
}

static moor_reservation a_reservation(reservation **r) {
  *r = &reservations[below((uint64_t)reserved)];
  if (!nonsense()) return (*r)->id;
  const uint64_t ids[] = {0, ended.id, store.id, any(), (*r)->id.id ^ (1ULL << below(64))};
  return (moor_reservation){ids[below(5)]};
}

static void commit(void) {
  if (reserved == 0) return;
  view v;
  reservation *r;
  moor_put_result result;
  key k = a_key();
  const moor_put_options *o = an_option(MOOR_PUT_NO_PROTECT);
  moor_reservation id = a_reservation(&r);
  a_tensor(&v, 0);
  int bytes = !must_fail && one_in(2);
  uint64_t size = bytes ? r->size : v.bytes;
  int32_t wanted = verdict(k.name, o);
  /* What is refused for its size is looked at after the name. */
  if (wanted == MOOR_OK && !(k.name->now.there && rule(o) == MOOR_IF_EXISTS_KEEP) && size > r->size) must_fail = 1;
  uint64_t h = must_fail ? 0 : hash(r->data, size < r->size ? size : r->size);
  if (!GIVES_OR_FULL(wanted, moor_commit(id, k.bytes, k.size, bytes ? NULL : &v.t, o, &result))) return;
  int kept = result.outcome == MOOR_KEPT;
  stored(k.name, o, &result, size, h, !bytes);
  if (kept) return;
  ended = r->id;
  *r = reservations[--reserved];
}

static void give_up(void) {
  if (reserved == 0) return;
  reservation *r;
  moor_reservation id = a_reservation(&r);
  if (!GIVES(MOOR_OK, moor_abort(id))) return;
  ended = r->id;
  *r = reservations[--reserved];
}

static void empty(void) {
  view v;
  DLManagedTensorVersioned *t = (void *)&v;
  a_tensor(&v, 0);
  moor_store s = a_store();
  if (!GIVES_OR_FULL(MOOR_OK, moor_empty_tensor(s, &v.t, &t))) {
    EXPECT(t == (void *)&v);
    return;
  }
  hold *h = new_hold();
  EXPECT(t->dl_tensor.ndim == v.t.ndim && t->flags == 0);
  *h = (hold){.tensor = t, .data = t->dl_tensor.data, .size = v.bytes, .writable = 1, .produced = 1};
  memcpy(h->data, some_bytes(v.bytes), v.bytes);
  h->hash = hash(h->data, h->size);
  held++;
}

static void adopt(void) {
  hold *h = NULL;
  for (int i = 0; i < held && h == NULL; i++)
    if (holds[i].produced) h = &holds[i];
  if (h == NULL) return;
  DLTensor t = h->tensor->dl_tensor;
  moor_put_result r;
  int64_t half = (int64_t)(h->size / 2);
  int slice = h->size > 1 && one_in(4);
  if (slice) {
    t.ndim = 1, t.shape = &half, t.strides = NULL, t.dtype = (DLDataType){kDLUInt, 8, 1};
    t.byte_offset = h->size - (uint64_t)half;
  }
  uint64_t size = slice ? (uint64_t)half : h->size, digest = hash((unsigned char *)t.data + t.byte_offset, size);
  key k = a_key();
  const moor_put_options *o = an_option(0);
  moor_store s = a_store();
  if (!GIVES_OR_FULL(verdict(k.name, o), moor_adopt_tensor(s, k.bytes, k.size, &t, o, &r))) return;
  stored(k.name, o, &r, size, digest, 1);
  if (r.outcome != MOOR_ADOPTED) return;
  EXPECT(!slice);
  h->produced = h->writable = 0;
  h->seq = r.seq;
  uint64_t n;
  if (size > 0 && size <= names[0].now.size && names[0].now.there) { /* its memory is not to be written to any more */
    moor_span span = {h->data, size};
    GIVES(MOOR_ERR_READ_ONLY, moor_get_into(store, names[0].text, names[0].size, 0, size, &span, 1, &n));
  }
  if (one_in(2)) return;
  o = NULL;
  GIVES(MOOR_ERR_ALREADY_ADOPTED, moor_adopt_tensor(store, k.bytes, k.size, &t, o, &r));
}

/* ---- getting ---- */

static int32_t there(const name *n) { return n->now.there ? MOOR_OK : MOOR_ERR_NOT_FOUND; }

static void get_tensor(void) {
  DLManagedTensorVersioned *t = (void *)&held;
  key k = a_key();
  moor_store s = a_store();
  uint32_t mode = a_mode();
  if (GIVES(there(k.name), moor_get_tensor(s, k.bytes, k.size, mode, &t))) {
    keep_tensor(t, k.name, mode);
  } else {
    EXPECT(t == (void *)&held);
  }
}

static void get_unversioned(void) {
  DLManagedTensor *t = (void *)&held;
  key k = a_key();
  moor_store s = a_store();
  uint32_t mode = a_mode();
  if (GIVES(there(k.name), moor_get_tensor_unversioned(s, k.bytes, k.size, mode, &t))) {
    hold *h = new_hold();
    h->plain = t;
    keep(h, k.name, &t->dl_tensor, mode, k.name->now.size < 65536, mode != MOOR_MODE_VIEW);
  } else {
    EXPECT(t == (void *)&held);
  }
}

static void get_buffer(void) {
  moor_buffer b = {.release = NULL};
  key k = a_key();
  moor_store s = a_store();
  uint32_t mode = a_mode();
  if (GIVES(there(k.name), moor_get_buffer(s, k.bytes, k.size, mode, &b))) {
    keep_buffer(&b, k.name, mode);
  } else {
    EXPECT(b.release == NULL && b.data == NULL);
  }
}

static void get(void) {
  key k = a_key();
  moor_store s = a_store();
  uint64_t room_for = one_in(4) ? below(k.name->now.size + 1) : SOURCE, n = 77;
  void *out = room_for ? scratch : nothing();
  if (nonsense()) one_in(2) ? (room_for = UINT64_MAX) : (out = NULL, room_for = 1);
  int32_t wanted = k.name->now.there && room_for < k.name->now.size ? MOOR_ERR_TOO_SMALL : there(k.name);
  int sane = !must_fail;
  if (GIVES(wanted, moor_get(s, k.bytes, k.size, out, room_for, &n))) {
    EXPECT(hash(scratch, n) == k.name->now.hash);
  }
  EXPECT(n == (sane && wanted != MOOR_ERR_NOT_FOUND ? k.name->now.size : 77));
}

/* Spans of scratch, one behind the other with gaps. */
static uint64_t some_spans(moor_span *spans, uint64_t count) {
  uint64_t at = 0, all = 0;
  for (uint64_t i = 0; i < count; i++) {
    spans[i].size = one_in(3) ? SOURCE / 8 : below(300);
    spans[i].data = spans[i].size ? scratch + at : nothing();
    at += spans[i].size + below(100);
    all += spans[i].size;
  }
  return all;
}

static int same(const moor_span *spans, const unsigned char *bytes, uint64_t n) {
  for (; n > 0; spans++) {
    uint64_t part = spans->size < n ? spans->size : n;
    if (memcmp(spans->data, bytes, part) != 0) return 0;
    bytes += part;
    n -= part;
  }
  return 1;
}

static void get_into(void) {
  moor_span spans[PARTS], *given = spans;
  key k = a_key();
  const object *now = &k.name->now;
  uint64_t count = below(PARTS + 1), all = some_spans(spans, count), copied = 77;
  uint64_t offset = one_in(2) ? 0 : below(now->size + 2), n = one_in(2) ? MOOR_ALL : below(now->size + 2);
  moor_store s = a_store();
  if (count == 0) given = nothing();
  if (nonsense()) {
    if (count == 0 || one_in(3)) {
      given = NULL, count = absurd_size() | 1ULL << 61;
    } else {
      one_in(2) ? (spans[0].size = impossible_size()) : (spans[0].data = NULL, spans[0].size = 1);
      spans[count - 1].size = one_in(2) && count > 1 ? UINT64_MAX : spans[count - 1].size;
      if (spans[0].data != NULL && spans[0].size <= (uint64_t)INT64_MAX) offset = now->size + 1;
    }
  }
  int beyond = offset > now->size || (n != MOOR_ALL && n > now->size - offset);
  uint64_t want = beyond ? 0 : n == MOOR_ALL ? now->size - offset : n;
  int32_t wanted = !now->there ? MOOR_ERR_NOT_FOUND : beyond ? MOOR_ERR_INVALID_ARGUMENT : want > all ? MOOR_ERR_TOO_SMALL : 0;
  moor_buffer b = {.release = NULL};
  if (now->there) EXPECT_OK(moor_get_buffer(store, k.name->text, k.name->size, MOOR_MODE_VIEW, &b));
  int read_only = !must_fail && wanted == MOOR_OK && want > 0 && one_in(6);
  if (read_only) given[0] = (moor_span){b.data, want}, wanted = MOOR_ERR_READ_ONLY;
  if (GIVES(wanted, moor_get_into(s, k.bytes, k.size, offset, n, given, count, &copied))) {
    EXPECT(copied == want && same(spans, (unsigned char *)b.data + offset, want));
  } else {
    EXPECT(copied == 77);
  }
  if (b.release) b.release(&b);
}

static void take(void) {
  DLManagedTensorVersioned *t = (void *)&held;
  key k = a_key();
  moor_store s = a_store();
  int32_t wanted = k.name->now.there && is_held(k.name->now.seq) ? MOOR_ERR_BUSY : there(k.name);
  if (!GIVES(wanted, moor_take_tensor(s, k.bytes, k.size, &t))) {
    EXPECT(t == (void *)&held);
    return;
  }
  hold *h = new_hold();
  h->tensor = t;
  keep(h, k.name, &t->dl_tensor, MOOR_MODE_VIEW, 0, t->flags == 0);
  k.name->now = (object){0};
}

/* ---- names ---- */

static void remove_one(void) {
  key k = a_key();
  moor_store s = a_store();
  if (GIVES(there(k.name), moor_remove(s, k.bytes, k.size))) k.name->now = (object){0};
}

static void pin(void) {
  key k = a_key();
  moor_store s = a_store();
  int on = one_in(2);
  if (GIVES(there(k.name), on ? moor_pin(s, k.bytes, k.size) : moor_unpin(s, k.bytes, k.size))) k.name->now.pinned = on;
}

static void describe(void) {
  static struct {
    moor_description known;
    unsigned char newer[64];
  } d;
  key k = a_key();
  moor_store s = a_store();
  memset(&d, 0xEE, sizeof d);
  d.known.struct_size = one_in(2) ? sizeof d : sizeof d.known;
  if (nonsense()) d.known.struct_size = (uint32_t)(one_in(2) ? below(sizeof d.known) : UINT32_MAX);
  if (!GIVES(there(k.name), moor_describe(s, k.bytes, k.size, &d.known))) return;
  const object *now = &k.name->now;
  EXPECT(d.known.size == now->size && d.known.seq == now->seq && d.known.meta_size == now->meta_size);
  EXPECT(!(d.known.flags & MOOR_DESC_PINNED) == !now->pinned && !(d.known.flags & MOOR_DESC_TENSOR) == !now->tensor);
}

static int mine(const char *bytes, uint64_t size) {
  for (int i = 0; i < NAMES; i++)
    if (names[i].size == size && memcmp(names[i].text, bytes, size) == 0) return names[i].now.there ? 1 : -1;
  return 0;
}

/* Lists everything, by small or by large steps, and compares with the model. */
static void list(void) {
  static char bytes[NAMES * MOOR_MAX_KEY + (1 << 16)];
  uint64_t ends[4096], cursor = 0, count = 0, found = 0, want = 0;
  uint64_t capacity = one_in(2) ? sizeof bytes : 6 * MOOR_MAX_KEY;
  for (int steps = 0; cursor != MOOR_LIST_END; steps++) {
    EXPECT(steps < 100000);
    int32_t status = moor_list_keys(store, nothing(), 0, &cursor, bytes, capacity, ends, 4096, &count);
    if (status == MOOR_ERR_TOO_SMALL && capacity < sizeof bytes) {
      capacity = sizeof bytes;
      continue;
    }
    EXPECT_OK(status);
    for (uint64_t i = 0, start = 0; i < count; start = ends[i++]) {
      int known = mine(bytes + start, ends[i] - start);
      EXPECT(known >= 0);
      found += known == 1;
    }
  }
  for (int i = 0; i < NAMES; i++) want += names[i].now.there != 0;
  EXPECT(found == want);
}

static void list_nonsense(void) {
  char bytes[64];
  uint64_t ends[4], cursor = any(), count = 0, used;
  moor_borrow borrows[4];
  moor_store s = a_store();
  uint64_t prefix_size = one_in(2) ? 0 : below(64), size = below(65), n = 1 + below(4);
  const void *prefix = prefix_size ? bytes : nothing();
  memset(bytes, 'x', sizeof bytes);
  if (nonsense()) one_in(2) ? (prefix_size = absurd_size()) : (n = absurd_size() | 1ULL << 61);
  int bad = must_fail;
  must_fail = 0;
  int32_t status = moor_list_keys(s, prefix, prefix_size, &cursor, size ? bytes : nothing(), size, ends, n, &count);
  EXPECT(bad ? status < 0 : status == MOOR_OK || status == MOOR_ERR_TOO_SMALL);
  EXPECT(status != MOOR_ERR_INTERNAL && count <= 4);
  status = moor_list_borrows(store, size ? scratch : nothing(), size, borrows, one_in(4) ? 0 : 4, &count, &used);
  EXPECT(status == MOOR_OK || status == MOOR_ERR_TOO_SMALL);
  status = moor_list_borrows(store, NULL, absurd_size() | 1, nothing(), 0, &count, &used);
  EXPECT(status == MOOR_ERR_INVALID_ARGUMENT);
}

/* ---- batches ---- */

typedef struct pack {
  moor_keys keys;
  char bytes[BATCH * MOOR_MAX_KEY];
  uint64_t ends[BATCH];
  name *names[BATCH];
} pack;

static void spoil_keys(pack *p) {
  switch (below(5)) {
    case 0: p->keys.bytes = NULL; break;
    case 1: p->keys.ends = NULL; break;
    case 2: p->keys.count = UINT64_MAX - below(100); break;
    case 3: p->ends[below(p->keys.count)] = 0; break;
    default: p->ends[0] = absurd_size();
  }
}

static void some_keys(pack *p) {
  uint64_t used = 0;
  p->keys = (moor_keys){p->bytes, p->ends, below(BATCH + 1)};
  for (uint64_t i = 0; i < p->keys.count; i++) {
    name *n = p->names[i] = &names[below(NAMES)];
    memcpy(p->bytes + used, n->text, n->size);
    p->ends[i] = used += n->size;
  }
  if (p->keys.count == 0) p->keys.bytes = nothing(), p->keys.ends = nothing();
  else if (nonsense()) spoil_keys(p);
}

static pack packed;
static int32_t statuses[BATCH];

#define OUT(array) (packed.keys.count ? (void *)(array) : nothing_but_null())
static void *nothing_but_null(void) { return (void *)(uintptr_t)(1 + below(4095)); }

static void get_tensors(void) {
  DLManagedTensorVersioned *t[BATCH] = {0};
  some_keys(&packed);
  moor_store s = a_store();
  uint32_t mode = a_mode();
  if (!GIVES(MOOR_OK, moor_get_tensors(s, &packed.keys, mode, OUT(t), OUT(statuses)))) return;
  for (uint64_t i = 0; i < packed.keys.count; i++) {
    EXPECT_STATUS(statuses[i], there(packed.names[i]));
    if (t[i]) keep_tensor(t[i], packed.names[i], mode);
  }
}

static void get_buffers(void) {
  moor_buffer b[BATCH] = {0};
  some_keys(&packed);
  moor_store s = a_store();
  uint32_t mode = a_mode();
  if (!GIVES(MOOR_OK, moor_get_buffers(s, &packed.keys, mode, OUT(b), OUT(statuses)))) return;
  for (uint64_t i = 0; i < packed.keys.count; i++) {
    EXPECT_STATUS(statuses[i], there(packed.names[i]));
    if (b[i].release) keep_buffer(&b[i], packed.names[i], mode);
  }
}

/* One key's answer in a batch of puts, in the order in which they were done. */
static void stored_one(uint64_t i, const moor_put_options *o, const moor_put_result *r, uint64_t size, uint64_t h, int tensor) {
  int32_t wanted = verdict(packed.names[i], o);
  if (statuses[i] == MOOR_OK) stored(packed.names[i], o, r, size, h, tensor);
  EXPECT(statuses[i] == wanted || (wanted == MOOR_OK && statuses[i] == MOOR_ERR_CAPACITY));
}

/* Whether the call is to be all or nothing; if so, what makes it nothing for sure. */
static int is_set(const moor_put_options *o) {
  if (o == NULL || (o->flags & MOOR_PUT_ATOMIC) == 0) return 0;
  if (must_fail) return 1;
  for (uint64_t i = 0; i < packed.keys.count; i++) {
    must_fail |= verdict(packed.names[i], o) != MOOR_OK;
    for (uint64_t j = 0; j < i; j++) must_fail |= packed.names[i] == packed.names[j];
  }
  return 1;
}

/* The objects of a set have numbers in any order, all of them new. */
static void stored_set(const moor_put_options *o, const moor_put_result *r, const uint64_t *sizes, const uint64_t *hashes,
                       int tensor) {
  uint64_t before = last_seq, most = last_seq;
  for (uint64_t i = 0; i < packed.keys.count; i++) {
    EXPECT(statuses[i] == MOOR_OK);
    last_seq = before;
    stored(packed.names[i], o, &r[i], sizes[i], hashes[i], tensor);
    if (last_seq > most) most = last_seq;
  }
  last_seq = most;
}

static void put_batch(void) {
  moor_part parts[BATCH * PARTS];
  uint64_t ends[BATCH], sizes[BATCH], hashes[BATCH], used = 0;
  moor_put_result r[BATCH];
  some_keys(&packed);
  for (uint64_t i = 0; i < packed.keys.count && i < BATCH; i++) {
    uint64_t n = below(PARTS + 1);
    sizes[i] = some_parts(parts + used, n);
    hashes[i] = hash(scratch, sizes[i]);
    ends[i] = used += n;
  }
  const moor_put_options *o = an_option(MOOR_PUT_ATOMIC);
  moor_store s = a_store();
  int together = is_set(o);
  if (packed.keys.count > 1 && nonsense()) {
    one_in(2) ? (ends[1] = ends[0] - 1) : (ends[0] = ends[1] + 1 + absurd_size() % 1000);
  }
  if (!judge("moor_put_batch", __LINE__,
             moor_put_batch(s, &packed.keys, used ? parts : nothing(), OUT(ends), o, OUT(r), OUT(statuses)), MOOR_OK,
             together)) return;
  if (together) return stored_set(o, r, sizes, hashes, 0);
  for (uint64_t i = 0; i < packed.keys.count; i++) stored_one(i, o, &r[i], sizes[i], hashes[i], 0);
}

static void put_tensors(void) {
  static view v[BATCH];
  const DLTensor *t[BATCH];
  uint64_t hashes[BATCH], sizes[BATCH];
  moor_put_result r[BATCH];
  some_keys(&packed);
  for (uint64_t i = 0; i < packed.keys.count && i < BATCH; i++) {
    a_tensor(&v[i], 1);
    t[i] = &v[i].t;
    sizes[i] = v[i].bytes;
    if (must_fail) continue;
    gather(&v[i]);
    hashes[i] = hash(scratch, v[i].bytes);
  }
  const moor_put_options *o = an_option(MOOR_PUT_AS_BYTES | MOOR_PUT_ATOMIC);
  moor_store s = a_store();
  int together = is_set(o);
  if (packed.keys.count > 0 && nonsense()) t[0] = NULL;
  /* A dtype that nobody knows is found out key by key. */
  int unknown = 0;
  for (uint64_t i = 0; i < packed.keys.count && i < BATCH; i++) unknown |= t[i] && t[i]->dtype.code >= 200;
  if (unknown) return (void)(must_fail = 0);
  if (!judge("moor_put_tensors", __LINE__, moor_put_tensors(s, &packed.keys, OUT(t), o, OUT(r), OUT(statuses)), MOOR_OK,
             together)) return;
  int tensor = !(o && o->flags & MOOR_PUT_AS_BYTES);
  if (together) return stored_set(o, r, sizes, hashes, tensor);
  for (uint64_t i = 0; i < packed.keys.count; i++) stored_one(i, o, &r[i], sizes[i], hashes[i], tensor);
}

static void get_batch_into(void) {
  moor_span spans[BATCH];
  uint64_t ends[BATCH], offsets[BATCH], copied[BATCH];
  some_keys(&packed);
  int with_offsets = one_in(2);
  for (uint64_t i = 0; i < packed.keys.count && i < BATCH; i++) {
    spans[i] = (moor_span){scratch + i * (SOURCE / BATCH), SOURCE / BATCH};
    ends[i] = i + 1;
    offsets[i] = with_offsets ? below(3) : 0;
  }
  moor_store s = a_store();
  if (!GIVES(MOOR_OK, moor_get_batch_into(s, &packed.keys, with_offsets ? OUT(offsets) : NULL, NULL, OUT(spans), OUT(ends),
                                          OUT(copied), OUT(statuses)))) return;
  for (uint64_t i = 0; i < packed.keys.count; i++) {
    const object *now = &packed.names[i]->now;
    if (statuses[i] == MOOR_OK) EXPECT(copied[i] == now->size - offsets[i]);
    if (statuses[i] == MOOR_OK && offsets[i] == 0) EXPECT(hash(spans[i].data, copied[i]) == now->hash);
    EXPECT(statuses[i] == (!now->there                                ? MOOR_ERR_NOT_FOUND
                           : offsets[i] > now->size                   ? MOOR_ERR_INVALID_ARGUMENT
                           : now->size - offsets[i] > SOURCE / BATCH ? MOOR_ERR_TOO_SMALL
                                                                     : MOOR_OK));
  }
}

static void remove_batch(void) {
  some_keys(&packed);
  moor_store s = a_store();
  if (!GIVES(MOOR_OK, moor_remove_batch(s, &packed.keys, OUT(statuses)))) return;
  for (uint64_t i = 0; i < packed.keys.count; i++) {
    EXPECT_STATUS(statuses[i], there(packed.names[i]));
    packed.names[i]->now = (object){0};
  }
}

static void ask(void) {
  uint8_t found[BATCH];
  uint64_t leading = 77, want = 0;
  some_keys(&packed);
  moor_store s = a_store();
  int sane = !must_fail;
  if (GIVES(MOOR_OK, moor_exists(s, &packed.keys, OUT(found)))) {
    for (uint64_t i = 0; i < packed.keys.count; i++) EXPECT(found[i] == packed.names[i]->now.there);
  }
  if (!sane) return;
  while (want < packed.keys.count && packed.names[want]->now.there) want++;
  EXPECT_OK(moor_count_leading(store, &packed.keys, &leading));
  EXPECT(leading == want);
}

static void await(void) {
  some_keys(&packed);
  moor_store s = a_store();
  int32_t wanted = MOOR_OK;
  for (uint64_t i = 0; !must_fail && i < packed.keys.count; i++) {
    if (!packed.names[i]->now.there) wanted = MOOR_ERR_TIMEOUT;
  }
  uint64_t timeout = wanted == MOOR_OK && !must_fail && one_in(2) ? any() : below(2) * below(200000);
  GIVES(wanted, moor_wait(s, &packed.keys, timeout));
}

/* ---- jobs ---- */

static moor_queue a_queue(void) {
  if (!nonsense()) return queue;
  const uint64_t ids[] = {0, store.id, any(), queue.id + 1, queue.id ^ (1ULL << below(64)), closed.id};
  return (moor_queue){ids[below(sizeof ids / sizeof *ids)]};
}

/* Each key is told of once, the last one last. */
static void told(moor_job job, uint64_t tag) {
  moor_completion done[BATCH + 2];
  uint64_t count = 77, n = packed.keys.count > 0 ? packed.keys.count : 1, seen = 0;
  EXPECT_OK(moor_queue_drain(queue, done, BATCH + 2, &count));
  EXPECT(count == n);
  for (uint64_t i = 0; i < n; i++) {
    EXPECT(done[i].job.id == job.id && done[i].tag == tag && done[i].flags == (i == n - 1 ? MOOR_COMPLETION_LAST : 0));
    if (packed.keys.count == 0) {
      EXPECT(done[i].index == MOOR_ALL);
      return;
    }
    EXPECT(done[i].index < n && (seen & 1u << done[i].index) == 0);
    seen |= 1u << done[i].index;
  }
}

static void take_from(moor_job job) {
  DLManagedTensorVersioned *t[BATCH] = {0};
  moor_buffer b[BATCH] = {0};
  uint64_t half = below(packed.keys.count + 1), rest = packed.keys.count - half;
  uint32_t mode = a_mode();
  if (GIVES(MOOR_OK, moor_job_get_tensors(job, 0, half, mode, half ? (void *)t : nothing(), statuses))) {
    for (uint64_t i = 0; i < half; i++) {
      EXPECT_STATUS(statuses[i], there(packed.names[i]));
      if (t[i]) keep_tensor(t[i], packed.names[i], mode);
    }
  }
  uint64_t first = nonsense() ? 1 + absurd_size() / 2 : half;
  mode = (uint32_t)below(3);
  if (!GIVES(MOOR_OK, moor_job_get_buffers(job, first, rest + (first != half), mode, b, statuses))) return;
  for (uint64_t i = 0; i < rest; i++) {
    EXPECT_STATUS(statuses[i], there(packed.names[half + i]));
    if (b[i].release) keep_buffer(&b[i], packed.names[half + i], mode);
  }
}

/* Of a key that comes twice one removal finds it; any other kind finds it as it is. */
static void judge_keys(uint32_t kind, const moor_completion *done) {
  for (uint64_t i = 0; i < packed.keys.count; i++) {
    name *n = packed.names[i];
    if (kind == MOOR_JOB_EXISTS) {
      EXPECT(done[i].status == MOOR_OK && done[i].value == (uint64_t)n->now.there);
    } else if (kind == MOOR_JOB_PERSIST) {
      EXPECT_STATUS(done[i].status, MOOR_ERR_UNSUPPORTED);
    } else if (kind != MOOR_JOB_REMOVE) {
      EXPECT_STATUS(done[i].status, there(n));
    } else {
      int removed = 0;
      for (uint64_t j = 0; j < packed.keys.count; j++) removed += packed.names[j] == n && done[j].status == MOOR_OK;
      EXPECT(removed == n->now.there);
    }
  }
  for (uint64_t i = 0; kind == MOOR_JOB_REMOVE && i < packed.keys.count; i++) packed.names[i]->now = (object){0};
}

static void submit(void) {
  static const uint32_t kinds[] = {MOOR_JOB_GET, MOOR_JOB_GET, MOOR_JOB_PREFETCH, MOOR_JOB_EXISTS, MOOR_JOB_REMOVE, MOOR_JOB_PERSIST};
  moor_completion done[BATCH];
  moor_job job;
  some_keys(&packed);
  moor_store s = a_store();
  moor_queue q = a_queue();
  uint64_t tag = any();
  uint32_t kind = nonsense() ? MOOR_JOB_PERSIST + 1 + (uint32_t)below(UINT32_MAX / 2) : kinds[below(sizeof kinds / sizeof *kinds)];
  if (!GIVES(MOOR_OK, moor_submit_keys(s, q, kind, &packed.keys, tag, &job))) return;
  EXPECT_OK(moor_job_wait(job, UINT64_MAX));
  EXPECT_OK(moor_job_get_results(job, 0, packed.keys.count, packed.keys.count ? (void *)done : nothing()));
  judge_keys(kind, done);
  if (kind == MOOR_JOB_GET) take_from(job);
  if (one_in(2)) EXPECT_OK(moor_job_cancel(job));
  told(job, tag);
  EXPECT_OK(moor_job_close(job));
  EXPECT_STATUS(moor_job_get_status(job, 0), MOOR_ERR_BAD_HANDLE);
}

/* ---- snapshots ---- */

static void close_one(int i) {
  EXPECT_OK(moor_snapshot_close(snapshots[i].id));
  EXPECT_STATUS(moor_snapshot_close(snapshots[i].id), MOOR_ERR_BAD_HANDLE);
  finished = snapshots[i].id;
  snapshots[i] = snapshots[--opened];
}

static void close_snapshot(void) {
  if (opened > 0) close_one((int)below((uint64_t)opened));
}

static snapshot *a_snapshot(moor_snapshot *id_out) {
  snapshot *s = &snapshots[below((uint64_t)opened)];
  *id_out = s->id;
  if (nonsense()) {
    const uint64_t ids[] = {0,        finished.id, any(), store.id, ended.id, s->id.id ^ (1ULL << (20 + below(44))),
                            closed.id};
    id_out->id = ids[below(sizeof ids / sizeof *ids)];
  }
  return s;
}

static void has(snapshot *s, name *n, uint64_t index) {
  s->names[s->count] = n;
  s->index[s->count] = index;
  s->objects[s->count++] = n->now;
}

static void open_by_keys(snapshot *s) {
  moor_snapshot id = {77};
  some_keys(&packed);
  moor_store at = a_store();
  int32_t wanted = MOOR_OK;
  uint64_t prefix_size = nonsense() ? 1 + below(9) : 0;
  for (uint64_t i = 0; !must_fail && i < packed.keys.count; i++) {
    if (!packed.names[i]->now.there) wanted = MOOR_ERR_NOT_FOUND;
  }
  if (!GIVES(wanted, moor_snapshot_open(at, &packed.keys, prefix_size ? source : nothing(), prefix_size, &id))) {
    EXPECT(id.id == 77);
    return;
  }
  *s = (snapshot){.id = id};
  for (uint64_t i = 0; i < packed.keys.count; i++) has(s, packed.names[i], i);
  opened++;
}

static int is_name(const name *n, const moor_keys *keys, uint64_t i) {
  uint64_t start = i > 0 ? keys->ends[i - 1] : 0;
  return keys->ends[i] - start == n->size && memcmp((const char *)keys->bytes + start, n->text, n->size) == 0;
}

/* All names of the model begin differently, so that a prefix leads to one of them, or to all. */
static void open_by_prefix(snapshot *s) {
  moor_snapshot id = {77};
  moor_keys keys;
  name *n = &names[below(NAMES)];
  uint64_t size = one_in(3) ? 0 : 1 + below(n->size);
  const void *prefix = size > 0 ? n->text : nothing();
  moor_store at = a_store();
  int everything = size == 0;
  if (nonsense()) one_in(2) ? (size = MOOR_MAX_KEY + 1 + below(1000)) : (prefix = NULL, size += 1);
  if (!GIVES(MOOR_OK, moor_snapshot_open(at, NULL, prefix, size, &id))) {
    EXPECT(id.id == 77);
    return;
  }
  *s = (snapshot){.id = id};
  EXPECT_OK(moor_snapshot_get_keys(id, &keys));
  EXPECT(everything || keys.count == (n->now.there ? 1 : 0));
  for (int i = 0; i < NAMES; i++) {
    uint64_t at_index = 0;
    while (at_index < keys.count && !is_name(&names[i], &keys, at_index)) at_index++;
    EXPECT((at_index < keys.count) == (names[i].now.there && (everything || &names[i] == n)));
    if (at_index < keys.count) has(s, &names[i], at_index);
  }
  opened++;
}

static void open_snapshot(void) {
  if (opened == SNAPSHOTS) close_snapshot();
  one_in(2) ? open_by_keys(&snapshots[opened]) : open_by_prefix(&snapshots[opened]);
}

static void find(void) {
  moor_snapshot id;
  uint64_t index = 77, wanted = 77;
  if (opened == 0) return;
  snapshot *s = a_snapshot(&id);
  key k = a_key();
  for (int i = s->count; i-- > 0;)
    if (s->names[i] == k.name) wanted = s->index[i];
  GIVES(wanted == 77 ? MOOR_ERR_NOT_FOUND : MOOR_OK, moor_snapshot_find(id, k.bytes, k.size, &index));
  EXPECT(index == wanted || index == 77);
}

static struct {
  moor_snapshot_info known;
  unsigned char newer[64];
} info;

static void inform(void) {
  moor_snapshot id;
  moor_keys keys = {0};
  if (opened == 0) return;
  snapshot *s = a_snapshot(&id);
  if (GIVES(MOOR_OK, moor_snapshot_get_keys(id, &keys))) EXPECT(keys.count >= (uint64_t)s->count);
  s = a_snapshot(&id);
  memset(&info, 0xEE, sizeof info);
  info.known.struct_size = one_in(2) ? sizeof info : sizeof info.known;
  if (nonsense()) info.known.struct_size = (uint32_t)(one_in(2) ? below(sizeof info.known) : UINT32_MAX);
  if (GIVES(MOOR_OK, moor_snapshot_get_info(id, &info.known))) {
    EXPECT(info.known.objects >= (uint64_t)s->count && info.known.flags == 0 && info.known.child_windows == 0);
  }
}

/* An object out of a snapshot, which may have lost its name. */
static void get_from_snapshot(void) {
  static name then;
  moor_snapshot id;
  DLManagedTensorVersioned *t = NULL;
  DLManagedTensor *plain = NULL;
  moor_buffer b = {.release = NULL};
  if (opened == 0) return;
  snapshot *s = a_snapshot(&id);
  if (s->count == 0) return (void)(must_fail = 0);
  int i = (int)below((uint64_t)s->count);
  uint64_t index = nonsense() ? 100000 + absurd_size() / 2 : s->index[i];
  uint32_t mode = a_mode();
  then.now = s->objects[i];
  switch (below(3)) {
    case 0:
      if (GIVES(MOOR_OK, moor_snapshot_get_tensor(id, index, mode, &t))) keep_tensor(t, &then, mode);
      break;
    case 1:
      if (GIVES(MOOR_OK, moor_snapshot_get_buffer(id, index, mode, &b))) keep_buffer(&b, &then, mode);
      break;
    default:
      if (!GIVES(MOOR_OK, moor_snapshot_get_tensor_unversioned(id, index, mode, &plain))) break;
      hold *h = new_hold();
      h->plain = plain;
      keep(h, &then, &plain->dl_tensor, mode, then.now.size < 65536, mode != MOOR_MODE_VIEW);
  }
  EXPECT(t == NULL || plain == NULL);
}

/* ---- registered memory and devices ---- */

enum { RANGES = 12, DEVICES = 2 };

typedef struct range {
  moor_registration id;
  uint64_t from, size; /* in source */
  int locked;
} range;

static range ranges[RANGES];
static int registered;
static moor_registration gone_range;
static int attached[DEVICES];
static long (*fake_get)(const char *); /* of the library that stands in for verbs; NULL: there is none, and no device */

static void find_stand_in(void) {
  const char *path = getenv("MOORAGE_LIBIBVERBS");
  void *library = path ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
  if (library != NULL) *(void **)&fake_get = dlsym(library, "fake_get");
}

static moor_registration a_registration(range **r) {
  *r = &ranges[below((uint64_t)registered)];
  if (!nonsense()) return (*r)->id;
  const uint64_t ids[] = {0, gone_range.id, store.id, any(), (*r)->id.id ^ (1ULL << below(64)), opened ? snapshots[0].id.id : 1};
  return (moor_registration){ids[below(6)]};
}

static void register_range(void) {
  if (registered == RANGES) return;
  range *r = &ranges[registered];
  moor_register_options o = {.struct_size = sizeof o}, *given = one_in(3) ? NULL : &o;
  *r = (range){.size = 1 + below(one_in(4) ? SOURCE : 100000)};
  r->from = below(SOURCE - r->size + 1);
  void *data = source + r->from;
  uint64_t size = r->size;
  r->locked = given != NULL && size <= 100000 && one_in(3);
  o.flags = r->locked ? MOOR_REGISTER_LOCK : 0;
  moor_store s = a_store();
  if (nonsense()) {
    switch (below(5)) {
      case 0: size = 0; break;
      case 1: size = one_in(2) ? impossible_size() : absurd_size(); break;
      case 2: data = nothing(); break;
      case 3: given = &o, o.flags = 2u << below(31); break;
      default: given = &o, o.struct_size = (uint32_t)below(sizeof o);
    }
  }
  if (held > 0 && holds[0].seq != 0 && !holds[0].writable && holds[0].size > 0 && nonsense()) data = holds[0].data, size = 1; /* the store's own */
  if (!GIVES_OR_FULL(MOOR_OK, moor_register_memory(s, data, size, given, &r->id))) return;
  registered++;
}

static void deregister_range(void) {
  if (registered == 0) return;
  range *r;
  moor_registration id = a_registration(&r);
  if (!GIVES(MOOR_OK, moor_registration_release(id, one_in(2) ? any() : 0))) return;
  gone_range = r->id;
  *r = ranges[--registered];
}

static void look_for_range(void) {
  uint64_t size = 1 + below(20000), from = below(SOURCE - size + 1);
  moor_registration_info info = {.struct_size = sizeof info, .offset = 77};
  const void *data = source + from;
  int in = 0;
  for (int i = 0; i < registered; i++) in |= from >= ranges[i].from && from + size <= ranges[i].from + ranges[i].size;
  moor_store s = a_store();
  if (nonsense()) one_in(2) ? (void)(info.struct_size = (uint32_t)below(sizeof info)) : (void)(data = NULL);
  if (!GIVES(in ? MOOR_OK : MOOR_ERR_NOT_FOUND, moor_find_registration(s, data, size, &info))) return;
  for (int i = 0; i < registered; i++) {
    range *r = &ranges[i];
    if (info.registration.id != r->id.id) continue;
    EXPECT(info.size == r->size && info.offset == from - r->from && info.in_flight == 0);
    EXPECT(info.flags == (r->locked ? MOOR_REGISTERED_LOCKED : 0));
    return;
  }
  EXPECT(!"a registration of ours");
}

static void attach(void) {
  static const char *const wrong_names[] = {"", "fake2", "a name that is longer than the sixty-three bytes that a device may have"};
  int i = (int)below(DEVICES);
  char name[8] = "fake0", out[MOOR_DEVICE_NAME] = "";
  const char *given = name;
  name[4] = (char)('0' + i);
  moor_store s = a_store();
  if (one_in(4)) given = NULL, i = 0;
  int32_t wanted = fake_get == NULL ? MOOR_ERR_NO_DEVICE : attached[i] ? MOOR_ERR_EXISTS : MOOR_OK;
  if (nonsense()) given = wrong_names[below(3)];
  if (!GIVES(wanted, moor_attach_device(s, given, one_in(2) ? NULL : out))) return;
  EXPECT(out[0] == 0 || (out[4] == '0' + i && out[5] == 0));
  attached[i] = 1;
}

static void detach(void) {
  int i = (int)below(DEVICES);
  char name[8] = "fake0";
  const char *given = name;
  name[4] = (char)('0' + i);
  moor_store s = a_store();
  if (nonsense()) given = one_in(2) ? NULL : "";
  if (GIVES(attached[i] ? MOOR_OK : MOOR_ERR_NOT_FOUND, moor_detach_device(s, given, any()))) attached[i] = 0;
}

/* What each device has: no more than is registered. */
static void look_at_devices(void) {
  moor_device_stats stats[DEVICES];
  uint64_t count = 0, room = below(DEVICES + 1);
  moor_store s = a_store();
  if (GIVES(MOOR_OK, moor_list_attached(s, room ? stats : nothing(), room, &count))) {
    EXPECT(count == (uint64_t)(attached[0] + attached[1]));
    for (uint64_t i = 0; i < room && i < count; i++) EXPECT(stats[i].regions <= (uint64_t)registered + 1 /* the other thread */);
  }
  if (!one_in(20)) return;
  moor_device devices[DEVICES];
  moor_device_list list = {.struct_size = sizeof list};
  if (nonsense()) list.struct_size = (uint32_t)below(sizeof list);
  if (!GIVES(MOOR_OK, moor_list_devices(room ? devices : nothing(), room, &list))) return;
  if (fake_get == NULL) return;
  EXPECT(list.count == DEVICES && list.missing == MOOR_MISSING_NOTHING && (room < 2 || strcmp(devices[1].name, "fake1") == 0));
  char text[200];
  if (nonsense()) {
    GIVES(MOOR_OK, moor_explain_device(NULL, 4 + (uint32_t)below(100), text, sizeof text));
  } else if (GIVES(MOOR_OK, moor_explain_device("fake1", (uint32_t)below(4), text, room = 1 + below(sizeof text)))) {
    EXPECT(strlen(text) < room);
  }
}

static void end_registrations(void) {
  while (registered > 0) EXPECT_OK(moor_registration_release(ranges[--registered].id, 0));
  moor_stats s = {.struct_size = sizeof s};
  EXPECT_OK(moor_get_stats(store, &s));
  EXPECT(s.registrations == 0 && s.registered_bytes == 0 && s.locked_bytes == 0);
  EXPECT(s.devices == (uint64_t)(attached[0] + attached[1]));
}

/* Behind the end of every store. */
static void no_device_is_left(void) {
  static const char *const kinds[] = {"live_contexts", "live_pds", "live_mrs"};
  for (int i = 0; fake_get != NULL && i < 3; i++) {
    for (int j = 0; fake_get(kinds[i]) > 0 && j < 1000; j++) usleep(5000);
    EXPECT(fake_get(kinds[i]) == 0);
  }
  EXPECT(fake_get == NULL || fake_get("write_grants") == 0);
}

/* ---- the store ---- */

static void upkeep(void) {
  moor_stats s = {.struct_size = sizeof s};
  uint64_t n;
  moor_store at = a_store();
  if (nonsense()) s.struct_size = (uint32_t)(one_in(2) ? below(sizeof s) : UINT32_MAX);
  if (GIVES(MOOR_OK, moor_get_stats(at, &s))) EXPECT(s.capacity == CAPACITY && s.last_seq >= last_seq);
  at = a_store();
  GIVES(MOOR_OK, moor_trim(at, one_in(2) ? NULL : &n));
  at = a_store();
  GIVES(MOOR_OK, moor_count_objects(at, one_in(2) ? NULL : &n, one_in(2) ? NULL : &n));
  if (!one_in(30)) return;
  at = a_store();
  if (!GIVES(MOOR_OK, moor_clear(at, one_in(2) ? NULL : &n))) return;
  for (int i = 0; i < NAMES; i++) names[i].now = (object){0};
}

static void open_and_close(void) {
  moor_store_options o = {.struct_size = sizeof o, .capacity = 1 << 20, .prefault = (uint32_t)below(3)};
  moor_store other = {.id = 77};
  if (nonsense()) {
    switch (below(6)) {
      case 0: o.struct_size = (uint32_t)below(sizeof o); break;
      case 5: o.registering = 4 + (uint32_t)below(100); break;
      case 1: o.eviction = 2 + (uint32_t)below(100); break;
      case 2: o.hugepages = 4 + (uint32_t)below(100); break;
      case 3: o.prefault = 3 + (uint32_t)below(100); break;
      default: o.capacity = UINT64_MAX - below(100);
    }
  }
  if (!GIVES(MOOR_OK, moor_store_open(&o, &other))) {
    EXPECT(other.id == 77);
    return;
  }
  EXPECT_OK(moor_put(other, "k", 1, source, 1000, NULL, NULL));
  moor_registration left;
  int devices = fake_get != NULL && one_in(2);
  if (devices) { /* which it takes with it */
    EXPECT_OK(moor_attach_device(other, NULL, NULL));
    EXPECT_OK(moor_register_memory(other, source, 1000, NULL, &left));
  }
  must_fail = 1;
  GIVES(MOOR_ERR_INVALID_ARGUMENT, moor_store_close(other, 2u + (uint32_t)below(1000) * 2));
  EXPECT_OK(moor_store_close(other, (uint32_t)below(2)));
  closed = other;
  GIVES(MOOR_ERR_BAD_HANDLE, moor_store_close(other, 0));
  if (devices) EXPECT_OK(moor_registration_release(left, UINT64_MAX));
}

static void words(void) {
  EXPECT(moor_abi_level() >= MOOR_ABI_LEVEL && moor_version()[0] != 0);
  EXPECT(strncmp(moor_status_name((int32_t)any()), "MOOR_", 5) == 0);
}

/* ---- files ---- */

static int32_t on_progress(void *context, uint64_t done, uint64_t total) {
  moor_stats s = {.struct_size = sizeof s};
  EXPECT(done <= total);
  EXPECT_OK(moor_get_stats(store, &s));
  return context == (void *)1;
}

static void damage(const char *path) {
  FILE *f = fopen(path, "r+b");
  if (f == NULL) return;
  for (uint64_t n = below(4); n > 0; n--) {
    fseek(f, (long)below(200), SEEK_SET);
    fputc((int)below(256), f);
  }
  if (one_in(3) && ftruncate(fileno(f), (off_t)below(400)) != 0) exit(1);
  fclose(f);
}

static void forget_imported(void) {
  char bytes[1 << 16];
  uint64_t ends[256], cursor = 0, n;
  while (cursor != MOOR_LIST_END) {
    EXPECT_OK(moor_list_keys(store, "imported/", 9, &cursor, bytes, sizeof bytes, ends, 256, &n));
    for (uint64_t i = 0, start = 0; i < n; start = ends[i++]) {
      EXPECT_OK(moor_remove(store, bytes + start, ends[i] - start));
    }
  }
}

static void files(void) {
  char path[512];
  moor_file_options o = {.struct_size = sizeof o, .progress = one_in(2) ? on_progress : NULL, .context = nothing()};
  uint64_t n = 77, found = 77, one[1] = {11};
  moor_keys imported = {"imported/t0", one, 1};
  int32_t status;
  view v;
  snprintf(path, sizeof path, "%s/fuzz.safetensors", getenv("MOOR_TMP") ? getenv("MOOR_TMP") : "/tmp");
  a_tensor(&v, 1);
  if (must_fail) return (void)(must_fail = 0);
  status = moor_put_tensor(store, "imported/t0", 11, &v.t, NULL, NULL);
  if (status == MOOR_ERR_CAPACITY) return;
  EXPECT_OK(status);
  status = moor_export_safetensors(store, path, &imported, below(12), one_in(2) ? &o : NULL);
  EXPECT(status != MOOR_ERR_INTERNAL);
  if (one_in(2)) damage(path);
  EXPECT_OK(moor_remove(store, "imported/t0", 11));
  if (nonsense()) one_in(2) ? (o.struct_size = 1) : (o.if_exists = 9);
  status = moor_import_safetensors(store, one_in(10) ? "/" : path, "imported/", 9, must_fail || one_in(2) ? &o : NULL, &n);
  must_fail = 0;
  EXPECT(status != MOOR_ERR_INTERNAL && (status == MOOR_OK) == (n != 77));
  imported.bytes = "imported/";
  one[0] = 9;
  EXPECT_OK(moor_exists(store, &imported, (uint8_t *)&found));
  forget_imported();
  calls += 2;
}

/* ---- the other thread ---- */

static int stop; /* atomic */

static void disturb_snapshot(void) {
  moor_snapshot s;
  moor_keys keys;
  moor_buffer b;
  EXPECT_OK(moor_snapshot_open(store, NULL, "other-", 6, &s));
  EXPECT_OK(moor_snapshot_get_keys(s, &keys));
  for (uint64_t i = 0; i < keys.count; i++) {
    int32_t status = moor_snapshot_get_buffer(s, i, (uint32_t)below(3), &b);
    EXPECT_OK(status);
    EXPECT(memcmp(b.data, source, b.size) == 0);
    b.release(&b);
  }
  EXPECT_OK(moor_snapshot_close(s));
}

static void disturb_registrations(void) {
  static char memory[50000];
  moor_registration r;
  if (moor_register_memory(store, memory, 1 + below(sizeof memory), NULL, &r) == MOOR_OK) EXPECT_OK(moor_registration_release(r, 0));
}

static void *disturb(void *unused) {
  (void)unused;
  state = (seed + 1) * 0xBF58476D1CE4E5B9ULL;
  DLManagedTensorVersioned *t[16] = {0};
  for (uint64_t i = 0; !__atomic_load_n(&stop, __ATOMIC_RELAXED); i++) {
    char text[16];
    uint64_t n = (uint64_t)snprintf(text, sizeof text, "other-%d", (int)below(10)), size = below(100000), used;
    int slot = (int)below(16);
    moor_buffer b;
    moor_reservation r;
    void *data;
    if (t[slot]) t[slot]->deleter(t[slot]);
    t[slot] = NULL;
    switch (below(10)) {
      case 0:
      case 1: moor_put(store, text, n, source, size, NULL, NULL); break;
      case 2:
        if (moor_get_buffer(store, text, n, (uint32_t)below(3), &b) == MOOR_OK) {
          EXPECT(memcmp(b.data, source, b.size) == 0);
          b.release(&b);
        }
        break;
      case 3: moor_take_tensor(store, text, n, &t[slot]); break;
      case 4: moor_remove(store, text, n); break;
      case 5:
        if (moor_reserve(store, size, &r, &data) != MOOR_OK) break;
        memcpy(data, source, size);
        if (moor_commit(r, text, n, NULL, NULL, NULL) != MOOR_OK) moor_abort(r);
        break;
      case 6: moor_list_borrows(store, NULL, 0, NULL, 0, &used, &used); break;
      case 7: disturb_snapshot(); break;
      case 8: disturb_registrations(); break;
      default: moor_get_tensor(store, text, n, (uint32_t)below(4), &t[slot]);
    }
  }
  for (int i = 0; i < 16; i++)
    if (t[i]) t[i]->deleter(t[i]);
  return NULL;
}

/* ---- the run ---- */

static void (*const operations[])(void) = {
    put,        put,       put_parts,  put_tensor, put_tensor,  reserve,     commit,      give_up,        empty,        adopt,
    get_tensor, get_tensor, get_unversioned, get_buffer, get_buffer, get, get_into, take, remove_one, pin,
    describe,   list_nonsense, get_tensors, get_buffers, put_batch, put_tensors, get_batch_into, remove_batch, ask, upkeep,
    release,    release,   release,    release,    words,       await,       open_snapshot, close_snapshot, find,       inform,
    get_from_snapshot, get_from_snapshot, submit, submit, register_range, deregister_range, look_for_range, attach, detach,
    look_at_devices,
};

static void step(uint64_t i) {
  operations[below(sizeof operations / sizeof *operations)]();
  EXPECT(must_fail == 0);
  if (i % 101 == 0) list();
  if (i % 211 == 0) files();
  if (i % 307 == 0) open_and_close();
}

static void make_names(void) {
  for (int i = 0; i < NAMES; i++) {
    names[i].size = i == 0 ? 1 : i == 1 ? MOOR_MAX_KEY : 2 + below(60);
    for (uint64_t j = 0; j < names[i].size; j++) names[i].text[j] = (char)any();
    names[i].text[0] = (char)i; /* all differ, and none is the other thread's */
  }
  for (uint64_t i = 0; i < SOURCE; i += 8) {
    uint64_t word = any();
    memcpy(source + i, &word, 8);
  }
}

static void check_everything(void) {
  for (int i = 0; i < NAMES; i++) {
    uint64_t n = 0;
    EXPECT_STATUS(moor_get(store, names[i].text, names[i].size, scratch, SOURCE, &n), there(&names[i]));
    EXPECT(!names[i].now.there || hash(scratch, n) == names[i].now.hash);
  }
  list();
}

/* A forked child is refused before any argument is looked at. */
static void refuse_child(void) {
  pid_t child = fork();
  if (child == 0) {
    moor_store s = {any()};
    int all = moor_put(s, nothing(), any(), nothing(), any(), nothing(), nothing()) == MOOR_ERR_FORKED &&
              moor_get_tensor(store, nothing(), any(), 0, nothing()) == MOOR_ERR_FORKED &&
              moor_get_tensors(s, nothing(), 9, nothing(), nothing()) == MOOR_ERR_FORKED &&
              moor_store_open(nothing(), nothing()) == MOOR_ERR_FORKED && moor_store_close(store, 9) == MOOR_ERR_FORKED &&
              moor_list_keys(s, 0, any(), 0, 0, any(), 0, any(), 0) == MOOR_ERR_FORKED &&
              moor_snapshot_open(s, nothing(), nothing(), any(), nothing()) == MOOR_ERR_FORKED &&
              moor_wait(s, nothing(), any()) == MOOR_ERR_FORKED &&
              moor_queue_drain(queue, nothing(), any(), nothing()) == MOOR_ERR_FORKED &&
              moor_submit_keys(s, queue, 1, nothing(), any(), nothing()) == MOOR_ERR_FORKED &&
              moor_register_memory(s, nothing(), any(), nothing(), nothing()) == MOOR_ERR_FORKED &&
              moor_attach_device(s, nothing(), nothing()) == MOOR_ERR_FORKED &&
              moor_list_devices(nothing(), any(), nothing()) == MOOR_ERR_FORKED;
    for (int i = 0; opened > 0 && i < 200; i++) get_from_snapshot();
    while (opened > 0) close_one(0);
    while (held > 0) let_go(0);
    _exit(all ? 0 : 1);
  }
  int status = -1;
  EXPECT(child > 0 && waitpid(child, &status, 0) == child && status == 0);
}

static void nothing_is_left(void) {
  moor_stats s = {.struct_size = sizeof s};
  while (held > 0) let_go(0);
  while (opened > 0) close_one(0);
  EXPECT_OK(moor_queue_close(queue));
  while (reserved > 0) EXPECT_OK(moor_abort(reservations[--reserved].id));
  end_registrations();
  EXPECT_OK(moor_clear(store, NULL));
  for (int i = 0; i < 1000; i++) { /* until the child is known to have ended */
    EXPECT_OK(moor_get_stats(store, &s));
    if (s.children == 0 && s.used == 0) break;
    usleep(5000);
  }
  EXPECT(s.objects == 0 && s.used == 0 && s.borrowed_objects == 0 && s.borrowed_bytes == 0 && s.windows == 0);
  uint64_t objects = 77, views = 77;
  EXPECT_OK(moor_count_objects(store, &objects, &views));
  EXPECT(objects == 0 && views == 0);
  EXPECT(s.held_bytes == 0 && s.protected_extents == 0 && s.pinned_objects == 0 && s.children == 0);
}

static int descriptors(void) {
  int n = 0;
  DIR *d = opendir("/proc/self/fd");
  while (d != NULL && readdir(d) != NULL) n++;
  if (d != NULL) closedir(d);
  return n;
}

static int mapped(void) {
  char line[1024];
  int n = 0;
  FILE *f = fopen("/proc/self/maps", "r");
  while (f != NULL && fgets(line, sizeof line, f) != NULL) n += strstr(line, "memfd:moorage") != NULL;
  if (f != NULL) fclose(f);
  return n;
}

static void gone(int before) {
  for (int i = 0; i < 1000 && (mapped() > 0 || descriptors() > before); i++) usleep(5000);
  EXPECT(mapped() == 0);
  EXPECT(descriptors() <= before);
}

int main(void) {
  const char *seconds = getenv("MOORAGE_FUZZ_SECONDS"), *given = getenv("MOORAGE_FUZZ_SEED");
  moor_store_options o = {.struct_size = sizeof o, .capacity = CAPACITY};
  pthread_t other;
  seed = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL) * 1000003 + (uint64_t)getpid();
  state = (seed + 1) * 0x9E3779B97F4A7C15ULL;
  printf("seed %llu\n", (unsigned long long)seed);
  fflush(stdout);
  make_names();
  find_stand_in();
  EXPECT_OK(moor_store_open(&o, &closed));
  EXPECT_OK(moor_store_close(closed, MOOR_CLOSE_WAIT)); /* what the library opens once, it has opened */
  gone(1 << 20);
  int before = descriptors();
  EXPECT_OK(moor_store_open(&o, &store));
  EXPECT_OK(moor_queue_open(&queue));
  EXPECT(pthread_create(&other, NULL, disturb, NULL) == 0);
  time_t end = time(NULL) + (seconds ? atoi(seconds) : 2);
  for (uint64_t i = 1; time(NULL) <= end; i++) step(i);
  __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
  pthread_join(other, NULL);
  check_everything();
  refuse_child();
  check_everything();
  nothing_is_left();
  EXPECT_OK(moor_store_close(store, MOOR_CLOSE_WAIT));
  no_device_is_left();
  gone(before);
  printf("ok %llu calls, %llu of them refused\n", (unsigned long long)calls, (unsigned long long)refusals);
  return 0;
}
