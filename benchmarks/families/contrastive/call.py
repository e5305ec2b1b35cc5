"""From arrays to a timed call: tensors, one forward and backward pass, and the answer for the gate."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.families.contrastive.cases import Case
from benchmarks.families.contrastive.data import BIAS, SCALE, part
from benchmarks.peer import Inputs, Prepared

WARM_ROWS = 64  # of the untimed first call, which lets libraries load what they load once


def tensors(case: Case, arrays: dict, device: str) -> dict:
    """The case's arrays as torch tensors of its dtype, `scale` and `bias`. What is differentiable requires a gradient;
    a scale that nobody learns is a float."""
    import torch

    values = {}
    for name, array in arrays.items():
        tensor = torch.tensor(np.asarray(array), device=device)
        values[name] = tensor if name == "labels" else tensor.to(getattr(torch, case.dtype))
    learnt = "scale" in case.differentiable
    values["scale"] = torch.tensor(SCALE[case.op], device=device) if learnt else SCALE[case.op]
    if "bias" in case.differentiable:
        values["bias"] = torch.tensor(BIAS, device=device)
    for name in case.differentiable:
        values[name].requires_grad_()
    return values


def prepared(
    case: Case,
    inputs: Inputs,
    options: dict,
    loss_of: Callable,
    *,
    loss_shift: Callable[[dict], float] = lambda values: 0.0,
    warm_whole: bool = False,
    backend: str = "",
    held: int = 0,
) -> Prepared:
    """A Prepared whose `run` is the loss and its gradients.

    `loss_of(values)` returns the loss as a tensor; `loss_shift` is what has to be added to it for the case's definition
    (outside the timed call). The first call here has few rows; for a library that compiles it is one of the whole
    case, so that compiling is counted as preparing.
    """
    import torch

    device = options.get("device", "cpu")
    torch.backends.cuda.matmul.allow_tf32 = bool(options.get("tf32"))

    def pass_of(values: dict):
        loss = loss_of(values)
        return loss.detach(), torch.autograd.grad(loss, [values[name] for name in case.differentiable])

    values = tensors(case, inputs.arrays, device)
    pass_of(values if warm_whole else tensors(case, part(case, inputs.arrays, WARM_ROWS)[1], device))

    def arrays(result) -> dict:
        loss, gradients = result
        found = {
            f"grad_{name}": grad.float().cpu().numpy()
            for name, grad in zip(case.differentiable, gradients, strict=True)
        }
        return {"loss": np.float64(float(loss) + loss_shift(values))} | found

    return Prepared(lambda: pass_of(values), arrays, backend=backend or device, held=held)
