"""What methods share that leave CLIP's weights as they are and give every task a way of its own through the towers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.models import Output
from pyfast_mmcl.models.clip import ClipModel
from pyfast_mmcl.models.heads import is_masked
from pyfast_mmcl.models.routes import Routed
from pyfast_mmcl.train.answers import WhileUnchanged
from pyfast_mmcl.train.parts import Objective, check_labels

if TYPE_CHECKING:
    from pyfast_mmcl.data import Batch
    from pyfast_mmcl.train.learner import Learner


class TaskObjective(Objective):
    """Cross-entropy over the classes of the current task alone; of a stream of pairs, InfoNCE as Objective.

    smoothing  share of the label that is spread over these classes
    """

    def __init__(self, smoothing: float = 0.0) -> None:
        super().__init__("fresh")
        if not isinstance(smoothing, int | float) or not 0 <= smoothing < 1:
            raise InputError(f"smoothing: expected a share in [0, 1), got {smoothing!r}.")
        self.smoothing = float(smoothing)

    def loss(self, learner: Learner, batch: Batch, out: Output) -> Tensor | None:
        if learner.objective != "classify":
            return super().loss(learner, batch, out)
        target = batch.target[: batch.fresh]
        if len(target) == 0:
            return None
        check_labels(out.scores, target)
        own = torch.tensor(sorted(learner.task.classes), device=batch.device)
        scores = out.scores[: batch.fresh, own]
        return cross_entropy(scores, torch.searchsorted(own, target), label_smoothing=self.smoothing)


class WayAnswers:
    """Scores of rows that go different ways through one CLIP: scale · v · T_way(row), T_w the classes' texts in way w.

    The texts are encoded once per way and kept until a weight changes.
    """

    def __init__(self) -> None:
        self._texts: WhileUnchanged[Tensor] = WhileUnchanged()

    def __call__(self, learner: Learner, ways: Routed, batch: Batch, out: Output, way: Tensor) -> Output:
        """The answer for ``batch``; way int64 [B], −1 for rows of the model without attachment where it allows that.

        out: what the model said without it; its masked classes stay masked.
        """
        if len(batch) == 0:
            return out
        model = clip_of(learner, "clip")
        with ways.rows(way):
            asking, sides = model.encode(batch)
        if learner.objective != "classify":
            return Output(out.scores, asking, sides)
        texts = self._texts.get(learner, lambda: self._encode(model, ways))
        scores = torch.einsum("bd,wcd->bwc", asking, texts)[torch.arange(len(way), device=way.device), way + 1]
        scores = (model.scale() * scores).to(out.scores.dtype)
        return Output(scores.masked_fill(is_masked(out.scores), torch.finfo(scores.dtype).min), asking, sides)

    def forget(self) -> None:
        self._texts.forget()

    @torch.no_grad()
    def _encode(self, model: ClipModel, ways: Routed) -> Tensor:
        """Class embeddings [W + 1, C, D] of every way, that of −1 first."""
        found = []
        for way in range(-1, ways.n_ways):
            with ways.rows(way):
                found.append(model.class_features())
        return torch.stack(found)


def clip_of(learner: Learner, method: str) -> ClipModel:
    """The learner's CLIP model. Raises InputError for a model of another kind."""
    if not isinstance(learner.model, ClipModel):
        raise InputError(
            f"{method}: expected a CLIP model, got {type(learner.model).__name__}; "
            "give models.ClipModel, or leave the model out."
        )
    return learner.model


def frozen_embeddings(model: ClipModel, ways: Routed, batch: Batch) -> Tensor:
    """Unit embeddings [B, D] of the rows that ask, by CLIP as it was before any attachment."""
    with torch.no_grad(), ways.rows(-1):
        return model.encode(batch)[0].float()
