"""Lines of the tables of the shows: a recipe, its arguments, and the strength that is tuned for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Line:
    """A recipe as it stands in a table.

    keeps     whether it takes the memory of the show (``capacity``)
    strength  the argument that is tuned over ``grid``, or "lr", the learning rate, where the weights that train are
              others than those of the rest of the table; ``like``: the line whose tuned strength is taken over
    fixed     further arguments
    plain     whether a small classifier serves where the recipe asks for a CLIP and the show has none
    """

    recipe: str
    keeps: bool = False
    strength: str = ""
    grid: tuple[float, ...] = ()
    like: str = ""
    fixed: tuple[tuple[str, Any], ...] = ()
    optimizer: str = "adamw"
    plain: bool = False


# Adapters and prompts start from nothing, and their papers train them faster than CLIP's own weights.
_RATES = (1e-3, 3e-3)

LINES = {
    "finetune": Line("finetune"),
    "joint": Line("joint"),
    "zero-shot": Line("frozen"),
    "frozen, linear probe": Line("frozen", fixed=(("probe", "linear"),), plain=True),
    "er": Line("er", keeps=True),
    "derpp": Line("derpp", keeps=True),
    "icarl": Line("icarl", keeps=True),
    "samm": Line("samm", keeps=True),
    "ewc": Line("ewc", strength="lam", grid=(1e2, 1e3, 1e4)),
    "lwf": Line("lwf", strength="lam", grid=(1.0, 3.0, 10.0)),
    # The paper's weight for tasks that are told apart, and the one that tuning chose on digits.
    "lwf, λ 1": Line("lwf", fixed=(("lam", 1.0),)),
    "feature_kd": Line("feature_kd", strength="lam", grid=(1.0, 5.0, 25.0)),
    "relation_kd": Line("relation_kd", strength="lam", grid=(1.0, 10.0, 100.0)),
    "dgr": Line("dgr"),
    "hat": Line("hat", strength="lr", grid=(1e-3, 3e-3, 1e-2)),
    "progressive": Line("progressive"),
    "wise_ft": Line("wise_ft"),
    "zscl": Line("zscl"),
    "mod_x": Line("mod_x"),
    "dkr": Line("dkr"),
    "moe_adapters": Line("moe_adapters", strength="lr", grid=_RATES),
    "s_liprompts": Line("s_liprompts", strength="lr", grid=_RATES),
    "cpe_clip": Line("cpe_clip", strength="lr", grid=(3e-2, 3e-1), optimizer="sgd"),
    "mas": Line("mas", strength="lam", grid=(0.01, 0.1, 1.0)),
}
