"""WiSE-FT: fine-tune, and answer with weights half-way back to those before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from pyfast_mmcl._errors import InputError, unknown_name
from pyfast_mmcl.train.part import Part
from pyfast_mmcl.train.parts import Objective
from pyfast_mmcl.train.registry import recipe
from pyfast_mmcl.train.weights import mix, put_weights, weights_of

if TYPE_CHECKING:
    from pyfast_mmcl.data import Loader, Task
    from pyfast_mmcl.train.learner import Learner

ANCHORS = ("initial", "previous")


class WeightInterpolation(Part):
    """After a task the weights become (1 − alpha) · anchor + alpha · fine-tuned.

    anchor "initial": the weights that the model was given; training goes on from the fine-tuned ones, which are kept.
    anchor "previous": those at the start of the task; training goes on from the mixture.
    """

    def __init__(self, alpha: float, anchor: str) -> None:
        if not isinstance(alpha, int | float) or isinstance(alpha, bool) or not 0 <= alpha <= 1:
            raise InputError(f"alpha: expected a share in [0, 1], got {alpha!r}.")
        if anchor not in ANCHORS:
            raise unknown_name("anchor of wise_ft", anchor, ANCHORS)
        self.alpha, self.anchor = float(alpha), anchor
        self.anchor_: dict[str, Tensor] = {}
        self.tuned_: dict[str, Tensor] = {}

    def before_task(self, learner: Learner, task: Task) -> None:
        if self.tuned_:
            put_weights(learner.model, self.tuned_)
        if self.anchor == "previous" or not self.anchor_:
            self.anchor_ = weights_of(learner.model)

    def after_task(self, learner: Learner, task: Task, loader: Loader) -> None:
        tuned = weights_of(learner.model)
        put_weights(learner.model, mix(self.anchor_, tuned, self.alpha))
        if self.anchor == "initial":
            self.tuned_ = tuned

    def state_dict(self) -> dict[str, Any]:
        return {"anchor": dict(self.anchor_), "tuned": dict(self.tuned_)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.anchor_, self.tuned_ = dict(state["anchor"]), dict(state["tuned"])


@recipe(
    family="baselines",
    paper="M. Wortsman et al., Robust Fine-Tuning of Zero-Shot Models, CVPR 2022",
    model="clip",
)
def wise_ft(alpha: float = 0.5, anchor: str = "initial") -> list[Part]:
    """Fine-tuning whose answers come from weights between the pretrained and the fine-tuned ones.

    θ = (1 − alpha) · θ_0 + alpha · θ_t,  θ_t fine-tuned on tasks 1…t in turn by cross-entropy (pairs: InfoNCE)

    alpha   share of the fine-tuned weights (0.5, which the paper recommends where no data can tell); 0 gives the
            pretrained model, 1 plain fine-tuning
    anchor  θ_0: "initial", the weights that the model was given, fine-tuning going on from θ_t; or "previous", the
            weights before the task, each task starting from the last mixture

    The model is the mixture after every task. Parameters and floating buffers are mixed; entries that a head has grown
    since have no earlier weights and stay as they are. With random first weights there is nothing to go back to: give
    a pretrained model.

    Reference: Wortsman et al., CVPR 2022, eq. 1, for one fine-tuning; for several in turn this follows our
    specification. All weights are mixed, those of both towers.
    """
    return [Objective(), WeightInterpolation(alpha, anchor)]
