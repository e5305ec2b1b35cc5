"""Inf-CL's fused loss on a GPU, once per direction. It computes in TF32 whatever the input."""

from __future__ import annotations

from benchmarks.families.contrastive.call import prepared
from benchmarks.families.contrastive.gate import TF32_TOLERANCE
from benchmarks.peer import Inputs, Prepared, Unsupported, missing, version_of

TOLERANCE = TF32_TOLERANCE


def unavailable() -> str | None:
    reason = missing("torch", "triton", install="torch triton")
    if reason:
        return reason
    import torch

    if not torch.cuda.is_available():
        return "Inf-CL needs a CUDA GPU"
    return missing("inf_cl", install="inf-cl")


def versions() -> dict[str, str]:
    return version_of("inf-cl", "triton", "torch")


def prepare(case, inputs: Inputs, options: dict) -> Prepared:
    from inf_cl import cal_flash_loss

    if case.op != "info_nce" or case.D % 256:
        raise Unsupported("Inf-CL has the CLIP loss only, of a width that its heads of 256 divide")

    def loss_of(values: dict):
        a, b, scale = values["a"], values["b"], values["scale"]
        return (cal_flash_loss(a, b, scale=scale).mean() + cal_flash_loss(b, a, scale=scale).mean()) / 2

    return prepared(case, inputs, options, loss_of, warm_whole=True, backend="triton")
