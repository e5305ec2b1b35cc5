"""What each process does in the tests of several processes."""

import torch

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.ops.fisher import fisher_diagonal
from tests.ops.fisher.truth import mlp


def problem():
    """A model and 11 samples, the same in every process."""
    torch.manual_seed(5)
    model = mlp(7, 6, 4).double()
    return model, torch.randn(11, 7).double(), torch.randint(0, 4, (11,))


def share(group, rank: int, world: int, labels: str, rows: tuple[int, ...] | None):
    """The Fisher over all processes, from every world-th row or from ``rows``; an error comes back as its text."""
    model, x, y = problem()
    mine = list(range(rank, 11, world)) if rows is None else list(rows)
    batches = [(x[mine[i : i + 3]], y[mine[i : i + 3]]) for i in range(0, len(mine), 3)]
    try:
        found = fisher_diagonal(model, batches, labels=labels, process_group=group)
    except InputError as error:
        return str(error)
    return {name: f.numpy() for name, f in found.items()}
