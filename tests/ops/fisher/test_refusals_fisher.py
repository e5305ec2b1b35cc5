"""What cannot be followed is refused, never summed wrongly; and mistakes of a caller are named."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.ops.fisher import fisher_diagonal, per_sample_norms, quadratic_penalty
from tests.ops.fisher.truth import check, mlp

X, Y = torch.randn(7, 6, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 1, 0, 2, 1])


class Net(nn.Module):
    """Two linear layers and a parameter ``p``, put together by ``way``."""

    def __init__(self, way, *shape):
        super().__init__()
        torch.manual_seed(0)
        self.way, self.first, self.head = way, nn.Linear(6, 5), nn.Linear(5, 3)
        self.p = nn.Parameter(torch.randn(*shape))

    def forward(self, x):
        return self.head(self.way(self, x).tanh())


class Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return x @ w.t()

    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        return g @ w, g.t() @ x


def doubled_in_place(net, x):
    w = net.p.clone()
    w.mul_(2.0)
    w[0] = 0
    return x @ w.t()


def into_buffer(net, x):
    w = torch.zeros(5, 6, dtype=x.dtype)
    w[:] = net.p
    return x @ w.t()


def into_samples(net, x):
    h = torch.zeros(len(x), 5, dtype=x.dtype)
    h[:] = net.p
    return h * net.first(x)


def as_out(net, x):
    return torch.add(net.first(x).detach(), net.p, out=torch.empty(len(x), 5, dtype=x.dtype))


def hidden(net, x):
    return x @ net.p.t() + Product.apply(x, net.p)


def test_a_parameter_changed_in_place_is_computed_from_not_viewed():
    check(Net(doubled_in_place, 5, 6), [(X, Y)])


def test_a_bias_next_to_a_parameter_expanded_over_the_samples():
    def way(net, x):
        return torch.baddbmm(net.first.bias, x[:, None], net.p.expand(len(x), -1, -1))[:, 0]

    check(Net(way, 6, 5), [(X, Y)])


@pytest.mark.filterwarnings("ignore:fisher")
@pytest.mark.parametrize(("way", "shape"), [(into_buffer, (5, 6)), (into_samples, (5,)), (as_out, (5,))])
def test_a_parameter_written_into_another_tensor_is_refused(way, shape):
    with pytest.raises(InputError, match="writes a parameter into another tensor"):
        fisher_diagonal(Net(way, *shape), [(X, Y)])


def test_a_second_use_that_hides_is_noticed():
    with pytest.raises(InputError, match=r"^p: read by code that hides its layer"):
        fisher_diagonal(Net(hidden, 5, 6), [(X, Y)])


@pytest.mark.parametrize(
    "mix",
    [
        lambda h, p: h.cumsum(0),
        lambda h, p: h + torch.cat([torch.zeros_like(h[:1]), h[:-1]]),
        lambda h, p: h + h[:1],
        lambda h, p: h - h.mean(0) * p,
    ],
    ids=["cumsum", "previous", "first", "mean"],
)
def test_later_samples_and_statistics_that_meet_a_parameter_are_noticed(mix):
    with pytest.raises(InputError, match="depends on other samples"):
        fisher_diagonal(Net(lambda net, x: mix(net.first(x), net.p), 5), [(X, Y)])


def test_values_that_are_not_finite_are_not_called_coupling():
    for row in (0, 1):
        x = X.clone()
        x[row] = float("nan")
        with pytest.raises(InputError, match="NaN or infinite"):
            fisher_diagonal(mlp(6, 5, 3), [(x, Y)])


def test_no_rows_no_parameters_and_frozen_ones():
    model = mlp(6, 5, 3)
    assert per_sample_norms(model, (X[:0], Y[:0])).shape == (0,)
    wanted = fisher_diagonal(model, [(X, Y)], labels="batch", params="0.weight")
    model.requires_grad_(False)
    assert fisher_diagonal(model, [(X, Y)], labels="batch") == {}
    found = fisher_diagonal(model, [(X, Y)], labels="batch", params=["0.weight"])
    assert torch.equal(found["0.weight"], wanted["0.weight"]) and not model[0].weight.requires_grad
    with torch.inference_mode(), pytest.raises(InputError, match="inference"):
        fisher_diagonal(model, [(X, Y)])


@pytest.mark.parametrize("lam", [float("nan"), "2", True, torch.ones(3), torch.tensor(2.0, requires_grad=True)])
def test_strength_of_a_penalty_is_one_finite_number(lam):
    x = torch.zeros(3, requires_grad=True)
    with pytest.raises(InputError, match="lam"):
        quadratic_penalty(x, x.detach(), x.detach(), lam)


@pytest.mark.parametrize(
    "lam", [np.float32(2), np.int64(2), np.array(2.0), Fraction(2), torch.tensor(2)], ids=lambda x: type(x).__name__
)
def test_numbers_of_any_kind_are_a_strength(lam):
    x = torch.ones(3)
    assert quadratic_penalty(x, 0 * x, x, lam).item() == 3


@pytest.mark.parametrize("params", [{"a": torch.zeros(3)}, torch.zeros(3, dtype=torch.int64)])
def test_a_penalty_wants_floating_tensors(params):
    with pytest.raises(InputError, match=r"params\[0\]: expected a tensor of floating"):
        quadratic_penalty(params, torch.zeros(3), torch.zeros(3))
