"""Whole models against the batch-of-one loop in float64."""

import importlib
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pyfast_mmcl._errors import BackendError, InputError
from pyfast_mmcl.models.open_clip_import import load_open_clip
from pyfast_mmcl.models.tiny_clip import tiny_clip
from pyfast_mmcl.ops.fisher import fisher_diagonal, pair_losses
from tests.check import raises_sentence
from tests.ops.fisher.truth import assert_fisher, check, double, loop


@pytest.fixture(autouse=True)
def no_fallback():
    """Every layer of these models has a closed form."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="fisher: no closed form")
        yield


def installed(name: str):
    """torchvision and timm, imported the way open_clip is (beside a torch that does not fit)."""
    try:
        load_open_clip()
        return importlib.import_module(name)
    except (BackendError, ModuleNotFoundError) as error:
        pytest.skip(f"needs {name}: {error}")


def settle(model: nn.Module) -> nn.Module:
    """Running statistics and gains as after some training, in eval mode."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return model.eval()


@pytest.mark.slow
def test_resnet18():
    model = settle(installed("torchvision").models.resnet18(num_classes=10))
    check(model, [(torch.randn(2, 3, 32, 32), torch.randint(0, 10, (2,)))])


def test_vit_tiny():
    model = installed("timm").create_model("vit_tiny_patch16_224", img_size=48, num_classes=10, depth=2).eval()
    check(model, [(torch.randn(3, 3, 48, 48), torch.randint(0, 10, (3,)))])


def test_open_clip_with_pairs_as_samples():
    """Both towers, the projections and the learned scale; fused and plain attention; texts that end at other places."""
    installed("open_clip")
    model = tiny_clip(image_size=24, width=64, layers=2, text_width=64, text_layers=2, embed_dim=32).double().eval()
    tokens = torch.randint(1, 49_000, (3, 16))
    tokens[:, 3] = tokens[:, 2]
    for row, end in enumerate((5, 9, 15)):
        tokens[row, end] = 49_407
    images = torch.randn(3, 3, 24, 24).double()

    def forward(model, batch):
        images, tokens, others = batch
        parts = F.normalize(model.encode_image(images), dim=-1), F.normalize(model.encode_text(tokens), dim=-1)
        return (*parts, model.logit_scale.exp()), others

    with torch.no_grad():
        (a, b, _), _ = forward(model, (images, tokens, None))

    def loss_of_one(out, rows):
        """The loss of pair i among the candidates a, b, whose other rows are numbers."""
        (i,), (x, y, scale) = rows.tolist(), out
        to_b = scale * x @ torch.cat([b[:i], y, b[i + 1 :]]).t()
        to_a = scale * y @ torch.cat([a[:i], x, a[i + 1 :]]).t()
        return 0.5 * (F.cross_entropy(to_b, rows) + F.cross_entropy(to_a, rows))

    batch = (images, tokens, torch.arange(3))
    ours = fisher_diagonal(model, [batch], forward=forward, loss=lambda out, _: pair_losses(*out))
    assert_fisher(ours, loop(model, [batch], forward=forward, loss=loss_of_one))
    assert ours["logit_scale"] > 0 and ours["text_projection"].any() and ours["visual.class_embedding"].any()


class Sequence(nn.Module):
    """Tokens → recurrent layer → class."""

    def __init__(self, kind, batch_first=True, **options):
        super().__init__()
        self.batch_first = batch_first
        self.embed = nn.Embedding(20, 6, padding_idx=0)
        self.recurrent = kind(6, 5, batch_first=batch_first, **options)
        self.head = nn.Linear(10 if options.get("bidirectional") else 5, 4)

    def forward(self, ids):
        x = self.embed(ids)
        out, _ = self.recurrent(x if self.batch_first else x.transpose(0, 1))
        return self.head(out[:, -1] if self.batch_first else out[-1])


OPTIONS = [{}, {"num_layers": 2, "bidirectional": True}, {"bias": False}, {"batch_first": False}]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN], ids=lambda k: k.__name__)
def test_recurrent(kind, options):
    ids = torch.randint(0, 20, (5, 7))
    check(Sequence(kind, **options), [(ids, torch.randint(0, 4, (5,)))])


@pytest.mark.parametrize("kind", [nn.LSTMCell, nn.GRUCell, nn.RNNCell], ids=lambda k: k.__name__)
def test_recurrent_cells(kind):
    class Loop(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell, self.head = kind(6, 5), nn.Linear(5, 4)

        def forward(self, x):
            state = None
            for step in x.unbind(1):
                state = self.cell(step, state)
            return self.head(state[0] if isinstance(state, tuple) else state)

    check(Loop(), [(torch.randn(4, 6, 6), torch.randint(0, 4, (4,)))])


def test_inner_dropout_is_refused():
    model = Sequence(nn.LSTM, num_layers=2, dropout=0.5).train()
    with raises_sentence(InputError, "dropout", "eval"):
        fisher_diagonal(model, [(torch.randint(0, 20, (5, 7)), torch.randint(0, 4, (5,)))])


def test_lstm_keeps_its_state_and_float32():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.start, self.head = nn.LSTM(6, 5, batch_first=True), nn.Linear(6, 5), nn.Linear(15, 4)

        def forward(self, x):
            h = torch.tanh(self.start(x[:, 0]))[None]
            out, (h, c) = self.lstm(x, (h, h * 2))
            return self.head(torch.cat([out.mean(1), h[0], c[0]], 1))

    batch = (torch.randn(4, 6, 6), torch.randint(0, 4, (4,)))
    model = Both()
    check(model, [batch])
    assert_fisher(fisher_diagonal(model, [batch]), loop(model, [batch]), rtol=1e-4)


def test_rows_of_the_packages_own_classifier():
    from pyfast_mmcl.data.batch import Batch
    from pyfast_mmcl.models import MultimodalClassifier, Spec

    inputs = {"image": torch.randn(6, 1, 8, 8), "sensor": torch.randn(6, 3, 20)}
    model = MultimodalClassifier.for_stream(Spec(inputs, 5, width=16)).eval()
    present = {"image": torch.tensor([1, 1, 0, 1, 1, 1]).bool(), "sensor": torch.tensor([1, 0, 1, 1, 1, 0]).bool()}
    batch = Batch(inputs, torch.randint(0, 5, (6,)), torch.zeros(6).long(), present, torch.arange(6))
    model = model.double()
    batch.inputs = double(batch.inputs)
    ours = fisher_diagonal(model, [batch])
    totals = {n: torch.zeros_like(p) for n, p in model.named_parameters()}
    for b in range(6):
        row = batch.select(torch.tensor([b]))
        loss = F.cross_entropy(model(row).scores, row.target)
        grads = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
        for total, g in zip(totals.values(), grads, strict=True):
            total += 0 if g is None else g.square() / 6
    assert_fisher(ours, totals)
