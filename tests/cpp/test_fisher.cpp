// The Fisher kernels against the formulas in float64: every instruction set, layout and kind of unit, with arrays
// exactly as long as they are, so that the sanitizers see any access past an end.
#include <cmath>
#include <cstring>
#include <vector>

#include "check.h"
#include "core/error.h"
#include "core/isa.h"
#include "core/philox.h"
#include "fisher/conv.h"
#include "fisher/outer_square.h"
#include "fisher/quadratic.h"

namespace {

using pyfast::DType;
using pyfast::Isa;
using namespace pyfast::fisher;

std::vector<const Kernels*> all_kernels() {
  std::vector<const Kernels*> all;
  for (int i = 0; i <= static_cast<int>(pyfast::hardware_isa()); ++i) all.push_back(&kernels_for(static_cast<Isa>(i)));
  return all;
}

std::vector<float> draw(int64_t n, uint64_t seed) {
  pyfast::Philox random(seed);
  std::vector<float> x(static_cast<size_t>(n));
  for (float& value : x) value = pyfast::uniform_float(random.next()) - 0.5f;
  return x;
}

// bfloat16 by cutting: what matters is that both sides read the same numbers.
std::vector<uint16_t> cut(std::vector<float>& x) {
  std::vector<uint16_t> words;
  for (float& value : x) {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    words.push_back(static_cast<uint16_t>(bits >> 16));
    bits &= 0xffff0000u;
    std::memcpy(&value, &bits, 4);
  }
  return words;
}

struct Shape {
  int64_t B, S, O, I;
};

// Strides of [B, S, lanes]: lanes side by side, or steps side by side.
Operand operand(const void* data, DType dtype, const Shape& s, int64_t lanes, bool lanes_inner) {
  Operand x;
  x.data = static_cast<const char*>(data);
  x.dtype = dtype;
  x.lanes = lanes;
  x.sample_stride = s.S * lanes;
  x.step_stride = lanes_inner ? lanes : 1;
  x.lane_stride = lanes_inner ? 1 : s.S;
  return x;
}

std::vector<double> truth(const Shape& s, const std::vector<float>& g, const std::vector<float>& a, bool inner,
                          bool absolute) {
  std::vector<double> out(static_cast<size_t>(s.O * s.I));
  const auto at = [&](const std::vector<float>& x, int64_t b, int64_t t, int64_t l, int64_t lanes) {
    return static_cast<double>(x[static_cast<size_t>(b * s.S * lanes + (inner ? t * lanes + l : l * s.S + t))]);
  };
  for (int64_t b = 0; b < s.B; ++b)
    for (int64_t o = 0; o < s.O; ++o)
      for (int64_t i = 0; i < s.I; ++i) {
        double sum = 0;
        for (int64_t t = 0; t < s.S; ++t) sum += at(g, b, t, o, s.O) * at(a, b, t, i, s.I);
        out[static_cast<size_t>(o * s.I + i)] += absolute ? std::fabs(sum) : sum * sum;
      }
  return out;
}

double worst(const std::vector<float>& ours, const std::vector<double>& truth) {
  double largest = 1e-30, error = 0;
  for (size_t i = 0; i < truth.size(); ++i) {
    largest = std::fmax(largest, truth[i]);
    error = std::fmax(error, std::fabs(ours[i] - truth[i]));
  }
  return error / largest;
}

const Shape shapes[] = {{1, 1, 1, 1},   {300, 1, 13, 33}, {9, 2, 12, 31},  {30, 7, 25, 65},
                        {3, 17, 6, 15}, {2, 300, 24, 33}, {2, 64, 97, 16}, {0, 3, 4, 5}};

void expect_outer(const Shape& s, bool inner, bool absolute, bool bf16, int threads, const Kernels& kernels) {
  std::vector<float> g = draw(s.B * s.S * s.O, 1), a = draw(s.B * s.S * s.I, 2);
  std::vector<uint16_t> g_words, a_words;
  if (bf16) g_words = cut(g), a_words = cut(a);
  std::vector<float> out(static_cast<size_t>(s.O * s.I));
  OuterSquareArgs args;
  const DType dtype = bf16 ? DType::bf16 : DType::f32;
  args.g = operand(bf16 ? static_cast<const void*>(g_words.data()) : g.data(), dtype, s, s.O, inner);
  args.a = operand(bf16 ? static_cast<const void*>(a_words.data()) : a.data(), dtype, s, s.I, inner);
  args.samples = s.B;
  args.steps = s.S;
  args.absolute = absolute;
  args.threads = threads;
  args.kernels = &kernels;
  args.out = out.data();
  args.out_stride = s.I;
  outer_square_cpu(args);
  CHECK(worst(out, truth(s, g, a, inner, absolute)) < 3e-6);
}

struct Conv {
  int64_t B, C, O, G;
  int64_t size[3], kernel[3], step[3], padding[3], dilation[3];
};

const Conv convs[] = {
    {3, 3, 8, 1, {1, 9, 10}, {1, 3, 3}, {1, 1, 1}, {0, 1, 1}, {1, 1, 1}},
    {2, 40, 13, 1, {1, 8, 9}, {1, 3, 2}, {1, 2, 1}, {0, 1, 0}, {1, 1, 2}},
    {2, 33, 5, 1, {1, 1, 40}, {1, 1, 1}, {1, 1, 3}, {0, 0, 0}, {1, 1, 1}},
    {1, 12, 8, 4, {4, 5, 6}, {3, 2, 3}, {1, 2, 1}, {1, 0, 2}, {1, 1, 2}},
    {2, 3, 40, 1, {1, 50, 60}, {1, 5, 5}, {1, 1, 1}, {0, 2, 2}, {1, 1, 1}},  // several packed parts of a sample
};

Image image(const std::vector<float>& x, int64_t channels, const int64_t* size) {
  Image out;
  out.data = reinterpret_cast<const char*>(x.data());
  out.channels = channels;
  for (int d = 0; d < 3; ++d) out.size[d] = size[d];
  out.stride[2] = 1;
  out.stride[1] = size[2];
  out.stride[0] = size[1] * size[2];
  out.channel_stride = size[0] * out.stride[0];
  out.sample_stride = channels * out.channel_stride;
  return out;
}

// The sum of one sample for one weight, by definition.
double weight_sum(const Conv& c, const ConvArgs& args, const float* g, const float* x, const int64_t* tap) {
  const int64_t* out = args.g.size;
  double sum = 0;
  for (int64_t i = 0; i < out[0]; ++i)
    for (int64_t j = 0; j < out[1]; ++j)
      for (int64_t k = 0; k < out[2]; ++k) {
        const int64_t at[3] = {i, j, k};
        int64_t place = 0;
        bool inside = true;
        for (int d = 0; d < 3; ++d) {
          const int64_t p = at[d] * c.step[d] + tap[d] * c.dilation[d] - c.padding[d];
          inside = inside && p >= 0 && p < c.size[d];
          place += p * args.x.stride[d];
        }
        if (inside) sum += static_cast<double>(g[(i * out[1] + j) * out[2] + k]) * x[place];
      }
  return sum;
}

void expect_conv(const Conv& c, int threads, const Kernels& kernels) {
  ConvArgs args;
  int64_t positions[3], taps = 1;
  for (int d = 0; d < 3; ++d) {
    positions[d] = (c.size[d] + 2 * c.padding[d] - c.dilation[d] * (c.kernel[d] - 1) - 1) / c.step[d] + 1;
    args.kernel[d] = c.kernel[d], args.step[d] = c.step[d];
    args.padding[d] = c.padding[d], args.dilation[d] = c.dilation[d];
    taps *= c.kernel[d];
  }
  const int64_t group_in = c.C / c.G, group_out = c.O / c.G;
  const auto g = draw(c.B * c.O * positions[0] * positions[1] * positions[2], 3);
  const auto x = draw(c.B * c.C * c.size[0] * c.size[1] * c.size[2], 4);
  args.g = image(g, c.O, positions);
  args.x = image(x, c.C, c.size);
  args.samples = c.B;
  args.groups = c.G;
  args.threads = threads;
  args.kernels = &kernels;
  std::vector<float> out(static_cast<size_t>(c.O * group_in * taps));
  args.out = out.data();
  args.out_tap[2] = 1;
  args.out_tap[1] = c.kernel[2];
  args.out_tap[0] = c.kernel[1] * c.kernel[2];
  args.out_channel = taps;
  args.out_row = group_in * taps;
  conv_square_cpu(args);
  std::vector<double> expected;
  for (int64_t o = 0; o < c.O; ++o)
    for (int64_t i = 0; i < group_in; ++i)
      for (int64_t t = 0; t < taps; ++t) {
        const int64_t tap[3] = {t / (c.kernel[1] * c.kernel[2]), t / c.kernel[2] % c.kernel[1], t % c.kernel[2]};
        double total = 0;
        for (int64_t b = 0; b < c.B; ++b) {
          const int64_t channel = o / group_out * group_in + i;
          const double sum = weight_sum(c, args, g.data() + b * args.g.sample_stride + o * args.g.channel_stride,
                                        x.data() + b * args.x.sample_stride + channel * args.x.channel_stride, tap);
          total += sum * sum;
        }
        expected.push_back(total);
      }
  CHECK(worst(out, expected) < 3e-6);
}

}  // namespace

TEST(squares_and_absolute_sums_follow_their_definition) {
  for (const Kernels* kernels : all_kernels())
    for (const Shape& shape : shapes)
      for (bool inner : {true, false})
        for (bool absolute : {true, false})
          for (bool bf16 : {true, false}) expect_outer(shape, inner, absolute, bf16, 2, *kernels);
}

TEST(convolutions_follow_their_definition) {
  for (const Kernels* kernels : all_kernels())
    for (const Conv& conv : convs)
      for (int threads : {1, 3}) expect_conv(conv, threads, *kernels);
}

TEST(sizes_of_another_convolution_are_refused) {
  ConvArgs args;
  args.g.channels = args.x.channels = 4;
  args.x.size[2] = args.g.size[2] = 8;
  args.kernel[2] = 3;
  CHECK(check::contains(check::message<pyfast::Error>([&] { conv_square_cpu(args); }), "expected 6"));
  args.groups = 3;
  CHECK(check::contains(check::message<pyfast::Error>([&] { conv_square_cpu(args); }), "groups"));
}

TEST(the_quadratic_has_the_same_bits_everywhere) {
  std::vector<double> values;
  for (const Kernels* kernels : all_kernels()) {
    for (int threads : {1, 4}) {
      const auto theta = draw(100003, 5), anchor = draw(100003, 6), weight = draw(100003, 7);
      std::vector<float> grad(theta.size());
      Quadratic q = {
          reinterpret_cast<const char*>(theta.data()), DType::f32, anchor.data(), weight.data(), grad.data(), 2.0f,
          static_cast<int64_t>(theta.size())};
      Quadratic value_only = q;  // two buffers: only one thread may write a gradient
      value_only.grad = nullptr;
      values.push_back(quadratic_cpu({q, value_only}, threads, *kernels));
      double expected = 0;
      for (size_t i = 0; i < theta.size(); ++i) {
        const double gap = static_cast<double>(theta[i]) - anchor[i];
        expected += 2.0 * weight[i] * gap * gap;
        CHECK(std::fabs(grad[i] - 2.0 * weight[i] * gap) < 1e-6);
      }
      CHECK(std::fabs(values.back() - expected) < 1e-6 * std::fabs(expected));
      CHECK(values.back() == values.front());
    }
  }
}

int main() { return check::run(); }
