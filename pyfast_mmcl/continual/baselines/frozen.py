"""The pretrained model left as it is: zero-shot answers, or a linear probe on its features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pyfast_mmcl._errors import InputError, number_above_zero, unknown_name
from pyfast_mmcl.models.heads import is_masked
from pyfast_mmcl.train.answers import collect, features_of
from pyfast_mmcl.train.part import Part
from pyfast_mmcl.train.parts import check_labels
from pyfast_mmcl.train.registry import recipe

if TYPE_CHECKING:
    from pyfast_mmcl.data import Batch, Loader, Task
    from pyfast_mmcl.models import Output
    from pyfast_mmcl.train.learner import Learner

PROBES = ("zero_shot", "linear")


class Freeze(Part):
    """No weight of the model is trained, so its answers after any task are those before the first."""

    def before_task(self, learner: Learner, task: Task) -> None:
        learner.model.requires_grad_(False)


class LinearProbe(Part):
    """W = (FᵀF / N + ridge · I)⁻¹ FᵀY / N over the rows of all tasks so far; scores = f W.

    f is a row's unit features and a 1, Y one-hot. The two sums hold everything a ridge regression needs, so that no row
    is kept and no order of the tasks makes a difference. Classes that have not come yet get the lowest score.
    """

    def __init__(self, ridge: float) -> None:
        self.ridge = number_above_zero("ridge", ridge)
        self.gram_: Tensor | None = None  # FᵀF [D + 1, D + 1], float64
        self.moment_: Tensor | None = None  # FᵀY [D + 1, C], float64
        self._weights: Tensor | None = None

    def before_task(self, learner: Learner, task: Task) -> None:
        if learner.objective != "classify":
            raise InputError(
                "frozen: a linear probe tells classes apart, and this stream has pairs; take probe='zero_shot'."
            )

    def after_task(self, learner: Learner, task: Task, loader: Loader) -> None:
        sums: list[Tensor] = []

        def pick(batch: Batch, out: Output) -> dict[str, Tensor]:
            if out.scores.ndim != 2:
                raise InputError(f"frozen: expected one class per row, scores [B, C], got {tuple(out.scores.shape)}.")
            check_labels(out.scores, batch.target)
            f = _with_one(features_of("frozen", out))
            new = [f.mT @ f, f.mT @ F.one_hot(batch.target, out.scores.shape[1]).double()]
            sums[:] = [a + b for a, b in zip(sums, new, strict=True)] if sums else new
            return {}

        collect(learner, loader, pick)
        gram, moment = sums
        self.gram_ = gram if self.gram_ is None else gram + self.gram_.to(gram.device)
        self.moment_ = moment if self.moment_ is None else moment + self.moment_.to(moment.device)
        self._weights = None

    def predict(self, learner: Learner, batch: Batch, out: Output) -> Tensor | None:
        if self.gram_ is None or self.moment_ is None:
            return None
        scores = (_with_one(features_of("frozen", out)) @ self._solved().to(out.scores.device)).to(out.scores.dtype)
        unseen = self.moment_[-1].to(out.scores.device) == 0
        return scores.masked_fill(is_masked(out.scores) | unseen, torch.finfo(scores.dtype).min)

    def _solved(self) -> Tensor:
        """W [D + 1, C], float64; the last entry of the sums is N."""
        if self._weights is None:
            assert self.gram_ is not None and self.moment_ is not None
            gram = self.gram_ + self.ridge * self.gram_[-1, -1] * torch.eye(
                len(self.gram_), dtype=torch.float64, device=self.gram_.device
            )
            self._weights = torch.linalg.solve(gram, self.moment_)
        return self._weights

    def state_dict(self) -> dict[str, Any]:
        return {} if self.gram_ is None else {"gram": self.gram_, "moment": self.moment_}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.gram_, self.moment_, self._weights = state.get("gram"), state.get("moment"), None


def _with_one(features: Tensor) -> Tensor:
    """float64 [B, D + 1]: the features and a constant for the intercept."""
    return F.pad(features.double(), (0, 1), value=1.0)


@recipe(
    family="baselines",
    paper="A. Radford et al., Learning Transferable Visual Models From Natural Language Supervision, ICML 2021",
    model="clip",
)
def frozen(probe: str = "zero_shot", ridge: float = 1e-3) -> list[Part]:
    """The pretrained model without any training: zero-shot answers, or ridge regression on its frozen features.

    zero_shot: scores = s · V T_clsᵀ;   linear: scores = [unit(f), 1] W,  W = (FᵀF/N + ridge · I)⁻¹ FᵀY/N

    probe  "zero_shot", what the model answers by itself, after every task the same; or "linear", a linear classifier of
           the features, solved from sums over the rows of all tasks so far
    ridge  of the linear probe (1e-3, ours; unit features make it comparable between models)

    Any model serves that is worth freezing; a classifier with random weights is not. The linear probe needs one class
    per row and a model that gives features.

    Reference: Radford et al., ICML 2021, §3.1 and §3.2. Their probe is logistic regression on all data at once; ridge
    regression is solved exactly from two sums, so that the answers after the last task are those of all data at once.
    """
    if probe not in PROBES:
        raise unknown_name("probe of frozen", probe, PROBES)
    return [Freeze(), LinearProbe(ridge)] if probe == "linear" else [Freeze()]
