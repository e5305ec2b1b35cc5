"""`PackedReference`: rows that never change, prepared once for many calls."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..._errors import InputError, unknown_name
from ..knn._checks import as_rows


class PackedReference:
    """Frozen reference rows [M, D], packed once for `similarity_kl` and `info_nce(a, packed, …)`.

    A bank of constant embeddings (the reference texts of ZSCL) meets every batch; what depends on it alone is done
    here. It is a copy: later changes of ``rows`` do not reach it, and no gradient does.

    Args:
        rows: [M, D] torch tensor (any device) or NumPy array; float32, float16, bfloat16 or float64.
        precision: "float32", or "bfloat16": the rows are rounded to it once and products read half the bytes.

    Raises:
        InputError: wrong shape, dtype or precision.
    """

    def __init__(self, rows: Any, *, precision: str = "float32") -> None:
        if precision not in ("float32", "bfloat16"):
            raise unknown_name("precision", precision, ("float32", "bfloat16"))
        x = as_rows(rows, "rows")
        if precision == "bfloat16" and x.dtype == torch.float64:
            raise InputError('rows: expected float32, float16 or bfloat16 for precision="bfloat16", got float64.')
        self.precision = precision
        rounded = x.bfloat16() if precision == "bfloat16" else x
        dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
        with torch.inference_mode(False):  # autograd refuses to keep tensors of that mode
            self.rows: Tensor = rounded.to(dtype, copy=True, memory_format=torch.contiguous_format)
        self._compiled: dict[str, Any] = {}

    def __len__(self) -> int:
        return self.rows.shape[0]

    def compiled(self, precision: str) -> Any:
        """The rows in the layouts of the compiled kernels, made at their first use."""
        if precision not in self._compiled:
            from . import _native_pairs

            self._compiled[precision] = _native_pairs.reference_rows(self.rows, precision)
        return self._compiled[precision]

    @property
    def features(self) -> int:
        """D."""
        return self.rows.shape[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_compiled": {}}  # a copy packs again

    def __repr__(self) -> str:
        return f"PackedReference(rows={len(self)}, features={self.features}, precision={self.precision!r})"
