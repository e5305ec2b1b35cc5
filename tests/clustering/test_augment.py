"""Augmentation: every operation is torchvision's, image by image, and policies repeat with their generator."""

import pytest
import torch

from pyfast_mmcl._errors import InputError, UnknownNameError
from pyfast_mmcl.clustering import colors, rand_augment, warps
from pyfast_mmcl.clustering.augment import POLICIES, Batched, PerImage, Policy, policy_for
from pyfast_mmcl.models.open_clip_import import load_torchvision
from tests.check import raises_sentence

SIZES = [(1, 1), (5, 8), (16, 15), (33, 17)]


def images(n: int = 6, channels: int = 3, size: tuple[int, int] = (17, 12), seed: int = 0) -> torch.Tensor:
    return torch.rand(n, channels, *size, generator=torch.Generator().manual_seed(seed))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def theirs():
    return load_torchvision("torchvision.transforms.v2.functional")


@pytest.mark.parametrize("size", SIZES)
def test_crops_are_those_of_torchvision(size, theirs):
    x = images(size=size)
    boxes = warps.random_boxes(len(x), size, (0.2, 1.0), (3 / 4, 4 / 3), seeded())
    flipped = torch.arange(len(x)) % 2 == 1
    ours = warps.crop_resize(x, boxes, flipped)
    for i, (top, left, h, w) in enumerate(boxes.tolist()):
        expected = theirs.resized_crop(x[i], top, left, h, w, list(size), antialias=False)
        expected = theirs.horizontal_flip(expected) if flipped[i] else expected
        torch.testing.assert_close(ours[i], expected, rtol=0, atol=1e-5)


def test_boxes_follow_the_law_of_random_resized_crop():
    boxes = warps.random_boxes(20_000, (32, 32), (0.2, 1.0), (3 / 4, 4 / 3), seeded()).double()
    top, left, h, w = boxes.T
    assert (top >= 0).all() and (left >= 0).all() and (top + h <= 32).all() and (left + w <= 32).all()
    assert (h >= 1).all() and (w >= 1).all()
    transform = load_torchvision("torchvision.transforms.v2").RandomResizedCrop(32, (0.2, 1.0))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        drawn = [transform.make_params([torch.empty(1, 32, 32)]) for _ in range(4000)]
    theirs = torch.tensor([[d[key] for key in ("top", "left", "height", "width")] for d in drawn]).double()
    # Means of 4,000 draws of numbers up to 32 have a standard error of about 0.1.
    torch.testing.assert_close(boxes.mean(0), theirs.mean(0), rtol=0, atol=0.6)
    torch.testing.assert_close(boxes.std(0), theirs.std(0), rtol=0, atol=0.5)


def test_a_box_that_never_fits_becomes_the_middle():
    boxes = warps.random_boxes(5, (4, 40), (1.0, 1.0), (0.5, 2.0), seeded())
    assert boxes.tolist() == [[0, 16, 4, 8]] * 5


def test_a_slant_moves_rows_against_the_middle():
    x = images(4, size=(7, 15))
    shear = torch.tensor([0.0, 1.0, -2.0, 1.0])
    still = warps.rotation(torch.zeros(4))
    out = warps.affine(x, warps.slanted(still, shear))
    for i, s in enumerate(shear.int().tolist()):
        for row in range(7):
            moved = [x[i, :, row, c] if 0 <= c < 15 else torch.zeros(3) for c in (c + s * (row - 3) for c in range(15))]
            torch.testing.assert_close(out[i, :, row], torch.stack(moved, 1), rtol=0, atol=1e-4)
    turned = warps.rotation(torch.full((4,), 30.0))
    twice = warps.slanted(turned, torch.zeros(4))
    torch.testing.assert_close(twice, turned)


@pytest.mark.parametrize("size", SIZES[1:])
def test_rotations_are_those_of_torchvision(size, theirs):
    x = images(size=size)
    degrees = torch.linspace(-40, 60, len(x))
    ours = warps.affine(x, warps.rotation(degrees))
    bilinear = load_torchvision("torchvision.transforms.v2").InterpolationMode.BILINEAR
    for i, angle in enumerate(degrees.tolist()):
        torch.testing.assert_close(ours[i], theirs.rotate(x[i], angle, interpolation=bilinear), rtol=0, atol=1e-4)


@pytest.mark.parametrize("size", SIZES[1:])
def test_blur_is_that_of_torchvision(size, theirs):
    x = images(size=size)
    sigma = torch.linspace(0.1, 2, len(x))
    ours = warps.gaussian_blur(x, sigma, 2)
    for i, s in enumerate(sigma.tolist()):
        torch.testing.assert_close(ours[i], theirs.gaussian_blur(x[i], [5, 5], [s, s]), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("ours", "name", "low", "high"),
    [(colors.brightness, "adjust_brightness", 0.2, 1.8), (colors.contrast, "adjust_contrast", 0.2, 1.8),
     (colors.saturation, "adjust_saturation", 0.2, 1.8), (colors.hue, "adjust_hue", -0.5, 0.5)],
    ids=["brightness", "contrast", "saturation", "hue"],
)  # fmt: skip
def test_colors_are_those_of_torchvision(ours, name, low, high, theirs):
    x = images()
    x[0] = 0.3  # no hue at all
    x[1, :, 0] = torch.tensor([1.0, 0.0, 0.0])[:, None]
    factors = torch.linspace(low, high, len(x))
    changed = ours(x.clone(), factors)
    for i, factor in enumerate(factors.tolist()):
        torch.testing.assert_close(changed[i], getattr(theirs, name)(x[i], factor), rtol=0, atol=1e-5)


def test_gray_is_that_of_torchvision(theirs):
    x = images()
    torch.testing.assert_close(colors.gray(x), theirs.rgb_to_grayscale(x))


def test_operations_on_bytes_are_those_of_torchvision(theirs):
    x = torch.randint(0, 256, (6, 3, 17, 12), generator=seeded(), dtype=torch.uint8)
    x[0] = 77
    x[1] = (x[1] // 4) + 100
    m = torch.linspace(-1, 1, len(x))
    floats = x.float() / 255
    for i in range(len(x)):
        bits = 8 - round(4 * abs(float(m[i])))
        pairs = [
            (rand_augment.posterize(floats, m)[i], theirs.posterize(x[i], bits), 0),
            (rand_augment.equalize(floats, m)[i], theirs.equalize(x[i]), 0),
            (rand_augment.autocontrast(floats, m)[i], theirs.autocontrast(x[i]), 1),
            (rand_augment.solarize(floats, m)[i], theirs.solarize(x[i].float() / 255, 1 - abs(float(m[i]))) * 255, 0),
            (rand_augment.sharpness(floats, m)[i], theirs.adjust_sharpness(x[i], 1 + 0.9 * float(m[i])), 1),
        ]
        for ours, expected, slack in pairs:
            torch.testing.assert_close((ours * 255).round(), expected.float().round(), rtol=0, atol=slack)


def test_a_hole_is_a_square_of_the_mean():
    x = images(200, 3, (16, 16))
    out = rand_augment.cutout(x, 0.5, seeded())
    holes = (out != x).any(1)
    assert holes.flatten(1).any(1).all() and int(holes.sum((1, 2)).max()) == 64
    for image, made, hole in zip(x, out, holes, strict=True):
        torch.testing.assert_close(made[:, hole], image.mean((1, 2))[:, None].expand(3, int(hole.sum())))
        rows, columns = hole.any(1), hole.any(0)
        assert int(hole.sum()) == int(rows.sum()) * int(columns.sum())


@pytest.mark.parametrize("name", sorted(POLICIES))
@pytest.mark.parametrize("channels", [1, 3])
def test_policies_repeat_and_stay_in_range(name, channels):
    x = images(33, channels, (16, 19))
    kept = x.clone()
    first, again = POLICIES[name](x, seeded(1)), POLICIES[name](x, seeded(1))
    assert torch.equal(first, again) and torch.equal(x, kept)
    assert first.shape == x.shape and first.dtype == x.dtype and first.data_ptr() != x.data_ptr()
    assert float(first.min()) >= 0 and float(first.max()) <= 1 + 1e-6
    assert name == "none" or not torch.equal(first, POLICIES[name](x, seeded(2)))
    assert POLICIES[name](x[:0], seeded()).shape == (0, channels, 16, 19)


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_policies_leave_the_global_generators_and_threads_do_not_matter(name):
    x, before = images(17), torch.get_rng_state()
    outs = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        outs.append(POLICIES[name](x, seeded()))
    assert torch.equal(*outs) and torch.equal(torch.get_rng_state(), before)


def test_each_image_has_numbers_of_its_own():
    same = images(1).expand(64, 3, 17, 12).contiguous()
    out = POLICIES["simclr"](same, seeded())
    assert len({tuple(image.flatten().tolist()) for image in out}) == 64


@pytest.mark.parametrize("field", [{"flip": 1.0}, {"gray": 1.0}, {"blur": 1.0}, {"jitter": (0.4, 0.4, 0.4, 0.1)},
                                   {"operations": 3}, {"cutout": 0.5}, {"rotate": 30.0}, {"shear": 0.5},
                                   {"crop": (0.3, 0.5)}],
                         ids=lambda field: next(iter(field)))  # fmt: skip
def test_each_field_changes_something_alone(field):
    alone = {"crop": None, "flip": 0.0, "jitter": None, "gray": 0.0, **field}
    x = images(40)
    changed = Policy(**alone)(x, seeded()) != x
    assert changed.flatten(1).any(1).float().mean() > 0.6
    if "flip" in field:
        torch.testing.assert_close(Policy(**alone)(x, seeded()), x.flip(3))


@pytest.mark.parametrize("name", ["digits", "simclr_large", "strong", "blur"])
def test_images_are_changed_in_full_precision_where_products_are_in_bfloat16(name):
    alone = Policy(crop=None, flip=0.0, jitter=None, gray=0.0, blur=0.5)
    x, policy = images(8), POLICIES.get(name, alone)
    with torch.autocast("cpu", torch.bfloat16):
        ours = policy(x, seeded())
    torch.testing.assert_close(ours, policy(x, seeded()), rtol=0, atol=0)


def test_functions_of_one_image_and_of_a_batch():
    v2 = load_torchvision("torchvision.transforms.v2")
    policy = policy_for(v2.Compose([v2.RandomResizedCrop(12), v2.RandomHorizontalFlip()]), (3, 12, 12))
    x = images(5, size=(12, 12))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        first = policy(x, seeded())
        torch.manual_seed(3)
        again = policy(x, seeded())
    assert isinstance(policy, PerImage) and torch.equal(first, again) and not torch.equal(first, x)
    batched = policy_for(
        Batched(lambda x, generator: x + torch.rand(len(x), 1, 1, 1, generator=generator)), (3, 12, 12)
    )
    torch.testing.assert_close(batched(x, seeded()) - x, torch.rand(5, 1, 1, 1, generator=seeded()).expand_as(x))
    with raises_sentence(InputError, "(3, 12, 12)", "(3, 6, 6)"):
        policy_for(v2.Resize(6), (3, 12, 12))(x, seeded())


def test_the_policy_that_fits_the_images():
    assert policy_for("auto", (1, 28, 28)) is POLICIES["digits"]
    assert policy_for("auto", (3, 32, 32)) is POLICIES["simclr"]
    assert policy_for("auto", (3, 96, 96)) is POLICIES["simclr_large"]
    assert policy_for("auto", (4, 8, 8)).jitter is None
    with raises_sentence(UnknownNameError, "simclr"):
        policy_for("simcl", (3, 8, 8))
    with raises_sentence(InputError, "channels", "4"):
        policy_for("simclr", (4, 8, 8))
    with raises_sentence(InputError, "policy", "7"):
        policy_for(7, (3, 8, 8))


@pytest.mark.parametrize(("bad", "words"), [({"flip": 1.5}, "flip"), ({"crop": (0.5, 0.2)}, "crop"),
                                            ({"crop": (0.2, 1.5)}, "crop"), ({"jitter": (1, 1, 1, 0.6)}, "jitter"),
                                            ({"rotate": -1}, "rotate"), ({"shear": -1}, "shear"),
                                            ({"ratio": (0, 1)}, "ratio"),
                                            ({"operations": 1.5}, "operations")])  # fmt: skip
def test_bad_policies_are_named(bad, words):
    with raises_sentence(InputError, words):
        Policy(**bad)


def test_fine_grained_data_is_warned_about_colors():
    with pytest.warns(UserWarning, match="fine-grained"):
        Policy(fine_grained=True)
