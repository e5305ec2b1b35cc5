"""The Triton backend where there is no GPU: its tests under the interpreter, its source, and that it compiles."""

import ast
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

triton = pytest.importorskip("triton")

from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

from pyfast_mmcl.ops.contrastive import pairs_triton  # noqa: E402
from pyfast_mmcl.ops.contrastive._pairs import KLPull, Pull  # noqa: E402
from pyfast_mmcl.ops.contrastive.tile_triton import plan_for, slice_width  # noqa: E402

ROOT = Path(__file__).parents[3]
SOURCES = sorted((ROOT / "pyfast_mmcl/ops/contrastive").glob("*_triton.py"))
PACKAGE = "pyfast_mmcl.ops.contrastive"


def kernels() -> dict[str, Any]:
    """Every kernel of the family by name."""
    modules = [importlib.import_module(f"{PACKAGE}.{path.stem}") for path in SOURCES]
    return {name: value for m in modules for name, value in vars(m).items() if name.endswith("_kernel")}


KERNELS = kernels()
compiled_only = pytest.mark.skipif(
    not isinstance(next(iter(KERNELS.values())), triton.runtime.JITFunction),
    reason="TRITON_INTERPRET=1 is set for the whole run",
)


def test_kernels_under_the_interpreter() -> None:
    # A process of its own: the interpreter is chosen when Triton is imported, for the whole process.
    version = tuple(int(part) for part in triton.__version__.split(".")[:2])
    if version < (3, 9) and np.lib.NumpyVersion(np.__version__) >= "2.4.0":
        pytest.skip("Triton's interpreter before 3.9 does not run with NumPy 2.4 or newer")
    files = sorted(map(str, Path(__file__).parent.glob("test_*_triton_kernels.py")))
    assert len(files) == 3
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    env = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    # One process per file: the interpreter uses one core.
    running = [subprocess.Popen([*command, file], cwd=ROOT, env=env, **pipes) for file in files]
    try:
        for process in running:
            output = process.communicate(timeout=900)[0]
            assert process.returncode == 0 and " passed" in output, output[-6000:]
    finally:
        for process in running:
            process.kill()


def calls(name: str) -> list[ast.Call]:
    """Every call of ``name`` in the sources of the backend."""
    nodes = [
        node for source in SOURCES for node in ast.walk(ast.parse(source.read_text())) if isinstance(node, ast.Call)
    ]
    return [node for node in nodes if name in ast.unparse(node.func)]


def test_every_dot_names_its_precision() -> None:
    # Triton's own default for float32 is one TF32 product.
    dots = calls("tl.dot")
    assert len(dots) >= 4
    for node in dots:
        given = {word.arg: ast.unparse(word.value) for word in node.keywords}
        assert given == {"input_precision": "PRECISION"}, f"line {node.lineno}: {given}"


def test_no_atomics_and_no_float32_product_left_to_torch() -> None:
    assert not calls("atomic")
    products = [ast.unparse(node) for name in ("torch.mm", "torch.addmm", "matmul") for node in calls(name)]
    assert len(products) >= 3 and all("out_dtype=torch.float32" in text for text in products)


@compiled_only
@pytest.mark.parametrize("name", KERNELS)
def test_sizes_do_not_specialise(name: str) -> None:
    # Otherwise a new kernel would be compiled whenever N or M becomes 1 or a multiple of 16.
    params = KERNELS[name].params
    sizes = [p for p in params if not p.is_constexpr and not p.name.endswith("_ptr")]
    assert sizes and all(p.do_not_specialize for p in sizes)
    assert not {"N", "M", "D", "R", "P", "L"} & {p.name for p in params if p.is_constexpr}


@compiled_only
def test_new_shapes_reuse_the_compiled_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gpu:
        def get_current_target(self) -> GPUTarget:
            return GPUTarget("cuda", 90, 32)

    launched: list[str] = []

    def record(kernel: Any, *args: object, grid: object, warmup: bool, **kwargs: object) -> None:
        _, specialization, options = kernel.create_binder()[-1](*args, **kwargs)
        launched.append(f"{kernel.fn.__name__} {specialization} {options}")

    def variants(N: int, M: int, offset: int) -> set[str]:
        launched.clear()
        for D in (64, 700):
            a, b = torch.zeros(N, D), torch.zeros(M, D)
            given: dict[str, Any] = {"row_ids": torch.zeros(N + 1, dtype=torch.int64)[1:], "row_offset": offset}
            given["col_ids"] = torch.zeros(M, dtype=torch.int64)
            pairs_triton.pair_stats(a, b, 2.0, **given)
            # Odd offsets: the vectors of a side may start anywhere.
            row, col = (Pull(*torch.zeros(3, n + offset)[:, offset:]) for n in (N, M))
            pairs_triton.pair_grads(a, b, 2.0, row, col, **given)
            pairs_triton.siglip_pass(a, b, 2.0, 1.0, row_ids=given["row_ids"], col_ids=given["col_ids"])
            pairs_triton.kl_stats(a, b, a, b, 2.0, 2.0, row_offset=offset)
            pulls = [KLPull(*torch.zeros(4, n + offset)[:, offset:]) for n in (N, M)]
            pairs_triton.kl_grads(a, b, a, b, 2.0, 2.0, *pulls, row_offset=offset)
        return set(launched)

    monkeypatch.setattr(triton.runtime.driver, "_active", Gpu())
    monkeypatch.setattr(triton.runtime.JITFunction, "run", record)
    first = variants(128, 4096, 16)
    assert {entry.split()[0] for entry in first} == set(KERNELS)
    for shape in ((1, 1, 0), (65, 3001, 1), (200, 997, 7)):
        assert variants(*shape) == first


@compiled_only
def test_cpu_tensors_are_refused_with_a_reason() -> None:
    usable, reason = pairs_triton.available("cpu")
    assert not usable and "CUDA device" in reason
    usable, reason = pairs_triton.available("meta")
    assert not usable and "meta" in reason


def resources(compiled: Any, tmp_path: Path) -> tuple[int, int]:
    """Registers per thread and bytes of spilled registers, from the machine code."""
    cubin = tmp_path / "kernel.cubin"
    cubin.write_bytes(compiled.asm["cubin"])
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    text = subprocess.run([tool, "--dump-resource-usage", cubin], capture_output=True, text=True, check=True).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+)", text)
    assert found, text
    return int(found[1]), int(found[2])


OTHER_TYPES = {"row_id_ptr": "*i64", "column_id_ptr": "*i64", "dscale_ptr": "*fp64"}
FLAGS = {
    "GROUP": 8,
    "ROWS": True,
    "COLUMNS": True,
    "STORE": True,
    "ADD": True,
    "BLOCK_P": 16,
    "BLOCK_L": 32,
}


def compile_for(name: str, capability: int, dtype: torch.dtype, D: int, precision: str) -> tuple[Any, int]:
    """The kernel as its wrapper launches it, and its warps. Triton brings its own assembler: no GPU, no driver."""
    kernel, plan, rows = KERNELS[name], plan_for(dtype), {torch.float32: "*fp32", torch.bfloat16: "*bf16"}[dtype]
    sides = {f"{x}_ptr": rows for x in ("a", "b", "sa", "sb", "ta", "tb", "strip")}
    types = {**OTHER_TYPES, **sides, "sum_ptr": "*fp64"}
    width = slice_width(D, plan)
    sizes = {"DP": D, "SP": D, "TP": D, "BLOCK": plan.block, "OTHER": plan.fused_block}
    sizes |= {"BLOCK_D": width, "S_BLOCK_D": width, "T_BLOCK_D": width, "BLOCK_K": width}
    given = {**FLAGS, **sizes, "PRECISION": precision}
    # The older architecture takes the plain variants, the newer one those with every branch.
    given |= dict.fromkeys(("EXCLUDE", "SYMMETRIC", "RIGHT", "TRANSPOSED"), capability == 90)
    signature, constants, aligned = {}, {}, {}
    for i, p in enumerate(kernel.params):
        pointer = p.name.endswith("_ptr")
        signature[p.name] = "constexpr" if p.is_constexpr else types.get(p.name, "*fp32" if pointer else "i32")
        if p.is_constexpr:
            constants[p.name] = given[p.name]
        elif pointer and not p.do_not_specialize_on_alignment:
            aligned[(i,)] = [["tt.divisibility", 16]]
    warps = plan.fused_warps if "fused" in name else plan.pair_warps if name.startswith("kl_") else plan.warps
    options = {"num_warps": warps, "num_stages": 2 if "fused" in name else plan.stages}
    source = ASTSource(kernel, signature, constants, aligned)
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options), warps


def signature_of(name: str) -> list[str]:
    return [p.name for p in KERNELS[name].params]


NARROW = [name for name in KERNELS if "merge" not in name and name != "strip_product_kernel"]
CASES = [(name, torch.bfloat16, "ieee", capability) for name in NARROW for capability in (80, 90)]
CASES += [(name, torch.float32, "tf32x3", 90) for name in ("pair_stats_kernel", "pair_fused_kernel")]
CASES += [("strip_product_kernel", torch.float32, word, 80) for word in ("tf32x3", "ieee")]
CASES += [("strip_product_kernel", torch.float32, "tf32x3", 90), ("pair_strip_kernel", torch.float32, "ieee", 90)]


@compiled_only
@pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION")
@pytest.mark.parametrize(("name", "dtype", "precision", "capability"), CASES)
def test_tiles_compile_and_fit(name: str, dtype: torch.dtype, precision: str, capability: int, tmp_path: Path) -> None:
    fused = "fused" in name
    compiled, warps = compile_for(name, capability, dtype, plan_for(dtype).fused_d if fused else 512, precision)
    ptx = compiled.asm["ptx"]
    assert ("mma" in ptx) == (precision == "tf32x3" or dtype != torch.float32)
    assert ("tf32" in ptx) == (precision == "tf32x3")
    if capability == 90 and dtype == torch.bfloat16:
        assert "wgmma.mma_async" in ptx
    assert "cp.async" in ptx, "rows are read ahead in overlapping stages"
    if "strip_ptr" in signature_of(name):
        assert "st.global.v4.b32" in ptx and "st.global.b16" not in ptx, "dS is stored 16 bytes at a time"
    registers, spilled = resources(compiled, tmp_path)
    # Two programs per multiprocessor, where a program has four warps; one where it has eight.
    shared = {80: 163 << 10, 90: 227 << 10}[capability] // (8 // warps)
    assert compiled.metadata.shared <= shared
    assert registers * warps * 32 * (8 // warps) <= 65536
    # A few words may leave the registers in branches that are rarely taken; a tile must not.
    assert spilled <= (768 if fused else 320), f"{spilled} bytes of registers are spilled"


@compiled_only
@pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION")
@pytest.mark.parametrize("capability", [80, 90])
def test_merges_compile(capability: int) -> None:
    for name in KERNELS:
        if "merge" in name:
            compile_for(name, capability, torch.float32, 64, "ieee")
