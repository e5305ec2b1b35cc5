"""`pair_losses`: what a sample of a contrastive model is, so that it has a Fisher of its own."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..._errors import InputError


def pair_losses(a: Tensor, b: Tensor, scale: Tensor | float = 1.0) -> Tensor:
    """Symmetric contrastive loss of every pair, with the other pairs of the batch as constants.

    ``½ (CE(scale * a_i @ B.T, i) + CE(scale * b_i @ A.T, i))`` where A and B are detached but for their row i.

    An in-batch loss has no per-sample gradient: moving one pair moves the loss of all others. Here a **sample is one
    pair**, and its model is p(partner | candidates): the candidates are the batch, held fixed at their present values.
    So the Fisher says how the parameters matter for telling each pair's partner, given these candidates; it depends on
    them, hence on batch size and order. For candidates that do not (class prompts, a fixed bank), plain logits
    ``scale * a @ bank.T`` and the default loss of `fisher_diagonal` are all that is needed.

    Args:
        a, b: embeddings [B, D] of both sides, row i belonging to row i (usually of unit norm).
        scale: factor of the similarities, 0-d tensor (it gets a gradient) or number.

    Returns:
        [B]; use it as ``loss=lambda out, _: pair_losses(*out)`` with a model that returns (a, b, scale).

    Raises:
        InputError: shapes that differ.

    Reference: our specification. Radford et al., *Learning Transferable Visual Models From Natural Language
    Supervision*, ICML 2021, for the loss whose rows these are.
    """
    if a.ndim != 2 or a.shape != b.shape:
        raise InputError(f"a and b: expected [B, D] of one shape, got {list(a.shape)} and {list(b.shape)}.")
    own = (a * b).sum(1)
    return 0.5 * (_one_way(a, b, own, scale) + _one_way(b, a, own, scale))


def _one_way(x: Tensor, candidates: Tensor, own: Tensor, scale: Tensor | float) -> Tensor:
    mine = torch.eye(len(x), dtype=torch.bool, device=x.device)
    logits = torch.where(mine, own[:, None], x @ candidates.detach().t()) * scale
    return F.cross_entropy(logits, torch.arange(len(x), device=x.device), reduction="none")
