"""Random histories of a priority tree: always the tree of its leaves, drawing only what may be drawn."""

import itertools

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pyfast_mmcl import _native
from pyfast_mmcl.ops.sampling import PriorityTree
from pyfast_mmcl.ops.sampling._tree_torch import TreeReference, running_sums

PRIORITY = st.sampled_from([0.0, 1e-30, 1e-8, 1.0, 1e30]) | st.floats(2.0**-20, 2.0**20, width=32)


class TreeMachine(RuleBasedStateMachine):
    backend = "torch"

    @initialize(capacity=st.sampled_from([1, 2, 15, 16, 17, 255, 256, 257, 300]))
    def start(self, capacity):
        self.leaves = torch.zeros(capacity)
        self.tree = PriorityTree(capacity, seed=1, backend=self.backend)

    @rule(data=st.data())
    def update(self, data):
        place = st.integers(0, len(self.leaves) - 1)
        pairs = data.draw(st.lists(st.tuples(place, PRIORITY), min_size=1, max_size=40))
        for index, priority in pairs:
            self.leaves[index] = priority
        index, priority = zip(*pairs, strict=True)
        self.tree.update(torch.tensor(index), torch.tensor(priority))

    @rule(stratified=st.booleans(), n=st.integers(1, 50))
    def sample(self, stratified, n):
        if not bool((self.leaves > 0).any()):
            return
        draw = self.tree.sample(n, stratified=stratified, beta=0.5)
        assert bool((self.leaves[draw.index] > 0).all())
        assert bool((draw.weight <= 1).all()) and bool((draw.weight > 0).all())
        if stratified:
            assert bool((draw.index.diff() >= 0).all())

    @rule()
    def restore(self):
        state = self.tree.state_dict()
        self.tree = PriorityTree(len(self.leaves), backend=self.backend)
        self.tree.load_state_dict(state)

    @invariant()
    def leaves_and_ends(self):
        assert torch.equal(self.tree.priority(torch.arange(len(self.leaves))), self.leaves)
        positive = self.leaves[self.leaves > 0]
        assert len(self.tree) == len(positive)
        assert self.tree.minimum == (float(positive.min()) if len(positive) else float("inf"))

    @invariant()
    def sums_are_those_of_the_leaves(self):
        fresh = TreeReference(len(self.leaves))
        fresh.load(self.leaves)
        assert self.tree.total == fresh.total
        exact = float(self.leaves.double().sum())
        assert abs(self.tree.total - exact) <= 1e-14 * exact

    @invariant()
    def nodes_are_recomputed_from_children(self):
        if self.backend != "torch":
            return
        levels = self.tree._tree.sums
        for below, above in itertools.pairwise(levels):
            prefix = running_sums(below)
            assert bool((prefix.diff(dim=1) >= 0).all()), "prefixes never fall"
            assert torch.equal(prefix[:, -1], above.view(-1)[: len(prefix)]), "a sum of a child is its last prefix"


class NativeTreeMachine(TreeMachine):
    backend = "native"


TestTree = TreeMachine.TestCase
TestTree.settings = settings(max_examples=20, stateful_step_count=15, deadline=None)
TestNativeTree = pytest.mark.skipif(not _native.available()[0], reason="the compiled kernels are missing")(
    NativeTreeMachine.TestCase
)
TestNativeTree.settings = TestTree.settings
