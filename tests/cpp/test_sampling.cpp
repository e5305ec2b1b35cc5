// The samplers of every instruction set, with arrays exactly as long as they are and with several threads, so that the
// sanitizers see any access past an end and any race.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <numeric>
#include <set>
#include <vector>

#include "check.h"
#include "core/error.h"
#include "core/isa.h"
#include "core/philox.h"
#include "sampling/alias.h"
#include "sampling/log.h"
#include "sampling/reservoir.h"
#include "sampling/subsets.h"
#include "sampling/tree.h"
#include "sampling/weighted.h"

namespace {

using pyfast::DType;
using pyfast::Isa;
using namespace pyfast::sampling;

std::vector<const Kernels*> all_kernels() {
  std::vector<const Kernels*> all;
  for (int i = 0; i <= static_cast<int>(pyfast::hardware_isa()); ++i) all.push_back(&kernels_for(static_cast<Isa>(i)));
  return all;
}

// Numbers with zeros among them, over some orders of magnitude.
std::vector<float> priorities(int64_t n, uint64_t seed) {
  pyfast::Philox random(seed);
  std::vector<float> x(static_cast<size_t>(n));
  for (float& value : x) {
    const float u = pyfast::uniform_float(random.next());
    value = u < 0.25f ? 0.0f : std::exp(20 * u - 10);
  }
  return x;
}

struct Draws {
  std::vector<int64_t> index;
  std::vector<double> probability;
};

Draws sample(const PriorityTree& tree, int64_t n, int threads, const Kernels& kernels) {
  Draws out = {std::vector<int64_t>(static_cast<size_t>(n)), std::vector<double>(static_cast<size_t>(n))};
  const DrawArgs args = {fold_seed(3, 5), true, n, 0, 0, out.index.data(), out.probability.data()};
  tree.sample(args, threads, kernels);
  return out;
}

struct Matrix {
  int64_t n, d;
  std::vector<float> values;
  Features view() const { return {reinterpret_cast<const char*>(values.data()), DType::f32, n, d}; }
};

Matrix features(int64_t n, int64_t d, uint64_t seed) {
  pyfast::Philox random(seed);
  Matrix x = {n, d, std::vector<float>(static_cast<size_t>(n * d))};
  for (float& value : x.values) value = static_cast<float>(random.next() % 7) - 3;  // small integers: exact ties
  return x;
}

// Greedy mean matching in 64-bit integers.
std::vector<int64_t> herding_truth(const Matrix& x, int64_t m) {
  std::vector<int64_t> chosen, sum(static_cast<size_t>(x.d)), taken(static_cast<size_t>(x.d));
  std::vector<bool> used(static_cast<size_t>(x.n));
  const auto at = [&](int64_t i, int64_t c) {
    return static_cast<int64_t>(x.values[static_cast<size_t>(i * x.d + c)]);
  };
  for (int64_t i = 0; i < x.n; ++i)
    for (int64_t c = 0; c < x.d; ++c) sum[static_cast<size_t>(c)] += at(i, c);
  for (int64_t k = 1; k <= m; ++k) {
    int64_t best = -1, best_score = 0;
    for (int64_t i = 0; i < x.n; ++i) {
      if (used[static_cast<size_t>(i)]) continue;
      int64_t score = 0;
      for (int64_t c = 0; c < x.d; ++c) {
        const size_t s = static_cast<size_t>(c);
        score += x.n * at(i, c) * at(i, c) + 2 * at(i, c) * (x.n * taken[s] - k * sum[s]);
      }
      if (best < 0 || score < best_score) best = i, best_score = score;
    }
    used[static_cast<size_t>(best)] = true;
    chosen.push_back(best);
    for (int64_t c = 0; c < x.d; ++c) taken[static_cast<size_t>(c)] += at(best, c);
  }
  return chosen;
}

std::vector<int64_t> herd(const Matrix& x, int64_t m, int threads, const Kernels& kernels) {
  std::vector<int64_t> order(static_cast<size_t>(m));
  HerdingArgs args;
  args.features = x.view();
  args.m = m;
  args.order = order.data();
  args.threads = threads;
  args.kernels = &kernels;
  herding_cpu(args);
  return order;
}

}  // namespace

TEST(draws_are_the_same_for_every_instruction_set_and_thread_count) {
  for (int64_t capacity : {1, 16, 17, 300, 5000}) {
    auto leaves = priorities(capacity, 1);
    leaves.back() = 1;
    PriorityTree tree(capacity);
    tree.load(leaves.data());
    const Draws first = sample(tree, 5000, 1, kernels_for(Isa::scalar));
    for (const Kernels* kernels : all_kernels()) {
      for (int threads : {1, 3}) {
        const Draws again = sample(tree, 5000, threads, *kernels);
        CHECK(again.index == first.index && again.probability == first.probability);
      }
    }
    for (int64_t i : first.index) CHECK(i >= 0 && i < capacity && leaves[static_cast<size_t>(i)] > 0);
    CHECK(std::is_sorted(first.index.begin(), first.index.end()));  // stratified draws ascend
  }
}

TEST(updates_leave_what_a_load_would_give) {
  const int64_t capacity = 4100;
  PriorityTree tree(capacity);
  std::vector<float> leaves(static_cast<size_t>(capacity));
  pyfast::Philox random(9);
  for (int64_t n : {1, 5, 100, 3000}) {
    const auto values = priorities(n, static_cast<uint64_t>(n));
    std::vector<int64_t> index;
    for (int64_t i = 0; i < n; ++i) {
      index.push_back(random.next() % capacity);
      leaves[static_cast<size_t>(index.back())] = values[static_cast<size_t>(i)];
    }
    tree.update(index.data(), values.data(), n);
    PriorityTree fresh(capacity);
    fresh.load(leaves.data());
    CHECK(tree.total() == fresh.total() && tree.minimum() == fresh.minimum() && tree.positive() == fresh.positive());
    CHECK(std::memcmp(tree.leaves(), leaves.data(), leaves.size() * sizeof(float)) == 0);
    CHECK(sample(tree, 100, 1, kernels_for(Isa::scalar)).index ==
          sample(fresh, 100, 1, kernels_for(Isa::scalar)).index);
  }
}

TEST(a_refused_update_changes_nothing) {
  PriorityTree tree(20);
  const int64_t inside[] = {1, 2}, outside[] = {1, 20};
  const float good[] = {1, 2}, bad[] = {3, -1};
  tree.update(inside, good, 2);
  CHECK(check::contains(check::message<pyfast::Error>([&] { tree.update(outside, good, 2); }), "from 0 to 19, got 20"));
  CHECK(check::contains(check::message<pyfast::Error>([&] { tree.update(inside, bad, 2); }), "at position 1"));
  CHECK(tree.total() == 3 && tree.positive() == 2 && tree.minimum() == 1);
}

TEST(a_reservoir_holds_the_largest_keys_whatever_the_order) {
  const int64_t n = 3000, capacity = 61;
  std::vector<int64_t> ids(static_cast<size_t>(n));
  std::iota(ids.begin(), ids.end(), int64_t{-500});
  const Hash hash(17);
  std::vector<std::pair<int64_t, int64_t>> best;
  for (int64_t id : ids) best.push_back({-static_cast<int64_t>(hash.key(static_cast<uint64_t>(id))), id});
  std::sort(best.begin(), best.end());
  std::set<int64_t> expected;
  for (int64_t i = 0; i < capacity; ++i) expected.insert(best[static_cast<size_t>(i)].second);
  for (int64_t batch : {1, 7, 1000}) {
    std::reverse(ids.begin(), ids.end());
    Reservoir reservoir(capacity, 17, false);
    std::vector<int64_t> stored(static_cast<size_t>(capacity), -1);
    for (int64_t from = 0; from < n; from += batch) {
      Offered offered;
      offered.n = std::min(batch, n - from);
      offered.index = ids.data() + from;
      const int64_t entered = reservoir.offer(offered, kernels_for(pyfast::current_isa()));
      std::vector<int64_t> rows(static_cast<size_t>(entered)), slots(static_cast<size_t>(entered));
      reservoir.entered(rows.data(), slots.data());
      for (size_t i = 0; i < rows.size(); ++i) stored[static_cast<size_t>(slots[i])] = offered.index[rows[i]];
    }
    CHECK(std::set<int64_t>(stored.begin(), stored.end()) == expected);
    std::vector<int64_t> order(static_cast<size_t>(capacity));
    reservoir.order(order.data());
    for (size_t i = 0; i < order.size(); ++i) CHECK(stored[static_cast<size_t>(order[i])] == best[i].second);
  }
}

TEST(groups_of_a_reservoir_have_equal_shares) {
  Reservoir reservoir(10, 1, false);
  std::vector<int64_t> ids(400), groups(400);
  for (int64_t i = 0; i < 400; ++i)
    ids[static_cast<size_t>(i)] = i, groups[static_cast<size_t>(i)] = i < 398 ? i % 3 : 9;
  for (int64_t from = 0; from < 400; from += 40) {
    Offered offered;
    offered.n = 40;
    offered.index = ids.data() + from;
    offered.groups = groups.data() + from;
    reservoir.offer(offered, kernels_for(Isa::scalar));
  }
  std::vector<int64_t> index(10), keys(10), held(10);
  reservoir.state(index.data(), keys.data(), held.data());
  std::map<int64_t, int> counts;
  for (int64_t g : held) ++counts[g];
  CHECK((counts == std::map<int64_t, int>{{0, 3}, {1, 3}, {2, 2}, {9, 2}}));
  Reservoir copy(10, 1, false);
  copy.load(index.data(), keys.data(), held.data(), 10);
  CHECK(copy.size() == 10);
}

TEST(herding_is_the_same_everywhere_and_right) {
  for (int64_t n : {1, 2, 60, 900}) {
    const Matrix x = features(n, n == 900 ? 300 : 5, static_cast<uint64_t>(n));
    const int64_t m = std::min<int64_t>(n, 12);
    const auto expected = herding_truth(x, m);
    for (const Kernels* kernels : all_kernels())
      for (int threads : {1, 3}) CHECK(herd(x, m, threads, *kernels) == expected);
  }
}

TEST(k_center_covers_and_is_the_same_everywhere) {
  const Matrix x = features(1500, 130, 4);
  std::set<std::vector<int64_t>> choices;
  std::set<double> radii;
  for (const Kernels* kernels : all_kernels()) {
    for (int threads : {1, 3}) {
      std::vector<int64_t> chosen(9);
      KCenterArgs args;
      args.features = x.view();
      args.m = 9;
      args.chosen = chosen.data();
      args.threads = threads;
      args.kernels = kernels;
      radii.insert(k_center_cpu(args));
      choices.insert(chosen);
    }
  }
  CHECK(choices.size() == 1 && radii.size() == 1);
  double radius = 0;
  for (int64_t i = 0; i < x.n; ++i) {
    double gap = INFINITY;
    for (int64_t c : *choices.begin()) {
      double sum = 0;
      for (int64_t k = 0; k < x.d; ++k) {
        const double t = x.values[static_cast<size_t>(i * x.d + k)] - x.values[static_cast<size_t>(c * x.d + k)];
        sum += t * t;
      }
      gap = std::min(gap, sum);
    }
    radius = std::max(radius, gap);
  }
  CHECK(*radii.begin() == std::sqrt(radius));
}

TEST(rows_of_half_precision_are_read_to_their_end) {
  for (int64_t d : {1, 7, 8, 9, 33}) {
    std::vector<uint16_t> words(static_cast<size_t>(5 * d), 0x4000);  // 2 in float16 and in bfloat16
    const int64_t rows[] = {4, 0, 1, 2, 3};
    for (DType dtype : {DType::f16, DType::bf16}) {
      const Features x = {reinterpret_cast<const char*>(words.data()), dtype, 5, d};
      for (const Kernels* kernels : all_kernels()) {
        double out[5];
        kernels->reduce(Reduce::square, x, rows, 5, nullptr, out);
        for (double value : out) CHECK(value == 4.0 * static_cast<double>(d));
      }
    }
  }
}

TEST(races_and_tables) {
  std::vector<double> weights(100003);
  pyfast::Philox random(2);
  for (double& w : weights) w = pyfast::uniform_double(random.next64());
  weights[3] = 0;
  std::set<std::vector<int64_t>> choices;
  for (int threads : {1, 4}) {
    std::vector<int64_t> chosen(50);
    TopKArgs args;
    args.weights = weights.data();
    args.n = static_cast<int64_t>(weights.size());
    args.k = 50;
    args.chosen = chosen.data();
    args.threads = threads;
    gumbel_top_k(args);
    choices.insert(chosen);
  }
  CHECK(choices.size() == 1);
  std::vector<double> keep(weights.size());
  std::vector<int64_t> alias(weights.size()), drawn(20000);
  const AliasTable table = {keep.data(), alias.data(), static_cast<int64_t>(weights.size())};
  alias_build(weights.data(), table);
  alias_sample(table, 7, 20000, drawn.data(), 3);
  for (int64_t i : drawn) CHECK(i >= 0 && i < table.n && i != 3);
}

TEST(the_logarithm_is_right) {
  pyfast::Philox random(6);
  for (int i = 0; i < 100000; ++i) {
    const double x = std::ldexp(pyfast::uniform_open(random.next64()), static_cast<int>(random.next() % 80) - 60);
    CHECK(std::fabs(portable_log(x) - std::log(x)) <= 1e-15 * std::fabs(std::log(x)));
  }
  CHECK(portable_log(1.0) == 0);
}

int main() { return check::run(); }
