"""A small CLIP in float64, batches of pictures and texts for it, and what a part reads of a learner."""

from types import SimpleNamespace

import torch

from pyfast_mmcl.data import Batch, Task, get_scenario
from pyfast_mmcl.models.clip import ClipModel
from pyfast_mmcl.models.tiny_clip import clip_tokenizer, tiny_clip

NAMES = ("dog", "red car", "tree", "seven", "blue boat", "moon")
SIZES = {"image_size": 8, "patch_size": 4, "width": 32, "layers": 1, "text_width": 32, "text_layers": 1}


def clip_model(seed=0, classes=NAMES):
    clip = tiny_clip(**SIZES, embed_dim=12, seed=seed)
    model = ClipModel(clip) if classes is None else ClipModel.with_classes(clip, classes)
    return model.double().eval()


def batch(n=14, missing=0.0, seed=0):
    g = torch.Generator().manual_seed(seed)
    target = torch.arange(n) % len(NAMES)
    inputs = {
        "image": torch.rand(n, 3, 8, 8, generator=g, dtype=torch.float64),
        "text": clip_tokenizer()([f"{NAMES[c]} {i}" for i, c in enumerate(target.tolist())]),
    }
    present = {"image": torch.ones(n, dtype=torch.bool), "text": torch.rand(n, generator=g) >= missing}
    return Batch(inputs, target, torch.full((n,), -1), present, torch.arange(n))


def task(number=0, classes=(0, 1, 2, 3, 4, 5)):
    return Task(number, f"task {number}", tuple(classes), ("image", "text"), 14)


def learner(model, *, objective="pairs", scenario="dil", now=None, seen=None, **known):
    now = now or task()
    return SimpleNamespace(
        model=model,
        objective=objective,
        scenario=get_scenario(scenario),
        task=now,
        classes_seen=seen or now.classes,
        device=torch.device("cpu"),
        generator=torch.Generator().manual_seed(3),
        **{"step_of_epoch": 0, "steps_per_epoch": 3, **known},
    )


def gradients(loss, model):
    """[P] of the trained parameters that the loss depends on or not."""
    trained = [p for p in model.parameters() if p.requires_grad]
    found = torch.autograd.grad(loss, trained, allow_unused=True, retain_graph=True)
    return torch.cat(
        [torch.zeros(p.numel()) if g is None else g.flatten() for p, g in zip(trained, found, strict=True)]
    )


def assert_same_value_and_gradients(ours, truth, model):
    torch.testing.assert_close(ours, truth, rtol=1e-6, atol=1e-9)
    a, b = gradients(ours, model), gradients(truth, model)
    assert float(b.abs().max()) > 0
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-8)
