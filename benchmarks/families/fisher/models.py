"""The measured models, in plain torch: their weights depend on a seed alone."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SEED = 5


class Block(nn.Module):
    """Basic block of ResNet-18 (He et al., CVPR 2016)."""

    def __init__(self, channels: int, outputs: int, stride: int):
        super().__init__()
        self.first = nn.Conv2d(channels, outputs, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(outputs)
        self.short = nn.Identity()
        if stride != 1 or channels != outputs:
            self.short = nn.Sequential(nn.Conv2d(channels, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.first_norm(self.first(x)))
        return F.relu(self.second_norm(self.second(y)) + self.short(x))


def resnet18(size: int, classes: int) -> nn.Module:
    """For 224 pixels as published, for 32 pixels with the usual first layer of CIFAR."""
    if size == 32:
        layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    else:
        layers = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    channels = 64
    for outputs, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        layers += [Block(channels, outputs, stride), Block(outputs, outputs, 1)]
        channels = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, classes))


class Layer(nn.Module):
    """Pre-norm transformer layer."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.attention_norm, self.mlp_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        B, S, D = x.shape
        q, k, v = self.qkv(self.attention_norm(x)).view(B, S, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(B, S, D)
        x = x + self.out(mixed)
        return x + self.mlp(self.mlp_norm(x))


class ViT(nn.Module):
    """Vision transformer with patches of 16 pixels (Dosovitskiy et al., ICLR 2021)."""

    def __init__(self, width: int, heads: int, classes: int, layers: int = 12):
        super().__init__()
        self.patches = nn.Conv2d(3, width, 16, 16)
        self.token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.place = nn.Parameter(0.02 * torch.randn(1, 197, width))
        self.layers = nn.Sequential(*(Layer(width, heads) for _ in range(layers)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.place
        return self.head(self.norm(self.layers(x))[:, 0])


SHAPES = (
    {"mlp": (784,)} | dict.fromkeys(("resnet18-224", "vit-s", "vit-b"), (3, 224, 224)) | {"resnet18-32": (3, 32, 32)}
)
CLASSES = {"mlp": 10, "resnet18-32": 100, "resnet18-224": 100, "vit-s": 100, "vit-b": 100}


def build(name: str) -> nn.Module:
    """The model in eval mode: batch statistics would make samples depend on each other."""
    classes = CLASSES[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        if name == "mlp":
            wide = (nn.Linear(784, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU())
            model: nn.Module = nn.Sequential(*wide, nn.Linear(1024, classes))
        elif name.startswith("resnet18"):
            model = resnet18(SHAPES[name][1], classes)
        else:
            width = {"vit-s": 384, "vit-b": 768}[name]
            model = ViT(width, width // 64, classes)
    return model.eval()
