"""pytorch-metric-learning: NTXentLoss and SupConLoss; both normalise the rows themselves.

With one positive per row SupCon is NT-Xent, and its loss does not list all pairs of pairs: `as_sup_con` uses it for
both.
"""

from __future__ import annotations

from benchmarks.families.contrastive.call import prepared
from benchmarks.families.contrastive.gate import FLOAT32_TOLERANCE
from benchmarks.peer import Inputs, Prepared, Unsupported, missing, version_of

TOLERANCE = FLOAT32_TOLERANCE


def unavailable() -> str | None:
    return missing("torch", "pytorch_metric_learning.losses", install="pytorch-metric-learning")


def versions() -> dict[str, str]:
    return version_of("pytorch-metric-learning", "torch")


def prepare(case, inputs: Inputs, options: dict) -> Prepared:
    import torch
    from pytorch_metric_learning.losses import NTXentLoss, SupConLoss

    if case.op not in ("nt_xent", "sup_con"):
        raise Unsupported("pytorch-metric-learning has no such loss")
    with_pairs = case.op == "nt_xent" and not options.get("as_sup_con")

    def loss_of(values: dict):
        z = values["z"]
        labels = values.get("labels", torch.arange(len(z), device=z.device) % (len(z) // 2))
        loss = (NTXentLoss if with_pairs else SupConLoss)(temperature=1 / values["scale"])
        return loss(z, labels)

    return prepared(case, inputs, options, loss_of)
