/* SPDX-License-Identifier: Apache-2.0
 *
 * The fault line, each case in a process of its own: what is printed, and how it ends. Built twice: over the stand-in, and
 * over the library, where Go's handlers are in the process too.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "expect.h"

static moor_store store;

/* As every slow call does. The stand-in has no trim, but the entry point comes first. */
static void put_ours_on_top(void) { moor_trim(store, NULL); }

static DLManagedTensorVersioned *view(const char *key) {
  static char data[100000];
  DLManagedTensorVersioned *t;
  EXPECT_OK(moor_put(store, key, strlen(key), data, sizeof data, NULL, NULL));
  EXPECT_OK(moor_get_tensor(store, key, strlen(key), MOOR_MODE_VIEW, &t));
  return t;
}

static void write_to(DLManagedTensorVersioned *t, uint64_t at) { ((volatile char *)t->dl_tensor.data)[at] = 1; }

static void into_a_view(void) { write_to(view("17"), 99999); }

static void into_a_removed_view(void) {
  DLManagedTensorVersioned *t = view("17");
  EXPECT_OK(moor_remove(store, "17", 2));
  write_to(t, 0);
}

static void into_an_adopted_tensor(void) {
  int64_t shape = 1000;
  DLTensor like = {.ndim = 1, .dtype = {kDLUInt, 8, 1}, .shape = &shape};
  DLManagedTensorVersioned *t;
  EXPECT_OK(moor_empty_tensor(store, &like, &t));
  write_to(t, 0);
  EXPECT_OK(moor_adopt_tensor(store, "21", 2, &t->dl_tensor, NULL, NULL));
  write_to(t, 500);
}

static void in_a_child(void) {
  DLManagedTensorVersioned *t = view("17");
  pid_t pid = fork();
  if (pid == 0) write_to(t, 0);
  int status;
  EXPECT(waitpid(pid, &status, 0) == pid);
  EXPECT(WIFSIGNALED(status));
  kill(getpid(), SIGKILL);
}

static void elsewhere(void) { *(volatile char *)8 = 1; }

static void by_kill(void) { raise(SIGSEGV); }

static void print_and_exit(int number) {
  static const char text[] = "the program's handler\n";
  (void)number;
  ssize_t ignored = write(STDERR_FILENO, text, sizeof text - 1);
  (void)ignored;
  _exit(7);
}

static void set_handler(void (*handler)(int)) {
  struct sigaction a;
  memset(&a, 0, sizeof a);
  a.sa_handler = handler;
  sigaction(SIGSEGV, &a, NULL);
}

/* Does as faulthandler does: prints, restores what it found, raises the signal again. */
static struct sigaction found;

static void print_and_raise(int number) {
  static const char text[] = "traceback\n";
  ssize_t ignored = write(STDERR_FILENO, text, sizeof text - 1);
  (void)ignored;
  sigaction(number, &found, NULL);
  raise(number);
}

static void enable_tracebacks(void) {
  struct sigaction a;
  memset(&a, 0, sizeof a);
  a.sa_handler = print_and_raise;
  a.sa_flags = SA_NODEFER;
  sigaction(SIGSEGV, &a, &found);
}

static void elsewhere_with_handler(void) {
  set_handler(print_and_exit);
  put_ours_on_top();
  elsewhere();
}

static void view_with_handler(void) {
  set_handler(print_and_exit);
  put_ours_on_top();
  into_a_view();
}

static void view_with_tracebacks_first(void) {
  enable_tracebacks();
  put_ours_on_top();
  into_a_view();
}

static void elsewhere_with_tracebacks_on_top(void) {
  enable_tracebacks();
  elsewhere();
}

static void elsewhere_with_tracebacks_between(void) {
  enable_tracebacks();
  put_ours_on_top();
  elsewhere();
}

static void many_installations(void) {
  for (int i = 0; i < 100; i++) {
    enable_tracebacks();
    put_ours_on_top();
  }
  into_a_view();
}

#define VIEW_LINE "moorage: a write to a shared read-only view of key \"17\"; use mode=\"cow\" (or copy()) for a tensor that may be written to\n"

static const struct test {
  const char *name;
  void (*run)(void);
  int off;      /* MOORAGE_FAULT_HANDLER=0 */
  int signal;   /* that ends it, 0: exit code 7 */
  const char *text;
} tests[] = {
    {"a view", into_a_view, 0, SIGSEGV, VIEW_LINE},
    {"a removed view", into_a_removed_view, 0, SIGSEGV, VIEW_LINE},
    {"an adopted tensor", into_an_adopted_tensor, 0, SIGSEGV,
     "moorage: a write to an adopted tensor of key \"21\"; the object cannot change any more: "
     "write before adopt(), or to a copy()\n"},
    {"a view in a child", in_a_child, 0, SIGKILL,
     "moorage: a write to a shared read-only view (the key is not known in a forked child); use mode=\"cow\" (or "
     "copy()) for a tensor that may be written to\n"},
    {"elsewhere", elsewhere, 0, SIGSEGV, ""},
    {"by kill", by_kill, 0, SIGSEGV, ""},
    {"elsewhere, the program has a handler", elsewhere_with_handler, 0, 0, "the program's handler\n"},
    {"a view, the program has a handler", view_with_handler, 0, 0, VIEW_LINE "the program's handler\n"},
    {"a view, tracebacks below", view_with_tracebacks_first, 0, SIGSEGV, VIEW_LINE "traceback\n"},
    {"elsewhere, tracebacks on top", elsewhere_with_tracebacks_on_top, 0, SIGSEGV, "traceback\n"},
    {"elsewhere, tracebacks below", elsewhere_with_tracebacks_between, 0, SIGSEGV, "traceback\n"},
    {"a view, after a hundred installations", many_installations, 0, SIGSEGV, VIEW_LINE "traceback\n"},
    {"a view, switched off", into_a_view, 1, SIGSEGV, ""},
};

static void run(const struct test *t) {
  int ends[2];
  char text[8192] = "";
  size_t size = 0;
  EXPECT(pipe(ends) == 0);
  pid_t pid = fork();
  if (pid == 0) {
    char number[16];
    snprintf(number, sizeof number, "%d", (int)(t - tests));
    dup2(ends[1], STDERR_FILENO);
    close(ends[0]);
    close(ends[1]);
    setenv("MOORAGE_FAULT_HANDLER", t->off ? "0" : "1", 1);
    execl("/proc/self/exe", "fault", number, (char *)NULL);
    _exit(9);
  }
  close(ends[1]);
  for (ssize_t n; size < sizeof text - 1 && (n = read(ends[0], text + size, sizeof text - 1 - size)) > 0;) size += (size_t)n;
  close(ends[0]);
  int status;
  EXPECT(waitpid(pid, &status, 0) == pid);
  int as_wanted = t->signal != 0 ? WIFSIGNALED(status) && WTERMSIG(status) == t->signal
                                 : WIFEXITED(status) && WEXITSTATUS(status) == 7;
  if (!as_wanted || strcmp(text, t->text) != 0) {
    fprintf(stderr, "fault: %s: status 0x%x, printed:\n%s\nwanted:\n%s\n", t->name, status, text, t->text);
    exit(1);
  }
  printf("ok %s\n", t->name);
  fflush(stdout);
}

int main(int argc, char **argv) {
  if (argc == 2) {
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    moor_store_options options = {.struct_size = sizeof options, .capacity = 16u << 20};
    EXPECT_OK(moor_store_open(&options, &store));
    tests[atoi(argv[1])].run();
    return 0;
  }
  for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) run(&tests[i]);
  return 0;
}
