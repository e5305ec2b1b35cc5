"""MAS weighs by the gradient of the squared norm of the scores, row by row."""

import pytest
import torch

from tests.continual.regularization.truth import (
    Watch,
    fitted,
    one_by_one,
    parameters,
    small_stream,
    squared_norm,
    squares,
)


@pytest.mark.parametrize("scenario", ["cil", "til"])
def test_the_penalty_is_its_formula(scenario):
    tasks = []

    def expected(params):
        omega = {name: sum(o[name] for _, o in tasks) for name in params}
        return 0.5 * squares(params, tasks[-1][0], omega)

    watch = Watch(
        expected,
        lambda learner, loader: tasks.append(
            (parameters(learner.model), one_by_one(learner.model, loader, squared_norm, power=1))
        ),
    )
    fitted(small_stream(scenario), "mas", watch, lam=0.5)
    assert watch.compared == 4


def test_labels_play_no_part():
    class Shuffled:
        def __init__(self, loader):
            self.loader, self.n_rows = loader, loader.n_rows

        def __iter__(self):
            for batch in self.loader:
                batch.target = batch.target.flip(0)
                yield batch

    run = fitted(small_stream(), "mas")
    values = []
    for loader in (run.task_loader(), Shuffled(run.task_loader())):
        part = type(run.parts[1])(1.0)
        part.after_task(run, run.task, loader)
        values.append(part.quadratic_.weight)
    assert all(torch.equal(values[0][name], values[1][name]) for name in values[0])
