"""Updates in one sweep are torch's own formulas."""

import pytest
import torch

from pyfast_mmcl.train.optimizers import fuse

KINDS = {
    "adam": lambda w: torch.optim.Adam(w, lr=0.01),
    "adamw": lambda w: torch.optim.AdamW(w, lr=0.01),
    "sgd": lambda w: torch.optim.SGD(w, lr=0.1, momentum=0.9),
}


def weights_after(make, steps=5):
    weights = [torch.linspace(-1, 1, 7).requires_grad_(), torch.ones(3, 5, requires_grad=True)]
    optimizer = make(weights)
    for step in range(steps):
        optimizer.zero_grad()
        sum(((w - step) ** 2).sum() for w in weights).backward()
        optimizer.step()
    return optimizer, weights


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_fused_steps_are_the_steps(kind):
    _, plain = weights_after(KINDS[kind])
    optimizer, ours = weights_after(lambda w: fuse(KINDS[kind](w)))
    assert optimizer.param_groups[0]["fused"] is True
    for a, b in zip(plain, ours, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda w: torch.optim.Adam(w, foreach=True),
        lambda w: torch.optim.Adam(w, fused=False),
        lambda w: torch.optim.RMSprop(w),
    ],
    ids=["foreach", "not fused", "another kind"],
)
def test_what_was_chosen_stays(make):
    optimizer = make([torch.ones(2, requires_grad=True)])
    before = {k: v for k, v in optimizer.param_groups[0].items() if k != "params"}
    fuse(optimizer)
    assert {k: v for k, v in optimizer.param_groups[0].items() if k != "params"} == before


def test_complex_weights_are_left_to_torch():
    optimizer = fuse(torch.optim.Adam([torch.ones(2, dtype=torch.complex64, requires_grad=True)]))
    assert not optimizer.param_groups[0]["fused"]
