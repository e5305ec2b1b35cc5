"""A memory of multimodal examples, the policies that fill it and the ways to store it."""

from pyfast_mmcl.train.memory.codecs import CODECS
from pyfast_mmcl.train.memory.memory import Memory
from pyfast_mmcl.train.memory.policies import (
    POLICIES,
    Balanced,
    Candidates,
    Herding,
    KeyPolicy,
    Policy,
    Priority,
    Reservoir,
    Ring,
    Weighted,
)
from pyfast_mmcl.train.memory.source import ReplaySource

__all__ = [
    "Memory",
    "ReplaySource",
    "Policy",
    "Candidates",
    "KeyPolicy",
    "POLICIES",
    "Reservoir",
    "Ring",
    "Weighted",
    "Balanced",
    "Herding",
    "Priority",
    "CODECS",
]
