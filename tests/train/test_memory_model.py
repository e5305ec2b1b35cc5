"""Random histories of every policy and storage against a dictionary."""

import copy
import tempfile

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyfast_mmcl.train.memory import Memory
from tests.train.memory_model import Model
from tests.train.memory_rows import rows

SETS = (("image",), ("text",), ("image", "text"), ("text", "sound"), ("image", "text", "sound"))
ids = st.lists(st.integers(0, 30), min_size=1, max_size=12)
steps = st.one_of(
    st.tuples(st.just("add"), ids, st.sampled_from(SETS)),
    st.tuples(st.just("update"), ids, st.integers(1, 9)),
    st.tuples(st.just("sample"), st.integers(1, 12), st.integers(0, 99)),
    st.tuples(st.just("checkpoint")),
    st.tuples(st.just("resume")),
)


def priority_of(index):
    return (index * 7 % 5).float() + 1


class History:
    """One memory and its model side by side, with the last checkpoint of both."""

    def __init__(self, policy, capacity, storage, folder):
        self.make = lambda: Memory(
            capacity, policy=policy, seed=3, storage=storage, folder=folder if storage == "memmap" else None
        )
        self.memory, self.model = self.make(), Model(policy, capacity, 3)
        self.saved = None

    def add(self, index, modalities):
        batch = rows(index, modalities)
        value = priority_of(batch.index)
        self.memory.add(batch, {"priority": value, "weight": value.double()})
        self.model.add(batch, value)

    def update(self, index, value):
        if len(self.memory):
            values = torch.arange(len(index)) % 3 + value
            held = self.memory.update(
                torch.tensor(index), {"priority": values.float(), "weight": values.double()}
            ).tolist()
            assert held == [i in self.model.held for i in index]
            self.model.update(index, values.tolist())

    def sample(self, n, seed):
        if len(self.memory):
            drawn = self.memory.sample(n, torch.Generator().manual_seed(seed), by="uniform")
            assert len(drawn) == min(n, len(self.memory)) == drawn.index.unique().numel()
            self.check_rows(drawn)

    def checkpoint(self):
        self.saved = (self.memory.state_dict(), copy.deepcopy(self.model))

    def resume(self):
        if self.saved is not None:
            # The run that goes on is another one: what it does must not reach back into the saved state.
            self.memory = self.make()
            self.memory.load_state_dict(self.saved[0])
            self.model = copy.deepcopy(self.saved[1])

    def check(self):
        assert len(self.memory) == len(self.model.held)
        if self.model.held:
            kept = self.memory.all()
            assert kept.index.tolist() == self.model.order() == self.memory.index.tolist()
            self.check_rows(kept)

    def check_rows(self, batch):
        held = [self.model.held[i] for i in batch.index.tolist()]
        assert batch.target.tolist() == [row["target"] for row in held]
        assert batch.task.tolist() == [row["task"] for row in held]
        assert batch.extras["priority"].tolist() == [row["priority"] for row in held]
        for name, column in batch.inputs.items():
            present = torch.tensor([row["present"].get(name, False) for row in held])
            assert torch.equal(batch.present[name], present)
            assert torch.equal(column[present], full(name, batch.index)[present])
            assert column[~present].eq(0).all()


def full(name, index):
    """A modality of rows that all have it."""
    others = {"image": "text", "text": "image", "sound": "image"}
    return rows(index, (name, others[name])).inputs[name]


def run(policy, storage, capacity, plan):
    with tempfile.TemporaryDirectory() as folder:
        history = History(policy, capacity, storage, folder)
        for name, *arguments in plan:
            getattr(history, name)(*arguments)
            history.check()


@pytest.mark.parametrize("policy", ["reservoir", "ring", "class_balanced", "task_balanced", "priority", "weighted"])
@settings(max_examples=25)
@given(capacity=st.integers(1, 9), plan=st.lists(steps, max_size=12))
def test_a_memory_is_its_model(policy, capacity, plan):
    run(policy, "device", capacity, plan)


@pytest.mark.parametrize("policy", ["reservoir", "ring", "priority"])
@settings(max_examples=12)
@given(capacity=st.integers(1, 9), plan=st.lists(steps, max_size=12))
def test_a_memory_map_is_its_model(policy, capacity, plan):
    run(policy, "memmap", capacity, plan)
