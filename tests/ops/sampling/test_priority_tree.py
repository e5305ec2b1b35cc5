"""The priority tree: draws, weights, states and ends of the number range. Random histories: test_tree_machine.py."""

import numpy as np
import pytest
import torch

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.ops.sampling import PriorityTree
from tests.check import assert_same_bits, raises_sentence
from tests.ops.sampling.truth import assert_frequencies


def filled(priorities, backend, **options):
    priorities = torch.as_tensor(priorities)
    tree = PriorityTree(len(priorities), backend=backend, **options)
    tree.update(torch.arange(len(priorities)), priorities)
    return tree


@pytest.mark.parametrize("leaves", [1, 15, 16, 17, 97, 257, 4099])
def test_draws_have_the_chances_of_their_priorities(backend, leaves):
    priorities = torch.rand(leaves) ** 4
    priorities[:: 5 if leaves > 1 else 2] *= leaves > 1
    tree = filled(priorities if leaves > 1 else torch.ones(1), backend, seed=3)
    draws = tree.sample(200_000, stratified=False)
    exact = priorities.double() / priorities.double().sum() if leaves > 1 else torch.ones(1)
    assert_frequencies(draws.index.bincount(minlength=leaves), exact)
    torch.testing.assert_close(draws.probability, exact.double()[draws.index], rtol=1e-12, atol=0)


def test_stratified_draws_take_one_of_each_part(backend):
    priorities, n = torch.rand(300) + 0.01, 50_000
    counts = filled(priorities, backend).sample(n).index.bincount(minlength=300)
    # An interval of n·P parts holds all draws of the parts inside it, and may hold those of the two at its ends.
    exact = n * priorities.double() / priorities.double().sum()
    assert bool(((counts - exact).abs() < 2).all())
    batches = torch.cat([filled(priorities, backend).sample(64, step=step).index for step in range(400)])
    assert_frequencies(batches.bincount(minlength=300), exact / n, least=1e-6)


def test_uniforms_reach_every_leaf_of_millions(backend):
    # Equal leaves, three for every eight multiples of 2⁻²⁴: with 24-bit uniforms every third leaf gets 2/8 of the
    # draws in place of 1/3.
    leaves = 3 * 2**21
    tree = PriorityTree(leaves, seed=1, backend=backend)
    state = tree.state_dict()
    tree.load_state_dict({**state, "leaves": torch.ones(leaves)})
    index = tree.sample(100_000, stratified=False).index
    assert_frequencies((index % 3).bincount(minlength=3), [1 / 3] * 3)
    assert_frequencies(torch.div(index, leaves // 64, rounding_mode="floor").bincount(minlength=64), [1 / 64] * 64)
    assert tree.total == leaves and index.unique().numel() > 98_000


def test_a_leaf_of_zero_is_never_drawn(backend):
    priorities = torch.zeros(3000)
    priorities[[3, 17, 700, 701, 2999]] = torch.tensor([1e-30, 1e30, 1.0, 1e-8, 3e29])
    tree = filled(priorities, backend)
    for stratified in (False, True):
        drawn = tree.sample(50_000, stratified=stratified).index
        assert bool((priorities[drawn] > 0).all())
        assert set(drawn.unique().tolist()) == {17, 2999}
    # prefixes that rounding makes equal: one leaf beside fifteen that vanish in its sum
    priorities = torch.full((32,), 1e-20)
    priorities[::2], priorities[5] = 0, 1.0
    drawn = filled(priorities, backend).sample(20_000).index
    assert bool((priorities[drawn] > 0).all())


@pytest.mark.parametrize("stratified", [False, True])
def test_a_draw_on_the_border_of_two_leaves_takes_the_right_one(monkeypatch, stratified):
    # Sums are whole and uniforms k/1024, so that every draw lies exactly on a border, or as near to 1 as it gets.
    priorities = torch.randint(0, 3, (700,)).float()
    priorities[0] = priorities[-1] = 0
    priorities[1] += 1024 - priorities.sum()
    u = torch.cat([torch.arange(1024) / 1024.0, torch.tensor([1 - 2.0**-53])]).double()
    tree = filled(priorities, "torch")
    if stratified:  # (b + U)/n rounds to 1 at the end
        u = torch.full((1024,), 1 - 2.0**-53).double().index_fill(0, torch.arange(1000), 0.0)
    monkeypatch.setattr("pyfast_mmcl.ops.sampling._tree_torch.hash_uniform", lambda seed, index: u)
    r = (torch.arange(1024) + u) / 1024 * 1024 if stratified else u * 1024
    expected = torch.searchsorted(priorities.double().cumsum(0), r.clamp(max=1024 - 2.0**-40), right=True)
    drawn = tree.sample(len(u), stratified=stratified).index
    assert torch.equal(drawn, expected) and bool((priorities[drawn] > 0).all())


def test_no_drift(backend):
    tree, generator = PriorityTree(2000, backend=backend), torch.Generator().manual_seed(0)
    for _ in range(300):
        index = torch.randint(2000, (500,), generator=generator)
        tree.update(index, torch.rand(500, generator=generator) * 10.0 ** float(torch.randint(-20, 20, ())))
    tree.update(torch.arange(2000), 0.0)
    assert (tree.total, tree.minimum, len(tree)) == (0.0, np.inf, 0)
    tree.update(torch.tensor([1234]), torch.tensor([1e-25]))
    assert tree.total == tree.minimum == float(torch.tensor(1e-25)) and tree.sample(5).index.tolist() == [1234] * 5


def test_last_of_equal_leaves_wins(backend):
    tree = PriorityTree(100, backend=backend)
    index = torch.tensor([7, 3, 7, 7, 3, 50]).repeat(40)
    values = torch.arange(1.0, 241.0)
    tree.update(index, values)
    assert tree.priority(torch.tensor([7, 3, 50, 0])).tolist() == [238.0, 239.0, 240.0, 0.0]
    assert len(tree) == 3 and tree.total == 717.0 and tree.minimum == 238.0


def test_importance_weights_are_those_of_the_paper(backend):
    priorities = torch.rand(500) + 0.05
    priorities[::7] = 0
    tree = filled(priorities, backend)
    draw = tree.sample(64, beta=0.6)
    p = priorities.double() / priorities.double().sum()
    weights = (500 * p) ** -0.6
    torch.testing.assert_close(draw.weight, weights[draw.index] / weights[p > 0].max(), rtol=1e-12, atol=0)
    assert torch.equal(tree.sample(8, beta=0).weight, torch.ones(8).double()) and tree.sample(8).weight is None
    # the weighted mean of draws is the plain mean
    value = torch.rand(500).double()
    many = tree.sample(100_000, beta=1.0)
    mean = (many.weight * value[many.index]).mean() / many.weight.mean()
    assert abs(mean - value[priorities > 0].mean()) < 5e-3


def test_draws_belong_to_seed_and_step(backend):
    priorities = torch.rand(1000)
    tree, other = filled(priorities, backend, seed=5), filled(priorities, backend, seed=6)
    first, second = tree.sample(100), tree.sample(100)
    assert not torch.equal(first.index, second.index)
    assert torch.equal(tree.sample(100, step=0).index, first.index)
    assert torch.equal(tree.sample(100).index, second.index)  # counts on from the step named last
    assert not torch.equal(other.sample(100, step=0).index, first.index)


def test_state_continues_the_draws(backend):
    tree = filled(torch.rand(333), backend, seed=8)
    tree.update(torch.tensor([5, 6]), torch.tensor([0.0, 1e-3]))
    tree.sample(3)
    again = PriorityTree(333, backend=backend)
    again.load_state_dict(tree.state_dict())
    for _ in range(3):
        a, b = tree.sample(50, beta=0.5), again.sample(50, beta=0.5)
        assert torch.equal(a.index, b.index) and torch.equal(a.weight, b.weight)
        tree.update(a.index, a.probability + 1)
        again.update(a.index, a.probability + 1)
    assert_same_bits(torch.tensor(tree.total), torch.tensor(again.total))


@pytest.mark.parametrize("leaves", [1, 16, 17, 1000, 5000])
def test_the_compiled_tree_has_the_bits_of_torch(leaves):
    pytest.importorskip("pyfast_mmcl._C")
    priorities = torch.rand(leaves) * 10.0 ** torch.randint(-9, 9, (leaves,))
    slow, fast = filled(priorities, "torch"), filled(priorities, "native")
    for stratified in (True, False):
        a = slow.sample(4097, stratified=stratified, beta=0.4)
        b = fast.sample(4097, stratified=stratified, beta=0.4)
        for ours, theirs in zip(a, b, strict=True):
            assert_same_bits(ours, theirs)
        index, values = torch.randint(leaves, (300,)), torch.rand(300)
        slow.update(index, values)
        fast.update(index, values)
        assert (slow.total, slow.minimum, len(slow)) == (fast.total, fast.minimum, len(fast))


def test_threads_change_nothing(backend):
    priorities, found = torch.rand(100_000), []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        tree = filled(priorities, backend)
        found.append((tree.total, tree.sample(20_001).index.tolist()))
    assert found[0] == found[1]


def test_kinds_and_empty_batches(backend):
    tree = PriorityTree(10, backend=backend)
    tree.update(np.array([1, 2], dtype=np.int32), np.array([1.5, 2.5]))
    tree.update(torch.tensor([3, 9, 4, 9])[::2], torch.tensor([[4.0, 0.0], [1.0, 0.0]])[:, 0])
    tree.update(torch.zeros(0).long(), torch.zeros(0))
    assert isinstance(tree.priority(np.array([1])), np.ndarray)
    assert tree.priority(torch.arange(10)).tolist() == [0, 1.5, 2.5, 4.0, 1.0, 0, 0, 0, 0, 0]
    assert tree.sample(0).index.shape == (0,) and PriorityTree(3, backend=backend).sample(0, beta=1.0).weight.shape == (
        0,
    )
    assert len(tree) == 4 and "4 of 10" in repr(tree)


@pytest.mark.parametrize(
    "index, priority, words",
    [
        ([1], [float("nan")], ["priority", "entry 0", "nan"]),
        ([1, 2], [1.0, float("inf")], ["priority", "entry 1"]),
        ([1, 2], [1.0, -1.0], ["priority", "-1"]),
        ([1], [1e-40], ["priority", "7.9e-31"]),
        ([1], [1e-60], ["priority", "1e-60"]),  # 0 in float32
        ([1], [1e39], ["priority", "1.3e+30"]),
        ([10], [1.0], ["index", "0 and 9", "10"]),
        ([-1], [1.0], ["index", "-1"]),
        ([1, 2], [1.0], ["priority", "one number per row"]),
        ([[1]], [1.0], ["index", "[1, 1]"]),
        ([1.0], [1.0], ["index", "float32"]),
    ],
)
def test_a_refused_update_changes_nothing(backend, index, priority, words):
    tree = filled(torch.arange(10.0), backend)
    with raises_sentence(InputError, *words):
        tree.update(torch.tensor(index), torch.tensor(priority, dtype=torch.float64))
    assert tree.priority(torch.arange(10)).tolist() == list(range(10)) and tree.total == 45.0


def test_other_refusals(backend):
    tree = PriorityTree(4, backend=backend)
    with raises_sentence(InputError, "no leaf", "update"):
        tree.sample(3)
    tree.update(torch.tensor([0]), 1.0)
    for arguments, word in [({"n": -1}, "draws"), ({"n": 1, "step": -2}, "step"), ({"n": 1, "beta": -1.0}, "beta")]:
        with raises_sentence(InputError, word):
            tree.sample(**arguments)
    with raises_sentence(InputError, "capacity 4", "5"):
        PriorityTree(5, backend=backend).load_state_dict(tree.state_dict())
    with raises_sentence(InputError, "capacity"):
        PriorityTree(0, backend=backend)
    with raises_sentence(InputError, "leaves"):
        tree.load_state_dict({"capacity": 4, "seed": 0, "step": 0})


@pytest.mark.parametrize(
    "damage, words",
    [
        ({"leaves": torch.ones(3)}, ["leaves", "[5]", "[3]"]),
        ({"leaves": torch.ones(7)}, ["leaves", "[5]", "[7]"]),
        ({"leaves": torch.ones(5, 1)}, ["leaves", "[5, 1]"]),
        ({"leaves": torch.ones(5).double()}, ["leaves", "float64"]),
        ({"leaves": torch.tensor([1.0, torch.nan, 1.0, 1.0, 1.0])}, ["leaves", "entry 1", "nan"]),
        ({"leaves": torch.tensor([1.0, 1.0, -1.0, 1.0, 1.0])}, ["leaves", "entry 2", "-1"]),
        ({"leaves": None}, ["leaves", "NoneType"]),
        ({"seed": "a"}, ["seed", "a"]),
        ({"step": -1}, ["step", "-1"]),
    ],
)
def test_a_damaged_state_is_refused_and_changes_nothing(backend, damage, words):
    tree = filled([1.0, 0.0, 2.0, 3.0, 4.0], backend, seed=3)
    state = tree.state_dict()
    with raises_sentence(InputError, *words):
        tree.load_state_dict({**state, **damage})
    assert (tree.seed, tree.step, tree.total) == (3, 0, 10)
    assert torch.equal(tree.state_dict()["leaves"], state["leaves"])


def test_a_leaf_of_minus_zero_is_zero(backend):
    tree = filled([-0.0, 1.0], backend)
    assert not bool(tree.state_dict()["leaves"].signbit().any())


def test_steps_beyond_64_bits():
    pytest.importorskip("pyfast_mmcl._C")
    slow, fast = (filled(torch.rand(50).add(1), backend, seed=2**80) for backend in ("torch", "native"))
    fast.load_state_dict(slow.state_dict())
    assert torch.equal(slow.sample(9, step=2**64 + 5).index, fast.sample(9, step=2**64 + 5).index)


def test_refused_leaves_are_named_and_nothing_is_written(backend):
    tree = filled([1.0, 2.0, 3.0], backend)
    for bad in (torch.tensor([0, 3]), torch.tensor([-1, 0])):
        with raises_sentence(InputError, "index", "between 0 and 2", "…"):
            tree.update(bad, torch.ones(2))
        with raises_sentence(InputError, "index", "between 0 and 2", "…"):
            tree.update(bad, -torch.ones(2))
        with raises_sentence(InputError, "index", "between 0 and 2", "…"):
            tree.priority(bad)
    assert tree.priority(torch.arange(3)).tolist() == [1, 2, 3]


def test_the_largest_weight_is_exactly_one(backend):
    # A reciprocal times the minimum would be 1 − 2⁻⁵³ for some of these: 49 is the classic one.
    for least in (49.0, 0.1, 1.1, 3.3, 1e-30):
        draw = filled([least, 64 * least], backend).sample(300, beta=1.0)
        assert bool((draw.weight[draw.index == 0] == 1).all()) and bool((draw.index == 0).any())
