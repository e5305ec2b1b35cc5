"""Plain torch as a careful user writes it: the matrix of similarities once, cross entropy of it and of its transpose.

With `compile` the same functions under torch.compile; with `autocast` their products in bfloat16.
"""

from __future__ import annotations

from benchmarks.families.contrastive.call import prepared
from benchmarks.families.contrastive.gate import BFLOAT16_TOLERANCE, FLOAT32_TOLERANCE, TF32_TOLERANCE
from benchmarks.peer import Inputs, Prepared, missing, version_of

TOLERANCE = FLOAT32_TOLERANCE


def unavailable() -> str | None:
    return missing("torch", install="torch")


def versions() -> dict[str, str]:
    return version_of("torch")


def tolerance(options: dict) -> float:
    if options.get("autocast"):
        return BFLOAT16_TOLERANCE
    return TF32_TOLERANCE if options.get("tf32") else TOLERANCE


def prepare(case, inputs: Inputs, options: dict) -> Prepared:
    import torch

    formula = {"info_nce": _clip, "siglip": _siglip, "similarity_kl": _kl}.get(case.op, _views)
    compiles = bool(options.get("compile"))
    if compiles:
        formula = torch.compile(formula, dynamic=False)
    if not options.get("autocast"):
        return prepared(case, inputs, options, formula, warm_whole=compiles)

    def under_autocast(values: dict):
        with torch.autocast(options.get("device", "cpu"), torch.bfloat16):
            return formula(values)

    return prepared(case, inputs, options, under_autocast, warm_whole=compiles)


def _clip(values: dict):
    import torch
    from torch.nn.functional import cross_entropy

    logits = values["scale"] * (values["a"] @ values["b"].T)
    own = torch.arange(len(logits), device=logits.device)
    return (cross_entropy(logits, own) + cross_entropy(logits.T, own)) / 2


def _siglip(values: dict):
    import torch
    from torch.nn.functional import softplus

    logits = values["scale"] * (values["a"] @ values["b"].T) + values["bias"]
    return (softplus(logits).sum() - torch.diagonal(logits).sum()) / len(logits)


def _views(values: dict):
    """Self-similarities at −∞, the positives' mean subtracted; labels make it SupCon, their absence NT-Xent."""
    import torch
    from torch.nn.functional import cross_entropy, normalize

    u = normalize(values["z"], dim=1)
    count = len(u)
    logits = (values["scale"] * (u @ u.T)).fill_diagonal_(-torch.inf)
    if "labels" not in values:
        partner = (torch.arange(count, device=u.device) + count // 2) % count
        return cross_entropy(logits, partner)
    labels = values["labels"]
    positive = (labels[:, None] == labels).fill_diagonal_(False)
    of_positives = logits.masked_fill(~positive, 0).sum(1) / positive.sum(1)
    return (logits.logsumexp(1) - of_positives).mean()


def _kl(values: dict):
    import torch
    from torch.nn.functional import kl_div, log_softmax

    scale = values["scale"]
    s_b, t_b = (values.get("bank", values.get(name)) for name in ("student_b", "teacher_b"))
    student = scale * (values["student_a"] @ s_b.T)
    with torch.no_grad():
        teacher = scale * (values["teacher_a"] @ t_b.T)

    def divergence(dim: int):
        logs = log_softmax(student, dim), log_softmax(teacher, dim)
        return kl_div(*logs, reduction="sum", log_target=True) / student.shape[1 - dim]

    return divergence(1) if "bank" in values else (divergence(1) + divergence(0)) / 2
