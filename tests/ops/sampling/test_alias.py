"""Alias tables: the probabilities that the table holds, exactly, and the draws."""

import numpy as np
import pytest
import torch

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.ops.sampling import AliasTable
from pyfast_mmcl.ops.sampling.alias import alias_build_reference
from tests.check import raises_sentence
from tests.ops.sampling.truth import assert_frequencies

WEIGHTS = {
    "one": torch.ones(1),
    "equal": torch.full((97,), 0.1),
    "random": torch.rand(1000),
    "skewed": torch.rand(5000) ** 20,
    "zeros": torch.rand(129) * (torch.arange(129) % 3 > 0),
    "one of many": torch.zeros(64).index_fill(0, torch.tensor([17]), 3.0),
    "spread": 10.0 ** torch.linspace(-300, 300, 65, dtype=torch.float64),
    "tiny": torch.full((10,), 1e-310, dtype=torch.float64),
    "steps": torch.arange(16.0),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_the_table_holds_the_probabilities(name):
    w = WEIGHTS[name].double()
    keep, alias = alias_build_reference(w)
    assert bool(((keep >= 0) & (keep <= 1)).all()) and bool(((alias >= 0) & (alias < len(w))).all())
    held = (keep + torch.zeros_like(keep).index_add(0, alias, 1 - keep)) / len(w)
    exact = (w / w.max()) / (w / w.max()).sum()
    torch.testing.assert_close(held, exact, rtol=0, atol=1e-13)
    assert bool((held[w == 0] == 0).all()), "a weight of 0 is never drawn"


@pytest.mark.parametrize("name", ["one", "equal", "random", "zeros", "one of many", "steps"])
def test_draws_have_these_chances(backend, name):
    w = WEIGHTS[name]
    counts = AliasTable(w, seed=2, backend=backend).sample(300_000, step=1).bincount(minlength=len(w))
    assert_frequencies(counts, w.double() / w.double().sum())


def test_uniforms_reach_every_column_of_millions(backend):
    columns = 3 * 2**21  # see the same test of the tree
    table = AliasTable(torch.ones(columns), backend=backend)
    index = table.sample(100_000, step=0)
    assert_frequencies((index % 3).bincount(minlength=3), [1 / 3] * 3)
    assert index.unique().numel() > 98_000


def test_draws_belong_to_seed_and_step(backend):
    w = torch.rand(50)
    table = AliasTable(w, seed=1, backend=backend)
    first = table.sample(1000, step=3)
    table.sample(5, step=9)
    assert torch.equal(table.sample(1000, step=3), first) and torch.equal(table.sample(10, step=3), first[:10])
    assert not torch.equal(table.sample(1000, step=4), first)
    assert not torch.equal(AliasTable(w, seed=2, backend=backend).sample(1000, step=3), first)
    torch.set_num_threads(3)
    assert torch.equal(AliasTable(w, seed=1, backend=backend).sample(1000, step=3), first)


def test_backends_agree_bit_for_bit():
    pytest.importorskip("pyfast_mmcl._C")
    for w in WEIGHTS.values():
        slow, fast = AliasTable(w, backend="torch"), AliasTable(w, backend="native")
        assert torch.equal(slow.sample(4097, step=7), fast.sample(4097, step=7))


def test_kinds_and_refusals(backend):
    table = AliasTable(np.array([1, 2, 3], dtype=np.int32), backend=backend)
    assert isinstance(table.sample(4, step=0), np.ndarray) and len(table) == 3
    assert table.sample(0, step=0).shape == (0,)
    assert AliasTable(torch.rand(9, 2)[:, 0], backend=backend).sample(5, step=0).shape == (5,)
    for weights, words in [
        (torch.zeros(3), ["weights", "at least one above 0"]),
        (torch.zeros(0), ["weights", "at least one above 0"]),
        (torch.tensor([1.0, -1.0]), ["entry 1", "-1"]),
        (torch.tensor([1.0, float("nan")]), ["entry 1"]),
        (torch.ones(2, 2), ["[2, 2]"]),
        ([1.0], ["list"]),
    ]:
        with raises_sentence(InputError, *words):
            AliasTable(weights, backend=backend)
    with raises_sentence(InputError, "step"):
        table.sample(1, step=-1)


def test_steps_beyond_64_bits():
    pytest.importorskip("pyfast_mmcl._C")
    slow, fast = (AliasTable(torch.arange(1.0, 9.0), seed=2**80, backend=backend) for backend in ("torch", "native"))
    assert torch.equal(slow.sample(20, step=2**64 + 5), fast.sample(20, step=2**64 + 5))
