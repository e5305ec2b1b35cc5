"""siglip-kernel's fused SigLIP loss on a GPU; it takes the logarithm of the scale."""

from __future__ import annotations

from benchmarks.families.contrastive.call import prepared
from benchmarks.families.contrastive.gate import BFLOAT16_TOLERANCE
from benchmarks.peer import Inputs, Prepared, Unsupported, missing, version_of

TOLERANCE = BFLOAT16_TOLERANCE


def unavailable() -> str | None:
    reason = missing("torch", "triton", install="torch triton")
    if reason:
        return reason
    import torch

    if not torch.cuda.is_available():
        return "siglip-kernel needs a CUDA GPU"
    return missing("siglip_kernel", install="siglip-kernel")


def versions() -> dict[str, str]:
    return version_of("siglip-kernel", "triton", "torch")


def prepare(case, inputs: Inputs, options: dict) -> Prepared:
    from siglip_kernel import fused_siglip_loss

    if case.op != "siglip":
        raise Unsupported("siglip-kernel has the SigLIP loss only")

    def loss_of(values: dict):
        return fused_siglip_loss(values["a"], values["b"], values["scale"].log(), values["bias"])

    return prepared(case, inputs, options, loss_of, warm_whole=True, backend="triton")
