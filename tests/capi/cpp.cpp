// SPDX-License-Identifier: Apache-2.0
//
// The C++ wrapper against the library: ownership, exceptions, moves.
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "moorage.hpp"

#define EXPECT(condition)                                                          \
  do {                                                                             \
    if (!(condition)) {                                                            \
      std::fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition); \
      std::exit(1);                                                                \
    }                                                                              \
  } while (0)

using namespace moorage;

template <class F>
static std::int32_t status_of(F &&call) {
  try {
    call();
  } catch (const Error &e) {
    return e.status();
  }
  return MOOR_OK;
}

static DLTensor floats(float *data, std::int64_t *shape, std::int32_t ndim) {
  DLTensor t{};
  t.data = data;
  t.device = {kDLCPU, 0};
  t.ndim = ndim;
  t.dtype = {kDLFloat, 32, 1};
  t.shape = shape;
  return t;
}

static void tensors(Store &store) {
  float numbers[6];
  std::iota(numbers, numbers + 6, 0.0f);
  std::int64_t shape[2] = {2, 3};
  EXPECT(store.put_tensor("weights", floats(numbers, shape, 2)));
  View view = store.get_tensor("weights");
  EXPECT(view.read_only() && !view.copied() && view.shape().size() == 2 && view.shape()[1] == 3);
  EXPECT(view.elements<float>()[5] == 5.0f);
  EXPECT(status_of([&] { view.elements<double>(); }) == MOOR_ERR_INVALID_ARGUMENT);
  EXPECT(status_of([&] { view.writable_elements<float>(); }) == MOOR_ERR_READ_ONLY);
  View mine = store.get_tensor("weights", Mode::cow);
  mine.writable_elements<float>()[0] = 7.0f;
  EXPECT(view.elements<float>()[0] == 0.0f);
  View moved = std::move(view);
  EXPECT(!view && moved);
  std::thread([&] { moved.reset(); }).join();
  EXPECT(status_of([&] { store.take_tensor("nothing"); }) == MOOR_ERR_NOT_FOUND);
  View taken = store.take_tensor("weights");
  taken.writable_elements<float>()[0] = 1.0f;
  EXPECT(!store.exists("weights"));
}

static void bytes(Store &store) {
  PutOptions options;
  options.meta = "who and when";
  EXPECT(store.put("a", "hello", options));
  options.if_exists = IfExists::keep;
  EXPECT(!store.put("a", "other", options));
  Buffer b = store.get_buffer("a");
  EXPECT(b.text() == "hello" && b.meta() == "who and when" && !b.is_tensor() && b.read_only());
  char out[8] = "";
  EXPECT(store.get_into("a", out, sizeof out, 1, 3) == 3 && std::memcmp(out, "ell", 3) == 0);
  EXPECT(store.put_parts("b", {{"con", 3}, {"cat", 3}}));
  EXPECT(store.get_buffer("b", Mode::copy).text() == "concat");
  EXPECT(store.keys().size() == 2 && store.keys("b").front() == "b");
  store.pin("a");
  EXPECT((store.describe("a").flags & MOOR_DESC_PINNED) != 0);
  store.unpin("a");
  store.remove("a");
  EXPECT(b.text() == "hello");
}

static void in_place(Store &store) {
  Reservation r = store.reserve(100);
  std::memset(r.bytes().data(), 'x', r.bytes().size());
  EXPECT(r.commit("made") && !r);
  EXPECT(store.get_buffer("made").size() == 100);
  { Reservation given_back = store.reserve(100); }
  std::int64_t shape[1] = {5};
  View v = store.empty_tensor(floats(nullptr, shape, 1));
  for (float &f : v.writable_elements<float>()) f = 2.5f;
  EXPECT(store.adopt("adopted", v));
  EXPECT(status_of([&] { store.adopt("again", v); }) == MOOR_ERR_ALREADY_ADOPTED);
  EXPECT(store.get_tensor("adopted").elements<float>()[4] == 2.5f);
  EXPECT(store.stats().adoptions >= 2);
}

static void sets_and_snapshots(Store &store) {
  using namespace std::chrono_literals;
  float one[2] = {1, 2}, two[2] = {3, 4};
  std::int64_t shape[1] = {2};
  EXPECT(!store.wait({"set.a", "set.b"}, 0s) && !store.wait(std::vector<std::string>{"set.a"}, 0.001s));
  EXPECT(store.wait(std::vector<std::string>{}, -1h));
  EXPECT(store.put_set({{"set.a", floats(one, shape, 1)}, {"set.b", floats(two, shape, 1)}}) == 2);
  EXPECT(store.wait({"set.a", "set.b"}, std::chrono::hours::max()));
  PutOptions keep;
  keep.if_exists = IfExists::keep;
  EXPECT(store.put_set_bytes({{"set.b", "kept"}, {"set.c", "bytes"}}, keep) == 1);
  EXPECT(status_of([&] { store.put_set_bytes({{"x", "1"}, {"x", "2"}}); }) == MOOR_ERR_INVALID_ARGUMENT);
  EXPECT(!store.exists("x") && store.put_set({}) == 0);
  EXPECT(status_of([&] { store.wait({""}, 1s); }) == MOOR_ERR_INVALID_ARGUMENT);

  EXPECT(status_of([&] { store.snapshot({"set.a", "x"}); }) == MOOR_ERR_NOT_FOUND);
  Snapshot snapshot = store.snapshot({"set.c", "set.a"}), all = store.snapshot_prefix("set.");
  EXPECT(snapshot && snapshot.size() == 2 && snapshot.key(0) == "set.c" && snapshot.key(1) == "set.a");
  EXPECT(all.size() == 3 && all.contains("set.b") && !snapshot.contains("set.b"));
  EXPECT(snapshot.find("set.a") == std::size_t{1} && snapshot.find("set") == std::nullopt);
  EXPECT(status_of([&] { snapshot.key(2); }) == MOOR_ERR_INVALID_ARGUMENT);
  EXPECT(status_of([&] { snapshot.get_tensor(2); }) == MOOR_ERR_INVALID_ARGUMENT);
  EXPECT(status_of([&] { snapshot.get_buffer("set.b"); }) == MOOR_ERR_NOT_FOUND);
  EXPECT(store.snapshot(store.keys("set.")).size() == 3 && store.snapshot({}).empty());
  for (const char *key : {"set.a", "set.b", "set.c"}) store.remove(key);
  EXPECT(snapshot.get_tensor("set.a").elements<float>()[1] == 2.0f && snapshot.get_buffer(0).text() == "bytes");
  View mine = snapshot.get_tensor("set.a", Mode::cow);
  mine.writable_elements<float>()[0] = 9.0f;
  EXPECT(snapshot.info().objects == 2 && snapshot.info().bytes == 13 && snapshot.info().flags == 0);

  pid_t child = fork();
  EXPECT(child >= 0);
  if (child == 0) {
    EXPECT(snapshot.info().flags == MOOR_SNAPSHOT_FORKED && snapshot.get_tensor("set.a").elements<float>()[0] == 1.0f);
    EXPECT(status_of([&] { store.snapshot({"set.a"}); }) == MOOR_ERR_FORKED);
    snapshot.reset();
    _exit(0);
  }
  int status;
  EXPECT(waitpid(child, &status, 0) == child && status == 0);

  Snapshot moved = std::move(snapshot);
  EXPECT(!snapshot && snapshot.size() == 0 && moved.size() == 2);
  View outlives = moved.get_tensor(1);
  moved = std::move(all);
  EXPECT(moved.size() == 3);
  moved.reset();
  EXPECT(!moved && outlives.elements<float>()[0] == 1.0f);
  EXPECT(status_of([&] { moved.get_tensor(0); }) == MOOR_ERR_BAD_HANDLE);
}

static void registrations(Store &store) {
  using namespace std::chrono_literals;
  std::vector<char> memory(100000);
  Registration r = store.register_memory(memory.data(), memory.size());
  EXPECT(r && store.is_registered(&memory[10], 10) && store.stats().registrations == 1);
  Registration moved = std::move(r);
  EXPECT(!r && moved && r.release(0s));
  { Registration inner = store.register_memory(memory.data(), 5, MOOR_REGISTER_LOCK); }
  EXPECT(store.stats().registrations == 1 && store.stats().locked_bytes == 0);
  EXPECT(moved.release(1h) && !moved && !store.is_registered(memory.data(), 1));
  EXPECT(status_of([&] { store.register_memory(memory.data(), 0); }) == MOOR_ERR_INVALID_ARGUMENT);
  r = store.register_memory(memory.data(), 5);
  r = store.register_memory(memory.data(), 6);
  EXPECT(store.stats().registered_bytes == 6);
}

static void devices(Store &store) {
  using namespace std::chrono_literals;
  Network found = network();
  if (std::getenv("MOORAGE_LIBIBVERBS") == nullptr) { // whatever this machine has
    EXPECT((found.missing == MOOR_MISSING_NOTHING) == found.text.empty());
    return;
  }
  EXPECT(found.devices.size() == 2 && found.missing == MOOR_MISSING_NOTHING && found.text.empty());
  EXPECT(std::string(found.devices[1].name) == "fake1" && found.devices[1].active == 1);
  EXPECT(status_of([&] { store.attach_device("fake2"); }) == MOOR_ERR_NO_DEVICE);
  char memory[100] = "";
  {
    Device first = store.attach_device(), second = store.attach_device("fake1");
    EXPECT(first.name() == "fake0" && second.name() == "fake1" && store.devices().size() == 2);
    EXPECT(status_of([&] { store.attach_device("fake1"); }) == MOOR_ERR_EXISTS);
    Registration r = store.register_memory(memory, sizeof memory);
    EXPECT(store.devices()[0].bytes == sizeof memory && store.devices()[1].regions == 1);
    Device moved = std::move(first);
    EXPECT(!first && moved && first.detach(0s) && moved.detach(1s) && !moved);
    EXPECT(store.devices().size() == 1);
    second = Device();
    EXPECT(store.devices().empty());
    store.attach_device("fake1").keep();
  }
  EXPECT(store.devices().size() == 1);
  Device outlives;
  {
    Store short_lived(1 << 20);
    outlives = short_lived.attach_device();
  }
  outlives.reset();
  EXPECT(status_of([&] { store.attach_device("fake0").detach(1s); }) == MOOR_OK);
}

static void jobs(Store &store) {
  using namespace std::chrono_literals;
  Queue queue;
  pollfd poll_queue{queue.fd(), POLLIN, 0};
  float numbers[2] = {1, 2};
  std::int64_t shape[1] = {2};
  std::string large(1 << 20, 'x'), room(1 << 20, '.');
  Job put = store.submit_put({{"job.a", "bytes"}, {"job.b", large}}, queue, {}, 7);
  Job tensors = store.submit_put_tensors({{"job.t", floats(numbers, shape, 1)}}, queue, {}, 8);
  std::size_t told = 0, last = 0;
  while (last < 2) {
    EXPECT(poll(&poll_queue, 1, 20000) == 1);
    for (const moor_completion &c : queue.drain(2)) {
      EXPECT(c.status == MOOR_OK && (c.tag == 7 || c.tag == 8) && c.job.id == (c.tag == 7 ? put : tensors).c().id);
      told++;
      last += c.flags & MOOR_COMPLETION_LAST;
    }
  }
  EXPECT(told == 3 && put.size() == 2 && put.wait(0s) && poll(&poll_queue, 1, 0) == 0 && queue.drain().empty());

  Job get = store.submit(MOOR_JOB_GET, {"job.t", "absent", "job.a"}, queue);
  get.wait();
  EXPECT(get.results()[1].status == MOOR_ERR_NOT_FOUND && get.results()[2].value == 5);
  View view = get.get_tensor(0);
  EXPECT(view.elements<float>()[1] == 2.0f && get.get_buffer(2).text() == "bytes");
  EXPECT(status_of([&] { get.get_tensor(0); }) == MOOR_ERR_INVALID_ARGUMENT);
  EXPECT(status_of([&] { get.get_buffer(1); }) == MOOR_ERR_NOT_FOUND);
  EXPECT(status_of([&] { get.get_buffer(3); }) == MOOR_ERR_INVALID_ARGUMENT);
  Job into = store.submit_get_into({{"job.b", {room.data(), room.size()}}}, queue);
  EXPECT(into.wait(20s) && room == large);
  EXPECT(store.submit(MOOR_JOB_EXISTS, std::vector<std::string>{"job.a"}, queue).size() == 1);

  { // its end waits for what was begun: the source may go
    std::string source(4 << 20, 'y');
    Job many = store.submit_put({{"job.c", source}, {"job.c", source}, {"job.c", source}}, queue);
    many.cancel();
    EXPECT(!many.results().empty());
  }
  Job moved = std::move(get);
  EXPECT(!get && moved && moved.size() == 3);
  moved.detach();
  EXPECT(!moved && status_of([&] { moved.wait(); }) == MOOR_ERR_BAD_HANDLE);
  EXPECT(status_of([&] { store.submit(MOOR_JOB_PUT, {"job.a"}, queue); }) == MOOR_ERR_INVALID_ARGUMENT);
  Queue other = std::move(queue);
  EXPECT(status_of([&] { store.submit(MOOR_JOB_GET, {"job.a"}, queue); }) == MOOR_ERR_BAD_HANDLE);
  store.submit(MOOR_JOB_REMOVE, {"job.a", "job.b", "job.c", "job.t"}, other).wait();
  EXPECT(store.keys("job.").empty() && view.elements<float>()[0] == 1.0f);
}

int main() {
  Store store(std::uint64_t{64} << 20);
  tensors(store);
  bytes(store);
  in_place(store);
  sets_and_snapshots(store);
  jobs(store);
  registrations(store);
  devices(store);
  View outlives = store.get_tensor("adopted");
  EXPECT(store.clear() == 3);
  EXPECT(store.keys().empty());
  Store moved = std::move(store);
  moved.close(true);
  EXPECT(outlives.elements<float>()[0] == 2.5f);
  EXPECT(status_of([&] { moved.keys(); }) == MOOR_ERR_BAD_HANDLE);
  std::puts("ok the C++ wrapper");
}
