"""Contrastive similarity of two sets of rows, without the matrix of all pairs: losses and distillation terms.

| what                                            | file                          |
|-------------------------------------------------|-------------------------------|
| `info_nce`, CLIP's loss, one or both directions | info_nce.py                   |
| `nt_xent`, two views                            | nt_xent.py                    |
| `sup_con`, positives by label                   | sup_con.py                    |
| `siglip`, sigmoid of every pair                 | siglip.py                     |
| `similarity_kl`, distillation of similarities   | similarity_kl.py              |
| `relation_distance`, distances and angles (RKD) | relation_distance.py          |
| the same of rows spread over processes          | ring.py                       |
| `PackedReference`, frozen rows                  | _packed.py                    |
| what a backend computes                         | _pairs.py, pairs_torch.py     |
| the truth: whole matrices in plain torch        | reference.py                  |
"""

from ._packed import PackedReference
from .info_nce import info_nce
from .nt_xent import nt_xent
from .relation_distance import relation_distance
from .siglip import siglip
from .similarity_kl import similarity_kl
from .sup_con import sup_con

__all__ = ["PackedReference", "info_nce", "nt_xent", "relation_distance", "siglip", "similarity_kl", "sup_con"]
