// csrc/core: array checks, the parallel loop, Philox, the cap on the instruction set.
#include <atomic>
#include <cstdlib>
#include <mutex>
#include <set>
#include <thread>

#include "check.h"
#include "core/array.h"
#include "core/error.h"
#include "core/isa.h"
#include "core/parallel.h"
#include "core/philox.h"

using pyfast::Array;
using pyfast::DType;
using pyfast::Error;

namespace {

struct Matrix {
  float values[12] = {};
  int64_t shape[2] = {3, 4};
  int64_t strides[2] = {4, 1};
  pyfast::dlpack::Tensor tensor() { return {values, {1, 0}, 2, {2, 32, 1}, shape, strides, 0}; }
};

std::string refusal(const std::function<void()>& body) { return check::message<Error>(body); }

}  // namespace

TEST(an_array_keeps_shape_strides_and_offset) {
  Matrix m;
  pyfast::dlpack::Tensor t = m.tensor();
  t.byte_offset = 16;
  t.shape[0] = 2;
  const Array a = Array::from_dlpack(t, "x");
  CHECK(a.as<float>() == m.values + 4);
  CHECK(a.dtype == DType::f32 && a.ndim == 2 && a.shape[0] == 2 && a.shape[1] == 4);
  a.on_cpu().is({DType::f16, DType::f32}).has_shape({-1, 4}).contiguous();
}

TEST(missing_strides_mean_contiguous) {
  Matrix m;
  pyfast::dlpack::Tensor t = m.tensor();
  t.strides = nullptr;
  const Array a = Array::from_dlpack(t, "x");
  CHECK(a.strides[0] == 4 && a.strides[1] == 1);
  a.contiguous();
}

TEST(every_refusal_names_the_argument_and_both_sides) {
  Matrix m;
  const Array a = Array::from_dlpack(m.tensor(), "queries");
  for (const std::string& text : {refusal([&] { a.is({DType::i64}); }), refusal([&] { a.has_shape({3, 5}); }),
                                  refusal([&] { a.has_shape({3}); }), refusal([&] { a.on_cuda(); })}) {
    CHECK(check::contains(text, "queries") && check::contains(text, "expected") && check::contains(text, "got"));
  }
  CHECK(check::contains(refusal([&] { a.is({DType::i64}); }), "int64"));
  CHECK(check::contains(refusal([&] { a.has_shape({-1, 5}); }), "[any, 5], got [3, 4]"));
}

TEST(a_transposed_view_is_not_contiguous) {
  Matrix m;
  std::swap(m.shape[0], m.shape[1]);
  std::swap(m.strides[0], m.strides[1]);
  const Array a = Array::from_dlpack(m.tensor(), "x");
  CHECK(check::contains(refusal([&] { a.contiguous(); }), "contiguous"));
  m.shape[0] = m.shape[1] = 1;
  Array::from_dlpack(m.tensor(), "x").contiguous();
}

TEST(memory_on_a_gpu_is_refused_on_the_cpu) {
  Matrix m;
  pyfast::dlpack::Tensor t = m.tensor();
  t.device = {2, 0};
  CHECK(!refusal([&] { Array::from_dlpack(t, "x").on_cpu(); }).empty());
  Array::from_dlpack(t, "x").on_cuda();
}

TEST(too_many_dimensions_and_unknown_dtypes_are_refused) {
  Matrix m;
  int64_t shape[6] = {1, 1, 1, 1, 1, 1};
  pyfast::dlpack::Tensor t = {m.values, {1, 0}, 6, {2, 32, 1}, shape, nullptr, 0};
  CHECK(check::contains(refusal([&] { Array::from_dlpack(t, "x"); }), "5 dimensions"));
  t.ndim = 2;
  t.dtype = {2, 32, 4};  // a vector of four floats
  CHECK(!refusal([&] { Array::from_dlpack(t, "x").is({DType::f32}); }).empty());
}

TEST(dtypes_have_names_and_sizes) {
  CHECK(pyfast::dtype_size(DType::f64) == 8 && pyfast::dtype_size(DType::bf16) == 2);
  CHECK(std::string(pyfast::dtype_name(DType::bf16)) == "bfloat16");
}

TEST(a_parallel_loop_runs_every_item_once) {
  for (int threads : {1, 2, 3, 8}) {
    for (int64_t n : {0, 1, 2, 7, 1000}) {
      std::vector<std::atomic<int>> seen(n);
      std::atomic<bool> in_range{true};
      pyfast::parallel_for(n, threads, [&](int64_t i, int worker) {
        seen[i].fetch_add(1);
        if (worker < 0 || worker >= threads) in_range = false;
      });
      for (const auto& count : seen) CHECK(count == 1);
      CHECK(in_range);
    }
  }
}

TEST(a_parallel_loop_gives_a_worker_number_to_one_thread_at_a_time) {
  std::atomic<bool> busy[4] = {};
  std::atomic<bool> shared{false};
  pyfast::parallel_for(2000, 4, [&](int64_t, int worker) {
    if (busy[worker].exchange(true)) shared = true;
    busy[worker] = false;
  });
  CHECK(!shared);
}

TEST(a_parallel_loop_passes_on_an_exception) {
  for (int threads : {1, 4}) {
    const std::string text = refusal(
        [&] { pyfast::parallel_for(100, threads, [](int64_t i, int) { pyfast::require(i != 37, "item 37"); }); });
    CHECK(text == "item 37");
  }
  std::atomic<int> count{0};
  pyfast::parallel_for(100, 4, [&](int64_t, int) { ++count; });
  CHECK(count == 100);
}

TEST(parallel_loops_nest_and_run_side_by_side) {
  std::atomic<int> count{0};
  pyfast::parallel_for(8, 4, [&](int64_t, int) { pyfast::parallel_for(8, 4, [&](int64_t, int) { ++count; }); });
  CHECK(count == 64);
  std::vector<std::thread> callers;
  for (int c = 0; c < 4; ++c) {
    callers.emplace_back([&] {
      for (int repeat = 0; repeat < 50; ++repeat) pyfast::parallel_for(16, 3, [&](int64_t, int) { ++count; });
    });
  }
  for (std::thread& caller : callers) caller.join();
  CHECK(count == 64 + 4 * 50 * 16);
}

TEST(philox_gives_the_known_answers) {
  struct Known {
    pyfast::PhiloxBlock counter;
    uint32_t key[2];
    pyfast::PhiloxBlock answer;
  };
  const Known known[] = {
      {{{0, 0, 0, 0}}, {0, 0}, {{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}}},
      {{{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}},
       {0xffffffff, 0xffffffff},
       {{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}}},
      {{{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}},
       {0xa4093822, 0x299f31d0},
       {{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}}},
  };
  for (const Known& k : known) {
    const pyfast::PhiloxBlock out = pyfast::philox4x32_10(k.counter, k.key[0], k.key[1]);
    for (int i = 0; i < 4; ++i) CHECK(out.word[i] == k.answer.word[i]);
  }
  pyfast::Philox stream(0x299f31d0a4093822ull, 0x0370734413198a2eull);
  CHECK(stream.block(0x85a308d3243f6a88ull).word[3] == 0x24126ea1);
}

TEST(philox_skips_to_where_it_would_have_come) {
  std::vector<uint32_t> words;
  pyfast::Philox walk(42, 7);
  for (int i = 0; i < 40; ++i) words.push_back(walk.next());
  for (int start = 0; start < 9; ++start) {
    for (int skip = 0; skip < 20; ++skip) {
      pyfast::Philox jump(42, 7);
      for (int i = 0; i < start; ++i) jump.next();
      jump.skip(skip);
      CHECK(jump.next() == words[start + skip]);
      CHECK(jump.next() == words[start + skip + 1]);
    }
  }
  pyfast::Philox pairs(42, 7);
  CHECK(pairs.next64() == (uint64_t{words[1]} << 32 | words[0]));
  CHECK(pyfast::Philox(42, 8).next() != words[0] && pyfast::Philox(43, 7).next() != words[0]);
}

TEST(uniform_numbers_stay_inside_and_use_every_bit) {
  CHECK(pyfast::uniform_float(0) == 0.0f && pyfast::uniform_float(~0u) == 1.0f - 0x1p-24f);
  CHECK(pyfast::uniform_double(0) == 0.0 && pyfast::uniform_double(~0ull) == 1.0 - 0x1p-53);
  CHECK(pyfast::uniform_open(0) == 0x1p-53 && pyfast::uniform_open(~0ull) == 1.0 - 0x1p-53);
  pyfast::Philox random(1);
  double sum = 0, square = 0;
  const int n = 100000;
  for (int i = 0; i < n; ++i) {
    const double u = pyfast::uniform_double(random.next64());
    sum += u;
    square += u * u;
  }
  CHECK(std::abs(sum / n - 0.5) < 0.004);
  CHECK(std::abs(square / n - 1.0 / 3) < 0.004);
}

TEST(the_instruction_set_can_be_capped_but_not_raised) {
  unsetenv("PYFAST_ISA");
  CHECK(pyfast::current_isa() == pyfast::hardware_isa());
  for (int i = 0; i < pyfast::isa_count; ++i) {
    const pyfast::Isa wanted = static_cast<pyfast::Isa>(i);
    setenv("PYFAST_ISA", pyfast::isa_name(wanted), 1);
    CHECK(pyfast::current_isa() <= wanted && pyfast::current_isa() <= pyfast::hardware_isa());
    CHECK(pyfast::current_isa() == wanted || pyfast::current_isa() == pyfast::hardware_isa());
  }
  setenv("PYFAST_ISA", "sse9", 1);
  const std::string text = refusal([] { pyfast::current_isa(); });
  CHECK(check::contains(text, "sse9") && check::contains(text, "avx512_bf16"));
  unsetenv("PYFAST_ISA");
}

int main() { return check::run(); }
