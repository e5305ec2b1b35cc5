"""The Triton backend where there is no GPU: its tests under the interpreter, its source, and that it compiles."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

triton = pytest.importorskip("triton")

from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

from pyfast_mmcl.ops.knn import bank_triton, filter_triton, nearest_triton, pack_triton, scan_triton, search_triton  # noqa: E402

ROOT = Path(__file__).parents[3]
SOURCES = sorted((ROOT / "pyfast_mmcl/ops/knn").glob("*_triton.py"))
KERNELS = (
    pack_triton.pack_kernel,
    scan_triton.scan_kernel,
    scan_triton.compact_kernel,
    nearest_triton.nearest_kernel,
    nearest_triton.segment_sum_kernel,
)
compiled_only = pytest.mark.skipif(
    not isinstance(KERNELS[0], triton.runtime.JITFunction), reason="TRITON_INTERPRET=1 is set for the whole run"
)


def test_kernels_under_the_interpreter() -> None:
    # A process of its own: the interpreter is chosen when Triton is imported, for the whole process.
    version = tuple(int(part) for part in triton.__version__.split(".")[:2])
    if version < (3, 9) and np.lib.NumpyVersion(np.__version__) >= "2.4.0":
        pytest.skip("Triton's interpreter before 3.9 does not run with NumPy 2.4 or newer")
    files = sorted(map(str, Path(__file__).parent.glob("test_*_triton_kernels.py")))
    assert len(files) == 3
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files]
    env = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "2", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout


def test_every_dot_says_ieee() -> None:
    dots = [
        node
        for source in SOURCES
        for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "tl.dot"
    ]
    assert len(dots) >= 2
    for node in dots:
        given = {word.arg: ast.literal_eval(word.value) for word in node.keywords}
        assert given == {"input_precision": "ieee"}, f"line {node.lineno}: {given}"


def test_no_floating_atomics() -> None:
    atomics = [
        ast.unparse(node)
        for source in SOURCES
        for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, ast.Call) and "atomic" in ast.unparse(node.func)
    ]
    assert len(atomics) == 1 and atomics[0].startswith("tl.atomic_add(count_ptr + rows, hits")


@compiled_only
@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.fn.__name__)
def test_sizes_do_not_specialise(kernel) -> None:
    # Otherwise a new kernel would be compiled whenever N or M becomes 1 or a multiple of 16.
    sizes = [p for p in kernel.params if not p.is_constexpr and not p.name.endswith("_ptr")]
    assert sizes and all(p.do_not_specialize for p in sizes)
    assert not {"N", "M", "K", "k"} & {p.name for p in kernel.params if p.is_constexpr}


@compiled_only
def test_new_shapes_reuse_the_compiled_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gpu:
        def get_current_target(self) -> GPUTarget:
            return GPUTarget("cuda", 90, 32)

    launched: list[str] = []

    def record(kernel: triton.runtime.JITFunction, *args: object, grid: object, warmup: bool, **kwargs: object) -> None:
        _, specialization, options = kernel.create_binder()[-1](*args, **kwargs)
        launched.append(f"{kernel.fn.__name__} {specialization} {options}")

    def variants(N: int, M: int, appended: int) -> set[str]:
        launched.clear()
        q, x = torch.zeros(N, 96), torch.zeros(M + appended, 96)
        bank = bank_triton.PackedTriton(x[:M], "l2")
        bank.append(x[M:])
        packed = pack_triton.pack(q, bank._frame, torch.float16, query=True)
        bounds = scan_triton.query_bounds(packed, bank._frame, torch.float16)
        plan = scan_triton.plan_for(N, bank._frame.padded, 5)
        filter_triton.scan(packed, bounds, torch.zeros(N, dtype=torch.int32), bank._packed(), 5, plan)
        nearest_triton.best_and_rival(packed, bounds, bank._packed(), plan)
        nearest_triton.label_sums(q, torch.arange(N) % 3, 3)
        return set(launched)

    monkeypatch.setattr(triton.runtime.driver, "_active", Gpu())
    monkeypatch.setattr(triton.runtime.JITFunction, "run", record)
    first = variants(128, 4096, 16)
    assert {entry.split()[0] for entry in first} == {kernel.fn.__name__ for kernel in KERNELS}
    for shape in ((65, 3001, 1), (200, 9999, 7), (1000, 20_000, 33)):
        assert variants(*shape) == first


@compiled_only
def test_cpu_tensors_are_refused_with_a_reason() -> None:
    usable, reason = search_triton.available("cpu")
    assert not usable and "CUDA device" in reason


def compile_for(kernel, capability: int, types: dict[str, str], constants: dict[str, object]) -> str:
    """PTX of ``kernel``: Triton brings its own assembler, so no GPU and no driver is needed."""
    signature = {
        p.name: "constexpr" if p.is_constexpr else types.get(p.name, "*fp32" if p.name.endswith("_ptr") else "i32")
        for p in kernel.params
    }
    aligned = {
        (i,): [["tt.divisibility", 16]]
        for i, p in enumerate(kernel.params)
        if p.name.endswith("_ptr") and not p.do_not_specialize_on_alignment
    }
    source = ASTSource(kernel, signature, constants, aligned)
    return triton.compile(source, target=GPUTarget("cuda", capability, 32)).asm["ptx"]


TILE = {"DP": 128, "BLOCK_N": 64, "BLOCK_M": 64, "BLOCK_D": 64}
WHOLE = {"self_ptr": "*i32", "id_ptr": "*i32", "count_ptr": "*i32"}


@compiled_only
@pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION")
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("seed", [True, False])
def test_scan_compiles_with_tensor_cores_for_float16_and_without_tf32_for_float32(capability: int, seed: bool) -> None:
    for dtype in ("*fp16", "*fp32"):
        types = {"q_ptr": dtype, "x_ptr": dtype, **WHOLE}
        ptx = compile_for(scan_triton.scan_kernel, capability, types, {**TILE, "SEED": seed})
        assert "tf32" not in ptx
        assert ("mma" in ptx) == (dtype == "*fp16")
        assert "cp.async" in ptx, "D is streamed in overlapping stages"


@compiled_only
@pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION")
@pytest.mark.parametrize("capability", [80, 90])
def test_other_kernels_compile(capability: int) -> None:
    types = {"q_ptr": "*fp16", "x_ptr": "*fp16", **WHOLE}
    assert "mma" in compile_for(nearest_triton.nearest_kernel, capability, types, TILE)
    compile_for(scan_triton.compact_kernel, capability, {**WHOLE, "id_out_ptr": "*i32"}, {"BLOCK": 512})
    types = {"x_ptr": "*bf16", "order_ptr": "*i64", "start_ptr": "*i64", "end_ptr": "*i64", "weight_ptr": "*fp64"}
    types["out_ptr"] = "*fp64"
    compile_for(nearest_triton.segment_sum_kernel, capability, types, {"BLOCK_R": 16, "BLOCK_D": 64})
    for prepass in (0, 1, 2):
        types = {"mean_ptr": "*fp64", "out_ptr": "*fp16", "exponent_ptr": "*i32"}
        constants = {"DP": 128, "BLOCK_N": 16, "BLOCK_D": 64, "PREPASS": prepass, "L2": True, "QUERY": prepass == 2}
        compile_for(pack_triton.pack_kernel, capability, types, constants)
