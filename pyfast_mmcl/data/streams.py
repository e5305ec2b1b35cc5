"""Every stream that comes with the package, by name: the choices of the command line."""

from __future__ import annotations

from collections.abc import Callable

from pyfast_mmcl._errors import unknown_name
from pyfast_mmcl.data.clinc150 import clinc150_stream
from pyfast_mmcl.data.digits import digits_stream
from pyfast_mmcl.data.emoji import emoji_stream
from pyfast_mmcl.data.har import har_stream
from pyfast_mmcl.data.omniglot import omniglot_stream
from pyfast_mmcl.data.pacs import pacs_stream
from pyfast_mmcl.data.permuted_mnist import permuted_mnist_stream
from pyfast_mmcl.data.questions import questions_stream
from pyfast_mmcl.data.small_mtil import small_mtil_stream
from pyfast_mmcl.data.split_mnist import split_mnist_stream
from pyfast_mmcl.data.spoken_digits import spoken_digits_stream
from pyfast_mmcl.data.stream import Stream

# All but "digits" need the folder of real data sets (PYFAST_MMCL_DATA).
STREAMS: dict[str, Callable[..., Stream]] = {
    "digits": digits_stream,
    "split_mnist": split_mnist_stream,
    "permuted_mnist": permuted_mnist_stream,
    "har": har_stream,
    "spoken_digits": spoken_digits_stream,
    "omniglot": omniglot_stream,
    "pacs": pacs_stream,
    "emoji": emoji_stream,
    "clinc150": clinc150_stream,
    "small_mtil": small_mtil_stream,
    "questions": questions_stream,
}


def get_stream(name: str) -> Callable[..., Stream]:
    """The function that makes the stream called ``name``. Raises UnknownNameError with the nearest names."""
    if name not in STREAMS:
        raise unknown_name("stream", name, STREAMS)
    return STREAMS[name]
