"""What the Triton kernels share: plans, operands, and one similarity tile.

A tile of x_ij = ⟨a_i, b_j⟩ lives in registers only. Exponentials are powers of two: log2(e) is part of the scale, and
``2**(x·c − m)`` is one fused multiply-add and one instruction. Sizes are run-time arguments: a new N or M compiles
nothing, and D only by its padding.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

LOG2E = tl.constexpr(1 / math.log(2))
LN2 = tl.constexpr(math.log(2))
# The smallest scale that keeps −inf · scale = −inf; a scale of 0 counts as this.
TINY = tl.constexpr(2.0**-100)
# Columns whose sum, relative to the largest entry of the tile, is smaller are summed again around their own maximum.
FAINT = tl.constexpr(2.0**-60)
# Row and column references of one tile that are closer (in powers of two) share one exponential per pair.
SHARED_SPAN = tl.constexpr(64.0)


@dataclass(frozen=True)
class Plan:
    """Block shapes and buffer sizes; every value is legal, the defaults suit a large GPU."""

    block: int = 128  # rows and columns of a tile
    block_d: int = 64  # columns of one pipelined slice of D
    warps: int = 4  # two programs share a multiprocessor: one multiplies while the other takes exponentials
    pair_warps: int = 8  # where two tiles are live at once
    fused_warps: int = 8
    stages: int = 3
    group: int = 8  # row blocks that share column tiles in the cache
    fused_d: int = 128  # up to this D, gradients are added up in registers and dS is never stored
    fused_block: int = 64  # rows of the other side per step of that
    strip_bytes: int = 256 << 20  # dS that exists at a time
    partial_bytes: int = 64 << 20  # row and column sums of single tiles that exist at a time
    programs: int = 264  # wanted on the device before gradients of few rows are no longer split

    def strip_rows(self, N: int, bytes_per_row: int, budget: int) -> int:
        """Whole blocks of rows whose buffer fits ``budget`` (at least one block, at most what N needs)."""
        blocks = max(1, budget // max(1, bytes_per_row * self.block))
        return self.block * min(blocks, triton.cdiv(N, self.block))


def plan_for(dtype: torch.dtype) -> Plan:
    """The default plan: smaller tiles for float32, whose operands and split parts take twice the room.

    Up to ``fused_d`` float32 rows are one slice, so that similarities round alike wherever they are formed.
    """
    if dtype == torch.float32:
        return Plan(block=64, block_d=64, fused_d=64, fused_block=32, fused_warps=4)
    return Plan()


@dataclass(frozen=True)
class Operand:
    """Rows as the kernels read them: contiguous, D padded with zeros to whole slices."""

    rows: Tensor  # [N, padded]
    D: int

    def __len__(self) -> int:
        return self.rows.shape[0]

    @property
    def padded(self) -> int:
        return self.rows.shape[1]

    @property
    def values(self) -> Tensor:
        return self.rows[:, : self.D]


def operand_dtype(precision: str, *tensors: Tensor) -> torch.dtype:
    """What the products multiply: what ``precision`` names, or the type of the rows; bfloat16 if the first are that.

    A frozen reference on the other side is kept in float32 and says nothing about the precision that was meant.
    """
    if precision != "auto":
        return getattr(torch, precision)
    if tensors[0].dtype == torch.bfloat16 or all(t.dtype == torch.float16 for t in tensors):
        return tensors[0].dtype
    return torch.float32


def dot_precision(precision: str, dtype: torch.dtype) -> str:
    """How float32 rows are multiplied: "float32" on the CUDA cores, "auto" on tensor cores in three products.

    Both are float32 to rounding; single TF32 products are never used, whatever torch is told to allow elsewhere.
    """
    return "tf32x3" if dtype == torch.float32 and precision == "auto" else "ieee"


def slice_width(D: int, plan: Plan) -> int:
    """Columns of one pipelined slice: the plan's, less for very short rows."""
    return min(plan.block_d, max(16, triton.next_power_of_2(D)))


def operand(x: Tensor, dtype: torch.dtype, plan: Plan, *, one_slice: bool = False) -> Operand:
    """``x`` [N, D] for the kernels, no copy where it already is that; ``one_slice``: D padded to a power of two."""
    D = x.shape[1]
    x = x.detach().to(dtype)
    if x.device.type == "cpu" and dtype == torch.bfloat16:
        # Triton's interpreter would multiply the bits of bfloat16: it gets the same values as float32.
        x = x.float()
    width = slice_width(D, plan)
    padded = max(width, triton.cdiv(D, width) * width)
    padded = triton.next_power_of_2(padded) if one_slice else padded
    if padded != D:
        whole = x.new_zeros(x.shape[0], padded)
        whole[:, :D] = x
        x = whole
    x = x.contiguous()
    # Loads of 16 bytes need such addresses; a slice of a larger tensor may start anywhere.
    return Operand(x.clone() if x.data_ptr() % 16 else x, D)


def scalar(value: Any, device: torch.device) -> Tensor:
    """A float or a 0-d tensor as one float32 on ``device``, without waiting for it."""
    if isinstance(value, Tensor):
        return value.detach().reshape(1).to(device, torch.float32, non_blocking=True)
    return torch.full((1,), float(value), dtype=torch.float32, device=device)


def on_device(device: torch.device) -> AbstractContextManager:
    """Triton launches on the current device: make it the one of the tensors."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


@triton.jit
def tile_place(row_blocks, column_blocks, GROUP: tl.constexpr):
    # Programs of a group of row blocks walk the columns together, so that both operands stay in the cache.
    pid = tl.program_id(0)
    first = pid // (GROUP * column_blocks) * GROUP
    height = tl.minimum(row_blocks - first, GROUP)
    inside = pid % (GROUP * column_blocks)
    return first + inside % height, inside // height


@triton.jit
def product(
    a_ptr,  # [N, DP]
    b_ptr,  # [M, DP]
    rows,  # [BLOCK]
    columns,  # [BLOCK]
    N,
    M,
    DP: tl.constexpr,
    BLOCK: tl.constexpr,
    BLOCK_D: tl.constexpr,
    PRECISION: tl.constexpr,
):
    # Clamped instead of masked: the pipelined loop has no predicates; excess rows and columns are dropped later.
    lanes = tl.arange(0, BLOCK_D)
    a_tile = a_ptr + tl.minimum(rows, N - 1).to(tl.int64)[:, None] * DP + lanes[None, :]
    b_tile = b_ptr + tl.minimum(columns, M - 1).to(tl.int64)[None, :] * DP + lanes[:, None]
    dots = tl.zeros([BLOCK, BLOCK], tl.float32)
    for start in range(0, DP, BLOCK_D):
        dots = tl.dot(tl.load(a_tile + start), tl.load(b_tile + start), dots, input_precision=PRECISION)
    return dots


@triton.jit
def halves(tile, HEIGHT: tl.constexpr, WIDTH: tl.constexpr):
    # Left and right half of the columns; both stay in the registers they are in.
    return tl.split(tl.permute(tl.reshape(tile, [HEIGHT, 2, WIDTH // 2]), (0, 2, 1)))


@triton.jit
def quarters(tile, BLOCK: tl.constexpr):
    # A tile and its exponentials do not fit the registers together: what follows the product takes it in pieces.
    left, right = halves(tile, BLOCK, BLOCK)
    one, two = halves(left, BLOCK, BLOCK // 2)
    three, four = halves(right, BLOCK, BLOCK // 2)
    return one, two, three, four


@triton.jit
def ids_meet(row_id, column_id):
    # Whether a pair of the tile may be positive: few tiles are, where ids are positions or sorted labels.
    return (tl.min(row_id, 0) <= tl.max(column_id, 0)) & (tl.min(column_id, 0) <= tl.max(row_id, 0))


@triton.jit
def crosses_diagonal(row, column, shift, HEIGHT: tl.constexpr, WIDTH: tl.constexpr):
    # Whether a tile that starts at (row, column) holds a pair with i + shift = j.
    return (row + shift < column + WIDTH) & (column < row + shift + HEIGHT)


@triton.jit
def drop_pairs(x, row, column, end, M, shift, EXCLUDE: tl.constexpr, BLOCK: tl.constexpr):
    # −inf where there is no pair or an excluded one; the tile starts at (row, column).
    rows, columns = row + tl.arange(0, BLOCK), column + tl.arange(0, BLOCK)
    if (row + BLOCK > end) | (column + BLOCK > M):
        x = tl.where((rows < end)[:, None] & (columns < M)[None, :], x, float("-inf"))
    if EXCLUDE:
        if crosses_diagonal(row, column, shift, BLOCK, BLOCK):
            x = tl.where(rows[:, None] + shift == columns[None, :], float("-inf"), x)
    return x
