"""Embedding: only the rows a sample looks up have a gradient; repeated ids add before the square."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..calls import Call
from ..contributions import Contribution
from ..shared import Shared

Parts = list[tuple[Shared, Contribution]]


@dataclass
class Lookup:
    """``G_b[ids_s] += g_s``. ids [B, S], g [B, S, D]; ``ignored``: the row that never learns, or −1."""

    ids: Tensor
    g: Tensor
    shape: torch.Size
    ignored: int

    @property
    def samples(self) -> int:
        return self.ids.shape[0]

    def _rows(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """(sample·V + id of every touched row [U], its summed gradient [U, D])."""
        place = torch.arange(self.samples, device=self.ids.device)[:, None] * self.shape[0] + self.ids
        g = self.g.flatten(0, 1).to(dtype)
        if self.ignored >= 0:
            seen = (self.ids != self.ignored).flatten()
            place, g = place.flatten()[seen], g[seen]
        touched, position = torch.unique(place, return_inverse=True)
        return touched, add_rows(g.new_zeros(len(touched), g.shape[1]), position.flatten(), g)

    def square_into(self, out: Tensor, absolute: bool, backend: str) -> None:
        touched, sums = self._rows(out.dtype)
        add_rows(out, touched % self.shape[0], sums.abs_() if absolute else sums.square_())

    def dense(self, rows: slice, dtype: torch.dtype) -> Tensor:
        part = Lookup(self.ids[rows], self.g[rows], self.shape, self.ignored)
        touched, sums = part._rows(dtype)
        whole = sums.new_zeros(part.samples * self.shape[0], self.shape[1])
        whole[touched] = sums
        return whole.view(part.samples, *self.shape)

    def norms(self, dtype: torch.dtype) -> Tensor:
        touched, sums = self._rows(dtype)
        return add_rows(sums.new_zeros(self.samples), touched // self.shape[0], sums.square().sum(1))


def add_rows(out: Tensor, index: Tensor, values: Tensor) -> Tensor:
    """``out[index] += values`` with repeated indices, in an order that does not change from run to run."""
    if out.device.type == "cuda":
        return out.index_put_((index,), values, accumulate=True)
    return out.index_add_(0, index, values)


def embedding(call: Call, grads: list[Tensor]) -> Parts | None:
    """``weight[ids]``; the row ``padding_idx`` receives no gradient, as in torch."""
    weight, ids, ignored, by_count = call.bind("weight", "indices", "padding_idx", "scale_grad_by_freq")
    target, rows = call.target(weight), call.rows(ids)
    if target is None or rows is None or by_count:
        return None
    g = call.out_rows(grads[0])
    part = Lookup(rows.flatten(1), g.reshape(len(g), -1, g.shape[-1]), weight.shape, -1 if ignored is None else ignored)
    return [(target, part)]


def embedding_bag(call: Call, grads: list[Tensor]) -> Parts | None:
    """torch.embedding_bag of sums and means: every id of a bag receives the bag's gradient, or its share of it."""
    names = ("weight", "indices", "offsets", "scale_grad_by_freq", "mode", "sparse", "per_sample_weights")
    weight, ids, offsets, by_count, mode, _, factors, with_last, ignored = call.bind(
        *names, "include_last_offset", "padding_idx"
    )
    target = call.target(weight)
    if target is None or by_count or mode == 2 or grads[0] is None:
        return None
    if factors is not None and call.target(factors) is not None:
        return None
    g = grads[0]
    starts = offsets[:-1] if with_last else offsets
    sizes = torch.diff(starts, append=torch.tensor([len(ids)], device=ids.device))
    longest = max(1, int(sizes.max()))
    place = starts[:, None] + torch.arange(longest, device=ids.device)
    real = torch.arange(longest, device=ids.device) < sizes[:, None]
    place = place.clamp_max(max(0, len(ids) - 1))
    table = ids[place].long()
    real &= table != (-1 if ignored is None else ignored)
    share = real.to(g.dtype) if factors is None else real * factors.detach()[place]
    if mode == 1:
        share = share / real.sum(1, keepdim=True).clamp_min(1)
    layout = call.out_layout(g)
    spread = layout.rows(g[:, None] * share[:, :, None], call.samples).flatten(1, 2)
    part = Lookup(layout.rows(table, call.samples).flatten(1), spread, weight.shape, -1)
    return [(target, part)]
