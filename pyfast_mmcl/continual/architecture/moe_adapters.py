"""Mixture-of-experts adapters for CLIP: shared experts, routers per task, and rows that find their own task."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pyfast_mmcl._errors import unknown_name, whole_number
from pyfast_mmcl.models.moe import MoEAdapters
from pyfast_mmcl.ops.sampling import hash_uniform
from pyfast_mmcl.train.clip_ways import TaskObjective, WayAnswers, clip_of, frozen_embeddings
from pyfast_mmcl.train.modes import evaluation_mode
from pyfast_mmcl.train.novelty import LinearAutoencoders
from pyfast_mmcl.train.part import Part
from pyfast_mmcl.train.registry import recipe

if TYPE_CHECKING:
    from pyfast_mmcl.data import Batch, Loader, Task
    from pyfast_mmcl.models import Output
    from pyfast_mmcl.train.learner import Learner

ROUTERS = ("task", "one")
# Share of a task's rows that its autoencoder is not fitted to, so that they can set its limit.
_HELD_OUT = 0.2


class Experts(Part):
    """Experts and routers on a frozen CLIP; after a task the most used experts of every block freeze.

    Answers take the row's own way: that of its task where it says so, else that of the autoencoders (DDAS), and none
    (zero-shot CLIP) where no autoencoder knows the row.
    """

    def __init__(self, routers: str, freeze: int, code: int | None, miss: float, config: dict[str, Any]) -> None:
        if routers not in ROUTERS:
            raise unknown_name("choice of routers", routers, ROUTERS)
        self.routers, self.config = routers, config
        self.freeze = whole_number("freeze", freeze, least=0)
        self.tasks_ = LinearAutoencoders(None if code is None else whole_number("code", code), miss)
        self._answers = WayAnswers()

    def before_task(self, learner: Learner, task: Task) -> None:
        model = clip_of(learner, "moe_adapters")
        if task.id == 0:
            model.requires_grad_(False)
            model.attach("moe", seed=learner.seed, **self.config).requires_grad_(True)
        moe = experts_of(learner)
        if self.routers == "task" or moe.n_ways == 0:
            moe.add_way()
        moe.switch(moe.n_ways - 1)

    def after_step(self, learner: Learner, batch: Batch, out: Output) -> None:
        together = learner.accelerator
        experts_of(learner).settle(None if together is None else partial(together.reduce, reduction="sum"))

    def after_task(self, learner: Learner, task: Task, loader: Loader) -> None:
        moe = experts_of(learner)
        if self.freeze:
            moe.freeze_most_used(self.freeze)
        self._answers.forget()
        if self.routers == "one":
            return
        model, batches = clip_of(learner, "moe_adapters"), [batch.to(learner.device) for batch in loader]
        with evaluation_mode(model):
            rows = torch.cat([frozen_embeddings(model, moe, batch) for batch in batches])
        held_out = hash_uniform(learner.seed, torch.cat([batch.index for batch in batches]).cpu()) < _HELD_OUT
        self.tasks_.fit(rows.cpu(), held_out)
        moe.switch(-1)

    def predict(self, learner: Learner, batch: Batch, out: Output) -> Output | None:
        if not any(isinstance(part, MoEAdapters) for part in clip_of(learner, "moe_adapters").attached):
            return None  # nothing has been learnt yet
        return self._answers(learner, experts_of(learner), batch, out, self.way(learner, batch))

    def way(self, learner: Learner, batch: Batch) -> Tensor:
        """The way int64 [B] of every row: its task, −1 for zero-shot."""
        moe = experts_of(learner)
        if self.routers == "one":
            return torch.zeros_like(batch.task)
        told = batch.task.masked_fill(batch.task >= moe.n_ways, -1)
        if len(self.tasks_) == 0 or (learner.scenario is not None and learner.scenario.task_id_at_test):
            return told
        rows = frozen_embeddings(clip_of(learner, "moe_adapters"), moe, batch)
        return torch.where(batch.task < 0, self.tasks_.to(rows.device).task(rows), told)

    def state_dict(self) -> dict[str, Any]:
        return self.tasks_.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.tasks_.load_state_dict(state)
        self._answers.forget()


def experts_of(learner: Learner) -> MoEAdapters:
    """The experts that this method put on the learner's model."""
    return next(part for part in clip_of(learner, "moe_adapters").attached if isinstance(part, MoEAdapters))


@recipe(
    family="architecture",
    paper="J. Yu et al., Boosting Continual Learning of Vision-Language Models via Mixture-of-Experts Adapters, "
    "CVPR 2024",
    model="clip",
)
def moe_adapters(
    experts: int = 22,
    top: int = 2,
    hidden: int = 64,
    scale: float = 0.1,
    dropout: float = 0.1,
    smoothing: float = 0.2,
    routers: str = "task",
    freeze: int = 2,
    code: int | None = None,
    miss: float = 0.05,
    text_route: str = "first",
) -> list[Part]:
    """Frozen CLIP with shared small experts, routers per task, and rows that find their task or stay zero-shot.

    block   x ← x + mlp(LN x) + Σ over the top k of G_e · expert_e(x),  G = softmax(top k of h W_g + noise)
    loss    cross-entropy(exp(s) V Tᵀ) over the classes of the task, smoothed
    way(x)  argmin_t e_t(x) / limit_t, zero-shot above 1;  e_t the error of task t's autoencoder

    experts, top, hidden, scale, dropout, text_route  as ``models.moe.attach`` (22, 2, 64, 0.1, 0.1, "first": the paper)
    smoothing  of the labels (0.2, the paper)
    routers    "task": new ones for every task, earlier ones frozen; "one": the same for all, and no autoencoders. The
               paper's class-incremental setting is routers="one", experts=2, freeze=0
    freeze     experts of every block that freeze after a task, those that most rows chose (2, the paper)
    code, miss width of an autoencoder's code (default a fifth of the embedding, about the paper's 100 for ViT-B/16);
               share of a task's own rows that may be taken for foreign (0.05, ours)

    Needs a CLIP (``models.ClipModel``). On a stream of pairs the loss is InfoNCE.

    Reference: Yu et al., CVPR 2024. Ours differ on purpose: rows find their task one by one, where the published code
    decides for a test batch at once; the limits come from held-out rows of each task, where it has one hard-coded; an
    autoencoder is the best linear one of CLIP's own frozen embeddings, in closed form, where the paper trains a
    nonlinear one on AlexNet's features and a further one on TinyImageNet for foreign rows. A row that says its task
    needs no autoencoder. The optimizer is the learner's (the paper: AdamW, 1000 steps per task).
    """
    config = {"experts": experts, "top": top, "hidden": hidden, "scale": scale, "dropout": dropout}
    return [TaskObjective(smoothing), Experts(routers, freeze, code, miss, {**config, "text_route": text_route})]
