"""Online EWC lets its Fisher fade, and is EWCH when nothing fades."""

import pytest
import torch

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.continual.regularization.online_ewc import FadingWeights
from tests.check import assert_same_bits
from tests.continual.regularization.truth import (
    Watch,
    every_label,
    fitted,
    one_by_one,
    parameters,
    small_stream,
    squares,
)


@pytest.mark.parametrize("gamma_in_penalty", [True, False])
@pytest.mark.parametrize("gamma", [0.5, 1.0])
def test_the_penalty_is_its_formula(gamma, gamma_in_penalty):
    tasks = []

    def expected(params):
        fading = {name: torch.zeros_like(p) for name, p in params.items()}
        for _, fisher in tasks:
            fading = {name: gamma * fading[name] + fisher[name] for name in params}
        return 50.0 * (gamma if gamma_in_penalty else 1.0) * squares(params, tasks[-1][0], fading)

    watch = Watch(
        expected,
        lambda learner, loader: tasks.append(
            (parameters(learner.model), one_by_one(learner.model, loader, every_label))
        ),
    )
    fitted(small_stream(), "online_ewc", watch, lam=100.0, gamma=gamma, gamma_in_penalty=gamma_in_penalty)
    assert watch.compared == 4


def test_with_gamma_one_it_is_ewc_of_huszar():
    runs = [fitted(small_stream(), "online_ewc", gamma=1.0), fitted(small_stream(), "ewc_huszar")]
    for a, b in zip(*(run.model.parameters() for run in runs), strict=True):
        assert_same_bits(a, b)


@pytest.mark.parametrize("gamma", [0.0, 1.1, -1.0, float("nan"), "1", None, True])
def test_gamma_is_checked(gamma):
    with pytest.raises(InputError, match="gamma"):
        FadingWeights(1.0, gamma)
