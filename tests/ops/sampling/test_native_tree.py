"""The compiled sum tree: invariants after any updates, draws by their definition, frequencies, refusals."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from pyfast_mmcl import _native
from pyfast_mmcl._errors import InputError
from pyfast_mmcl.ops.sampling import _native_sampling as native
from pyfast_mmcl.ops.sampling import fold_seed, hash_uniform
from tests.check import raises_sentence

pytestmark = pytest.mark.skipif(not _native.available()[0], reason="the compiled kernels are missing")

SIZES = (1, 2, 15, 16, 17, 255, 256, 257, 4097)


def ordered_sums(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Prefix sums [nodes, 16] of the children, added one after another, and the sums [nodes]."""
    children = torch.nn.functional.pad(values.double(), (0, -len(values) % 16)).view(-1, 16)
    prefix = children.clone()
    for i in range(1, 16):
        prefix[:, i] = prefix[:, i - 1] + children[:, i]
    return prefix, prefix[:, 15]


def lines_of(leaves: torch.Tensor) -> list:
    """Prefix sums by level, node and child, the root last."""
    lines, values = [], leaves
    while True:
        prefix, values = ordered_sums(values)
        lines.append(prefix.tolist())
        if len(values) == 1:
            return lines


def below(x: float) -> float:
    return math.nextafter(x, 0.0)


def draw_one(lines: list, u: float) -> int:
    """The definition of a draw, one number at a time; ``lines`` are prefix sums, indexed by level, node and child."""
    total = lines[-1][0][15]
    r, node = min(u * total, below(total)), 0
    for prefix in reversed(lines):
        line = prefix[node]
        r = min(r, below(line[15]))
        c = sum(p <= r for p in line)
        r -= line[c - 1] if c else 0.0
        node = 16 * node + c
    return node


def uniforms(n: int, seed: int, step: int, stratified: bool) -> torch.Tensor:
    b = torch.arange(n)
    u = hash_uniform(fold_seed(seed, step), b)
    return (b + u) / n if stratified else u


def priorities(n: int, seed: int = 0) -> torch.Tensor:
    """Numbers over many orders of magnitude, every fourth 0, the last one positive."""
    g = torch.Generator().manual_seed(seed)
    p = torch.exp(8 * torch.randn(n, generator=g))
    p[torch.rand(n, generator=g) < 0.25] = 0
    p[-1] = 1
    return p


def filled(leaves: torch.Tensor) -> native.PriorityTree:
    tree = native.PriorityTree(len(leaves))
    tree.update(torch.arange(len(leaves)), leaves)
    return tree


@pytest.mark.parametrize("capacity", SIZES)
@pytest.mark.parametrize("stratified", [True, False])
def test_draws_follow_their_definition(isa: str, capacity: int, stratified: bool) -> None:
    leaves = priorities(capacity)
    tree, lines = filled(leaves), lines_of(leaves)
    assert tree.total == lines[-1][0][15]
    index, probability = tree.sample(133, -5, 2**40, stratified)
    expected = [draw_one(lines, u) for u in uniforms(133, -5, 2**40, stratified).tolist()]
    assert index.tolist() == expected
    assert torch.equal(probability, leaves[index].double() / tree.total)
    assert (leaves[index] > 0).all()


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_and_instruction_sets_give_the_same_bits(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = filled(priorities(70_000))
    first = None
    torch.set_num_threads(threads)
    for name in _native.info()["isas"]:
        monkeypatch.setenv("PYFAST_ISA", name)
        draws = tree.sample(9001, 3, 7)
        first = first or draws
        assert torch.equal(draws[0], first[0]) and torch.equal(draws[1], first[1])
    lines = lines_of(priorities(70_000))
    assert first[0][::3000].tolist() == [draw_one(lines, u) for u in uniforms(9001, 3, 7, True)[::3000].tolist()]


@settings(max_examples=40)
@given(st.integers(1, 700), st.lists(st.lists(st.tuples(st.integers(0, 699), st.floats(0, 1e30)), max_size=60)))
def test_any_updates_leave_what_the_leaves_alone_would_give(capacity: int, batches: list) -> None:
    tree, leaves = native.PriorityTree(capacity), torch.zeros(capacity)
    for batch in batches:
        index = torch.tensor([i % capacity for i, _ in batch], dtype=torch.int64)
        values = torch.tensor([p for _, p in batch], dtype=torch.float64)
        tree.update(index, values)
        for i, p in zip(index.tolist(), values.float(), strict=True):
            leaves[i] = p
    assert torch.equal(tree.leaves(), leaves)
    lines = lines_of(leaves)
    assert tree.total == lines[-1][0][15]
    positive = leaves[leaves > 0]
    assert len(tree) == len(positive)
    assert tree.minimum == (float(positive.min()) if len(positive) else math.inf)
    if len(positive):
        index, _ = tree.sample(64, 1, 2, False)
        assert index.tolist() == [draw_one(lines, u) for u in uniforms(64, 1, 2, False).tolist()]


def test_frequencies_pass_chi_square(isa: str) -> None:
    leaves = torch.rand(300) * (torch.rand(300) < 0.8)
    tree = filled(leaves)
    counts = torch.bincount(tree.sample(200_000, 11, 0, stratified=False)[0], minlength=300)
    kept = leaves > 0
    expected = leaves.double() / leaves.double().sum() * 200_000
    assert counts[~kept].sum() == 0
    assert chisquare(counts[kept].numpy(), expected[kept].numpy()).pvalue > 1e-3


def test_four_million_leaves_are_all_within_reach() -> None:
    # 24-bit uniforms would miss leaves and double others: 16 neighbours share a draw's leading bits.
    n = 1 << 22
    tree = native.PriorityTree(n)
    tree.load(torch.ones(n))
    index, probability = tree.sample(n, 5, 0)
    assert torch.equal(index, torch.arange(n))  # stratified over equal leaves: each exactly once
    assert (probability == 1.0 / n).all()
    late = tree.sample(1 << 20, 5, 1, stratified=False)[0] % 64
    assert chisquare(torch.bincount(late, minlength=64).numpy()).pvalue > 1e-3


def first_draw_at_least(lines: list, leaf: int) -> float:
    """The smallest u whose draw is ``leaf`` or a later one: draws are monotone in u."""
    low, high = 0.0, 1.0
    while low < (middle := (low + high) / 2) < high:
        low, high = (low, middle) if draw_one(lines, middle) >= leaf else (middle, high)
    return high if draw_one(lines, low) < leaf else low


@pytest.mark.parametrize("kind", ["orders of magnitude", "small beside large"])
def test_drawn_probabilities_are_those_returned(kind: str) -> None:
    # In float32, prefix sums would give a small leaf beside large ones a width of 0 or of several times its own.
    leaves = priorities(270) if kind == "orders of magnitude" else torch.tensor([2.0**22, 0.3, 2.0**22, 0.3]).repeat(70)
    lines = lines_of(leaves)
    total = lines[-1][0][15]
    edges = [first_draw_at_least(lines, leaf) for leaf in range(len(leaves))] + [1.0]
    for leaf, value in enumerate(leaves.tolist()):
        assert abs((edges[leaf + 1] - edges[leaf]) - value / total) < 2.0**-47


def test_equal_indices_and_float64_priorities() -> None:
    tree = native.PriorityTree(5)
    tree.update(torch.tensor([3, 1, 3, 3]), torch.tensor([9.0, 2.0, 8.0, 0.1], dtype=torch.float64))
    assert tree.leaves().tolist() == [0, 2, 0, torch.tensor(0.1).item(), 0]
    assert len(tree) == 2 and tree.minimum == torch.tensor(0.1).item()
    assert tree.priority(torch.tensor([1, 1, 0])).tolist() == [2, 2, 0]
    tree.update(torch.tensor([3, 1, 1]), torch.tensor([-0.0, 0.0, 0.0]))
    assert len(tree) == 0 and tree.total == 0 and tree.minimum == math.inf


def test_loading_gives_the_same_tree() -> None:
    leaves = priorities(1000)
    tree, copy = filled(leaves), native.PriorityTree(1000)
    copy.update(torch.tensor([999, 5]), torch.tensor([4.0, 5.0]))
    copy.load(tree.leaves())
    assert (copy.total, copy.minimum, len(copy)) == (tree.total, tree.minimum, len(tree))
    assert torch.equal(copy.sample(500, 1, 1)[0], tree.sample(500, 1, 1)[0])


def test_refusals_change_nothing() -> None:
    tree = filled(torch.arange(5.0))
    index, five = torch.tensor([0, 1]), torch.tensor([1.0, 5.0])
    with raises_sentence(InputError, "index", "0 to 4", "got 5 at position 1"):
        tree.update(torch.tensor([0, 5]), five)
    with raises_sentence(InputError, "index", "got -1 at position 0"):
        tree.update(torch.tensor([-1, 0]), five)
    for bad in (-1.0, math.nan, math.inf, 1e39):
        with raises_sentence(InputError, "priority", "at least 0", "position 1"):
            tree.update(index, torch.tensor([7.0, bad], dtype=torch.float64))
        with raises_sentence(InputError, "leaves", "at least 0", "position 3"):
            tree.load(torch.tensor([7.0, 7.0, 7.0, bad, 7.0]))
    with raises_sentence(InputError, "priority", "[2]", "[3]"):
        tree.update(index, torch.ones(3))
    with raises_sentence(InputError, "index", "int64", "float32"):
        tree.update(five, five)
    with raises_sentence(InputError, "index", "got 9"):
        tree.priority(torch.tensor([9]))
    assert tree.leaves().tolist() == [0, 1, 2, 3, 4]
    with raises_sentence(InputError, "positive priority", "update"):
        native.PriorityTree(3).sample(1, 0, 0)
    with raises_sentence(InputError, "capacity", "at least 1"):
        native.PriorityTree(0)
    assert native.PriorityTree(3).sample(0, 0, 0)[0].shape == (0,)
