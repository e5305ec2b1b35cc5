"""Embeddings held to those of the model before the task: the part behind distillation of features and of relations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from pyfast_mmcl._errors import InputError, number_from_zero, unknown_name
from pyfast_mmcl.train.part import Part
from pyfast_mmcl.train.teacher import Teacher

if TYPE_CHECKING:
    from pyfast_mmcl.data import Batch, Loader, Task
    from pyfast_mmcl.models import Output
    from pyfast_mmcl.train.learner import Learner

LEVELS = ("auto", "features", "modalities", "both")


class EmbeddingDistillation(Part):
    """weight · mean over embeddings e of distance(e, e'), e' what the model before the task gives for the same rows.

    method    its name, for messages and for the name of the term
    distance  module of (student [n, D], teacher [n, D]), a scalar
    of        "features", the joint ones before the head; "modalities", those of each modality, over the rows that have
              it; "both"; or "auto", the joint ones where the model gives them
    growing   multiply by √(earlier classes / classes of the task), as Hou et al., CVPR 2019, for their λ
    """

    def __init__(
        self, method: str, distance: nn.Module, weight: float, *, of: str = "auto", growing: bool = False
    ) -> None:
        if of not in LEVELS:
            raise unknown_name(f"choice of embeddings for {method}", of, LEVELS)
        self.method = method
        self.distance = distance
        self.weight = number_from_zero("lam", weight)
        self.of = of
        self.growing = growing
        self.teacher_ = Teacher()
        self.classes_: list[int] = []

    @property
    def name(self) -> str:
        return self.method

    def before_task(self, learner: Learner, task: Task) -> None:
        if task.id > 0 and self.weight > 0:
            self.teacher_.take(learner.model)

    def loss(self, learner: Learner, batch: Batch, out: Output) -> Tensor | None:
        if not self.teacher_:
            return None
        ours = self.embeddings(out)
        theirs = self.embeddings(self.teacher_(batch, learner.model))
        terms = []
        for name, e in ours.items():
            rows = _rows_with(name, batch, theirs[name])
            terms.append(self.distance(e[rows], theirs[name][rows]))
        return self._weight(learner) * torch.stack(terms).mean()

    def embeddings(self, out: Output) -> dict[str, Tensor]:
        """{name: [B, D]} of what is held. Raises InputError when the model gives none."""
        joint = {} if out.features is None else {"": out.features}
        chosen = {
            "features": joint,
            "modalities": out.modalities,
            "both": {**joint, **out.modalities},
            "auto": joint or out.modalities,
        }[self.of]
        if not chosen:
            wanted = "features" if self.of == "auto" else self.of
            raise InputError(
                f"{self.method}: expected a model that gives {wanted}, got none; return Output(scores, features), or "
                "Output(scores, modalities={name: embedding})."
            )
        return chosen

    def after_task(self, learner: Learner, task: Task, loader: Loader) -> None:
        self.classes_ = sorted({*self.classes_, *task.classes})

    def state_dict(self) -> dict[str, Any]:
        return {"teacher": self.teacher_.state_dict(), "classes": list(self.classes_)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.teacher_.load_state_dict(state["teacher"])
        self.classes_ = list(state["classes"])

    def _weight(self, learner: Learner) -> float:
        if not self.growing:
            return self.weight
        return self.weight * (len(self.classes_) / len(learner.task.classes)) ** 0.5


def _rows_with(name: str, batch: Batch, embedding: Tensor) -> Tensor:
    """bool [B]: rows that have the modality; a tower of several modalities gives zeros where it has none of them."""
    if name == "":
        return torch.ones(len(batch), dtype=torch.bool, device=batch.device)
    return batch.present[name] if name in batch.present else (embedding != 0).any(1)
