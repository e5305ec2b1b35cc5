"""Sets of weights: copied, put back and mixed, also when the model has grown."""

import torch
from torch import nn

from pyfast_mmcl.train.weights import mix, put_weights, weights_of
from tests.check import assert_same_bits


def model():
    made = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    made(torch.randn(8, 3))
    return made


def test_copies_are_copies_and_go_back_in_place():
    net = model()
    kept, places = weights_of(net), [p.data_ptr() for p in net.parameters()]
    assert "1.running_mean" in kept and "1.num_batches_tracked" not in kept
    first = {name: x.clone() for name, x in kept.items()}
    with torch.no_grad():
        for p in net.parameters():
            p.add_(1)
    assert all(torch.equal(kept[name], first[name]) for name in kept)
    put_weights(net, kept)
    for name, x in first.items():
        assert_same_bits(net.state_dict()[name], x)
    assert [p.data_ptr() for p in net.parameters()] == places


def test_a_mixture_is_the_line_between_and_what_is_new_stays():
    old = {"a": torch.tensor([0.0, 2.0]), "b": torch.ones(2, 2)}
    new = {"a": torch.tensor([4.0, 4.0, 9.0]), "b": torch.zeros(2, 2), "c": torch.tensor([7.0])}
    mixed = mix(old, new, 0.25)
    assert mixed["a"].tolist() == [1.0, 2.5, 9.0] and (mixed["b"] == 0.75).all() and mixed["c"].tolist() == [7.0]
    for share, like in ((0.0, old), (1.0, new)):
        assert mix(old, new, share)["b"].tolist() == like["b"].tolist()
    assert new["a"].tolist() == [4.0, 4.0, 9.0]
    grown = nn.Linear(3, 5)
    last = grown.weight[4].detach().clone()
    put_weights(grown, weights_of(nn.Linear(3, 4)))
    assert_same_bits(grown.weight[4], last)


def test_infinities_that_both_have_stay():
    mask = {"mask": torch.tensor([0.0, float("-inf"), float("inf")])}
    for share in (0.0, 0.25, 1.0):
        assert mix(mask, mask, share)["mask"].tolist() == mask["mask"].tolist()
