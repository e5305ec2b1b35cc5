"""Random choices that are the same everywhere: hash keys of (seed, example id)."""

from pyfast_mmcl.ops.sampling.keys import fold_seed, hash_uniform, reservoir_keys

__all__ = ["fold_seed", "hash_uniform", "reservoir_keys"]
