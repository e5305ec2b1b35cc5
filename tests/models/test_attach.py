"""What holds for everything that can be put on a CLIP model's towers, whichever it is."""

import copy

import pytest
import torch

from pyfast_mmcl._errors import InputError, UnknownNameError
from pyfast_mmcl.models import Growing
from pyfast_mmcl.models.attach import ATTACHMENTS, attach, towers
from pyfast_mmcl.models.clip import ClipModel
from pyfast_mmcl.models.routes import Routed
from tests.check import assert_same_bits, raises_sentence
from tests.models.small_clips import KINDS, both, images, shake, small_clip, tokens

ATTACHED = sorted(ATTACHMENTS)
# Prompts add tokens, which no first weights hide; all others begin with the answers of the model.
QUIET = [kind for kind in ATTACHED if kind != "prompts"]


def named(texts=("cat", "dog", "seven")):
    return ClipModel(small_clip(), tokens(texts).unsqueeze(1))


def put(clip, kind, ways=2):
    module = attach(clip, kind)
    if isinstance(module, Routed):
        for _ in range(ways):
            module.add_way()
    return module


@pytest.mark.parametrize("clip_kind", KINDS)
@pytest.mark.parametrize("kind", QUIET)
def test_the_answers_at_the_start_are_those_of_the_model(kind, clip_kind):
    clip = small_clip(clip_kind)
    before = both(clip)
    put(clip, kind)
    for ours, theirs in zip(both(clip), before, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("clip_kind", KINDS)
@pytest.mark.parametrize("kind", ATTACHED)
def test_either_tower_answers_otherwise_once_trained(kind, clip_kind):
    clip = small_clip(clip_kind)
    before = both(clip)
    shake(put(clip, kind))
    for ours, theirs in zip(both(clip), before, strict=True):
        assert (ours - theirs).abs().max() > 0.01


@pytest.mark.parametrize("kind", ATTACHED)
def test_a_copy_has_weights_of_its_own(kind):
    clip = small_clip()
    shake(put(clip, kind))
    before = both(clip)
    copied = copy.deepcopy(clip)
    for ours, theirs in zip(both(copied), before, strict=True):
        assert_same_bits(ours, theirs)
    shake(copied)
    assert all(not torch.equal(a, b) for a, b in zip(both(copied), before, strict=True))
    for ours, theirs in zip(both(clip), before, strict=True):
        assert_same_bits(ours, theirs)


@pytest.mark.parametrize("clip_kind", KINDS)
@pytest.mark.parametrize("kind", ATTACHED)
def test_weights_are_found_by_name(kind, clip_kind):
    first, second = small_clip(clip_kind), small_clip(clip_kind)
    shake(put(first, kind))
    put(second, kind)
    second.load_state_dict(first.state_dict())
    for ours, theirs in zip(both(second), both(first), strict=True):
        assert_same_bits(ours, theirs)
    if kind != "lora":
        # Weights saved before anything was attached still have their places.
        assert set(small_clip(clip_kind).state_dict()) <= set(second.state_dict())


@pytest.mark.parametrize("kind", ATTACHED)
def test_what_is_attached_trains_while_the_model_stands_still(kind):
    clip = small_clip().requires_grad_(False)
    module = put(clip, kind)
    shake(module, 0.01)
    trained = {name for name, p in clip.named_parameters() if p.requires_grad}
    (clip.encode_image(images()).square().sum() + clip.encode_text(tokens()).square().sum()).backward()
    got = {name for name, p in clip.named_parameters() if p.grad is not None}
    assert got and got <= trained
    assert {id(p) for name, p in clip.named_parameters() if name in trained} <= {id(p) for p in module.parameters()}


@pytest.mark.parametrize("kind", ATTACHED)
def test_one_tower_alone_is_left_as_it_is(kind):
    clip = small_clip()
    before = both(clip)
    module = attach(clip, kind, **({"text": 0} if kind == "prompts" else {"towers": ("image",)}))
    if isinstance(module, Routed):
        module.add_way()
    shake(module)
    image, text = both(clip)
    assert not torch.equal(image, before[0])
    assert_same_bits(text, before[1])


@pytest.mark.parametrize("kind", ATTACHED)
def test_first_weights_depend_on_the_seed_alone(kind):
    def weights(seed):
        torch.rand(seed + 1)  # the global random state is somewhere else every time
        clip = small_clip()
        module = attach(clip, kind, seed=seed)
        if isinstance(module, Routed):
            module.add_way()
        return torch.cat([p.detach().flatten() for p in module.parameters()])

    state = torch.random.get_rng_state()
    one = weights(0)
    torch.random.set_rng_state(state)
    assert_same_bits(one, weights(0))
    assert not torch.equal(one, weights(1))


@pytest.mark.parametrize("kind", ["moe", "prompts"])
def test_rows_go_ways_of_their_own(kind):
    clip = small_clip()
    plain = both(clip)[0]
    module = put(clip, kind)
    shake(module)
    with torch.no_grad():
        alone = []
        for way in range(2):
            with module.rows(way):
                alone.append(clip.encode_image(images()))
        with module.rows(torch.tensor([0, 1, 1, 0, 1])):
            mixed = clip.encode_image(images())
        with module.rows(-1):
            assert_same_bits(clip.encode_image(images()), plain)
        assert not torch.equal(alone[0], alone[1])
        for row, way in enumerate([0, 1, 1, 0, 1]):
            torch.testing.assert_close(mixed[row], alone[way][row], rtol=1e-5, atol=1e-5)
        # Outside the body the setting holds again: the last way.
        assert_same_bits(clip.encode_image(images()), alone[1])
        module.switch(-1)
        assert_same_bits(clip.encode_image(images()), plain)


@pytest.mark.parametrize("kind", ["moe", "prompts"])
def test_ways_that_are_not_there_are_refused(kind):
    clip = small_clip()
    module = put(clip, kind)
    with raises_sentence(InputError, "-1 to 1", "2"):
        module.switch(2)
    with raises_sentence(InputError, "5 rows", "4"), module.rows(torch.zeros(4, dtype=torch.int64)):
        clip.encode_image(images())


@pytest.mark.parametrize("kind", ATTACHED)
def test_a_freshly_built_model_takes_the_structure_of_another(kind):
    first, second = named(), named()
    module = first.attach(kind)
    if isinstance(module, Routed):
        module.add_way(), module.add_way(), module.switch(0)
        assert isinstance(module, Growing)
    shake(module)
    second.restructure(first.structure())
    second.load_state_dict(first.state_dict())
    for ours, theirs in zip(both(second.clip), both(first.clip), strict=True):
        assert_same_bits(ours, theirs)
    with torch.no_grad():
        assert_same_bits(second.class_features(), first.class_features())


@pytest.mark.parametrize("kind", ["moe", "prompts"])
def test_kept_class_features_follow_the_way(kind):
    model = named().eval()
    module = model.attach(kind)
    module.add_way()
    shake(module)
    with torch.no_grad():
        trained = model.class_features()
        with module.rows(-1):
            plain = model.class_features()
        assert not torch.equal(trained, plain)
        assert_same_bits(model.class_features(), trained)
        module.switch(-1)
        assert_same_bits(model.class_features(), plain)


def test_what_cannot_be_attached_is_refused():
    clip = small_clip()
    with pytest.raises(UnknownNameError, match="lora"):
        attach(clip, "lorra")
    resnet = small_clip(layers=(1, 1, 1, 1))
    for kind in ATTACHED:
        with raises_sentence(InputError, "ModifiedResNet", "ViT"):
            attach(resnet, kind)
    with pytest.raises(UnknownNameError, match="image"):
        towers(clip, ("images",))
    with raises_sentence(InputError, "at least one tower"):
        attach(clip, "adapters", towers=())
    assert not any(name.startswith("attached") for name, _ in clip.named_modules())
