"""The Fisher and the sensitivity of a learner's model, against their definitions row by row."""

import pytest
import torch

from pyfast_mmcl._errors import InputError, UnknownNameError
from pyfast_mmcl.train import Part
from pyfast_mmcl.train.importance import check_labels, fisher, output_sensitivity
from pyfast_mmcl.train.parts import CrossEntropy
from tests.continual.regularization.truth import (
    every_label,
    fitted,
    given_label,
    one_by_one,
    small_stream,
    squared_norm,
)


@pytest.fixture(autouse=True)
def one_thread():
    """As a learner has it: two threads wait for each other longer than they work on models this small."""
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def learner():
    return fitted(small_stream(), "finetune")


def assert_near(ours, theirs, rtol=1e-4):
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert ours[name].dtype == torch.float32
        scale = float(theirs[name].abs().max())
        torch.testing.assert_close(ours[name].double(), theirs[name], rtol=rtol, atol=rtol * scale + 1e-12)


@pytest.mark.parametrize(
    ("labels", "weighted"), [("auto", every_label), ("exact", every_label), ("empirical", given_label)]
)
def test_fisher_is_its_definition(learner, labels, weighted):
    loader = learner.task_loader()
    assert_near(fisher(learner, loader, labels=labels), one_by_one(learner.model, loader, weighted))


def test_sensitivity_is_its_definition(learner):
    loader = learner.task_loader()
    assert_near(output_sensitivity(learner, loader), one_by_one(learner.model, loader, squared_norm, power=1))


def test_sensitivity_of_a_task_incremental_head_leaves_masked_scores_out():
    run = fitted(small_stream("til"), "finetune")
    loader = run.task_loader()
    ours = output_sensitivity(run, loader)
    assert_near(ours, one_by_one(run.model, loader, squared_norm, power=1))
    assert not ours["head.linear.weight"][:4].any() and ours["head.linear.weight"][4:].any(1).all()


def test_rows_without_a_modality_leave_its_encoder_alone():
    """Mean over all rows: an encoder that half of the rows do not use gets half of what the others give."""
    run = fitted(small_stream(missing={"b": 0.5}), "finetune")
    loader = run.task_loader()
    ours = fisher(run, loader, labels="exact")
    present = torch.cat([batch.present["b"] for batch in loader])
    assert 0.2 < present.float().mean() < 0.8

    def of_present(scores, target):
        return every_label(scores, target)

    class Present:
        n_rows = int(present.sum())

        def __iter__(self):
            return (batch.select(batch.present["b"]) for batch in loader)

    theirs = one_by_one(run.model, Present(), of_present)
    share = float(present.double().mean())
    name = "encoders.b.layers.1.weight"
    torch.testing.assert_close(ours[name].double(), share * theirs[name], rtol=1e-4, atol=1e-9)


def test_sampled_labels_have_the_exact_fisher_as_their_mean(learner):
    loader = learner.task_loader()
    exact = fisher(learner, loader, labels="exact")
    draws = []
    for seed in range(40):
        learner.seed = seed
        draws.append(fisher(learner, loader, labels="sampled"))
    learner.seed = 0
    for name, value in exact.items():
        stack = torch.stack([draw[name] for draw in draws]).double()
        error = stack.mean(0) - value
        assert float(error.norm()) < 4 * float(stack.std(0).norm()) / 40**0.5 + 1e-12
    assert not torch.equal(draws[0]["head.linear.bias"], draws[1]["head.linear.bias"])


def test_the_square_of_the_batch_mean_is_far_smaller(learner):
    loader = learner.task_loader()
    batch, row = (fisher(learner, loader, labels=labels) for labels in ("batch", "empirical"))
    ratio = sum(float(x.sum()) for x in batch.values()) / sum(float(x.sum()) for x in row.values())
    assert ratio < 0.9


def test_it_does_not_depend_on_the_batch_size(learner):
    loader = learner.task_loader()
    whole = fisher(learner, loader)
    loader.batch_size = 5
    small = fisher(learner, loader)
    for name in whole:
        torch.testing.assert_close(whole[name], small[name], rtol=1e-4, atol=1e-7 * float(whole[name].max()) + 1e-12)


def test_samples_are_drawn_without_replacement_and_the_same_for_one_place_in_a_run(learner):
    loader = learner.task_loader()
    values = []
    for seed in (5, 5, 6):
        learner.generator.manual_seed(seed)
        values.append(fisher(learner, loader, samples=10)["head.linear.bias"])
    assert torch.equal(values[0], values[1]) and not torch.equal(values[0], values[2])
    everything = fisher(learner, loader)["head.linear.bias"]
    torch.testing.assert_close(fisher(learner, loader, samples=10**6)["head.linear.bias"], everything)
    with pytest.raises(InputError, match="samples"):
        fisher(learner, loader, samples=0)


def test_clamp_and_mode(learner):
    learner.model.train()
    values = fisher(learner, learner.task_loader(), clamp=1e-5)
    assert max(float(v.max()) for v in values.values()) == pytest.approx(1e-5) and learner.model.training


def test_batch_norm_and_dropout_are_in_evaluation_mode_and_stay_as_they_were():
    class Normalise(Part):
        def before_task(self, learner, task):
            if task.id == 0:
                width = learner.model.fusion.linear.out_features
                layers = (learner.model.fusion.linear, torch.nn.BatchNorm1d(width), torch.nn.Dropout(0.5))
                learner.model.fusion.linear = torch.nn.Sequential(*layers)

    run = fitted(small_stream(), [Normalise(), CrossEntropy()])
    run.model.train()
    buffers = [b.clone() for b in run.model.buffers()]
    loader = run.task_loader()
    assert_near(fisher(run, loader), one_by_one(run.model, loader, every_label))
    assert run.model.training and all(map(torch.equal, buffers, run.model.buffers()))


def test_unknown_estimators_are_named():
    assert check_labels("exact") == "exact"
    with pytest.raises(UnknownNameError, match="empirical"):
        check_labels("empirica")
