"""Things with weights: encoders, fusion, heads, adapters, prompts, masks, generators."""

from pyfast_mmcl.models.classifier import MultimodalClassifier
from pyfast_mmcl.models.clip import ClipModel
from pyfast_mmcl.models.clip_load import load_clip
from pyfast_mmcl.models.columns import ProgressiveColumns
from pyfast_mmcl.models.dual_encoder import DualEncoder
from pyfast_mmcl.models.encoders import ImageEncoder, TextEncoder, VectorEncoder, encoder_for, encoders_for
from pyfast_mmcl.models.encoders_signals import SeriesEncoder, SpectrogramEncoder
from pyfast_mmcl.models.fusion import FUSIONS, AttentionFusion, ConcatFusion, ConfidenceFusion, GatedFusion
from pyfast_mmcl.models.generators import RecordVAE
from pyfast_mmcl.models.heads import ClassifierHead
from pyfast_mmcl.models.lora import LoRA
from pyfast_mmcl.models.masks import MaskedClassifier
from pyfast_mmcl.models.modality_heads import ModalityHeads
from pyfast_mmcl.models.moe import MoEAdapters
from pyfast_mmcl.models.output import Output
from pyfast_mmcl.models.prompts import Prompts
from pyfast_mmcl.models.protocols import Growing
from pyfast_mmcl.models.prototypes import PrototypeBank, PrototypeTokens
from pyfast_mmcl.models.sequence_model import SequenceModel
from pyfast_mmcl.models.spec import Spec
from pyfast_mmcl.models.token_classifier import TokenClassifier

__all__ = [
    "AttentionFusion",
    "ClassifierHead",
    "ClipModel",
    "ConcatFusion",
    "ConfidenceFusion",
    "DualEncoder",
    "FUSIONS",
    "GatedFusion",
    "Growing",
    "ImageEncoder",
    "LoRA",
    "MaskedClassifier",
    "MoEAdapters",
    "ModalityHeads",
    "MultimodalClassifier",
    "Output",
    "Prompts",
    "ProgressiveColumns",
    "PrototypeBank",
    "PrototypeTokens",
    "RecordVAE",
    "SequenceModel",
    "SeriesEncoder",
    "SpectrogramEncoder",
    "Spec",
    "TextEncoder",
    "TokenClassifier",
    "VectorEncoder",
    "encoder_for",
    "encoders_for",
    "load_clip",
]
