"""Every layer type against the batch-of-one loop in float64, and which of them fall back."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.ops.fisher import fisher_diagonal
from tests.check import raises_sentence
from tests.ops.fisher.truth import assert_fisher, check, loop, mlp


class Mean(nn.Module):
    """A layer, then all positions pooled, then a head."""

    def __init__(self, layer, width, classes=3):
        super().__init__()
        self.layer, self.head = layer, nn.Linear(width, classes)

    def forward(self, x):
        y = self.layer(x)
        y = y[0] if isinstance(y, tuple) else y
        return self.head(torch.tanh(y).transpose(1, -1).flatten(1, -2).mean(1) if y.ndim > 2 else torch.tanh(y))


class Last(nn.Module):
    """A layer over [B, S, D], pooled by a weighted mean over S, then a head."""

    def __init__(self, layer, width, classes=3):
        super().__init__()
        self.layer, self.head = layer, nn.Linear(width, classes)

    def forward(self, x):
        y = self.layer(x)
        y = y[0] if isinstance(y, tuple) else y
        weights = torch.linspace(0.5, 1.5, y.shape[1], dtype=y.dtype)
        return self.head(torch.tanh(y * weights[:, None]).sum(1))


class Two(nn.Module):
    """A layer of two inputs (or of the first alone), then a head."""

    def __init__(self, layer, both=True):
        super().__init__()
        self.layer, self.head, self.both = layer, nn.Linear(5, 3), both

    def forward(self, a, b):
        return self.head(torch.tanh(self.layer(a, b) if self.both else self.layer(a)))


def classes(b):
    return torch.randint(0, 3, (b,))


@pytest.fixture
def no_fallback():
    """A closed form exists: falling back would warn."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="fisher: no closed form")
        yield


CONVS = [
    (nn.Conv1d(4, 6, 3), (9,)),
    (nn.Conv1d(4, 6, 3, stride=2, padding=2, dilation=2, groups=2, bias=False), (12,)),
    (nn.Conv2d(4, 6, 3, padding=1), (5, 6)),
    (nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2)), (7, 6)),
    (nn.Conv2d(4, 8, 3, groups=4, padding="same", dilation=2), (5, 5)),
    (nn.Conv2d(4, 4, 3, groups=4, padding=1), (4, 5)),
    (nn.Conv2d(4, 600, 3, groups=2, padding=1), (3, 3)),
    (nn.Conv2d(4, 6, 2, padding="same"), (4, 4)),
    (nn.Conv2d(4, 6, 3, padding=1, padding_mode="circular"), (5, 5)),
    (nn.Conv2d(4, 6, 1), (3, 3)),
    (nn.Conv2d(4, 6, 3), (3, 3)),
    (nn.Conv3d(4, 6, (1, 2, 3), stride=(1, 2, 1), padding=(0, 1, 1)), (3, 4, 4)),
]


@pytest.mark.parametrize(("layer", "size"), CONVS, ids=lambda x: str(x).replace(" ", ""))
@pytest.mark.parametrize("absolute", [False, True])
def test_convolution(layer, size, absolute, no_fallback):
    check(Mean(layer, layer.out_channels), [(torch.randn(4, 4, *size), classes(4))], absolute=absolute)


def test_convolution_channels_last(no_fallback):
    model = Mean(nn.Conv2d(4, 6, 3, padding=1), 6).to(memory_format=torch.channels_last)
    x = torch.randn(4, 4, 5, 6).contiguous(memory_format=torch.channels_last)
    check(model, [(x, classes(4))])


def test_frames_folded_into_the_batch(no_fallback):
    class Video(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 5, 3), nn.Linear(5, 3)

        def forward(self, x):
            y = torch.tanh(self.conv(x.flatten(0, 1))).mean((2, 3))
            return self.head(y.unflatten(0, x.shape[:2]).mean(1))

    check(Video(), [(torch.randn(4, 2, 3, 5, 5), classes(4))])


NORMS = [
    (nn.LayerNorm(6), (4, 5, 6)),
    (nn.LayerNorm((5, 6)), (4, 5, 6)),
    (nn.LayerNorm(6, bias=False), (4, 6)),
    (nn.RMSNorm(6), (4, 5, 6)),
    (nn.GroupNorm(2, 6), (4, 6, 5)),
    (nn.GroupNorm(3, 6), (4, 6, 3, 2)),
    (nn.InstanceNorm2d(6, affine=True), (4, 6, 3, 4)),
    (nn.BatchNorm1d(6).eval(), (4, 6)),
    (nn.BatchNorm2d(6).eval(), (4, 6, 3, 4)),
    (nn.BatchNorm3d(6).eval(), (4, 6, 3, 2, 2)),
]


@pytest.mark.parametrize(("layer", "shape"), NORMS, ids=lambda x: str(x).replace(" ", ""))
def test_norm(layer, shape, no_fallback):
    for p in layer.parameters():
        nn.init.uniform_(p, 0.5, 1.5)
    if hasattr(layer, "running_mean") and layer.running_mean is not None:
        layer.running_mean.normal_()
        layer.running_var.uniform_(0.5, 2)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.layer, self.head = nn.Linear(shape[-1], shape[-1]), layer, nn.Linear(shape[-1], 3)

        def forward(self, x):
            y = torch.tanh(self.layer(self.first(x))) * torch.linspace(0.5, 2, x.shape[1], dtype=x.dtype).view(
                -1, *[1] * (x.ndim - 2)
            )
            return self.head(y).flatten(1, -2).sum(1) if y.ndim > 2 else self.head(y)

    check(Net().eval(), [(torch.randn(shape), classes(shape[0]))])


@pytest.mark.parametrize("padding_idx", [None, 2])
def test_embedding_with_repeated_ids(padding_idx, no_fallback):
    ids = torch.tensor([[1, 1, 2, 5], [2, 2, 2, 2], [0, 5, 0, 5], [3, 4, 1, 0]])
    check(Last(nn.Embedding(7, 5, padding_idx=padding_idx), 5), [(ids, classes(4))])
    check(Last(nn.Embedding(7, 5, padding_idx=padding_idx), 5), [(ids, classes(4))], absolute=True)


def test_embedding_of_positions_is_shared_by_all_samples():
    class Text(nn.Module):
        def __init__(self, lead):
            super().__init__()
            self.word, self.place, self.lead = nn.Embedding(9, 5), nn.Embedding(6, 5), lead

        def forward(self, ids):
            place = torch.arange(ids.shape[1])
            return torch.tanh(self.word(ids) + self.place(place[None] if self.lead else place))

    for lead in (False, True):
        check(Last(Text(lead), 5), [(torch.randint(0, 9, (4, 6)), classes(4))])


class Tokens(nn.Module):
    """Class token, position embedding and layer scale, spelled in one of the usual ways."""

    def __init__(self, way):
        super().__init__()
        self.way = way
        self.cls = nn.Parameter(torch.randn(5) if way in ("zeros", "view") else torch.randn(1, 1, 5))
        self.pos = nn.Parameter(torch.randn(7, 5) if way in ("zeros", "view") else torch.randn(1, 9, 5))
        self.gamma, self.temperature = nn.Parameter(torch.rand(5)), nn.Parameter(torch.tensor(0.3))

    def forward(self, x):
        b = x.shape[0]
        token = {
            "expand": lambda: self.cls.expand(b, -1, -1),
            "repeat": lambda: self.cls.repeat(b, 1, 1),
            "zeros": lambda: self.cls + torch.zeros(b, 1, 5, dtype=x.dtype),
            "view": lambda: self.cls.view(1, 1, -1).expand(b, -1, -1),
        }[self.way]()
        x = torch.cat([token, x], 1)
        x = x + (self.pos[:, : x.shape[1]] if self.pos.ndim == 3 else self.pos)
        return torch.tanh(x * self.gamma) * self.temperature.exp()


@pytest.mark.parametrize("way", ["expand", "repeat", "zeros", "view"])
def test_bare_parameters(way, no_fallback):
    check(Last(Tokens(way), 5), [(torch.randn(4, 6, 5), classes(4))])


def test_parameters_used_in_place(no_fallback):
    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(5, 5)
            self.bias, self.shift, self.gain, self.share = (nn.Parameter(torch.rand(5) + 0.5) for _ in range(4))

        def forward(self, x):
            x = x.clone()
            x += self.shift
            x = torch.tanh(self.first(x).add_(self.bias))
            x = torch.tanh(x.mul(2).mul_(self.gain))
            x = x * 3
            x /= self.share
            return x.relu_()

    check(Last(InPlace(), 5), [(torch.randn(4, 6, 5), classes(4))])


def test_first_layer_before_an_operation_in_place(no_fallback):
    model = nn.Sequential(nn.Linear(5, 6), nn.ReLU(inplace=True), nn.Linear(6, 3))
    check(model, [(torch.randn(4, 5), classes(4))])
    check(
        nn.Sequential(nn.Conv2d(2, 6, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(6, 3)),
        [(torch.randn(4, 2, 3, 3), classes(4))],
    )


def test_unknown_function_in_place_is_an_error():
    class Clamp(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.least = nn.Linear(5, 5), nn.Parameter(torch.rand(5))

        def forward(self, x):
            return self.first(x).clamp_(min=self.least)

    with raises_sentence(InputError, "in place", "out-of-place"):
        fisher_diagonal(Last(Clamp(), 5), [(torch.randn(4, 6, 5), classes(4))])


class Project(nn.Module):
    """A bare matrix on the right, in one of the usual ways."""

    def __init__(self, way):
        super().__init__()
        self.way, self.weight, self.bias = way, nn.Parameter(torch.randn(5, 4)), nn.Parameter(torch.randn(4))

    def forward(self, x):
        flat = x.reshape(-1, 5)
        return {
            "matmul": lambda: x @ self.weight + self.bias,
            "linear": lambda: F.linear(x, self.weight.t(), self.bias),
            "addmm": lambda: torch.addmm(self.bias, flat, self.weight).view(*x.shape[:-1], 4),
            "sliced": lambda: torch.cat([x @ self.weight[:, :1], x @ self.weight[:, 1:]], -1) + self.bias,
            "overlap": lambda: x @ self.weight + F.pad(x @ self.weight[:, :2], (0, 2)) + self.bias,
            "cast": lambda: x @ self.weight.to(torch.float64).contiguous() + self.bias,
            "product": lambda: x @ (self.weight * self.bias) + self.bias,
        }[self.way]()


@pytest.mark.parametrize("way", ["matmul", "linear", "addmm", "sliced", "overlap", "cast", "product"])
@pytest.mark.parametrize("absolute", [False, True])
def test_bare_matrices(way, absolute, no_fallback):
    check(Last(Project(way), 4), [(torch.randn(4, 6, 5), classes(4))], absolute=absolute)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_multihead_attention(batch_first, bias, no_fallback):
    class Attend(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, bias=bias, batch_first=batch_first)

        def forward(self, x):
            y = x if batch_first else x.transpose(0, 1)
            y = self.attention(y, y, y, need_weights=False)[0]
            return y if batch_first else y.transpose(0, 1)

    # as many samples as positions: nothing may be guessed from sizes
    check(Last(Attend().eval(), 8), [(torch.randn(5, 5, 8), classes(5))])


@pytest.mark.parametrize("kinds", [{}, {"kdim": 6, "vdim": 3}, {"add_bias_kv": True}])
def test_cross_attention(kinds):
    class Cross(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True, **kinds)
            self.key, self.value = nn.Linear(8, kinds.get("kdim", 8)), nn.Linear(8, kinds.get("vdim", 8))

        def forward(self, x):
            return self.attention(x, self.key(x), self.value(x))[0]

    check(Last(Cross().eval(), 8), [(torch.randn(4, 5, 8), classes(4))])


@pytest.mark.parametrize("batch_first", [False, True])
def test_transformer_encoder_layer(batch_first, no_fallback):
    class Encode(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=batch_first)

        def forward(self, x):
            return self.layer(x) if batch_first else self.layer(x.transpose(0, 1)).transpose(0, 1)

    check(Last(Encode().eval(), 8), [(torch.randn(4, 5, 8), classes(4))])


def test_only_the_last_position_has_a_gradient(no_fallback):
    """[S, B, D] folded to [S·B, D] inside attention, and a gradient at one position only: orders are told apart."""

    class First(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention, self.head = nn.MultiheadAttention(8, 2), nn.Linear(8, 3)

        def forward(self, x):
            y = x.transpose(0, 1)
            return self.head(self.attention(y, y, y)[0][0])

    check(First().eval(), [(torch.randn(4, 7, 8), classes(4))])


def test_reused_module(no_fallback):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.norm = nn.Linear(5, 5), nn.LayerNorm(5)

        def forward(self, x):
            for _ in range(3):
                x = self.norm(torch.tanh(self.layer(x)))
            return x

    for absolute in (False, True):
        check(Last(Twice(), 5), [(torch.randn(4, 6, 5), classes(4))], absolute=absolute)


def test_tied_embedding_and_head(no_fallback):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(9, 5)
            self.hidden, self.head = nn.Linear(5, 5), nn.Linear(5, 9, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, ids):
            return self.head(torch.tanh(self.hidden(self.embed(ids))))

    ids = torch.randint(0, 9, (4, 6))
    for absolute in (False, True):
        check(Tied(), [(ids, ids.roll(1, 1))], absolute=absolute)


def test_weight_norm_and_low_rank_update(no_fallback):
    class LowRank(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(5, 5))
            self.a, self.b = nn.Parameter(torch.randn(2, 5)), nn.Parameter(torch.randn(5, 2))

        def forward(self, x):
            return F.linear(x, self.weight + self.b @ self.a)

    normed = torch.nn.utils.parametrizations.weight_norm(nn.Linear(5, 5))
    for layer in (normed, LowRank()):
        check(Last(layer, 5), [(torch.randn(4, 6, 5), classes(4))])


@pytest.mark.parametrize("absolute", [False, True])
def test_shared_prompts_through_a_network(absolute, no_fallback):
    """Class prompts that no sample changes: everything they pass through is shared by the batch."""

    class Prompted(nn.Module):
        def __init__(self):
            super().__init__()
            self.prompts, self.text = nn.Parameter(torch.randn(3, 4)), mlp(4, 6, 5)
            self.image = nn.Linear(7, 5)

        def forward(self, x):
            return self.image(x) @ self.text(self.prompts).t()

    check(Prompted(), [(torch.randn(4, 7), classes(4))], absolute=absolute)


class Einsum(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2, 6, 3))

    def forward(self, x):
        return torch.einsum("bds,hde->bhes", x, self.weight).flatten(1, 2)


@pytest.mark.parametrize("layer", [Einsum(), nn.Bilinear(5, 5, 6)], ids=lambda x: type(x).__name__)
def test_layers_without_closed_form_fall_back_with_a_warning(layer):
    class Wrap(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = layer

        def forward(self, x):
            return self.inner(x, x) if isinstance(layer, nn.Bilinear) else self.inner(x)

    with pytest.warns(UserWarning, match=r"no closed form for .*layer\.inner\.weight"):
        check(Mean(Wrap(), 6), [(torch.randn(4, 6, 5), classes(4))])


TRANSPOSED = [
    (nn.ConvTranspose1d(4, 6, 3), (9,)),
    (nn.ConvTranspose1d(4, 6, 3, stride=3, padding=1, output_padding=2, groups=2, bias=False), (5,)),
    (nn.ConvTranspose2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2)), (4, 5)),
    (nn.ConvTranspose2d(4, 4, 2, stride=2, groups=4), (3, 3)),
    (nn.ConvTranspose3d(4, 6, (1, 2, 3), stride=(1, 2, 1), padding=(0, 1, 1)), (2, 3, 3)),
]


@pytest.mark.parametrize(("layer", "size"), TRANSPOSED, ids=lambda x: str(x).replace(" ", ""))
def test_transposed_convolution(layer, size, no_fallback):
    model, batch = Mean(layer, layer.out_channels), (torch.randn(4, 4, *size), classes(4))
    check(model, [batch])
    truth = loop(model, [batch])
    for backend in ("auto", "torch"):
        assert_fisher(fisher_diagonal(model, [batch], backend=backend), truth, rtol=1e-5)


@pytest.mark.parametrize("slopes", [1, 6])
@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 5), (4, 6, 3, 3)])
def test_slopes_of_prelu(slopes, shape, no_fallback):
    class Sloped(nn.Module):
        def __init__(self):
            super().__init__()
            self.slope = nn.PReLU(slopes)
            nn.init.uniform_(self.slope.weight)

        def forward(self, x):
            return self.slope(x) * 2

    check(Mean(Sloped(), 6), [(torch.randn(shape), classes(4))])


def test_scaled_sum(no_fallback):
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.bias, self.gain = nn.Parameter(torch.randn(5)), nn.Parameter(torch.randn(1, 1, 5))

        def forward(self, x):
            return x + torch.addcmul(self.bias, self.gain, x)

    check(Last(Scaled(), 5), [(torch.randn(4, 6, 5), classes(4))])


BAGS = [
    {"mode": "sum"},
    {"mode": "mean"},
    {"mode": "mean", "padding_idx": 2},
    {"mode": "sum", "include_last_offset": True},
]


@pytest.mark.parametrize("options", BAGS, ids=str)
def test_embedding_bag(options, no_fallback):
    class Bags(nn.Module):
        def __init__(self, flat):
            super().__init__()
            self.bag, self.flat = nn.EmbeddingBag(7, 5, **options), flat

        def forward(self, ids, weights):
            if not self.flat:
                return self.bag(ids, per_sample_weights=weights if options["mode"] == "sum" else None)
            end = ids.numel() + (1 if options.get("include_last_offset") else 0)
            return self.bag(ids.flatten(), torch.arange(0, end, ids.shape[1]))

    ids = torch.tensor([[1, 1, 2, 5], [2, 2, 2, 2], [0, 5, 0, 5], [3, 4, 1, 0]])
    for flat in (False, True)[bool(options.get("include_last_offset")) :]:
        check(Two(Bags(flat)), [((ids, torch.rand(4, 4)), classes(4))])


def test_the_largest_of_a_bag_is_refused():
    bag = Two(nn.EmbeddingBag(7, 5, mode="max"), both=False)
    with raises_sentence(InputError, "embedding_bag", "params="):
        fisher_diagonal(bag, [((torch.randint(0, 7, (4, 3)), torch.rand(4, 3)), classes(4))])


def test_parameter_copied_to_the_samples_one_by_one():
    class Stacked(nn.Module):
        def __init__(self):
            super().__init__()
            self.token, self.first = nn.Parameter(torch.randn(1, 5)), nn.Linear(5, 5)

        def forward(self, x):
            return torch.tanh(torch.cat([torch.stack([self.token] * len(x)), self.first(x)], 1))

    with pytest.warns(UserWarning, match="no closed form for stack.*layer.token"):
        check(Last(Stacked(), 5), [(torch.randn(4, 6, 5), classes(4))])


def test_two_results_and_a_branch_without_gradient(no_fallback):
    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.dead = nn.Linear(5, 4), nn.Linear(5, 4), nn.Linear(5, 4)

        def forward(self, x):
            self.dead(x)
            return self.a(x) * self.b(x).detach() + self.b(x)

    check(Last(Branches(), 4), [(torch.randn(4, 6, 5), classes(4))])


@pytest.mark.parametrize(("layer", "size"), CONVS, ids=lambda x: str(x).replace(" ", ""))
def test_convolution_in_float32_runs_on_the_compiled_kernels(layer, size, no_fallback):
    model, batch = Mean(layer, layer.out_channels), (torch.randn(4, 4, *size), classes(4))
    truth = loop(model, [batch])
    for backend in ("auto", "torch"):
        assert_fisher(fisher_diagonal(model, [batch], backend=backend), truth, rtol=1e-5)
