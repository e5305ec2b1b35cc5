"""Both losses train the same model: values, gradients and curves; the emoji that are shown and those held out."""

import functools

import numpy as np
import pytest
import torch

from benchmarks.methods import clip_check, clip_emoji, emoji, report, results
from benchmarks.methods.clip_training import Recipe, Trainer, embed
from pyfast_mmcl.losses import ClipLoss
from pyfast_mmcl.models.open_clip_import import load_open_clip
from pyfast_mmcl.models.tiny_clip import clip_tokenizer, tiny_clip
from tests.check import assert_no_worse, assert_same_bits

small_clip = functools.partial(tiny_clip, width=32, layers=1, text_width=32, text_layers=1, embed_dim=32)
RECIPE = Recipe(steps=6, batch=24, warm_up=2)


def drawings(V=3, N=60):
    """Emoji of random pixels: style 2 of emoji 3 is blank, style 1 of emoji 4 repeats style 0."""
    images = np.random.default_rng(0).integers(0, 256, (V, N, 48, 48, 3)).astype(np.uint8)
    images[2, 3], images[1, 4] = 255, images[0, 4]
    names = tuple(f"thing {i}" for i in range(N))
    tags = tuple(("round", "red", "small")[: i % 4] for i in range(N))
    order = np.arange(N)
    return emoji.Emoji(images, emoji.drawn(images), ("a", "b", "c"), names, tags, order[:50], order[50:])


def open_clip_loss():
    return load_open_clip().loss.ClipLoss()


def test_blank_and_repeated_pictures_are_left_out():
    valid = drawings().valid
    assert not valid[2, 3] and not valid[1, 4] and valid.sum() == valid.size - 2
    images, names, image_labels, name_labels = emoji.held_out(drawings())
    assert images.shape == (30, 3, 48, 48) and len(names) == 10 and set(image_labels) == set(name_labels)


def test_batches_depend_on_seed_and_step_alone():
    data = drawings()
    first = list(emoji.batches(data, 24, 6, seed=1))
    again = list(emoji.batches(data, 24, 6, seed=1))
    assert all(torch.equal(a[0], b[0]) and a[1] == b[1] for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0][0], next(emoji.batches(data, 24, 1, seed=2))[0])
    for images, captions in first:
        names = [caption.split(",")[0] for caption in captions]
        assert len(set(names)) == 24 and images.shape == (24, 3, 48, 48) and -1 <= images.min() < images.max() <= 1
        assert all(int(name.split()[1]) < 50 for name in names), "a held-out emoji is shown"
    epoch = [caption.split(",")[0] for _, captions in first[:2] for caption in captions]
    assert len(set(epoch)) == 48, "an emoji comes twice in an epoch"


def test_the_real_set(data_dir):
    data = emoji.read(data_dir)
    assert data.images.shape == (3, 1358, 48, 48, 3) and len(data.train) == 1158 and len(data.test) == 200
    assert not set(data.train) & set(data.test) and len(set(data.names)) == 1358
    assert (~data.valid).sum(1).tolist() == [0, 0, 208], "202 blob pictures repeat noto's, 6 are blank"
    tokens = clip_tokenizer()(list(data.names))
    assert (tokens[:, -1] == 0).all(), "a name is cut"
    assert_same_bits(emoji.read(data_dir).test, data.test)


def test_both_losses_give_the_same_gradient_of_every_weight():
    model = small_clip(seed=0)
    images, captions = next(emoji.batches(drawings(), 24, 1, seed=0))
    tokens = clip_tokenizer()(captions)
    found = []
    for loss in (ClipLoss(), open_clip_loss(), clip_check.exact_loss):
        of = model.double() if loss is clip_check.exact_loss else model.float()
        value = loss(*embed(of, images.to(next(of.parameters()).dtype), tokens))
        found.append((value.detach(), torch.autograd.grad(value, list(of.parameters()), allow_unused=True)))
    (ours, our_grads), (theirs, their_grads), (truth, true_grads) = found
    assert_no_worse(ours, theirs, truth, atol=5e-7)
    compared = 0
    for mine, plain, exact in zip(our_grads, their_grads, true_grads, strict=True):
        assert (mine is None) == (exact is None)
        if exact is not None:
            assert_no_worse(mine, plain, exact, atol=2e-6 * float(exact.abs().max()) + 1e-9)
            compared += 1
    assert compared > 20


def test_float64_trainings_stay_together():
    """Where rounding is small, so is the difference of the curves after several steps."""
    trainers = [Trainer(small_clip(seed=1).double(), loss, RECIPE) for loss in (ClipLoss(), open_clip_loss())]
    tokenizer = clip_tokenizer()
    curves = [
        [trainer.step(images.double(), tokenizer(captions)) for trainer in trainers]
        for images, captions in emoji.batches(drawings(), RECIPE.batch, RECIPE.steps, seed=1)
    ]
    ours, theirs = map(np.array, zip(*curves, strict=True))
    assert np.abs(ours - theirs).max() < 1e-11
    assert len(set(ours)) == RECIPE.steps and ours[-1] < ours[0]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A training and a comparison on small models, and their folder."""
    root = tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clip_emoji, "tiny_clip", small_clip)
        run, compared = (clip_emoji.Run(drawings(), RECIPE, seed=0) for _ in range(2))
        clip_emoji.record(RECIPE, run.train(), root)
        folder = clip_emoji.record(RECIPE, compared.compare(), root)
    clip_emoji.write_curves(folder / clip_emoji.CURVES, 0, run.curves)
    return run, compared, folder


def test_float32_trainings_and_what_is_recorded(recorded):
    run, compared, folder = recorded
    ours, theirs = clip_emoji.OURS, clip_emoji.THEIRS
    values = {(row.method, row.measure): row.value for row in results.read(folder).rows}
    assert 0 < values[ours, "curve_all"] < 2e-5 or run.curves[ours] == run.curves[theirs]
    assert len(compared.checks[ours]) == RECIPE.steps
    assert compared.checks[ours][-1].loss == pytest.approx(run.curves[ours][-1], abs=1e-6), "not the same training"
    for kind, name in (("difference", ours), ("error", ours), ("error", theirs)):
        assert values[name, f"{kind}_loss"] < 2e-6 and values[name, f"{kind}_features"] < 1e-5
        assert values[name, f"{kind}_scale"] < 1e-6
    assert values[clip_emoji.UNTRAINED, "image_to_text_r10"] == 1.0, "ten names are held out"
    curve = np.genfromtxt(folder / clip_emoji.CURVES, delimiter=",", skip_header=1)
    assert curve.shape == (6, 5) and np.allclose(curve[:, 2], run.curves[ours], rtol=1e-8)
    text = report.block(folder.parent)
    assert (
        "#### Retrieval, emoji" in text and f"| {ours} |" in text and f"#### Same features, {clip_emoji.SAME}" in text
    )


def test_a_loss_that_is_wrong_is_seen(recorded):
    """The comparison can fail: open_clip's loss with the texts of a batch turned round, and with a scale 1 % off."""
    features = recorded[0].trainers[clip_emoji.OURS].features
    wrong = clip_check.check(lambda a, b, s: open_clip_loss()(a, b.flip(0), s), features).error
    assert wrong.loss > 1e-3 and wrong.features > 0.1 and wrong.scale > 1e-4
    hotter = clip_check.check(lambda a, b, s: open_clip_loss()(a, b, 1.01 * s), features).error
    assert hotter.features > 1e-3


def test_a_second_seed_joins_the_curves(recorded):
    run, _, folder = recorded
    clip_emoji.write_curves(folder / clip_emoji.CURVES, 1, run.curves)
    clip_emoji.write_curves(folder / clip_emoji.CURVES, 0, run.curves)
    seeds = [line.split(",")[:2] for line in (folder / clip_emoji.CURVES).read_text().splitlines()[1:]]
    assert seeds == [[str(seed), str(step)] for seed in (0, 1) for step in range(1, 7)]


def test_timing_counts_both_losses(monkeypatch):
    for name, value in (("tiny_clip", small_clip), ("WARM_STEPS", 1), ("TIMED_STEPS", 2)):
        monkeypatch.setattr(clip_emoji, name, value)
    rows = clip_emoji.Run(drawings(), RECIPE, seed=0).time()
    assert {row.method for row in rows} == {clip_emoji.OURS, clip_emoji.THEIRS} and len(rows) == 4
    assert all(row.stream == clip_emoji.TIMING and row.value > 0 for row in rows)


def test_learning_rate_rises_and_falls():
    rates = [Recipe(steps=100, warm_up=10, lr=1.0).rate(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and max(rates) == rates[9] > 0.95
    assert rates[10:] == sorted(rates[10:], reverse=True) and 0 < rates[-1] < 1e-3
