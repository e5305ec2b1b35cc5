"""Distillation of logits and of features: the student stays near what a teacher says."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyfast_mmcl._errors import InputError, number_above_zero, unknown_name
from pyfast_mmcl.losses._reduce import check_reduction, reduce_rows

OBJECTIVES = ("kl", "cross_entropy")
MEASURES = ("mse", "cosine")


class LogitsDistillation(nn.Module):
    """T²·KL(softmax(teacher/T) ‖ softmax(student/T)), the mean over rows.

    ``p = (teacher / T).softmax(-1);  loss = T**2 * (p * (p.log() - (student / T).log_softmax(-1))).sum(-1).mean()``

    Args:
        temperature: T > 0. 2: Li & Hoiem 2016 (LwF), and ZSCL.
        scale_T2: multiply by T², which keeps the gradient's size when T changes (Hinton et al. 2015, §2). True as
            in ZSCL; False as in the LwF of PyCIL and Avalanche.
        objective: "kl", or "cross_entropy" −Σ p log q: the same gradient, larger by the teacher's entropy (the form
            of ZSCL and LwF; it is not 0 when student = teacher).
        reduction: "mean" over rows, "sum" or "none".

    Called with student and teacher [..., C]; the teacher gets no gradient. Returns a scalar (or [...] for "none"), in
    float32 at least. A class the teacher gives −inf is left out.

    Raises:
        InputError: other shapes, no class, temperature not above 0.

    Reference: Hinton et al., Distilling the knowledge in a neural network, 2015, §2.
    """

    def __init__(
        self, temperature: float = 2.0, *, scale_T2: bool = True, objective: str = "kl", reduction: str = "mean"
    ) -> None:
        super().__init__()
        if objective not in OBJECTIVES:
            raise unknown_name("objective", objective, OBJECTIVES)
        self.temperature = number_above_zero("temperature", temperature)
        self.scale_T2 = scale_T2
        self.objective = objective
        self.reduction = check_reduction(reduction)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        _check_alike(student, teacher)
        log_q = (_wide(student) / self.temperature).log_softmax(-1)
        log_p = (_wide(teacher.detach()) / self.temperature).log_softmax(-1)
        p = log_p.exp()
        gap = -log_q if self.objective == "cross_entropy" else log_p - log_q
        # 0·log 0 is 0: a class that the teacher excludes must not turn the row into NaN.
        rows = torch.where(p == 0, 0.0, p * gap).sum(-1)
        factor = self.temperature**2 if self.scale_T2 else 1.0
        return factor * reduce_rows(rows, self.reduction)

    def extra_repr(self) -> str:
        return f"temperature={self.temperature:g}, scale_T2={self.scale_T2}, objective={self.objective!r}"


class FeatureDistillation(nn.Module):
    """Distance of the student's features to the teacher's, the mean over rows.

    ``mse: ((student - teacher) ** 2).sum(-1).mean();  cosine: (1 - cosine_similarity(student, teacher)).mean()``

    Args:
        measure: "mse" (squared distance) or "cosine".
        average_features: divide the squared distance by D, as `torch.nn.functional.mse_loss` does; "mse" only.
        reduction: "mean" over rows, "sum" or "none".

    Called with student and teacher [..., D]; the teacher gets no gradient. Returns a scalar (or [...] for "none"), in
    float32 at least.

    Raises:
        InputError: other shapes, no feature, average_features with "cosine".

    Reference: Romero et al., FitNets, ICLR 2015; cosine: Hou et al., LUCIR, CVPR 2019.
    """

    def __init__(self, measure: str = "mse", *, average_features: bool = False, reduction: str = "mean") -> None:
        super().__init__()
        if measure not in MEASURES:
            raise unknown_name("measure", measure, MEASURES)
        if average_features and measure != "mse":
            raise InputError('average_features: only measure="mse" has a sum over features; leave it False.')
        self.measure = measure
        self.average_features = average_features
        self.reduction = check_reduction(reduction)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        _check_alike(student, teacher)
        student, teacher = _wide(student), _wide(teacher.detach())
        if self.measure == "cosine":
            rows = 1 - F.cosine_similarity(student, teacher, dim=-1)
        else:
            squares = (student - teacher).square()
            rows = squares.mean(-1) if self.average_features else squares.sum(-1)
        return reduce_rows(rows, self.reduction)

    def extra_repr(self) -> str:
        return f"measure={self.measure!r}, average_features={self.average_features}"


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _check_alike(student: Tensor, teacher: Tensor) -> None:
    if student.shape != teacher.shape:
        raise InputError(
            f"student and teacher: expected equal shapes, got {list(student.shape)} and {list(teacher.shape)}; "
            "select the same rows, and the classes that both have."
        )
    if student.ndim < 1 or student.shape[-1] < 1:
        raise InputError(f"student: expected shape [rows, features], got {list(student.shape)}.")
    if not student.is_floating_point() or not teacher.is_floating_point():
        raise InputError(
            f"student and teacher: expected floating point tensors, got {student.dtype} and {teacher.dtype}; "
            "convert with .float()."
        )
