"""States of memories: damaged ones and those of other settings are one sentence, and nothing is lost."""

import copy

import pytest
import torch

from pyfast_mmcl._errors import CheckpointError, InputError
from pyfast_mmcl.train.memory import Memory
from tests.check import raises_sentence
from tests.train.memory_rows import fill, rows


def damaged(state, name):
    state = dict(state)
    if name == "keys missing":
        del state["keys"]
    elif name == "order":
        state["keys"] = state["keys"].flip(0)
    elif name == "short column":
        state["target"] = state["target"][1:]
    elif name == "id twice":
        state["index"] = torch.zeros_like(state["index"])
    elif name == "dtype":
        state["index"] = state["index"].float()
    elif name == "seed":
        del state["seed"]
    elif name == "too many":
        state["capacity"] = 3
    elif name == "no presence":
        state["present"] = {}
    return state


@pytest.mark.parametrize(
    "name", ["keys missing", "order", "short column", "id twice", "dtype", "seed", "no presence", "too many"]
)
@pytest.mark.parametrize("policy", ["reservoir", "class_balanced"])
def test_a_damaged_state_is_refused_and_nothing_is_lost(policy, name):
    memory = fill(Memory(3 if name == "too many" else 8, policy=policy), torch.arange(50), 50)
    before = memory.all()
    other = fill(Memory(8, policy=policy), torch.arange(90), 90).state_dict()
    with raises_sentence(CheckpointError, "damaged"):
        memory.load_state_dict(damaged(other, name))
    assert torch.equal(memory.index, before.index)
    memory.add(rows(range(50, 60)))


@pytest.mark.parametrize("junk", [None, "x", -1, {}, torch.zeros(8, dtype=torch.int64)], ids=repr)
def test_entries_of_another_kind_are_damage(tmp_path, junk):
    for options in ({"codecs": {"image": "int8"}}, {"storage": "memmap", "folder": tmp_path}):
        memory = fill(Memory(8, **options), torch.arange(20), 20, extras=lambda i: {"level": i.float()})
        for place in places_of(memory.state_dict()):
            state = copy.deepcopy(memory.state_dict())
            *above, last = place
            parent = state
            for name in above:
                parent = parent[name]
            parent[last] = junk
            other = Memory(8, **options)
            try:
                other.load_state_dict(state)
            except InputError:  # CheckpointError too
                assert len(other) == 0


def places_of(value, above=()):
    """Every place in nested dicts and lists."""
    names = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for name in names:
        yield (*above, name)
        yield from places_of(value[name], (*above, name))


def test_states_of_other_settings_are_refused():
    state = fill(Memory(4), torch.arange(9), 9).state_dict()
    for other, words in [
        (Memory(5), ("capacity", "4", "5")),
        (Memory(4, max_bytes=10**6), ("max_bytes",)),
        (Memory(4, policy="ring"), ("policy", "reservoir", "ring")),
    ]:
        with raises_sentence(InputError, *words):
            other.load_state_dict(state)
