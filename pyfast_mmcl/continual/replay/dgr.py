"""Deep generative replay: rows of earlier tasks are made up, and answered as the model before the task would."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from pyfast_mmcl._errors import InputError, unknown_name
from pyfast_mmcl.losses import LogitsDistillation
from pyfast_mmcl.models.heads import is_masked
from pyfast_mmcl.train.generator import GeneratedRows
from pyfast_mmcl.train.part import Part
from pyfast_mmcl.train.parts import Replay, check_labels, refuse_pairs
from pyfast_mmcl.train.registry import recipe
from pyfast_mmcl.train.teacher import Teacher

if TYPE_CHECKING:
    from pyfast_mmcl.data import Batch, Loader, Task
    from pyfast_mmcl.models import Output
    from pyfast_mmcl.train.learner import Learner

LABELS = ("soft", "hard")
_SAID = "scores of the earlier model"


class Dreams(Replay):
    """Rows of a generator beside the fresh ones, with what the model before the task answers for them.

    share  of the fresh rows in the loss; with 1 nothing is made up and no generator is taught
    """

    def __init__(self, source: GeneratedRows, *, rows: int | None, share: float | None) -> None:
        super().__init__(source=source, rows=rows)
        self.generator = source
        self.share = share
        self.teacher_ = Teacher()

    def before_task(self, learner: Learner, task: Task) -> None:
        if task.id > 0 and self.share != 1:
            self.teacher_.take(learner.model)

    def draw(self, learner: Learner, batch: Batch, n: int) -> Batch:
        rows = self.generator.to(batch.device).sample(n, learner.generator)
        said = self.teacher_(rows, learner.model).scores
        target = torch.where(rows.target >= 0, rows.target, said.argmax(-1))
        return replace(rows, target=target, extras={_SAID: said})

    def after_task(self, learner: Learner, task: Task, loader: Loader) -> None:
        if self.share != 1:
            super().after_task(learner, task, loader)

    def state_dict(self) -> dict[str, Any]:
        return {"source": super().state_dict(), "teacher": self.teacher_.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state["source"])
        self.teacher_.load_state_dict(state["teacher"])


class ScholarLoss(Part):
    """r · cross_entropy(fresh) + (1 − r) · L(made up), r = ``share``, or 1/t in task t.

    L is T² · KL(softmax(z'/T) ‖ softmax(z/T)), z' the scores of the model before the task ("soft"), or cross-entropy
    with the class it would answer ("hard"); means over rows (and positions of generated answers).
    """

    def __init__(self, share: float | None, labels: str, temperature: float) -> None:
        if labels not in LABELS:
            raise unknown_name("labels of dgr", labels, LABELS)
        self.share = share
        self.labels = labels
        self.distance = LogitsDistillation(temperature)

    def loss(self, learner: Learner, batch: Batch, out: Output) -> Tensor | None:
        refuse_pairs(learner)
        check_labels(out.scores, batch.target)
        fresh, old = slice(0, batch.fresh), slice(batch.fresh, None)
        loss = cross_entropy(out.scores[fresh].flatten(0, -2), batch.target[fresh].flatten())
        if len(batch) == batch.fresh:
            return loss
        if bool((batch.task[old] < 0).any()) and bool(is_masked(out.scores[fresh]).any()):
            raise InputError(
                "dgr: rows are scored on the classes of their task here, and those made up have none; "
                "choose condition='task' or 'class'."
            )
        r = 1 / (learner.task.id + 1) if self.share is None else self.share
        if self.labels == "hard":
            again = cross_entropy(out.scores[old].flatten(0, -2), batch.target[old].flatten())
        else:
            again = self.distance(out.scores[old], batch.extras[_SAID])
        return r * loss + (1 - r) * again


@recipe(
    family="replay",
    paper="H. Shin et al., Continual Learning with Deep Generative Replay, NeurIPS 2017",
)
def dgr(
    share: float | None = None,
    rows: int | None = None,
    labels: str = "soft",
    temperature: float = 2.0,
    condition: str = "task",
    latent: int = 100,
    hidden: int = 256,
    generator_epochs: int = 30,
) -> list[Part]:
    """Rows made up by a VAE in place of a memory, answered by the model as it was before the task.

    loss = r · cross_entropy(z[fresh], y) + (1 − r) · T² · KL(softmax(z'/T) ‖ softmax(z/T))[made up],  r = 1/t in task t

    z' are the scores of the model before the task for a row x ~ VAE. After a task the VAE is taught its rows and, again
    in the proportion r to 1 − r, rows that it makes up itself as it was before.

    share       r; None: 1/t, which weighs every task so far alike. With 1 this is finetune
    rows        made-up rows per step; None makes up as many as the batch has
    labels      "soft", or "hard": cross-entropy with the class of the largest z', as in the paper
    temperature T of soft labels (2, van de Ven)
    condition   what rows are made up for: the "task" or the "class" they come from, or "none", as in the paper. Rows of
                a task-incremental stream need one of the first two, to know whose classes they are scored on
    latent, hidden, generator_epochs  of the VAE (100: van de Ven; 256 and 30 are ours, not tuned)

    Rows are records: numbers and token ids of every modality, and which of them are there. On a stream of frozen
    features (``train.features.frozen_features``) they are features, as our specification has them. No row is kept.

    Reference: Shin et al., NeurIPS 2017, equations 1 and 2, with a GAN. Follows our specification for records: a VAE
    with a modality mask, soft labels, conditions; the published method may differ.
    """
    if share is not None and not (isinstance(share, int | float) and 0 < share <= 1):
        raise InputError(f"share: expected a number above 0, at most 1, or None for 1/t, got {share!r}.")
    source = GeneratedRows(condition=condition, epochs=generator_epochs, share=share, latent=latent, hidden=hidden)
    return [Dreams(source, rows=rows, share=share), ScholarLoss(share, labels, temperature)]
