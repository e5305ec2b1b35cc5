"""Encoders of images: widths, rows that do not mix, fresh weights, what is refused."""

import pytest
import torch
from torch import nn

from pyfast_mmcl._errors import InputError, UnknownNameError
from pyfast_mmcl.models.image_encoders import BACKBONES, image_encoder
from tests.check import raises_sentence


def made(backbone, shape):
    torch.manual_seed(0)
    return image_encoder(backbone, shape)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (3, 9, 11), (4, 33, 48)])
@pytest.mark.parametrize(("name", "features"), [("small", 256), ("small_resnet", 128)])
def test_features_of_rows_do_not_mix(name, features, shape):
    encoder, width = made(name, shape)
    encoder.eval()
    x = torch.rand(5, *shape)
    together = encoder(x)
    assert together.shape == (5, width) == (5, features)
    torch.testing.assert_close(torch.cat([encoder(row[None]) for row in x]), together)
    together.sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in encoder.parameters())


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 96, 96), (1, 96, 96)])
def test_torchvision_networks_by_name(shape):
    encoder, width = made("resnet18", shape)
    assert width == 512 and encoder.eval()(torch.rand(2, *shape)).shape == (2, 512)
    small = shape[1] < 96
    assert encoder.conv1.stride == ((1, 1) if small else (2, 2)) and encoder.conv1.in_channels == shape[0]
    assert isinstance(encoder.maxpool, nn.Identity) == small
    assert "resnet34" in BACKBONES


def test_first_convolution_halves_large_images_only():
    assert made("small", (1, 28, 28))[0].layers[0].stride == (2, 2)
    assert made("small", (1, 8, 8))[0].layers[0].stride == (1, 1)


def test_a_small_network_knows_where_a_stroke_is():
    """The mean over the last map does not: it is the same for a stroke one place further."""
    encoder = made("small", (1, 48, 48))[0].eval()
    x = torch.zeros(2, 1, 48, 48)
    x[0, 0, 16:22, 18] = x[1, 0, 24:30, 26] = 1
    maps = encoder.layers(x)
    torch.testing.assert_close(maps.mean((2, 3))[0], maps.mean((2, 3))[1])
    features = encoder(x)
    assert (features[0] - features[1]).norm() > 0.1 * features.norm(dim=1).mean()


def test_a_function_of_channels():
    def factory(channels):
        return nn.Sequential(nn.Conv2d(channels, 6, 3), nn.BatchNorm2d(6), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    encoder, width = made(factory, (3, 10, 10))
    assert width == 6 and encoder.training
    assert int(encoder[1].num_batches_tracked) == 0
    assert not torch.equal(image_encoder(factory, (3, 10, 10))[0][0].weight, encoder[0].weight)


def test_what_is_refused():
    with raises_sentence(UnknownNameError, "resnet18"):
        image_encoder("resnet81", (3, 32, 32))
    with raises_sentence(InputError, "lambda"):
        image_encoder(nn.Flatten(), (3, 32, 32))
    with raises_sentence(InputError, "int"):
        image_encoder(lambda channels: 3, (3, 32, 32))
    with raises_sentence(InputError, "(2, 5, 30, 30)", "flatten"):
        image_encoder(lambda channels: nn.Conv2d(channels, 5, 3), (3, 32, 32))
