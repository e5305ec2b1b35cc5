#include "sampling/reservoir.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <string>

#include "core/error.h"
#include "sampling/weighted.h"

namespace pyfast::sampling {
namespace {

// Doubles as integers of the same order; its own inverse. No NaN, no -0.
int64_t ordered(int64_t bits) { return bits < 0 ? bits ^ std::numeric_limits<int64_t>::max() : bits; }

}  // namespace

Reservoir::Reservoir(int64_t capacity, uint64_t seed, bool weighted)
    : capacity_(capacity), hash_(seed), weighted_(weighted) {
  require(capacity >= 1 && capacity <= std::numeric_limits<int32_t>::max(),
          "capacity: expected 1 to 2^31 - 1 rows, got " + std::to_string(capacity));
}

bool Reservoir::worse(int64_t key, int64_t id, int32_t slot) const {
  const size_t s = static_cast<size_t>(slot);
  return key < keys_[s] || (key == keys_[s] && id > ids_[s]);
}

inline bool Reservoir::worse(const Entry& a, const Entry& b) const {
  if (a.key != b.key) return a.key < b.key;
  return ids_[static_cast<size_t>(a.slot)] > ids_[static_cast<size_t>(b.slot)];
}

inline void Reservoir::place(Group& group, size_t at, const Entry& entry) {
  group.heap[at] = entry;
  places_[static_cast<size_t>(entry.slot)] = static_cast<int32_t>(at);
}

void Reservoir::sift_up(Group& group, size_t at) {
  const Entry entry = group.heap[at];
  while (at > 0 && worse(entry, group.heap[(at - 1) / 4])) {
    place(group, at, group.heap[(at - 1) / 4]);
    at = (at - 1) / 4;
  }
  place(group, at, entry);
}

void Reservoir::sift_down(Group& group, size_t at) {
  const auto& heap = group.heap;
  const Entry entry = heap[at];
  for (size_t child = 4 * at + 1; child < heap.size(); child = 4 * at + 1) {
    size_t worst = child;
    for (size_t c = child + 1; c < std::min(child + 4, heap.size()); ++c)
      if (worse(heap[c], heap[worst])) worst = c;
    if (!worse(heap[worst], entry)) break;
    place(group, at, heap[worst]);
    at = worst;
  }
  place(group, at, entry);
}

Reservoir::Group& Reservoir::group_of(int64_t number) {
  Group& group = by_number_[number];
  group.number = number;
  return group;
}

// Keeps the order of groups by size; call it before the heap changes.
void Reservoir::resize(Group& group, int64_t by) {
  const int64_t size = static_cast<int64_t>(group.heap.size());
  if (size == 0) {
    by_size_.insert({size + by, group.number});
    return;
  }
  auto node = by_size_.extract({size, group.number});
  node.value().first += by;
  if (node.value().first > 0) by_size_.insert(std::move(node));
}

void Reservoir::push(Group& group, int32_t slot) {
  resize(group, 1);
  group.heap.push_back({keys_[static_cast<size_t>(slot)], slot});
  sift_up(group, group.heap.size() - 1);
}

// Takes the worst slot out of its group.
int32_t Reservoir::pop(Group& group) {
  resize(group, -1);
  const int32_t slot = group.heap[0].slot;
  const Entry last = group.heap.back();
  group.heap.pop_back();
  if (group.heap.empty()) {
    by_number_.erase(group.number);
  } else {
    group.heap[0] = last;
    sift_down(group, 0);
  }
  return slot;
}

// The slot holds this id from now on; its place in a heap is the caller's affair.
void Reservoir::settle(int64_t row, int32_t slot, int64_t id, int64_t key, Group& group) {
  const size_t s = static_cast<size_t>(slot);
  ids_[s] = id;
  keys_[s] = key;
  groups_[s] = &group;
  table_.insert(slot);
  if (row < 0) return;
  if (row_of_slot_[s] < 0) entered_.push_back({0, slot});
  row_of_slot_[s] = row;
}

void Reservoir::offer_row(int64_t row, int64_t id, int64_t key, int64_t number) {
  const bool full = size() == capacity_;
  const auto found = by_number_.find(number);
  const bool known = found != by_number_.end();
  bool own = false;  // a row of the new one's group has to leave
  if (full) {
    const int64_t after = (known ? static_cast<int64_t>(found->second.heap.size()) : 0) + 1;
    own = std::make_pair(after, number) > *by_size_.rbegin();
    if (own && (!known || worse(key, id, found->second.heap[0].slot))) return;
  }
  const int32_t held = table_.find(id);
  if (held >= 0) {
    const size_t s = static_cast<size_t>(held), at = static_cast<size_t>(places_[s]);
    if (key <= keys_[s]) return;
    keys_[s] = groups_[s]->heap[at].key = key;
    return sift_down(*groups_[s], at);
  }
  if (own) {
    Group& group = found->second;
    const int32_t slot = group.heap[0].slot;
    table_.erase(slot);
    settle(row, slot, id, key, group);
    group.heap[0].key = key;
    return sift_down(group, 0);
  }
  int32_t slot = static_cast<int32_t>(size());
  if (full) {
    slot = pop(by_number_.find(by_size_.rbegin()->second)->second);
    table_.erase(slot);
  } else {
    ids_.push_back(id);
    keys_.push_back(key);
    groups_.push_back(nullptr);
    places_.push_back(0);
    row_of_slot_.push_back(-1);
  }
  Group& group = group_of(number);
  settle(row, slot, id, key, group);
  push(group, slot);
}

void Reservoir::make_keys(const Offered& batch, const Kernels& kernels) {
  require(batch.n == 0 || (batch.weights != nullptr) == weighted_,
          weighted_ ? "weights: this reservoir is weighted; pass weights" : "weights: this reservoir is not weighted");
  const size_t n = static_cast<size_t>(batch.n);
  if (batch_keys_.size() < n) batch_keys_.resize(n);
  if (!weighted_) return kernels.hash_keys(hash_.state, batch.index, batch.n, batch_keys_.data());
  check_weights(batch.weights, batch.n);
  for (size_t i = 0; i < n; ++i) {
    const double key = weighted_key(hash_, batch.index[i], batch.weights[i]);
    int64_t bits;
    std::memcpy(&bits, &key, 8);
    batch_keys_[i] = ordered(bits);
  }
}

int64_t Reservoir::offer(const Offered& batch, const Kernels& kernels) {
  make_keys(batch, kernels);
  entered_.clear();
  const bool one_group = !batch.groups && by_size_.size() == 1 && by_size_.begin()->second == 0;
  int64_t i = 0;
  if (one_group && size() == capacity_) {  // late in a stream almost every row ends here
    const std::vector<Entry>& heap = by_number_.find(0)->second.heap;
    for (; i < batch.n; ++i) {
      const size_t k = static_cast<size_t>(i);
      if (!worse(batch_keys_[k], batch.index[i], heap[0].slot)) offer_row(i, batch.index[i], batch_keys_[k], 0);
    }
  }
  for (; i < batch.n; ++i)
    offer_row(i, batch.index[i], batch_keys_[static_cast<size_t>(i)], batch.groups ? batch.groups[i] : 0);
  for (auto& [row, slot] : entered_) {
    row = row_of_slot_[static_cast<size_t>(slot)];
    row_of_slot_[static_cast<size_t>(slot)] = -1;
  }
  std::sort(entered_.begin(), entered_.end());
  return static_cast<int64_t>(entered_.size());
}

void Reservoir::entered(int64_t* rows, int64_t* slots) const {
  for (const auto& [row, slot] : entered_) {
    *rows++ = row;
    *slots++ = slot;
  }
}

void Reservoir::order(int64_t* slots) const {
  std::iota(slots, slots + size(), int64_t{0});
  std::sort(slots, slots + size(), [&](int64_t a, int64_t b) {
    const size_t s = static_cast<size_t>(b);
    return worse(keys_[s], ids_[s], static_cast<int32_t>(a));
  });
}

void Reservoir::state(int64_t* index, void* keys, int64_t* groups) const {
  for (size_t s = 0; s < ids_.size(); ++s) {
    index[s] = ids_[s];
    const int64_t key = weighted_ ? ordered(keys_[s]) : keys_[s];
    std::memcpy(static_cast<char*>(keys) + 8 * s, &key, 8);
    groups[s] = groups_[s]->number;
  }
}

void Reservoir::clear() {
  by_size_.clear();
  by_number_.clear();
  for (size_t s = ids_.size(); s-- > 0;) table_.erase(static_cast<int32_t>(s));
  for (auto* list : {&ids_, &keys_, &row_of_slot_}) list->clear();
  groups_.clear();
  places_.clear();
  entered_.clear();
}

void Reservoir::load(const int64_t* index, const void* keys, const int64_t* groups, int64_t n) {
  require(n <= capacity_, "index: expected at most " + std::to_string(capacity_) + " rows, got " + std::to_string(n));
  std::vector<int64_t> sorted(index, index + n);
  std::sort(sorted.begin(), sorted.end());
  require(std::adjacent_find(sorted.begin(), sorted.end()) == sorted.end(), "index: expected every id once");
  clear();
  for (int64_t i = 0; i < n; ++i) {
    int64_t key;
    std::memcpy(&key, static_cast<const char*>(keys) + 8 * i, 8);
    offer_row(-1, index[i], weighted_ ? ordered(key) : key, groups[i]);
  }
}

}  // namespace pyfast::sampling
