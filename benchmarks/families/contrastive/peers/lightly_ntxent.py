"""lightly's NTXentLoss of two views; it normalises the rows itself."""

from __future__ import annotations

from benchmarks.families.contrastive import torchvision_operators
from benchmarks.families.contrastive.call import prepared
from benchmarks.families.contrastive.gate import FLOAT32_TOLERANCE
from benchmarks.peer import Inputs, Prepared, Unsupported, missing, version_of

TOLERANCE = FLOAT32_TOLERANCE


def unavailable() -> str | None:
    reason = missing("torch", install="torch")
    if reason:
        return reason
    torchvision_operators.declare()
    return missing("lightly.loss.ntx_ent_loss", install="--no-deps lightly")


def versions() -> dict[str, str]:
    return version_of("lightly", "torch")


def prepare(case, inputs: Inputs, options: dict) -> Prepared:
    torchvision_operators.declare()
    from lightly.loss.ntx_ent_loss import NTXentLoss

    if case.op != "nt_xent":
        raise Unsupported("lightly's contrastive loss has one positive per row")

    def loss_of(values: dict):
        views = values["z"].chunk(2)
        return NTXentLoss(temperature=1 / values["scale"])(*views)

    return prepared(case, inputs, options, loss_of)
