// csrc/knn against the brute-force truth, in every instruction set of this machine, under the sanitizers.
#include <numeric>

#include "check.h"
#include "core/error.h"
#include "knn/lloyd.h"
#include "knn_truth.h"

using pyfast::Isa;
using pyfast::knn::Bank;
using pyfast::knn::Kernels;
using pyfast::knn::SearchArgs;
using truth::Matrix;
using truth::Metric;
using truth::Rows;

namespace {

constexpr Metric metrics[] = {Metric::l2, Metric::ip, Metric::cosine};

std::vector<const Kernels*> all_kernels() {
  std::vector<const Kernels*> found;
  for (int i = 0; i <= static_cast<int>(pyfast::hardware_isa()); ++i) {
    found.push_back(&pyfast::knn::kernels_for(static_cast<Isa>(i)));
  }
  return found;
}

struct Result {
  int64_t k;
  std::vector<float> distances;
  std::vector<int64_t> indices;
  bool operator==(const Result& other) const {
    return indices == other.indices &&
           !std::memcmp(distances.data(), other.distances.data(), distances.size() * sizeof(float));
  }
};

SearchArgs arguments(const Kernels& kernels, Metric metric, const Rows& queries, const Rows& database, int64_t k) {
  SearchArgs args;
  args.kernels = &kernels;
  args.metric = metric;
  args.queries = queries;
  args.database = database;
  args.k = k;
  return args;
}

Result find(const SearchArgs& args) {
  const size_t places = static_cast<size_t>(args.queries.rows * args.k);
  Result r{args.k, std::vector<float>(places, 7.0f), std::vector<int64_t>(places, -7)};
  pyfast::knn::knn_cpu(args, {r.distances.data(), r.indices.data()});
  return r;
}

std::vector<int64_t> all_rows(int64_t n) {
  std::vector<int64_t> rows(static_cast<size_t>(n));
  std::iota(rows.begin(), rows.end(), 0);
  return rows;
}

void compare(const std::string& title, Metric metric, const Matrix& queries, const Matrix& database, const Result& r,
             bool exact, bool exclude_self = false) {
  for (int64_t i = 0; i < queries.rows; ++i) {
    std::vector<double> scores;
    double scale = 0;
    for (int64_t j = 0; j < database.rows; ++j) {
      scores.push_back(truth::score(metric, queries.row(i), database.row(j), database.d));
      if (std::isfinite(scores.back())) scale = std::max(scale, std::abs(scores.back()));
    }
    std::vector<int64_t> candidates = all_rows(database.rows);
    if (exclude_self && i < database.rows) candidates.erase(candidates.begin() + i);
    const std::vector<int64_t> expected = truth::ranking(scores, candidates);
    const double slack = exact ? 0 : 1e-14 * static_cast<double>(database.d) * scale;
    const std::string text = truth::complaint(scores, expected, r.indices.data() + i * r.k, r.k, slack);
    if (!text.empty()) std::printf("%s, query %ld, %s\n", title.c_str(), static_cast<long>(i), text.c_str());
    CHECK(text.empty());
    for (int64_t j = 0; j < r.k; ++j) {
      const int64_t row = r.indices[i * r.k + j];
      const double sign = metric == Metric::l2 ? -1 : 1, none = -HUGE_VAL;
      CHECK(truth::same_distance(sign * (row < 0 ? none : scores[row]), r.distances[i * r.k + j], slack));
    }
  }
}

std::string title(const Kernels& kernels, const char* kind, Metric metric, int64_t n, int64_t m, int64_t d, int64_t k) {
  return std::string(kernels.name) + " " + kind + " metric " + std::to_string(static_cast<int>(metric)) + " N " +
         std::to_string(n) + " M " + std::to_string(m) + " D " + std::to_string(d) + " k " + std::to_string(k);
}

void try_sizes(const char* kind, const std::vector<int64_t>& ms, const std::vector<int64_t>& ds, bool exact) {
  uint64_t stream = 0;
  for (const Kernels* kernels : all_kernels()) {
    for (Metric metric : metrics) {
      for (int64_t m : ms) {
        for (int64_t d : ds) {
          const int64_t n = std::vector<int64_t>{1, 5, 17, 33}[stream % 4];
          const int64_t k = std::vector<int64_t>{1, 10, m, m + 3}[stream / 4 % 4];
          const Matrix queries = truth::make(kind, n, d, 2 * stream),
                       database = truth::make(kind, m, d, 2 * stream + 1);
          const Result r = find(arguments(*kernels, metric, queries.view(), database.view(), k));
          // cosine divides, which float64 does not do exactly
          compare(title(*kernels, kind, metric, n, m, d, k), metric, queries, database, r,
                  exact && metric != Metric::cosine);
          ++stream;
        }
      }
    }
  }
}

}  // namespace

TEST(ties_go_to_the_smaller_index_where_float64_is_exact) {
  try_sizes("grid", {1, 16, 63, 129}, {1, 3, 15, 17, 64}, true);
}

TEST(ordinary_rows) { try_sizes("normal", {15, 17, 65, 128}, {1, 2, 16, 33, 129}, false); }

TEST(near_duplicates_far_from_zero) { try_sizes("offset", {64, 97}, {7, 31, 65}, false); }

TEST(norms_of_sixty_orders_of_magnitude) { try_sizes("wide", {17, 65}, {1, 8, 127}, false); }

TEST(nan_and_infinity_come_where_float64_puts_them) { try_sizes("bad", {16, 33}, {3, 16, 65}, false); }

TEST(long_lists_and_a_large_k) {
  for (const Kernels* kernels : all_kernels()) {
    for (int64_t k : {1, 100, 1000, 3000}) {
      const Matrix queries = truth::make("normal", 3, 24, 100), database = truth::make("normal", 3000, 24, 101);
      const Result r = find(arguments(*kernels, Metric::l2, queries.view(), database.view(), k));
      compare(title(*kernels, "long", Metric::l2, 3, 3000, 24, k), Metric::l2, queries, database, r, false);
    }
  }
}

TEST(equal_rows_and_ever_nearer_rows_overflow_no_buffer) {
  for (const Kernels* kernels : all_kernels()) {
    Matrix database = truth::make("normal", 4000, 8, 102);
    const Matrix queries = truth::make("normal", 2, 8, 103);
    for (int64_t i = 0; i < database.rows; ++i) {
      for (int64_t j = 0; j < 8; ++j) database.row(i)[j] = queries.row(0)[j] + (i < 2000 ? 1.0f : 1e-3f * (4000 - i));
    }
    const Result r = find(arguments(*kernels, Metric::l2, queries.view(), database.view(), 40));
    compare(title(*kernels, "nearer", Metric::l2, 2, 4000, 8, 40), Metric::l2, queries, database, r, false);
  }
}

TEST(the_result_does_not_depend_on_threads_or_passes) {
  const Matrix queries = truth::make("normal", 70, 19, 104), database = truth::make("normal", 1500, 19, 105);
  for (const Kernels* kernels : all_kernels()) {
    SearchArgs args = arguments(*kernels, Metric::cosine, queries.view(), database.view(), 12);
    const Result one = find(args);
    for (int threads : {2, 5}) {
      args.threads = threads;
      args.max_pass = threads == 5 ? 11 : 0;
      CHECK(find(args) == one);
    }
  }
}

TEST(threads_that_share_a_query_agree_with_one) {
  const Matrix queries = truth::make("normal", 3, 16, 117), database = truth::make("normal", 60000, 16, 118);
  const Kernels& kernels = *all_kernels().back();
  SearchArgs args = arguments(kernels, Metric::l2, queries.view(), database.view(), 5);
  const Result one = find(args);
  compare("shared queries", Metric::l2, queries, database, one, false);
  args.threads = 4;
  for (int repeat = 0; repeat < 5; ++repeat) CHECK(find(args) == one);
}

TEST(all_instruction_sets_agree_to_the_bit) {
  const Matrix queries = truth::make("normal", 20, 33, 106), database = truth::make("normal", 400, 33, 107);
  for (Metric metric : metrics) {
    const Result first = find(arguments(*all_kernels()[0], metric, queries.view(), database.view(), 9));
    for (const Kernels* kernels : all_kernels()) {
      CHECK(find(arguments(*kernels, metric, queries.view(), database.view(), 9)) == first);
    }
  }
}

TEST(a_bank_that_grows_gives_what_one_database_gives) {
  const Matrix queries = truth::make("normal", 9, 21, 108), database = truth::make("bad", 700, 21, 109);
  for (const Kernels* kernels : all_kernels()) {
    for (Metric metric : metrics) {
      Bank bank(metric, 21, *kernels);
      SearchArgs args = arguments(*kernels, metric, queries.view(), Rows{}, 15);
      args.bank = &bank;
      for (int64_t i : find(args).indices) CHECK(i == -1);
      for (int64_t first = 0, step = 1; first < database.rows;
           first += step, step = std::min(2 * step + 1, 700 - first)) {
        Rows part = database.view();
        part.data += first * 21 * sizeof(float);
        part.rows = part.count = step;
        bank.append(part, 2);
      }
      CHECK(bank.source.count == 700);
      compare(title(*kernels, "bank", metric, 9, 700, 21, 15), metric, queries, database, find(args), false);
    }
  }
}

TEST(a_row_can_be_left_out_of_its_own_search) {
  const Matrix rows = truth::make("grid", 50, 6, 110);
  for (const Kernels* kernels : all_kernels()) {
    SearchArgs args = arguments(*kernels, Metric::l2, rows.view(), rows.view(), 52);
    args.exclude_self = true;
    compare(title(*kernels, "self", Metric::l2, 50, 50, 6, 52), Metric::l2, rows, rows, find(args), true, true);
  }
}

TEST(row_numbers_restrict_the_search) {
  const Matrix rows = truth::make("normal", 60, 10, 111);
  std::vector<int64_t> chosen;
  for (int64_t i = 1; i < 60; i += 3) chosen.push_back(i);
  Rows some = rows.view();
  some.ids = chosen.data();
  some.count = static_cast<int64_t>(chosen.size());
  for (const Kernels* kernels : all_kernels()) {
    const Result r = find(arguments(*kernels, Metric::l2, some, some, 4));
    for (int64_t i : chosen) {
      std::vector<double> scores;
      for (int64_t j = 0; j < 60; ++j) scores.push_back(truth::score(Metric::l2, rows.row(i), rows.row(j), 10));
      CHECK(truth::complaint(scores, truth::ranking(scores, chosen), &r.indices[i * 4], 4, 1e-12).empty());
    }
    for (int64_t j = 0; j < 4; ++j) CHECK(r.indices[j] == -7 && r.distances[j] == 7.0f);  // row 0 was not asked for
  }
}

TEST(any_strides_and_half_precision_are_read_where_they_lie) {
  const int64_t n = 37, d = 19;
  const Matrix rows = truth::make("grid", n, d, 112);
  std::vector<float> columns(static_cast<size_t>(n * d));
  std::vector<uint16_t> half(columns.size()), brain(columns.size());
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < d; ++j) {
      const float v = rows.row(i)[j];
      columns[j * n + i] = v;
      half[i * d + j] = v == 0 ? 0 : v > 0 ? 0x3c00 : 0xbc00;
      brain[i * d + j] = v == 0 ? 0 : v > 0 ? 0x3f80 : 0xbf80;
    }
  }
  for (const Kernels* kernels : all_kernels()) {
    const Result plain = find(arguments(*kernels, Metric::l2, rows.view(), rows.view(), 8));
    Rows strided = rows.view();
    strided.data = reinterpret_cast<const char*>(columns.data());
    strided.row_stride = 1;
    strided.column_stride = n;
    CHECK(find(arguments(*kernels, Metric::l2, strided, strided, 8)) == plain);
    for (auto* source : {&half, &brain}) {
      Rows narrow = rows.view();
      narrow.data = reinterpret_cast<const char*>(source->data());
      narrow.dtype = source == &half ? pyfast::DType::f16 : pyfast::DType::bf16;
      CHECK(find(arguments(*kernels, Metric::l2, narrow, narrow, 8)) == plain);
    }
  }
}

TEST(no_queries_or_no_rows_are_legal) {
  const Matrix none = truth::make("normal", 0, 5, 113), some = truth::make("normal", 3, 5, 114);
  for (const Kernels* kernels : all_kernels()) {
    CHECK(find(arguments(*kernels, Metric::l2, none.view(), some.view(), 2)).indices.empty());
    const Result r = find(arguments(*kernels, Metric::ip, some.view(), none.view(), 2));
    for (size_t i = 0; i < r.indices.size(); ++i) CHECK(r.indices[i] == -1 && r.distances[i] == -HUGE_VALF);
  }
}

TEST(a_lloyd_step_sums_the_rows_of_the_nearest_centre) {
  const int64_t n = 300, d = 13, clusters = 7;
  const Matrix x = truth::make("grid", n, d, 115), centers = truth::make("grid", clusters, d, 116);
  for (const Kernels* kernels : all_kernels()) {
    for (int threads : {1, 3}) {
      std::vector<double> sums(clusters * d, NAN), costs(n, NAN), expected(clusters * d);
      std::vector<int64_t> counts(clusters, -1), labels(n, -1), members(clusters);
      pyfast::knn::lloyd_cpu({x.view(), centers.view(), Metric::l2, threads, kernels, sums.data(), counts.data(),
                              labels.data(), costs.data()});
      for (int64_t i = 0; i < n; ++i) {
        std::vector<double> scores;
        for (int64_t c = 0; c < clusters; ++c) scores.push_back(truth::score(Metric::l2, x.row(i), centers.row(c), d));
        const int64_t best = truth::ranking(scores, all_rows(clusters))[0];
        CHECK(labels[i] == best && costs[i] == -scores[best]);
        ++members[best];
        for (int64_t j = 0; j < d; ++j) expected[best * d + j] += x.row(i)[j];
      }
      CHECK(sums == expected && counts == members);
    }
  }
}

int main() { return check::run(); }
