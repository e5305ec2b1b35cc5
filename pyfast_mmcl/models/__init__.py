"""Things with weights: encoders, fusion, heads, adapters, prompts, masks, generators."""

from pyfast_mmcl.models.classifier import MultimodalClassifier
from pyfast_mmcl.models.encoders import ImageEncoder, TextEncoder, VectorEncoder, encoder_for
from pyfast_mmcl.models.fusion import ConcatFusion
from pyfast_mmcl.models.heads import ClassifierHead
from pyfast_mmcl.models.output import Output

__all__ = [
    "ClassifierHead",
    "ConcatFusion",
    "ImageEncoder",
    "MultimodalClassifier",
    "Output",
    "TextEncoder",
    "VectorEncoder",
    "encoder_for",
]
