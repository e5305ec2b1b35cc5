"""The Fisher by its definition: one sample at a time, float64, plain autograd."""

import copy
import itertools

import torch
import torch.nn.functional as F
from torch import nn

from pyfast_mmcl.ops.fisher.rows import count_rows, run_model, take_rows
from pyfast_mmcl.ops.fisher.shared import replace


def double(tree):
    """Floating tensors as float64."""
    return replace(tree, lambda x: x.double() if isinstance(x, torch.Tensor) and x.is_floating_point() else x)


def loss_of(outputs, target):
    """Cross-entropy of each sample; positions of a sequence summed."""
    if outputs.ndim == 3:
        return F.cross_entropy(outputs.transpose(1, 2), target, reduction="none").sum(1)
    return F.cross_entropy(outputs, target, reduction="none")


def loop(model, batches, *, loss=loss_of, absolute=False, forward=run_model, dtype=torch.float64):
    """{name: mean over samples of the squared gradient}, batch of one, in ``dtype``."""
    model = copy.deepcopy(model).to(dtype)
    totals = {n: torch.zeros_like(p) for n, p in model.named_parameters() if p.requires_grad}
    params = [p for p in model.parameters() if p.requires_grad]
    count = 0
    for batch in batches:
        batch = replace(batch, lambda x: x.to(dtype) if isinstance(x, torch.Tensor) and x.is_floating_point() else x)
        for b in range(count_rows(batch)):
            value = loss(*forward(model, take_rows(batch, [b]))).sum()
            grads = torch.autograd.grad(value, params, allow_unused=True)
            for total, g in zip(totals.values(), grads, strict=True):
                if g is not None:
                    total += g.abs() if absolute else g.square()
            count += 1
    return {n: t / count for n, t in totals.items()}


def assert_fisher(ours, truth, *, rtol=1e-9):
    """Same names, and per parameter an error below rtol of its largest value."""
    assert set(ours) == set(truth)
    for name, expected in truth.items():
        got = ours[name]
        assert got.shape == expected.shape and not got.requires_grad, name
        error = (got.double() - expected.double()).abs().max().item() if expected.numel() else 0.0
        scale = expected.abs().max().item() if expected.numel() else 0.0
        assert error <= rtol * scale + 1e-30, f"{name}: error {error:.3e}, largest value {scale:.3e}"


def check(model, batches, *, rtol=1e-9, **options):
    """fisher_diagonal of the float64 model equals the loop."""
    from pyfast_mmcl.ops.fisher import fisher_diagonal

    model = copy.deepcopy(model).double()
    batches = double(batches)
    keys = {k: v for k, v in options.items() if k in ("absolute", "loss", "forward")}
    assert_fisher(fisher_diagonal(model, batches, **options), loop(model, batches, **keys), rtol=rtol)


def mlp(*widths):
    """Linear layers with tanh between them."""
    layers = []
    for i, (a, b) in enumerate(itertools.pairwise(widths)):
        layers += [nn.Linear(a, b)] + ([nn.Tanh()] if i + 2 < len(widths) else [])
    return nn.Sequential(*layers)
