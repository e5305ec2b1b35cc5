"""SAMM against its formulas written out, its acceptance check, and what a head per modality is good for."""

import pytest
import torch

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.continual.replay.samm import (
    JOINT,
    BestHeadConsistency,
    CalibratedHeads,
    ModalityTerms,
    ReplayHeads,
    stored,
)
from pyfast_mmcl.data import digits_stream, har_stream, spoken_digits_stream
from pyfast_mmcl.models import Output
from pyfast_mmcl.train import Learner, default_model, run_continual
from tests.check import raises_sentence
from tests.continual.replay import restated

NAMES = ("a", "b", "c")


def answered(names, extras=(), seed=0):
    batch = restated.random_batch(names=names, extras=extras, seed=seed)
    heads = {m: restated.scores(len(batch), seed=10 + i) for i, m in enumerate(names)}
    return batch, Output(restated.scores(len(batch), seed=9), heads=heads)


@pytest.mark.parametrize("rows", ["fresh", "memory"])
@pytest.mark.parametrize("names", [NAMES[:2], NAMES])
def test_terms_of_the_modalities_are_those_of_the_card(names, rows):
    batch, out = answered(names)
    mine = [i for i in range(len(batch)) if (i < batch.fresh) == (rows == "fresh")]
    truth = 0
    for m in names:
        here = [i for i in mine if batch.present[m][i]]
        truth = truth + restated.cross_entropy(_at(out.heads[m], here), batch.target[here])
        for other in names:
            both = [i for i in here if batch.present[other][i]]
            if other != m:
                rkd = restated.relation(_at(out.heads[m], both), _at(out.heads[other], both))
                truth = truth + 25 * rkd / (len(names) - 1)
    truth = 0.01 * truth
    ours = ModalityTerms(rows, 0.01, 25.0).loss(restated.learner(), batch, out)
    # Cross-entropies of the single modalities are taken in float32, as scores of a model are.
    torch.testing.assert_close(ours.double(), truth, rtol=1e-6, atol=1e-7)
    for z in out.heads.values():
        gradients = [torch.autograd.grad(value, z, retain_graph=True)[0] for value in (ours, truth)]
        torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-7)
        assert gradients[0].abs().sum() > 0


def test_old_rows_follow_the_stored_scores_of_the_head_that_is_surest_now():
    names = NAMES[:2]
    batch, out = answered(names, extras=[stored(h) for h in (JOINT, *names)])
    old, total, count = range(batch.fresh, len(batch)), {}, {}
    chosen = set()
    for place, i in enumerate(old):
        z = {JOINT: out.scores[i], **{m: out.heads[m][i] for m in names if batch.present[m][i]}}
        sure = {h: float(restated.log_softmax(row.detach())[batch.target[i]]) for h, row in z.items()}
        best = max(sure, key=sure.get)
        chosen.add(best)
        for h, row in z.items():
            total[h] = total.get(h, 0) + ((row - batch.extras[stored(best)][place]) ** 2).mean()
            count[h] = count.get(h, 0) + 1
    truth = total[JOINT] / count[JOINT] + 0.01 * sum(total[m] / count[m] for m in names)
    ours = BestHeadConsistency(1.0, 0.01).loss(restated.learner(), batch, out)
    assert len(chosen) == 3
    torch.testing.assert_close(ours.double(), truth, rtol=1e-6, atol=0)
    assert BestHeadConsistency(1.0, 0.01).loss(restated.learner(), batch.select(slice(0, 14)), out) is None


def test_answers_are_weighted_by_the_confidence_of_the_heads_a_row_has():
    batch, out = answered(NAMES[:2])
    part = CalibratedHeads(ReplayHeads(10))
    part.temperatures_ = {JOINT: 0.7, "a": 2.0, "b": 1.3}
    ours = part.predict(restated.learner(), batch, out)
    for i in range(len(batch)):
        z = {JOINT: out.scores[i], **{m: out.heads[m][i] for m in "ab" if batch.present[m][i]}}
        scaled = {h: row / part.temperatures_[h] for h, row in z.items()}
        truth = sum(restated.log_softmax(row).exp().max() * row for row in scaled.values())
        assert int(ours[i].argmax()) == int(truth.argmax())
        weight = sum(restated.log_softmax(row).exp().max() for row in scaled.values())
        torch.testing.assert_close(ours[i].double(), truth / weight, rtol=1e-6, atol=1e-6)


def test_equal_scores_in_all_heads_give_the_answer_of_one_head():
    batch, out = answered(NAMES)
    part = CalibratedHeads(ReplayHeads(10))
    part.temperatures_ = dict.fromkeys((JOINT, *NAMES), 1.7)
    alike = Output(out.scores, heads=dict.fromkeys(NAMES, out.scores))
    torch.testing.assert_close(part.predict(restated.learner(), batch, alike), out.scores / 1.7)


def test_a_missing_modality_says_nothing():
    stream = digits_stream(n_tasks=2, missing={"text": 0.5, "image": 0.3})
    learner = Learner(default_model(stream, "samm"), "samm", epochs=1, device="cpu", progress=False)
    learner.fit(stream)
    rows = stream.loader(0, "test", batch_size=64)[0]
    assert not rows.present["text"].all() and not rows.present["image"].all()
    before = learner.predict(rows)
    assert before.isfinite().all()
    for name in ("text", "image"):
        gone = ~rows.present[name]
        rows.inputs[name][gone] = 5
    torch.testing.assert_close(learner.predict(rows), before)
    only = learner.predict(rows.select(~rows.present["text"]))
    assert only.isfinite().all()


def test_the_memory_keeps_the_scores_of_the_last_time_a_row_was_fresh():
    """With a learning rate of nearly 0 these are the scores of the model itself."""
    stream = digits_stream(n_tasks=2)
    model = default_model(stream, "samm")
    learner = Learner(model, "samm", epochs=2, lr=1e-12, device="cpu", progress=False, hyper={"capacity": 60})
    learner.fit(stream)
    kept = learner.parts[0].memory_.all()
    out = model.eval()(kept)
    torch.testing.assert_close(kept.extras[stored(JOINT)], out.scores, atol=1e-5, rtol=1e-5)
    for name in ("image", "text"):
        torch.testing.assert_close(kept.extras[stored(name)], out.heads[name], atol=1e-5, rtol=1e-5)


def test_task_ids_leave_everything_finite():
    stream = digits_stream("til", 2)
    learner = Learner(default_model(stream, "samm"), "samm", epochs=1, device="cpu", progress=False)
    history = learner.fit(stream)
    assert all(torch.isfinite(torch.tensor(list(entry["terms"].values()))).all() for entry in history.losses)
    assert min(history.accuracy[-1]) > 0.6


def test_models_without_a_head_per_modality_are_refused():
    stream = digits_stream()
    with raises_sentence(InputError, "samm", "ModalityHeads", "MultimodalClassifier"):
        run_continual("samm", stream, model=default_model(stream), device="cpu", progress=False)
    with raises_sentence(InputError, "two modalities", "image"):
        run_continual("samm", digits_stream(modalities=["image"]), device="cpu", progress=False)


def test_heads_of_other_widths_and_heads_that_grow_are_named():
    batch, out = answered(NAMES[:2], extras=[stored(h) for h in (JOINT, *NAMES[:2])])
    uneven = Output(out.scores, heads=out.heads | {"b": out.heads["b"][:, :4]})
    with raises_sentence(InputError, "samm", "'b'", "(23, 4)", "(23, 6)"):
        ModalityTerms("fresh", 0.01, 25.0).loss(restated.learner(), batch, uneven)
    # A single stored score would go for those of all classes.
    for width in (1, 4):
        batch.extras = {name: z[:, :width] for name, z in batch.extras.items()}
        with raises_sentence(InputError, "samm", f"{width} classes", "have 6"):
            BestHeadConsistency(1.0, 0.01).loss(restated.learner(), batch, out)
        batch = answered(NAMES[:2], extras=[stored(h) for h in (JOINT, *NAMES[:2])])[0]


def test_weights_of_zero_leave_their_terms_out():
    batch, out = answered(NAMES[:2], extras=[stored(h) for h in (JOINT, *NAMES[:2])])
    assert ModalityTerms("fresh", 0, 25.0).loss(restated.learner(), batch, out) is None
    assert BestHeadConsistency(0, 0.01).loss(restated.learner(), batch, out) is None
    truth = 0
    for m in NAMES[:2]:
        here = [i for i in range(batch.fresh) if batch.present[m][i]]
        truth = truth + restated.cross_entropy(_at(out.heads[m], here), batch.target[here])
    ours = ModalityTerms("fresh", 0.01, 0).loss(restated.learner(), batch, out)
    torch.testing.assert_close(ours.double(), 0.01 * truth, rtol=1e-6, atol=1e-7)
    with raises_sentence(InputError, "consistency", "at least 0", "-1"):
        BestHeadConsistency(-1, 0.01)


def test_beats_replay_of_the_same_model_and_capacity_on_digits():
    stream = digits_stream()

    def last(method):
        model = default_model(stream, "samm")
        history = run_continual(method, stream, model=model, epochs=5, device="cpu", progress=False, capacity=100)
        return history.summary()["last_accuracy"]

    # .95 and .87 with ten epochs and 200 rows; finetune is at .18.
    assert last("samm") > last("er") + 0.05 > 0.3


def test_digits_seen_and_heard(data_dir):
    """Sound and sight, the modalities of the paper."""
    stream = spoken_digits_stream(folder=data_dir)
    runs = {m: run_continual(m, stream, epochs=2, device="cpu", progress=False) for m in ("finetune", "samm")}
    last = {name: history.summary()["last_accuracy"] for name, history in runs.items()}
    assert last["finetune"] < 0.3 < 0.45 < last["samm"]


def test_four_sensors_of_unseen_people(data_dir):
    history = run_continual("samm", har_stream(folder=data_dir), epochs=1, device="cpu", progress=False)
    assert history.summary()["last_accuracy"] > 0.6


def _at(z, rows):
    return z[torch.tensor(rows)]
