"""`PackedRows`: a database prepared once and searched often, to which rows can be appended."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ._checks import as_rows, check_metric, check_pair


class PackedRows:
    """Rows kept ready for search; ``knn(q, PackedRows(x), k)`` equals ``knn(q, x, k)``, and appending repacks nothing.

    Args:
        database: rows [M, D] to start with; M = 0 is legal.
        metric: "l2" | "ip" | "cosine"; a bank answers searches of its own metric only.
    """

    def __init__(self, database: Any, metric: str = "l2") -> None:
        self.metric = check_metric(metric)
        rows = as_rows(database, "database")
        self.rows: Tensor = rows.clone()

    def __len__(self) -> int:
        return self.rows.shape[0]

    def append(self, rows: Any) -> None:
        """Add rows [m, D] behind the present ones; their indices continue from len(self)."""
        rows = as_rows(rows, "rows")
        check_pair(rows, self.rows, "rows", "the bank")
        self.rows = torch.cat([self.rows, rows.to(self.rows.dtype)])
