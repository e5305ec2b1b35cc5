"""Outer-product–square–accumulate on a GPU: one sample's gradient tile is formed, squared and summed in registers."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from .. import _triton_device

# Programs wanted on the device before the samples of a batch are no longer split.
_PROGRAMS = 256
# Floats of all partial planes at most.
_PLANE_FLOATS = 1 << 24
_verdicts: dict[torch.device, tuple[bool, str]] = {}


@dataclass(frozen=True)
class Plan:
    """Sizes of a tile and its pipeline; two fp32 accumulators [block_o, block_i] stay in registers."""

    block_o: int
    block_i: int
    block_s: int
    warps: int
    stages: int


def plan_for(dtype: torch.dtype, S: int) -> Plan:
    """16-bit inputs run on tensor cores; float32 is multiplied as IEEE float32, never TF32."""
    block_s = 16 if S <= 16 else 32 if S <= 32 or dtype == torch.float32 else 64
    if dtype == torch.float32:
        return Plan(64, 64, min(block_s, 32), 4, 2)
    return Plan(128, 128, block_s, 8, 3)


@triton.jit(
    do_not_specialize=["B", "S", "O", "I", "g_b", "g_s", "g_o", "a_b", "a_s", "a_i", "out_z", "out_o", "samples_each"]
)
def outer_square_kernel(
    g_ptr,  # [B, S, O]
    a_ptr,  # [B, S, I]
    out_ptr,  # [splits, O, I] float32, I innermost
    B,
    S,
    O,  # noqa: E741
    I,  # noqa: E741
    g_b,
    g_s,
    g_o,
    a_b,
    a_s,
    a_i,
    out_z,
    out_o,
    samples_each,
    G_STEP: tl.constexpr,  # dimension of g that lies side by side in aligned rows: 2 (O), 1 (S) or 0 (neither)
    A_STEP: tl.constexpr,
    ABSOLUTE: tl.constexpr,
    BLOCK_O: tl.constexpr,
    BLOCK_I: tl.constexpr,
    BLOCK_S: tl.constexpr,
):
    o = tl.program_id(0) * BLOCK_O + tl.arange(0, BLOCK_O)
    i = tl.program_id(1) * BLOCK_I + tl.arange(0, BLOCK_I)
    s = tl.arange(0, BLOCK_S)
    # The compiler sees multiples of 8 here, where a specialised argument would compile a new kernel for a new size.
    if G_STEP > 0:
        g_b = g_b // 8 * 8
    if A_STEP > 0:
        a_b = a_b // 8 * 8
    if G_STEP == 2:
        g_o, g_s, O_end = 1, g_s // 8 * 8, O // 8 * 8
    else:
        O_end = O
    if G_STEP == 1:
        g_s, g_o = 1, g_o // 8 * 8
    if G_STEP == 1 or A_STEP == 1:
        S_end = S // 8 * 8
    else:
        S_end = S
    if A_STEP == 2:
        a_i, a_s, I_end = 1, a_s // 8 * 8, I // 8 * 8
    else:
        I_end = I
    if A_STEP == 1:
        a_s, a_i = 1, a_i // 8 * 8
    first = tl.program_id(2).to(tl.int64) * samples_each
    last = tl.minimum(first + samples_each, B)
    total = tl.zeros([BLOCK_O, BLOCK_I], tl.float32)
    g_lane = o.to(tl.int64)[:, None] * g_o
    a_lane = i.to(tl.int64)[None, :] * a_i
    for n in range(first, last):
        g_sample = g_ptr + n * g_b
        a_sample = a_ptr + n * a_b
        gradient = tl.zeros([BLOCK_O, BLOCK_I], tl.float32)
        for start in range(0, S, BLOCK_S):
            step = start + s
            g_at = g_sample + g_lane + step.to(tl.int64)[None, :] * g_s
            a_at = a_sample + a_lane + step.to(tl.int64)[:, None] * a_s
            g = tl.load(g_at, mask=(o < O_end)[:, None] & (step < S_end)[None, :], other=0.0)
            a = tl.load(a_at, mask=(step < S_end)[:, None] & (i < I_end)[None, :], other=0.0)
            gradient = tl.dot(g, a, gradient, input_precision="ieee")
        total += tl.abs(gradient) if ABSOLUTE else gradient * gradient
    out = out_ptr + tl.program_id(2).to(tl.int64) * out_z + o.to(tl.int64)[:, None] * out_o + i[None, :]
    tl.store(out, total, mask=(o < O)[:, None] & (i < I)[None, :])


def _step(x: Tensor) -> int:
    """The dimension of x [B, S, lanes] along which whole 16-byte vectors can be read, or 0."""
    per_vector = 8
    if x.data_ptr() % 16 or x.stride(0) % per_vector:
        return 0
    if x.stride(2) == 1 and x.stride(1) % per_vector == 0 and x.shape[2] % per_vector == 0:
        return 2
    return 1 if x.stride(1) == 1 and x.stride(2) % per_vector == 0 and x.shape[1] % per_vector == 0 else 0


def splits_for(B: int, tiles: int, floats: int) -> int:
    """How many parts of the batch are summed apart: enough programs to fill a GPU, few enough planes to keep."""
    return max(1, min(B, _PROGRAMS // max(1, tiles), _PLANE_FLOATS // max(1, floats)))


def outer_square_accumulate(
    out: Tensor, g: Tensor, a: Tensor, absolute: bool = False, plan: Plan | None = None
) -> None:
    """``out += einsum("bso,bsi->boi", g, a).square().sum(0)`` in place, or ``.abs()``; float32 sums, no atomics.

    The samples are cut into parts that are summed in order: a result repeats bit for bit.

    Args:
        out: [O, I] float32, any strides.
        g: [B, S, O] or [B, O]; float32, bfloat16 or float16. Unequal dtypes of g and a meet in float32.
        a: [B, S, I] or [B, I].
        plan: tile sizes; by default those of the dtype.
    """
    if g.dim() == 2:
        g, a = g[:, None], a[:, None]
    if g.dtype != a.dtype or (g.dtype == torch.bfloat16 and g.device.type == "cpu"):
        # On the CPU Triton's interpreter would multiply the bits of bfloat16.
        g, a = g.float(), a.float()
    B, S = g.shape[:2]
    rows, lanes = out.shape
    if not (B and S and rows and lanes):
        return
    plan = plan or plan_for(g.dtype, S)
    tiles = (triton.cdiv(rows, plan.block_o), triton.cdiv(lanes, plan.block_i))
    each = triton.cdiv(B, splits_for(B, tiles[0] * tiles[1], rows * lanes))
    planes = torch.empty((triton.cdiv(B, each), rows, lanes), dtype=torch.float32, device=out.device)
    with torch.cuda.device(out.device) if out.device.type == "cuda" else nullcontext():
        outer_square_kernel[(*tiles, planes.shape[0])](
            g,
            a,
            planes,
            B,
            S,
            rows,
            lanes,
            *g.stride(),
            *a.stride(),
            planes.stride(0),
            planes.stride(1),
            each,
            G_STEP=_step(g),
            A_STEP=_step(a),
            ABSOLUTE=absolute,
            BLOCK_O=plan.block_o,
            BLOCK_I=plan.block_i,
            BLOCK_S=plan.block_s,
            num_warps=plan.warps,
            num_stages=plan.stages,
        )
    for plane in planes:
        out += plane


def available(device: torch.device | str) -> tuple[bool, str]:
    """Whether the kernels run on ``device``, and why not. The first call on a GPU checks them on a tiny problem."""
    return _triton_device.available(device, outer_square_kernel, _verdicts, _first_use)


def _first_use(device: torch.device) -> tuple[bool, str]:
    return _triton_device.first_use(device, "Fisher", lambda there: "" if self_check(there) else "sums")


def self_check(device: torch.device) -> bool:
    """Whether a small problem of small integers, on which every sum is exact, comes out exactly."""
    B, S, rows, lanes = 5, 37, 70, 90
    cells = torch.arange(B * S * (rows + lanes), device=device)
    values = ((cells * 7919) % 1009 % 5 - 2).view(B, S, -1)
    for dtype in (torch.float32, torch.bfloat16):
        g, a = values[..., :rows].to(dtype), values[..., rows:].to(dtype)
        out = torch.ones(rows, lanes, device=device)
        outer_square_accumulate(out, g, a)
        expected = 1 + torch.einsum("bso,bsi->boi", g.double(), a.double()).square().sum(0)
        if not torch.equal(out.double(), expected):
            return False
    return True
