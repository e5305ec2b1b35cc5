"""ER-ACE: new classes do not push the old ones out of the way, because fresh rows are not scored against them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from pyfast_mmcl._errors import unknown_name
from pyfast_mmcl.train.part import Part
from pyfast_mmcl.train.parts import Replay, check_classes, check_labels, refuse_pairs
from pyfast_mmcl.train.registry import recipe

if TYPE_CHECKING:
    from pyfast_mmcl.data import Batch
    from pyfast_mmcl.models import Output
    from pyfast_mmcl.train.learner import Learner

_CURRENT = ("batch", "task")


class AsymmetricCrossEntropy(Part):
    """Cross-entropy over the classes C_curr for fresh rows and over all classes seen for rows of memory.

    current: C_curr are the classes of the fresh rows of the "batch", or those of the current "task".
    """

    def __init__(self, current: str = "batch") -> None:
        if current not in _CURRENT:
            raise unknown_name("choice of current classes", current, _CURRENT)
        self.current = current

    def loss(self, learner: Learner, batch: Batch, out: Output) -> Tensor | None:
        refuse_pairs(learner)
        check_labels(out.scores, batch.target)
        check_classes(out.scores, learner.classes_seen)
        new, seen = self._classes(learner, batch, out.scores)
        masked = torch.finfo(out.scores.dtype).min
        fresh = out.scores[: batch.fresh].masked_fill(~new, masked)
        old = out.scores[batch.fresh :].masked_fill(~seen, masked)
        return cross_entropy(torch.cat([fresh, old]).flatten(0, -2), batch.target.flatten())

    def _classes(self, learner: Learner, batch: Batch, scores: Tensor) -> tuple[Tensor, Tensor]:
        """bool [C] for each: the current classes, and those seen so far."""
        new, seen = torch.zeros(2, scores.shape[-1], dtype=torch.bool, device=scores.device)
        if self.current == "task":
            new[list(learner.task.classes)] = True
        new[batch.target[: batch.fresh].flatten()] = True
        seen[list(learner.classes_seen)] = True
        seen[batch.target.flatten()] = True
        return new, seen


@recipe(
    family="replay",
    paper="L. Caccia et al., New Insights on Reducing Abrupt Representation Change in Online Continual Learning, "
    "ICLR 2022",
)
def er_ace(capacity: int = 200, rows: int | None = None, current: str = "batch") -> list[Part]:
    """Experience replay whose fresh rows compete with the classes of their batch alone, memory rows with all seen.

    loss = (ce(scores[fresh][:, C_curr], target[fresh]).sum() + ce(scores[memory][:, C_seen], target[memory]).sum()) / n

    capacity, rows  as for er
    current         C_curr: classes of the fresh rows of the "batch", as in the paper, or of the current "task"

    n counts all rows of the step, so that this is er where every class is in every batch; the authors' code adds the
    means of the two halves, which is twice as much when they are equally large. It also scores fresh rows against
    classes never seen, and masks nothing in the first task; the paper's formula, and ours, does neither.

    Reference: Caccia et al., ICLR 2022, section 4, the asymmetric cross-entropy.
    """
    return [Replay(capacity, rows=rows), AsymmetricCrossEntropy(current)]
