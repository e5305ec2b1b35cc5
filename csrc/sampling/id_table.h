// Where an id is held: open addressing over slot numbers; the ids themselves stay in the caller's array.
#pragma once
#include <cstdint>
#include <vector>

#include "sampling/hash.h"

namespace pyfast::sampling {

class IdTable {
 public:
  explicit IdTable(const std::vector<int64_t>& ids) : ids_(ids), cells_(16, empty) {}

  // The slot of an id, or -1.
  int32_t find(int64_t id) const {
    for (size_t cell = home(id);; cell = next(cell)) {
      const int32_t slot = cells_[cell];
      if (slot == empty || ids_[static_cast<size_t>(slot)] == id) return slot;
    }
  }

  // ids[slot] must be in place, and not in the table.
  void insert(int32_t slot) {
    if (2 * (count_ + 1) > cells_.size()) grow();
    put(slot);
    ++count_;
  }

  // ids[slot] must still be in place. Later entries of a run move up, so that no search ends at the gap.
  void erase(int32_t slot) {
    size_t gap = home(ids_[static_cast<size_t>(slot)]);
    while (cells_[gap] != slot) gap = next(gap);
    for (size_t cell = next(gap); cells_[cell] != empty; cell = next(cell)) {
      const size_t from = home(ids_[static_cast<size_t>(cells_[cell])]);
      if (((cell - from) & mask()) < ((cell - gap) & mask())) continue;  // its home lies behind the gap
      cells_[gap] = cells_[cell];
      gap = cell;
    }
    cells_[gap] = empty;
    --count_;
  }

 private:
  static constexpr int32_t empty = -1;

  size_t mask() const { return cells_.size() - 1; }
  size_t home(int64_t id) const { return static_cast<size_t>(mix64(static_cast<uint64_t>(id))) & mask(); }
  size_t next(size_t cell) const { return (cell + 1) & mask(); }

  void put(int32_t slot) {
    size_t cell = home(ids_[static_cast<size_t>(slot)]);
    while (cells_[cell] != empty) cell = next(cell);
    cells_[cell] = slot;
  }

  void grow() {
    std::vector<int32_t> old(2 * cells_.size(), empty);
    old.swap(cells_);
    for (int32_t slot : old)
      if (slot != empty) put(slot);
  }

  const std::vector<int64_t>& ids_;
  std::vector<int32_t> cells_;  // a power of two, at most half full
  size_t count_ = 0;
};

}  // namespace pyfast::sampling
