"""Texts beside images: what the nouns say of an image, and assignments of two modalities that teach each other."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import normalize

from pyfast_mmcl.losses.information import marginal_entropy
from pyfast_mmcl.losses.invariance import column_contrast
from pyfast_mmcl.losses.neighborhood import neighbor_consistency


def counterparts(v: Tensor, texts: Tensor, temperature: float = 0.005) -> Tensor:
    """The text that stands for each image, a mean of texts by their similarity: unit rows [N, d].

    ``unit(softmax(v @ texts.T / temperature, dim=1) @ texts)`` for unit rows v [N, d] and texts [M, d].

    Reference: Li et al., *Image clustering with external guidance*, ICML 2024, §3.1.
    """
    return normalize((v @ texts.T / temperature).softmax(1) @ texts, dim=1)


def mutual_distillation(
    log_p: Tensor,
    log_q: Tensor,
    log_p_near: Tensor,
    log_q_near: Tensor,
    *,
    temperature: float = 0.5,
    balance: float = 5.0,
) -> dict[str, Tensor]:
    """What two modalities learn from each other's neighbourhoods, as named terms; logarithms of assignments [B, K].

    ``contrast(p, q_near) + contrast(q, p_near) − log((p · q).sum(1)).mean() − balance · (H(p.mean(0)) + H(q.mean(0)))``

    p, q are assignments of the same rows by images and by texts, p_near and q_near those of a neighbour of each row, by
    images among image neighbours and by texts among text neighbours; contrast is ``losses.invariance.column_contrast``.

    Reference: Li et al., *Image clustering with external guidance*, ICML 2024, §3.2.
    """
    p, q, p_near, q_near = (x.exp() for x in (log_p, log_q, log_p_near, log_q_near))
    return {
        "distillation": column_contrast(p, q_near, temperature) + column_contrast(q, p_near, temperature),
        "agreement": neighbor_consistency(log_p, log_q),
        "balance": -balance * (marginal_entropy(p) + marginal_entropy(q)),
    }
