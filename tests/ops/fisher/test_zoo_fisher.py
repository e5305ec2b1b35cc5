"""Models of other packages and torch's own, small, in float32 against the batch-of-one loop."""

import importlib

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pyfast_mmcl._errors import BackendError
from pyfast_mmcl.models.open_clip_import import load_open_clip
from pyfast_mmcl.ops.fisher import fisher_diagonal
from tests.ops.fisher.truth import check, loop


def installed(name):
    """torchvision and timm, imported the way open_clip is (beside a torch that does not fit)."""
    try:
        load_open_clip()
        return importlib.import_module(name)
    except (BackendError, ModuleNotFoundError) as error:
        pytest.skip(f"needs {name}: {error}")


def maxvit(**options):
    widths = {"stem_channels": 8, "block_channels": [8, 16], "block_layers": [1, 1], "head_dim": 4}
    return installed("torchvision").models.MaxVit(
        input_size=(64, 64), partition_size=2, stochastic_depth_prob=0.0, **widths, **options
    )


def timm(name, **more):
    return lambda **options: installed("timm").create_model(name, **more, **options)


def torchvision(name):
    return lambda **options: getattr(installed("torchvision").models, name)(**options)


SMALL = {"img_size": 32, "depth": 2}
# what each has that others do not; size of the images
ZOO = {
    "depthwise convolutions, squeeze and excite": (torchvision("mobilenet_v3_small"), 32),
    "grouped convolutions, shuffled channels": (torchvision("shufflenet_v2_x0_5"), 32),
    "windows, relative positions": (maxvit, 64),
    "layer scale, global response": (timm("convnextv2_atto"), 32),
    "weight standardisation, group norm": (timm("resnetv2_50x1_bit"), 32),
    "class attention": (timm("cait_xxs24_224", **SMALL), 32),
    "shifted windows": (timm("swin_tiny_patch4_window7_224", img_size=64, window_size=2, depths=(1, 1, 1, 1)), 64),
    "relative position bias": (timm("beit_base_patch16_224", embed_dim=32, num_heads=2, **SMALL), 32),
}


def assert_close(ours, truth):
    """Sums of differences below a thousandth of the sums; nothing is asked of what rounding alone decides."""
    top = max(t.sum().item() for t in truth.values())
    for name, t in truth.items():
        assert (ours[name] - t).abs().sum() <= 1e-3 * (t.sum() + 1e-6 * top), name


@pytest.mark.filterwarnings("ignore:fisher")
@pytest.mark.parametrize("name", ZOO)
def test_models_of_other_packages(name):
    make, size = ZOO[name]
    model = make(num_classes=5)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    model.eval()
    batch = (torch.randn(3, 3, size, size), torch.randint(0, 5, (3,)))
    assert_close(fisher_diagonal(model, [batch]), loop(model, [batch], dtype=torch.float32))


@pytest.mark.parametrize("batch_first", [False, True])
def test_encoder_and_decoder(batch_first):
    class Translate(nn.Module):
        def __init__(self):
            super().__init__()
            self.both, self.head = nn.Transformer(8, 2, 1, 1, 16, dropout=0.0, batch_first=batch_first), nn.Linear(8, 3)

        def forward(self, a, b):
            mask = nn.Transformer.generate_square_subsequent_mask(b.shape[1], dtype=b.dtype)
            if batch_first:
                return self.head(self.both(a, b, tgt_mask=mask).mean(1))
            return self.head(self.both(a.transpose(0, 1), b.transpose(0, 1), tgt_mask=mask).mean(0))

    check(Translate().eval(), [((torch.randn(4, 5, 8), torch.randn(4, 3, 8)), torch.randint(0, 3, (4,)))])


def test_padded_texts():
    class Text(nn.Module):
        def __init__(self):
            super().__init__()
            layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
            self.embed, self.layers = nn.Embedding(11, 8, padding_idx=0), nn.TransformerEncoder(layer, 2)
            self.head = nn.Linear(8, 3)

        def forward(self, ids):
            return self.head(self.layers(self.embed(ids), src_key_padding_mask=ids == 0)[:, 0])

    ids = torch.randint(1, 11, (4, 6))
    ids[0, 4:] = ids[1, 3:] = ids[3, 5:] = 0
    check(Text().eval(), [(ids, torch.randint(0, 3, (4,)))])


def reparametrised():
    wrap = torch.nn.utils.parametrizations
    return {
        "spectral norm": nn.Sequential(wrap.spectral_norm(nn.Linear(6, 6)), nn.Tanh(), nn.Linear(6, 3)),
        "orthogonal": nn.Sequential(wrap.orthogonal(nn.Linear(6, 6)), nn.Tanh(), nn.Linear(6, 3)),
        "weight norm": nn.Sequential(wrap.weight_norm(nn.Conv1d(1, 4, 3)), nn.Tanh(), nn.Flatten(), nn.Linear(16, 3)),
        "data parallel": nn.DataParallel(nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 3))),
    }


@pytest.mark.parametrize("name", reparametrised())
def test_weights_computed_from_others(name):
    model = reparametrised()[name].eval()
    x = torch.randn(4, 1, 6) if name == "weight norm" else torch.randn(4, 6)
    check(model, [(x, torch.randint(0, 3, (4,)))])


def test_expert_weights_and_functional_calls():
    class Experts(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate, self.experts, self.table = (
                nn.Linear(6, 3),
                nn.Parameter(torch.randn(3, 6, 5)),
                nn.Embedding(9, 5),
            )
            self.head = nn.Sequential(nn.Linear(5, 3))

        def forward(self, x):
            y = (self.gate(x).softmax(1)[:, :, None] * torch.einsum("bi,eio->beo", x, self.experts)).sum(1)
            y = torch.tanh(y + self.table.weight[(x[:, 0].abs() * 4).long() % 9])
            return torch.func.functional_call(self.head, {n: 2 * p for n, p in self.head.named_parameters()}, (y,))

    with pytest.warns(UserWarning, match="no closed form for einsum"):
        check(Experts(), [(torch.randn(6, 6), torch.randint(0, 3, (6,)))])


def test_text_and_image_towers_of_open_clip():
    clip = installed("open_clip").model
    vision = {"image_size": 32, "patch_size": 16, "width": 32, "layers": 2, "head_width": 16}
    text = {"context_length": 8, "vocab_size": 50, "width": 32, "heads": 2, "layers": 2}
    model = clip.CLIP(embed_dim=16, vision_cfg=vision, text_cfg=text).eval()

    def classify(model, batch):
        (images, texts), target = batch
        a, b = (F.normalize(x, dim=-1) for x in (model.encode_image(images), model.encode_text(texts)))
        return torch.stack([(a * b).sum(1), a[:, 0] * 3], 1) * model.logit_scale.exp(), target

    batch = ((torch.randn(4, 3, 32, 32), torch.randint(1, 50, (4, 8))), torch.randint(0, 2, (4,)))
    check(model, [batch], forward=classify)
