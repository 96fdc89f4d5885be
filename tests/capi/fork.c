/* SPDX-License-Identifier: Apache-2.0
 *
 * Forks over the stand-in: what a child reads, what it cannot change, and when its parent uses memory again.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "expect.h"
#include "standin.h"

#define BIG (128u << 10)

static moor_store store;

static void put(const char *key, char byte, uint64_t size) {
  char *data = malloc(size);
  memset(data, byte, size);
  EXPECT_OK(moor_put(store, key, strlen(key), data, size, NULL, NULL));
  free(data);
}

static DLManagedTensorVersioned *get(const char *key, uint32_t mode) {
  DLManagedTensorVersioned *t;
  EXPECT_OK(moor_get_tensor(store, key, strlen(key), mode, &t));
  return t;
}

static void end(DLManagedTensorVersioned *t) { t->deleter(t); }

static char *bytes(DLManagedTensorVersioned *t) { return t->dl_tensor.data; }

static int all(const char *p, char byte, uint64_t size) {
  for (uint64_t i = 0; i < size; i++) {
    if (p[i] != byte) return 0;
  }
  return 1;
}

/* A child that waits for a byte through a pipe before it runs, so that the parent can do its part first. */
typedef struct child {
  pid_t pid;
  int go;
} child;

static child start(void (*body)(void *), void *with) {
  int ends[2];
  EXPECT(pipe2(ends, O_CLOEXEC) == 0);
  pid_t pid = fork();
  EXPECT(pid >= 0);
  if (pid == 0) {
    char byte;
    close(ends[1]);
    EXPECT(read(ends[0], &byte, 1) == 1);
    body(with);
    _exit(0);
  }
  close(ends[0]);
  return (child){pid, ends[1]};
}

static void finish(child c) {
  int status;
  EXPECT(write(c.go, "", 1) == 1);
  close(c.go);
  EXPECT(waitpid(c.pid, &status, 0) == c.pid);
  EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static uint64_t held(void) {
  standin_state s;
  standin_drain();
  standin_state_get(&s);
  return s.held;
}

/* Uses every extent that is free, so that whatever could be overwritten is. */
static void churn(char byte) {
  for (int i = 0; i < 4 * STANDIN_SLOTS; i++) put("31", byte, BIG);
  EXPECT_OK(moor_remove(store, "31", 2));
}

typedef struct views {
  DLManagedTensorVersioned *view, *window, *copy;
  moor_buffer buffer;
} views;

static void read_and_release(void *with) {
  views *v = with;
  EXPECT(all(bytes(v->view), 'a', BIG));
  EXPECT(all(bytes(v->window), 'a', BIG));
  EXPECT(all(bytes(v->copy), 'a', BIG));
  EXPECT(all(v->buffer.data, 'a', BIG) && memcmp(v->buffer.meta, "1", 1) == 0);
  end(v->view);
  end(v->window);
  end(v->copy);
  v->buffer.release(&v->buffer);
}

static void child_reads_what_it_inherited(void) {
  views v;
  put("1", 'a', BIG);
  v.view = get("1", MOOR_MODE_VIEW);
  v.window = get("1", MOOR_MODE_COW);
  v.copy = get("1", MOOR_MODE_COPY);
  EXPECT_OK(moor_get_buffer(store, "1", 1, MOOR_MODE_VIEW, &v.buffer));
  child c = start(read_and_release, &v);
  end(v.view);
  end(v.window);
  end(v.copy);
  v.buffer.release(&v.buffer);
  EXPECT_OK(moor_remove(store, "1", 1));
  EXPECT(held() == 1);
  churn('z');
  EXPECT(held() == 1);
  finish(c);
  EXPECT(standin_await_children());
  EXPECT(held() == 0);
}

static void is_refused(void *with) {
  DLManagedTensorVersioned *t = with, *other;
  moor_store another;
  uint64_t size;
  EXPECT_STATUS(moor_get_tensor(store, "1", 1, MOOR_MODE_VIEW, &other), MOOR_ERR_FORKED);
  EXPECT_STATUS(moor_get(store, "1", 1, NULL, 0, &size), MOOR_ERR_FORKED);
  EXPECT_STATUS(moor_put(store, "1", 1, "", 0, NULL, NULL), MOOR_ERR_FORKED);
  EXPECT_STATUS(moor_store_open(NULL, &another), MOOR_ERR_FORKED);
  EXPECT_STATUS(moor_store_close(store, 0), MOOR_ERR_FORKED);
  EXPECT(strstr(moor_last_error(), "spawn") != NULL);
  end(t);
}

static void child_is_refused(void) {
  put("1", 'b', 100);
  DLManagedTensorVersioned *t = get("1", MOOR_MODE_VIEW);
  finish(start(is_refused, t));
  end(t);
  EXPECT_OK(moor_remove(store, "1", 1));
}

typedef struct writable {
  DLManagedTensorVersioned *taken, *reserved, *window;
} writable;

static void writes(void *with) {
  writable *w = with;
  memset(bytes(w->taken), 'X', BIG);
  memset(bytes(w->reserved), 'X', BIG);
  memset(bytes(w->window), 'X', BIG);
  memset(standin_writer(), 'X', (size_t)STANDIN_SLOTS * STANDIN_SLOT_SIZE); /* all of the store, as far as it knows */
  int ends[2];
  EXPECT(pipe(ends) == 0 && write(ends[1], standin_park(), 1) == -1 && errno == EFAULT);
  end(w->taken);
  end(w->reserved);
  end(w->window);
}

static void child_cannot_change_its_parents_bytes(void) {
  writable w;
  int64_t shape = BIG;
  DLTensor like = {.ndim = 1, .dtype = {kDLUInt, 8, 1}, .shape = &shape};
  put("2", 't', BIG);
  put("3", 'v', BIG);
  EXPECT_OK(moor_take_tensor(store, "2", 1, &w.taken));
  EXPECT_OK(moor_empty_tensor(store, &like, &w.reserved));
  memset(bytes(w.reserved), 'r', BIG);
  w.window = get("3", MOOR_MODE_COW);
  finish(start(writes, &w));
  EXPECT(all(bytes(w.taken), 't', BIG));
  EXPECT(all(bytes(w.reserved), 'r', BIG));
  EXPECT(all(bytes(w.window), 'v', BIG));
  DLManagedTensorVersioned *v = get("3", MOOR_MODE_VIEW);
  EXPECT(all(bytes(v), 'v', BIG));
  end(v);
  end(w.taken);
  end(w.reserved);
  end(w.window);
  EXPECT_OK(moor_remove(store, "3", 1));
  EXPECT(standin_await_children());
  EXPECT(held() == 0);
}

/* ---- snapshots ---- */

static moor_snapshot open_snapshot(const char *bytes, uint64_t count) {
  static const uint64_t ends[] = {1, 2, 3};
  moor_keys keys = {bytes, ends, count};
  moor_snapshot s;
  EXPECT_OK(moor_snapshot_open(store, &keys, NULL, 0, &s));
  return s;
}

static DLManagedTensorVersioned *get_from(moor_snapshot s, uint64_t i, uint32_t mode) {
  DLManagedTensorVersioned *t;
  EXPECT_OK(moor_snapshot_get_tensor(s, i, mode, &t));
  return t;
}

static moor_snapshot_info info_of(moor_snapshot s) {
  moor_snapshot_info info = {.struct_size = sizeof info};
  EXPECT_OK(moor_snapshot_get_info(s, &info));
  return info;
}

static int is_copy(const DLManagedTensorVersioned *t) { return (t->flags & DLPACK_FLAG_BITMASK_IS_COPIED) != 0; }

/* Everything that a child may do with a snapshot. Number 0 is large, 1 is small. */
static void use_all_of(moor_snapshot s) {
  uint64_t index;
  moor_keys keys;
  moor_buffer b;
  DLManagedTensor *plain;
  moor_snapshot other;
  EXPECT_OK(moor_snapshot_get_keys(s, &keys));
  EXPECT(keys.count == 2 && memcmp(keys.bytes, "12", 2) == 0 && keys.ends[1] == 2);
  EXPECT_OK(moor_snapshot_find(s, "2", 1, &index));
  EXPECT(index == 1);
  EXPECT_STATUS(moor_snapshot_find(s, "3", 1, &index), MOOR_ERR_NOT_FOUND);
  DLManagedTensorVersioned *view = get_from(s, 0, MOOR_MODE_VIEW), *window = get_from(s, 0, MOOR_MODE_COW);
  EXPECT(bytes(view) >= standin_reader() && bytes(view) < standin_reader() + (size_t)STANDIN_SLOTS * STANDIN_SLOT_SIZE);
  EXPECT(!is_copy(view) && !is_copy(window) && all(bytes(window), 'a', BIG));
  EXPECT(info_of(s).child_windows == 1 && info_of(s).child_bytes_copied == 0);
  memset(bytes(window), 'X', BIG);
  EXPECT(all(bytes(view), 'a', BIG));
  end(window);
  DLManagedTensorVersioned *copy = get_from(s, 0, MOOR_MODE_COPY);
  EXPECT(is_copy(copy) && all(bytes(copy), 'a', BIG));
  end(copy);
  EXPECT_OK(moor_snapshot_get_tensor_unversioned(s, 1, MOOR_MODE_COW, &plain));
  EXPECT(plain->dl_tensor.shape[0] == 100 && all(plain->dl_tensor.data, 'b', 100));
  plain->deleter(plain);
  EXPECT_OK(moor_snapshot_get_buffer(s, 1, MOOR_MODE_VIEW, &b));
  EXPECT(b.meta_size == 1 && memcmp(b.meta, "2", 1) == 0 && all(b.data, 'b', 100) && b.seq > 0);
  b.release(&b);
  EXPECT_STATUS(moor_snapshot_open(store, NULL, NULL, 0, &other), MOOR_ERR_FORKED);
  EXPECT_STATUS(moor_wait(store, &keys, 0), MOOR_ERR_FORKED);
  moor_snapshot_info info = info_of(s);
  EXPECT(info.flags == MOOR_SNAPSHOT_FORKED && info.objects == 2 && info.bytes == BIG + 100);
  EXPECT(info.child_windows == 0 && info.child_window_copies == 0 && info.child_bytes_copied == BIG + 100);
  EXPECT_OK(moor_snapshot_close(s));
  EXPECT_STATUS(moor_snapshot_get_keys(s, &keys), MOOR_ERR_BAD_HANDLE);
  EXPECT_STATUS(moor_snapshot_close(s), MOOR_ERR_BAD_HANDLE);
  EXPECT(all(bytes(view), 'a', BIG)); /* outlives it */
  end(view);
}

static void use_snapshot(void *with) { use_all_of(*(moor_snapshot *)with); }

/* The child's own child starts with what the child had, and may use all of it too. */
static void use_in_grandchild(void *with) {
  DLManagedTensorVersioned *window = get_from(*(moor_snapshot *)with, 0, MOOR_MODE_COW);
  pid_t pid = fork();
  EXPECT(pid >= 0);
  if (pid == 0) {
    EXPECT(info_of(*(moor_snapshot *)with).child_windows == 1);
    end(window);
    use_all_of(*(moor_snapshot *)with);
    _exit(0);
  }
  int status;
  EXPECT(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0);
  end(window);
  use_all_of(*(moor_snapshot *)with);
}

/* Somebody closes descriptors that he does not know: what would be a window is a copy, and counted. */
static void use_without_descriptors(void *with) {
  moor_snapshot s = *(moor_snapshot *)with;
  for (int fd = 3; fd < 1024; fd++) close(fd);
  DLManagedTensorVersioned *t = get_from(s, 0, MOOR_MODE_COW), *view = get_from(s, 0, MOOR_MODE_VIEW);
  EXPECT(is_copy(t) && t->flags == DLPACK_FLAG_BITMASK_IS_COPIED && all(bytes(t), 'a', BIG));
  EXPECT(!is_copy(view) && all(bytes(view), 'a', BIG));
  EXPECT(info_of(s).child_window_copies == 1 && info_of(s).child_bytes_copied == BIG && info_of(s).child_windows == 0);
  memset(bytes(t), 'X', BIG);
  EXPECT(all(bytes(view), 'a', BIG));
  end(view);
  end(t);
}

static void a_child_uses_a_snapshot(void (*body)(void *)) {
  put("1", 'a', BIG);
  put("2", 'b', 100);
  moor_snapshot s = open_snapshot("12", 2);
  child c = start(body, &s);
  EXPECT_OK(moor_snapshot_close(s)); /* the child's goes on */
  EXPECT_OK(moor_remove(store, "1", 1));
  EXPECT_OK(moor_remove(store, "2", 1));
  EXPECT(held() == 2);
  churn('z');
  EXPECT(held() == 2);
  finish(c);
  EXPECT(standin_await_children());
  EXPECT(held() == 0);
}

static void child_uses_a_snapshot(void) { a_child_uses_a_snapshot(use_snapshot); }
static void grandchild_uses_a_snapshot(void) { a_child_uses_a_snapshot(use_in_grandchild); }
static void child_without_descriptors_copies(void) { a_child_uses_a_snapshot(use_without_descriptors); }

/* What a child looks at, its parent still counts and takes back as if there were no child. */
static void snapshots_on_both_sides(void) {
  standin_state state;
  put("1", 'a', BIG);
  put("2", 'b', 100);
  moor_snapshot s = open_snapshot("12", 2);
  finish(start(use_snapshot, &s));
  EXPECT(standin_await_children());
  EXPECT(info_of(s).flags == 0 && info_of(s).child_bytes_copied == 0);
  DLManagedTensorVersioned *t = get_from(s, 0, MOOR_MODE_COW);
  standin_state_get(&state);
  EXPECT(state.views == 3 && state.windows == 1);
  EXPECT_OK(moor_snapshot_close(s));
  standin_state_get(&state);
  EXPECT(state.views == 1 && all(bytes(t), 'a', BIG));
  EXPECT_OK(moor_remove(store, "1", 1));
  EXPECT_OK(moor_remove(store, "2", 1));
  churn('z');
  EXPECT(all(bytes(t), 'a', BIG));
  end(t);
  standin_drain();
  standin_state_get(&state);
  EXPECT(state.views == 0 && state.windows == 0 && state.held == 0 && state.home == STANDIN_SLOTS);
}

/* The windows that a child inherits are in its way only until it ends them. */
typedef struct full {
  DLManagedTensorVersioned **windows;
  uint64_t count;
  moor_snapshot snapshot;
} full;

static void end_and_map(void *with) {
  full *f = with;
  DLManagedTensorVersioned *t = get_from(f->snapshot, 0, MOOR_MODE_COW);
  EXPECT(is_copy(t) && info_of(f->snapshot).child_window_copies == 1);
  end(t);
  for (uint64_t i = 0; i < f->count; i++) end(f->windows[i]);
  t = get_from(f->snapshot, 0, MOOR_MODE_COW);
  EXPECT(!is_copy(t) && all(bytes(t), 'a', BIG));
  end(t);
}

static void windows_that_a_child_ended_are_room(void) {
  unsigned long maps = 0;
  FILE *file = fopen("/proc/sys/vm/max_map_count", "re");
  EXPECT(file != NULL && fscanf(file, "%lu", &maps) == 1);
  fclose(file);
  if (maps > 200000) {
    printf("skip: windows_that_a_child_ended_are_room (probed vm.max_map_count: %lu, which takes too long)\n", maps);
    return;
  }
  put("1", 'a', BIG);
  full f = {.count = maps / 8 * 3, .snapshot = open_snapshot("1", 1)};
  f.windows = malloc(f.count * sizeof *f.windows);
  for (uint64_t i = 0; i < f.count; i++) f.windows[i] = get_from(f.snapshot, 0, MOOR_MODE_COW);
  EXPECT(!is_copy(f.windows[f.count - 1]));
  finish(start(end_and_map, &f));
  for (uint64_t i = 0; i < f.count; i++) end(f.windows[i]);
  free(f.windows);
  EXPECT_OK(moor_snapshot_close(f.snapshot));
  EXPECT_OK(moor_remove(store, "1", 1));
  EXPECT(standin_await_children());
}

/* get, fork, release, get, release, replace: the second view must not make the first forgotten. */
static void read_c(void *with) { EXPECT(all(bytes(with), 'c', BIG)); }

static void get_fork_release_get_release_replace(void) {
  put("4", 'c', BIG);
  DLManagedTensorVersioned *t = get("4", MOOR_MODE_VIEW);
  child c = start(read_c, t);
  end(t);
  end(get("4", MOOR_MODE_VIEW));
  put("4", 'd', BIG);
  churn('z');
  EXPECT(held() == 1);
  finish(c);
  EXPECT(standin_await_children());
  EXPECT(held() == 0);
  EXPECT_OK(moor_remove(store, "4", 1));
}

static void what_is_viewed_later_is_not_held(void) {
  put("5", 'e', BIG);
  child c = start(read_c, NULL);
  (void)read_c;
  end(get("5", MOOR_MODE_VIEW));
  EXPECT_OK(moor_remove(store, "5", 1));
  EXPECT(held() == 0);
  int status;
  kill(c.pid, SIGKILL);
  EXPECT(waitpid(c.pid, &status, 0) == c.pid);
  close(c.go);
  EXPECT(standin_await_children());
}

/* Closes every descriptor, so that the pipe says that it ended. */
static void close_all_and_read(void *with) {
  for (int fd = 3; fd < 1024; fd++) close(fd);
  usleep(300000);
  EXPECT(all(bytes(with), 'c', BIG));
}

static void closed_descriptors_do_not_fool(void) {
  put("6", 'c', BIG);
  DLManagedTensorVersioned *t = get("6", MOOR_MODE_VIEW);
  child c = start(close_all_and_read, t);
  end(t);
  EXPECT_OK(moor_remove(store, "6", 1));
  EXPECT(write(c.go, "", 1) == 1);
  usleep(150000);
  EXPECT(held() == 1);
  churn('z');
  int status;
  EXPECT(waitpid(c.pid, &status, 0) == c.pid && WIFEXITED(status) && WEXITSTATUS(status) == 0);
  close(c.go);
  EXPECT(standin_await_children());
  EXPECT(held() == 0);
}

/* The child's own child goes on reading after it is gone. */
static int report[2];

static void leave_a_grandchild(void *with) {
  pid_t pid = fork();
  EXPECT(pid >= 0);
  if (pid != 0) _exit(0);
  usleep(300000);
  char good = all(bytes(with), 'c', BIG) ? 'y' : 'n';
  end(with);
  EXPECT(write(report[1], &good, 1) == 1);
  _exit(0);
}

static void grandchild_is_waited_for(void) {
  EXPECT(pipe(report) == 0);
  put("7", 'c', BIG);
  DLManagedTensorVersioned *t = get("7", MOOR_MODE_VIEW);
  child c = start(leave_a_grandchild, t);
  end(t);
  EXPECT_OK(moor_remove(store, "7", 1));
  finish(c);
  usleep(100000);
  EXPECT(held() == 1);
  churn('z');
  char good = 0;
  EXPECT(read(report[0], &good, 1) == 1 && good == 'y');
  EXPECT(standin_await_children());
  EXPECT(held() == 0);
  close(report[0]);
  close(report[1]);
}

static void killed_child_is_noticed(void) {
  put("8", 'c', BIG);
  DLManagedTensorVersioned *t = get("8", MOOR_MODE_VIEW);
  child c = start(read_c, t);
  end(t);
  EXPECT_OK(moor_remove(store, "8", 1));
  EXPECT(held() == 1);
  kill(c.pid, SIGKILL);
  EXPECT(standin_await_children()); /* while it is still a zombie */
  EXPECT(held() == 0);
  int status;
  EXPECT(waitpid(c.pid, &status, 0) == c.pid);
  close(c.go);
}

static void exec_sleep(void *with) {
  (void)with;
  execlp("sleep", "sleep", "20", (char *)NULL);
  _exit(3);
}

static void exec_ends_the_hold(void) {
  put("9", 'c', BIG);
  DLManagedTensorVersioned *t = get("9", MOOR_MODE_VIEW);
  child c = start(exec_sleep, t);
  end(t);
  EXPECT_OK(moor_remove(store, "9", 1));
  EXPECT(write(c.go, "", 1) == 1);
  EXPECT(standin_await_children());
  EXPECT(held() == 0);
  int status;
  EXPECT(waitpid(c.pid, &status, WNOHANG) == 0); /* it lives, as another program */
  kill(c.pid, SIGKILL);
  EXPECT(waitpid(c.pid, &status, 0) == c.pid);
  close(c.go);
}

/* Without descriptors a child cannot be followed: what it may read is kept for ever, and counted. Comes last. */
static void unfollowed_child_holds_for_ever(void) {
  int taken[4096], n = 0;
  put("10", 'c', BIG);
  DLManagedTensorVersioned *t = get("10", MOOR_MODE_VIEW);
  EXPECT(moor_children_unfollowed() == 0);
  while (n < 4096 && (taken[n] = dup(0)) >= 0) n++;
  EXPECT(errno == EMFILE);
  pid_t pid = fork();
  EXPECT(pid >= 0);
  if (pid == 0) {
    EXPECT(all(bytes(t), 'c', BIG));
    _exit(0);
  }
  while (n > 0) close(taken[--n]);
  int status;
  EXPECT(waitpid(pid, &status, 0) == pid && status == 0);
  EXPECT(moor_children_unfollowed() == 1);
  end(t);
  EXPECT_OK(moor_remove(store, "10", 2));
  usleep(50000);
  EXPECT(held() == 1);
  /* What is viewed from now on is not. */
  put("11", 'c', BIG);
  end(get("11", MOOR_MODE_VIEW));
  EXPECT_OK(moor_remove(store, "11", 2));
  EXPECT(held() == 1);
}

static int open_descriptors(void) {
  int n = 0;
  for (int fd = 0; fd < 1024; fd++) n += fcntl(fd, F_GETFD) >= 0;
  return n;
}

/* Installed before the library's handlers, so it runs after them: right before the fork. Whoever sees the raised epoch has to
 * find the child. */
static void child_is_published_by_now(void) {
  const moor_process *p = moor_process_words();
  if (!moor_alive()) return;
  EXPECT(__atomic_load_n(&p->kids, __ATOMIC_SEQ_CST) > 0);
  for (uint32_t i = 0; (p->epoch & 1) != 0 && i < MOOR_CHILDREN; i++) {
    if (p->child[i] == p->epoch || (i == MOOR_CHILD_PERMANENT && (uint32_t)p->child[i] >= p->epoch)) return;
  }
  EXPECT((p->epoch & 1) == 0 && p->child[MOOR_CHILD_PERMANENT] != 0);
}

int main(void) {
  EXPECT(pthread_atfork(child_is_published_by_now, NULL, NULL) == 0);
  EXPECT_OK(moor_store_open(NULL, &store));
  int before = open_descriptors();
#define RUN(test)            \
  do {                       \
    test();                  \
    printf("ok %s\n", #test); \
    fflush(stdout);          \
  } while (0)
  RUN(child_reads_what_it_inherited);
  RUN(child_is_refused);
  RUN(child_cannot_change_its_parents_bytes);
  RUN(child_uses_a_snapshot);
  RUN(grandchild_uses_a_snapshot);
  RUN(child_without_descriptors_copies);
  RUN(snapshots_on_both_sides);
  RUN(windows_that_a_child_ended_are_room);
  RUN(get_fork_release_get_release_replace);
  RUN(what_is_viewed_later_is_not_held);
  RUN(closed_descriptors_do_not_fool);
  RUN(grandchild_is_waited_for);
  RUN(killed_child_is_noticed);
  RUN(exec_ends_the_hold);
  EXPECT(open_descriptors() == before);
  RUN(unfollowed_child_holds_for_ever);
  return 0;
}
