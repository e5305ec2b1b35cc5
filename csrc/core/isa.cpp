#include "core/isa.h"

#include <cstdlib>
#include <cstring>
#include <string>

#include "core/error.h"

#if defined(PYFAST_X86)
#include <cpuid.h>
#endif

namespace pyfast {
namespace {

constexpr const char* names[isa_count] = {"scalar", "avx2", "avx512", "avx512_bf16"};

#if defined(PYFAST_X86)
bool has_f16c() {  // older compilers do not know the name in __builtin_cpu_supports
  unsigned a, b, c, d;
  return __get_cpuid(1, &a, &b, &c, &d) && (c & (1u << 29));
}
#endif

Isa detect() {
#if defined(PYFAST_X86)
  // __builtin_cpu_supports also asks XGETBV whether the operating system saves the wide registers.
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !has_f16c()) return Isa::scalar;
  const bool wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                    __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (!wide) return Isa::avx2;
  const bool low = __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vnni");
  return low ? Isa::avx512_bf16 : Isa::avx512;
#else
  return Isa::scalar;
#endif
}

}  // namespace

const char* isa_name(Isa isa) { return names[static_cast<int>(isa)]; }

Isa hardware_isa() {
  static const Isa found = detect();
  return found;
}

Isa current_isa() {
  const char* cap = std::getenv("PYFAST_ISA");
  if (!cap || !*cap) return hardware_isa();
  for (int i = 0; i < isa_count; ++i) {
    if (std::strcmp(cap, names[i]) == 0)
      return i < static_cast<int>(hardware_isa()) ? static_cast<Isa>(i) : hardware_isa();
  }
  throw Error(std::string("PYFAST_ISA: expected scalar, avx2, avx512 or avx512_bf16, got '") + cap + "'");
}

}  // namespace pyfast
