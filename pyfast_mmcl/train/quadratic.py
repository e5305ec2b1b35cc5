"""The penalty of the weight-regularisation methods: a weighted squared distance from an anchor."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn

from pyfast_mmcl._errors import CheckpointError, InputError
from pyfast_mmcl.ops.fisher import fold_quadratics, quadratic_penalty

Named = Mapping[str, Tensor]


class Quadratic:
    """Σ_i w_i (θ_i − θ*_i)² + constant over the parameters of a model, kept by their names.

    weight, anchor  {name: tensor of the shape of the parameter}, float32 (float64 for a float64 model)

    A parameter that is not in ``weight`` is free. One that has grown since, such as a head with new rows, keeps what is
    known in the leading corner; its new entries have weight 0.
    """

    def __init__(self) -> None:
        self.weight: dict[str, Tensor] = {}
        self.anchor: dict[str, Tensor] = {}
        self.constant = 0.0

    def penalty(self, model: nn.Module, strength: float, weight: Named | None = None) -> Tensor | None:
        """strength · (Σ_i w_i (θ_i − θ*_i)² + constant), or None while nothing is anchored or with a strength of 0.

        weight: other weights than those kept, for this once.
        """
        # A gradient of zeros is not the same as none: it would have AdamW decay weights that the loss does not use.
        kept = self.follow(model) if strength else {}
        if not kept:
            return None
        weight = self.weight if weight is None else weight
        anchors, weights = [self.anchor[name] for name in kept], [weight[name] for name in kept]
        value = quadratic_penalty(list(kept.values()), anchors, weights, 2 * strength)
        return value + strength * self.constant if self.constant else value

    def gradient(self, model: nn.Module, strength: float) -> dict[str, Tensor]:
        """{name: 2 · strength · w (θ − θ*)}, what ``penalty`` adds to the gradient of every parameter."""
        kept = self.follow(model)
        return {name: 2 * strength * self.weight[name] * (p.detach() - self.anchor[name]) for name, p in kept.items()}

    def add(self, model: nn.Module, weight: Named, decay: float = 1.0) -> None:
        """w ← decay · w + weight, anchored at the parameters as they are now."""
        total = {name: decay * self.weight[name] for name in self.follow(model)}
        for name, new in weight.items():
            total[name] = total[name] + new if name in total else new
        self.anchor_here(model, total)

    def anchor_here(self, model: nn.Module, weight: Named) -> None:
        """w ← weight, anchored at the parameters as they are now."""
        self.anchor = {name: copied(p) for name, p in model.named_parameters() if name in weight}
        self.weight = {name: weight[name].to(copy=True) for name in self.anchor}

    def fold(self, model: nn.Module, weight: Named) -> None:
        """Add Σ_i weight_i (θ_i − now_i)², now the parameters as they are: the sum is one such quadratic again.

        w' = w + weight,  θ*' = (w θ* + weight now) / w',  and the constant makes the values agree too.
        """
        self.follow(model)
        now = {name: copied(p) for name, p in model.named_parameters() if name in weight}
        anchors = [self.anchor.get(name, torch.zeros_like(x)) for name, x in now.items()]
        weights = [self.weight.get(name, torch.zeros_like(x)) for name, x in now.items()]
        new = [weight[name] for name in now]
        folded = fold_quadratics(anchors, weights, list(now.values()), new, self.constant)
        self.anchor |= dict(zip(now, folded[0], strict=True))
        self.weight |= dict(zip(now, folded[1], strict=True))
        self.constant = folded[2]

    def follow(self, model: nn.Module) -> dict[str, nn.Parameter]:
        """The anchored parameters that the model still has. What is kept of them takes on their shape and device."""
        kept = {name: p for name, p in model.named_parameters() if name in self.weight}
        for name, p in kept.items():
            self.weight[name] = grown(name, self.weight[name], p)
            self.anchor[name] = grown(name, self.anchor[name], p)
        return kept

    def state_dict(self) -> dict[str, Any]:
        return {"weight": dict(self.weight), "anchor": dict(self.anchor), "constant": float(self.constant)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what ``state_dict`` gave. Raises CheckpointError for anything else."""
        weight, anchor = state_entry(state, "weight", dict), state_entry(state, "anchor", dict)
        constant = state_entry(state, "constant", float)
        if {name: w.shape for name, w in weight.items()} != {name: a.shape for name, a in anchor.items()}:
            raise CheckpointError(
                "checkpoint: expected weights and anchors of the same parameters and shapes in the state of a penalty; "
                "resume from a checkpoint of this method."
            )
        self.weight, self.anchor, self.constant = dict(weight), dict(anchor), constant


def state_entry(state: Any, name: str, kind: type) -> Any:
    """state[name], which is to be of ``kind``. Raises CheckpointError where another part wrote the state."""
    if not isinstance(state, dict) or not isinstance(state.get(name), kind):
        raise CheckpointError(
            f"checkpoint: expected {name!r} ({kind.__name__}) in the state of a penalty, got a state of another kind; "
            "resume from a checkpoint of this method."
        )
    return state[name]


def penalty_strength(name: str, value: Any) -> float:
    """``value``, a number or a scalar tensor or array, as float; 0 switches a penalty off.

    Raises InputError for anything that is no finite number of at least 0.
    """
    single = scalar(value)
    number = float(single) if isinstance(single, Real) and not isinstance(single, bool) else None
    if number is None or not 0 <= number < float("inf"):
        raise InputError(f"{name}: expected a finite number of at least 0 (0: no penalty), got {value!r}.")
    return number


def scalar(value: Any) -> Any:
    """The number in a scalar tensor or array; everything else as it is, a tensor that wants a gradient too."""
    single = getattr(value, "ndim", None) == 0 and not getattr(value, "requires_grad", False)
    return value.item() if single else value


def grown(name: str, kept: Tensor, parameter: Tensor) -> Tensor:
    """``kept`` on the device and in the shape of ``parameter``: what is new in it is zero.

    Raises InputError when the parameter has become smaller or has another number of axes.
    """
    if kept.shape == parameter.shape:
        return kept if kept.device == parameter.device else kept.to(parameter.device)
    if kept.ndim != parameter.ndim or any(a > b for a, b in zip(kept.shape, parameter.shape, strict=True)):
        raise InputError(
            f"parameter {name!r}: expected at least its earlier shape {tuple(kept.shape)}, "
            f"got {tuple(parameter.shape)}; a parameter may grow by appended entries only."
        )
    larger = torch.zeros(parameter.shape, dtype=kept.dtype, device=parameter.device)
    larger[tuple(slice(0, n) for n in kept.shape)] = kept.to(parameter.device)
    return larger


def copied(parameter: Tensor) -> Tensor:
    """The values of a parameter, in float32 at least: what a half-precision difference would lose is what counts."""
    dtype = torch.promote_types(parameter.dtype, torch.float32)
    return parameter.detach().to(dtype, copy=True)
