"""Every op of the family with typical arguments, callable on the op and on its reference alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pyfast_mmcl.ops import contrastive
from pyfast_mmcl.ops.contrastive import reference

Leaves = dict[str, Tensor]


@dataclass(frozen=True)
class Case:
    """``call(module, leaves, **options)`` with module = the ops or the reference; which leaves get a gradient."""

    name: str
    call: Callable[..., Tensor]
    learned: tuple[str, ...]
    least: int = 1  # rows it needs

    def __str__(self) -> str:
        return self.name


def leaves(n: int, features: int = 24, scale: float = 20.0, dtype: torch.dtype = torch.float64) -> Leaves:
    """Unit rows whose pairs resemble each other, teachers near them, a wider side c, labels; rounded to ``dtype``."""
    a = F.normalize(torch.randn(n, features), dim=1)
    b = F.normalize(a + 0.7 * torch.randn(n, features), dim=1)
    c = F.normalize(torch.randn(n + 3, features), dim=1)
    teachers = {f"t{k}": F.normalize(x + 0.3 * torch.randn_like(x), dim=1) for k, x in (("a", a), ("b", b), ("c", c))}
    rows = {k: x.to(dtype) for k, x in {"a": a, "b": b, "c": c, **teachers}.items()}
    numbers = {"scale": torch.tensor(scale), "bias": torch.tensor(-8.0)}
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    fixed = {
        "labels": torch.randint(0, max(2, n // 3), (n,)) * 7 - 3,
        "others": torch.randint(0, max(2, n // 3) + 2, (n + 3,)) * 7 - 3,
        "weights": torch.rand(n),
        "more_weights": torch.rand(n + 3),
    }
    return {**rows, **{k: x.to(wide) for k, x in numbers.items()}, **fixed}


def _info(**fixed: Any) -> Callable[..., Tensor]:
    return lambda m, x, **kw: m.info_nce(x["a"], x["b"], x["scale"], **fixed, **kw)


def _several(m: ModuleType, x: Leaves, **kw: Any) -> Tensor:
    labels, weights = (x["labels"], x["others"]), (x["weights"], x["more_weights"])
    return m.info_nce(x["a"], x["c"], x["scale"], labels=labels, weights=weights, **kw)


def _kl(b: str, **fixed: Any) -> Callable[..., Tensor]:
    return lambda m, x, **kw: m.similarity_kl(
        x["a"], x[b], x["ta"], x["t" + b], student_scale=x["scale"], teacher_scale=15.0, **fixed, **kw
    )


def _siglip(m: ModuleType, x: Leaves, **kw: Any) -> Tensor:
    return m.siglip(x["a"], x["c"], x["scale"], x["bias"], labels=(x["labels"], x["others"]), **kw)


SIDES = ("a", "b", "scale")
CASES = (
    Case("info_nce", _info(), SIDES),
    Case("info_nce-ab-sum", _info(direction="ab", reduction="sum"), SIDES),
    Case("info_nce-ba-none", _info(direction="ba", reduction="none"), SIDES),
    Case("info_nce-rows", _info(reduction="none"), SIDES),
    Case("info_nce-several", _several, ("a", "c", "scale")),
    Case("nt_xent", lambda m, x, **kw: m.nt_xent(torch.cat([x["a"], x["b"]]), x["scale"], **kw), SIDES),
    Case("sup_con", lambda m, x, **kw: m.sup_con(x["a"], x["labels"], x["scale"], **kw), ("a", "scale")),
    Case(
        "sup_con-rows",
        lambda m, x, **kw: m.sup_con(
            x["c"], x["others"], x["scale"], weights=x["more_weights"], reduction="none", **kw
        ),
        ("c", "scale"),
    ),
    Case(
        "siglip",
        lambda m, x, **kw: m.siglip(x["a"], x["b"], x["scale"], x["bias"], **kw),
        (*SIDES, "bias"),
    ),
    Case("siglip-several", _siglip, ("a", "c", "scale", "bias")),
    Case("similarity_kl", _kl("b"), SIDES),
    Case("similarity_kl-rectangular", _kl("c"), ("a", "c", "scale")),
    Case("similarity_kl-diagonal", _kl("b", exclude_diagonal=True, direction="ab"), SIDES),
    Case("similarity_kl-right", _kl("b", skip_wrong=True, reduction="sum"), SIDES),
    Case("similarity_kl-ba", _kl("c", direction="ba", reduction="none"), ("a", "c", "scale")),
)
RELATIONS = (
    Case("distance", lambda m, x, **kw: m.relation_distance(x["a"], x["tb"], delta=0.3, **kw), ("a",)),
    Case("angle", lambda m, x, **kw: m.relation_distance(x["a"], x["tb"], kind="angle", **kw), ("a",)),
)


def run(case: Case, module: ModuleType, given: Leaves, **options: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """The value, and the gradients of its weighted sum for the learned leaves."""
    x = {k: v.detach().clone().requires_grad_(k in case.learned) for k, v in given.items()}
    value = case.call(module, x, **options)
    steps = torch.linspace(0.5, 1.5, max(value.numel(), 1), dtype=value.dtype, device=value.device)
    upstream = steps[: value.numel()].reshape(value.shape)
    grads = torch.autograd.grad(value, [x[k] for k in case.learned], upstream)
    return value.detach(), dict(zip(case.learned, grads, strict=True))


def ours(case: Case, given: Leaves, **options: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """`run` on the ops."""
    return run(case, contrastive, given, **options)


def truth(case: Case, given: Leaves) -> tuple[Tensor, dict[str, Tensor]]:
    """`run` on the whole matrices in float64."""
    return run(case, reference, {k: v.double() if v.is_floating_point() else v for k, v in given.items()})


def plain(case: Case, given: Leaves) -> tuple[Tensor, dict[str, Tensor]]:
    """`run` on the whole matrices in the precision of the rows."""
    return run(case, reference, given)
