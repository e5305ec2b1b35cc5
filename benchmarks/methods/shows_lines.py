"""Lines of the tables of the shows: a recipe, its arguments, and the strength that is tuned for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Line:
    """A recipe as it stands in a table.

    keeps     whether it takes the memory of the show (``capacity``)
    strength  the argument that is tuned over ``grid``; ``like``: the line whose tuned strength is taken over
    fixed     further arguments; lr: a learning rate of its own, where its paper asks for another optimum
    """

    recipe: str
    keeps: bool = False
    strength: str = ""
    grid: tuple[float, ...] = ()
    like: str = ""
    fixed: tuple[tuple[str, Any], ...] = ()
    lr: float | None = None


LINES = {
    "finetune": Line("finetune"),
    "joint": Line("joint"),
    "er": Line("er", keeps=True),
    "derpp": Line("derpp", keeps=True),
    "icarl": Line("icarl", keeps=True),
    "samm": Line("samm", keeps=True),
    "ewc": Line("ewc", strength="lam", grid=(1e2, 1e3, 1e4)),
    "lwf": Line("lwf", strength="lam", grid=(1.0, 3.0, 10.0)),
    "feature_kd": Line("feature_kd", strength="lam", grid=(1.0, 5.0, 25.0)),
    "relation_kd": Line("relation_kd", strength="lam", grid=(1.0, 10.0, 100.0)),
    "hat": Line("hat"),
    "progressive": Line("progressive"),
    "mas": Line("mas", strength="lam", grid=(0.01, 0.1, 1.0)),
}
