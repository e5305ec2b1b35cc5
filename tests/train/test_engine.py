"""The engine of phases: what is called when, on which rows, and what ends a training."""

import pytest
import torch
from torch import nn

from pyfast_mmcl._errors import CheckpointError, InputError
from pyfast_mmcl.train.engine import Engine
from pyfast_mmcl.train.optimizers import optimizer_factory
from pyfast_mmcl.train.phases import Phase, Player, single
from pyfast_mmcl.train.terms import NonFiniteError
from tests.check import raises_sentence

CPU = torch.device("cpu")
SGD = optimizer_factory("sgd", 0.1)


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(3))
        self.v = nn.Parameter(torch.zeros(3))
        self.register_buffer("calls", torch.zeros(2, dtype=torch.int64))


def engine(network, **how):
    return Engine(network, seed=0, device=CPU, **how)


@pytest.mark.parametrize(
    ("n_rows", "batch_size", "sizes"),
    [(10, 4, [4, 4, 2]), (9, 4, [4, 5]), (8, 4, [4, 4]), (1, 4, [1]), (3, 1, [1, 1, 1]), (5, 99, [5]), (2, 1, [1, 1])],
)
def test_every_row_comes_once_per_epoch_and_never_alone(n_rows, batch_size, sizes):
    network, seen = Network(), []

    def objective(step):
        seen.append(step.rows)
        return {"loss": network.w.square().sum()}

    engine(network).run([single("one", [network.w], objective, SGD, n_rows=n_rows, epochs=3, batch_size=batch_size)])
    assert [len(rows) for rows in seen] == 3 * sizes
    for epoch in range(3):
        rows = torch.cat(seen[epoch * len(sizes) : (epoch + 1) * len(sizes)])
        assert sorted(rows.tolist()) == list(range(n_rows))
    if n_rows > 3:
        assert not torch.equal(torch.cat(seen[: len(sizes)]), torch.cat(seen[len(sizes) : 2 * len(sizes)]))


@pytest.mark.parametrize(
    ("n_rows", "least", "sizes"), [(11, 3, [4, 4, 3]), (10, 3, [4, 6]), (8, 3, [4, 4]), (10, 99, [4, 6]), (3, 9, [3])]
)
def test_a_last_batch_that_is_too_small_joins_the_one_before(n_rows, least, sizes):
    phase = Phase("one", (), n_rows, 1, 4, least_batch=least)
    assert [len(phase.batch(torch.arange(n_rows), i)) for i in range(phase.n_batches)] == sizes


def test_gradient_descent_is_gradient_descent():
    network = Network()
    data = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
    orders = []

    def objective(step):
        orders.append(step.rows)
        return {"loss": (network.w - data[step.rows]).square().sum(1).mean()}

    made = engine(network)
    made.run([single("fit", [network.w], objective, SGD, n_rows=12, epochs=2, batch_size=5,
                     schedule=lambda done: 1 - done)])  # fmt: skip
    w, steps = torch.zeros(3), len(orders)
    for i, rows in enumerate(orders):
        w = w - 0.1 * (1 - i / steps) * 2 * (w - data[rows]).mean(0)
    torch.testing.assert_close(network.w.detach(), w)
    assert [(e["phase"], e["epoch"], e["steps"]) for e in made.history] == [("fit", 0, 3), ("fit", 1, 3)]


def test_players_learn_by_their_own_objective_with_rows_of_their_own():
    network, rows = Network(), {"w": [], "v": []}

    def objective(name):
        def of(step):
            rows[name].append(step.rows)
            # Touches the other's weights too, which must not learn by it.
            return {"loss": (getattr(network, name) - 1).square().sum() + 0 * network.w.sum() + 3 * network.v.sum()}

        return of

    made = engine(network)
    made.run([Phase("game", (Player([network.w], objective("w"), SGD, repeats=3, name="critic"),
                             Player([network.v], objective("v"), SGD, name="maker")), 20, 1, 5)])  # fmt: skip
    assert len(rows["w"]) == 12 and len(rows["v"]) == 4
    assert torch.equal(rows["w"][0], rows["v"][0]) and not torch.equal(rows["w"][0], rows["w"][1])
    torch.testing.assert_close(network.w.detach(), torch.full((3,), 1 - 0.8**12))
    assert set(made.history[0]["terms"]) == {"critic.loss", "maker.loss"}


def test_hooks_run_in_their_order_without_gradients_and_a_watch_ends_a_phase():
    network, events = Network(), []

    def objective(step):
        assert network.training
        events.append("step")
        return {"loss": network.w.square().sum()}

    def hook(name, answer=None):
        def called(*done):
            assert not torch.is_grad_enabled() and not network.training
            events.append(" ".join([name, *map(str, done)]))
            return bool(done) and done[0] == answer

        return called

    phases = [
        single("a", [network.w], objective, SGD, n_rows=4, epochs=9, batch_size=2, start=hook("start"), end=hook("end"),
               watch=hook("watch", 6), watch_every=3),
        single("b", [network.w], objective, SGD, n_rows=4, epochs=2, batch_size=2, watch=hook("epoch")),
    ]  # fmt: skip
    made = engine(network)
    made.run(phases)
    three = ["step"] * 3
    first = ["start", "watch 0", *three, "watch 3", *three, "watch 6", "end"]
    assert events == [*first, "epoch 0", "step", "step", "epoch 2", "step", "step"]
    # The first phase ended before its fourth epoch had a step: an epoch without steps is none.
    assert [(e["phase"], e["steps"]) for e in made.history] == [("a", 2)] * 3 + [("b", 2)] * 2


def random_walk(network):
    def objective(step):
        network.calls[0] += 1
        noise = torch.randn(3) + torch.randn(3, generator=step.generator) + step.rows.float().mean()
        return {"loss": (network.w * noise).sum() + network.w.square().sum()}

    def start():
        network.w.copy_(torch.randn(3))

    def watch(done):
        network.calls[1] += 1
        network.v.copy_(torch.randn(3))
        return False

    adam = optimizer_factory("adam", 0.05)
    return [
        single(name, [network.w], objective, adam, n_rows=7, epochs=3, batch_size=3, start=start, watch=watch,
               watch_every=2) for name in ("a", "b")
    ]  # fmt: skip


class Stopped(BaseException):
    pass


@pytest.mark.parametrize("stop", range(1, 18))
def test_a_training_stopped_after_any_save_goes_on_to_the_same_bits(stop, tmp_path, monkeypatch):
    from pyfast_mmcl.train import engine as module

    whole = Network()
    told = engine(whole)
    told.run(random_walk(whole))
    save, saves = module.save_checkpoint, []

    def counted(folder, state):
        save(folder, state)
        saves.append(1)
        if len(saves) == stop:
            raise Stopped

    monkeypatch.setattr(module, "save_checkpoint", counted)
    first = Network()
    with pytest.raises(Stopped):
        engine(first, checkpoint_dir=tmp_path, checkpoint_every=1).run(random_walk(first))
    again = Network()
    resumed = engine(again, checkpoint_dir=tmp_path, checkpoint_every=1)
    resumed.run(random_walk(again), resume=True)
    for name, x in whole.state_dict().items():
        assert torch.equal(x, again.state_dict()[name]), name
    assert resumed.history == told.history


def test_folders_that_do_not_fit_are_refused(tmp_path):
    network = Network()
    engine(network, checkpoint_dir=tmp_path, identity={"rows": "abc"}).run(random_walk(network))
    with raises_sentence(InputError, "earlier run"):
        engine(Network(), checkpoint_dir=tmp_path).run(random_walk(network))
    with raises_sentence(CheckpointError, "another training", "rows"):
        engine(Network(), checkpoint_dir=tmp_path, identity={"rows": "xyz"}).run(random_walk(network), resume=True)
    with raises_sentence(InputError, "checkpoint_dir"):
        engine(Network()).run(random_walk(network), resume=True)
    with raises_sentence(InputError, "precision", "fp17"):
        engine(Network(), precision="fp17")


def test_the_checkpoint_of_an_older_network_says_what_to_do(tmp_path):
    def phase(network):
        return single("one", [network.w], lambda _: {"loss": network.w.sum()}, SGD, n_rows=4, epochs=1, batch_size=2)

    old, new = Network(), Network()
    engine(old, checkpoint_dir=tmp_path).run([phase(old)])
    new.v = nn.Parameter(torch.zeros(5))
    with raises_sentence(CheckpointError, "another network", "another folder"):
        engine(new, checkpoint_dir=tmp_path).run([phase(new)], resume=True)


def test_divergence_is_told_with_its_place():
    network = Network()
    phase = single("x", [network.w], lambda step: {"loss": network.w.sum() * float("nan")}, SGD, n_rows=4, epochs=1,
                   batch_size=2)  # fmt: skip
    with raises_sentence(NonFiniteError, "epoch 1, step 1", "'loss'", "nan"):
        engine(network).run([phase])


def test_global_random_state_and_threads_are_given_back():
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    network = Network()
    engine(network).run(random_walk(network))
    assert torch.equal(torch.get_rng_state(), before) and torch.get_num_threads() == threads


def test_products_in_bfloat16_leave_weights_in_float32():
    network, seen = Network(), []
    data = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))

    def objective(step):
        y = data[step.rows] @ network.w
        seen.append(y.dtype)
        return {"loss": (y - 1).square().mean()}

    phase = single("x", [network.w], objective, SGD, n_rows=8, epochs=2, batch_size=4)
    engine(network, precision="bf16").run([phase])
    assert set(seen) == {torch.bfloat16} and network.w.dtype == torch.float32 and network.w.isfinite().all()
