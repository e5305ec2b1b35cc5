"""Estimators against their definitions; batches of every make; refusals."""

import copy
import dataclasses
import gc
import weakref
from collections import UserDict

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pyfast_mmcl._errors import InputError, UnknownNameError
from pyfast_mmcl.data.batch import Batch
from pyfast_mmcl.ops.fisher import fisher_diagonal
from tests.check import raises_sentence
from tests.ops.fisher.truth import assert_fisher, check, double, loop, mlp


def stream(*sizes, width=7, classes=4):
    return [(torch.randn(b, width), torch.randint(0, classes, (b,))) for b in sizes]


def class_loop(model, batches, weight_of):
    """Σ_c weight_c · grad(log p_c)² per sample, float64; weights [B, C] from the probabilities."""
    totals, count = None, 0
    for x, _ in batches:
        with torch.no_grad():
            weights = weight_of(model(x).softmax(-1), count)
        for c in range(weights.shape[1]):
            parts = loop_each(model, [(x, torch.full((len(x),), c))], weights[:, c])
            totals = parts if totals is None else {n: totals[n] + parts[n] for n in totals}
        count += len(x)
    return {n: t / count for n, t in totals.items()}


def loop_each(model, batches, weights):
    ((x, y),) = batches
    single = [loop(model, [(x[b : b + 1], y[b : b + 1])]) for b in range(len(x))]
    return {n: sum(w * s[n] for w, s in zip(weights, single, strict=True)) for n in single[0]}


@pytest.mark.parametrize("sizes", [(5, 3), (1,), (1, 1, 2), (17,)])
def test_empirical_is_the_loop(sizes):
    check(mlp(7, 9, 8, 4), stream(*sizes))


def test_exact_is_the_expectation_over_all_labels():
    model, batches = mlp(7, 6, 4).double(), double(stream(5, 2))
    assert_fisher(fisher_diagonal(model, batches, labels="exact"), class_loop(model, batches, lambda p, _: p))


def test_exact_of_a_softmax_head_has_its_closed_form():
    model, batches = nn.Linear(7, 4).double(), double(stream(6))
    x = batches[0][0]
    p = model(x).softmax(-1).detach()
    ours = fisher_diagonal(model, batches, labels="exact")
    torch.testing.assert_close(ours["weight"], (p - p**2).T @ x**2 / 6, rtol=1e-10, atol=0)
    torch.testing.assert_close(ours["bias"], (p - p**2).mean(0), rtol=1e-10, atol=0)


def test_exact_of_a_sequence_is_the_expectation_over_joint_labels():
    model = mlp(3, 4, 2).double()
    x = torch.randn(2, 2, 3).double()
    with torch.no_grad():
        p = model(x).softmax(-1)
    expected = None
    for first in range(2):
        for second in range(2):
            y = torch.tensor([[first, second]] * 2)
            w = p[:, 0, first] * p[:, 1, second]
            part = loop_each(model, [(x, y)], w)
            expected = part if expected is None else {n: expected[n] + part[n] for n in part}
    ours = fisher_diagonal(model, [(x, torch.zeros(2, 2, dtype=torch.int64))], labels="exact")
    assert_fisher(ours, {n: e / 2 for n, e in expected.items()})


def test_sampled_is_the_empirical_fisher_at_the_drawn_labels():
    model, (batch,) = mlp(7, 6, 4).double(), double(stream(9))
    drawn = []

    def spy(model, batch):
        drawn.append(model(batch[0]).detach())
        return model(batch[0]), batch[1]

    ours = fisher_diagonal(model, [batch], labels="sampled", seed=3, forward=spy)
    from pyfast_mmcl.ops.fisher.objective import draw_labels

    y = draw_labels(drawn[-1], torch.arange(9), 3)
    assert_fisher(ours, loop(model, [(batch[0], y)]))
    assert any(not torch.equal(draw_labels(drawn[-1], torch.arange(9), s), y) for s in range(4, 9))


def test_sampled_labels_have_the_right_frequencies():
    from pyfast_mmcl.ops.fisher.objective import draw_labels

    logits = torch.tensor([0.3, -1.0, 2.0, 0.0]).expand(40_000, 4)
    y = draw_labels(logits, torch.arange(40_000), 1)
    counts = torch.bincount(y, minlength=4) / 40_000
    p = logits[0].softmax(0)
    assert ((counts - p).abs() < 5 * (p * (1 - p) / 40_000).sqrt()).all()
    certain = torch.tensor([[-1e9, 0.0, -1e9]]).expand(50, 3)
    assert (draw_labels(certain, torch.arange(50), 0) == 1).all()


def test_sampled_converges_to_exact():
    model, ((x, y),) = mlp(5, 4, 3).double(), double(stream(4, width=5, classes=3))
    exact = fisher_diagonal(model, [(x, y)], labels="exact")
    sampled = fisher_diagonal(model, [(x.repeat(1000, 1), y.repeat(1000))], labels="sampled")
    for name, e in exact.items():
        assert (sampled[name] - e).norm() < 0.1 * e.norm(), name


@pytest.mark.parametrize("labels", ["empirical", "sampled", "exact"])
def test_batch_size_does_not_matter(labels):
    model, (batch,) = mlp(7, 6, 4).double(), double(stream(12))
    parts = [(batch[0][i : i + 5], batch[1][i : i + 5]) for i in (0, 5, 10)]
    assert_fisher(fisher_diagonal(model, [batch], labels=labels), fisher_diagonal(model, parts, labels=labels))


def test_batch_squares_the_mean_gradient():
    model, batches = mlp(7, 6, 4).double(), double(stream(5, 3))
    ours = fisher_diagonal(model, batches, labels="batch")
    expected = {n: torch.zeros_like(p) for n, p in model.named_parameters()}
    for x, y in batches:
        grads = torch.autograd.grad(F.cross_entropy(model(x), y), list(model.parameters()))
        for e, g in zip(expected.values(), grads, strict=True):
            e += g.square() / 2
    assert_fisher(ours, expected)


def test_mas_takes_absolute_gradients_of_the_squared_outputs():
    model, batches = mlp(7, 6, 4), stream(5, 3)
    check(model, batches, absolute=True)
    model, batches = model.double(), double(batches)
    ours = fisher_diagonal(model, batches, output="norm2", absolute=True)
    assert_fisher(ours, loop(model, batches, loss=lambda z, _: z.square().flatten(1).sum(1), absolute=True))


def test_own_loss_and_sequences():
    model = mlp(7, 6, 4)
    batches = [(torch.randn(3, 5, 7), torch.randn(3, 5, 4))]
    check(model, batches, loss=lambda z, y: (z - y).square().flatten(1).mean(1))
    check(model, [(torch.randn(3, 5, 7), torch.randint(0, 4, (3, 5)))])


def test_ignored_positions_count_nothing():
    target = torch.randint(0, 4, (3, 5))
    target[:, 2:] = -100
    x = torch.randn(3, 5, 7)
    model = mlp(7, 6, 4).double()
    ours = fisher_diagonal(model, [(x.double(), target)])
    assert_fisher(ours, loop(model, [(x.double()[:, :2], target[:, :2])]))


class Scores(nn.Module):
    """Reads a Batch and answers with an object, as the models of the package do."""

    def __init__(self):
        super().__init__()
        self.net = mlp(7, 6, 4)

    def forward(self, batch):
        class Out:
            scores = self.net(batch.inputs["x"])

        return Out()


def test_batches_of_every_make():
    x, y = torch.randn(5, 7), torch.randint(0, 4, (5,))
    model = Scores()
    expected = fisher_diagonal(model.net, [(x, y)])
    batch = Batch({"x": x}, y, torch.zeros(5).long(), {"x": torch.ones(5).bool()}, torch.arange(5) + 100)
    ours = fisher_diagonal(model, [batch])
    assert_fisher({n.removeprefix("net."): f for n, f in ours.items()}, expected, rtol=1e-5)

    class Named(nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net = net

        def forward(self, a, b):
            return self.net(a + b)

    for inputs in ((x, torch.zeros_like(x)), {"a": x, "b": torch.zeros_like(x)}):
        ours = fisher_diagonal(Named(model.net), [(inputs, y)])
        assert_fisher({n.removeprefix("net."): f for n, f in ours.items()}, expected, rtol=1e-5)


def test_batches_of_dicts_and_dataclasses():
    @dataclasses.dataclass
    class Rows:
        x: torch.Tensor
        y: torch.Tensor

    x, y = torch.randn(5, 7), torch.randint(0, 4, (5,))
    model = mlp(7, 6, 4)
    expected = fisher_diagonal(model, [(x, y)])
    makes = {
        "dataclass": (Rows(x, y), lambda m, b: (m(b.x), b.y)),
        "dict": ({"x": x, "y": y}, lambda m, b: (m(b["x"]), b["y"])),
        "mapping": (UserDict({"x": x, "y": y}), lambda m, b: (m(b["x"]), b["y"])),
        "nested": (({"x": x}, [y, None]), lambda m, b: (m(b[0]["x"]), b[1][0])),
    }
    for name, (batch, forward) in makes.items():
        assert_fisher(fisher_diagonal(model, [batch], forward=forward), expected, rtol=1e-5)
        assert_fisher(fisher_diagonal(model, [batch] * 2, forward=forward, max_samples=5), expected, rtol=1e-5), name
    for odd in (object(), (x, y[:3]), iter([x])):
        with raises_sentence(InputError, "samples", "select(rows)"):
            fisher_diagonal(model, [odd], forward=lambda m, b: (m(x), y))


def test_code_that_hides_its_layers_is_refused():
    model = nn.Sequential(torch.jit.trace(nn.Linear(7, 6), torch.randn(2, 7)), nn.Linear(6, 4))
    with raises_sentence(InputError, "0.weight", "scripted"):
        fisher_diagonal(model, stream(5))
    fisher_diagonal(model, stream(5), params=["1.weight"])


def test_layers_that_depend_on_the_data_are_refused():
    class Routed(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(7, 4), nn.Linear(7, 4)

        def forward(self, x):
            return self.first(x) if x[0, 0] > 0 else self.second(x)

    (plus, minus), y = (torch.full((3, 7), s) for s in (1.0, -1.0)), torch.zeros(3, dtype=torch.int64)
    with raises_sentence(InputError, "second.weight", "depend on the data"):
        fisher_diagonal(Routed(), [(plus, y), (minus, y)])


def test_sampled_labels_hang_on_the_ids_of_a_batch():
    x, y = torch.randn(6, 7), torch.randint(0, 4, (6,))
    batch = Batch({"x": x}, y, torch.zeros(6).long(), {"x": torch.ones(6).bool()}, torch.tensor([5, 900, 3, 77, 12, 8]))
    model = Scores().double()
    batch.inputs["x"] = x.double()
    mixed = [batch.select(torch.tensor(rows)) for rows in ([4, 1], [3, 0, 5, 2])]
    assert_fisher(fisher_diagonal(model, [batch], labels="sampled"), fisher_diagonal(model, mixed, labels="sampled"))


def test_max_samples_cuts_the_last_batch():
    model, (batch,) = mlp(7, 6, 4).double(), double(stream(12))
    parts = [(batch[0][i : i + 5], batch[1][i : i + 5]) for i in (0, 5, 10)]
    expected = fisher_diagonal(model, [(batch[0][:7], batch[1][:7])])
    assert_fisher(fisher_diagonal(model, iter(parts), max_samples=7), expected)
    assert_fisher(fisher_diagonal(model, parts, max_samples=99), fisher_diagonal(model, [batch]))


def test_only_wanted_parameters():
    model, batches = mlp(7, 6, 4).double(), double(stream(5))
    everything = fisher_diagonal(model, batches)
    assert list(everything) == [n for n, _ in model.named_parameters()]
    some = fisher_diagonal(model, batches, params=["2.weight", model[0].bias])
    assert_fisher(some, {n: everything[n] for n in ("2.weight", "0.bias")})
    model[0].requires_grad_(False)
    assert_fisher(fisher_diagonal(model, batches), {n: everything[n] for n in ("2.weight", "2.bias")})
    with raises_sentence(UnknownNameError, "2.wight", "2.weight"):
        fisher_diagonal(model, batches, params=["2.wight"])
    with raises_sentence(InputError, "not a parameter"):
        fisher_diagonal(model, batches, params=[torch.zeros(3)])


def test_leaves_the_model_as_it_was():
    model, batches = mlp(7, 6, 4), stream(5)
    model[2].weight.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        fisher_diagonal(model, batches)
    assert [p.requires_grad for p in model.parameters()] == [True, True, False, True]
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    state = torch.get_rng_state()
    fisher_diagonal(model, batches, labels="sampled")
    assert torch.equal(torch.get_rng_state(), state)


def test_nothing_stays_behind():
    """Activations are freed at once, without the garbage collector: hooks and graphs do not hold each other."""
    model, (batch,) = mlp(7, 6, 4), stream(5)
    model.append(nn.Linear(4, 4))
    kept = []
    model[0].register_forward_hook(lambda *arguments: kept.append(weakref.ref(arguments[-1])))

    def dead_branch(model, batch):
        model[2](model[0](batch[0]))
        return model(batch[0]), batch[1]

    gc.disable()
    try:
        for labels in ("empirical", "exact"):
            fisher_diagonal(model, [batch] * 2, labels=labels, forward=dead_branch)
        with pytest.raises(InputError):
            fisher_diagonal(model, [batch], forward=lambda m, b: (m(b[0]) - m(b[0]).mean(0), b[1]))
        assert len(kept) > 10 and not any(ref() is not None for ref in kept)
    finally:
        gc.enable()


def test_dtype_and_unused_parameters():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = nn.Linear(7, 4), nn.Linear(3, 3)

        def forward(self, x):
            return self.used(x)

    ours = fisher_diagonal(Odd(), stream(5))
    assert all(f.dtype == torch.float32 for f in ours.values())
    assert not ours["unused.weight"].any() and ours["used.weight"].any()


def test_refuses_samples_that_depend_on_each_other():
    bn = nn.Sequential(nn.Linear(7, 4), nn.BatchNorm1d(4))
    with raises_sentence(InputError, "batch normalisation", "eval"):
        fisher_diagonal(bn, stream(5))
    fisher_diagonal(bn.eval(), stream(5))
    no_stats = nn.Sequential(nn.Linear(7, 4), nn.BatchNorm1d(4, track_running_stats=False)).eval()
    with raises_sentence(InputError, "track_running_stats"):
        fisher_diagonal(no_stats, stream(5))

    def in_batch(z, _):
        return F.cross_entropy(z @ z.T, torch.arange(len(z)), reduction="none")

    with raises_sentence(InputError, "depends on other samples", "contrastive"):
        fisher_diagonal(mlp(7, 6, 4), stream(5), loss=in_batch)

    class Centred(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = mlp(7, 6, 4)

        def forward(self, x):
            z = self.net(x)
            return z - z.mean(0)

    with raises_sentence(InputError, "depends on other samples"):
        fisher_diagonal(Centred(), stream(5))


def test_errors_say_what_to_do():
    model = mlp(7, 6, 4)
    with raises_sentence(UnknownNameError, "empirical"):
        fisher_diagonal(model, stream(5), labels="empirial")
    with raises_sentence(UnknownNameError, "norm2"):
        fisher_diagonal(model, stream(5), output="norm")
    with raises_sentence(InputError, "labels", "empirical"):
        fisher_diagonal(model, stream(5), labels="exact", output="norm2")
    with raises_sentence(InputError, "leave loss out"):
        fisher_diagonal(model, stream(5), loss=F.mse_loss, output="norm2")
    with raises_sentence(InputError, "one value", "reduction"):
        fisher_diagonal(model, stream(5), loss=F.cross_entropy)
    with raises_sentence(InputError, "at least one sample"):
        fisher_diagonal(model, [])
    with raises_sentence(InputError, "forward="):
        fisher_diagonal(model, [torch.zeros(3, 7)])
    with raises_sentence(InputError, "max_samples", "at least 1"):
        fisher_diagonal(model, stream(5), max_samples=0)
    with raises_sentence(InputError, "logits"):
        fisher_diagonal(nn.Unflatten(0, (-1, 1, 1, 1)), stream(5), params=[])
