"""Exact, fast kernels and readable methods for multimodal continual learning and deep clustering.

Importing the package compiles nothing, needs no GPU and does not import torch: names are resolved on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from pyfast_mmcl.ops.contrastive import PackedReference
    from pyfast_mmcl.ops.contrastive.info_nce import info_nce
    from pyfast_mmcl.ops.contrastive.nt_xent import nt_xent
    from pyfast_mmcl.ops.contrastive.relation_distance import relation_distance
    from pyfast_mmcl.ops.contrastive.siglip import siglip
    from pyfast_mmcl.ops.contrastive.similarity_kl import similarity_kl
    from pyfast_mmcl.ops.contrastive.sup_con import sup_con
    from pyfast_mmcl.ops.fisher.diagonal import fisher_diagonal
    from pyfast_mmcl.ops.fisher.fold import fold_quadratics
    from pyfast_mmcl.ops.fisher.norms import per_sample_norms
    from pyfast_mmcl.ops.fisher.outer import outer_square_accumulate
    from pyfast_mmcl.ops.fisher.pairs import pair_losses
    from pyfast_mmcl.ops.fisher.penalty import quadratic_penalty
    from pyfast_mmcl.ops.knn.lloyd import lloyd_step
    from pyfast_mmcl.ops.knn.nearest import nearest
    from pyfast_mmcl.ops.knn.packed import PackedRows
    from pyfast_mmcl.ops.knn.search import knn
    from pyfast_mmcl.ops.sampling.alias import AliasTable
    from pyfast_mmcl.ops.sampling.balance import balanced_allocation
    from pyfast_mmcl.ops.sampling.gumbel import gumbel_top_k
    from pyfast_mmcl.ops.sampling.herding import herding
    from pyfast_mmcl.ops.sampling.k_center import k_center
    from pyfast_mmcl.ops.sampling.keys import reservoir_keys
    from pyfast_mmcl.ops.sampling.merge import merge_reservoir
    from pyfast_mmcl.ops.sampling.priority_tree import PriorityTree
    from pyfast_mmcl.ops.sampling.reservoir import Reservoir
    from pyfast_mmcl.ops.sampling.weighted import weighted_keys
    from pyfast_mmcl.train.learner import Learner
    from pyfast_mmcl.train.memory import Memory

_HOME = {
    "knn": "pyfast_mmcl.ops.knn",
    "PackedRows": "pyfast_mmcl.ops.knn",
    "nearest": "pyfast_mmcl.ops.knn",
    "lloyd_step": "pyfast_mmcl.ops.knn",
    "info_nce": "pyfast_mmcl.ops.contrastive",
    "nt_xent": "pyfast_mmcl.ops.contrastive",
    "sup_con": "pyfast_mmcl.ops.contrastive",
    "siglip": "pyfast_mmcl.ops.contrastive",
    "similarity_kl": "pyfast_mmcl.ops.contrastive",
    "relation_distance": "pyfast_mmcl.ops.contrastive",
    "PackedReference": "pyfast_mmcl.ops.contrastive",
    "outer_square_accumulate": "pyfast_mmcl.ops.fisher",
    "fisher_diagonal": "pyfast_mmcl.ops.fisher",
    "per_sample_norms": "pyfast_mmcl.ops.fisher",
    "pair_losses": "pyfast_mmcl.ops.fisher",
    "quadratic_penalty": "pyfast_mmcl.ops.fisher",
    "fold_quadratics": "pyfast_mmcl.ops.fisher",
    "reservoir_keys": "pyfast_mmcl.ops.sampling",
    "weighted_keys": "pyfast_mmcl.ops.sampling",
    "merge_reservoir": "pyfast_mmcl.ops.sampling",
    "balanced_allocation": "pyfast_mmcl.ops.sampling",
    "Reservoir": "pyfast_mmcl.ops.sampling",
    "herding": "pyfast_mmcl.ops.sampling",
    "k_center": "pyfast_mmcl.ops.sampling",
    "gumbel_top_k": "pyfast_mmcl.ops.sampling",
    "PriorityTree": "pyfast_mmcl.ops.sampling",
    "AliasTable": "pyfast_mmcl.ops.sampling",
    "Learner": "pyfast_mmcl.train.learner",
    "Memory": "pyfast_mmcl.train.memory",
}
_ROOMS = ("ops", "losses", "models", "metrics", "data", "train", "continual", "clustering", "report")

__all__ = [
    "__version__",
    "knn",
    "PackedRows",
    "nearest",
    "lloyd_step",
    "info_nce",
    "nt_xent",
    "sup_con",
    "siglip",
    "similarity_kl",
    "relation_distance",
    "PackedReference",
    "outer_square_accumulate",
    "fisher_diagonal",
    "per_sample_norms",
    "pair_losses",
    "quadratic_penalty",
    "fold_quadratics",
    "reservoir_keys",
    "weighted_keys",
    "merge_reservoir",
    "balanced_allocation",
    "Reservoir",
    "herding",
    "k_center",
    "gumbel_top_k",
    "PriorityTree",
    "AliasTable",
    "Learner",
    "Memory",
    *_ROOMS,
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    if name in _ROOMS:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
