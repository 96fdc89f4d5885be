// SPDX-License-Identifier: Apache-2.0
//
// moorage.hpp - moorage.h for C++17 and later: objects that release themselves, exceptions instead of statuses.
// Header only; link with libmoorage. What a call does, and which errors it has, stands in moorage.h.
//
// Everything here can be moved and not copied. An object is not safe for concurrent use itself, but a Store and a
// Snapshot are, for all that does not end or move them; and views may end in any order, on any thread, also after
// their Store.
#ifndef MOORAGE_HPP_
#define MOORAGE_HPP_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#if __cplusplus >= 202002L
#include <span>
#endif

#include "moorage.h"

namespace moorage {

// A failed call: what() is the text, status() one of MOOR_ERR_*.
class Error : public std::runtime_error {
 public:
  Error(std::int32_t status, const char *text)
      : std::runtime_error(std::string(moor_status_name(status)) + ": " + text), status_(status) {}
  std::int32_t status() const noexcept { return status_; }

 private:
  std::int32_t status_;
};

namespace detail {
inline void check(std::int32_t status) {
  if (status < 0) throw Error(status, moor_last_error());
}

// Keys as moorage.h takes them. They are copied: it wants them one behind the other.
class Pack {
 public:
  template <class Keys>
  explicit Pack(const Keys &keys) {
    for (const auto &key : keys) add(key);
  }
  Pack() = default;

  void add(std::string_view key) {
    bytes_.append(key);
    ends_.push_back(bytes_.size());
  }
  moor_keys c() const noexcept { return {bytes_.data(), ends_.data(), ends_.size()}; }

 private:
  std::string bytes_;
  std::vector<std::uint64_t> ends_;
};

// What is longer than 64 bits of nanoseconds (584 years) waits for ever.
template <class Rep, class Period>
std::uint64_t nanoseconds(std::chrono::duration<Rep, Period> time) {
  double ns = std::chrono::duration<double, std::nano>(time).count();
  if (!(ns > 0)) return 0;
  return ns < 1.8e19 ? static_cast<std::uint64_t>(ns) : UINT64_MAX;
}
}  // namespace detail

// Elements that belong to somebody else. In C++20 it becomes a std::span by itself.
#if __cplusplus >= 202002L
template <class T>
using Span = std::span<T>;
#else
template <class T>
class Span {
 public:
  constexpr Span() noexcept = default;
  constexpr Span(T *data, std::size_t size) noexcept : data_(data), size_(size) {}
  constexpr T *data() const noexcept { return data_; }
  constexpr std::size_t size() const noexcept { return size_; }
  constexpr std::size_t size_bytes() const noexcept { return size_ * sizeof(T); }
  constexpr bool empty() const noexcept { return size_ == 0; }
  constexpr T *begin() const noexcept { return data_; }
  constexpr T *end() const noexcept { return data_ + size_; }
  constexpr T &operator[](std::size_t i) const { return data_[i]; }
  constexpr Span subspan(std::size_t offset, std::size_t count) const { return {data_ + offset, count}; }

 private:
  T *data_ = nullptr;
  std::size_t size_ = 0;
};
#endif

enum class Mode : std::uint32_t { view = MOOR_MODE_VIEW, cow = MOOR_MODE_COW, copy = MOOR_MODE_COPY };
enum class IfExists : std::uint32_t {
  replace = MOOR_IF_EXISTS_REPLACE,
  keep = MOOR_IF_EXISTS_KEEP,
  raise = MOOR_IF_EXISTS_RAISE
};

struct PutOptions {
  IfExists if_exists = IfExists::replace;
  std::string_view meta = {};
  std::uint32_t flags = 0;

  moor_put_options to_c() const noexcept {
    moor_put_options o{};
    o.struct_size = sizeof o;
    o.if_exists = static_cast<std::uint32_t>(if_exists);
    o.meta = meta.data();
    o.meta_size = meta.size();
    o.flags = flags;
    return o;
  }
};

// A tensor that was handed out: a view of the store's bytes, a copy-on-write window, or a copy, by mode.
class View {
 public:
  View() noexcept = default;
  explicit View(DLManagedTensorVersioned *owned) noexcept : tensor_(owned) {}
  View(View &&from) noexcept : tensor_(std::exchange(from.tensor_, nullptr)) {}
  View &operator=(View &&from) noexcept {
    if (this != &from) {
      reset();
      tensor_ = std::exchange(from.tensor_, nullptr);
    }
    return *this;
  }
  ~View() { reset(); }

  explicit operator bool() const noexcept { return tensor_ != nullptr; }
  const DLTensor &dl() const noexcept { return tensor_->dl_tensor; }
  DLDataType dtype() const noexcept { return dl().dtype; }
  Span<const std::int64_t> shape() const noexcept { return {dl().shape, static_cast<std::size_t>(dl().ndim)}; }
  bool read_only() const noexcept { return (tensor_->flags & DLPACK_FLAG_BITMASK_READ_ONLY) != 0; }
  bool copied() const noexcept { return (tensor_->flags & DLPACK_FLAG_BITMASK_IS_COPIED) != 0; }

  std::size_t size_bytes() const noexcept {
    std::size_t bits = static_cast<std::size_t>(dl().dtype.bits) * dl().dtype.lanes;
    for (std::int32_t i = 0; i < dl().ndim; i++) bits *= static_cast<std::size_t>(dl().shape[i]);
    return (bits + 7) / 8;
  }
  Span<const std::byte> bytes() const noexcept { return {static_cast<const std::byte *>(dl().data), size_bytes()}; }

  // All elements, in row-major order. T must have the size of the dtype.
  template <class T>
  Span<const T> elements() const {
    return {static_cast<const T *>(dl().data), count_of(sizeof(T))};
  }
  // The same to write to; refused in mode view.
  template <class T>
  Span<T> writable_elements() const {
    if (read_only()) throw Error(MOOR_ERR_READ_ONLY, "a view is read-only; get it with Mode::cow or Mode::copy");
    return {static_cast<T *>(dl().data), count_of(sizeof(T))};
  }

  // Gives the tensor away, to whoever consumes DLPack. It is theirs to end by its deleter.
  DLManagedTensorVersioned *release() noexcept { return std::exchange(tensor_, nullptr); }
  void reset() noexcept {
    if (tensor_ != nullptr) tensor_->deleter(tensor_);
    tensor_ = nullptr;
  }

 private:
  std::size_t count_of(std::size_t element) const {
    if (std::size_t{dtype().bits} * dtype().lanes != 8 * element) {
      throw Error(MOOR_ERR_INVALID_ARGUMENT, "the elements of the tensor have another size than the type asked for");
    }
    return size_bytes() / element;
  }

  DLManagedTensorVersioned *tensor_ = nullptr;
};

// The bytes of an object.
class Buffer {
 public:
  Buffer() noexcept = default;
  explicit Buffer(const moor_buffer &owned) noexcept : buffer_(owned) {}
  Buffer(Buffer &&from) noexcept : buffer_(from.buffer_) { from.buffer_.release = nullptr; }
  Buffer &operator=(Buffer &&from) noexcept {
    if (this != &from) {
      reset();
      buffer_ = from.buffer_;
      from.buffer_.release = nullptr;
    }
    return *this;
  }
  ~Buffer() { reset(); }

  explicit operator bool() const noexcept { return buffer_.release != nullptr; }
  const moor_buffer &c() const noexcept { return buffer_; }
  Span<const std::byte> bytes() const noexcept { return {static_cast<const std::byte *>(buffer_.data), size()}; }
  std::string_view text() const noexcept { return {static_cast<const char *>(buffer_.data), size()}; }
  std::size_t size() const noexcept { return static_cast<std::size_t>(buffer_.size); }
  std::uint64_t seq() const noexcept { return buffer_.seq; }
  std::string_view meta() const noexcept {
    return {static_cast<const char *>(buffer_.meta), static_cast<std::size_t>(buffer_.meta_size)};
  }
  bool is_tensor() const noexcept { return (buffer_.flags & MOOR_BUFFER_TENSOR) != 0; }
  DLDataType dtype() const noexcept { return buffer_.dtype; }
  Span<const std::int64_t> shape() const noexcept { return {buffer_.shape, static_cast<std::size_t>(buffer_.ndim)}; }
  bool read_only() const noexcept { return (buffer_.flags & MOOR_BUFFER_READ_ONLY) != 0; }

  void reset() noexcept {
    if (buffer_.release != nullptr) buffer_.release(&buffer_);
  }

 private:
  moor_buffer buffer_{};
};

// Memory of the store without a name. Given back when it ends uncommitted.
class Reservation {
 public:
  Reservation() noexcept = default;
  Reservation(moor_reservation owned, void *data, std::size_t size) noexcept : id_(owned), data_(data), size_(size) {}
  Reservation(Reservation &&from) noexcept
      : id_(std::exchange(from.id_, {})), data_(std::exchange(from.data_, nullptr)), size_(from.size_) {}
  Reservation &operator=(Reservation &&from) noexcept {
    if (this != &from) {
      reset();
      id_ = std::exchange(from.id_, {});
      data_ = std::exchange(from.data_, nullptr);
      size_ = from.size_;
    }
    return *this;
  }
  ~Reservation() { reset(); }

  explicit operator bool() const noexcept { return id_.id != 0; }
  Span<std::byte> bytes() const noexcept { return {static_cast<std::byte *>(data_), size_}; }

  // Publishes it under key; tensor gives dtype and shape, nullptr means plain bytes. false: kept the old object, and
  // the reservation is still open.
  bool commit(std::string_view key, const DLTensor *tensor = nullptr, const PutOptions &options = {}) {
    moor_put_options o = options.to_c();
    moor_put_result result;
    detail::check(moor_commit(id_, key.data(), key.size(), tensor, &o, &result));
    if (result.outcome == MOOR_KEPT) return false;
    id_ = {};
    return true;
  }
  void reset() noexcept {
    if (id_.id != 0) moor_abort(id_);
    id_ = {};
  }

 private:
  moor_reservation id_{};
  void *data_ = nullptr;
  std::size_t size_ = 0;
};

// Many objects held together, as they were when it was opened: through replace, remove and the end of the Store. What
// it hands out may outlive it. All of it works in a forked child, where a Store does not.
class Snapshot {
 public:
  Snapshot() noexcept = default;
  explicit Snapshot(moor_snapshot owned) : id_(owned) { detail::check(moor_snapshot_get_keys(id_, &keys_)); }
  Snapshot(Snapshot &&from) noexcept : id_(std::exchange(from.id_, {})), keys_(std::exchange(from.keys_, {})) {}
  Snapshot &operator=(Snapshot &&from) noexcept {
    if (this != &from) {
      reset();
      id_ = std::exchange(from.id_, {});
      keys_ = std::exchange(from.keys_, {});
    }
    return *this;
  }
  ~Snapshot() { reset(); }

  explicit operator bool() const noexcept { return id_.id != 0; }
  moor_snapshot c() const noexcept { return id_; }
  std::size_t size() const noexcept { return static_cast<std::size_t>(keys_.count); }
  bool empty() const noexcept { return size() == 0; }

  // The key of number i, valid as long as the Snapshot.
  std::string_view key(std::size_t i) const {
    if (i >= size()) throw Error(MOOR_ERR_INVALID_ARGUMENT, "the snapshot has no object of this number");
    std::uint64_t start = i > 0 ? keys_.ends[i - 1] : 0;
    return {static_cast<const char *>(keys_.bytes) + start, static_cast<std::size_t>(keys_.ends[i] - start)};
  }
  // The number of a key; of one that comes more than once, the first.
  std::optional<std::size_t> find(std::string_view key) const {
    std::uint64_t i;
    std::int32_t status = moor_snapshot_find(id_, key.data(), key.size(), &i);
    if (status == MOOR_ERR_NOT_FOUND) return std::nullopt;
    detail::check(status);
    return static_cast<std::size_t>(i);
  }
  bool contains(std::string_view key) const { return find(key).has_value(); }

  View get_tensor(std::size_t i, Mode mode = Mode::view) const {
    DLManagedTensorVersioned *tensor;
    detail::check(moor_snapshot_get_tensor(id_, i, static_cast<std::uint32_t>(mode), &tensor));
    return View(tensor);
  }
  View get_tensor(std::string_view key, Mode mode = Mode::view) const { return get_tensor(number_of(key), mode); }
  Buffer get_buffer(std::size_t i, Mode mode = Mode::view) const {
    moor_buffer buffer;
    detail::check(moor_snapshot_get_buffer(id_, i, static_cast<std::uint32_t>(mode), &buffer));
    return Buffer(buffer);
  }
  Buffer get_buffer(std::string_view key, Mode mode = Mode::view) const { return get_buffer(number_of(key), mode); }

  moor_snapshot_info info() const {
    moor_snapshot_info info{};
    info.struct_size = sizeof info;
    detail::check(moor_snapshot_get_info(id_, &info));
    return info;
  }

  void reset() noexcept {
    if (id_.id != 0) moor_snapshot_close(std::exchange(id_, {}));
    keys_ = {};
  }

 private:
  std::size_t number_of(std::string_view key) const {
    std::uint64_t i;
    detail::check(moor_snapshot_find(id_, key.data(), key.size(), &i));
    return static_cast<std::size_t>(i);
  }

  moor_snapshot id_{};
  moor_keys keys_{};
};

// Memory that may be given to network devices, until it ends: its end waits for transfers that use it. The memory must stay
// mapped meanwhile.
class Registration {
 public:
  Registration() noexcept = default;
  explicit Registration(moor_registration owned) noexcept : id_(owned) {}
  Registration(Registration &&from) noexcept : id_(std::exchange(from.id_, {})) {}
  Registration &operator=(Registration &&from) noexcept {
    if (this != &from) {
      reset();
      id_ = std::exchange(from.id_, {});
    }
    return *this;
  }
  ~Registration() { reset(); }

  explicit operator bool() const noexcept { return id_.id != 0; }
  moor_registration c() const noexcept { return id_; }

  // false: transfers are still in flight after timeout; no further one begins, and the memory must stay as it is.
  template <class Rep, class Period>
  bool release(std::chrono::duration<Rep, Period> timeout) {
    if (id_.id == 0) return true;
    std::int32_t status = moor_registration_release(id_, detail::nanoseconds(timeout));
    if (status == MOOR_ERR_TIMEOUT) return false;
    id_ = {};
    detail::check(status);
    return true;
  }
  void reset() noexcept {
    if (id_.id != 0) moor_registration_release(std::exchange(id_, {}), UINT64_MAX);
  }

 private:
  moor_registration id_{};
};

// A network device of a Store, detached at its end, which waits for its transfers. It may outlive its Store, and then ends
// with that.
class Device {
 public:
  Device() noexcept = default;
  Device(moor_store store, std::string name) noexcept : store_(store), name_(std::move(name)) {}
  Device(Device &&from) noexcept : store_(std::exchange(from.store_, {})), name_(std::move(from.name_)) {}
  Device &operator=(Device &&from) noexcept {
    if (this != &from) {
      reset();
      store_ = std::exchange(from.store_, {});
      name_ = std::move(from.name_);
    }
    return *this;
  }
  ~Device() { reset(); }

  explicit operator bool() const noexcept { return store_.id != 0; }
  const std::string &name() const noexcept { return name_; }

  // false: transfers are still in flight after timeout; no further one begins.
  template <class Rep, class Period>
  bool detach(std::chrono::duration<Rep, Period> timeout) {
    if (store_.id == 0) return true;
    std::int32_t status = moor_detach_device(store_, name_.c_str(), detail::nanoseconds(timeout));
    if (status == MOOR_ERR_TIMEOUT) return false;
    store_ = {};
    detail::check(status);
    return true;
  }
  // Leaves it to the Store.
  void keep() noexcept { store_ = {}; }
  void reset() noexcept {
    if (store_.id != 0) moor_detach_device(std::exchange(store_, {}), name_.c_str(), UINT64_MAX);
  }

 private:
  moor_store store_{};
  std::string name_;
};

// The network devices of this machine. missing is one of MOOR_MISSING_*, text says the same, and what changes it.
struct Network {
  std::vector<moor_device> devices;
  std::uint32_t missing = MOOR_MISSING_NOTHING;
  std::string text;
};

inline Network network() {
  Network found;
  moor_device_list list{};
  list.struct_size = sizeof list;
  do {
    found.devices.resize(static_cast<std::size_t>(list.count) + 8);
    detail::check(moor_list_devices(found.devices.data(), found.devices.size(), &list));
  } while (list.count > found.devices.size());
  found.devices.resize(static_cast<std::size_t>(list.count));
  found.missing = list.missing;
  found.text = list.text;
  return found;
}

// Tells of the finished keys of jobs, by a descriptor to poll.
class Queue {
 public:
  Queue() { detail::check(moor_queue_open(&id_)); }
  Queue(Queue &&from) noexcept : id_(std::exchange(from.id_, {})) {}
  Queue &operator=(Queue &&from) noexcept {
    if (this != &from) {
      reset();
      id_ = std::exchange(from.id_, {});
    }
    return *this;
  }
  ~Queue() { reset(); }

  explicit operator bool() const noexcept { return id_.id != 0; }
  moor_queue c() const noexcept { return id_; }
  // Readable while there is something to drain. It stays the queue's.
  int fd() const {
    std::int32_t fd;
    detail::check(moor_queue_get_fd(id_, &fd));
    return fd;
  }
  // At most so many; never waits.
  std::vector<moor_completion> drain(std::size_t room = 256) {
    std::vector<moor_completion> found(room);
    std::uint64_t count;
    detail::check(moor_queue_drain(id_, found.data(), found.size(), &count));
    found.resize(static_cast<std::size_t>(count));
    return found;
  }
  void reset() noexcept {
    if (id_.id != 0) moor_queue_close(std::exchange(id_, {}));
  }

 private:
  moor_queue id_{};
};

// Work on keys of a store that goes on while nobody waits for it. Its end cancels what was not begun and waits for the
// rest, for the memory that it was lent may go next; detach is for what shall go on.
class Job {
 public:
  Job() noexcept = default;
  Job(moor_job owned, std::size_t keys) noexcept : id_(owned), size_(keys) {}
  Job(Job &&from) noexcept : id_(std::exchange(from.id_, {})), size_(std::exchange(from.size_, 0)) {}
  Job &operator=(Job &&from) noexcept {
    if (this != &from) {
      reset();
      id_ = std::exchange(from.id_, {});
      size_ = std::exchange(from.size_, 0);
    }
    return *this;
  }
  ~Job() { reset(); }

  explicit operator bool() const noexcept { return id_.id != 0; }
  moor_job c() const noexcept { return id_; }
  std::size_t size() const noexcept { return size_; }

  void cancel() { detail::check(moor_job_cancel(id_)); }
  // Until nothing of the job touches memory of the caller any more.
  void wait() const { detail::check(moor_job_wait(id_, UINT64_MAX)); }
  // false: not within timeout; zero looks once.
  template <class Rep, class Period>
  bool wait(std::chrono::duration<Rep, Period> timeout) const {
    std::int32_t status = moor_job_wait(id_, detail::nanoseconds(timeout));
    if (status != MOOR_ERR_TIMEOUT) detail::check(status);
    return status == MOOR_OK;
  }
  // What became of each key; MOOR_IN_PROGRESS is the status of those that are not finished.
  std::vector<moor_completion> results() const {
    std::vector<moor_completion> found(size_);
    detail::check(moor_job_get_results(id_, 0, size_, found.data()));
    return found;
  }
  // What was got for key i, once; its error is thrown.
  View get_tensor(std::size_t i, Mode mode = Mode::view) {
    DLManagedTensorVersioned *tensor;
    std::int32_t status;
    detail::check(moor_job_get_tensors(id_, i, 1, static_cast<std::uint32_t>(mode), &tensor, &status));
    check_key(status);
    return View(tensor);
  }
  Buffer get_buffer(std::size_t i, Mode mode = Mode::view) {
    moor_buffer buffer;
    std::int32_t status;
    detail::check(moor_job_get_buffers(id_, i, 1, static_cast<std::uint32_t>(mode), &buffer, &status));
    check_key(status);
    return Buffer(buffer);
  }

  // Lets go of it without an end: what it was lent must live until the queue tells of its last key.
  void detach() noexcept {
    if (id_.id != 0) moor_job_close(std::exchange(id_, {}));
    size_ = 0;
  }
  void reset() noexcept {
    if (id_.id == 0) return;
    moor_job_cancel(id_);
    moor_job_wait(id_, UINT64_MAX);
    detach();
  }

 private:
  static void check_key(std::int32_t status) {
    if (status == MOOR_IN_PROGRESS) throw Error(status, "the key is not finished");
    detail::check(status);
  }

  moor_job id_{};
  std::size_t size_ = 0;
};

// A store, closed at its end. Views of it stay valid.
class Store {
 public:
  // 0: a quarter of the memory this process may use.
  explicit Store(std::uint64_t capacity = 0) {
    moor_store_options o{};
    o.struct_size = sizeof o;
    o.capacity = capacity;
    detail::check(moor_store_open(&o, &id_));
  }
  explicit Store(const moor_store_options &options) { detail::check(moor_store_open(&options, &id_)); }
  Store(Store &&from) noexcept : id_(std::exchange(from.id_, {})) {}
  Store &operator=(Store &&from) noexcept {
    if (this != &from) {
      reset();
      id_ = std::exchange(from.id_, {});
    }
    return *this;
  }
  ~Store() { reset(); }

  moor_store c() const noexcept { return id_; }

  // Each put says whether it stored: false means that the old object was kept.
  bool put(std::string_view key, const void *data, std::size_t size, const PutOptions &options = {}) {
    moor_put_options o = options.to_c();
    moor_put_result result;
    detail::check(moor_put(id_, key.data(), key.size(), data, size, &o, &result));
    return result.outcome != MOOR_KEPT;
  }
  bool put(std::string_view key, std::string_view text, const PutOptions &options = {}) {
    return put(key, text.data(), text.size(), options);
  }
  bool put_parts(std::string_view key, std::initializer_list<moor_part> parts, const PutOptions &options = {}) {
    moor_put_options o = options.to_c();
    moor_put_result result;
    detail::check(moor_put_parts(id_, key.data(), key.size(), parts.begin(), parts.size(), &o, &result));
    return result.outcome != MOOR_KEPT;
  }
  bool put_tensor(std::string_view key, const DLTensor &tensor, const PutOptions &options = {}) {
    moor_put_options o = options.to_c();
    moor_put_result result;
    detail::check(moor_put_tensor(id_, key.data(), key.size(), &tensor, &o, &result));
    return result.outcome != MOOR_KEPT;
  }

  // Puts all of them or none, and all at one moment: a snapshot, a batch and a wait see the whole set or nothing of it.
  // Returns how many were stored; the others were kept. A key may come only once.
  std::size_t put_set(const std::vector<std::pair<std::string_view, DLTensor>> &tensors,
                      const PutOptions &options = {}) {
    detail::Pack keys;
    std::vector<const DLTensor *> pointers;
    for (const auto &[key, tensor] : tensors) {
      keys.add(key);
      pointers.push_back(&tensor);
    }
    return put_set(keys, options, [&](auto *packed, auto *o, auto *results, auto *statuses) {
      return moor_put_tensors(id_, packed, pointers.data(), o, results, statuses);
    });
  }
  // The same of plain bytes.
  std::size_t put_set_bytes(const std::vector<std::pair<std::string_view, std::string_view>> &objects,
                            const PutOptions &options = {}) {
    detail::Pack keys;
    std::vector<moor_part> parts;
    std::vector<std::uint64_t> ends;
    for (const auto &[key, bytes] : objects) {
      keys.add(key);
      parts.push_back({bytes.data(), bytes.size()});
      ends.push_back(parts.size());
    }
    return put_set(keys, options, [&](auto *packed, auto *o, auto *results, auto *statuses) {
      return moor_put_batch(id_, packed, parts.data(), ends.data(), o, results, statuses);
    });
  }

  // Of these keys, in their order; Keys is a range of what becomes a std::string_view.
  template <class Keys>
  Snapshot snapshot(const Keys &keys) const {
    detail::Pack pack(keys);
    moor_keys packed = pack.c();
    moor_snapshot opened;
    detail::check(moor_snapshot_open(id_, &packed, nullptr, 0, &opened));
    return Snapshot(opened);
  }
  Snapshot snapshot(std::initializer_list<std::string_view> keys) const {
    return snapshot<std::initializer_list<std::string_view>>(keys);
  }
  // Of all keys that start with prefix, in no particular order.
  Snapshot snapshot_prefix(std::string_view prefix = {}) const {
    moor_snapshot opened;
    detail::check(moor_snapshot_open(id_, nullptr, prefix.data(), prefix.size(), &opened));
    return Snapshot(opened);
  }

  // Waits until there is an object under every key at one moment. false: not within timeout; zero looks once.
  template <class Keys, class Rep, class Period>
  bool wait(const Keys &keys, std::chrono::duration<Rep, Period> timeout) const {
    detail::Pack pack(keys);
    moor_keys packed = pack.c();
    std::int32_t status = moor_wait(id_, &packed, detail::nanoseconds(timeout));
    if (status != MOOR_ERR_TIMEOUT) detail::check(status);
    return status == MOOR_OK;
  }
  template <class Rep, class Period>
  bool wait(std::initializer_list<std::string_view> keys, std::chrono::duration<Rep, Period> timeout) const {
    return wait<std::initializer_list<std::string_view>>(keys, timeout);
  }

  // Jobs. kind is MOOR_JOB_GET, _PREFETCH, _EXISTS, _REMOVE or _PERSIST; tag comes with each completion.
  template <class Keys>
  Job submit(std::uint32_t kind, const Keys &keys, const Queue &queue, std::uint64_t tag = 0) {
    detail::Pack pack(keys);
    return submitted(pack, [&](const moor_keys *packed, moor_job *job) {
      return moor_submit_keys(id_, queue.c(), kind, packed, tag, job);
    });
  }
  Job submit(std::uint32_t kind, std::initializer_list<std::string_view> keys, const Queue &queue, std::uint64_t tag = 0) {
    return submit<std::initializer_list<std::string_view>>(kind, keys, queue, tag);
  }
  // Each object into its memory, whole.
  Job submit_get_into(const std::vector<std::pair<std::string_view, moor_span>> &destinations, const Queue &queue,
                      std::uint64_t tag = 0) {
    detail::Pack keys;
    std::vector<moor_span> spans;
    std::vector<std::uint64_t> ends;
    for (const auto &[key, span] : destinations) {
      keys.add(key);
      spans.push_back(span);
      ends.push_back(spans.size());
    }
    return submitted(keys, [&](const moor_keys *packed, moor_job *job) {
      return moor_submit_get_into(id_, queue.c(), packed, nullptr, nullptr, spans.data(), ends.data(), tag, job);
    });
  }
  // The sources stay the caller's, and must stay as they are until their keys are finished.
  Job submit_put(const std::vector<std::pair<std::string_view, std::string_view>> &objects, const Queue &queue,
                 const PutOptions &options = {}, std::uint64_t tag = 0) {
    detail::Pack keys;
    std::vector<moor_part> parts;
    std::vector<std::uint64_t> ends;
    for (const auto &[key, bytes] : objects) {
      keys.add(key);
      parts.push_back({bytes.data(), bytes.size()});
      ends.push_back(parts.size());
    }
    moor_put_options o = options.to_c();
    return submitted(keys, [&](const moor_keys *packed, moor_job *job) {
      return moor_submit_put(id_, queue.c(), packed, parts.data(), ends.data(), &o, tag, job);
    });
  }
  Job submit_put_tensors(const std::vector<std::pair<std::string_view, DLTensor>> &tensors, const Queue &queue,
                         const PutOptions &options = {}, std::uint64_t tag = 0) {
    detail::Pack keys;
    std::vector<const DLTensor *> pointers;
    for (const auto &[key, tensor] : tensors) {
      keys.add(key);
      pointers.push_back(&tensor);
    }
    moor_put_options o = options.to_c();
    return submitted(keys, [&](const moor_keys *packed, moor_job *job) {
      return moor_submit_put_tensors(id_, queue.c(), packed, pointers.data(), &o, tag, job);
    });
  }

  Reservation reserve(std::size_t size) {
    moor_reservation id;
    void *data;
    detail::check(moor_reserve(id_, size, &id, &data));
    return Reservation(id, data, size);
  }
  // A writable tensor of that dtype and shape, to be filled and given to adopt.
  View empty_tensor(const DLTensor &like) {
    DLManagedTensorVersioned *tensor;
    detail::check(moor_empty_tensor(id_, &like, &tensor));
    return View(tensor);
  }
  bool adopt(std::string_view key, const View &tensor, const PutOptions &options = {}) {
    moor_put_options o = options.to_c();
    moor_put_result result;
    detail::check(moor_adopt_tensor(id_, key.data(), key.size(), &tensor.dl(), &o, &result));
    return result.outcome != MOOR_KEPT;
  }

  View get_tensor(std::string_view key, Mode mode = Mode::view) const {
    DLManagedTensorVersioned *tensor;
    detail::check(moor_get_tensor(id_, key.data(), key.size(), static_cast<std::uint32_t>(mode), &tensor));
    return View(tensor);
  }
  Buffer get_buffer(std::string_view key, Mode mode = Mode::view) const {
    moor_buffer buffer;
    detail::check(moor_get_buffer(id_, key.data(), key.size(), static_cast<std::uint32_t>(mode), &buffer));
    return Buffer(buffer);
  }
  // Into memory of the caller; returns the bytes copied.
  std::size_t get_into(std::string_view key, void *out, std::size_t capacity, std::uint64_t offset = 0,
                       std::uint64_t nbytes = MOOR_ALL) const {
    moor_span span{out, capacity};
    std::uint64_t copied;
    detail::check(moor_get_into(id_, key.data(), key.size(), offset, nbytes, &span, 1, &copied));
    return static_cast<std::size_t>(copied);
  }
  // Removes the key and hands its bytes over, exclusive and writable.
  View take_tensor(std::string_view key) {
    DLManagedTensorVersioned *tensor;
    detail::check(moor_take_tensor(id_, key.data(), key.size(), &tensor));
    return View(tensor);
  }

  bool exists(std::string_view key) const {
    std::uint64_t end = key.size();
    moor_keys keys{key.data(), &end, 1};
    std::uint8_t found;
    detail::check(moor_exists(id_, &keys, &found));
    return found != 0;
  }
  void remove(std::string_view key) { detail::check(moor_remove(id_, key.data(), key.size())); }
  void pin(std::string_view key) { detail::check(moor_pin(id_, key.data(), key.size())); }
  void unpin(std::string_view key) { detail::check(moor_unpin(id_, key.data(), key.size())); }
  std::uint64_t clear() {
    std::uint64_t removed;
    detail::check(moor_clear(id_, &removed));
    return removed;
  }
  std::uint64_t trim() {
    std::uint64_t freed;
    detail::check(moor_trim(id_, &freed));
    return freed;
  }

  moor_description describe(std::string_view key) const {
    moor_description d;
    d.struct_size = sizeof d;
    detail::check(moor_describe(id_, key.data(), key.size(), &d));
    return d;
  }
  moor_stats stats() const {
    moor_stats s;
    s.struct_size = sizeof s;
    detail::check(moor_get_stats(id_, &s));
    return s;
  }
  std::vector<std::string> keys(std::string_view prefix = {}) const {
    std::vector<std::string> found;
    std::vector<char> buffer(std::size_t{64} << 10);
    std::vector<std::uint64_t> ends(1024);
    for (std::uint64_t cursor = 0; cursor != MOOR_LIST_END;) {
      std::uint64_t count;
      detail::check(moor_list_keys(id_, prefix.data(), prefix.size(), &cursor, buffer.data(), buffer.size(),
                                   ends.data(), ends.size(), &count));
      std::uint64_t start = 0;
      for (std::uint64_t i = 0; i < count; start = ends[i++]) found.emplace_back(&buffer[start], ends[i] - start);
    }
    return found;
  }

  // Registers memory of the caller's, so that network devices may be given it. flags: MOOR_REGISTER_LOCK or 0.
  Registration register_memory(void *data, std::size_t size, std::uint32_t flags = 0) {
    moor_register_options o{sizeof o, flags};
    moor_registration id;
    detail::check(moor_register_memory(id_, data, size, &o, &id));
    return Registration(id);
  }
  // Whether all of it lies in one registration, or in the store.
  bool is_registered(const void *data, std::size_t size) const {
    moor_registration_info info;
    info.struct_size = sizeof info;
    std::int32_t status = moor_find_registration(id_, data, size, &info);
    if (status != MOOR_ERR_NOT_FOUND) detail::check(status);
    return status == MOOR_OK;
  }
  // nullptr: the first that has a link.
  Device attach_device(const char *name = nullptr) {
    char attached[MOOR_DEVICE_NAME];
    detail::check(moor_attach_device(id_, name, attached));
    return Device(id_, attached);
  }
  // What each of its devices has registered.
  std::vector<moor_device_stats> devices() const {
    std::vector<moor_device_stats> found;
    std::uint64_t count = 8;
    do {
      found.resize(static_cast<std::size_t>(count));
      detail::check(moor_list_attached(id_, found.data(), found.size(), &count));
    } while (count > found.size());
    found.resize(static_cast<std::size_t>(count));
    return found;
  }

  // Stores every tensor of a safetensors file under prefix + its name; returns how many.
  std::uint64_t import_safetensors(const std::string &path, std::string_view prefix = {}) {
    std::uint64_t count;
    detail::check(moor_import_safetensors(id_, path.c_str(), prefix.data(), prefix.size(), nullptr, &count));
    return count;
  }

  // Closes now, and says so when that fails.
  void close(bool wait = false) { detail::check(moor_store_close(std::exchange(id_, {}), wait ? MOOR_CLOSE_WAIT : 0)); }

 private:
  template <class Submit>
  static Job submitted(const detail::Pack &keys, const Submit &submit) {
    moor_keys packed = keys.c();
    moor_job job;
    detail::check(submit(&packed, &job));
    return Job(job, static_cast<std::size_t>(packed.count));
  }

  template <class Put>
  static std::size_t put_set(const detail::Pack &keys, const PutOptions &options, const Put &put) {
    moor_keys packed = keys.c();
    moor_put_options o = options.to_c();
    o.flags |= MOOR_PUT_ATOMIC;
    std::vector<moor_put_result> results(static_cast<std::size_t>(packed.count));
    std::vector<std::int32_t> statuses(results.size() + 1);
    detail::check(put(&packed, &o, results.data(), statuses.data()));
    std::size_t stored = 0;
    for (const moor_put_result &r : results) stored += r.outcome != MOOR_KEPT;
    return stored;
  }

  void reset() noexcept {
    if (id_.id != 0) moor_store_close(std::exchange(id_, {}), 0);
  }

  moor_store id_{};
};

}  // namespace moorage

#endif  // MOORAGE_HPP_
