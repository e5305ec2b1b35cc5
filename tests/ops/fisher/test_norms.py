"""Norms of per-sample gradients and contrastive pairs against one sample at a time."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.ops.fisher import fisher_diagonal, pair_losses, per_sample_norms
from tests.check import raises_sentence
from tests.ops.fisher.truth import assert_fisher, loss_of, mlp


def norms_of(model, batch, loss=loss_of, params=None):
    x, y = batch
    params = params or list(model.parameters())
    found = []
    for b in range(len(x)):
        grads = torch.autograd.grad(loss(model(x[b : b + 1]), y[b : b + 1]).sum(), params)
        found.append(torch.cat([g.flatten() for g in grads]).norm())
    return torch.stack(found)


class Mixed(nn.Module):
    """Embedding tied to the head, a reused linear layer, a convolution, a norm and a bare parameter."""

    def __init__(self):
        super().__init__()
        self.embed, self.mix, self.norm = nn.Embedding(9, 6), nn.Linear(6, 6), nn.LayerNorm(6)
        self.conv, self.place = nn.Conv1d(6, 6, 3, padding=1, groups=2), nn.Parameter(torch.randn(1, 40, 6))

    def forward(self, ids):
        x = self.embed(ids) + self.place[:, : ids.shape[1]]
        x = self.norm(torch.tanh(self.mix(torch.tanh(self.mix(x)))))
        return self.conv(x.mT).mT @ self.embed.weight.t()


@pytest.mark.parametrize("steps", [2, 33])
def test_norms_of_a_mixed_model(steps):
    model = Mixed().double()
    ids = torch.randint(0, 9, (5, steps))
    torch.testing.assert_close(
        per_sample_norms(model, (ids, ids.roll(1, 1))), norms_of(model, (ids, ids.roll(1, 1))), rtol=1e-10, atol=0
    )


@pytest.mark.parametrize("shape", [(6, 7), (6, 3, 7), (6, 40, 7)])
def test_norms_of_an_mlp(shape):
    model = mlp(7, 20, 4).double()
    batch = (torch.randn(shape).double(), torch.randint(0, 4, shape[:-1]))
    torch.testing.assert_close(per_sample_norms(model, batch), norms_of(model, batch), rtol=1e-10, atol=0)
    only = per_sample_norms(model, batch, params=["0.weight"])
    torch.testing.assert_close(only, norms_of(model, batch, params=[model[0].weight]), rtol=1e-10, atol=0)
    squared = per_sample_norms(model, batch, output="norm2")
    expected = norms_of(model, batch, lambda z, _: z.square().flatten(1).sum(1))
    torch.testing.assert_close(squared, expected, rtol=1e-10, atol=0)
    assert per_sample_norms(mlp(7, 4), (batch[0].float(), batch[1])).dtype == torch.float32


class Pairs(nn.Module):
    """Two towers and a learned scale."""

    def __init__(self):
        super().__init__()
        self.image, self.text, self.log_scale = mlp(7, 6, 5), mlp(4, 5), nn.Parameter(torch.tensor(1.2))

    def forward(self, x, t):
        a, b = F.normalize(self.image(x), dim=-1), F.normalize(self.text(t), dim=-1)
        return a, b, self.log_scale.exp()


def test_pairs_have_the_value_of_the_in_batch_loss():
    model, x, t = Pairs().double(), torch.randn(6, 7).double(), torch.randn(6, 4).double()
    a, b, scale = model(x, t)
    logits = scale * a @ b.t()
    rows = torch.arange(6)
    expected = 0.5 * (F.cross_entropy(logits, rows) + F.cross_entropy(logits.t(), rows))
    torch.testing.assert_close(pair_losses(a, b, scale).mean(), expected, rtol=1e-12, atol=0)


def test_fisher_of_a_contrastive_model():
    """Sample i by its definition: the other pairs are numbers."""
    model, x, t = Pairs().double(), torch.randn(6, 7).double(), torch.randn(6, 4).double()
    ours = fisher_diagonal(model, [((x, t), torch.zeros(6))], loss=lambda out, _: pair_losses(*out))
    with torch.no_grad():
        all_a, all_b, _ = model(x, t)
    totals = {n: torch.zeros_like(p) for n, p in model.named_parameters()}
    for i in range(6):
        a, b, scale = model(x[i : i + 1], t[i : i + 1])
        others_a, others_b = all_a.clone(), all_b.clone()
        to_b = scale * a @ torch.cat([others_b[:i], b, others_b[i + 1 :]]).t()
        to_a = scale * b @ torch.cat([others_a[:i], a, others_a[i + 1 :]]).t()
        loss = 0.5 * (F.cross_entropy(to_b, torch.tensor([i])) + F.cross_entropy(to_a, torch.tensor([i])))
        for total, g in zip(totals.values(), torch.autograd.grad(loss, list(model.parameters())), strict=True):
            total += g.square() / 6
    assert_fisher(ours, totals)


def test_pair_losses_want_two_equal_sides():
    with raises_sentence(InputError, "[3, 4]", "[2, 4]"):
        pair_losses(torch.zeros(3, 4), torch.zeros(2, 4))
