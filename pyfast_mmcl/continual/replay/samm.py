"""SAMM: modalities that can answer alone teach each other, and replay keeps to whichever knew best."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, mse_loss

from pyfast_mmcl._errors import InputError, number_from_zero
from pyfast_mmcl.losses import RelationDistillation
from pyfast_mmcl.models.heads import is_masked
from pyfast_mmcl.train.answers import collect, in_slices
from pyfast_mmcl.train.calibration import fit_temperature
from pyfast_mmcl.train.part import Part
from pyfast_mmcl.train.parts import CrossEntropy, Replay
from pyfast_mmcl.train.registry import recipe

if TYPE_CHECKING:
    from pyfast_mmcl.data import Batch, Loader, Task
    from pyfast_mmcl.models import Output
    from pyfast_mmcl.train.learner import Learner

# Name of the joint head beside those of the modalities.
JOINT = "joint"


class ReplayHeads(Replay):
    """Replay that keeps, beside every row, the scores of all heads when the row was last trained on as a fresh one."""

    def before_task(self, learner: Learner, task: Task) -> None:
        super().before_task(learner, task)
        if len(getattr(learner.model, "heads", ())) < 2:
            raise InputError(
                f"samm: expected a model with a head per modality, two at least, got {type(learner.model).__name__}; "
                "use models.ModalityHeads, or leave the model out."
            )

    def after_step(self, learner: Learner, batch: Batch, out: Output) -> None:
        fresh = slice(0, batch.fresh)
        heads, _ = all_heads(batch, out)
        extras = {stored(name): z[fresh] for name, z in heads.items()}
        self.memory_.add(batch.select(fresh), extras)
        self.memory_.update(batch.index[fresh], extras)


class ModalityTerms(Part):
    """weight · Σ_m (cross_entropy(z_m, y) + mean over m' ≠ m of relation · RKD(z_m, z_m')) on the fresh or old rows.

    Every head m counts over the rows that have modality m, every pair over the rows that have both. RKD compares the
    pairwise distances of unit scores, each divided by the mean distance, by Huber's loss; z_m' gets no gradient.
    """

    def __init__(self, rows: str, weight: float, relation: float) -> None:
        self.rows = rows
        self.weight = number_from_zero("head_weight", weight)
        relation = number_from_zero("relation", relation)
        self.relation = RelationDistillation(relation, 0.0, normalize=True) if relation else None

    @property
    def name(self) -> str:
        return f"modality_terms_{self.rows}"

    def loss(self, learner: Learner, batch: Batch, out: Output) -> Tensor | None:
        rows = slice(0, batch.fresh) if self.rows == "fresh" else slice(batch.fresh, None)
        target = batch.target[rows]
        if len(target) == 0 or self.weight == 0:
            return None
        heads, shown = all_heads(batch, out)
        names = [name for name in heads if name != JOINT]
        total = out.scores.new_zeros(())
        for name in names:
            here = shown[name][rows]
            if bool(here.any()):
                total = total + cross_entropy(out.heads[name].float()[rows][here], target[here])
            for other in names:
                both = here & shown[other][rows]
                if self.relation is not None and other != name and int(both.sum()) > 1:
                    student, teacher = heads[name][rows][both], heads[other][rows][both]
                    total = total + self.relation(student, teacher) / (len(names) - 1)
        return self.weight * total


class BestHeadConsistency(Part):
    """weight · (mse(z_joint, z*) + head_weight · Σ_m mse(z_m, z*)) on the replayed rows.

    z* are the stored scores of the head, joint or of a modality the row has, that now gives the true class the highest
    probability.
    """

    def __init__(self, weight: float, head_weight: float) -> None:
        self.weight = number_from_zero("consistency", weight)
        self.head_weight = head_weight

    def loss(self, learner: Learner, batch: Batch, out: Output) -> Tensor | None:
        if len(batch) == batch.fresh or self.weight == 0:
            return None
        old = slice(batch.fresh, None)
        heads, shown = all_heads(batch, out)
        heads, shown = {name: z[old] for name, z in heads.items()}, {name: flag[old] for name, flag in shown.items()}
        best = self._best(batch, out, shown)
        loss = mse_loss(heads[JOINT], best)
        for name, here in shown.items():
            if name != JOINT and bool(here.any()):
                loss = loss + self.head_weight * mse_loss(heads[name][here], best[here])
        return self.weight * loss

    def _best(self, batch: Batch, out: Output, shown: dict[str, Tensor]) -> Tensor:
        """z* [B − fresh, C]."""
        old, target = slice(batch.fresh, None), batch.target[batch.fresh :].unsqueeze(1)
        sure = []
        for name, here in shown.items():
            scores = out.scores if name == JOINT else out.heads[name]
            right = scores.detach()[old].float().softmax(1).gather(1, target).squeeze(1)
            sure.append(right.masked_fill(~here, -1.0))
        which = torch.stack(sure).argmax(0)
        if batch.extras[stored(JOINT)].shape != out.scores[old].shape:
            raise InputError(
                f"samm: the memory holds scores of {batch.extras[stored(JOINT)].shape[-1]} classes and the heads have "
                f"{out.scores.shape[-1]}; give the model all classes of the stream from the start."
            )
        # A modality that the memory has never met has no column; no row in it can choose that head.
        none = torch.zeros_like(batch.extras[stored(JOINT)])
        kept = torch.stack([batch.extras.get(stored(name), none) for name in shown])
        return kept[which, torch.arange(len(which), device=which.device)]


class CalibratedHeads(Part):
    """Answers with Σ_h c_h · z_h / T_h over Σ_h c_h, c_h = max softmax(z_h / T_h), over the heads a row has.

    After every task each temperature is fitted to the rows of the memory that have the modality.
    """

    def __init__(self, replay: Replay) -> None:
        self.replay = replay
        self.temperatures_: dict[str, float] = {}

    def after_task(self, learner: Learner, task: Task, loader: Loader) -> None:
        found = collect(learner, in_slices(self.replay.memory_.all()), _heads_and_rows)
        names = [name.removeprefix("scores ") for name in found if name.startswith("scores ")]
        for name in names:
            here = found[f"present {name}"]
            self.temperatures_[name] = fit_temperature(found[stored(name)][here], found["target"][here])

    def predict(self, learner: Learner, batch: Batch, out: Output) -> Tensor | None:
        heads, shown = all_heads(batch, out)
        excluded = is_masked(out.scores)
        total, weights = torch.zeros_like(out.scores), out.scores.new_zeros(len(out.scores), 1)
        for name, z in heads.items():
            z = z / self.temperatures_.get(name, 1.0)
            sure = z.masked_fill(excluded, float("-inf")).softmax(1).amax(1, keepdim=True)
            sure = sure * shown[name].unsqueeze(1)
            total, weights = total + sure * z, weights + sure
        return (total / weights).masked_fill(excluded, torch.finfo(total.dtype).min)

    def state_dict(self) -> dict[str, Any]:
        return {"temperatures": dict(self.temperatures_)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.temperatures_ = dict(state["temperatures"])


def all_heads(batch: Batch, out: Output) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """{head: scores [B, C]} and {head: bool [B]} which rows it can answer; the joint head, first, answers every row.

    Classes that a task-incremental head leaves out score 0, so that distances between scores stay finite.
    """
    heads = {JOINT: out.scores, **{name: z.float() for name, z in out.heads.items()}}
    for name, z in heads.items():
        if z.ndim != 2 or z.shape != out.scores.shape:
            raise InputError(
                f"samm: expected scores [B, C] of every head, with one C; that of {name!r} gives {tuple(z.shape)} and "
                f"the joint one {tuple(out.scores.shape)}."
            )
    shown = {name: batch.present[name] for name in out.heads}
    everywhere = torch.ones(len(batch), dtype=torch.bool, device=batch.device)
    return {name: z.masked_fill(is_masked(z), 0.0) for name, z in heads.items()}, {JOINT: everywhere, **shown}


def stored(head: str) -> str:
    """Name under which the memory keeps the scores of a head."""
    return f"scores {head}"


def _heads_and_rows(batch: Batch, out: Output) -> dict[str, Tensor]:
    _, shown = all_heads(batch, out)
    raw = {JOINT: out.scores, **out.heads}
    columns = {stored(name): raw[name].float() for name in shown}
    return columns | {f"present {name}": here for name, here in shown.items()} | {"target": batch.target}


@recipe(
    family="replay",
    paper="F. Sarfraz, B. Zonooz, E. Arani, Beyond Unimodal Learning: The Importance of Integrating Multiple "
    "Modalities for Lifelong Learning, CoLLAs 2024",
    model="modality heads",
)
def samm(
    capacity: int = 200,
    rows: int | None = None,
    head_weight: float = 0.01,
    relation: float = 25.0,
    consistency: float = 1.0,
) -> list[Part]:
    """Replay with a head per modality that aligns the others' geometry, and consistency to whichever head knew best.

    L(rows) = ce(z, y) + head_weight · Σ_m (ce(z_m, y) + relation · RKD(z_m, z_m'.detach())),  z the joint head
    loss    = L(fresh) + L(memory) + consistency · (mse(z, z*) + head_weight · Σ_m mse(z_m, z*)) on the memory rows

    z* are the scores, stored with the row, of the head that now gives its class the highest probability. An answer is
    Σ_h max softmax(z_h/T_h) · z_h/T_h over the heads, with one temperature per head fitted to the memory after a task.

    capacity     rows of the memory (200 as the other methods here; the authors: 500 to 2000)
    rows         rows drawn per step; None draws as many as the batch has
    head_weight  of the single modalities (.01, the authors' code); relation: of RKD among them (25, likewise)
    consistency  of the stored scores (1)

    Needs a model with a head per modality (``models.ModalityHeads``), all over the same classes and none that grows,
    and any two or more modalities. With a weight of 0 its term is left out.

    Reference: Sarfraz, Zonooz and Arani, CoLLAs 2024, arXiv:2405.02766; RKD: Park et al., CVPR 2019. Theirs are sound
    and sight; with V modalities ours averages RKD over the V − 1 others, and a head counts in the rows that have its
    modality. Stored scores are those of the last time the row was fresh, in place of the first. Temperatures are the
    minimum itself within [0.1, 10], found by Newton's method, where the authors take 50 steps of L-BFGS with lr .01;
    the answer is divided by Σ_h max softmax, which changes no choice of class.
    """
    replay = ReplayHeads(capacity, rows=rows)
    return [
        replay,
        CrossEntropy("fresh"),
        CrossEntropy("memory"),
        ModalityTerms("fresh", head_weight, relation),
        ModalityTerms("memory", head_weight, relation),
        BestHeadConsistency(consistency, head_weight),
        CalibratedHeads(replay),
    ]
