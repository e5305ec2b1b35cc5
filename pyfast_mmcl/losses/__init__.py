"""Objectives made of ops: contrastive, distillation and clustering terms."""

from pyfast_mmcl.losses.clip import ClipLoss, SigLipLoss
from pyfast_mmcl.losses.distillation import FeatureDistillation, LogitsDistillation
from pyfast_mmcl.losses.info_nce import InfoNCE, NTXent, SupCon
from pyfast_mmcl.losses.rectified import RectifiedSimilarity
from pyfast_mmcl.losses.relation import RelationDistillation
from pyfast_mmcl.losses.siglip import SigLIP
from pyfast_mmcl.losses.similarity import SimilarityDistillation

__all__ = [
    "InfoNCE",
    "NTXent",
    "SupCon",
    "SigLIP",
    "ClipLoss",
    "SigLipLoss",
    "LogitsDistillation",
    "FeatureDistillation",
    "RelationDistillation",
    "RectifiedSimilarity",
    "SimilarityDistillation",
]
