"""DKR: the earlier model's similarities are kept where it was right and corrected where it was wrong."""

from __future__ import annotations

from pyfast_mmcl.losses import RectifiedSimilarity
from pyfast_mmcl.train.part import Part
from pyfast_mmcl.train.parts import Objective
from pyfast_mmcl.train.registry import recipe
from pyfast_mmcl.train.spatial import SpatialAlignment


@recipe(
    family="distillation",
    paper="Z. Cui et al., Continual Vision-Language Retrieval via Dynamic Knowledge Rectification, AAAI 2024 "
    "(DKR-style: our specification)",
    model="clip",
)
def dkr(alpha: float = 20.0) -> list[Part]:
    """Contrastive learning of pairs, and similarities held to the earlier model's after its mistakes are corrected.

    loss = info_nce(V, T, s) + alpha · ½ Σ over both directions of KL(P ‖ M),  M = softmax(s V Tᵀ) of the batch
    row i of P: the earlier model's if its largest entry is i, else that of M (held constant) if its is, else one-hot i

    alpha  20, as Mod-X, of which this is a variant; the mean over rows is taken

    The scales of both models are not trained by the second term. Rows that lack a side take no part; the first task is
    InfoNCE alone. On a stream of classes whose rows are pictures and texts, cross-entropy against the classes' texts
    takes the place of InfoNCE. Needs a model with two sides and one scale (a CLIP, or ``models.DualEncoder``).

    Reference: follows our specification; the published method (Cui et al., AAAI 2024), of which we know the abstract,
    may differ: which rows are rectified is in it, the exact targets are ours.
    """
    return [Objective(), SpatialAlignment(RectifiedSimilarity(), alpha)]
