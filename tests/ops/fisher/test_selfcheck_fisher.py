"""Never a wrong number in silence: what hides, mixes samples or picks rows by their data is right or refused."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.ops.fisher import fisher_diagonal, per_sample_norms
from pyfast_mmcl.ops.fisher.rules import RULES
from tests.check import raises_sentence
from tests.ops.fisher.test_refusals_fisher import Net, Product
from tests.ops.fisher.truth import assert_fisher, check, loop, loss_of, mlp

X = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0, 1, 2, 1, 0, 2, 1, 1])

HIDDEN = {
    "slice": (lambda net, x: Product.apply(x[:, :5], net.p[:, :5]), (5, 6)),
    "transpose": (lambda net, x: Product.apply(x, net.p.T), (6, 5)),
    "view": (lambda net, x: Product.apply(x, net.p.view(5, 6)), (30,)),
    "computed": (lambda net, x: Product.apply(x, net.p.exp()), (5, 6)),
    "slice beside a use that is seen": (lambda net, x: x @ net.p.t() + Product.apply(x[:, :5], net.p[:, :5]), (5, 6)),
}


@pytest.mark.parametrize("name", HIDDEN)
def test_what_is_made_of_a_parameter_and_read_out_of_sight_is_refused(name):
    with pytest.raises(InputError, match=r"^p: read by code that hides its layer"):
        fisher_diagonal(Net(*HIDDEN[name]), [(X, Y)])


def earlier(h, lag):
    return h + 0.5 * torch.cat([torch.zeros_like(h[:lag]), h[:-lag]])


MIXING = {
    "two before": lambda net, x: earlier(net.first(x), 2),
    "seven before": lambda net, x: earlier(net.first(x), 7),
    "two behind": lambda net, x: earlier(net.first(x).flip(0), 2).flip(0),
    "rolled": lambda net, x: net.first(x + torch.roll(x, 2, 0)),
    "rolled by half": lambda net, x: net.first(x + torch.roll(x, 4, 0)),
    "reversed": lambda net, x: net.first(x.flip(0)),
    "centred": lambda net, x: net.first(x - x.mean(0)),
    "scaled by the largest": lambda net, x: net.first(x / x.abs().max()),
    "sorted": lambda net, x: net.first(x[x[:, 0].argsort()]),
}


@pytest.mark.parametrize(
    ("name", "size"), [(n, b) for n in MIXING for b in (3, 8) if b == 8 or n not in ("seven before", "rolled by half")]
)
def test_answers_that_change_with_other_rows_are_refused(name, size):
    for measure in (lambda *a: fisher_diagonal(a[0], [a[1]]), per_sample_norms):
        with pytest.raises(InputError, match="other samples"):
            measure(Net(MIXING[name], 1), (X[:size], Y[:size]))


@pytest.mark.parametrize("mask", [float("-inf"), -1e9])
def test_masked_classes_hide_no_mixing(mask):
    def masked(rolled):
        def forward(model, batch):
            out = model(batch[0] + torch.roll(batch[0], 2, 0) if rolled else batch[0])
            return torch.cat([out, torch.full_like(out[:, :1], mask)], 1), batch[1]

        return forward

    check(mlp(6, 5, 3), [(X, Y)], forward=masked(False))
    with pytest.raises(InputError, match="other samples"):
        fisher_diagonal(mlp(6, 5, 3), [(X, Y)], forward=masked(True))


def test_mixing_is_seen_when_the_first_batches_are_too_small_to_show_it():
    batches = [(X[:1], Y[:1]), (X[1:3], Y[1:3]), (X[3:], Y[3:])]
    with pytest.raises(InputError, match="other samples"):
        fisher_diagonal(Net(MIXING["two before"], 1), batches)
    check(mlp(6, 5, 3), batches)


def test_a_loss_that_reads_other_rows():
    def pulled(out, y):
        return F.cross_entropy(out, y, reduction="none") + earlier(out, 3).square().sum(1)

    with pytest.raises(InputError, match=r"^loss: the loss of one sample depends on other samples"):
        fisher_diagonal(mlp(6, 5, 3), [(X, Y)], loss=pulled)


def test_a_rule_that_is_wrong_is_noticed(monkeypatch):
    """Stands for every mistake in reading a model: half of a weight's gradient is lost."""
    linear = RULES["linear"]

    def half(call, grads):
        parts = linear(call, grads)
        parts[0][1].g = parts[0][1].g * 0.5
        return parts

    monkeypatch.setitem(RULES, "linear", half)
    with raises_sentence(InputError, "0.weight", "plain autograd", "params="):
        fisher_diagonal(mlp(6, 5, 3), [(X, Y)])


class Picked(nn.Module):
    """Tokens without the padding, in one long row."""

    def __init__(self):
        super().__init__()
        self.embed, self.inner, self.head = nn.Embedding(11, 6), nn.Linear(6, 5), nn.Linear(5, 3)

    def forward(self, ids):
        mask, x = ids != 0, self.embed(ids)
        out = x.new_zeros(*ids.shape, 5)
        out[mask] = torch.tanh(self.inner(x[mask]))
        return self.head(out.sum(1))


def tokens(*lengths):
    ids = torch.randint(1, 11, (len(lengths), max(lengths)))
    for row, n in enumerate(lengths):
        ids[row, n:] = 0
    return ids


def test_rows_picked_by_a_mask_are_right_or_refused():
    labels = torch.randint(0, 3, (4,))
    check(Picked(), [(tokens(5, 5, 5, 5), labels)])
    # 16 rows of 4 samples, and none of them 4
    for lengths in ((3, 5, 3, 5), (5, 5, 1, 5), (3, 4, 5, 4)):
        with pytest.raises(InputError, match=r"picked or sorted by their data|samples"):
            fisher_diagonal(Picked(), [(tokens(*lengths), labels)])
    with pytest.raises(InputError, match="picked or sorted by their data"):
        fisher_diagonal(Picked(), [(tokens(4, 4, 4, 4), labels), (tokens(3, 5, 3, 5), labels)])


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointed_layers_are_refused(reentrant):
    class Checkpointed(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.inner, self.head = mlp(6, 7, 5), mlp(5, 7, 5), nn.Linear(5, 3)

        def forward(self, x):
            return self.head(checkpoint(self.inner, self.first(x), use_reentrant=reentrant))

    model = Checkpointed()
    with raises_sentence(InputError, "checkpointing", "gradient_checkpointing_disable"):
        fisher_diagonal(model, [(X, Y)])
    assert all(p.grad is None for p in model.parameters())


def test_inputs_and_other_tensors_that_want_a_gradient_change_nothing():
    class Stranger(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.kept = mlp(6, 5, 3), [torch.randn(6, 6).double().requires_grad_()]

        def forward(self, x):
            return self.net(x @ self.kept[0])

    x = X.double().requires_grad_()
    check(mlp(6, 5, 3), [(x, Y)])
    check(Stranger(), [(x, Y)])
    assert x.grad is None


def test_dropout_in_train_mode_is_the_gradient_at_the_masks_that_were_drawn():
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3)).double().train()
    x = X.double()
    torch.manual_seed(5)
    ours = fisher_diagonal(model, [(x, Y)])
    torch.manual_seed(5)
    losses = loss_of(model(x), Y)
    totals = {n: torch.zeros_like(p) for n, p in model.named_parameters()}
    for one in losses:
        grads = torch.autograd.grad(one, list(model.parameters()), retain_graph=True)
        for total, g in zip(totals.values(), grads, strict=True):
            total += g.square() / len(losses)
    assert_fisher(ours, totals)
    assert model.training and model[2].training
    shifted = copy.deepcopy(model)
    shifted.insert(0, Shifted())
    with pytest.raises(InputError, match="other samples"):
        fisher_diagonal(shifted, [(x, Y)])


class Shifted(nn.Module):
    def forward(self, x):
        return x + torch.roll(x, 2, 0)


def test_a_state_that_moves_with_every_pass_is_named():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.count = mlp(6, 5, 3), 0

        def forward(self, x):
            self.count += 1
            return self.net(x * self.count)

    with pytest.warns(UserWarning, match="answers differently from one pass to the next"):
        with pytest.raises(InputError, match="other samples"):
            fisher_diagonal(Counting(), [(X, Y)])


@pytest.mark.parametrize("key", ["logits", "scores"])
def test_outputs_in_a_dict(key):
    class Answers(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = mlp(6, 5, 3)

        def forward(self, x):
            return {"hidden": x, key: self.net(x)}

    model = Answers()
    ours = fisher_diagonal(model, [(X, Y)])
    expected = fisher_diagonal(model.net, [(X, Y)])
    assert_fisher({n.removeprefix("net."): f for n, f in ours.items()}, expected, rtol=1e-5)
    with raises_sentence(InputError, "logits", "dict", "loss="):
        fisher_diagonal(model, [(X, Y)], forward=lambda m, b: (m(b[0]), b[1]))


def test_a_value_kept_from_an_earlier_pass_is_named():
    class Cached(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.p, self.kept = mlp(6, 5, 3), nn.Parameter(torch.randn(6)), None

        def forward(self, x):
            if self.kept is None:
                self.kept = self.p.exp()
            return self.net(x * self.kept)

    with raises_sentence(InputError, "p: read in one forward pass", "caches", "params="):
        fisher_diagonal(Cached(), [(X, Y)])


def test_complex_numbers_are_refused():
    class Spectral(nn.Module):
        def __init__(self, kind):
            super().__init__()
            self.w, self.head = nn.Parameter(torch.randn(4, 2)), nn.Linear(6, 3)
            if kind == "complex":
                self.w = nn.Parameter(torch.view_as_complex(self.w.detach()))

        def forward(self, x):
            w = self.w if self.w.is_complex() else torch.view_as_complex(self.w)
            return self.head(torch.fft.irfft(torch.fft.rfft(x) * w, n=6))

    with raises_sentence(InputError, "w: expected a parameter of real", "complex64"):
        fisher_diagonal(Spectral("complex"), [(X, Y)])
    with raises_sentence(InputError, "complex numbers", "params="):
        fisher_diagonal(Spectral("pairs"), [(X, Y)])
    model = Spectral("pairs")
    expected = loop(model, [(X, Y)])
    ours = fisher_diagonal(model, [(X, Y)], params=["head.weight"])
    assert_fisher(ours, {"head.weight": expected["head.weight"]}, rtol=1e-4)


def test_a_compiled_model_runs_as_it_was_written():
    model = mlp(6, 5, 3).double()
    ours = fisher_diagonal(torch.compile(model, backend="eager"), [(X.double(), Y)])
    assert_fisher({n.removeprefix("_orig_mod."): f for n, f in ours.items()}, loop(model, [(X, Y)]))
