"""Random choices that are the same everywhere, and choices of exemplars.

| what                                                              | file             |
|-------------------------------------------------------------------|------------------|
| `reservoir_keys`, `hash_uniform`, `fold_seed`: hashes of (seed, id)| keys.py          |
| `weighted_keys`: keys of a weighted reservoir                     | weighted.py      |
| `merge_reservoir`: the best rows of everything offered            | merge.py         |
| `balanced_allocation`: rows per group                             | balance.py       |
| `Reservoir`: which rows of a stream enter, and into which slots   | reservoir.py     |
| `PriorityTree`: draws by priorities that change                   | priority_tree.py |
| `AliasTable`: draws by weights that stay                          | alias.py         |
| `gumbel_top_k`: weighted draws without replacement                | gumbel.py        |
| `herding`: exemplars that follow the mean                         | herding.py       |
| `k_center`: exemplars that are far apart                          | k_center.py      |
"""

from .alias import AliasTable
from .balance import balanced_allocation
from .gumbel import gumbel_top_k
from .herding import herding
from .k_center import k_center
from .keys import fold_seed, hash_uniform, reservoir_keys
from .merge import merge_reservoir
from .priority_tree import Draw, PriorityTree
from .reservoir import Offer, Reservoir
from .weighted import weighted_keys

__all__ = [
    "AliasTable",
    "Draw",
    "Offer",
    "PriorityTree",
    "Reservoir",
    "balanced_allocation",
    "fold_seed",
    "gumbel_top_k",
    "hash_uniform",
    "herding",
    "k_center",
    "merge_reservoir",
    "reservoir_keys",
    "weighted_keys",
]
