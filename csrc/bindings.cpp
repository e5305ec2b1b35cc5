// The only file that knows Python. Arrays arrive as DLPack capsules and are checked before the GIL is released.
#include <pybind11/pybind11.h>

#include <memory>
#include <string>
#include <vector>

#include "core/array.h"
#include "core/error.h"
#include "core/isa.h"
#include "core/parallel.h"
#include "knn/lloyd.h"
#include "knn/search.h"
#if defined(PYFAST_WITH_CUDA)
#include "knn/rerank_cuda.h"
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
  m.attr("interface") = 1;  // pyfast_mmcl/_native.py names the one it speaks
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
#if defined(PYFAST_WITH_CUDA)
  m.def("knn_rerank_cuda", &knn_rerank_cuda);
#endif
}
