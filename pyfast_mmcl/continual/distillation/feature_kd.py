"""Feature distillation: on the rows of a new task, embeddings stay where the model before it had them."""

from pyfast_mmcl.losses import FeatureDistillation
from pyfast_mmcl.train.embeddings import EmbeddingDistillation
from pyfast_mmcl.train.part import Part
from pyfast_mmcl.train.parts import Objective
from pyfast_mmcl.train.registry import recipe


@recipe(
    family="distillation",
    paper="S. Hou et al., Learning a Unified Classifier Incrementally via Rebalancing (less-forget constraint), "
    "CVPR 2019; A. Romero et al., FitNets, ICLR 2015",
)
def feature_kd(lam: float = 5.0, distance: str = "cosine", of: str = "auto", growing: bool = True) -> list[Part]:
    """The stream's objective, and embeddings held to those of the model before the task.

    loss = objective + lam · (1 − cosine(f, f')).mean(), or lam · ‖f − f'‖² with distance "mse"

    lam       weight (5, as Hou et al. for CIFAR-100 with "cosine"); 0 for none
    distance  "cosine" or "mse"
    of        which embeddings f: "features" before the head, those of the single "modalities", "both" (their mean), or
              "auto": features where the model gives them, modalities where it does not, as two towers do
    growing   multiply lam by √(earlier classes / classes of the task) (True, as Hou et al.)

    f' is a frozen copy of the model before the task, asked for the rows of this task: no row is kept. It says nothing
    about the head, so earlier classes still lose to those of the task where nobody replays them. Of the method of Hou
    et al. this is the less-forget constraint alone: no cosine head, no exemplars, no margin. A missing modality is left
    out of its own embedding's mean.

    Reference: Hou et al., CVPR 2019, section 3.3; with "mse" Romero et al., ICLR 2015, without their regressor.
    """
    return [
        Objective(),
        EmbeddingDistillation("feature_kd", FeatureDistillation(distance), lam, of=of, growing=growing),
    ]
