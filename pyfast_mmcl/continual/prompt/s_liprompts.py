"""S-liPrompts: independent prompts per domain for a frozen CLIP, and the nearest domain as the answer's prompts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pyfast_mmcl._errors import unknown_name, whole_number
from pyfast_mmcl.models.prompts import Prompts
from pyfast_mmcl.ops.knn import lloyd_step, nearest
from pyfast_mmcl.train.clip_ways import TaskObjective, WayAnswers, clip_of, frozen_embeddings
from pyfast_mmcl.train.modes import evaluation_mode
from pyfast_mmcl.train.part import Part
from pyfast_mmcl.train.registry import recipe

if TYPE_CHECKING:
    from pyfast_mmcl.data import Batch, Loader, Task
    from pyfast_mmcl.models import Output
    from pyfast_mmcl.train.learner import Learner

METRICS = ("l1", "l2")
_LLOYD_STEPS = 100


class DomainPrompts(Part):
    """A set of visual and textual prompts per domain, centres of its frozen features, rows answered by the nearest."""

    def __init__(self, visual: int, textual: int, centres: int, metric: str) -> None:
        if metric not in METRICS:
            raise unknown_name("metric of s_liprompts", metric, METRICS)
        self.visual, self.textual = whole_number("visual", visual), whole_number("textual", textual)
        self.k, self.metric = whole_number("centres", centres), metric
        self.centres_ = torch.zeros(0, 0)  # [W·k, D]
        self.domain_ = torch.zeros(0, dtype=torch.int64)  # [W·k], whose centre it is
        self._answers = WayAnswers()

    def before_task(self, learner: Learner, task: Task) -> None:
        model = clip_of(learner, "s_liprompts")
        if task.id == 0:
            model.requires_grad_(False)
            model.attach("prompts", image=self.visual, text=self.textual, seed=learner.seed)
        prompts_of(learner).add_way()

    def after_task(self, learner: Learner, task: Task, loader: Loader) -> None:
        prompts, model = prompts_of(learner), clip_of(learner, "s_liprompts")
        with evaluation_mode(model):
            rows = torch.cat([frozen_embeddings(model, prompts, batch.to(learner.device)) for batch in loader])
        found = kmeans(rows, self.k, learner.generator)
        self.centres_ = torch.cat([self.centres_.to(rows).reshape(-1, rows.shape[1]), found])
        self.domain_ = torch.cat(
            [self.domain_.to(rows.device), torch.full_like(found[:, 0], task.id, dtype=torch.int64)]
        )
        self._answers.forget()
        prompts.switch(-1)

    def predict(self, learner: Learner, batch: Batch, out: Output) -> Output | None:
        if len(self.domain_) == 0:
            return None
        prompts = prompts_of(learner)
        return self._answers(learner, prompts, batch, out, self.way(learner, batch))

    def way(self, learner: Learner, batch: Batch) -> Tensor:
        """The domain int64 [B] of every row: what the row says itself, else that of the nearest centre."""
        rows = frozen_embeddings(clip_of(learner, "s_liprompts"), prompts_of(learner), batch)
        centres, domain = self.centres_.to(rows.device), self.domain_.to(rows.device)
        if self.metric == "l1":
            label = torch.cdist(rows, centres, p=1).argmin(1)
        else:
            label = nearest(rows, centres)[1]
        known = (batch.task >= 0) & (batch.task <= int(self.domain_.max()))
        return torch.where(known, batch.task, domain[label])

    def state_dict(self) -> dict[str, Any]:
        return {"centres": self.centres_, "domain": self.domain_}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.centres_, self.domain_ = state["centres"], state["domain"]
        self._answers.forget()


def prompts_of(learner: Learner) -> Prompts:
    """The prompts that this method put on the learner's model."""
    return next(part for part in clip_of(learner, "s_liprompts").attached if isinstance(part, Prompts))


def kmeans(rows: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """Centres [min(k, N), D] of rows [N, D]: k-means++ draws, then Lloyd's steps until no row changes its centre."""
    chosen = [int(torch.randint(len(rows), (), generator=generator))]
    for _ in range(min(k, len(rows)) - 1):
        gap = nearest(rows, rows[chosen])[0].double().cpu().clamp(min=0)
        gap[chosen] = 0
        # Rows that all lie on centres leave no distance to draw by: any row not chosen yet is as good.
        weights = gap if bool((gap > 0).any()) else _rest(len(rows), chosen)
        chosen.append(int(torch.multinomial(weights, 1, generator=generator)))
    centres, before = rows[chosen], None
    for _ in range(_LLOYD_STEPS):
        sums, counts, labels, _ = lloyd_step(rows, centres)
        if before is not None and torch.equal(labels, before):
            break
        means = (sums / counts.clamp(min=1).unsqueeze(1)).to(rows.dtype)
        centres, before = torch.where(counts.unsqueeze(1) > 0, means, centres), labels
    return centres


def _rest(n: int, chosen: list[int]) -> Tensor:
    weights = torch.ones(n, dtype=torch.float64)
    weights[chosen] = 0
    return weights


@recipe(
    family="prompt",
    paper="Y. Wang, Z. Huang, X. Hong, S-Prompts Learning with Pre-trained Transformers: An Occam's Razor for Domain "
    "Incremental Learning, NeurIPS 2022",
    model="clip",
)
def s_liprompts(visual: int = 10, textual: int = 16, centres: int = 5, metric: str = "l2") -> list[Part]:
    """Frozen CLIP with prompts of its own for every domain; a row takes those of the domain with the nearest centre.

    loss    cross-entropy(exp(s) V Tᵀ) over the classes of the domain; V, T with the domain's prompts, all else frozen
    domain(x) = argmin over t and its centres m of ‖v(x) − m‖,  v the unit embedding of CLIP without prompts

    visual   tokens beside the patches (10, the authors' code)
    textual  context vectors before the class name (16, CoOp's default)
    centres  k-means centres of a domain's training rows (5, the paper)
    metric   "l2", or "l1", which is what the released code comes to

    No row is kept. A row that says its task takes that task's prompts. Needs a CLIP (``models.ClipModel``) with
    transformers as towers. On a stream of pairs the loss is InfoNCE.

    Reference: Wang et al., NeurIPS 2022, §3. The visual tokens stand behind the norm in front of the blocks, and the
    class name keeps its position embeddings (``models.prompts.attach``). k-means is seeded by k-means++. The optimizer
    is the learner's (the authors: SGD, momentum 0.9, lr 0.01, cosine, 10 epochs).
    """
    return [TaskObjective(), DomainPrompts(visual, textual, centres, metric)]
