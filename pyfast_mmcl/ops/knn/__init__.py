"""Exact nearest neighbours: search, packed banks, nearest centre, one Lloyd step.

| what                        | file          |
|-----------------------------|---------------|
| `knn`, the search           | search.py     |
| `PackedRows`, a growing bank| packed.py     |
| `nearest`, k = 1            | nearest.py    |
| `lloyd_step`, k-means       | lloyd.py      |
| `KMeansRuns`, whole runs    | runs.py       |
| `draw_in_parts`, k-means++  | seeding.py    |
| the truth in float64 torch  | reference.py  |
"""

from .lloyd import lloyd_step
from .nearest import nearest
from .packed import PackedRows
from .search import knn
from .seeding import draw_in_parts

__all__ = ["PackedRows", "draw_in_parts", "knn", "lloyd_step", "nearest"]
