/* SPDX-License-Identifier: Apache-2.0
 *
 * The fault line: a write to read-only memory of a store ends the process, and before it does, one line says which key
 * it was and what to do instead. Every other fault goes to whoever handled it before.
 *
 * Three handlers have to get along: Go's, which turns faults in Go code into panics; those of the program, Python's
 * faulthandler first of all; and this one. Go installs its own while the library is loaded, so a constructor that runs
 * before Go's notes what the program had. Ours goes on top when a store is opened and on slow calls, since a program
 * may install another one at any time. MOORAGE_FAULT_HANDLER=0 keeps it out.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "layout.h"

/* Where the text of this library lies; the linker sets them. */
extern const char __ehdr_start[] __attribute__((visibility("hidden")));
extern const char etext[] __attribute__((visibility("hidden")));

/* Each installation takes the next of these, so that a handler that runs meanwhile reads a whole one. */
#define GENERATIONS 16

typedef struct fault_signal {
  int number;
  struct sigaction before_go; /* what the program had when the library was loaded */
  struct sigaction go;
  int go_known; /* atomic */
  struct sigaction below[GENERATIONS]; /* what ours replaced last; a ring */
  uint32_t generation;                 /* atomic: how often ours was installed; the newest is the one before */
  uint32_t passed;                     /* atomic: a fault went to another handler */
} fault_signal;

static fault_signal signals[] = {{.number = SIGSEGV}, {.number = SIGBUS}};
#define SIGNALS (sizeof signals / sizeof *signals)

static void on_fault(int number, siginfo_t *info, void *context);

static int is_default(const struct sigaction *a) {
  return (a->sa_flags & SA_SIGINFO) == 0 && (a->sa_handler == SIG_DFL || a->sa_handler == SIG_IGN);
}

static int is_ours(const struct sigaction *a) { return (a->sa_flags & SA_SIGINFO) != 0 && a->sa_sigaction == on_fault; }

static int is_same(const struct sigaction *a, const struct sigaction *b) {
  return (a->sa_flags & SA_SIGINFO) == (b->sa_flags & SA_SIGINFO) && a->sa_handler == b->sa_handler;
}

/* ---- installation ---- */

__attribute__((constructor(101))) static void note_program(void) {
  for (size_t i = 0; i < SIGNALS; i++) sigaction(signals[i].number, NULL, &signals[i].before_go);
}

/* Go's handler is the one inside this library. dladdr must not be called from a handler, so it is asked here. */
static void note_go(fault_signal *s, const struct sigaction *now) {
  Dl_info ours, theirs;
  if (__atomic_load_n(&s->go_known, __ATOMIC_RELAXED) || is_default(now) || is_ours(now)) return;
  if (dladdr((void *)(uintptr_t)note_go, &ours) == 0 || dladdr((void *)(uintptr_t)now->sa_handler, &theirs) == 0) return;
  if (ours.dli_fbase != theirs.dli_fbase) return;
  s->go = *now;
  __atomic_store_n(&s->go_known, 1, __ATOMIC_RELEASE);
}

/* Runs before or after Go's own, as the linker happens to order them. If before, the first installation sees Go's handler,
 * unless the program has put another on top by then. */
__attribute__((constructor)) static void note_go_at_load(void) {
  for (size_t i = 0; i < SIGNALS; i++) {
    struct sigaction now;
    if (sigaction(signals[i].number, NULL, &now) == 0) note_go(&signals[i], &now);
  }
}

static void install(fault_signal *s) {
  struct sigaction now, ours;
  if (sigaction(s->number, NULL, &now) != 0 || is_ours(&now)) return;
  note_go(s, &now);
  uint32_t n = __atomic_load_n(&s->generation, __ATOMIC_RELAXED);
  s->below[n % GENERATIONS] = now;
  __atomic_store_n(&s->generation, n + 1, __ATOMIC_RELEASE);
  memset(&ours, 0, sizeof ours);
  ours.sa_sigaction = on_fault;
  ours.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigfillset(&ours.sa_mask);
  sigaction(s->number, &ours, NULL);
}

void moor_fault_install(void) {
  static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  static int wanted = -1; /* guarded by mutex */
  /* Whoever finds it locked need not wait: the other one is doing the same. */
  if (pthread_mutex_trylock(&mutex) != 0) return;
  if (wanted < 0) {
    const char *setting = getenv("MOORAGE_FAULT_HANDLER");
    wanted = setting == NULL || strcmp(setting, "0") != 0;
  }
  for (size_t i = 0; wanted && i < SIGNALS; i++) install(&signals[i]);
  pthread_mutex_unlock(&mutex);
}

/* ---- the key ---- */

#define CHUNKS 65536
#define CHUNK_UNITS 65536

/* The directory of record memory, as core/index lays it out. */
typedef struct directory {
  uint32_t chunks; /* atomic: chunks 1 to this one can be walked */
  uint32_t tiled;  /* units of a chunk that are covered by blocks */
  uint32_t unit;   /* bytes of a unit */
  uint32_t zero[13];
  const char *chunk[CHUNKS];
} directory;

typedef struct key {
  const char *bytes; /* NULL: not found */
  uint32_t size;
} key;

static key body_key(const directory *d, uint32_t unit) {
  key none = {NULL, 0};
  uint32_t chunk = unit / CHUNK_UNITS, at = unit % CHUNK_UNITS;
  if (chunk == 0 || chunk > d->chunks || d->chunk[chunk] == NULL || at >= d->tiled) return none;
  const moor_body *b = (const moor_body *)(d->chunk[chunk] + (size_t)at * MOOR_RECORD_UNIT);
  size_t room = (size_t)(d->tiled - at) * MOOR_RECORD_UNIT;
  size_t before = sizeof *b + 8 * (size_t)b->ndim;
  if (b->key_len == 0 || before + b->key_len > room) return none;
  return (key){(const char *)b + before, b->key_len};
}

/* Blocks lie one behind the other. Others may be at work on them, so every length is checked. */
static key find_in_chunk(const directory *d, const char *chunk, uint64_t offset) {
  key none = {NULL, 0};
  for (uint32_t at = 0; at < d->tiled;) {
    const moor_cell *c = (const moor_cell *)(chunk + (size_t)at * MOOR_RECORD_UNIT);
    uint32_t units = c->units;
    if (units < 2 || units > d->tiled - at) return none;
    if (c->kind == MOOR_KIND_RECORD && offset >= c->off && offset - c->off < c->bytes && c->body != 0) {
      return body_key(d, c->body);
    }
    at += units;
  }
  return none;
}

static key find_key(const moor_region *r, uint64_t offset) {
  key found = {NULL, 0};
  const directory *d = (const directory *)(uintptr_t)r->records;
  if (d == NULL || d->unit != MOOR_RECORD_UNIT || d->tiled > CHUNK_UNITS) return found;
  uint32_t chunks = __atomic_load_n(&d->chunks, __ATOMIC_ACQUIRE);
  for (uint32_t i = 1; i <= chunks && i < CHUNKS && found.bytes == NULL; i++) {
    if (d->chunk[i] != NULL) found = find_in_chunk(d, d->chunk[i], offset);
  }
  return found;
}

/* ---- the line ---- */

#define LINE_SIZE 1024
#define KEY_SHOWN 256

typedef struct line {
  char text[LINE_SIZE];
  size_t size;
} line;

static void add(line *l, const char *text, size_t size) {
  for (size_t i = 0; i < size && l->size < LINE_SIZE - 1; i++) l->text[l->size++] = text[i];
}

static void say(line *l, const char *text) { add(l, text, strlen(text)); }

/* Printable ASCII as it is, everything else as \xNN: a terminal must not be steered by a key. At most KEY_SHOWN characters,
 * so that there is room for what to do instead. */
static void say_key(line *l, key k) {
  static const char digits[] = "0123456789abcdef";
  uint32_t at = 0;
  say(l, " \"");
  for (uint32_t shown = 0; at < k.size; at++) {
    unsigned char c = (unsigned char)k.bytes[at];
    char escaped[4] = {'\\', 'x', digits[c >> 4], digits[c & 15]};
    int plain = c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
    shown += plain ? 1 : sizeof escaped;
    if (shown > KEY_SHOWN) break;
    if (plain) {
      add(l, k.bytes + at, 1);
    } else {
      add(l, escaped, sizeof escaped);
    }
  }
  say(l, at < k.size ? "...\"" : "\"");
}

/* What is being touched: " of key ...", or why the key is not known. */
static void say_object(line *l, const moor_region *r, uint64_t offset) {
  if (!moor_alive()) {
    say(l, " (the key is not known in a forked child)");
    return;
  }
  key k = find_key(r, offset);
  if (k.bytes == NULL) return;
  say(l, " of key");
  say_key(l, k);
}

static void print_line(const moor_region *r, int in_writer, const siginfo_t *info, uint64_t address) {
  line l = {.size = 0};
  uint64_t offset = address - (in_writer ? r->writer : r->reader);
  if (info->si_signo == SIGBUS) {
    say(&l, "moorage: the system has no memory for the bytes");
    say_object(&l, r, offset);
    say(&l, "; use a smaller capacity=, or hugepages=\"off\"\n");
  } else if (!in_writer) {
    say(&l, "moorage: a write to a shared read-only view");
    say_object(&l, r, offset);
    say(&l, "; use mode=\"cow\" (or copy()) for a tensor that may be written to\n");
  } else if (r->huge && !moor_alive()) {
    say(&l, "moorage: a forked child wrote to memory of its parent's store with huge pages; use copy() before the fork\n");
  } else {
    say(&l, "moorage: a write to an adopted tensor");
    say_object(&l, r, offset);
    say(&l, "; the object cannot change any more: write before adopt(), or to a copy()\n");
  }
  ssize_t ignored = write(STDERR_FILENO, l.text, l.size);
  (void)ignored;
}

/* ---- passing on ---- */

static void set_default(int number) {
  struct sigaction none;
  memset(&none, 0, sizeof none);
  none.sa_handler = SIG_DFL;
  sigaction(number, &none, NULL);
}

/* The default action ends the process, but only a fault comes again by itself. */
static void end_by_default(const siginfo_t *info) {
  set_default(info->si_signo);
  if (info->si_code <= 0) raise(info->si_signo);
}

static void pass_on(fault_signal *s, const struct sigaction *to, siginfo_t *info, void *context) {
  __atomic_store_n(&s->passed, 1, __ATOMIC_RELAXED);
  if (is_default(to)) {
    end_by_default(info);
  } else if ((to->sa_flags & SA_SIGINFO) != 0) {
    to->sa_sigaction(s->number, info, context);
  } else {
    to->sa_handler(s->number);
  }
}

static uint64_t instruction(const void *context) {
#if defined(__x86_64__)
  return (uint64_t)((const ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
#elif defined(__aarch64__)
  return (uint64_t)((const ucontext_t *)context)->uc_mcontext.pc;
#else
  (void)context;
  return 0;
#endif
}

static int in_own_text(uint64_t at) { return at >= (uintptr_t)__ehdr_start && at < (uintptr_t)etext; }

/* One thread prints. Others that fault meanwhile give it time: whoever is first to the default action ends all. */
static void take_turn(void) {
  static uint32_t printing;
  if (__atomic_exchange_n(&printing, 1, __ATOMIC_RELAXED) == 0) return;
  struct timespec wait = {.tv_sec = 3};
  nanosleep(&wait, NULL);
}

static void on_region_fault(fault_signal *s, const struct sigaction *below, siginfo_t *info, void *context,
                            const moor_region *r, int in_writer) {
  take_turn();
  print_line(r, in_writer, info, (uint64_t)(uintptr_t)info->si_addr);
  /* Not to Go's: it would print every goroutine. */
  int is_go = __atomic_load_n(&s->go_known, __ATOMIC_ACQUIRE) && is_same(below, &s->go);
  pass_on(s, is_go ? &s->before_go : below, info, context);
  /* Nobody can mend it. A handler that has printed what it had to and raised the signal again, as faulthandler does, finds
   * the default action, and not the handler it replaced. */
  set_default(s->number);
}

static void on_fault(int number, siginfo_t *info, void *context) {
  int saved = errno;
  fault_signal *s = number == SIGSEGV ? &signals[0] : &signals[1];
  uint32_t generation = __atomic_load_n(&s->generation, __ATOMIC_ACQUIRE);
  const struct sigaction *below = &s->below[(generation - 1) % GENERATIONS];
  moor_region region;
  int in_writer = 0;
  if (info->si_code <= 0 && __atomic_load_n(&s->passed, __ATOMIC_RELAXED)) {
    /* A handler below restored what it had replaced, which was ours, and raised the signal again. */
    end_by_default(info);
  } else if (info->si_code > 0 && moor_region_find((uint64_t)(uintptr_t)info->si_addr, &region, &in_writer)) {
    on_region_fault(s, below, info, context, &region, in_writer);
  } else if (info->si_code > 0 && __atomic_load_n(&s->go_known, __ATOMIC_ACQUIRE) && in_own_text(instruction(context))) {
    s->go.sa_sigaction(number, info, context);
  } else {
    pass_on(s, below, info, context);
  }
  errno = saved;
}
