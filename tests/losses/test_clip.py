"""ClipLoss and SigLipLoss beside open_clip's own classes: same arguments, same values, same gradients."""

import inspect

import numpy as np
import pytest
import torch

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.losses import ClipLoss, SigLipLoss
from pyfast_mmcl.models.open_clip_import import load_open_clip
from tests.check import assert_no_worse, raises_sentence
from tests.losses import rank_jobs as jobs
from tests.processes import WORLD, pool

PAIRS = [(ClipLoss, "ClipLoss"), (SigLipLoss, "SigLipLoss")]
RANKS = tuple(range(WORLD))  # all of them: open_clip knows the default process group only


def theirs(name: str) -> type:
    load_open_clip()
    from open_clip import loss

    return getattr(loss, name)


@pytest.mark.parametrize(("ours", "name"), PAIRS)
@pytest.mark.parametrize("method", ("__init__", "forward"))
def test_every_argument_of_open_clip_is_taken(ours, name, method):
    own = list(inspect.signature(getattr(ours, method)).parameters.values())
    for i, expected in enumerate(inspect.signature(getattr(theirs(name), method)).parameters.values()):
        assert own[i].name == expected.name
        if expected.default is not expected.empty:
            assert own[i].default == expected.default, expected.name


@pytest.mark.parametrize(("ours", "name"), PAIRS)
@pytest.mark.parametrize("dtype", (torch.float32, torch.float64))
def test_one_process(ours, name, dtype):
    for n in (1, 16, 33):
        inputs = jobs.inputs(n, n, dtype)
        own, other = (jobs.answer(loss(), *inputs) for loss in (ours, theirs(name)))
        tolerance = {"rtol": 1e-12, "atol": 1e-14} if dtype == torch.float64 else {"rtol": 2e-5, "atol": 2e-6}
        for key in other:
            np.testing.assert_allclose(own[key], other[key], err_msg=f"{key} of {n}", **tolerance)


@pytest.mark.parametrize(("ours", "name"), PAIRS)
def test_under_autocast(ours, name):
    given = jobs.inputs(65, 0, torch.float32)
    truth = jobs.answer(theirs(name)(), *(x.double() for x in given))
    whole = jobs.answer(ours(), *given)
    with torch.autocast("cpu", torch.bfloat16):
        own, other = jobs.answer(ours(), *given), jobs.answer(theirs(name)(), *given)
        kept = jobs.answer(ours(precision="float32"), *given)
    for key in truth:
        assert_no_worse(own[key], other[key], truth[key], atol=2e-3 * np.abs(truth[key]).max())
        assert np.array_equal(kept[key], whole[key])
    assert not np.array_equal(own["image"], whole["image"])


@pytest.mark.parametrize(("ours", "name"), PAIRS)
def test_output_dict(ours, name):
    image, text, scale, bias = jobs.inputs(5, 0, torch.float32)
    out = ours()(image_features=image, text_features=text, logit_scale=scale, logit_bias=bias, output_dict=True)
    assert list(out) == list(theirs(name)()(image, text, scale, bias, output_dict=True))
    assert torch.equal(out["contrastive_loss"], ours()(image, text, scale, bias))


def test_a_bias_leaves_the_softmax_loss_and_gets_a_gradient_of_zero():
    image, text, scale, bias = jobs.inputs(5, 0, torch.float64)
    value = ClipLoss()(image, text, scale, bias)
    torch.testing.assert_close(value, ClipLoss()(image, text, scale), rtol=1e-14, atol=0)
    assert float(torch.autograd.grad(value, bias)[0]) == 0


CLIP_MODES = [(local, grad) for local in (False, True) for grad in (False, True)]


@pytest.mark.parametrize(("local_loss", "gather_with_grad"), CLIP_MODES)
def test_clip_loss_on_several_ranks(local_loss, gather_with_grad):
    options = {"local_loss": local_loss, "gather_with_grad": gather_with_grad}
    answers = run(jobs.clip, options)
    # With both options open_clip's gradient of the scale differs by rank; DDP makes it the average that ours is.
    averaged = {"scale"} if local_loss and gather_with_grad else set()
    compare(answers, averaged)


@pytest.mark.parametrize("dist_impl", ("bidir", "shift", "reduce", "gather"))
def test_siglip_loss_on_several_ranks(dist_impl):
    compare(run(jobs.siglip, {"dist_impl": dist_impl}), set())


def run(job, options: dict) -> list:
    answers = pool().run(job, RANKS, *[(5, options)] * len(RANKS))
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return answers


def compare(answers: list, averaged: set[str]) -> None:
    for key in answers[0][1]:
        expected = [other[key] for _, other in answers]
        if key in averaged:
            expected = [np.mean(expected, axis=0)] * len(answers)
        for (own, _), value in zip(answers, expected, strict=True):
            np.testing.assert_allclose(own[key], value, rtol=1e-11, atol=1e-14, err_msg=key)


def test_a_towers_gradient_under_ddp_is_open_clips():
    options = {"local_loss": True, "gather_with_grad": True}
    for own, other in run(jobs.clip_under_ddp, options):
        for key in other:
            np.testing.assert_allclose(own[key], other[key], rtol=1e-10, atol=1e-13, err_msg=key)


def test_errors():
    with raises_sentence(InputError, "use_horovod", "torchrun"):
        ClipLoss(use_horovod=True)
    with raises_sentence(InputError, "dist_impl", "'shft'", "shift"):
        SigLipLoss(dist_impl="shft")
    image, text, scale, bias = jobs.inputs(4, 0, torch.float32)
    with raises_sentence(InputError, "world_size", "2", "init_process_group"):
        ClipLoss(world_size=2)(image, text, scale)
    with raises_sentence(InputError, "world_size", "init_process_group"):
        SigLipLoss(world_size=2)(image, text, scale, bias)


def test_a_rank_that_is_not_the_processs_own():
    for answer in pool().run(jobs.wrong_rank, RANKS, *[()] * WORLD):
        assert isinstance(answer, InputError) and "rank and world_size" in str(answer)
