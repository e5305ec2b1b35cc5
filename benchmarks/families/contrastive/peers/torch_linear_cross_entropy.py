"""`torch.nn.functional.linear_cross_entropy` (torch ≥ 2.13) once per direction, with its chunking: no whole matrix.

The scale goes into one of the factors, which is where its gradient comes from.
"""

from __future__ import annotations

from benchmarks.families.contrastive.call import prepared
from benchmarks.families.contrastive.gate import FLOAT32_TOLERANCE
from benchmarks.peer import Inputs, Prepared, Unsupported, missing, version_of

TOLERANCE = FLOAT32_TOLERANCE


def unavailable() -> str | None:
    reason = missing("torch", install="torch")
    if reason:
        return reason
    from torch.nn import functional

    if not hasattr(functional, "linear_cross_entropy"):
        return "this torch has no linear_cross_entropy; install it with: pip install 'torch>=2.13'"
    return None


def versions() -> dict[str, str]:
    return version_of("torch")


def prepare(case, inputs: Inputs, options: dict) -> Prepared:
    if case.op != "info_nce":
        raise Unsupported("linear_cross_entropy gives the cross entropy of rows against their own column only")
    import torch
    from torch.nn.functional import linear_cross_entropy

    chunks = torch.nn.LinearCrossEntropyOptions()

    def loss_of(values: dict):
        a, b, scale = values["a"], values["b"], values["scale"]
        own = torch.arange(len(a), device=a.device)
        of_rows = linear_cross_entropy(scale * a, b, own, options=chunks)
        return (of_rows + linear_cross_entropy(scale * b, a, own, options=chunks)) / 2

    return prepared(case, inputs, options, loss_of)
