"""Gradients from strips of dS: ``da = dS b`` and ``db = dSᵀ a`` a bounded number of rows of dS at a time.

16-bit strips are multiplied by cuBLAS with float32 results, float32 strips by the kernel here, which never takes single
TF32 products: what ``torch.backends.cuda.matmul`` allows does not reach these gradients. Strips follow in row order.
"""

from __future__ import annotations

import functools

import torch
import triton
import triton.language as tl
from torch import Tensor

from ._tiles import no_autocast
from .tile_triton import Operand, Plan, dot_precision, on_device, slice_width


@triton.jit(do_not_specialize=["R", "K", "C", "stride"], do_not_specialize_on_alignment=["out_ptr"])
def strip_product_kernel(
    g_ptr,  # [R, K] with `stride` blocks of 16 between rows, or [K, R] if TRANSPOSED; zero beyond K
    y_ptr,  # [K, DP]
    out_ptr,  # [R, C] float32
    R,
    K,
    C,
    stride,
    DP: tl.constexpr,
    ADD: tl.constexpr,
    TRANSPOSED: tl.constexpr,
    BLOCK: tl.constexpr,
    BLOCK_K: tl.constexpr,
    PRECISION: tl.constexpr,
):
    wide: tl.constexpr = DP // BLOCK_K
    rows = (tl.program_id(0) // wide) * BLOCK + tl.arange(0, BLOCK)
    columns = (tl.program_id(0) % wide) * BLOCK_K + tl.arange(0, BLOCK_K)
    lanes = tl.arange(0, BLOCK_K)
    pitch = stride.to(tl.int64) * 16
    acc = tl.zeros([BLOCK, BLOCK_K], tl.float32)
    for start in range(0, K, BLOCK_K):
        k = start + lanes
        if TRANSPOSED:
            g = tl.load(g_ptr + k.to(tl.int64)[None, :] * pitch + rows[:, None])
        else:
            g = tl.load(g_ptr + rows.to(tl.int64)[:, None] * pitch + k[None, :])
        y = tl.load(y_ptr + tl.minimum(k, K - 1).to(tl.int64)[:, None] * DP + columns[None, :])
        acc = tl.dot(g, y, acc, input_precision=PRECISION)
    at = out_ptr + rows.to(tl.int64)[:, None] * C + columns[None, :]
    inside = (rows < R)[:, None] & (columns < C)[None, :]
    if ADD:
        acc += tl.load(at, mask=inside, other=0.0)
    tl.store(at, acc, mask=inside)


@functools.cache
def _adds_in_float32(device: torch.device) -> bool:
    # Whether this torch adds a 16-bit product to a float32 matrix in place.
    x = torch.ones(16, 16, dtype=torch.bfloat16, device=device)
    out = torch.ones(16, 16, dtype=torch.float32, device=device)
    try:
        torch.addmm(out, x, x, out_dtype=torch.float32, out=out)
    except RuntimeError:
        return False
    return True


def _add_blas(out: Tensor, x: Tensor, y: Tensor, add: bool) -> None:
    if x.device.type == "cpu":
        product = x.float() @ y.float()
        out.copy_(out + product if add else product)
    elif not add:
        torch.mm(x, y, out_dtype=torch.float32, out=out)
    elif _adds_in_float32(x.device):
        torch.addmm(out, x, y, out_dtype=torch.float32, out=out)
    else:
        out.add_(torch.mm(x, y, out_dtype=torch.float32))


class Gradients:
    """da and db while strips of dS come."""

    def __init__(self, a: Operand, b: Operand, need_a: bool, need_b: bool, plan: Plan, precision: str) -> None:
        self.a, self.b, self.plan = a, b, plan
        self.precision = dot_precision(precision, a.rows.dtype)
        device = a.rows.device
        self.da = torch.empty(len(a), a.D, dtype=torch.float32, device=device) if need_a else None
        self.db = torch.empty(len(b), b.D, dtype=torch.float32, device=device) if need_b else None

    def buffer(self, symmetric: bool = False) -> tuple[Tensor, int]:
        """Room for one strip [rows, columns], both in whole tiles, and the rows per strip."""
        block = self.plan.block
        width = triton.cdiv(len(self.b), block) * block
        rows = self.plan.strip_rows(len(self.a), width * self.a.rows.element_size(), self.plan.strip_bytes)
        return torch.empty(rows, width, dtype=self.a.rows.dtype, device=self.a.rows.device), rows

    def _multiply(self, out: Tensor, g: Tensor, side: Operand, span: slice, add: bool, transposed: bool) -> None:
        # out (+)= g @ side[span], or its transpose; g has whole tiles.
        y = side.rows[span]
        R, K = out.shape[0], y.shape[0]
        if R == 0:
            return
        if g.dtype != torch.float32:
            used = g[:K, :R].T if transposed else g[:R, :K]
            with no_autocast(g):
                _add_blas(out, used, y[:, : side.D], add)
            return
        block_k = min(slice_width(side.D, self.plan), self.plan.block)
        with on_device(g.device):
            strip_product_kernel[(triton.cdiv(R, self.plan.block) * (side.padded // block_k),)](
                g,
                y,
                out,
                R,
                K,
                side.D,
                g.stride(0) // 16,
                DP=side.padded,
                ADD=add,
                TRANSPOSED=transposed,
                BLOCK=self.plan.block,
                BLOCK_K=block_k,
                PRECISION=self.precision,
                num_warps=self.plan.warps,
                num_stages=self.plan.stages,
            )

    def add(self, strip: Tensor, first: int, end: int) -> None:
        """Rows first ≤ i < end of dS, all columns."""
        if self.da is not None:
            self._multiply(self.da[first:end], strip, self.b, slice(None), False, False)
        if self.db is not None:
            self._multiply(self.db, strip, self.a, slice(first, end), first > 0, True)

    def add_symmetric(self, strip: Tensor, first: int, end: int) -> None:
        """Rows first ≤ i < end of a symmetric dS, columns from ``first`` on; columns behind ``end`` count twice."""
        assert self.da is not None
        self._multiply(self.da[first:end], strip, self.a, slice(first, None), first > 0, False)
        right = strip[:, end - first :]
        self._multiply(self.da[end:], right, self.a, slice(first, end), first > 0, True)

    def nothing(self) -> tuple[Tensor | None, Tensor | None]:
        """The gradients of no pairs."""
        return tuple(None if x is None else x.zero_() for x in (self.da, self.db))  # type: ignore[return-value]

    def finish(self, gain: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """The gradients, without the factor that kept a narrow type in range."""
        if self.a.rows.dtype == torch.float16:
            for x in (self.da, self.db):
                if x is not None:
                    x.div_(gain)
        return self.da, self.db
