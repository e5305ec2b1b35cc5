"""One call of a torch function that mixes parameters with data, and where the samples lie in its tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ..._errors import InputError
from .layout import Layout
from .plan import Plan
from .shared import Shared, tensors_in


@dataclass(eq=False)
class Call:
    """key: name in messages, the same in every forward pass; targets: the shared tensors among the arguments.

    plan: knows the layouts of its arguments and results, once it has learned.
    """

    key: str
    function: Callable
    args: tuple
    kwargs: dict[str, Any]
    targets: list[Shared]
    plan: Plan
    samples: int = 0
    tensors: list[Tensor] = field(default_factory=list)  # those among the arguments, in order
    _versions: list[int] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The function's own name."""
        return getattr(self.function, "__name__", str(self.function))

    def freeze(self) -> None:
        """Remember the state of the arguments, which are read again in the backward pass."""
        self.tensors = tensors_in((self.args, self.kwargs))
        self._versions = [t._version for t in self.tensors]

    def check_unchanged(self) -> None:
        """Raise InputError when an argument was overwritten since the forward pass."""
        if [t._version for t in self.tensors] != self._versions:
            raise InputError(
                f"{self.key}: an input of this layer was changed in place after it was used, so the per-sample "
                "gradient cannot be formed; use the out-of-place form of that operation."
            )

    def release(self) -> None:
        """Let go of the arguments: no further pass will ask for them."""
        self.args, self.kwargs, self.targets, self.tensors = (), {}, [], []

    def bind(self, *names: str) -> list[Any]:
        """The arguments by position or by these names; None for those that were not given."""
        given = dict(zip(names, self.args, strict=False))
        return [given.get(name, self.kwargs.get(name)) for name in names]

    def target(self, x: Any) -> Shared | None:
        """The shared tensor that is the argument ``x``, or None."""
        return next((s for s in self.targets if s.value is x), None)

    def shares_memory(self, x: Tensor) -> bool:
        """Whether ``x`` is a view of one of the parameters."""
        return any(x.untyped_storage().data_ptr() == s.value.untyped_storage().data_ptr() for s in self.targets)

    def rows(self, x: Tensor) -> Tensor | None:
        """The argument ``x`` as [B, …], one sample per row; None when it is the same for every sample."""
        layout = self._layout_of(x)
        return None if layout is None else layout.rows(x.detach(), self.samples)

    def _layout_of(self, x: Tensor) -> Layout | None:
        layouts, _ = self.plan.layouts(self.key)
        if layouts is None:
            raise InputError(
                f"{self.key}: not seen on the first samples; a model whose layers depend on the data (routing, early "
                "exits) has no layout that holds for all batches, so leave these parameters out with params=."
            )
        place = next(i for i, t in enumerate(self.tensors) if t is x)
        return layouts[place]

    def out_layout(self, g: Tensor, place: int = 0) -> Layout:
        """Where the samples lie in result number ``place``, of which ``g`` is the gradient."""
        _, results = self.plan.layouts(self.key)
        layout = None if results is None else results[place]
        if layout is None or not layout.fits(g, self.samples):
            raise InputError(
                f"{self.key}: its result of shape {list(g.shape)} does not hold the {self.samples} samples of the "
                "batch along one dimension, so samples cannot be told apart; mixing them has no per-sample Fisher."
            )
        return layout

    def out_rows(self, g: Tensor, place: int = 0) -> Tensor:
        """The gradient of result number ``place`` as [B, …], one sample per row."""
        return self.out_layout(g, place).rows(g, self.samples)
