"""The Triton kernel where there is no GPU: its tests under the interpreter, its source, and that it compiles."""

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

from pyfast_mmcl.ops.fisher import outer_square_triton as ours  # noqa: E402

ROOT = Path(__file__).parents[3]
KERNEL = ours.outer_square_kernel
compiled_only = pytest.mark.skipif(
    not isinstance(KERNEL, triton.runtime.JITFunction), reason="TRITON_INTERPRET=1 is set for the whole run"
)


def test_kernel_under_the_interpreter() -> None:
    # A process of its own: the interpreter is chosen when Triton is imported, for the whole process.
    version = tuple(int(part) for part in triton.__version__.split(".")[:2])
    if version < (3, 9) and np.lib.NumpyVersion(np.__version__) >= "2.4.0":
        pytest.skip("Triton's interpreter before 3.9 does not run with NumPy 2.4 or newer")
    file = Path(__file__).with_name("test_outer_square_triton_kernels.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(file)]
    env = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "2", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout and "skipped" not in done.stdout


def test_the_dot_says_ieee_and_there_are_no_atomics() -> None:
    tree = ast.parse(Path(ours.__file__).read_text())
    calls = {ast.unparse(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    given = {word.arg: ast.literal_eval(word.value) for word in calls["tl.dot"].keywords}
    assert given == {"input_precision": "ieee"}
    assert not [name for name in calls if "atomic" in name]


@compiled_only
def test_sizes_do_not_specialise() -> None:
    sizes = [p for p in KERNEL.params if not p.is_constexpr and not p.name.endswith("_ptr")]
    assert len(sizes) == 13 and all(p.do_not_specialize for p in sizes)


@compiled_only
def test_new_shapes_reuse_the_compiled_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gpu:
        def get_current_target(self) -> GPUTarget:
            return GPUTarget("cuda", 90, 32)

    launched: list[str] = []

    def record(kernel: triton.runtime.JITFunction, *args: object, grid: object, warmup: bool, **kwargs: object) -> None:
        _, specialization, options = kernel.create_binder()[-1](*args, **kwargs)
        launched.append(f"{specialization} {options}")

    monkeypatch.setattr(triton.runtime.driver, "_active", Gpu())
    monkeypatch.setattr(triton.runtime.JITFunction, "run", record)
    for B, S, rows, lanes in ((8, 197, 768, 768), (1, 50, 64, 1024), (33, 577, 1000, 8)):
        ours.outer_square_accumulate(
            torch.zeros(rows, lanes), torch.zeros(B, S, rows).half(), torch.zeros(B, S, lanes).half()
        )
    assert len(launched) == 3 and len(set(launched)) == 1


def ptx_for(capability: int, dtype: str, step: int, plan: ours.Plan) -> str:
    """PTX of the kernel: Triton brings its own assembler, so no GPU and no driver is needed."""
    types = {"g_ptr": dtype, "a_ptr": dtype, "out_ptr": "*fp32"}
    constants = {"G_STEP": step, "A_STEP": step, "ABSOLUTE": False}
    constants |= {"BLOCK_O": plan.block_o, "BLOCK_I": plan.block_i, "BLOCK_S": plan.block_s}
    signature = {p.name: "constexpr" if p.is_constexpr else types.get(p.name, "i32") for p in KERNEL.params}
    aligned = {(i,): [["tt.divisibility", 16]] for i, p in enumerate(KERNEL.params) if p.name.endswith("_ptr")}
    source = ASTSource(KERNEL, signature, constants, aligned)
    options = {"num_warps": plan.warps, "num_stages": plan.stages}
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options).asm["ptx"]


@compiled_only
@pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION")
@pytest.mark.parametrize("capability", [80, 90])
def test_compiles_with_tensor_cores_for_16_bits_and_without_tf32_for_float32(capability: int) -> None:
    for step in (0, 1, 2):
        half = ptx_for(capability, "*bf16", step, ours.plan_for(torch.bfloat16, 197))
        assert "mma" in half and ".local" not in half
        assert ("cp.async" in half) == (step > 0), "aligned rows are read in whole vectors, ahead of their use"
    single = ptx_for(capability, "*fp32", 2, ours.plan_for(torch.float32, 197))
    assert "tf32" not in single and "mma" not in single


@compiled_only
def test_cpu_tensors_are_refused_with_a_reason() -> None:
    usable, reason = ours.available("cpu")
    assert not usable and "CUDA device" in reason
