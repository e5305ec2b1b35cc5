"""Relational distillation: distances and angles between rows stay as the model before the task saw them."""

from pyfast_mmcl.losses import RelationDistillation
from pyfast_mmcl.train.embeddings import EmbeddingDistillation
from pyfast_mmcl.train.part import Part
from pyfast_mmcl.train.parts import Objective
from pyfast_mmcl.train.registry import recipe


@recipe(family="distillation", paper="W. Park et al., Relational Knowledge Distillation, CVPR 2019")
def relation_kd(
    lam: float = 1.0,
    distance_weight: float = 1.0,
    angle_weight: float = 2.0,
    of: str = "auto",
    normalize: bool = False,
) -> list[Part]:
    """The stream's objective, and the geometry of every batch held to that of the model before the task.

    loss = objective + lam · (distance_weight · huber(D, D').mean() + angle_weight · huber(A, A').mean())
    D_ij = ‖f_i − f_j‖ / mean;  A_ijk = ⟨unit(f_i − f_j), unit(f_k − f_j)⟩

    lam              weight of both (1); 0 for none
    distance_weight, angle_weight  1 and 2, as the authors for metric learning; an angle_weight of 0 saves O(B³)
    of               which embeddings f, as for feature_kd: "auto", "features", "modalities" or "both"
    normalize        unit rows first (False, as the authors' distance between networks)

    f' is a frozen copy of the model before the task, asked for the rows of this task: no row is kept. The embeddings
    may turn and scale as long as their geometry stays. The paper distils a finished network into another; to hold a
    network to its own earlier self is our use of it, and so is lam.

    Reference: Park et al., CVPR 2019, section 3.2.
    """
    distance = RelationDistillation(distance_weight, angle_weight, normalize=normalize)
    return [Objective(), EmbeddingDistillation("relation_kd", distance, lam, of=of)]
