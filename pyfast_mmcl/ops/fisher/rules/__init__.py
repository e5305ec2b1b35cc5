"""Per-sample gradients in closed form, one file per family of layers; whatever is missing here falls back.

| layers                                              | file          |
|-----------------------------------------------------|---------------|
| linear maps: Linear, matmul, addmm                  | linear.py     |
| convolutions of 1, 2 and 3 dimensions               | conv.py       |
| layer, group, instance, RMS and fixed batch norm    | norm.py       |
| embedding tables                                    | embedding.py  |
| LSTM, GRU, RNN and their cells                      | recurrent.py  |
| tokens, position embeddings, scales that broadcast  | elementwise.py|
| anything else, one function at a time, by vmap      | fallback.py   |
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor

from ..calls import Call
from ..contributions import Contribution
from ..shared import Shared
from .conv import convolution, transposed_convolution
from .elementwise import IN_PLACE, broadcast, prelu, repeat
from .embedding import embedding, embedding_bag
from .fallback import fallback
from .linear import addmm, linear, matmul
from .norm import batch_norm, group_norm, instance_norm, layer_norm, rms_norm
from .recurrent import cell, recurrent

# The gradient of a single result is always there; of several, some may be None.
Rule = Callable[[Call, list[Any]], Iterable[tuple[Shared, Contribution]] | None]

# A rule returns None for a form of the call that it does not know.
RULES: dict[str, Rule] = {
    "linear": linear,
    **dict.fromkeys(("matmul", "__matmul__", "mm"), matmul),
    "addmm": addmm,
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), convolution),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), transposed_convolution),
    "layer_norm": layer_norm,
    "rms_norm": rms_norm,
    "group_norm": group_norm,
    "instance_norm": instance_norm,
    "batch_norm": batch_norm,
    "embedding": embedding,
    "embedding_bag": embedding_bag,
    "prelu": prelu,
    **dict.fromkeys(("add", "__radd__", "sub", "__rsub__", "rsub", "mul", "__rmul__", "div", "true_divide"), broadcast),
    **dict.fromkeys(("__truediv__", "pow", "lerp", "where", "maximum", "minimum", "addcmul", *IN_PLACE), broadcast),
    **dict.fromkeys(("expand", "expand_as", "broadcast_to"), broadcast),
    **dict.fromkeys(("repeat", "tile"), repeat),
    **dict.fromkeys(("lstm", "gru", "rnn_tanh", "rnn_relu"), recurrent),
    **dict.fromkeys(("lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"), cell),
}


def contributions(call: Call, grads: list[Tensor | None]) -> list[tuple[Shared, Contribution]]:
    """What a call adds to the per-sample gradients of its parameters, given the gradients of its results."""
    call.check_unchanged()
    rule = RULES.get(call.name)
    parts = None if rule is None else rule(call, grads)
    return list(fallback(call, grads) if parts is None else parts)
