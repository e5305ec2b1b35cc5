"""Banks of prototypes that a sequence model reads as extra tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pyfast_mmcl.ops.knn import nearest


class PrototypeBank(nn.Module):
    """K prototypes [K, D], none known at the start; buffers, so that they are saved with the model and get no gradient.

    nearest  the known prototype with the largest cosine similarity, rows and prototypes taken through tanh first:
             ``cosine(tanh(x), tanh(p_k)).argmax(k)``
    """

    rows: Tensor
    known: Tensor

    def __init__(self, n_prototypes: int, width: int) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros(n_prototypes, width))
        self.register_buffer("known", torch.zeros(n_prototypes, dtype=torch.bool))

    @torch.no_grad()
    def move(self, which: Tensor, means: Tensor, momentum: float) -> None:
        """p_k ← momentum · p_k + (1 − momentum) · mean_k for k in ``which`` [K']; one not yet known takes its mean."""
        means = means.to(self.rows.dtype)
        moved = momentum * self.rows[which] + (1 - momentum) * means
        self.rows[which] = torch.where(self.known[which].unsqueeze(1), moved, means)
        self.known[which] = True

    def nearest(self, x: Tensor) -> Tensor:
        """The prototypes [B, D] nearest to the rows x [B, D], without a gradient; zeros while none is known."""
        which = self.known.nonzero().flatten()
        if len(which) == 0 or len(x) == 0:
            return torch.zeros_like(x)
        bank = torch.tanh(self.rows[which]).to(x.dtype)
        return self.rows[which[nearest(torch.tanh(x.detach()), bank, metric="cosine")[1]]].to(x.dtype)


class PrototypeTokens(nn.Module):
    """Appends two tokens to a sequence: its nearest question prototype and its nearest visual prototype.

    ``tokens' = cat([tokens, question.nearest(mean of question tokens), vision.nearest(mean of vision tokens)], 1)``

    n_types, n_classes  prototypes of the two banks: one per type of question, one per class of object
    Called with tokens [B, S, D], counting bool [B, S] (which tokens stand for something) and two bool [S], the places
    of either side. Returns the longer sequence [B, S + 2, D], what counts in it [B, S + 2] and the two means {name:
    [B, D]}, zeros in a row that has no token of the side; such a row gets no prototype of it.

    Reference: Zhang et al., VQACL, CVPR 2023.
    """

    def __init__(self, n_types: int, n_classes: int, width: int) -> None:
        super().__init__()
        self.question = PrototypeBank(n_types, width)
        self.vision = PrototypeBank(n_classes, width)

    def forward(
        self, tokens: Tensor, counting: Tensor, question: Tensor, vision: Tensor
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        means, added, flags = {}, [], []
        for name, places, bank in (("question", question, self.question), ("vision", vision, self.vision)):
            mine = counting & places
            number = mine.sum(1, keepdim=True)
            means[name] = (tokens * mine.unsqueeze(2)).sum(1) / number.clamp(min=1)
            added.append(bank.nearest(means[name]))
            flags.append((number > 0) & bank.known.any())
        return torch.cat([tokens, torch.stack(added, 1)], 1), torch.cat([counting, *flags], 1), means
