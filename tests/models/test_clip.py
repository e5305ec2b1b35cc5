"""CLIP as a classifier: open_clip's own answers, the zero-shot head, kept class features, attachments."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pyfast_mmcl._errors import InputError, UnknownNameError
from pyfast_mmcl.data import Batch
from pyfast_mmcl.models import attach
from pyfast_mmcl.models import clip as clip_module
from pyfast_mmcl.models.clip import ClipModel
from pyfast_mmcl.models.clip_inputs import fit_tokens
from pyfast_mmcl.models.spec import Spec
from pyfast_mmcl.models.tiny_clip import clip_tokenizer, tiny_clip
from pyfast_mmcl.models.zero_shot import SEVERAL, class_tokens
from tests.check import assert_same_bits, raises_sentence

NAMES = ("dog", "red car", "tree_house", "number seven")
SIZES = {"image_size": 16, "patch_size": 8, "width": 32, "layers": 1, "text_width": 32, "text_layers": 1}
END = 49407


def small(seed=0, **other):
    return tiny_clip(**SIZES, embed_dim=24, seed=seed, **other)


def rows(n=6, task=-1, **shown):
    inputs = {"image": torch.rand(n, 3, 16, 16), "text": clip_tokenizer()([f"a {i}" for i in range(n)])}
    present = {name: shown.get(name, torch.ones(n, dtype=torch.bool)) for name in inputs}
    return Batch(inputs, torch.zeros(n, dtype=torch.int64), torch.full((n,), task), present, torch.arange(n))


def only(batch, name):
    return Batch({name: batch.inputs[name]}, batch.target, batch.task, {name: batch.present[name]}, batch.index)


@pytest.fixture
def model():
    return ClipModel.with_classes(small(), NAMES, templates=SEVERAL[:3]).eval()


@torch.no_grad()
def test_scores_are_those_of_open_clip_and_the_mean_of_the_templates(model):
    batch, clip = rows(), copy.deepcopy(model.clip).double()
    pixels = (batch.inputs["image"].double() - model.prepare.mean.double()) / model.prepare.std.double()
    v = F.normalize(clip.encode_image(pixels), dim=1)
    t = []
    for name in NAMES:
        texts = [sentence.format(name.replace("_", " ")) for sentence in SEVERAL[:3]]
        t.append(F.normalize(F.normalize(clip.encode_text(clip_tokenizer()(texts)), dim=1).mean(0), dim=0))
    truth = clip.logit_scale.exp() * v @ torch.stack(t).T
    out = model(batch)
    torch.testing.assert_close(out.scores, truth.float(), atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(out.features, v.float(), atol=1e-5, rtol=1e-5)
    text = F.normalize(clip.encode_text(batch.inputs["text"]), dim=1)
    torch.testing.assert_close(out.modalities["text"], text.float(), atol=1e-5, rtol=1e-5)
    assert list(out.modalities) == ["image", "text"]


@torch.no_grad()
def test_images_of_another_size_in_grey_or_in_bytes_are_the_same_pictures(model):
    byte = torch.randint(0, 256, (3, 3, 16, 16), dtype=torch.uint8)
    assert_same_bits(model.image_features(byte), model.image_features(byte.float() / 255))
    grey = byte[:, :1]
    assert_same_bits(model.image_features(grey), model.image_features(grey.expand(-1, 3, -1, -1)))
    flat = torch.full((2, 3, 40, 24), 0.3)
    torch.testing.assert_close(model.image_features(flat), model.image_features(flat[:, :, :16, :16]))
    assert model.image_features(torch.zeros(0, 3, 40, 24)).shape == (0, 24)
    with raises_sentence(InputError, "[B, 3, H, W]", "(2, 4, 5, 5)"):
        model.image_features(torch.zeros(2, 4, 5, 5))


def test_open_clips_own_scale_of_pixels_is_heeded():
    clip = small()
    clip.visual.preprocess_cfg = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
    x = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(ClipModel(clip).prepare(x), (x - 0.5) / 0.25)


@torch.no_grad()
def test_a_missing_side_is_zero_and_a_row_without_image_asks_with_its_text(model):
    batch = rows()
    whole = model(batch)
    batch.present["image"] = torch.tensor([True, False] * 3)
    part = model(batch)
    assert not part.modalities["image"][1::2].any()
    assert_same_bits(part.features[1::2], whole.modalities["text"][1::2])
    torch.testing.assert_close(part.scores[::2], whole.scores[::2])
    batch.present["text"] = batch.present["image"]
    assert not model(batch).scores[1::2].any()
    image, text = only(rows(), "image"), only(rows(), "text")
    assert list(model(image).modalities) == ["image"] and list(model(text).modalities) == ["text"]
    with raises_sentence(InputError, "image", "text", "sound"):
        model(
            Batch(
                {"sound": torch.zeros(2, 3)},
                *[torch.zeros(2).long()] * 2,
                {"sound": torch.ones(2).bool()},
                image.index[:2],
            )
        )


@torch.no_grad()
def test_rows_with_a_task_are_scored_on_its_classes_and_the_others_on_all():
    allowed = torch.tensor([[True, True, False, False], [False, False, True, True]])
    free, bound = ClipModel.with_classes(small(), NAMES), ClipModel.with_classes(small(), NAMES, task_classes=allowed)
    batch = rows()
    batch.task[:] = torch.tensor([0, 0, 1, 1, -1, -1])
    for grad in (False, True):  # kept class features, and those of the needed classes alone
        with torch.set_grad_enabled(grad):
            ours, plain = bound(batch).scores, free(batch).scores
        hidden = torch.tensor([[0, 0, 1, 1]] * 2 + [[1, 1, 0, 0]] * 2 + [[0] * 4] * 2).bool()
        assert (ours[hidden] == torch.finfo(torch.float32).min).all()
        torch.testing.assert_close(ours[~hidden], plain[~hidden])


def test_class_features_are_kept_until_a_weight_of_the_text_tower_changes(model, monkeypatch):
    calls = []
    encode = model.clip.encode_text
    monkeypatch.setattr(model.clip, "encode_text", lambda x: calls.append(len(x)) or encode(x))
    with torch.no_grad():
        first = model.class_features()
        model.clip.visual.proj.add_(1)
        model.clip.logit_scale.add_(0.1)
        assert_same_bits(model.class_features(), first)
        assert len(calls) == 1
        model.clip.token_embedding.weight.add_(0.5)
        assert not torch.equal(model.class_features(), first) and len(calls) == 2
        model.load_state_dict({**model.state_dict(), "clip.ln_final.bias": torch.ones(32)})
        model.class_features()
        assert len(calls) == 3
    # With gradients wanted they are encoded anew and lead back to the tower; a frozen tower is asked once.
    model.class_features().sum().backward()
    assert len(calls) == 4 and model.clip.token_embedding.weight.grad.abs().sum() > 0
    model.requires_grad_(False)
    kept = model.train().class_features()
    assert_same_bits(model.class_features(), kept)
    assert len(calls) == 5 and not kept.requires_grad and model.training and model.clip.training


@pytest.mark.parametrize("asked_in_between", [False, True])
def test_kept_features_do_not_outlive_a_fused_step(model, asked_in_between):
    """Such steps write to the weights without autograd counting it."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)
    with torch.no_grad():
        first = model.eval().class_features()
    for features in (model.class_features, lambda: model.text_features(model.class_tokens.flatten(0, 1))):
        model.train()
        features().sum().backward()
        if asked_in_between:
            with torch.no_grad():
                model.eval().class_features()
            model.train()
        optimizer.step()
        with torch.no_grad():
            now = model.eval().class_features()
        assert not torch.equal(now, first)
        first = now


def test_a_copy_keeps_no_features_of_its_original(model):
    with torch.no_grad():
        first = model.class_features()
        other = copy.deepcopy(model)
        other.clip.token_embedding.weight.add_(0.5)
        assert not torch.equal(other.class_features(), first)
        assert_same_bits(model.class_features(), first)


def test_many_texts_are_encoded_in_parts_with_the_same_result(model, monkeypatch):
    with torch.no_grad():
        whole = model.class_features()
        model._kept = None
        monkeypatch.setattr(clip_module, "_TEXTS", 4)
        torch.testing.assert_close(model.class_features(), whole)


def test_the_scale_is_at_most_100_and_its_gradient_passes(model):
    with torch.no_grad():
        model.clip.logit_scale.fill_(9.0)
    assert float(model.scale().detach()) == pytest.approx(100)
    assert float(torch.autograd.grad(model.scale(), model.clip.logit_scale)[0]) == pytest.approx(100)


def test_texts_of_another_tokenizer_get_an_end_mark():
    ids = torch.tensor([[5, 6, 0, 0], [7, 8, 9, 3], [0, 0, 0, 0], [4, END, 0, 0]])
    assert fit_tokens(ids, 6, END).tolist() == [
        [5, 6, END, 0, 0, 0],
        [7, 8, 9, 3, END, 0],
        [END, 0, 0, 0, 0, 0],
        [4, END, 0, 0, 0, 0],
    ]
    assert fit_tokens(ids, 4, END)[1].tolist() == [7, 8, 9, END]
    assert fit_tokens(ids, 5, None)[0].tolist() == [5, 6, 0, 0, 0]
    with raises_sentence(InputError, "3", "4"):
        fit_tokens(ids, 3, END)
    with raises_sentence(InputError, "[B, S]", "float32"):
        fit_tokens(torch.zeros(2, 3), 4, END)


def test_a_model_for_a_stream_is_decided_by_the_seed_and_needs_a_picture_or_a_text():
    inputs = {"image": torch.zeros(1, 1, 8, 8), "text": torch.zeros(1, 20, dtype=torch.int64)}
    made = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        made.append(ClipModel.for_stream(Spec(inputs, 4, class_names=NAMES, vocabulary=30)))
    assert_same_bits(made[0].clip.visual.proj, made[1].clip.visual.proj)
    assert not torch.equal(made[0].clip.visual.proj, made[2].clip.visual.proj)
    assert made[0].class_tokens.shape == (4, 1, 21) and made[0].context_length == 21
    given = small()
    assert ClipModel.for_stream(Spec(inputs, 4), given).clip is given
    pairs = ClipModel.for_stream(Spec(inputs, 4, objective="pairs"), given)
    assert pairs.class_tokens is None and pairs(rows()).scores.shape == (6, 0)
    with raises_sentence(InputError, "class_features", "with_classes"):
        pairs.class_features()
    with raises_sentence(InputError, "image", "text", "sensor"):
        ClipModel.for_stream(Spec({"sensor": torch.zeros(1, 3)}, 4))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ClipModel(nn.Linear(2, 2)), ("encode_image", "Linear")),
        (lambda: ClipModel(small(), torch.zeros(3, 4)), ("class_tokens", "[C, n_templates, S]")),
        (lambda: class_tokens([]), ("class_names", "[]")),
        (lambda: class_tokens(["a", " "]), ("class_names", "' '")),
        (lambda: class_tokens(["a"], ["a photo"]), ("templates", "{}")),
    ],
)
def test_errors_are_sentences(make, words):
    with raises_sentence(InputError, *words):
        make()


def test_a_model_with_another_vocabulary_asks_for_its_tokenizer():
    clip = small()
    clip.vocab_size = 100
    with raises_sentence(InputError, "tokenizer", "100"):
        ClipModel.with_classes(clip, NAMES)
    ids = ClipModel.with_classes(clip, NAMES, tokenizer=lambda texts: torch.ones(len(texts), 16).long())
    assert ids.end is None and ids.class_tokens.shape == (4, 1, 16)


class Shifted(nn.Module):
    """An attachment with a weight of its own that no tower holds, and a part that grows."""

    def __init__(self, width, size):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(width))
        self.tasks = nn.ParameterList()
        self.size = size

    def structure(self):
        return len(self.tasks)

    def restructure(self, structure):
        while len(self.tasks) < structure:
            self.tasks.append(nn.Parameter(torch.zeros(self.size)))


def put_on(clip, *, size=2):
    return Shifted(24, size)


def test_attachments_are_found_by_optimizers_checkpoints_and_copies(model, monkeypatch):
    monkeypatch.setitem(attach.ATTACHMENTS, "shifted", f"{__name__}:put_on")
    module = model.attach("shifted", size=3)
    module.restructure(2)
    names = [name for name, _ in model.named_parameters() if "attached" in name]
    assert len(names) == 3 and model.attached == [module]
    assert model.structure() == [{"kind": "shifted", "config": {"size": 3}, "structure": 2}]
    with torch.no_grad():
        module.tasks[1].fill_(4.0)
    fresh = ClipModel.with_classes(small(1), NAMES, templates=SEVERAL[:3])
    fresh.restructure(model.structure())
    fresh.load_state_dict(model.state_dict())
    assert fresh.attached[0].tasks[1].tolist() == [4.0] * 3 and fresh.structure() == model.structure()
    fresh.restructure(model.structure())  # what is there already is not attached twice
    assert len(fresh.attached) == 1
    twin = copy.deepcopy(model)
    assert twin.attached[0] is dict(twin.named_modules())["clip.attached_0"] is not module
    with raises_sentence(InputError, "attachments", "[]"):
        fresh.restructure([])
    with pytest.raises(UnknownNameError, match="shift"):
        model.attach("shiftet")


def test_kept_features_heed_the_setting_of_an_attachment(model, monkeypatch):
    monkeypatch.setitem(attach.ATTACHMENTS, "shifted", f"{__name__}:put_on")
    module = model.attach("shifted")
    with torch.no_grad():
        first = model.class_features()
        monkeypatch.setattr(model.clip, "encode_text", lambda x: torch.ones(len(x), 24))
        assert_same_bits(model.class_features(), first)
        module.setting = 1
        assert not torch.equal(model.class_features(), first)


def test_texts_of_a_training_model_are_random_alike_with_and_without_gradients():
    """A step in parts takes the loss of a first pass without gradients and carries them back in a second one."""
    one = ClipModel.with_classes(small(), NAMES)
    one.attach("adapters", hidden=8, dropout=0.5)
    batch = rows()
    with torch.no_grad():
        for p in one.attached[0].parameters():
            p.add_(0.3)
    answers = []
    for grad in (False, True):
        torch.manual_seed(2)
        with torch.set_grad_enabled(grad):
            answers.append(one.train()(batch).scores.detach())
    assert_same_bits(*answers)
    with torch.no_grad():
        assert not torch.equal(one.eval()(batch).scores, answers[0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_model_in_half_precision_takes_pictures_of_any_size(dtype):
    one, exact = (ClipModel.with_classes(small(), NAMES).eval() for _ in range(2))
    one.to(dtype)
    bytes_of = torch.randint(256, (3, 1, 11, 20), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for pictures in (bytes_of, bytes_of.float() / 255, (bytes_of.float() / 255).to(dtype)):
        with torch.no_grad():
            found, truth = (
                one.image_features(pictures),
                exact.image_features(pictures.float() / (255 if pictures is bytes_of else 1)),
            )
        assert found.dtype == dtype
        torch.testing.assert_close(found.float(), truth, rtol=0, atol=0.03)


def test_what_has_melted_into_the_weights_stays_melted_in_a_checkpoint():
    one, other = (ClipModel.with_classes(small(), NAMES).eval() for _ in range(2))
    lora = one.attach("lora", rank=2)
    one.attach("adapters", hidden=4)
    for p in one.parameters():
        p.data.add_(0.01 * torch.randn_like(p))
    batch = rows()
    lora.merge()
    other.restructure(one.structure())
    other.load_state_dict(one.state_dict())
    assert_same_bits(one(batch).scores, other(batch).scores)
    assert not any("parametrizations" in name for name in other.state_dict())
