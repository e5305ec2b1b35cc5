"""open_clip: ClipLoss, SigLipLoss, and the distillation part of DistillClipLoss."""

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
    return missing("open_clip.loss", install="open_clip_torch")


def versions() -> dict[str, str]:
    return version_of("open_clip_torch", "torch")


def prepare(case, inputs: Inputs, options: dict) -> Prepared:
    torchvision_operators.declare()
    from open_clip.loss import ClipLoss, DistillClipLoss, SigLipLoss

    if case.op == "info_nce":
        clip = ClipLoss(cache_labels=True)
        return prepared(case, inputs, options, lambda v: clip(v["a"], v["b"], v["scale"]))
    if case.op == "siglip":
        siglip = SigLipLoss()
        return prepared(case, inputs, options, lambda v: siglip(v["a"], v["b"], v["scale"], v["bias"]))
    if case.op != "similarity_kl" or case.M:
        raise Unsupported("open_clip has no such loss")
    distill = DistillClipLoss()

    def loss_of(values: dict):
        """Without the contrastive loss, which its forward computes as well."""
        students = distill.get_logits(values["student_a"], values["student_b"], values["scale"])
        teachers = distill.get_logits(values["teacher_a"], values["teacher_b"], values["scale"])
        pairs = zip(teachers, students, strict=True)
        return sum(distill.dist_loss(teacher, student) for teacher, student in pairs) / 2

    return prepared(case, inputs, options, loss_of, loss_shift=_minus_teacher_entropy)


def _minus_teacher_entropy(values: dict) -> float:
    """dist_loss is a cross entropy: the divergence and the teacher's entropy."""
    logits = values["scale"] * values["teacher_a"].double() @ values["teacher_b"].double().T
    logs = (logits.log_softmax(1), logits.log_softmax(0).T)
    return float(sum((log.exp() * log).sum(1).mean() for log in logs) / 2)
