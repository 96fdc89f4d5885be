// SPDX-License-Identifier: Apache-2.0
//
// The C++ wrapper against the library: ownership, exceptions, moves.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <thread>

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

int main() {
  Store store(std::uint64_t{64} << 20);
  tensors(store);
  bytes(store);
  in_place(store);
  View outlives = store.get_tensor("adopted");
  EXPECT(store.clear() == 3);
  EXPECT(store.keys().empty());
  Store moved = std::move(store);
  moved.close(true);
  EXPECT(outlives.elements<float>()[0] == 2.5f);
  EXPECT(status_of([&] { moved.keys(); }) == MOOR_ERR_BAD_HANDLE);
  std::puts("ok the C++ wrapper");
}
