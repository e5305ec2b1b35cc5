"""Low-precision images of rows with rigorous error bounds, packed on the GPU in one pass.

A stored row is ``v = (x * inv - mean) * 2**-exponent`` rounded to ``dtype`` (``inv = 1/|x|`` for cosine, else 1).
Centring and power-of-two scaling leave every ranking unchanged and make the bounds tight: an offset of 1e4 or
norms of 1e30 cost no precision. Beside the image stand ``norm >= |v|``, ``rho >= |v - stored|`` (computed in
float64, rounded up) and ``bias`` (``-|v|^2/2`` for l2, else 0). Rows that are not finite or 2**15 times longer
than the typical row get ``bias = -inf``: the scan skips them and the caller ranks them exactly.

The screening type is float16: once rows are scaled to a typical length near 1 its range suffices, tensor cores run
it as fast as bfloat16, and its three further bits make ``rho`` eight times smaller.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
import triton
import triton.language as tl

SAMPLE_ROWS = 4096
# Scales of a query and of the typical stored row differ by at most this many binary orders.
QUERY_SPAN = 60

_NO_PREPASS = tl.constexpr(0)
_NORMALISE = tl.constexpr(1)
_RESCALE = tl.constexpr(2)


@triton.jit(
    do_not_specialize=["N", "D", "stride_n", "stride_d", "exponent", "lowest", "highest"],
    # Given rows may start anywhere, and so do the per-row numbers at the end of a growing bank.
    do_not_specialize_on_alignment=["x_ptr", "norm_ptr", "rho_ptr", "bias_ptr", "exponent_ptr"],
)
def pack_kernel(
    x_ptr,  # [N, D] any float dtype, any strides
    mean_ptr,  # [DP] float64
    out_ptr,  # [N, DP] float16 or float32
    norm_ptr,  # [N] float32
    rho_ptr,  # [N] float32
    bias_ptr,  # [N] float32
    exponent_ptr,  # [N] int32, written with PREPASS == 2
    N,
    D,
    stride_n,
    stride_d,
    exponent,
    lowest,
    highest,
    DP: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    PREPASS: tl.constexpr,
    L2: tl.constexpr,
    QUERY: tl.constexpr,
):
    rows = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    live = rows < N
    lanes = tl.arange(0, BLOCK_D)
    x_rows = x_ptr + rows.to(tl.int64)[:, None] * stride_n
    out_rows = out_ptr + rows.to(tl.int64)[:, None] * DP

    inverse = tl.full([BLOCK_N], 1.0, tl.float64)
    power = tl.zeros([BLOCK_N], tl.int64) + exponent
    if PREPASS != _NO_PREPASS:
        square = tl.zeros([BLOCK_N], tl.float64)
        for start in range(0, DP, BLOCK_D):
            d = start + lanes
            inside = live[:, None] & (d < D)[None, :]
            x = tl.load(x_rows + d.to(tl.int64)[None, :] * stride_d, mask=inside, other=0.0).to(tl.float64)
            if PREPASS == _RESCALE:
                x = x - tl.load(mean_ptr + d)[None, :]
            square += tl.sum(x * x, axis=1)
        if PREPASS == _NORMALISE:
            # A zero row keeps inverse = 0, so its cosine with anything is 0.
            inverse = tl.where(square > 0.0, 1.0 / tl.sqrt(tl.where(square > 0.0, square, 1.0)), 0.0)
            inverse = tl.where(square == square, inverse, square)
        else:
            # Half the binary exponent of |x|^2, read from the bits: exact on every device.
            power = ((square.to(tl.int64, bitcast=True) >> 52) - 1023) >> 1
            power = tl.minimum(tl.maximum(power, lowest), highest)
            tl.store(exponent_ptr + rows, power.to(tl.int32), mask=live)
    scale = ((1023 - power) << 52).to(tl.float64, bitcast=True)

    square = tl.zeros([BLOCK_N], tl.float64)
    rest_square = tl.zeros([BLOCK_N], tl.float64)
    for start in range(0, DP, BLOCK_D):
        d = start + lanes
        inside = live[:, None] & (d < D)[None, :]
        x = tl.load(x_rows + d.to(tl.int64)[None, :] * stride_d, mask=inside, other=0.0).to(tl.float64)
        v = (x * inverse[:, None] - tl.load(mean_ptr + d)[None, :]) * scale[:, None]
        v = tl.where(inside, v, 0.0)
        single = v.to(tl.float32)
        # Denormals would be flushed by some units: store zero and let rho carry the difference.
        # Larger values and NaN belong to rows that are skipped: no image may hold what a product could turn into NaN.
        size = tl.abs(single)
        single = tl.where((size >= 2.0**-125) & (size <= 2.0**15), single, 0.0)
        image = single.to(out_ptr.dtype.element_ty)
        rest = v - image.to(tl.float32).to(tl.float64)
        square += tl.sum(v * v, axis=1)
        rest_square += tl.sum(rest * rest, axis=1)
        tl.store(out_rows + d[None, :], image, mask=live[:, None])

    # No value of a usable row exceeds 2**15, well inside float16. NaN compares false.
    usable = square <= 2.0**30
    up = 1.0 + 2.0**-20
    norm = (tl.sqrt(square) * up).to(tl.float32)
    rho = (tl.sqrt(rest_square) * up).to(tl.float32)
    bias = tl.zeros([BLOCK_N], tl.float32)
    if L2:
        bias = (-0.5 * square).to(tl.float32)
    if QUERY:
        norm = tl.where(usable, norm, float("inf"))
    else:
        norm = tl.where(usable, norm, 0.0)
        bias = tl.where(usable, bias, float("-inf"))
    tl.store(norm_ptr + rows, norm, mask=live)
    tl.store(rho_ptr + rows, tl.where(usable, rho, 0.0), mask=live)
    tl.store(bias_ptr + rows, bias, mask=live)


@dataclass(frozen=True)
class Frame:
    """Centre and scale of ``v = (x * inv - mean) * 2**-exponent``; any values are valid, good ones are fast."""

    metric: str
    D: int
    padded: int  # D rounded up to the stage width
    mean: torch.Tensor  # [padded] float64
    exponent: int
    mean_norm: float  # |mean| * 2**-exponent


@dataclass
class Packed:
    """Images of rows and their bounds; ``exponent`` is per row for queries and unused for stored rows."""

    image: torch.Tensor  # [N, padded]
    norm: torch.Tensor  # [N] float32
    rho: torch.Tensor  # [N] float32
    bias: torch.Tensor  # [N] float32
    exponent: torch.Tensor  # [N] int32

    def __len__(self) -> int:
        return self.image.shape[0]

    def part(self, rows: slice | torch.Tensor) -> Packed:
        return Packed(self.image[rows], self.norm[rows], self.rho[rows], self.bias[rows], self.exponent[rows])


def on_device(device: torch.device) -> AbstractContextManager:
    """Triton launches on the current device: make it the one of the tensors."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def power_of_two(exponent: torch.Tensor) -> torch.Tensor:
    """2**exponent in float64, exactly, from the bits; |exponent| < 1023."""
    return ((exponent.long() + 1023) << 52).view(torch.float64)


def stage_width(D: int) -> int:
    """Width of one pipelined slice of D: 64 columns, less for very short rows."""
    return 16 if D <= 16 else 32 if D <= 32 else 64


def fit_frame(rows: torch.Tensor, metric: str) -> Frame:
    """Choose centre and scale from up to 4096 evenly spaced rows.  rows [M, D]."""
    M, D = rows.shape
    width = stage_width(D)
    padded = max(width, -(-D // width) * width)
    mean = torch.zeros(padded, dtype=torch.float64, device=rows.device)
    step = max(1, M // SAMPLE_ROWS)
    sample = rows[::step][:SAMPLE_ROWS].double()
    norms = torch.linalg.vector_norm(sample, dim=1)
    sample = sample[torch.isfinite(norms)]
    if metric == "cosine":
        norms = torch.linalg.vector_norm(sample, dim=1, keepdim=True)
        sample = torch.where(norms > 0, sample / norms, torch.zeros_like(sample))
    if len(sample) == 0:
        return Frame(metric, D, padded, mean, 0, 0.0)
    # Typical rows set centre and scale: one very long row would otherwise blur all others.
    norms = torch.linalg.vector_norm(sample, dim=1)
    mean[:D] = sample[norms <= 16 * norms.sort().values[len(norms) // 2]].mean(dim=0)
    norms = torch.linalg.vector_norm(sample - mean[:D], dim=1)
    norms = norms[norms > 0].sort().values
    exponent = 0
    if len(norms):
        # Within the range in which a power of two and its square are normal float64 numbers.
        exponent = max(-500, min(500, int(torch.frexp(norms[len(norms) // 2])[1])))
    return Frame(metric, D, padded, mean, exponent, float(torch.linalg.vector_norm(mean)) * 2.0**-exponent)


def empty_packed(N: int, frame: Frame, dtype: torch.dtype, device: torch.device) -> Packed:
    """Room for N packed rows."""
    image = torch.empty((N, frame.padded), dtype=dtype, device=device)
    norm, rho, bias = (torch.empty(N, dtype=torch.float32, device=device) for _ in range(3))
    return Packed(image, norm, rho, bias, torch.zeros(N, dtype=torch.int32, device=device))


def pack_into(rows: torch.Tensor, frame: Frame, out: Packed, *, query: bool) -> None:
    """Write images and bounds of ``rows`` [N, D] into ``out`` (N rows)."""
    N = len(rows)
    if N == 0:
        return
    prepass, mean, lowest, highest = _NO_PREPASS, frame.mean, frame.exponent, frame.exponent
    if frame.metric == "cosine":
        prepass = _NORMALISE
    elif query:
        prepass = _RESCALE
    if query and frame.metric != "l2":
        # <q, x - mean> ranks like <q, x>: only the stored side is centred.
        mean, lowest, highest = torch.zeros_like(frame.mean), -500, 500
    elif query:
        lowest, highest = frame.exponent - QUERY_SPAN, frame.exponent + QUERY_SPAN
    block_n, block_d = 16, min(64, frame.padded)
    with on_device(rows.device):
        pack_kernel[(triton.cdiv(N, block_n),)](
            rows,
            mean,
            out.image,
            out.norm,
            out.rho,
            out.bias,
            out.exponent,
            N,
            frame.D,
            rows.stride(0),
            rows.stride(1),
            0 if query and frame.metric == "cosine" else frame.exponent,
            lowest,
            highest,
            DP=frame.padded,
            BLOCK_N=block_n,
            BLOCK_D=block_d,
            PREPASS=prepass.value,
            L2=frame.metric == "l2",
            QUERY=query,
            num_warps=4,
        )


def pack(rows: torch.Tensor, frame: Frame, dtype: torch.dtype, *, query: bool = False) -> Packed:
    """Images and bounds of ``rows`` [N, D] in ``frame``."""
    out = empty_packed(len(rows), frame, dtype, rows.device)
    pack_into(rows, frame, out, query=query)
    return out
