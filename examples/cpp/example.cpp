// SPDX-License-Identifier: Apache-2.0
//
// Tensors in and out from C++: objects that release themselves, exceptions instead of statuses, and readers in threads that
// outlive the store.
//
//   example [MODEL.safetensors]
#include <moorage.hpp>

#include <cstdint>
#include <cstdio>
#include <numeric>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

constexpr std::int64_t rows = 512, columns = 256;

// A dense float32 tensor over memory of the caller; data may be null where only dtype and shape are read.
DLTensor floats(void *data, std::int64_t *shape, int dimensions) {
  DLTensor t{};
  t.data = data;
  t.device.device_type = kDLCPU;
  t.dtype = DLDataType{kDLFloat, 32, 1};
  t.ndim = dimensions;
  t.shape = shape;
  return t;
}

double sum(const moorage::View &view) {
  const auto elements = view.elements<float>();
  return std::accumulate(elements.begin(), elements.end(), 0.0);
}

// One copy in, from memory of our own.
void put(moorage::Store &store) {
  std::vector<float> weights(rows * columns, 0.5F);
  std::int64_t shape[] = {rows, columns};
  store.put_tensor("weights", floats(weights.data(), shape, 2));
}

// No copy: written where it stays. From adopt on nobody can write to it.
void produce(moorage::Store &store) {
  std::int64_t shape[] = {rows};
  moorage::View room = store.empty_tensor(floats(nullptr, shape, 1));
  auto out = room.writable_elements<float>();
  std::iota(out.begin(), out.end(), 0.0F);
  store.adopt("ramp", room);
  std::printf("produced in place: %llu adopted, %llu copied\n",
              static_cast<unsigned long long>(store.stats().adoptions),
              static_cast<unsigned long long>(store.stats().adopt_copies));
}

// A view is a value: it moves into a thread and keeps its bytes there.
std::thread reader(const moorage::Store &store, const std::string &key) {
  return std::thread([key, view = store.get_tensor(key)] { std::printf("%s: sum %.1f\n", key.c_str(), sum(view)); });
}

// The same bytes, writable: the window's own from the first write on.
void change_a_window(const moorage::Store &store) {
  moorage::View window = store.get_tensor("weights", moorage::Mode::cow);
  for (float &x : window.writable_elements<float>()) x = 0;
  std::printf("sum of the window %.1f, of the store's %.1f\n", sum(window), sum(store.get_tensor("weights")));
}

void read_a_row(const moorage::Store &store) {
  std::vector<float> row(columns);  // used again for every row
  const std::size_t bytes = row.size() * sizeof(float);
  std::size_t copied = 0;
  for (std::size_t i = 0; i < rows; i++) copied += store.get_into("weights", row.data(), bytes, i * bytes, bytes);
  std::printf("read %zu bytes through one buffer of %zu\n", copied, bytes);
}

void run(const char *path) {
  std::thread late;
  {
    moorage::Store store(std::uint64_t{256} << 20);
    if (path != nullptr) {
      std::printf("imported %llu tensors\n", static_cast<unsigned long long>(store.import_safetensors(path)));
    }
    put(store);
    produce(store);
    change_a_window(store);
    read_a_row(store);
    reader(store, "weights").join();
    late = reader(store, "ramp");
  }  // the store is closed; the thread's view is not
  late.join();
}

}  // namespace

int main(int argc, char **argv) {
  try {
    run(argc > 1 ? argv[1] : nullptr);
  } catch (const moorage::Error &error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
