"""EWC is its formula, folded or not, whichever Fisher it is given."""

import pytest
import torch

from pyfast_mmcl._errors import InputError, UnknownNameError
from pyfast_mmcl.continual.regularization.ewc import ElasticWeights
from pyfast_mmcl.train.parts import CrossEntropy
from pyfast_mmcl.train.quadratic import Quadratic
from tests.continual.regularization.truth import (
    Watch,
    every_label,
    fitted,
    given_label,
    one_by_one,
    parameters,
    small_stream,
    squares,
)


@pytest.mark.parametrize("mode", ["folded", "separate"])
@pytest.mark.parametrize(
    ("labels", "weighted"), [("auto", every_label), ("exact", every_label), ("empirical", given_label)]
)
def test_the_penalty_is_half_lambda_times_the_sum_over_earlier_tasks(mode, labels, weighted):
    tasks = []

    def remember(learner, loader):
        tasks.append((parameters(learner.model), one_by_one(learner.model, loader, weighted)))

    def expected(params):
        return 50.0 * sum(squares(params, anchor, fisher) for anchor, fisher in tasks)

    watch = Watch(expected, remember)
    fitted(small_stream(), "ewc", watch, lam=100.0, mode=mode, labels=labels)
    assert watch.compared == 4 and len(tasks) == 3


@pytest.mark.parametrize("scenario", ["til", "dil"])
def test_it_is_the_formula_in_other_scenarios(scenario):
    tasks = []
    watch = Watch(
        lambda params: 50.0 * sum(squares(params, *task) for task in tasks),
        lambda learner, loader: tasks.append(
            (parameters(learner.model), one_by_one(learner.model, loader, every_label))
        ),
    )
    fitted(small_stream(scenario), "ewc", watch, lam=100.0)
    assert watch.compared == (6 if scenario == "dil" else 4)


def quadratics_of(n, mode):
    """Six tasks of a fake Fisher, as the part would keep them."""
    g = torch.Generator().manual_seed(7)
    model = torch.nn.Linear(9, 5).double()
    kept = [Quadratic()] if mode == "folded" else [Quadratic() for _ in range(n)]
    for t in range(n):
        fisher = {name: torch.rand(p.shape, generator=g).double().square() for name, p in model.named_parameters()}
        for value in fisher.values():
            value.view(-1)[t::4] = 0
        kept[0 if mode == "folded" else t].fold(model, fisher)
        with torch.no_grad():
            for p in model.parameters():
                p += torch.randn(p.shape, generator=g).double()
    return model, kept


def test_six_folded_tasks_have_the_value_and_gradient_of_six_separate_ones():
    grads, values = [], []
    for mode in ("folded", "separate"):
        model, kept = quadratics_of(6, mode)
        value = sum(quadratic.penalty(model, 3.0) for quadratic in kept)
        grads.append(torch.autograd.grad(value, list(model.parameters())))
        values.append(value)
    torch.testing.assert_close(values[0], values[1], rtol=1e-12, atol=0)
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)


def test_both_modes_train_to_the_same_weights():
    runs = [fitted(small_stream(), "ewc", mode=mode, epochs=2) for mode in ("folded", "separate")]
    for a, b in zip(*(run.model.parameters() for run in runs), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=2e-3)
    kept = [run.history.kept_bytes for run in runs]
    assert kept[0][0] == kept[0][-1] == kept[1][0] and kept[1][-1] == 3 * kept[1][0]


def test_penalty_and_gradient_are_zero_at_the_optimum_of_one_task():
    run = fitted(small_stream(), "ewc")
    part = ElasticWeights(10.0)
    part.after_task(run, run.task, run.task_loader())
    term = part.loss(run, None, None)
    assert term.item() == 0.0
    assert not any(g.any() for g in torch.autograd.grad(term, list(run.model.parameters())))


def test_clamp_is_the_largest_value_kept():
    part = ElasticWeights(1.0, clamp=1e-4)
    fitted(small_stream(), [CrossEntropy(), part])
    assert max(float(w.max()) for w in part.quadratics_[0].weight.values()) <= 3.0001e-4


def test_a_strong_penalty_holds_the_weights_where_they_were():
    distances = []
    for lam in (1e-3, 1e6):
        thetas = []
        watch = Watch(lambda params: None, lambda learner, loader, kept=thetas: kept.append(parameters(learner.model)))
        watch.loss = lambda learner, batch, out: None
        run = fitted(small_stream("dil"), "ewc", watch, lam=lam, epochs=4)
        moved = [(thetas[2][n] - thetas[0][n]) * run.parts[1].quadratics_[0].weight[n].sqrt() for n in thetas[0]]
        distances.append(float(torch.cat([m.flatten() for m in moved]).norm()))
    assert distances[1] < 0.2 * distances[0]


def test_mistakes_are_named():
    with pytest.raises(UnknownNameError, match="folded"):
        ElasticWeights(1.0, mode="fold")
    with pytest.raises(UnknownNameError, match="exact"):
        ElasticWeights(1.0, labels="exakt")
    with pytest.raises(InputError, match="lam"):
        ElasticWeights(-0.5)
