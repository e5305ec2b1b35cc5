"""Low precision, autocast, and the same bits on every run."""

import copy

import pytest
import torch
from torch import nn

from pyfast_mmcl.ops.fisher import fisher_diagonal, outer_square_accumulate
from pyfast_mmcl.ops.fisher.rows import run_model
from tests.check import assert_no_worse, assert_same_bits
from tests.ops.fisher.truth import loop, mlp


class Mixed(nn.Module):
    """Convolution, norm, attention, position embedding and a head."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 16, 3, stride=2), nn.LayerNorm(16)
        self.place, self.attention = (
            nn.Parameter(torch.randn(1, 16, 16)),
            nn.MultiheadAttention(16, 2, batch_first=True),
        )
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        x = torch.tanh(self.conv(x)).flatten(2).mT + self.place
        y = self.norm(x)
        return self.head((x + self.attention(y, y, y, need_weights=False)[0]).mean(1))


def batches(count=2, rows=6):
    return [(torch.randn(rows, 3, 9, 9), torch.randint(0, 5, (rows,))) for _ in range(count)]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_models_sum_in_float32(dtype):
    model = Mixed().eval().to(dtype)
    stream = [(x.to(dtype), y) for x, y in batches()]
    truth, plain = loop(model, stream), loop(model, stream, dtype=dtype)
    ours = fisher_diagonal(model, stream)
    for name, f in ours.items():
        assert f.dtype == torch.float32, name
        assert_no_worse(f, plain[name], truth[name], atol=2e-3 * truth[name].max().item())


def test_many_small_terms_are_not_lost():
    """A bfloat16 accumulator would stop growing at 256 times the size of a term."""
    model = nn.Linear(4, 3, dtype=torch.bfloat16)
    x, y = torch.randn(4, 4).bfloat16().repeat(500, 1), torch.randint(0, 3, (4,)).repeat(500)
    ours = fisher_diagonal(model, [(x, y)])
    truth = loop(model, [(x[:4], y[:4])])
    for name, f in ours.items():
        assert (f.double() - truth[name]).norm() < 0.02 * truth[name].norm(), name


def test_autocast():
    model, stream = Mixed().eval(), batches()

    def forward(model, batch):
        with torch.autocast("cpu", torch.bfloat16):
            return run_model(model, batch)

    ours, truth = fisher_diagonal(model, stream, forward=forward), loop(model, stream)
    plain = loop(model, stream, forward=forward, dtype=torch.float32)
    for name, f in ours.items():
        assert f.dtype == torch.float32, name
        assert_no_worse(f, plain[name], truth[name], atol=2e-3 * truth[name].max().item())


@pytest.mark.parametrize("labels", ["empirical", "sampled", "exact"])
def test_float32_is_as_good_as_the_plain_loop(labels):
    model, stream = mlp(33, 65, 17), [(torch.randn(31, 33), torch.randint(0, 17, (31,)))]
    truth = fisher_diagonal(copy.deepcopy(model).double(), [(stream[0][0].double(), stream[0][1])], labels=labels)
    for name, f in fisher_diagonal(model, stream, labels=labels).items():
        assert (f - truth[name]).norm() < 2e-6 * truth[name].norm(), name


def test_same_bits_on_every_run():
    model, stream = Mixed().eval(), batches()
    for labels in ("empirical", "sampled"):
        first, second = (fisher_diagonal(model, stream, labels=labels) for _ in range(2))
        for name in first:
            assert_same_bits(first[name], second[name])


def test_threads_change_no_more_than_rounding():
    """The sums are ours, the products of the forward pass are BLAS's, whose last bits may hang on its threads."""
    model, stream, found = Mixed().eval(), batches(), []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found.append(fisher_diagonal(model, stream, labels="sampled"))
    for name, f in found[0].items():
        torch.testing.assert_close(found[1][name], f, rtol=1e-5, atol=1e-6 * f.max().item())


@pytest.mark.parametrize("steps", [2, 40])
def test_kernel_has_the_same_bits_on_any_number_of_threads(steps):
    g, a = torch.randn(9, steps, 65), torch.randn(9, steps, 129)
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        found.append(outer_square_accumulate(torch.zeros(65, 129), g, a))
    assert_same_bits(found[0], found[1])
    assert_same_bits(found[0], found[2])
