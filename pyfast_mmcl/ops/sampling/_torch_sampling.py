"""The references under the names of the compiled samplers, for the choice between them."""

from ._reservoir_torch import ReservoirReference as Reservoir
from ._tree_torch import TreeReference as PriorityTree
from .alias import alias_sample_reference as alias_sample
from .gumbel import gumbel_top_k_reference as gumbel_top_k
from .herding import herding_reference as herding
from .k_center import k_center_reference as k_center
from .weighted import weighted_keys_reference as weighted_keys

__all__ = ["PriorityTree", "Reservoir", "alias_sample", "gumbel_top_k", "herding", "k_center", "weighted_keys"]
