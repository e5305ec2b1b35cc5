"""KDR-style replay: pairs of two modalities, and the matrix of their similarities as the earlier model saw it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from pyfast_mmcl._errors import InputError, number_from_zero
from pyfast_mmcl.losses import SimilarityDistillation
from pyfast_mmcl.ops.contrastive import info_nce
from pyfast_mmcl.train.answers import WhileUnchanged, class_means, collect, in_slices
from pyfast_mmcl.train.part import Part
from pyfast_mmcl.train.parts import Replay, check_labels
from pyfast_mmcl.train.registry import recipe
from pyfast_mmcl.train.teacher import Teacher

if TYPE_CHECKING:
    from pyfast_mmcl.data import Batch, Task
    from pyfast_mmcl.models import Output
    from pyfast_mmcl.train.learner import Learner

# CLIP §2.5 keeps the scale of the similarities at 100 or below.
_MAX_LOG_SCALE = math.log(100)


class PairContrast(Part):
    """weight · InfoNCE(V, T) over the fresh pairs or over the replayed ones: no negative crosses between the two."""

    def __init__(self, rows: str, weight: float = 1.0) -> None:
        self.rows = rows
        self.weight = weight

    @property
    def name(self) -> str:
        return f"pair_contrast_{self.rows}"

    def before_task(self, learner: Learner, task: Task) -> None:
        if not isinstance(getattr(learner.model, "logit_scale", None), Tensor):
            raise InputError(
                f"kdr: expected a model of two towers with a logit_scale, got {type(learner.model).__name__}; "
                "use models.DualEncoder, or leave the model out."
            )

    def loss(self, learner: Learner, batch: Batch, out: Output) -> Tensor | None:
        v, t = two_sides(out)
        rows = torch.arange(len(batch), device=batch.device)
        rows = rows < batch.fresh if self.rows == "fresh" else rows >= batch.fresh
        paired = rows & is_pair(v, t)
        if self.weight == 0 or int(paired.sum()) < 2:
            return None
        return self.weight * info_nce(v[paired], t[paired], scale_of(learner.model))


class SimilarityKeeping(Part):
    """weight · T² · ½ [KL(P'_vt ‖ P_vt) + KL(P'_tv ‖ P_tv)], P = softmax(s V Tᵀ / T), P' of the model before the task.

    The rows are all pairs of the batch, fresh and replayed; the mean over rows.
    """

    def __init__(self, weight: float, temperature: float) -> None:
        self.weight = weight
        self.distance = SimilarityDistillation(temperature)
        self.teacher_ = Teacher()

    def before_task(self, learner: Learner, task: Task) -> None:
        if task.id > 0 and self.weight > 0:
            self.teacher_.take(learner.model)

    def loss(self, learner: Learner, batch: Batch, out: Output) -> Tensor | None:
        if not self.teacher_:
            return None
        v, t = two_sides(out)
        paired = is_pair(v, t)
        if int(paired.sum()) < 2:
            return None
        old_v, old_t = two_sides(self.teacher_(batch, learner.model))
        return self.weight * self.distance(
            v[paired],
            t[paired],
            old_v[paired],
            old_t[paired],
            student_scale=scale_of(learner.model),
            teacher_scale=scale_of(self.teacher_.model(learner.model)),
        )

    def state_dict(self) -> dict[str, Any]:
        return self.teacher_.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.teacher_.load_state_dict(state)


class ClassesAcross(Part):
    """Scores of a row: how similar each of its sides is to the mean of the *other* side over every class in memory.

    ``score_c = mean of v · mean_c(T) and t · mean_c(V)``, over the sides that the row and the class have
    """

    def __init__(self, replay: Replay) -> None:
        self.replay = replay
        self._means: WhileUnchanged[list[tuple[Tensor, Tensor]]] = WhileUnchanged()

    def predict(self, learner: Learner, batch: Batch, out: Output) -> Tensor | None:
        if len(self.replay.memory_) == 0:
            return None
        of_v, of_t = self._means.get(learner, lambda: self._class_means(learner, out.scores))
        v, t = two_sides(out)
        lowest = torch.finfo(torch.float32).min
        total, asked = torch.zeros_like(out.scores), torch.zeros_like(out.scores)
        for x, (means, known) in ((v, of_t), (t, of_v)):
            can = (x != 0).any(1, keepdim=True) & known
            total, asked = total + (x.float() @ means.mT) * can, asked + can.float()
        return (total / asked.clamp(min=1)).masked_fill(asked == 0, lowest)

    def _class_means(self, learner: Learner, scores: Tensor) -> list[tuple[Tensor, Tensor]]:
        """(means [C, D], known bool [C]) of either side over the rows in memory."""

        def pick(batch: Batch, out: Output) -> dict[str, Tensor]:
            v, t = two_sides(out)
            return {"v": v.float(), "t": t.float(), "target": batch.target}

        found = collect(learner, in_slices(self.replay.memory_.all()), pick)
        check_labels(scores, found["target"])
        shown = {side: (found[side] != 0).any(1) for side in ("v", "t")}
        return [class_means(found[s][here], found["target"][here], scores.shape[1]) for s, here in shown.items()]


def two_sides(out: Output) -> tuple[Tensor, Tensor]:
    """V and T [B, D] of a model with two towers. Raises InputError for another number of embeddings."""
    if len(out.modalities) != 2:
        raise InputError(f"kdr: expected the embeddings of two sides, got those of {sorted(out.modalities)}.")
    v, t = out.modalities.values()
    return v, t


def is_pair(v: Tensor, t: Tensor) -> Tensor:
    """bool [B]: rows of which both sides are there; the embedding of a missing one is 0."""
    return (v != 0).any(1) & (t != 0).any(1)


def scale_of(model: nn.Module) -> Tensor:
    """s = exp(logit_scale), at most 100; past it the gradient passes, so that the scale can come back."""
    x = model.logit_scale
    assert isinstance(x, Tensor)
    return (x - (x - _MAX_LOG_SCALE).clamp(min=0).detach()).exp()


@recipe(
    family="replay",
    paper="KDR, ACM MM 2023, doi:10.1145/3581783.3612207 (KDR-style: our specification)",
    model="dual encoder",
)
def kdr(
    capacity: int = 200,
    rows: int | None = None,
    replay_weight: float = 1.0,
    distill_weight: float = 1.0,
    temperature: float = 2.0,
) -> list[Part]:
    """KDR-style: contrastive pairs, replayed pairs, and the earlier model's cross-modal similarities kept.

    loss = info_nce(V, T)[fresh] + replay_weight · info_nce(V, T)[memory] + distill_weight · temperature² ·
           ½ (KL(P'_vt ‖ P_vt) + KL(P'_tv ‖ P_tv)),  P_vt = softmax(s V Tᵀ / temperature) over fresh and replayed pairs

    P' are the similarities of the model before the task. No label is trained on. A row is a pair of two sides; rows
    that lack one take no part in the loss.

    Accuracy is retrieval across the sides: every class stands for itself by the mean of its rows in memory, and a row
    asks with its one side for the class whose other side is nearest (R@1 among the classes seen; with both sides, the
    mean of the two directions). It falls when V and T drift apart, as retrieval of single pairs does. With both
    weights 0 the method is plain fine-tuning, answered in the same way.

    capacity        pairs in memory (200 as the other methods here; our specification says 1000 for CLIP-sized data)
    rows            pairs drawn per step; None draws as many as the batch has
    replay_weight, distill_weight  1 and 1; temperature: 2

    Needs a model of two towers (``models.DualEncoder``, or any that gives two unit embeddings and has a logit_scale).

    Reference: follows our specification; the published method (ACM MM 2023, 10.1145/3581783.3612207), of which we know
    that it replays and distils the cross-modal similarity matrix for image-text retrieval, may differ. Its split of
    features into shared and specific ones of a domain is left out.
    """
    for name, weight in {"replay_weight": replay_weight, "distill_weight": distill_weight}.items():
        number_from_zero(name, weight)
    replay = Replay(capacity, rows=rows)
    return [
        replay,
        PairContrast("fresh"),
        PairContrast("memory", replay_weight),
        SimilarityKeeping(distill_weight, temperature),
        ClassesAcross(replay),
    ]
