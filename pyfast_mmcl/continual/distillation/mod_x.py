"""Mod-X: the off-diagonal of the earlier model's similarities is kept, but only where that model was right."""

from __future__ import annotations

from pyfast_mmcl.losses import SimilarityDistillation
from pyfast_mmcl.train.part import Part
from pyfast_mmcl.train.parts import Objective
from pyfast_mmcl.train.registry import recipe
from pyfast_mmcl.train.spatial import SpatialAlignment


@recipe(
    family="distillation",
    paper="Z. Ni et al., Continual Vision-Language Representation Learning with Off-Diagonal Information, ICML 2023",
    model="clip",
)
def mod_x(alpha: float = 20.0, parity: bool = False) -> list[Part]:
    """Contrastive learning of pairs, and the earlier model's similarities between all of them, where it was right.

    loss = info_nce(V, T, s) + alpha · ½ Σ over both directions of KL(M' ‖ M),  M = softmax(κ V Tᵀ) of the batch
    M' is that of the model before the task; a row i of M' whose largest entry is not i is replaced by that of M

    alpha   20 (the authors' code)
    parity  False: κ is the scale s of either model, not trained by this term, and the mean over rows is taken. True: as
            the authors' code, κ = 1 and the sum over rows

    A replaced row adds neither value nor gradient. Rows that lack a side take no part; the first task is InfoNCE alone.
    On a stream of classes whose rows are pictures and texts, cross-entropy against the classes' texts takes the place
    of InfoNCE. Needs a model with two sides and one scale (a CLIP, or ``models.DualEncoder``); all of it is trained.

    Reference: Ni et al., ICML 2023, and the authors' code: the replacement of rows, both directions halved, the order
    of the KL divergence, alpha. κ = s and the mean over rows are our specification: with κ = 1 softmaxes of
    cosines are nearly uniform, and a sum over rows makes alpha depend on the batch size. Rows of one target are
    positives of each other in InfoNCE, where the authors count them as negatives.
    """
    reduction = "sum" if parity else "mean"
    distance = SimilarityDistillation(direction="both", skip_wrong=True, reduction=reduction)
    return [Objective(), SpatialAlignment(distance, alpha, parity=parity)]
