"""Plain torch: one matrix product and topk, in chunks of queries so that the score matrix stays below 256 MiB."""

from __future__ import annotations

import dataclasses

from benchmarks.families.knn.data import Inputs
from benchmarks.families.knn.gate import FLOAT32_TOLERANCE, TF32_TOLERANCE
from benchmarks.peer import Prepared, missing, version_of

TOLERANCE = FLOAT32_TOLERANCE
CHUNK_BYTES = 256 << 20


def unavailable() -> str | None:
    return missing("torch", install="torch")


def versions() -> dict[str, str]:
    return version_of("torch")


def tolerance(options: dict) -> float:
    return TF32_TOLERANCE if options.get("tf32") else TOLERANCE


def to_device(inputs: Inputs, device: str) -> Inputs:
    """The same inputs as torch tensors of the case's dtype on `device`."""
    import torch

    dtype = getattr(torch, inputs.case.dtype)
    arrays = {}
    for name, array in inputs.arrays.items():
        writable = array.copy() if device == "cpu" and array.nbytes < CHUNK_BYTES else array
        arrays[name] = torch.as_tensor(writable).to(device=device, dtype=dtype)
    return dataclasses.replace(inputs, arrays=arrays)


def prepare(case, inputs: Inputs, options: dict) -> Prepared:
    import torch

    device = options.get("device", "cpu")
    torch.backends.cuda.matmul.allow_tf32 = bool(options.get("tf32"))
    inputs = to_device(inputs, device)
    if case.op == "lloyd_step":
        return Prepared(lambda: _lloyd(torch, *inputs.next()), _lloyd_arrays, backend=device)
    return Prepared(lambda: _search(torch, *inputs.next(), case), search_arrays, backend=device)


def _scores(torch, rows, others, metric: str):
    """[n, D], [M, D] → [n, M]; larger is nearer."""
    if metric == "l2":
        return torch.addmm(
            -0.5 * torch.linalg.vector_norm(others.float(), dim=1).square(), rows.float(), others.float().T
        )
    if metric == "cosine":
        rows, others = (torch.nn.functional.normalize(side, dim=1) for side in (rows, others))
    return rows @ others.T


def _search(torch, rows, others, case):
    chunk = max(1, CHUNK_BYTES // (4 * len(others)))
    parts = []
    for start in range(0, len(rows), chunk):
        part = rows[start : start + chunk]
        scores, ids = _scores(torch, part, others, case.metric).topk(case.k or 1, dim=1)
        if case.metric == "l2":
            scores = part.float().square().sum(1, keepdim=True) - 2 * scores
        parts.append((scores, ids))
    return tuple(torch.cat(column) for column in zip(*parts, strict=True))


def _lloyd(torch, rows, centers):
    """One Lloyd iteration as a torch user writes it: assign, then index_add."""
    chunk = max(1, CHUNK_BYTES // (4 * len(centers)))
    labels = torch.cat(
        [_scores(torch, rows[i : i + chunk], centers, "l2").argmax(1) for i in range(0, len(rows), chunk)]
    )
    sums = torch.zeros_like(centers).index_add_(0, labels, rows)
    return sums, torch.bincount(labels, minlength=len(centers))


def search_arrays(result) -> dict:
    return {"distances": result[0].float().cpu().numpy(), "ids": result[1].cpu().numpy()}


def _lloyd_arrays(result) -> dict:
    sums, counts = (part.cpu().numpy() for part in result)
    return {"centers": sums / counts.clip(1)[:, None]}
