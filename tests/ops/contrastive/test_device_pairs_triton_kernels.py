"""Streams, memory, torch's precision flags, reuse of compiled kernels and large shapes of the Triton pair kernels.

On a machine with a GPU these run compiled (``pytest -m gpu``); elsewhere `test_pairs_triton.py` runs this file in a
process of its own under Triton's interpreter, where what needs a GPU is skipped.
"""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from tests.check import assert_no_worse, assert_same_bits
from tests.ops.contrastive.triton_cases import DEVICE, INTERPRETED, MARKS, Matrix, ids, need_kernels, rows, small_plan

need_kernels()
pytestmark = MARKS

from pyfast_mmcl.ops import contrastive  # noqa: E402
from pyfast_mmcl.ops.contrastive import (  # noqa: E402
    pair_fused_triton,
    pair_grads_triton,
    pair_stats_triton,
    pairs_torch,
    pairs_triton,
    reference,
)
from pyfast_mmcl.ops.contrastive._pairs import Pull  # noqa: E402

gpu_only = pytest.mark.skipif(INTERPRETED, reason="needs a CUDA device: compiled kernels")


def test_memory_of_strips_is_bounded_by_the_plan() -> None:
    plan = small_plan(strip_bytes=0, partial_bytes=0)
    assert plan.strip_rows(1000, 10**9, plan.strip_bytes) == plan.block, "never less than one block of rows"
    assert plan.strip_rows(40, 4, 1 << 20) == 64, "never more blocks than there are rows"
    assert plan.strip_rows(10**6, 1000, 100 * 1000 * plan.block) == 100 * plan.block
    a, labels = rows(70, 16), ids(70, 9)
    given = {"row_ids": labels, "col_ids": labels}
    whole = pairs_triton.pair_stats(a, a, 9.0, plan=small_plan(partial_bytes=1 << 20), **given)
    for ours, expected in zip(pairs_triton.pair_stats(a, a, 9.0, plan=plan, **given), whole, strict=True):
        torch.testing.assert_close(ours.sum, expected.sum, rtol=1e-6, atol=0)
    pulls = [Pull(s.max, (1 / s.sum).float(), torch.ones_like(s.max)) for s in whole]
    strips = pairs_triton.pair_grads(a, a, 9.0, *pulls, plan=plan, **given)
    at_once = pairs_triton.pair_grads(a, a, 9.0, *pulls, plan=small_plan(strip_bytes=1 << 20), **given)
    for ours, expected in zip(strips, at_once, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)


def losses_and_gradients(a: Tensor, b: Tensor, scale: float) -> list[Tensor]:
    a, b = a.detach().requires_grad_(), b.detach().requires_grad_()
    s = torch.tensor(scale, device=a.device, requires_grad=True)
    loss = contrastive.info_nce(a, b, s, backend="triton")
    return [loss.detach(), *torch.autograd.grad(loss, [a, b, s])]


@gpu_only
@pytest.mark.parametrize("D", [96, 512])
def test_side_stream(D: int) -> None:
    a, b = rows(1000, D, dtype=torch.bfloat16), rows(1000, D, seed=1, dtype=torch.bfloat16)
    expected = losses_and_gradients(a, b, 30.0)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        ours = losses_and_gradients(a, b, 30.0)
    torch.cuda.current_stream().wait_stream(stream)
    for x, y in zip(ours, expected, strict=True):
        assert_same_bits(x, y)


@pytest.fixture
def tf32_allowed() -> Iterator[None]:
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    yield
    torch.backends.cuda.matmul.allow_tf32 = before


@gpu_only
@pytest.mark.parametrize("precision", ["auto", "float32"])
@pytest.mark.parametrize("D", [40, 300])
def test_float32_rows_are_multiplied_as_float32_whatever_torch_may_do(
    D: int, precision: str, tf32_allowed: None
) -> None:
    a, b, labels = rows(500, D), rows(700, D, seed=1), torch.arange(700, device=DEVICE)
    given = {"row_ids": labels[:500], "col_ids": labels, "precision": precision}
    sides = pairs_triton.pair_stats(a, b, 50.0, **given)
    truth = Matrix(a, b, 50.0, labels[:500], labels)
    pulls = [Pull(s.max, (1 / s.sum).float(), torch.ones_like(s.max)) for s in sides]
    for side, (lse, pos) in zip(sides, truth.sides(), strict=True):
        torch.testing.assert_close(side.max.double() + side.sum.log(), lse, rtol=0, atol=3e-5)
        torch.testing.assert_close(side.pos, pos, rtol=0, atol=3e-5)
    for ours, true in zip(pairs_triton.pair_grads(a, b, 50.0, *pulls, **given), truth.gradients(*pulls), strict=True):
        assert float((ours.double() - true).abs().max() / true.abs().max()) < 5e-5  # one TF32 product: 1e-3


@gpu_only
@pytest.mark.parametrize(("N", "D"), [(8192, 768), (16384, 128), (3000, 4096)])
def test_extra_memory_is_far_below_the_matrix(N: int, D: int) -> None:
    a, b = rows(N, D, dtype=torch.bfloat16), rows(N, D, seed=1, dtype=torch.bfloat16)
    losses_and_gradients(a[:200], b[:200], 30.0)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    results = losses_and_gradients(a, b, 30.0)
    extra = torch.cuda.max_memory_allocated() - before
    del results
    # Gradients in float32 and in the rows' type, one strip, partial statistics, sums.
    assert extra < 2 * N * D * (4 + 2 + 2) + (256 << 20) + (64 << 20) + (16 << 20)


@gpu_only
def test_no_recompilation_when_N_and_M_change() -> None:
    kernels = (pair_stats_triton.pair_stats_kernel, pair_grads_triton.pair_strip_kernel)
    kernels = (*kernels, pair_fused_triton.pair_fused_kernel)

    def compiled() -> int:
        return sum(len(kernel.device_caches[torch.cuda.current_device()][0]) for kernel in kernels)

    for D in (64, 300):
        losses_and_gradients(rows(300, D), rows(300, D, seed=1), 9.0)
    before = compiled()
    for N in (1, 129, 200, 1024):
        for D in (64, 300):
            losses_and_gradients(rows(N, D), rows(N, D, seed=1), 9.0)
    assert compiled() == before


@gpu_only
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("D", [64, 128, 129, 768, 2048])
def test_large_shapes(D: int, dtype: torch.dtype) -> None:
    N, M = 3001, 2500
    a, b, r, c = rows(N, D, dtype=dtype), rows(M, D, seed=1, dtype=dtype), ids(N, 700), ids(M, 700, seed=1)
    b[: M // 2] = (a[: M // 2].float() + 0.3 * b[: M // 2].float()).to(dtype)
    given = {"row_ids": r, "col_ids": c, "exclude_self": True, "row_offset": 11}
    truth = Matrix(a, b, 100.0, r, c, exclude_self=True, row_offset=11)
    plain = Matrix(a, b, 100.0, r, c, exclude_self=True, row_offset=11, wide=torch.float32)
    sides = pairs_triton.pair_stats(a, b, 100.0, **given)
    for side, (lse, pos), (rough, rough_pos) in zip(sides, truth.sides(), plain.sides(), strict=True):
        assert_no_worse(side.max.double() + side.sum.log(), rough, lse, atol=2e-5)
        assert_no_worse(side.pos, rough_pos, pos, atol=2e-5)
    pulls = [Pull(s.max, (1 / s.sum).float(), torch.ones_like(s.max)) for s in sides]
    low = None if dtype == torch.float32 else dtype
    rough, true = plain.gradients(*pulls, rounded=low), truth.gradients(*pulls)
    for ours, x, y in zip(pairs_triton.pair_grads(a, b, 100.0, *pulls, **given), rough, true, strict=True):
        assert_no_worse(ours, x, y, atol=2e-5 * float(y.abs().max()))


@gpu_only
@pytest.mark.parametrize("D", [96, 640])
def test_large_symmetric_siglip_and_distillation(D: int) -> None:
    z, t = rows(2100, D, dtype=torch.bfloat16), rows(2100, 200, seed=1, dtype=torch.bfloat16)
    labels, scale = torch.arange(2100, device=DEVICE) % 600, torch.tensor(20.0, device=DEVICE)
    ops = {
        "sup_con": lambda m, z, t, **kw: m.sup_con(z, labels, scale.to(z.dtype), **kw),
        "siglip": lambda m, z, t, **kw: m.siglip(z, z.detach().flip(0), scale, torch.tensor(-9.0), **kw),
    }
    for call in ops.values():
        values = []
        for module, dtype, options in ((contrastive, z.dtype, {"backend": "triton"}), (reference, torch.float64, {})):
            leaf = z.to(dtype).requires_grad_()
            loss = call(module, leaf, t.to(dtype), **options)
            values.append((loss.detach(), *torch.autograd.grad(loss, [leaf])))
        for ours, truth in zip(*values, strict=True):
            assert float((ours.double() - truth).abs().max() / truth.abs().max()) < 1e-2
    ours = pairs_triton.kl_stats(z, z, t, t, 20.0, 50.0, want_right=True)
    truth = pairs_torch.kl_stats(z.double(), z.double(), t.double(), t.double(), 20.0, 50.0, want_right=True)
    for x, y in zip(ours, truth, strict=True):
        torch.testing.assert_close(x.cross / x.t_sum, y.cross / y.t_sum, rtol=1e-4, atol=1e-4)
        assert torch.equal(x.t_right, y.t_right)


@gpu_only
def test_runs_under_deterministic_algorithms_and_repeats_every_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    try:
        for D in (96, 512):
            a, b = rows(1500, D, dtype=torch.bfloat16), rows(1500, D, seed=1, dtype=torch.bfloat16)
            runs = [losses_and_gradients(a, b, 30.0) for _ in range(3)]
            for again in runs[1:]:
                for x, y in zip(again, runs[0], strict=True):
                    assert_same_bits(x, y)
    finally:
        torch.use_deterministic_algorithms(False)
