// The only file that knows Python. Arrays arrive as DLPack capsules and are checked before the GIL is released.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "contrastive/pairs.h"
#include "core/array.h"
#include "core/error.h"
#include "core/isa.h"
#include "core/parallel.h"
#include "fisher/conv.h"
#include "fisher/outer_square.h"
#include "fisher/quadratic.h"
#include "knn/lloyd.h"
#include "knn/runs.h"
#include "knn/search.h"
#include "knn/seeding.h"
#include "sampling/alias.h"
#include "sampling/hash.h"
#include "sampling/reservoir.h"
#include "sampling/subsets.h"
#include "sampling/tree.h"
#include "sampling/weighted.h"
#if defined(PYFAST_WITH_CUDA)
#include "knn/rerank_cuda.h"
#include "sampling/reservoir_cuda.h"
#include "sampling/subsets_cuda.h"
#include "sampling/tree_cuda.h"
#endif

namespace py = pybind11;
using pyfast::Array;
using pyfast::DType;

namespace {

// Borrowed: the capsule keeps its array alive for the call, and its own destructor frees it.
Array view(const py::object& capsule, const char* name) {
  auto* managed = static_cast<pyfast::dlpack::ManagedTensor*>(PyCapsule_GetPointer(capsule.ptr(), "dltensor"));
  if (!managed) throw py::error_already_set();
  return Array::from_dlpack(managed->tensor, name);
}

pyfast::knn::Rows rows(const py::object& capsule, const char* name) {
  const Array a = view(capsule, name);
  a.on_cpu().is({DType::f32, DType::f16, DType::bf16}).has_shape({-1, -1});
  pyfast::require(a.shape[1] >= 1, std::string(name) + ": expected at least one feature");
  return pyfast::knn::rows_of(a);
}

pyfast::knn::Rows rows_with_ids(const py::object& capsule, const char* name, const py::object& ids) {
  pyfast::knn::Rows r = rows(capsule, name);
  if (ids.is_none()) return r;
  const Array a = view(ids, "row numbers");
  a.on_cpu().is({DType::i64}).has_shape({-1}).contiguous();
  const int64_t* list = a.as<int64_t>();
  for (int64_t i = 0; i < a.shape[0]; ++i) {
    pyfast::require(list[i] >= 0 && list[i] < r.rows && (i == 0 || list[i] > list[i - 1]),
                    "row numbers: expected ascending numbers of existing rows");
  }
  r.ids = list;
  r.count = a.shape[0];
  return r;
}

pyfast::knn::Metric metric(int code) {
  pyfast::require(code >= 0 && code <= 2, "metric: expected 0 (l2), 1 (ip) or 2 (cosine)");
  return static_cast<pyfast::knn::Metric>(code);
}

const pyfast::knn::Kernels& kernels() { return pyfast::knn::kernels_for(pyfast::current_isa()); }

void knn(const py::object& queries, const py::object& query_ids, const py::object& database,
         const py::object& database_ids, const pyfast::knn::Bank* bank, const py::object& distances,
         const py::object& indices, int metric_code, bool exclude_self, int threads) {
  pyfast::knn::SearchArgs args;
  args.queries = rows_with_ids(queries, "queries", query_ids);
  args.metric = metric(metric_code);
  args.exclude_self = exclude_self;
  args.threads = threads;
  args.kernels = &kernels();
  if (bank) {
    args.bank = bank;
    pyfast::require(bank->space.metric == args.metric, "metric: the bank was packed for another one");
    pyfast::require(bank->space.d == args.queries.d, "queries: expected as many features as the bank has");
  } else {
    args.database = rows_with_ids(database, "database", database_ids);
    pyfast::require(args.database.d == args.queries.d, "queries and database: expected the same number of features");
  }
  const Array d = view(distances, "distances"), i = view(indices, "indices");
  d.on_cpu().is({DType::f32}).has_shape({args.queries.rows, -1}).contiguous();
  i.on_cpu().is({DType::i64}).has_shape({args.queries.rows, d.shape[1]}).contiguous();
  args.k = d.shape[1];
  pyfast::require(args.k >= 1, "k: expected at least 1");
  py::gil_scoped_release release;
  pyfast::knn::knn_cpu(args, {d.as<float>(), i.as<int64_t>()});
}

void lloyd(const py::object& x, const py::object& centers, int metric_code, const py::object& sums,
           const py::object& counts, const py::object& labels, const py::object& costs, int threads) {
  pyfast::knn::LloydArgs args;
  args.x = rows(x, "x");
  args.centers = rows(centers, "centers");
  args.metric = metric(metric_code);
  args.threads = threads;
  args.kernels = &kernels();
  const int64_t n = args.x.rows, k = args.centers.rows, d = args.x.d;
  pyfast::require(k >= 1 && args.centers.d == d, "centers: expected at least one row and as many features as x");
  args.sums = view(sums, "sums").on_cpu().is({DType::f64}).has_shape({k, d}).contiguous().as<double>();
  args.counts = view(counts, "counts").on_cpu().is({DType::i64}).has_shape({k}).contiguous().as<int64_t>();
  args.labels = view(labels, "labels").on_cpu().is({DType::i64}).has_shape({n}).contiguous().as<int64_t>();
  args.costs = view(costs, "costs").on_cpu().is({DType::f64}).has_shape({n}).contiguous().as<double>();
  py::gil_scoped_release release;
  pyfast::knn::lloyd_cpu(args);
}

std::unique_ptr<pyfast::knn::Runs> new_runs(const py::object& x, int threads) {
  const Array a = view(x, "x");
  a.on_cpu().is({DType::f32}).has_shape({-1, -1});
  const pyfast::knn::Rows r = pyfast::knn::rows_of(a);
  pyfast::require(r.rows >= 1 && r.d >= 1 && (r.column_stride == 1 || r.d == 1),
                  "x: expected at least one row and feature, and adjacent features");
  const pyfast::knn::RunKernels& run_kernels = pyfast::knn::run_kernels_for(pyfast::current_isa());
  py::gil_scoped_release release;
  return std::make_unique<pyfast::knn::Runs>(r, kernels(), run_kernels, threads);
}

int64_t runs_draw(pyfast::knn::Runs& runs, const py::object& weights, const py::object& uniforms, int64_t trials,
                  const py::object& chosen, int threads) {
  const double* w = nullptr;
  if (!weights.is_none())
    w = view(weights, "weights").on_cpu().is({DType::f64}).has_shape({runs.rows()}).contiguous().as<double>();
  const Array to = view(chosen, "chosen");
  const int64_t k = to.on_cpu().is({DType::i64}).has_shape({-1}).contiguous().shape[0];
  pyfast::require(k >= 1 && trials >= 1, "chosen: expected at least one centre and one trial");
  const Array u = view(uniforms, "uniforms");
  u.on_cpu().is({DType::f64}).has_shape({1 + (k - 1) * trials}).contiguous();
  py::gil_scoped_release release;
  return runs.draw(w, u.as<double>(), k, trials, to.as<int64_t>(), threads);
}

py::tuple runs_advance(pyfast::knn::Runs& runs, const py::object& centers, bool fresh, double tol, int64_t steps,
                       int threads) {
  const Array c = view(centers, "centers");
  c.on_cpu().is({DType::f32}).has_shape({-1, runs.features()}).contiguous();
  pyfast::require(c.shape[0] >= 1, "centers: expected at least one");
  std::vector<double> inertias;
  pyfast::knn::RunEnd end;
  {
    py::gil_scoped_release release;
    if (fresh) runs.begin(c.shape[0]);
    // Ctrl-C must not wait for the end of a long run.
    end = runs.advance(c.as<float>(), tol, steps, inertias, threads, [] {
      const py::gil_scoped_acquire hold;
      if (PyErr_CheckSignals() != 0) throw py::error_already_set();
    });
  }
  return py::make_tuple(static_cast<int>(end), inertias);
}

void runs_give(pyfast::knn::Runs& runs, const py::object& sums, const py::object& counts, const py::object& labels,
               const py::object& costs, int threads) {
  const int64_t n = runs.rows(), k = runs.clusters(), d = runs.features();
  double* s = view(sums, "sums").on_cpu().is({DType::f64}).has_shape({k, d}).contiguous().as<double>();
  int64_t* m = view(counts, "counts").on_cpu().is({DType::i64}).has_shape({k}).contiguous().as<int64_t>();
  int64_t* l = view(labels, "labels").on_cpu().is({DType::i64}).has_shape({n}).contiguous().as<int64_t>();
  double* c = view(costs, "costs").on_cpu().is({DType::f64}).has_shape({n}).contiguous().as<double>();
  py::gil_scoped_release release;
  runs.give(s, m, l, c, threads);
}

void seeding(const py::object& x, const py::object& weights, const py::object& cost, const py::object& starts,
             const py::object& draws, const py::object& uniform, const py::object& chosen, int threads) {
  pyfast::knn::SeedingArgs args;
  const Array table = view(x, "x"), u = view(uniform, "uniform"), s = view(starts, "starts");
  table.on_cpu().is({DType::f32}).has_shape({-1, -1}).contiguous();
  args.n = table.shape[0];
  args.d = table.shape[1];
  args.x = table.as<float>();
  args.weights = view(weights, "weights").on_cpu().is({DType::f64}).has_shape({args.n}).contiguous().as<double>();
  args.cost = view(cost, "cost").on_cpu().is({DType::f64}).has_shape({args.n}).contiguous().as<double>();
  args.starts = s.on_cpu().is({DType::i64}).has_shape({-1}).contiguous().as<int64_t>();
  args.parts = s.shape[0] - 1;
  args.draws = view(draws, "draws").on_cpu().is({DType::i64}).has_shape({s.shape[0]}).contiguous().as<int64_t>();
  args.uniform = u.on_cpu().is({DType::f64}).has_shape({-1, -1}).contiguous().as<double>();
  args.trials = u.shape[1];
  args.chosen = view(chosen, "chosen").on_cpu().is({DType::i64}).has_shape({u.shape[0]}).contiguous().as<int64_t>();
  args.threads = threads;
  args.kernels = &kernels();
  pyfast::require(args.parts >= 0 && args.trials >= 1, "starts and uniform: expected one entry at least");
  pyfast::require(args.starts[0] == 0 && args.starts[args.parts] == args.n, "starts: expected 0 to the number of rows");
  pyfast::require(args.draws[0] == 0 && args.draws[args.parts] == u.shape[0], "draws: expected 0 to those of uniform");
  for (int64_t p = 0; p < args.parts; ++p)
    pyfast::require(args.starts[p] <= args.starts[p + 1] && args.draws[p] <= args.draws[p + 1],
                    "starts and draws: expected ascending numbers");
  py::gil_scoped_release release;
  pyfast::knn::seeding_cpu(args);
}

const pyfast::fisher::Kernels& fisher_kernels() { return pyfast::fisher::kernels_for(pyfast::current_isa()); }

pyfast::fisher::Operand operand(const py::object& capsule, const char* name, int64_t samples, int64_t steps) {
  const Array x = view(capsule, name);
  x.on_cpu().is({DType::f32, DType::f16, DType::bf16}).has_shape({samples, steps, -1});
  return {x.data, x.dtype, x.shape[2], x.strides[0], x.strides[1], x.strides[2]};
}

void outer_square(const py::object& out, const py::object& g, const py::object& a, bool absolute, int threads) {
  pyfast::fisher::OuterSquareArgs args;
  const Array shape = view(g, "g");
  shape.has_shape({-1, -1, -1});
  args.samples = shape.shape[0];
  args.steps = shape.shape[1];
  args.g = operand(g, "g", args.samples, args.steps);
  args.a = operand(a, "a", args.samples, args.steps);
  const Array o = view(out, "out");
  o.on_cpu().is({DType::f32}).has_shape({args.g.lanes, args.a.lanes});
  args.out = o.as<float>();
  args.out_stride = o.strides[0];
  args.out_lane_stride = o.strides[1];
  args.absolute = absolute;
  args.threads = threads;
  args.kernels = &fisher_kernels();
  py::gil_scoped_release release;
  pyfast::fisher::outer_square_cpu(args);
}

pyfast::fisher::Image image(const py::object& capsule, const char* name, int64_t samples) {
  const Array x = view(capsule, name);
  x.on_cpu().is({DType::f32, DType::f16, DType::bf16});
  pyfast::require(x.ndim >= 3 && x.shape[0] == samples,
                  std::string(name) + ": expected [B, channels, *space], one to three spatial dimensions, with B = " +
                      std::to_string(samples));
  pyfast::fisher::Image out;
  out.data = x.data;
  out.dtype = x.dtype;
  out.channels = x.shape[1];
  out.sample_stride = x.strides[0];
  out.channel_stride = x.strides[1];
  for (int d = 5 - x.ndim, i = 2; i < x.ndim; ++d, ++i) out.size[d] = x.shape[i], out.stride[d] = x.strides[i];
  return out;
}

void read_sizes(const std::vector<int64_t>& values, const char* name, int space, int64_t (&to)[3]) {
  pyfast::require(static_cast<int>(values.size()) == space,
                  std::string(name) + ": expected one number per spatial dimension");
  for (int i = 0; i < space; ++i) to[3 - space + i] = values[static_cast<size_t>(i)];
}

void conv_square(const py::object& out, const py::object& g, const py::object& x, const std::vector<int64_t>& stride,
                 const std::vector<int64_t>& padding, const std::vector<int64_t>& dilation, int64_t groups,
                 bool absolute, int threads) {
  pyfast::fisher::ConvArgs args;
  const Array o = view(out, "out");
  args.samples = view(g, "g").shape[0];
  args.g = image(g, "g", args.samples);
  args.x = image(x, "x", args.samples);
  args.groups = groups;
  const int space = o.ndim - 2;
  pyfast::require(space >= 1 && view(g, "g").ndim == o.ndim && view(x, "x").ndim == o.ndim,
                  "out, g and x: expected the same number of dimensions, three to five");
  pyfast::require(groups >= 1 && args.x.channels % groups == 0, "groups: expected a divisor of the channels of x");
  o.on_cpu().is({DType::f32});
  pyfast::require(o.shape[0] == args.g.channels && o.shape[1] == args.x.channels / groups,
                  "out: expected [channels of g, channels of x / groups, *kernel]");
  read_sizes(stride, "stride", space, args.step);
  read_sizes(padding, "padding", space, args.padding);
  read_sizes(dilation, "dilation", space, args.dilation);
  args.out = o.as<float>();
  args.out_row = o.strides[0];
  args.out_channel = o.strides[1];
  for (int i = 0; i < space; ++i)
    args.kernel[3 - space + i] = o.shape[2 + i], args.out_tap[3 - space + i] = o.strides[2 + i];
  args.absolute = absolute;
  args.threads = threads;
  args.kernels = &fisher_kernels();
  py::gil_scoped_release release;
  pyfast::fisher::conv_square_cpu(args);
}

// Lists of flat buffers [P] of equal lengths; `grads` may be None.
double quadratic(const py::list& thetas, const py::list& anchors, const py::list& weights, const py::object& grads,
                 double scale, int threads) {
  std::vector<pyfast::fisher::Quadratic> buffers;
  const bool with_grads = !grads.is_none();
  pyfast::require(anchors.size() == thetas.size() && weights.size() == thetas.size() &&
                      (!with_grads || py::len(grads) == thetas.size()),
                  "quadratic: expected lists of equal length");
  for (size_t i = 0; i < thetas.size(); ++i) {
    const Array theta = view(thetas[i], "params"), anchor = view(anchors[i], "anchors"),
                w = view(weights[i], "weights");
    theta.on_cpu().is({DType::f32, DType::f16, DType::bf16}).has_shape({-1}).contiguous();
    const int64_t n = theta.shape[0];
    anchor.on_cpu().is({DType::f32}).has_shape({n}).contiguous();
    w.on_cpu().is({DType::f32}).has_shape({n}).contiguous();
    float* grad = nullptr;
    if (with_grads) {
      const Array out = view(py::reinterpret_borrow<py::list>(grads)[i], "gradients");
      grad = out.on_cpu().is({DType::f32}).has_shape({n}).contiguous().as<float>();
    }
    buffers.push_back({theta.data, theta.dtype, anchor.as<float>(), w.as<float>(), grad, static_cast<float>(scale), n});
  }
  const auto& kernels = fisher_kernels();
  py::gil_scoped_release release;
  return pyfast::fisher::quadratic_cpu(buffers, threads, kernels);
}

namespace con = pyfast::contrastive;

con::Engine engine(bool bfloat16, int threads) { return {&con::kernels_for(pyfast::current_isa(), bfloat16), threads}; }

con::Rows pair_rows(const py::object& capsule, const char* name) {
  const Array a = view(capsule, name);
  a.on_cpu().is({DType::f32, DType::f16, DType::bf16}).has_shape({-1, -1});
  pyfast::require(a.shape[1] >= 1, std::string(name) + ": expected at least one feature");
  return {a.data, a.dtype, a.shape[0], a.shape[1], a.strides[0], a.strides[1]};
}

// b is rows, or reference rows packed before.
con::Product pair_product(const py::object& a, const py::object& b, double scale, double bias) {
  con::Product p;
  p.a.rows = pair_rows(a, "a");
  if (py::isinstance<con::Bank>(b)) {
    p.b.bank = b.cast<const con::Bank*>();
  } else {
    p.b.rows = pair_rows(b, "b");
  }
  pyfast::require(p.a.d() == p.b.d(), "a and b: expected the same number of features");
  p.scale = static_cast<float>(scale);
  p.bias = static_cast<float>(bias);
  return p;
}

// Vectors of one side, all of the same length; None gives a null pointer.
template <class T>
T* side(const py::object& capsule, const char* name, DType dtype, int64_t n) {
  if (capsule.is_none()) return nullptr;
  return view(capsule, name).on_cpu().is({dtype}).has_shape({n}).contiguous().as<T>();
}

template <class T>
T* side(const py::tuple& arrays, size_t i, const char* name, DType dtype, int64_t n) {
  return i < arrays.size() ? side<T>(py::object(arrays[i]), name, dtype, n) : nullptr;
}

con::SideStats side_stats(const py::tuple& t, int64_t n) {
  return {side<float>(t, 0, "max", DType::f32, n), side<double>(t, 1, "sum", DType::f64, n),
          side<double>(t, 2, "pos", DType::f64, n)};
}

con::SidePull side_pull(const py::tuple& t, int64_t n) {
  return {side<float>(t, 0, "max", DType::f32, n), side<float>(t, 1, "coef", DType::f32, n),
          side<float>(t, 2, "pos", DType::f32, n)};
}

con::Gradients gradients(const py::object& da, const py::object& db, double* dscale, const con::Product& p) {
  const auto matrix = [](const py::object& x, const char* name, int64_t n, int64_t d) -> float* {
    return x.is_none() ? nullptr : view(x, name).on_cpu().is({DType::f32}).has_shape({n, d}).contiguous().as<float>();
  };
  pyfast::require(db.is_none() || !p.b.bank, "b: packed reference rows have no gradient");
  return {matrix(da, "da", p.a.n(), p.a.d()), matrix(db, "db", p.b.n(), p.b.d()), dscale};
}

void pair_stats(const py::object& a, const py::object& b, double scale, const py::object& row_ids,
                const py::object& col_ids, const py::tuple& rows, const py::tuple& cols, bool exclude, int64_t shift,
                bool symmetric, bool bfloat16, int threads) {
  con::StatsArgs args{
      engine(bfloat16, threads), pair_product(a, b, scale, 0), nullptr, nullptr, {exclude, shift}, symmetric, {}, {}};
  const int64_t n = args.product.a.n(), m = args.product.b.n();
  args.row_ids = side<int64_t>(row_ids, "row ids", DType::i64, n);
  args.col_ids = side<int64_t>(col_ids, "column ids", DType::i64, m);
  args.rows = side_stats(rows, n);
  args.cols = side_stats(cols, m);
  pyfast::require(!symmetric || n == m, "symmetric: expected a and b to be the same rows");
  py::gil_scoped_release release;
  con::pair_stats(args);
}

double pair_grads(const py::object& a, const py::object& b, double scale, const py::object& row_ids,
                  const py::object& col_ids, const py::tuple& rows, const py::tuple& cols, const py::object& da,
                  const py::object& db, bool exclude, int64_t shift, bool symmetric, bool bfloat16, int threads) {
  con::GradArgs args{engine(bfloat16, threads),
                     pair_product(a, b, scale, 0),
                     nullptr,
                     nullptr,
                     {exclude, shift},
                     symmetric,
                     {},
                     {},
                     {}};
  const int64_t n = args.product.a.n(), m = args.product.b.n();
  args.row_ids = side<int64_t>(row_ids, "row ids", DType::i64, n);
  args.col_ids = side<int64_t>(col_ids, "column ids", DType::i64, m);
  args.rows = side_pull(rows, n);
  args.cols = side_pull(cols, m);
  double dscale = 0;
  args.out = gradients(da, db, &dscale, args.product);
  pyfast::require(!symmetric || (n == m && args.out.da), "symmetric: expected a and b to be the same rows, and da");
  py::gil_scoped_release release;
  con::pair_grads(args);
  return dscale;
}

py::tuple contrast_directly(const py::object& a, const py::object& b, double scale, const py::object& row_ids,
                            const py::object& col_ids, bool symmetric, double row_weight, double col_weight,
                            const py::object& da, const py::object& db, bool bfloat16, int threads) {
  con::DirectArgs args{
      engine(bfloat16, threads), pair_product(a, b, scale, 0), nullptr, nullptr, symmetric, row_weight, col_weight, {}};
  args.row_ids = side<int64_t>(row_ids, "row ids", DType::i64, args.product.a.n());
  args.col_ids = side<int64_t>(col_ids, "column ids", DType::i64, args.product.b.n());
  double dscale = 0, loss = 0;
  args.out = gradients(da, db, &dscale, args.product);
  {
    py::gil_scoped_release release;
    loss = con::contrast_directly(args);
  }
  return py::make_tuple(loss, dscale);
}

py::tuple siglip(const py::object& a, const py::object& b, double scale, double bias, const py::object& row_ids,
                 const py::object& col_ids, const py::object& da, const py::object& db, bool bfloat16, int threads) {
  con::SigmoidArgs args{
      engine(bfloat16, threads), pair_product(a, b, scale, bias), nullptr, nullptr, {}, nullptr, nullptr};
  args.row_ids = side<int64_t>(row_ids, "row ids", DType::i64, args.product.a.n());
  args.col_ids = side<int64_t>(col_ids, "column ids", DType::i64, args.product.b.n());
  double loss = 0, dscale = 0, dbias = 0;
  args.out = gradients(da, db, &dscale, args.product);
  args.loss = &loss;
  args.dbias = &dbias;
  {
    py::gil_scoped_release release;
    con::siglip(args);
  }
  return py::make_tuple(loss, dscale, dbias);
}

con::KLStats kl_side(const py::tuple& t, int64_t n) {
  return {side<float>(t, 0, "student max", DType::f32, n),  side<float>(t, 1, "teacher max", DType::f32, n),
          side<double>(t, 2, "student sum", DType::f64, n), side<double>(t, 3, "teacher sum", DType::f64, n),
          side<double>(t, 4, "cross", DType::f64, n),       side<uint8_t>(t, 5, "right", DType::u8, n)};
}

void kl_stats(const py::object& sa, const py::object& sb, const py::object& ta, const py::object& tb, double s_scale,
              double t_scale, const py::tuple& rows, const py::tuple& cols, bool exclude, int64_t shift, bool bfloat16,
              int threads) {
  con::KLStatsArgs args{engine(bfloat16, threads),
                        pair_product(sa, sb, s_scale, 0),
                        pair_product(ta, tb, t_scale, 0),
                        {exclude, shift},
                        shift,
                        {},
                        {}};
  const int64_t n = args.student.a.n(), m = args.student.b.n();
  pyfast::require(args.teacher.a.n() == n && args.teacher.b.n() == m, "teacher: expected as many rows as the student");
  args.rows = kl_side(rows, n);
  args.cols = kl_side(cols, m);
  py::gil_scoped_release release;
  con::kl_stats(args);
}

con::KLPull kl_pull(const py::tuple& t, int64_t n) {
  return {side<float>(t, 0, "student max", DType::f32, n), side<float>(t, 1, "student coef", DType::f32, n),
          side<float>(t, 2, "teacher max", DType::f32, n), side<float>(t, 3, "teacher coef", DType::f32, n)};
}

double kl_grads(const py::object& sa, const py::object& sb, const py::object& ta, const py::object& tb, double s_scale,
                double t_scale, const py::tuple& rows, const py::tuple& cols, const py::object& da,
                const py::object& db, bool exclude, int64_t shift, bool bfloat16, int threads) {
  con::KLGradArgs args{engine(bfloat16, threads),
                       pair_product(sa, sb, s_scale, 0),
                       pair_product(ta, tb, t_scale, 0),
                       {exclude, shift},
                       {},
                       {},
                       {}};
  const int64_t n = args.student.a.n(), m = args.student.b.n();
  pyfast::require(args.teacher.a.n() == n && args.teacher.b.n() == m, "teacher: expected as many rows as the student");
  args.rows = kl_pull(rows, n);
  args.cols = kl_pull(cols, m);
  double dscale = 0;
  args.out = gradients(da, db, &dscale, args.student);
  py::gil_scoped_release release;
  con::kl_grads(args);
  return dscale;
}

namespace smp = pyfast::sampling;

const smp::Kernels& sampling_kernels() { return smp::kernels_for(pyfast::current_isa()); }

// A contiguous vector in CPU memory, of any length where n is -1.
template <class T>
T* vec(const py::object& capsule, const char* name, DType dtype, int64_t n = -1) {
  return view(capsule, name).on_cpu().is({dtype}).has_shape({n}).contiguous().as<T>();
}

Array int64_list(const py::object& capsule, const char* name) {
  const Array a = view(capsule, name);
  a.on_cpu().is({DType::i64}).has_shape({-1}).contiguous();
  return a;
}

void hash_keys(uint64_t seed, const py::object& index, const py::object& keys) {
  const Array i = int64_list(index, "index");
  int64_t* out = vec<int64_t>(keys, "keys", DType::i64, i.shape[0]);
  const auto& kernels = sampling_kernels();
  py::gil_scoped_release release;
  kernels.hash_keys(smp::Hash(seed).state, i.as<int64_t>(), i.shape[0], out);
}

void weighted_keys(uint64_t seed, const py::object& index, const py::object& weights, const py::object& keys) {
  const Array i = int64_list(index, "index");
  const int64_t n = i.shape[0], *ids = i.as<int64_t>();
  const double* w = vec<double>(weights, "weights", DType::f64, n);
  double* out = vec<double>(keys, "keys", DType::f64, n);
  py::gil_scoped_release release;
  smp::check_weights(w, n);
  const smp::Hash hash(seed);
  for (int64_t j = 0; j < n; ++j) out[j] = smp::weighted_key(hash, ids[j], w[j]);
}

void gumbel_top_k(const py::object& weights, uint64_t seed, bool log, const py::object& chosen, int threads) {
  const Array w = view(weights, "weights"), c = int64_list(chosen, "chosen");
  w.on_cpu().is({DType::f64}).has_shape({-1}).contiguous();
  smp::TopKArgs args;
  args.weights = w.as<double>();
  args.n = w.shape[0];
  args.seed = seed;
  args.log = log;
  args.k = c.shape[0];
  args.chosen = c.as<int64_t>();
  args.threads = threads;
  py::gil_scoped_release release;
  smp::gumbel_top_k(args);
}

smp::AliasTable alias_table(const py::object& keep, const py::object& alias) {
  const Array a = int64_list(alias, "alias");
  pyfast::require(a.shape[0] >= 1, "weights: expected at least one");
  return {vec<double>(keep, "keep", DType::f64, a.shape[0]), a.as<int64_t>(), a.shape[0]};
}

void alias_build(const py::object& weights, const py::object& keep, const py::object& alias) {
  const smp::AliasTable table = alias_table(keep, alias);
  const double* w = vec<double>(weights, "weights", DType::f64, table.n);
  py::gil_scoped_release release;
  smp::alias_build(w, table);
}

void alias_sample(const py::object& keep, const py::object& alias, uint64_t seed, uint64_t step,
                  const py::object& index, int threads) {
  const smp::AliasTable table = alias_table(keep, alias);
  const Array i = int64_list(index, "index");
  py::gil_scoped_release release;
  smp::alias_sample(table, smp::fold_seed(seed, step), i.shape[0], i.as<int64_t>(), threads);
}

smp::Features features(const py::object& capsule, const char* name) {
  const Array x = view(capsule, name);
  x.on_cpu().is({DType::f32, DType::f16, DType::bf16, DType::f64}).has_shape({-1, -1}).contiguous();
  return {x.data, x.dtype, x.shape[0], x.shape[1]};
}

// Rows of all groups one after another, and where each group begins; null pointers where Python passed None.
void read_groups(const py::object& rows, const py::object& offsets, int64_t n, smp::HerdingArgs& args) {
  int64_t count = n;
  if (!rows.is_none()) {
    const Array r = int64_list(rows, "rows");
    args.rows = r.as<int64_t>();
    count = r.shape[0];
    for (int64_t i = 0; i < count; ++i)
      pyfast::require(args.rows[i] >= 0 && args.rows[i] < n, "rows: expected numbers of existing rows");
  }
  pyfast::require(rows.is_none() || !offsets.is_none(), "offsets: expected them where rows are given");
  if (offsets.is_none()) return;
  const Array o = int64_list(offsets, "offsets");
  args.offsets = o.as<int64_t>();
  args.groups = o.shape[0] - 1;
  pyfast::require(args.groups >= 0 && args.offsets[0] == 0 && args.offsets[args.groups] == count,
                  "offsets: expected to begin with 0 and to end with the number of rows");
  for (int64_t g = 0; g < args.groups; ++g)
    pyfast::require(args.offsets[g] <= args.offsets[g + 1], "offsets: expected ascending numbers");
}

void herding(const py::object& x, const py::object& rows, const py::object& offsets, const py::object& order,
             int threads) {
  smp::HerdingArgs args;
  args.features = features(x, "features");
  read_groups(rows, offsets, args.features.n, args);
  const Array o = view(order, "order");
  o.on_cpu().is({DType::i64}).has_shape({args.groups, -1}).contiguous();
  args.m = o.shape[1];
  args.order = o.as<int64_t>();
  args.threads = threads;
  args.kernels = &sampling_kernels();
  py::gil_scoped_release release;
  smp::herding_cpu(args);
}

double k_center(const py::object& x, int64_t first, const py::object& centers, const py::object& chosen, int threads) {
  smp::KCenterArgs args;
  args.features = features(x, "features");
  if (!centers.is_none()) {
    args.centers = features(centers, "centers");
    pyfast::require(args.centers.dtype == args.features.dtype && args.centers.d == args.features.d,
                    "centers: expected the dtype and as many features as the features have");
  }
  const Array c = int64_list(chosen, "chosen");
  args.m = c.shape[0];
  args.chosen = c.as<int64_t>();
  args.first = first;
  const std::string n = std::to_string(args.features.n);
  pyfast::require(args.m <= args.features.n, "m: expected at most " + n + " rows, got " + std::to_string(args.m));
  pyfast::require(first >= -1 && first < args.features.n,
                  "first: expected a row below " + n + ", got " + std::to_string(first));
  args.threads = threads;
  args.kernels = &sampling_kernels();
  py::gil_scoped_release release;
  return smp::k_center_cpu(args);
}

// Trees and reservoirs are locked by the GIL: their calls are short, and another thread must not see half of one.
void tree_update(smp::PriorityTree& tree, const py::object& index, const py::object& priority) {
  const Array i = int64_list(index, "index"), p = view(priority, "priority");
  p.on_cpu().is({DType::f32, DType::f64}).has_shape({i.shape[0]}).contiguous();
  if (p.dtype == DType::f32)
    tree.update(i.as<int64_t>(), p.as<float>(), i.shape[0]);
  else
    tree.update(i.as<int64_t>(), p.as<double>(), i.shape[0]);
}

void tree_sample(const smp::PriorityTree& tree, uint64_t seed, uint64_t step, bool stratified, const py::object& index,
                 const py::object& probability, int threads) {
  const Array i = int64_list(index, "index");
  smp::DrawArgs args;
  args.seed = smp::fold_seed(seed, step);
  args.stratified = stratified;
  args.n = i.shape[0];
  args.index = i.as<int64_t>();
  args.probability = vec<double>(probability, "probability", DType::f64, args.n);
  tree.sample(args, threads, sampling_kernels());
}

int64_t reservoir_offer(smp::Reservoir& reservoir, const py::object& index, const py::object& groups,
                        const py::object& weights) {
  const Array i = int64_list(index, "index");
  smp::Offered batch;
  batch.n = i.shape[0];
  batch.index = i.as<int64_t>();
  batch.groups = side<int64_t>(groups, "groups", DType::i64, batch.n);
  batch.weights = side<double>(weights, "weights", DType::f64, batch.n);
  return reservoir.offer(batch, sampling_kernels());
}

// Keys are float64 where the reservoir is weighted, int64 elsewhere; one word either way.
void* reservoir_keys(const smp::Reservoir& reservoir, const py::object& keys, int64_t n) {
  const DType dtype = reservoir.weighted() ? DType::f64 : DType::i64;
  return view(keys, "keys").on_cpu().is({dtype}).has_shape({n}).contiguous().data;
}

#if defined(PYFAST_WITH_CUDA)
void knn_rerank_cuda(const py::object& queries, const py::object& database, const py::object& rows,
                     const py::object& ids, const py::object& scores, int metric_code, uintptr_t stream) {
  const Array q = view(queries, "queries"), x = view(database, "database");
  x.on_cuda().is({DType::f32, DType::f16, DType::bf16, DType::f64}).has_shape({-1, -1});
  q.on_cuda().is({x.dtype == DType::f64 ? DType::f64 : DType::f32}).has_shape({-1, x.shape[1]});
  const Array r = view(rows, "rows"), i = view(ids, "ids"), s = view(scores, "scores");
  r.on_cuda().is({DType::i64}).has_shape({-1}).contiguous();
  i.on_cuda().is({DType::i64}).has_shape({r.shape[0]}).contiguous();
  s.on_cuda().is({DType::f64}).has_shape({r.shape[0]}).contiguous();
  for (const Array* a : {&x, &r, &i, &s})
    pyfast::require(a->device_id == q.device_id, a->name + ": expected the device of queries");
  pyfast::knn::RerankArgs args;
  args.queries = q.data;
  args.database = x.data;
  args.dtype = x.dtype;
  for (int j : {0, 1}) args.query_strides[j] = q.strides[j], args.database_strides[j] = x.strides[j];
  args.rows = r.as<int64_t>();
  args.ids = i.as<int64_t>();
  args.P = r.shape[0];
  args.D = x.shape[1];
  args.metric = metric_code;
  args.device = q.device_id;
  args.scores = s.as<double>();
  py::gil_scoped_release release;
  pyfast::knn::rerank_cuda(args, reinterpret_cast<void*>(stream));
}

// A contiguous array on one CUDA device; with device -1 any, whose number is then kept.
template <class T = void>
T* on_device(const py::object& capsule, const char* name, DType dtype, std::initializer_list<int64_t> shape,
             int& device) {
  const Array a = view(capsule, name);
  a.on_cuda().is({dtype}).has_shape(shape).contiguous();
  pyfast::require(device < 0 || a.device_id == device, a.name + ": expected the device of the other arrays");
  device = a.device_id;
  return static_cast<T*>(static_cast<void*>(a.data));
}

// Tensors of one tree: leaves, sum, pre, low, claim, owner, positive, flaw; laid out as lay_out says.
smp::DeviceTree device_tree(int64_t capacity, const py::tuple& arrays) {
  smp::DeviceTree tree;
  smp::lay_out(capacity, tree);
  pyfast::require(arrays.size() == 8, "tree: expected eight arrays");
  const int64_t leaves = (capacity + 15) / 16 * 16, entries = tree.start[tree.levels];
  const auto at = [&](size_t i) { return py::object(arrays[i]); };
  tree.device = -1;
  tree.leaves = on_device<float>(at(0), "leaves", DType::f32, {leaves}, tree.device);
  tree.sum = on_device<double>(at(1), "sum", DType::f64, {entries}, tree.device);
  tree.pre = on_device<double>(at(2), "pre", DType::f64, {entries}, tree.device);
  tree.low = on_device<float>(at(3), "low", DType::f32, {entries}, tree.device);
  tree.claim = on_device<int32_t>(at(4), "claim", DType::i32, {entries}, tree.device);
  tree.owner = on_device<int32_t>(at(5), "owner", DType::i32, {leaves}, tree.device);
  tree.positive = on_device<int64_t>(at(6), "positive", DType::i64, {1}, tree.device);
  tree.flaw = on_device<int32_t>(at(7), "flaw", DType::i32, {1}, tree.device);
  return tree;
}

int64_t tree_entries(int64_t capacity) {
  smp::DeviceTree tree;
  smp::lay_out(capacity, tree);
  return tree.start[tree.levels];
}

void tree_update_cuda(int64_t capacity, const py::tuple& arrays, const py::object& index, const py::object& priority,
                      int32_t number, uintptr_t stream) {
  smp::DeviceTree tree = device_tree(capacity, arrays);
  const int64_t n = view(index, "index").shape[0];
  const auto* i = on_device<int64_t>(index, "index", DType::i64, {n}, tree.device);
  const auto* p = on_device<float>(priority, "priority", DType::f32, {n}, tree.device);
  py::gil_scoped_release release;
  smp::tree_update_cuda(tree, i, p, n, number, reinterpret_cast<void*>(stream));
}

void tree_rebuild_cuda(int64_t capacity, const py::tuple& arrays, uintptr_t stream) {
  const smp::DeviceTree tree = device_tree(capacity, arrays);
  py::gil_scoped_release release;
  smp::tree_rebuild_cuda(tree, reinterpret_cast<void*>(stream));
}

void tree_sample_cuda(int64_t capacity, const py::tuple& arrays, uint64_t seed, uint64_t step, bool stratified,
                      const py::object& index, const py::object& probability, uintptr_t stream) {
  smp::DeviceTree tree = device_tree(capacity, arrays);
  const int64_t n = view(index, "index").shape[0];
  auto* i = on_device<int64_t>(index, "index", DType::i64, {n}, tree.device);
  auto* p = on_device<double>(probability, "probability", DType::f64, {n}, tree.device);
  py::gil_scoped_release release;
  smp::tree_sample_cuda(tree, smp::fold_seed(seed, step), stratified, n, i, p, reinterpret_cast<void*>(stream));
}

// float32, float16, bfloat16 or float64 features on a CUDA device.
Array device_features(const py::object& capsule, const char* name) {
  const Array x = view(capsule, name);
  x.on_cuda().is({DType::f32, DType::f16, DType::bf16, DType::f64}).has_shape({-1, -1}).contiguous();
  return x;
}

void herding_cuda(const py::object& x, const py::object& rows, const py::object& offsets, const py::object& group_of,
                  const py::tuple& workspace, const py::object& order, uintptr_t stream) {
  const Array f = device_features(x, "features");
  smp::HerdingCudaArgs args;
  args.features = f.data;
  args.dtype = f.dtype;
  args.D = f.shape[1];
  args.device = f.device_id;
  args.R = view(rows, "rows").shape[0];
  args.G = view(order, "order").shape[0];
  args.m = view(order, "order").shape[1];
  args.rows = on_device<int64_t>(rows, "rows", DType::i64, {args.R}, args.device);
  args.offsets = on_device<int64_t>(offsets, "offsets", DType::i64, {args.G + 1}, args.device);
  args.group_of = on_device<int64_t>(group_of, "group_of", DType::i64, {args.R}, args.device);
  pyfast::require(workspace.size() == 4, "workspace: expected four arrays");
  const auto at = [&](size_t i) { return py::object(workspace[i]); };
  args.sum = on_device<double>(at(0), "sum", DType::f64, {args.G, args.D}, args.device);
  double* lists = on_device<double>(at(1), "lists", DType::f64, {4, args.R}, args.device);
  args.square = lists;
  args.dot = lists + args.R;
  args.product = lists + 2 * args.R;
  args.score = lists + 3 * args.R;
  args.slack = on_device<double>(at(2), "slack", DType::f64, {args.G}, args.device);
  args.picked = on_device<int64_t>(at(3), "picked", DType::i64, {args.G}, args.device);
  args.order = on_device<int64_t>(order, "order", DType::i64, {args.G, args.m}, args.device);
  py::gil_scoped_release release;
  smp::herding_cuda(args, reinterpret_cast<void*>(stream));
}

void k_center_cuda(const py::object& x, const py::object& centers, const py::object& gap, const py::object& widest,
                   const py::object& chosen, const py::object& radius, uintptr_t stream) {
  const Array f = device_features(x, "features"), c = device_features(centers, "centers");
  pyfast::require(c.dtype == f.dtype && c.shape[1] == f.shape[1] && c.device_id == f.device_id,
                  "centers: expected dtype, device and number of features of the features");
  smp::KCenterCudaArgs args;
  args.features = f.data;
  args.centers = c.data;
  args.dtype = f.dtype;
  args.N = f.shape[0];
  args.C = c.shape[0];
  args.D = f.shape[1];
  args.m = view(chosen, "chosen").shape[0];
  pyfast::require(args.m <= args.N, "m: expected at most as many as there are rows");
  args.device = f.device_id;
  args.gap = on_device<double>(gap, "gap", DType::f64, {args.N}, args.device);
  args.widest = on_device<double>(widest, "widest", DType::f64, {(args.N + 31) / 32}, args.device);
  args.chosen = on_device<int64_t>(chosen, "chosen", DType::i64, {args.m}, args.device);
  args.radius = on_device<double>(radius, "radius", DType::f64, {1}, args.device);
  py::gil_scoped_release release;
  smp::k_center_cuda(args, reinterpret_cast<void*>(stream));
}

void reservoir_accept_cuda(uint64_t seed, const py::object& index, const py::object& threshold,
                           const py::object& starts, const py::object& keys, const py::object& rows,
                           const py::object& count, uintptr_t stream) {
  smp::AcceptArgs args;
  args.seed = seed;
  args.n = view(index, "index").shape[0];
  args.device = -1;
  args.index = on_device<int64_t>(index, "index", DType::i64, {args.n}, args.device);
  args.threshold = on_device<int64_t>(threshold, "threshold", DType::i64, {1}, args.device);
  const int64_t blocks = (args.n + smp::accept_block - 1) / smp::accept_block;
  args.starts = on_device<int64_t>(starts, "starts", DType::i64, {blocks}, args.device);
  args.keys = on_device<int64_t>(keys, "keys", DType::i64, {args.n}, args.device);
  args.rows = on_device<int64_t>(rows, "rows", DType::i64, {args.n}, args.device);
  args.count = on_device<int64_t>(count, "count", DType::i64, {1}, args.device);
  py::gil_scoped_release release;
  smp::reservoir_accept_cuda(args, reinterpret_cast<void*>(stream));
}
#endif

std::vector<std::string> isas() {
  std::vector<std::string> names;
  for (int i = 0; i <= static_cast<int>(pyfast::hardware_isa()); ++i)
    names.push_back(pyfast::isa_name(static_cast<pyfast::Isa>(i)));
  return names;
}

}  // namespace

PYBIND11_MODULE(_C, m) {
  m.doc() = "Native kernels of pyfast_mmcl. Use the Python functions in pyfast_mmcl.ops.";
  m.attr("interface") = 4;  // pyfast_mmcl/_native.py names the one it speaks
#if defined(PYFAST_VERSION)
  m.attr("version") = PYFAST_VERSION;
#else
  m.attr("version") = "unknown";
#endif
#if defined(PYFAST_WITH_CUDA)
  m.attr("with_cuda") = true;
#else
  m.attr("with_cuda") = false;
#endif
  py::register_exception_translator([](std::exception_ptr p) {
    try {
      if (p) std::rethrow_exception(p);
    } catch (const pyfast::Error& e) {
      py::object type = py::module_::import("pyfast_mmcl._errors").attr("InputError");
      PyErr_SetString(type.ptr(), e.what());
    }
  });
  m.def("isa", [] { return std::string(pyfast::isa_name(pyfast::current_isa())); });
  m.def("isas", [] {
    py::list names;
    for (const auto& name : isas()) names.append(name);
    return names;
  });

  using pyfast::knn::Bank;
  py::class_<Bank>(m, "Bank")
      .def(py::init([](int metric_code, int64_t d) {
        pyfast::require(d >= 1, "features: expected at least one");
        return std::make_unique<Bank>(metric(metric_code), d, kernels());
      }))
      .def("append",
           [](Bank& bank, const py::object& x, int threads) {
             const pyfast::knn::Rows r = rows(x, "rows");
             py::gil_scoped_release release;
             bank.append(r, threads);
           })
      .def("__len__", [](const Bank& bank) { return bank.source.count; })
      .def_property_readonly("isa", [](const Bank& bank) { return std::string(bank.kernels.name); })
      .def_property_readonly("nbytes", &Bank::bytes);
  m.def("knn", &knn);
  m.def("lloyd", &lloyd);
  m.def("seeding", &seeding);
  py::class_<pyfast::knn::Runs>(m, "Runs")
      .def(py::init(&new_runs))
      .def("draw", &runs_draw)
      .def("advance", &runs_advance)
      .def("give", &runs_give)
      .def_property_readonly("power", &pyfast::knn::Runs::power)
      .def_property_readonly("scatter", &pyfast::knn::Runs::scatter);
  py::class_<con::Bank>(m, "ReferenceRows")
      .def(py::init([](const py::object& x, bool bfloat16, int threads) {
        const con::Rows r = pair_rows(x, "rows");
        const con::Engine e = engine(bfloat16, threads);
        py::gil_scoped_release release;
        return std::make_unique<con::Bank>(r, e);
      }))
      .def("__len__", [](const con::Bank& bank) { return bank.n; })
      .def_property_readonly("isa", [](const con::Bank& bank) { return std::string(bank.kernels->name); })
      .def_property_readonly("nbytes", &con::Bank::bytes);
  m.def("pair_stats", &pair_stats);
  m.def("pair_grads", &pair_grads);
  m.def("contrast_directly", &contrast_directly);
  m.def("siglip", &siglip);
  m.def("kl_stats", &kl_stats);
  m.def("kl_grads", &kl_grads);
  m.def("outer_square", &outer_square);
  m.def("conv_square", &conv_square);
  m.def("quadratic", &quadratic);
  m.def("hash_keys", &hash_keys);
  py::class_<smp::PriorityTree>(m, "PriorityTree")
      .def(py::init<int64_t>())
      .def("update", &tree_update)
      .def("sample", &tree_sample)
      .def("load", [](smp::PriorityTree& tree,
                      const py::object& x) { tree.load(vec<float>(x, "leaves", DType::f32, tree.capacity())); })
      .def("leaves",
           [](const smp::PriorityTree& tree, const py::object& out) {
             float* to = vec<float>(out, "leaves", DType::f32, tree.capacity());
             std::copy(tree.leaves(), tree.leaves() + tree.capacity(), to);
           })
      .def("priority",
           [](const smp::PriorityTree& tree, const py::object& index, const py::object& out) {
             const Array i = int64_list(index, "index");
             tree.read(i.as<int64_t>(), i.shape[0], vec<float>(out, "priority", DType::f32, i.shape[0]));
           })
      .def_property_readonly("total", &smp::PriorityTree::total)
      .def_property_readonly("minimum", &smp::PriorityTree::minimum)
      .def_property_readonly("positive", &smp::PriorityTree::positive);
  m.def("weighted_keys", &weighted_keys);
  m.def("gumbel_top_k", &gumbel_top_k);
  m.def("alias_build", &alias_build);
  m.def("alias_sample", &alias_sample);
  m.def("herding", &herding);
  m.def("k_center", &k_center);
  py::class_<smp::Reservoir>(m, "Reservoir")
      .def(py::init<int64_t, uint64_t, bool>())
      .def("offer", &reservoir_offer)
      .def("entered",
           [](const smp::Reservoir& reservoir, const py::object& rows, const py::object& slots) {
             const int64_t n = reservoir.entered_count();
             reservoir.entered(vec<int64_t>(rows, "rows", DType::i64, n), vec<int64_t>(slots, "slots", DType::i64, n));
           })
      .def("__len__", &smp::Reservoir::size)
      .def("order",
           [](const smp::Reservoir& reservoir, const py::object& slots) {
             reservoir.order(vec<int64_t>(slots, "slots", DType::i64, reservoir.size()));
           })
      .def("state",
           [](const smp::Reservoir& reservoir, const py::object& index, const py::object& keys,
              const py::object& groups) {
             const int64_t n = reservoir.size();
             reservoir.state(vec<int64_t>(index, "index", DType::i64, n), reservoir_keys(reservoir, keys, n),
                             vec<int64_t>(groups, "groups", DType::i64, n));
           })
      .def("load",
           [](smp::Reservoir& reservoir, const py::object& index, const py::object& keys, const py::object& groups) {
             const Array i = int64_list(index, "index");
             reservoir.load(i.as<int64_t>(), reservoir_keys(reservoir, keys, i.shape[0]),
                            vec<int64_t>(groups, "groups", DType::i64, i.shape[0]), i.shape[0]);
           });
#if defined(PYFAST_WITH_CUDA)
  m.def("knn_rerank_cuda", &knn_rerank_cuda);
  m.def("tree_entries", &tree_entries);
  m.def("tree_update_cuda", &tree_update_cuda);
  m.def("tree_rebuild_cuda", &tree_rebuild_cuda);
  m.def("tree_sample_cuda", &tree_sample_cuda);
  m.def("herding_cuda", &herding_cuda);
  m.def("k_center_cuda", &k_center_cuda);
  m.def("reservoir_accept_cuda", &reservoir_accept_cuda);
#endif
}
