"""EWCH sums the Fishers and is centred on the latest optimum."""

from tests.continual.regularization.truth import (
    Watch,
    every_label,
    fitted,
    one_by_one,
    parameters,
    small_stream,
    squares,
)


def test_the_penalty_is_one_quadratic_around_the_latest_optimum():
    tasks = []

    def expected(params):
        total = {name: sum(fisher[name] for _, fisher in tasks) for name in params}
        return 50.0 * squares(params, tasks[-1][0], total)

    watch = Watch(
        expected,
        lambda learner, loader: tasks.append(
            (parameters(learner.model), one_by_one(learner.model, loader, every_label))
        ),
    )
    run = fitted(small_stream(), "ewc_huszar", watch, lam=100.0)
    assert watch.compared == 4 and run.history.kept_bytes[0] == run.history.kept_bytes[-1]
