"""The texts that matter for a set of images, and names of clusters."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from pyfast_mmcl._errors import InputError, whole_number
from pyfast_mmcl.clustering.inputs import read_rows
from pyfast_mmcl.clustering.text_bank import TextBank, read_bank

_BLOCK = 2**22  # scores of texts worked out at once, in float64


def n_image_centers(N: int, K: int, rows_per_center: int = 300) -> int:
    """How many centres stand for N images of K clusters: one for about 300 images, but three for each small cluster.

    ``round(N / 300) if N / K ≥ 300 else 3 K``, at most N. Reference: Li et al., ICML 2024, §3.1: 167 centres
    for CIFAR, 17 for STL-10, 4,271 for ImageNet; 303 for the 101 small classes of UCF-101.
    """
    centers = round(N / rows_per_center) if N >= rows_per_center * K else 3 * K
    return max(1, min(N, centers))


def select_nouns(texts: Tensor, centers: Tensor, per_center: int = 5) -> Tensor:
    """Which texts say most about which image centre: int64 [G, per_center], surest first, −1 where there are fewer.

    ``p = softmax(texts @ centers.T, dim=1)``; every text goes to its ``p.argmax(1)``, and the ``per_center`` texts with
    the largest ``p.max(1)`` stay for each centre.

    texts [M, d] and centers [G, d] of unit rows. Worked out in float64: without a temperature all p are close to 1/G.
    Ties go to the smaller index.

    Reference: Li et al., *Image clustering with external guidance*, ICML 2024, §3.1.
    """
    G, home = len(centers), centers.device
    wide = centers.double()
    labels, surest = [], []
    for part in texts.split(max(1, _BLOCK // G)):
        p, label = (part.to(home).double() @ wide.T).softmax(1).max(1)
        labels.append(label)
        surest.append(p)
    label, sure = torch.cat(labels), torch.cat(surest)
    order = sure.argsort(descending=True, stable=True)
    order = order[label[order].argsort(stable=True)]
    counts = torch.bincount(label, minlength=G)
    place = torch.arange(len(order), device=home) - (counts.cumsum(0) - counts)[label[order]]
    chosen = torch.full((G, per_center), -1, dtype=torch.int64, device=home)
    keep = place < per_center
    chosen[label[order][keep], place[keep]] = order[keep]
    return chosen


def cluster_means(x: Tensor, labels: Tensor, K: int) -> Tensor:
    """Unit means [K, d] of the rows of each cluster, 0 where there is none; x [N, d], labels int64 [N]."""
    sums = torch.zeros(K, x.shape[1], dtype=torch.float64, device=x.device).index_add_(0, labels, x.double())
    return normalize(sums, dim=1).to(x.dtype)


def name_clusters(X: Any, labels: Any, text_bank: Any, names: Any = None, *, top: int = 3) -> list[list[str]]:
    """Up to ``top`` names for each cluster 0, 1, …, K − 1: the texts that fit its mean and no other's.

    ``select_nouns(texts, unit means of the clusters)``, for the labels of any method.

    X          image embeddings [N, d]; labels int [N], −1 for rows of no cluster
    text_bank  as TAC takes it: a TextBank, its file, or embeddings [M, d] with ``names``

    Raises InputError for labels of other rows, or a bank of another width.
    """
    whole_number("top", top)
    rows = read_rows(X)
    bank: TextBank = read_bank(text_bank, names, rows.shape[1])
    found = torch.as_tensor(labels).to(rows.device).long()
    if found.shape != (len(rows),) or not bool((found >= 0).any()):
        raise InputError(f"labels: expected the cluster of each of {len(rows)} rows, got {list(found.shape)}.")
    x = torch.cat([part for _, part in rows.unit().blocks()]).float()
    inside = found >= 0
    means = cluster_means(x[inside], found[inside], int(found.max()) + 1)
    # A cluster number without rows takes no names from others.
    used = (means != 0).any(1).nonzero().flatten()
    chosen = dict(zip(used.tolist(), select_nouns(bank.embeddings, means[used], top).tolist(), strict=True))
    return [[bank.names[i] for i in chosen.get(k, ()) if i >= 0] for k in range(len(means))]
