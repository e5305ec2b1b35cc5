// Memory that runs out at any allocation: an append that fails leaves the bank as it was, a search that fails returns.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmismatched-new-delete"  // operator new below is malloc: the pair matches
#endif

#include <atomic>
#include <cstdlib>
#include <new>

#include "check.h"
#include "core/isa.h"
#include "knn_truth.h"

namespace {
std::atomic<long> until_failure{-1};  // negative: never

void fail_at(long allocation) { until_failure = allocation; }
}  // namespace

void* operator new(std::size_t size) {
  if (until_failure >= 0 && until_failure-- == 0) throw std::bad_alloc();
  if (void* p = std::malloc(size ? size : 1)) return p;
  throw std::bad_alloc();
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }

namespace {

using pyfast::knn::Bank;
using pyfast::knn::SearchArgs;

std::vector<int64_t> neighbours(const Bank& bank, const truth::Matrix& q, int64_t k, int threads) {
  std::vector<float> distances(static_cast<size_t>(q.rows * k));
  std::vector<int64_t> indices(static_cast<size_t>(q.rows * k), -2);
  SearchArgs args;
  args.queries = q.view();
  args.bank = &bank;
  args.k = k;
  args.threads = threads;
  args.kernels = &bank.kernels;
  pyfast::knn::knn_cpu(args, {distances.data(), indices.data()});
  return indices;
}

}  // namespace

TEST(a_failed_append_leaves_the_bank_as_it_was) {
  const auto& kernels = pyfast::knn::kernels_for(pyfast::current_isa());
  const truth::Matrix first = truth::make("normal", 700, 16, 1), more = truth::make("bad", 9000, 16, 2);
  const truth::Matrix q = truth::make("normal", 5, 16, 3);
  Bank bank(truth::Metric::l2, 16, kernels);
  bank.append(first.view(), 2);
  const auto before = neighbours(bank, q, 20, 1);
  Bank whole(truth::Metric::l2, 16, kernels);
  whole.append(first.view(), 2);
  whole.append(more.view(), 2);
  const auto after = neighbours(whole, q, 20, 1);
  int failed = 0;
  for (long allocation = 0; allocation < 60; ++allocation) {
    Bank trial(truth::Metric::l2, 16, kernels);
    trial.append(first.view(), 2);
    fail_at(allocation);
    try {
      trial.append(more.view(), 1);
      fail_at(-1);
      break;  // fewer allocations than this: every one has failed once
    } catch (const std::bad_alloc&) {
      fail_at(-1);
      ++failed;
    }
    CHECK(trial.source.count == 700);
    CHECK(neighbours(trial, q, 20, 1) == before);
    trial.append(more.view(), 2);
    CHECK(neighbours(trial, q, 20, 1) == after);
  }
  CHECK(failed > 3);
}

TEST(a_search_that_runs_out_of_memory_returns) {
  const auto& kernels = pyfast::knn::kernels_for(pyfast::current_isa());
  truth::Matrix x(20000, 8);
  std::fill(x.values.begin(), x.values.end(), 0.3f);  // all equal: buffers fill and are ranked during the scan
  const truth::Matrix q = truth::make("normal", 6, 8, 4);
  Bank bank(truth::Metric::l2, 8, kernels);
  bank.append(x.view(), 2);
  const auto want = neighbours(bank, q, 3, 2);
  int failed = 0;
  for (long allocation = 0; allocation < 400; allocation += 7) {
    fail_at(allocation);
    try {
      neighbours(bank, q, 3, 2);
    } catch (const std::bad_alloc&) {
      ++failed;
    }
    fail_at(-1);
  }
  CHECK(failed > 10);
  CHECK(neighbours(bank, q, 3, 2) == want);
}

int main() { return check::run(); }
