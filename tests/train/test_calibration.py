"""One temperature against a search over a grid in float64."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from pyfast_mmcl.train.calibration import BOUNDS, fit_temperature


def loss(scores, target, temperature):
    return float(cross_entropy(scores.double() / temperature, target))


@pytest.mark.parametrize("size", [2, 17, 65, 300])
@pytest.mark.parametrize("sharpness", [0.3, 1.0, 5.0])
def test_no_temperature_of_a_fine_grid_is_better(size, sharpness):
    g = torch.Generator().manual_seed(size)
    target = torch.randint(7, (size,), generator=g)
    scores = sharpness * (torch.randn(size, 7, generator=g) + torch.nn.functional.one_hot(target, 7))
    fitted = fit_temperature(scores, target)
    assert BOUNDS[0] <= fitted <= BOUNDS[1]
    grid = torch.logspace(-1, 1, 301, dtype=torch.float64)
    assert loss(scores, target, fitted) <= min(loss(scores, target, float(t)) for t in grid) + 1e-12


def test_a_true_temperature_is_found_again():
    g = torch.Generator().manual_seed(3)
    scores = torch.randn(40000, 5, generator=g, dtype=torch.float64) * 3
    target = torch.multinomial((scores / 2.5).softmax(1), 1, generator=g).flatten()
    assert fit_temperature(scores, target) == pytest.approx(2.5, rel=0.03)


def test_bounds_empty_rows_and_masked_classes():
    scores, target = torch.eye(4) * 5, torch.arange(4)
    assert fit_temperature(scores, target) == pytest.approx(BOUNDS[0])
    assert fit_temperature(scores, target.flip(0)) == pytest.approx(BOUNDS[1])
    assert fit_temperature(scores[:0], target[:0]) == 1.0
    g = torch.Generator().manual_seed(0)
    scores, target = torch.randn(50, 3, generator=g), torch.randint(3, (50,), generator=g)
    wide = torch.cat([scores, torch.full((50, 2), torch.finfo(torch.float32).min)], 1)
    assert fit_temperature(wide, target) == pytest.approx(fit_temperature(scores, target), rel=1e-9)
