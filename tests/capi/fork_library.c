/* SPDX-License-Identifier: Apache-2.0
 *
 * Forks against the library: that Go's side follows children, keeps what they view, and uses it again after their end.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "expect.h"

#define SIZE (256u << 10)

static moor_store store;
static int stop; /* atomic */

static void put(const char *key, int byte) {
  char *data = malloc(SIZE);
  memset(data, byte, SIZE);
  EXPECT_OK(moor_put(store, key, strlen(key), data, SIZE, NULL, NULL));
  free(data);
}

static int all(const DLManagedTensorVersioned *t, int byte) {
  const char *p = t->dl_tensor.data;
  for (int i = 0; i < (int)SIZE; i++) {
    if (p[i] != (char)byte) return 0;
  }
  return 1;
}

static moor_stats stats(void) {
  moor_stats s = {.struct_size = sizeof s};
  EXPECT_OK(moor_get_stats(store, &s));
  return s;
}

static void await_no_children(void) {
  for (int i = 0; i < 5000 && (stats().children != 0 || stats().held_bytes != 0); i++) usleep(2000);
  EXPECT(stats().children == 0 && stats().held_bytes == 0);
}

/* forgetful: the child closes every descriptor that it does not know, and with them the end of the pipe that tells of
 * its own end. */
static void held_by(int forgetful) {
  DLManagedTensorVersioned *view, *window;
  int go[2];
  int *closed = mmap(NULL, sizeof *closed, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  EXPECT(closed != MAP_FAILED && pipe(go) == 0);
  put("held", 'h');
  EXPECT_OK(moor_get_tensor(store, "held", 4, MOOR_MODE_VIEW, &view));
  EXPECT_OK(moor_get_tensor(store, "held", 4, MOOR_MODE_COW, &window));
  pid_t pid = fork();
  EXPECT(pid >= 0);
  if (pid == 0) {
    char byte;
    uint64_t size;
    close(go[1]);
    for (int fd = 3; forgetful && fd < 1024; fd++) {
      if (fd != go[0]) close(fd);
    }
    __atomic_store_n(closed, 1, __ATOMIC_SEQ_CST);
    EXPECT(read(go[0], &byte, 1) == 1);
    EXPECT(all(view, 'h') && all(window, 'h'));
    EXPECT_STATUS(moor_get(store, "held", 4, NULL, 0, &size), MOOR_ERR_FORKED);
    memset(window->dl_tensor.data, 'x', SIZE);
    view->deleter(view);
    window->deleter(window);
    _exit(0);
  }
  close(go[0]);
  view->deleter(view);
  window->deleter(window);
  EXPECT_OK(moor_remove(store, "held", 4));
  while (__atomic_load_n(closed, __ATOMIC_SEQ_CST) == 0) usleep(1000);
  if (forgetful) usleep(100000); /* for the store to be fooled */
  munmap(closed, sizeof *closed);
  /* More than the store has room for, all over it. */
  for (int i = 0; i < 300; i++) put("churn", 'z');
  EXPECT(stats().held_bytes >= SIZE && stats().children == 1 && stats().children_unfollowed == 0);
  EXPECT(write(go[1], "", 1) == 1);
  close(go[1]);
  int status;
  EXPECT(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0);
  await_no_children();
}

static void held_until_the_child_ends(void) { held_by(0); }
static void held_though_it_closes_descriptors(void) { held_by(1); }

/* The store is closed while a child looks; the memory of the child is its own. */
static void closing_beside_a_child(void) {
  DLManagedTensorVersioned *view;
  moor_store other;
  moor_store_options options = {.struct_size = sizeof options, .capacity = 4u << 20};
  EXPECT_OK(moor_store_open(&options, &other));
  EXPECT_OK(moor_put(other, "k", 1, "for the child", 13, NULL, NULL));
  EXPECT_OK(moor_get_tensor(other, "k", 1, MOOR_MODE_VIEW, &view));
  pid_t pid = fork();
  EXPECT(pid >= 0);
  if (pid == 0) {
    usleep(100000);
    EXPECT(memcmp(view->dl_tensor.data, "for the child", 13) == 0);
    _exit(0);
  }
  view->deleter(view);
  EXPECT_OK(moor_store_close(other, MOOR_CLOSE_WAIT));
  int status;
  EXPECT(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0);
  await_no_children();
}

static void *churn(void *given) {
  char key[8];
  unsigned n = (unsigned)(size_t)given;
  while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
    snprintf(key, sizeof key, "k%u", n++ % 6);
    put(key, (int)(n % 26) + 'a');
  }
  return NULL;
}

/* Children check what they inherited while other threads of the parent replace everything. */
static void under_load(void) {
  pthread_t threads[2];
  char key[8];
  put("k0", 'a');
  for (size_t i = 0; i < 2; i++) pthread_create(&threads[i], NULL, churn, (void *)i);
  time_t end = time(NULL) + 3;
  int forks = 0;
  while (time(NULL) < end) {
    DLManagedTensorVersioned *views[6];
    int n = 0, status;
    for (int i = 0; i < 6; i++) {
      snprintf(key, sizeof key, "k%d", i);
      if (moor_get_tensor(store, key, 2, MOOR_MODE_VIEW, &views[n]) == MOOR_OK) n++;
    }
    pid_t pid = fork();
    EXPECT(pid >= 0);
    if (pid == 0) {
      for (int round = 0; round < 5; round++, usleep(2000)) {
        for (int i = 0; i < n; i++) EXPECT(all(views[i], ((char *)views[i]->dl_tensor.data)[0]));
      }
      _exit(0);
    }
    for (int i = 0; i < n; i++) views[i]->deleter(views[i]);
    EXPECT(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    forks++;
  }
  __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
  for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
  printf("%d forks\n", forks);
  await_no_children();
}

int main(void) {
  moor_store_options options = {.struct_size = sizeof options, .capacity = 16u << 20};
  EXPECT_OK(moor_store_open(&options, &store));
#define RUN(test)             \
  do {                        \
    test();                   \
    printf("ok %s\n", #test); \
    fflush(stdout);           \
  } while (0)
  RUN(held_until_the_child_ends);
  RUN(held_though_it_closes_descriptors);
  RUN(closing_beside_a_child);
  RUN(under_load);
  EXPECT_OK(moor_store_close(store, MOOR_CLOSE_WAIT));
  return 0;
}
