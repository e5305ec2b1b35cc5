"""Names of two torchvision operators, for libraries that import torchvision where its compiled part does not load.

A torchvision built for another torch than the one installed stops at import time with "operator torchvision::nms does
not exist". The losses measured here never call these operators, so it is enough that they are declared.
"""

from __future__ import annotations

import sys

SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_kept = []  # an operator exists as long as the library object that defined it


def declare() -> None:
    """Declare the operators if torchvision cannot be imported without; does nothing where it can or is absent."""
    import torch

    try:
        import torchvision  # noqa: F401
    except ImportError:
        return
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]  # what is left of the failed import
        library = torch.library.Library("torchvision", "FRAGMENT")
        for operator in ("nms", "qnms"):
            library.define(operator + SIGNATURE)
        _kept.append(library)
