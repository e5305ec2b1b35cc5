"""Batches, outputs and formulas written out row by row in float64, for the methods that look at several modalities."""

from types import SimpleNamespace

import torch

from pyfast_mmcl.data import Batch


def random_batch(n=23, fresh=14, classes=6, names=("a", "b"), missing=0.3, extras=(), seed=0):
    """Rows with labels, tasks and gaps; every row keeps its first modality or, if that is gone, its last."""
    g = torch.Generator().manual_seed(seed)
    present = {m: torch.rand(n, generator=g) >= missing for m in names}
    present[names[-1]] |= ~torch.stack(list(present.values())).any(0)
    target = torch.randint(classes, (n,), generator=g)
    inputs = {m: torch.randn(n, 3, generator=g) * present[m][:, None] for m in names}
    kept = {name: torch.randn(n - fresh, classes, generator=g, dtype=torch.float64) for name in extras}
    return Batch(inputs, target, target // 2, present, torch.arange(n), fresh, kept)


def scores(n, classes=6, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, classes, generator=g, dtype=torch.float64).requires_grad_()


def learner(**known):
    """What a part reads of a learner."""
    return SimpleNamespace(**{"device": torch.device("cpu"), "step": 0, **known})


def log_softmax(z):
    """[log p_c] of one row, by the definition."""
    shift = z.max()
    return z - shift - (z - shift).exp().sum().log()


def cross_entropy(z, y):
    return torch.stack([-log_softmax(row)[c] for row, c in zip(z, y.tolist(), strict=True)]).mean()


def relation(student, teacher):
    """RKD as SAMM has it: unit rows, pairwise distances over the mean positive one, Huber, mean over all pairs."""

    def distances(z):
        unit = z / z.norm(dim=1, keepdim=True)
        d = torch.stack([torch.stack([distance(a, b) for b in unit]) for a in unit])
        return d / d[d > 0].mean()

    def distance(a, b):
        return (a - b).norm() if not torch.equal(a, b) else (a * 0).sum()

    gap = (distances(student) - distances(teacher.detach())).abs()
    return torch.where(gap < 1, 0.5 * gap**2, gap - 0.5).mean()


def kl(p_log, q_log):
    return (p_log.exp() * (p_log - q_log)).sum()
