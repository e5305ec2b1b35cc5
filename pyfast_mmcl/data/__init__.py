"""Multimodal batches, streams and scenarios."""

from pyfast_mmcl.data.batch import Batch, cat
from pyfast_mmcl.data.clinc150 import clinc150_stream
from pyfast_mmcl.data.clip_text import clip_tokens
from pyfast_mmcl.data.digits import digits_stream
from pyfast_mmcl.data.emoji import emoji_stream
from pyfast_mmcl.data.har import har_stream
from pyfast_mmcl.data.hugging_face import hugging_face_stream
from pyfast_mmcl.data.image_folder import image_folder_stream
from pyfast_mmcl.data.loader import Loader
from pyfast_mmcl.data.manifest import manifest_stream
from pyfast_mmcl.data.omniglot import omniglot_stream
from pyfast_mmcl.data.pacs import pacs_stream
from pyfast_mmcl.data.permuted_mnist import permuted_mnist_stream
from pyfast_mmcl.data.questions import questions_stream
from pyfast_mmcl.data.records import Records, RowRecords
from pyfast_mmcl.data.scenario import SCENARIOS, Scenario, get_scenario
from pyfast_mmcl.data.small_mtil import small_mtil_stream
from pyfast_mmcl.data.split_mnist import split_mnist_stream
from pyfast_mmcl.data.spoken_digits import spoken_digits_stream
from pyfast_mmcl.data.stream import Stream, Task
from pyfast_mmcl.data.streams import STREAMS, get_stream

__all__ = [
    "Batch",
    "cat",
    "Loader",
    "Records",
    "RowRecords",
    "SCENARIOS",
    "STREAMS",
    "Scenario",
    "get_scenario",
    "get_stream",
    "Stream",
    "Task",
    "clip_tokens",
    "clinc150_stream",
    "digits_stream",
    "emoji_stream",
    "har_stream",
    "hugging_face_stream",
    "image_folder_stream",
    "manifest_stream",
    "omniglot_stream",
    "pacs_stream",
    "permuted_mnist_stream",
    "questions_stream",
    "small_mtil_stream",
    "split_mnist_stream",
    "spoken_digits_stream",
]
