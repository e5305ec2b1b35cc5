"""The order of rows depends on (seed, task, epoch) alone, and any batch can be read by itself."""

import pytest
import torch

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.data import Records, Stream


@pytest.fixture(scope="module")
def stream():
    return Stream.from_dataset(Records({"x": torch.arange(500.0)[:, None]}, torch.arange(500) % 4), n_tasks=2)


def order(stream, **kwargs):
    return torch.cat([batch.index for batch in stream.loader(0, **kwargs)])


def test_every_row_comes_once_with_its_own_values(stream):
    ids = order(stream, seed=3)
    assert torch.equal(ids.sort().values, stream.rows(0))
    for batch in stream.loader(0, seed=3):
        assert torch.equal(batch.inputs["x"][:, 0], batch.index.float()) and torch.equal(batch.target, batch.index % 4)


def test_order_depends_on_seed_and_epoch_only(stream):
    ids = order(stream, seed=3, epoch=1)
    torch.manual_seed(99)
    assert torch.equal(ids, order(stream, seed=3, epoch=1, batch_size=7))
    assert not torch.equal(ids, order(stream, seed=3, epoch=2))
    assert not torch.equal(ids, order(stream, seed=4, epoch=1))
    assert torch.equal(order(stream), stream.rows(0))


def test_any_batch_can_be_read_by_itself(stream):
    loader = stream.loader(0, seed=3, batch_size=32)
    for i, batch in enumerate(loader):
        assert torch.equal(loader[i].index, batch.index)
    assert len(loader) == i + 1 == -(-loader.n_rows // 32) and len(loader[i]) == loader.n_rows - 32 * i
    with pytest.raises(IndexError):
        loader[len(loader)]


def test_positions_are_uniform_over_epochs(stream):
    # Each row should be in the first half of an epoch half of the time: 200 epochs, 5 standard deviations.
    first = torch.zeros(500)
    for epoch in range(200):
        first[order(stream, seed=0, epoch=epoch)[: len(stream.rows(0)) // 2]] += 1
    assert ((first[stream.rows(0)] - 100).abs() < 5 * (200 * 0.25) ** 0.5).all()


def test_bad_batch_size(stream):
    for size in (0, -3, 1.5, "all"):
        with pytest.raises(InputError, match="batch_size: expected a whole number"):
            stream.loader(0, batch_size=size)
