"""One rank's part of the arguments: checked alone, with what the other ranks must have alike."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..._errors import InputError
from . import _dispatch
from . import _inputs as inputs
from .info_nce import REDUCTIONS
from .info_nce import _weights_of_sides as weights_of_sides

SCALE_GRADIENTS = ("share", "sum", "mean")


@dataclass(frozen=True)
class Options:
    """What a caller says beside rows and labels."""

    reduction: str
    precision: str
    backend: str
    gradient_factor: float
    scale_gradient: str
    reductions: tuple[str, ...] = REDUCTIONS


@dataclass
class Own:
    """This rank's rows and what goes with them."""

    a: Tensor  # [N, D]
    b: Tensor  # [M, D]
    scale: Any
    bias: Any = 0.0
    labels: tuple[Tensor, Tensor] | None = None  # int64 [N] and [M]; None: row i belongs to column i
    weights: tuple[Tensor | None, Tensor | None] = (None, None)  # float64 [N] and [M]
    precision: str = "auto"
    equal: dict[str, Any] = field(default_factory=dict)  # what every rank must have alike


def read_pair(a: Any, b: Any, scale: Any, bias: Any, labels: Any, options: Options, **equal: Any) -> Own:
    """Two sides of rows with their scale and labels."""
    given = b
    a, b = inputs.pair_of(a, b)
    if labels is None and a.shape[0] != b.shape[0]:
        raise InputError(
            f"a and b: without labels row i belongs to row i, expected as many rows of b as of a on every rank, "
            f"got {a.shape[0]} and {b.shape[0]}; pass labels=(labels_a, labels_b)."
        )
    own = Own(*_wanted(a, b, inputs.scalar(scale, "scale"), inputs.scalar(bias, "bias")))
    if labels is not None:
        own.labels = inputs.labels_of(labels, a.shape[0], b.shape[0], a.device)
    own.precision = inputs.precision_of(options.precision, a, given)
    own.equal = _alike(own, options) | equal
    return own


def read_rows(z: Any, scale: Any, labels: Any, views: bool, options: Options) -> Own:
    """Rows compared among themselves: labelled, or ``views`` of which i and i + N/2 belong together."""
    z = inputs.rows_of(z, "z")
    if views and z.shape[0] % 2:
        raise InputError(f"z: expected an even number of rows, two views of each example, got {z.shape[0]}.")
    # The columns are the same rows without a gradient of their own: that of the rows holds both parts.
    own = Own(*_wanted(z, z.detach(), inputs.scalar(scale, "scale")))
    if not views:
        own.labels = (ids := inputs.integers(labels, "labels", z.shape[0], z.device), ids)
    own.precision = inputs.precision_of(options.precision, z)
    own.equal = _alike(own, options)
    return own


def read_weights(own: Own, weights: Any, direction: str) -> None:
    """Weights of the rows and of the columns, as `info_nce` reads them."""
    own.weights = weights_of_sides(weights, own.a.shape[0], own.b.shape[0], direction, own.a.device)
    own.equal["weights"] = "no weights" if weights is None else "weights"


def _alike(own: Own, options: Options) -> dict[str, Any]:
    inputs.check_word("reduction", options.reduction, options.reductions)
    inputs.check_word("scale gradient", options.scale_gradient, SCALE_GRADIENTS)
    _dispatch.module("the ring", options.backend, own.a, own.b)
    wanted = [name for name, x in _named(own) if isinstance(x, Tensor) and x.requires_grad]
    return {
        "features": own.a.shape[1],
        "dtype": str(own.a.dtype).removeprefix("torch."),
        "device": own.a.device.type,
        "scale": _digits(own.scale),
        "bias": _digits(own.bias),
        "labels": "no labels" if own.labels is None else "labels",
        "reduction": options.reduction,
        "precision": own.precision,
        "gradient factor": options.gradient_factor,
        "scale gradient": options.scale_gradient,
        "gradients wanted": " and ".join(wanted) or "none",
    }


def _wanted(*given: Any) -> list[Any]:
    # Without a graph no rank has gradients, whatever its leaves say: all must send the same messages.
    detach = not torch.is_grad_enabled()
    return [x.detach() if detach and isinstance(x, Tensor) else x for x in given]


def _digits(x: Any) -> str:
    # As a text, for NaN equals NaN then.
    return repr(float(x.detach() if isinstance(x, Tensor) else x))


def _named(own: Own) -> Iterable[tuple[str, Any]]:
    return (("a", own.a), ("b", own.b), ("scale", own.scale), ("bias", own.bias))
