"""Array arithmetic that the data of several families need."""

from __future__ import annotations

import numpy as np


def round_bfloat16(values: np.ndarray) -> np.ndarray:
    """Finite float32 → the nearest bfloat16 value (ties to even), kept as float32."""
    bits = values.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)).view(np.float32)
