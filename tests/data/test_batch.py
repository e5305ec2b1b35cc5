"""Batches select, join and move rows without mixing up fresh rows, memory rows and missing modalities."""

import pytest
import torch

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.data import Batch, cat


def batch(rows, fresh=-1, start=0, modalities=("a", "b"), extras=()):
    index = torch.arange(start, start + rows)
    inputs = {m: (index + 10 * i).float()[:, None].repeat(1, 3) for i, m in enumerate(modalities)}
    present = {m: torch.ones(rows, dtype=torch.bool) for m in modalities}
    old = rows - (rows if fresh < 0 else fresh)
    return Batch(
        inputs, index % 4, index // 10, present, index, fresh, {e: index[rows - old :].float() for e in extras}
    )


def test_all_rows_are_fresh_by_default():
    assert batch(5).fresh == len(batch(5)) == 5 and batch(0).fresh == 0


def test_cat_puts_memory_after_fresh_rows_and_fills_absent_modalities():
    joined = cat([batch(3), batch(2, fresh=0, start=7, modalities=("b", "c"), extras=("logits",))])
    assert (len(joined), joined.fresh) == (5, 3)
    assert joined.index.tolist() == [0, 1, 2, 7, 8]
    assert joined.present["a"].tolist() == [True] * 3 + [False] * 2
    assert joined.present["c"].tolist() == [False] * 3 + [True] * 2
    assert joined.inputs["a"][3:].eq(0).all() and joined.inputs["c"][:3].eq(0).all()
    assert joined.extras["logits"].tolist() == [7.0, 8.0]


def test_cat_refuses_fresh_rows_after_memory_and_unequal_shapes():
    with pytest.raises(InputError, match="fresh"):
        cat([batch(2, fresh=0), batch(0), batch(2)])
    other = batch(2)
    other.inputs["a"] = torch.zeros(2, 4)
    with pytest.raises(InputError, match="one shape in a"):
        cat([batch(2), other])
    with pytest.raises(InputError, match="at least one"):
        cat([])


@pytest.mark.parametrize(
    ("rows", "index", "fresh"),
    [
        (slice(0, 3), [0, 1, 2], 3),
        (slice(2, None), [2, 3, 4], 1),
        (slice(3, None), [3, 4], 0),
        (torch.tensor([2, 0, 4]), [2, 0, 4], 2),
        (torch.tensor([True, False, False, True, True]), [0, 3, 4], 1),
        (torch.tensor([], dtype=torch.int64), [], 0),
    ],
)
def test_select_counts_fresh_rows_and_follows_extras(rows, index, fresh):
    chosen = batch(5, fresh=3, extras=("logits",)).select(rows)
    assert chosen.index.tolist() == index and chosen.fresh == fresh
    assert chosen.extras["logits"].tolist() == [float(i) for i in index if i >= 3]
    assert torch.equal(chosen.inputs["b"][:, 0], chosen.index + 10.0)


def test_select_refuses_memory_before_fresh_rows():
    with pytest.raises(InputError, match="memory before fresh"):
        batch(5, fresh=3).select(torch.tensor([4, 0]))


def test_mismatched_columns_are_named():
    good = batch(3)
    with pytest.raises(InputError, match="presence mask"):
        Batch(good.inputs, good.target, good.task, {"a": good.present["a"]}, good.index)
    with pytest.raises(InputError, match="expected bool in present a"):
        Batch(good.inputs, good.target, good.task, {**good.present, "a": torch.ones(3)}, good.index)
    with pytest.raises(InputError, match="in task"):
        Batch(good.inputs, good.target, good.task[:2], good.present, good.index)


def test_to_moves_every_column():
    moved = batch(4, fresh=2, extras=("logits",)).to("meta")
    columns = [*moved.inputs.values(), *moved.present.values(), *moved.extras.values(), moved.task, moved.index]
    assert all(x.device.type == "meta" for x in columns) and moved.fresh == 2
