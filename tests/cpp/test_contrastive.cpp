// csrc/contrastive against the whole matrix in float64, in every instruction set of this machine, under the sanitizers.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "check.h"
#include "contrastive/pairs.h"
#include "core/error.h"

using namespace pyfast::contrastive;  // NOLINT
using pyfast::DType;
using pyfast::Isa;

namespace {

struct Matrix {
  int64_t n, d;
  std::vector<float> x;
  Matrix(int64_t rows, int64_t features, unsigned seed) : n(rows), d(features), x(rows * features) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    for (float& v : x) v = normal(random) / std::sqrt(static_cast<float>(features));
  }
  Rows view() const { return {reinterpret_cast<const char*>(x.data()), DType::f32, n, d, d, 1}; }
};

std::vector<Engine> engines(int threads) {
  std::vector<Engine> all;
  for (int i = 0; i <= static_cast<int>(pyfast::hardware_isa()); ++i)
    for (const bool bfloat16 : {false, true}) all.push_back({&kernels_for(static_cast<Isa>(i), bfloat16), threads});
  return all;
}

double tolerance(const Engine& e) { return e.tile->per_word == 2 ? 3e-2 : 2e-5; }

Product product(const Matrix& a, const Matrix& b, float scale, float bias = 0) {
  Product p;
  p.a.rows = a.view();
  p.b.rows = b.view();
  p.scale = scale;
  p.bias = bias;
  return p;
}

std::vector<double> similarities(const Matrix& a, const Matrix& b, double scale, double bias = 0) {
  std::vector<double> s(a.n * b.n);
  for (int64_t i = 0; i < a.n; ++i)
    for (int64_t j = 0; j < b.n; ++j) {
      double dot = 0;
      for (int64_t f = 0; f < a.d; ++f) dot += static_cast<double>(a.x[i * a.d + f]) * b.x[j * b.d + f];
      s[i * b.n + j] = scale * dot + bias;
    }
  return s;
}

// Sides of a call and what they should hold.
struct Sides {
  std::vector<float> row_max, col_max;
  std::vector<double> row_sum, row_pos, col_sum, col_pos;
  Sides(int64_t n, int64_t m) : row_max(n), col_max(m), row_sum(n), row_pos(n), col_sum(m), col_pos(m) {}
  SideStats rows() { return {row_max.data(), row_sum.data(), row_pos.data()}; }
  SideStats cols() { return {col_max.data(), col_sum.data(), col_pos.data()}; }
};

std::vector<int64_t> labels(int64_t n, int classes, int64_t step = 1) {
  std::vector<int64_t> ids(n);
  for (int64_t i = 0; i < n; ++i) ids[i] = i % classes * step;
  return ids;
}

double log_sum(const std::vector<double>& s) {
  double top = -INFINITY, sum = 0;
  for (const double v : s) top = std::max(top, v);
  for (const double v : s) sum += std::exp(v - top);
  return top + std::log(sum);
}

void check_stats(const Engine& engine, const Matrix& a, const Matrix& b, float scale, bool exclude, bool symmetric,
                 int64_t label_step = 1) {
  const auto row_ids = labels(a.n, 5, label_step), col_ids = labels(b.n, 5, label_step);
  Sides out(a.n, b.n);
  StatsArgs args{engine, product(a, b, scale), row_ids.data(), col_ids.data(), {exclude, 0}, symmetric, out.rows(), {}};
  if (!symmetric) args.cols = out.cols();
  pair_stats(args);
  const auto s = similarities(a, b, scale);
  const double slack = tolerance(engine) * std::max(1.0f, scale);
  for (int side = 0; side < (symmetric ? 1 : 2); ++side) {
    for (int64_t i = 0; i < (side ? b.n : a.n); ++i) {
      std::vector<double> row;
      double pos = 0;
      for (int64_t j = 0; j < (side ? a.n : b.n); ++j) {
        if (exclude && i == j) continue;
        row.push_back(side ? s[j * b.n + i] : s[i * b.n + j]);
        if (i % 5 == j % 5) pos += row.back();
      }
      const double max = side ? out.col_max[i] : out.row_max[i], sum = side ? out.col_sum[i] : out.row_sum[i];
      if (row.empty()) {
        CHECK(max == -INFINITY && sum == 0);
        continue;
      }
      CHECK(std::abs(max + std::log(sum) - log_sum(row)) <= slack);
      CHECK(std::abs((side ? out.col_pos[i] : out.row_pos[i]) - pos) <= slack * (1 + static_cast<double>(row.size())));
    }
  }
}

struct Pulls {
  std::vector<float> max, coef, pos;
  SidePull view() const { return {max.data(), coef.data(), pos.data()}; }
};

// coef = weight / sum, so that coef exp(s - max) is weight times the softmax.
Pulls pulls(const std::vector<float>& max, const std::vector<double>& sum, unsigned seed) {
  Pulls p{max, std::vector<float>(max.size()), std::vector<float>(max.size())};
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> uniform(0.5f, 1.5f);
  for (size_t i = 0; i < max.size(); ++i) {
    const float weight = uniform(random);
    p.coef[i] = sum[i] > 0 ? static_cast<float>(weight / sum[i]) : 0;
    p.pos[i] = weight * 0.3f;
  }
  return p;
}

double gap(const std::vector<float>& ours, const std::vector<double>& truth) {
  double worst = 0, size = 1e-30;
  for (size_t i = 0; i < ours.size(); ++i) {
    if (!std::isfinite(ours[i])) return INFINITY;
    worst = std::max(worst, std::abs(ours[i] - truth[i]));
    size = std::max(size, std::abs(truth[i]));
  }
  return worst / size;
}

struct Gradient {
  std::vector<float> da, db;
  double dscale = 0;
  bool operator==(const Gradient& o) const {
    return !std::memcmp(da.data(), o.da.data(), da.size() * 4) && !std::memcmp(db.data(), o.db.data(), db.size() * 4) &&
           dscale == o.dscale;
  }
};

Gradient gradient(const Engine& engine, const Matrix& a, const Matrix& b, float scale, bool exclude, bool symmetric,
                  bool check) {
  const auto row_ids = labels(a.n, 5), col_ids = labels(b.n, 5);
  Sides stats(a.n, b.n);
  StatsArgs first{engine, product(a, b, scale), row_ids.data(), col_ids.data(), {exclude, 0}, symmetric, stats.rows(),
                  {}};
  if (!symmetric) first.cols = stats.cols();
  pair_stats(first);
  const Pulls rows = pulls(stats.row_max, stats.row_sum, 1);
  const Pulls cols = symmetric ? rows : pulls(stats.col_max, stats.col_sum, 2);
  Gradient out{std::vector<float>(a.n * a.d, 7.0f), std::vector<float>(b.n * b.d, 7.0f)};
  GradArgs args{engine,
                product(a, b, scale),
                row_ids.data(),
                col_ids.data(),
                {exclude, 0},
                symmetric,
                rows.view(),
                symmetric ? SidePull{} : cols.view(),
                {out.da.data(), symmetric ? nullptr : out.db.data(), &out.dscale}};
  pair_grads(args);
  if (!check) return out;
  const auto s = similarities(a, b, scale);
  std::vector<double> da(a.n * a.d), db(b.n * b.d);
  for (int64_t i = 0; i < a.n; ++i)
    for (int64_t j = 0; j < b.n; ++j) {
      if (exclude && i == j) continue;
      double ds = rows.coef[i] * std::exp(s[i * b.n + j] - rows.max[i]);
      ds += cols.coef[j] * std::exp(s[i * b.n + j] - cols.max[j]);
      if (i % 5 == j % 5) ds -= rows.pos[i] + cols.pos[j];
      for (int64_t f = 0; f < a.d; ++f) {
        da[i * a.d + f] += scale * ds * b.x[j * b.d + f];
        db[j * b.d + f] += scale * ds * a.x[i * a.d + f];
      }
    }
  CHECK(gap(out.da, da) <= tolerance(engine) * std::max(1.0f, scale));
  if (!symmetric) CHECK(gap(out.db, db) <= tolerance(engine) * std::max(1.0f, scale));
  return out;
}

}  // namespace

TEST(exponential_is_within_two_ulp) {
  for (const Engine& e : engines(1)) {
    const Kernels& k = *e.tile;
    std::vector<float> s(k.mr * k.nr), out(k.mr * k.nr), zero(max_nr, 0.0f), one(max_nr, 1.0f);
    std::mt19937 random(3);
    std::uniform_real_distribution<float> uniform(-87.0f, 0.0f);
    for (int trial = 0; trial < 200; ++trial) {
      for (float& x : s) x = uniform(random);
      k.soft_pull({s.data(), {zero.data(), one.data(), 0, 0}, {}, out.data(), false});
      for (size_t i = 0; i < s.size(); ++i) {
        const double truth = std::exp(static_cast<double>(s[i]));
        const double ulp = std::nextafter(static_cast<float>(truth), INFINITY) - static_cast<float>(truth);
        CHECK(std::abs(out[i] - truth) <= 2 * ulp);
      }
    }
  }
}

TEST(statistics_equal_the_whole_matrix) {
  for (const Engine& e : engines(2))
    for (const auto& [n, m, d] :
         {std::array<int64_t, 3>{1, 1, 1}, {1, 40, 3}, {33, 1, 17}, {97, 131, 40}, {200, 150, 5}})
      for (const float scale : {1.0f, 30.0f}) {
        const Matrix a(n, d, 1), b(m, d, 2);
        check_stats(e, a, b, scale, false, false);
        check_stats(e, a, b, scale, true, false);
        check_stats(e, a, a, scale, true, true);
      }
}

TEST(ids_beyond_32_bits) {
  const Matrix a(50, 8, 1), b(60, 8, 2);
  for (const Engine& e : engines(1)) check_stats(e, a, b, 2, false, false, int64_t{1} << 40);
}

TEST(small_columns_beside_large_ones_do_not_vanish) {
  Matrix a(64, 4, 1), b(96, 4, 2);
  for (int64_t j = 0; j < b.n; j += 7) b.x[j * 4] = -40;  // these columns lie far below the others of their tile
  for (int64_t i = 0; i < a.n; ++i) a.x[i * 4] = 3 + 0.1f * static_cast<float>(i % 5);
  for (const Engine& e : engines(1)) {
    if (e.tile->per_word == 2) continue;
    check_stats(e, a, b, 1, false, false);
    gradient(e, a, b, 1, false, false, true);
  }
}

TEST(gradients_equal_the_whole_matrix) {
  for (const Engine& e : engines(2))
    for (const auto& [n, m, d] :
         {std::array<int64_t, 3>{1, 1, 1}, {1, 40, 3}, {33, 1, 17}, {97, 131, 40}, {110, 60, 70}}) {
      const Matrix a(n, d, 1), b(m, d, 2);
      gradient(e, a, b, 5, false, false, true);
      gradient(e, a, b, 5, true, false, true);
      if (n > 1) gradient(e, a, a, 5, true, true, true);
    }
}

TEST(threads_do_not_change_a_bit) {
  const Matrix a(500, 33, 1), b(700, 33, 2);
  const auto one = engines(1), three = engines(3);
  for (size_t i = 0; i < one.size(); ++i) {
    CHECK(gradient(one[i], a, b, 5, false, false, false) == gradient(three[i], a, b, 5, false, false, false));
    CHECK(gradient(one[i], a, a, 5, true, true, false) == gradient(three[i], a, a, 5, true, true, false));
  }
}

TEST(sigmoid_equals_the_whole_matrix) {
  const Matrix a(75, 19, 1), b(50, 19, 2);
  const auto row_ids = labels(a.n, 5), col_ids = labels(b.n, 5);
  for (const Engine& e : engines(2)) {
    std::vector<float> da(a.n * a.d), db(b.n * b.d);
    double loss = 0, dscale = 0, dbias = 0;
    siglip({e, product(a, b, 6, -2), row_ids.data(), col_ids.data(), {da.data(), db.data(), &dscale}, &loss, &dbias});
    const auto s = similarities(a, b, 6, -2);
    double want = 0, bias = 0, slope = 0;
    for (int64_t i = 0; i < a.n; ++i)
      for (int64_t j = 0; j < b.n; ++j) {
        const double x = s[i * b.n + j], y = i % 5 == j % 5 ? 1 : -1;
        want += std::log1p(std::exp(-y * x));
        const double ds = 1 / (1 + std::exp(-x)) - (y > 0);
        bias += ds;
        slope += ds * (x + 2) / 6;
      }
    CHECK(std::abs(loss - want) <= tolerance(e) * want);
    CHECK(std::abs(dbias - bias) <= tolerance(e) * std::abs(bias));
    CHECK(std::abs(dscale - slope) <= tolerance(e) * (1 + std::abs(slope)) * 10);
  }
}

TEST(distillation_equals_the_whole_matrix_and_reference_rows_the_rows) {
  const Matrix sa(75, 19, 1), sb(50, 19, 2), ta(75, 9, 3), tb(50, 9, 4);
  for (const Engine& e : engines(2)) {
    const Bank student(sb.view(), e), teacher(tb.view(), e);
    std::vector<double> kl[2];
    for (const bool packed : {false, true}) {
      Product s = product(sa, sb, 4), t = product(ta, tb, 3);
      if (packed) s.b = {{}, &student}, t.b = {{}, &teacher};
      std::vector<float> s_max(75), t_max(75);
      std::vector<double> s_sum(75), t_sum(75), cross(75);
      std::vector<uint8_t> right(75);
      kl_stats(
          {e, s, t, {}, 0, {s_max.data(), t_max.data(), s_sum.data(), t_sum.data(), cross.data(), right.data()}, {}});
      for (int i = 0; i < 75; ++i)
        kl[packed].push_back(cross[i] / t_sum[i] - (t_max[i] + std::log(t_sum[i])) + s_max[i] + std::log(s_sum[i]));
    }
    CHECK(kl[0] == kl[1]);
    const auto s = similarities(sa, sb, 4), t = similarities(ta, tb, 3);
    for (int64_t i = 0; i < 75; ++i) {
      const std::vector<double> si(s.begin() + i * 50, s.begin() + (i + 1) * 50),
          ti(t.begin() + i * 50, t.begin() + (i + 1) * 50);
      double want = log_sum(si) - log_sum(ti);
      for (int j = 0; j < 50; ++j) want += std::exp(ti[j] - log_sum(ti)) * (ti[j] - si[j]);
      CHECK(std::abs(kl[0][i] - want) <= 4 * tolerance(e));
    }
  }
}

TEST(a_nan_stays_in_its_row_and_column) {
  Matrix a(40, 6, 1);
  const Matrix b(60, 6, 2);
  a.x[6 * 11] = std::numeric_limits<float>::quiet_NaN();
  const auto row_ids = labels(40, 5), col_ids = labels(60, 5);
  for (const Engine& e : engines(1)) {
    Sides out(40, 60);
    pair_stats({e, product(a, b, 2), row_ids.data(), col_ids.data(), {}, false, out.rows(), out.cols()});
    for (int i = 0; i < 40; ++i) CHECK(std::isnan(out.row_sum[i]) == (i == 11));
    for (int j = 0; j < 60; ++j) CHECK(std::isnan(out.col_sum[j]));
  }
}

TEST(reference_rows_of_another_precision_are_refused) {
  const Matrix a(8, 4, 1);
  const auto all = engines(1);
  if (all.back().tile == all[0].tile) return;
  const Bank bank(a.view(), all[0]);
  Product p = product(a, a, 1);
  p.b = {{}, &bank};
  const auto ids = labels(8, 5);
  Sides out(8, 8);
  const std::string said = check::message<pyfast::Error>(
      [&] { pair_stats({all.back(), p, ids.data(), ids.data(), {}, false, out.rows(), out.cols()}); });
  CHECK(check::contains(said, "pack them again"));
}

int main() { return check::run(); }
