// Which instruction set to run: the best this CPU has, capped by the environment variable PYFAST_ISA.
#pragma once

namespace pyfast {

enum class Isa : int { scalar = 0, avx2 = 1, avx512 = 2, avx512_bf16 = 3 };
constexpr int isa_count = 4;

const char* isa_name(Isa isa);  // "scalar", "avx2", "avx512", "avx512_bf16"
Isa hardware_isa();             // the best that CPU and operating system support
Isa current_isa();              // hardware_isa() capped by PYFAST_ISA; throws Error on an unknown name

}  // namespace pyfast
