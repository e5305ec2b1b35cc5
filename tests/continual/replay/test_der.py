"""DER and DER++ hold rows of memory to the scores that they had in a step of their own task."""

from collections import defaultdict

import pytest
import torch

from pyfast_mmcl._errors import InputError, UnknownNameError
from pyfast_mmcl.data import Records, Stream
from pyfast_mmcl.train.parts import CrossEntropy
from pyfast_mmcl.train.stored_logits import ReplayLogits, StoredLogits
from tests.check import assert_same_bits, raises_sentence
from tests.continual.replay.truth import Grow, Watch, fitted, flat, make, memory_part, small_stream


def cross_entropy(scores, target):
    """Row by row from the definition, in float64."""
    rows = zip(scores.detach().double(), target, strict=True)
    return float(sum(s.exp().sum().log() - s[y] for s, y in rows) / len(scores))


def own_classes(learner, task):
    """Classes that a row is scored on."""
    table = learner.model.head.task_classes
    return table[task] if table is not None else torch.ones(learner.model.head.linear.out_features, dtype=torch.bool)


class Passes:
    """Scores that every row had in the training pass of every epoch, as the runs go by."""

    def __init__(self):
        self.of = defaultdict(dict)

    def note(self, learner, batch, out):
        for row in range(batch.fresh):
            self.of[int(batch.index[row])][learner.epoch] = out.scores[row].detach().double()

    def distance(self, learner, batch, out, rows, pick):
        """Mean over ``rows`` of the mean over classes of (z − h)², z of the pass that ``pick`` names."""
        total = 0.0
        for row in rows:
            passes = self.of[int(batch.index[row])]
            own = own_classes(learner, batch.task[row])
            gap = passes[pick(passes)][own] - out.scores[row].detach().double()[own]
            total += float((gap**2).mean())
        return total / len(rows)


@pytest.mark.parametrize("scenario", ["cil", "dil", "til"])
@pytest.mark.parametrize(("logits", "pick"), [("first", min), ("latest", max)])
def test_der_is_its_formula(scenario, logits, pick):
    passes, compared = Passes(), []

    def look(learner, batch, out, terms):
        assert cross_entropy(out.scores[: batch.fresh], batch.target[: batch.fresh]) == pytest.approx(
            float(terms[0].detach()), rel=1e-5
        )
        old = range(batch.fresh, len(batch))
        if len(old):
            expected = 0.3 * passes.distance(learner, batch, out, old, pick)
            assert float(terms[1].detach()) == pytest.approx(expected, rel=1e-5)
            compared.append(len(old))
        passes.note(learner, batch, out)

    run = fitted(small_stream(scenario), "der", Watch(look), capacity=20, alpha=0.3, logits=logits, epochs=3)
    # In every step but the first.
    assert len(compared) == run.step - 1 and max(compared) == 16


def test_the_gradient_is_that_of_the_squared_distance():
    def look(learner, batch, out, terms):
        if len(terms) == 2:
            (ours,) = torch.autograd.grad(terms[1], out.scores, retain_graph=True)
            z = batch.extras["logits"].double()
            h = out.scores[batch.fresh :].detach().double()
            assert not ours[: batch.fresh].any()
            torch.testing.assert_close(
                ours[batch.fresh :].double(), 2 * 0.3 * (h - z) / z.numel(), rtol=1e-5, atol=1e-8
            )
            seen.append(1)

    seen = []
    fitted(small_stream(), "der", Watch(look), capacity=20, alpha=0.3)
    assert len(seen) == 5


def test_drawn_logits_come_from_all_epochs_alike():
    """As in a reservoir that takes every epoch for new rows; the draw must not follow the keys of the memory."""
    epochs, rows = 4, 900
    target = torch.arange(rows) % 2
    records = Records({"x": torch.randn(rows, 3)}, target)
    stream = Stream.from_dataset(records, n_tasks=1, test=0.1)
    passes = Passes()
    learner = fitted(
        stream, "der", Watch(lambda *a: passes.note(*a[:3])), capacity=400, epochs=epochs, batch_size=100, lr=0.1
    )
    kept = memory_part(learner).memory_.all()
    drawn = torch.zeros(epochs)
    for id, z in zip(kept.index.tolist(), kept.extras["logits"].double(), strict=True):
        (epoch,) = [e for e, scores in passes.of[id].items() if torch.equal(scores, z)]
        drawn[epoch] += 1
    # 16.27 is the 99.9 % point of chi-square with 3 degrees of freedom.
    assert float(((drawn - 100) ** 2 / 100).sum()) < 16.27
    one = fitted(stream, "der", capacity=50, epochs=1, batch_size=100)
    for logits in ("first", "latest"):
        assert_same_bits(flat(one), flat(fitted(stream, "der", capacity=50, batch_size=100, logits=logits)))


def test_derpp_takes_a_second_draw_for_the_labels():
    passes, compared, same = Passes(), [], []

    def look(learner, batch, out, terms):
        n = (len(batch) - batch.fresh) // 2
        if n:
            first, second = range(batch.fresh, batch.fresh + n), slice(batch.fresh + n, len(batch))
            expected = 0.3 * passes.distance(learner, batch, out, first, min)
            assert float(terms[1].detach()) == pytest.approx(expected, rel=1e-5)
            expected = 0.7 * cross_entropy(out.scores[second], batch.target[second])
            assert float(terms[2].detach()) == pytest.approx(expected, rel=1e-5)
            compared.append(n)
            same.append(torch.equal(batch.index[batch.fresh : batch.fresh + n], batch.index[second]))
        passes.note(learner, batch, out)

    hyper = {"capacity": 20, "rows": 7, "alpha": 0.3, "beta": 0.7, "logits": "first"}
    fitted(small_stream(), "derpp", Watch(look), epochs=2, **hyper)
    assert compared == [7] * 11 and not any(same)


def test_weights_of_zero_give_the_simpler_methods():
    stream = small_stream()
    plain, der = (fitted(stream, name, epochs=2) for name in ("finetune", "der"))
    assert_same_bits(flat(fitted(stream, "der", alpha=0, epochs=2)), flat(plain))
    assert_same_bits(flat(fitted(stream, "derpp", alpha=0, beta=0, epochs=2)), flat(plain))
    assert_same_bits(flat(fitted(stream, "derpp", alpha=1.0, beta=0, epochs=2)), flat(der))
    assert not torch.equal(flat(der), flat(plain))


def test_labels_alone_are_er_with_twice_its_loss():
    halves = []

    def look(learner, batch, out, terms):
        n = len(batch) - batch.fresh
        if n == batch.fresh:
            whole = torch.nn.functional.cross_entropy(out.scores, batch.target)
            torch.testing.assert_close(sum(terms), 2 * whole)
            halves.append(batch.index[batch.fresh :])

    drawn = []

    def er_look(learner, batch, out, terms):
        if len(batch) == 2 * batch.fresh:
            drawn.append(batch.index[batch.fresh :])

    fitted(small_stream(), "derpp", Watch(look), alpha=0, beta=1)
    fitted(small_stream(), "er", Watch(er_look))
    assert len(halves) == 5 and all(torch.equal(a, b) for a, b in zip(halves, drawn, strict=True))


def test_memory_holds_what_the_head_says_and_not_its_mask():
    learner = fitted(small_stream("til"), "der", capacity=20)
    kept = memory_part(learner).memory_.all()
    own = learner.model.head.task_classes[kept.task]
    z = kept.extras["logits"]
    assert z.shape == (20, 6) and not z[~own].any() and bool(z[own].all()) and bool((z.abs() < 100).all())
    assert z.dtype == torch.float32 and not z.requires_grad


def test_a_head_that_grows_is_held_to_the_classes_it_had():
    passes, compared = Passes(), []

    def look(learner, batch, out, terms):
        if learner.task.id:
            total = 0.0
            old = list(range(batch.fresh, len(batch)))
            for row in old:
                z = passes.of[int(batch.index[row])][0]
                total += float((z - out.scores[row].detach().double()[: len(z)]).square().mean())
                compared.append(len(z))
            assert float(terms[1].detach()) == pytest.approx(total / len(old), rel=1e-5)
        passes.note(learner, batch, out)

    stream = small_stream()
    base = make(stream, "der", capacity=40, alpha=1.0)
    learner = make(stream, [Grow(), *base.parts, Watch(look)])
    learner.fit(stream)
    assert set(compared) == {2, 4, 6}
    kept = memory_part(learner).memory_.all()
    assert set(kept.extras) == {"logits", "width"} and kept.extras["logits"].shape == (40, 6)
    for z, width, task in zip(kept.extras["logits"], kept.extras["width"].tolist(), kept.task.tolist(), strict=True):
        assert width == 2 * task + 2 and bool(z[:width].all()) and not z[width:].any()


def test_a_head_grows_beside_a_memory_in_files_or_of_so_many_bytes(tmp_path):
    stream = small_stream()

    def run(capacity, **memory):
        budgets = []
        replay = ReplayLogits(capacity, **memory)
        look = Watch(lambda *_: budgets.append(replay.memory_.nbytes))
        parts = [Grow(), replay, CrossEntropy("fresh"), StoredLogits(1.0), look]
        learner = make(stream, parts, epochs=2)
        learner.fit(stream)
        return learner, replay.memory_, [*budgets, replay.memory_.nbytes]

    plain, memory, _ = run(20)
    mapped, files, _ = run(20, storage="memmap", folder=tmp_path)
    assert_same_bits(flat(mapped), flat(plain))
    for name, x in memory.all().extras.items():
        assert_same_bits(files.all().extras[name], x)
    most = memory.nbytes
    learner, small, budgets = run(None, max_bytes=most)
    assert flat(learner).isfinite().all() and max(budgets) <= most and len(small) == 20
    # Narrower rows left room for more of them, until the head grew.
    assert max(budgets) > most - most // 20 and small.all().extras["logits"].shape == (20, 6)


def test_a_head_that_shrinks_is_an_error():
    class Shrink(Grow):
        def width(self, task):
            return 6 - 2 * task.id

    stream = small_stream()
    learner = make(stream, [Shrink(), *make(stream, "der").parts])
    with raises_sentence(InputError, "6 classes", "has 4", "grow"):
        learner.fit(stream)


def test_arguments():
    for hyper, words in ({"alpha": -1.0}, ("alpha", "at least 0")), ({"alpha": float("nan")}, ("alpha",)):
        with raises_sentence(InputError, *words):
            make(small_stream(), "der", **hyper)
    with raises_sentence(InputError, "beta"):
        make(small_stream(), "derpp", beta="much")
    with raises_sentence(UnknownNameError, "lates", "latest"):
        make(small_stream(), "der", logits="lates")
