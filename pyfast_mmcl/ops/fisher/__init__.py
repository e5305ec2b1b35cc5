"""Fisher information from true per-sample gradients, and the quadratics of elastic weight consolidation.

| what                                                     | file          |
|----------------------------------------------------------|---------------|
| `outer_square_accumulate`, one layer's kernel            | outer.py      |
| `fisher_diagonal`, any model                             | diagonal.py   |
| `per_sample_norms`, lengths of per-sample gradients      | norms.py      |
| `pair_losses`, the sample of a contrastive model         | pairs.py      |
| `quadratic_penalty`, value and gradient in one pass      | penalty.py    |
| `fold_quadratics`, T tasks as one quadratic              | fold.py       |

How a model is read: capture.py sees the functions that read parameters (calls.py), shared.py follows tensors made of
parameters alone, probe.py and plan.py find the samples in every tensor (layout.py), rules/ knows the layers, and
accumulate.py squares what they contribute (contributions.py), once all parts of a parameter are there (collect.py).
Nothing is believed: probe.py compares one gradient with plain autograd's, alone.py sees that samples do not mix.
"""

from .diagonal import fisher_diagonal
from .fold import fold_quadratics
from .norms import per_sample_norms
from .outer import outer_square_accumulate
from .pairs import pair_losses
from .penalty import quadratic_penalty

__all__ = [
    "fisher_diagonal",
    "fold_quadratics",
    "outer_square_accumulate",
    "pair_losses",
    "per_sample_norms",
    "quadratic_penalty",
]
