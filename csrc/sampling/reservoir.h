// The rows with the largest keys of everything ever offered, each id once; equal shares for groups.
#pragma once
#include <cstdint>
#include <set>
#include <unordered_map>
#include <utility>
#include <vector>

#include "sampling/hash.h"
#include "sampling/id_table.h"
#include "sampling/kernels.h"

namespace pyfast::sampling {

struct Offered {
  int64_t n = 0;
  const int64_t* index = nullptr;   // [n] ids
  const int64_t* groups = nullptr;  // [n], or null: all 0
  const double* weights = nullptr;  // [n], finite and not negative; null where the reservoir is not weighted
};

// A row that finds the reservoir full enters, and the worst row of the largest group leaves (of equally large ones:
// of the larger number). Shares are then those of water-filling, the rest to smaller group numbers, and a share that
// has shrunk below what its group was offered never grows again: content is a function of the set offered.
class Reservoir {
 public:
  Reservoir(int64_t capacity, uint64_t seed, bool weighted);
  Reservoir(const Reservoir&) = delete;
  Reservoir& operator=(const Reservoir&) = delete;

  // Returns how many rows of the batch are held now and were not before; `entered` gives them until the next call.
  int64_t offer(const Offered& batch, const Kernels& kernels);
  void entered(int64_t* rows, int64_t* slots) const;  // rows ascending

  int64_t entered_count() const { return static_cast<int64_t>(entered_.size()); }

  int64_t size() const { return static_cast<int64_t>(ids_.size()); }
  bool weighted() const { return weighted_; }
  void order(int64_t* slots) const;                               // [size], best first
  void state(int64_t* index, void* keys, int64_t* groups) const;  // [size] each; keys f64 where weighted, else i64
  void load(const int64_t* index, const void* keys, const int64_t* groups, int64_t n);

 private:
  struct Entry {  // the key stands here too: comparisons of a heap then stay within one cache line
    int64_t key;
    int32_t slot;
  };
  struct Group {
    int64_t number;
    std::vector<Entry> heap;  // four children each, the worst first
  };

  void make_keys(const Offered& batch, const Kernels& kernels);
  void offer_row(int64_t row, int64_t id, int64_t key, int64_t number);
  bool worse(int64_t key, int64_t id, int32_t slot) const;  // (key, id) than what the slot holds
  bool worse(const Entry& a, const Entry& b) const;
  void place(Group& group, size_t at, const Entry& entry);
  Group& group_of(int64_t number);
  void resize(Group& group, int64_t by);
  void settle(int64_t row, int32_t slot, int64_t id, int64_t key, Group& group);
  void push(Group& group, int32_t slot);
  int32_t pop(Group& group);
  void sift_up(Group& group, size_t at);
  void sift_down(Group& group, size_t at);
  void clear();

  int64_t capacity_;
  Hash hash_;
  bool weighted_;
  std::vector<int64_t> ids_, keys_;  // per slot; a larger key is better
  std::vector<Group*> groups_;       // per slot
  std::vector<int32_t> places_;      // per slot: where it stands in its group's heap
  IdTable table_{ids_};
  std::unordered_map<int64_t, Group> by_number_;      // groups that hold something
  std::set<std::pair<int64_t, int64_t>> by_size_;     // (size, number) of these
  std::vector<int64_t> batch_keys_, row_of_slot_;     // row of this batch that a slot took, or -1
  std::vector<std::pair<int64_t, int64_t>> entered_;  // (row, slot)
};

}  // namespace pyfast::sampling
