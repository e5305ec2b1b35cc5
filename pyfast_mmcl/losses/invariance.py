"""Agreement of soft assignments of two views: of the pairs of labels (IIC), of the columns (CC)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from pyfast_mmcl.losses.information import entropy
from pyfast_mmcl.ops.contrastive import nt_xent


def joint_assignment(p: Tensor, q: Tensor) -> Tensor:
    """How often an example is in cluster k in one view and in l in the other, whichever comes first: [..., K, K].

    ``P = p.T @ q / B;  (P + P.T) / 2`` for p, q [B, K]; leading axes between B and K, [B, ..., K], are heads of their
    own. Reference: Ji et al., ICCV 2019, equation 2.
    """
    joint = torch.einsum("b...k,b...l->...kl", p, q) / max(1, len(p))
    return (joint + joint.mT) / 2


def joint_information(joint: Tensor, lam: float = 1.0) -> Tensor:
    """Mutual information of rows and columns of joint [..., K, K] in nats: [...].

    ``(P · (log P − lam · log P.sum(1) − lam · log P.sum(0))).sum()``; lam > 1 prefers clusters of equal weight.

    Reference: Ji et al., ICCV 2019, equation 3; lam as in its implementation.
    """
    tiny = torch.finfo(joint.dtype).tiny
    rows = joint.sum(-1, keepdim=True).clamp_min(tiny).log()
    columns = joint.sum(-2, keepdim=True).clamp_min(tiny).log()
    return (joint * (joint.clamp_min(tiny).log() - lam * rows - lam * columns)).sum((-2, -1))


def column_contrast(p: Tensor, q: Tensor, temperature: float = 1.0) -> Tensor:
    """NT-Xent over the 2K columns of p and q [B, K]: cluster k of one view is its own in the other, and no other's.

    ``z = normalize(cat([p, q], 1).T); nt_xent(z, 1 / temperature)``. Reference: Li et al., AAAI 2021, equations 4 to 6.
    """
    return nt_xent(normalize(torch.cat([p, q], 1).T.float(), dim=1), 1 / temperature)


def imbalance(p: Tensor) -> Tensor:
    """What the mean assignment lacks to the largest entropy: ``log K − H(p.mean(0))`` for p [B, K], from 0 on.

    Reference: Li et al., AAAI 2021, the term H(Y) of equation 6, shifted by a constant.
    """
    mean = p.mean(0)
    return -entropy(mean) + torch.log(torch.tensor(float(len(mean)), dtype=p.dtype, device=p.device))
