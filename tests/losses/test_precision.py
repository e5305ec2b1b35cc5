"""Under bfloat16 autocast, distances and divergences lose what their arguments lost, and no more."""

import pytest
import torch

from pyfast_mmcl.losses.clustering import nearest_softmax, student_t
from pyfast_mmcl.losses.graph import graph_smoothness
from pyfast_mmcl.losses.mixture import mixture_divergence, mixture_log_density, responsibilities
from tests.check import assert_no_worse

G = torch.Generator().manual_seed(0)
# Far from the origin and near one another, as codes are: sums of squares are large, distances small.
CENTERS = 5 + 2 * torch.randn(6, 10, generator=G)
CODES = CENTERS[torch.randint(6, (128,), generator=G)] + 0.3 * torch.randn(128, 10, generator=G)
LOG_WEIGHT, LOG_VARIANCE = torch.randn(6, generator=G).log_softmax(0), torch.randn(6, 10, generator=G) / 4
GAMMA = torch.randn(128, 6, generator=G).softmax(1)
W = torch.rand(128, 128, generator=G)
FORMULAS = {
    "student_t": (student_t, (CODES, CENTERS)),
    "nearest_softmax": (nearest_softmax, (CODES, CENTERS)),
    "log_density": (mixture_log_density, (CODES, LOG_WEIGHT, CENTERS, LOG_VARIANCE)),
    "responsibilities": (responsibilities, (CODES, LOG_WEIGHT, CENTERS, LOG_VARIANCE)),
    "divergence": (mixture_divergence, (GAMMA, CODES, CODES / 9, LOG_WEIGHT, CENTERS, LOG_VARIANCE)),
    "smoothness": (graph_smoothness, (1 + CODES / 99, W + W.T)),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_products_in_bfloat16_do_not_reach_inside(name):
    formula, arguments = FORMULAS[name]
    # What a network gives is rounded: that much is lost before.
    lowered = [x.bfloat16() if len(x) == 128 else x for x in arguments]
    with torch.autocast("cpu", torch.bfloat16):
        ours = formula(*lowered)
    assert ours.dtype == torch.float32
    assert_no_worse(ours, formula(*(x.double() for x in lowered)), formula(*(x.double() for x in arguments)), atol=1e-5)
    gradients = []
    for enabled in (True, False):
        wide = [x.float().requires_grad_(True) for x in arguments]
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            value = formula(*wide)
        gradients.append(torch.autograd.grad(value.square().sum(), wide))
    assert all(map(torch.equal, *gradients))


def test_double_stays_double():
    with torch.autocast("cpu", torch.bfloat16):
        assert student_t(CODES.double(), CENTERS.double()).dtype == torch.float64
