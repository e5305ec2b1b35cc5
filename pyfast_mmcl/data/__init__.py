"""Multimodal batches, streams and scenarios."""

from pyfast_mmcl.data.batch import Batch, cat
from pyfast_mmcl.data.digits import digits_stream
from pyfast_mmcl.data.har import har_stream
from pyfast_mmcl.data.loader import Loader
from pyfast_mmcl.data.omniglot import omniglot_stream
from pyfast_mmcl.data.permuted_mnist import permuted_mnist_stream
from pyfast_mmcl.data.records import Records, RowRecords
from pyfast_mmcl.data.scenario import SCENARIOS, Scenario, get_scenario
from pyfast_mmcl.data.split_mnist import split_mnist_stream
from pyfast_mmcl.data.spoken_digits import spoken_digits_stream
from pyfast_mmcl.data.stream import Stream, Task

__all__ = [
    "Batch",
    "cat",
    "Loader",
    "Records",
    "RowRecords",
    "SCENARIOS",
    "Scenario",
    "get_scenario",
    "Stream",
    "Task",
    "digits_stream",
    "har_stream",
    "omniglot_stream",
    "permuted_mnist_stream",
    "split_mnist_stream",
    "spoken_digits_stream",
]
