"""The plain classifier: shapes, missing modalities, task masks, rows that do not see each other."""

import pytest
import torch

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.data import Batch
from pyfast_mmcl.models import ClassifierHead, ConcatFusion, MultimodalClassifier, Spec, TextEncoder, encoder_for

N, C = 9, 6


def batch(task=None):
    inputs = {
        "image": torch.rand(N, 3, 11, 7),
        "text": torch.randint(0, 20, (N, 5)),
        "sensor": torch.randn(N, 3, 16, dtype=torch.float16),
    }
    present = {m: torch.ones(N, dtype=torch.bool) for m in inputs}
    present["text"][::2] = False
    task = torch.full((N,), -1) if task is None else task
    return Batch(inputs, torch.arange(N) % C, task, present, torch.arange(N))


def model(**kwargs):
    return MultimodalClassifier.for_stream(Spec(batch().inputs, C, width=16, vocabulary=20, **kwargs))


def test_shapes_and_gradients_reach_every_weight():
    made = model()
    out = made(batch())
    assert out.scores.shape == (N, C) and out.features.shape == (N, 16)
    assert {m: tuple(e.shape) for m, e in out.modalities.items()} == dict.fromkeys(("image", "text", "sensor"), (N, 16))
    out.scores.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in made.parameters())


@pytest.mark.parametrize("training", [True, False])
def test_rows_do_not_depend_on_their_neighbours(training):
    made, rows = model().train(training), batch()
    with torch.no_grad():
        whole = made(rows).scores
        order = torch.randperm(N)
        torch.testing.assert_close(made(rows.select(order)).scores, whole[order])
        for i in range(N):
            torch.testing.assert_close(made(rows.select(slice(i, i + 1))).scores, whole[i : i + 1])


def test_what_a_missing_modality_holds_does_not_matter_but_that_it_is_missing_does():
    made, rows = model(), batch()
    changed = batch()
    changed.inputs = {m: x.clone() for m, x in rows.inputs.items()}
    changed.inputs["text"][::2] = 7
    assert torch.equal(made(changed).scores, made(rows).scores)
    shown = batch()
    shown.inputs, shown.present = rows.inputs, {m: torch.ones(N, dtype=torch.bool) for m in rows.present}
    assert not torch.equal(made(shown).scores[0], made(rows).scores[0])
    assert torch.equal(made(shown).scores[1], made(rows).scores[1])


def test_a_modality_absent_from_the_batch_counts_as_missing():
    made, rows = model(), batch()
    rows.present["text"][:] = False
    without = Batch(
        {m: x for m, x in rows.inputs.items() if m != "text"}, rows.target, rows.task,
        {m: p for m, p in rows.present.items() if m != "text"}, rows.index,
    )  # fmt: skip
    torch.testing.assert_close(made(without).scores, made(rows).scores)


def test_task_ids_leave_only_the_classes_of_the_task():
    classes = torch.tensor([[1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 1, 1]], dtype=torch.bool)
    made = model(task_classes=classes)
    task = torch.tensor([0, 1, -1] * 3)
    scores = made(batch(task)).scores
    probability = scores.softmax(1)
    for i, t in enumerate(task.tolist()):
        allowed = classes[t] if t >= 0 else torch.ones(C, dtype=torch.bool)
        assert torch.equal(probability[i] > 0, allowed)
    assert scores.isfinite().all() and "head.task_classes" in made.state_dict()


def test_padding_does_not_change_a_text():
    encoder = TextEncoder(20, 8)
    short, long = torch.tensor([[3, 4]]), torch.tensor([[3, 4, 0, 0]])
    torch.testing.assert_close(encoder(short), encoder(long))
    assert encoder(torch.zeros(1, 3, dtype=torch.int64)).isfinite().all()
    mean = encoder.linear((encoder.embedding.weight[3] + encoder.embedding.weight[4]) / 2)
    torch.testing.assert_close(encoder(short)[0], mean)


def test_fusion_is_its_formula():
    fusion = ConcatFusion(("a", "b"), 3, 5)
    a, b, flag = torch.randn(2, 3), torch.randn(2, 3), torch.tensor([True, False])
    present = {"a": torch.ones(2, dtype=torch.bool), "b": flag}
    row = torch.cat([a, b * flag[:, None], torch.ones(2, 1), flag[:, None].float()], 1)
    torch.testing.assert_close(fusion({"a": a, "b": b}, present), torch.relu(fusion.linear(row)))


def test_head_without_mask_ignores_the_task():
    head = ClassifierHead(4, C)
    x = torch.randn(N, 4)
    assert torch.equal(head(x, torch.zeros(N, dtype=torch.int64)), head.linear(x))


@pytest.mark.parametrize(
    ("modality", "column", "words"),
    [
        ("image", torch.rand(N, 1, 8, 8), r"expected \[B, 3, H, W\], got \(9, 1, 8, 8\)"),
        ("image", torch.rand(N, 3, 8), "image encoder"),
        ("text", torch.rand(N, 5), "expected token ids"),
        ("sensor", torch.rand(N, 3, 15), "expected 48 numbers per row"),
    ],
)
def test_rows_of_another_shape_are_refused(modality, column, words):
    rows = batch()
    rows.inputs[modality] = column
    with pytest.raises(InputError, match=words):
        model()(rows)


def test_no_rows_give_no_scores():
    assert model()(batch().select(slice(0, 0))).scores.shape == (0, C)


def test_bad_modalities_are_named():
    with pytest.raises(InputError, match="vocabulary="):
        encoder_for("text", torch.zeros(2, 3, dtype=torch.int64))
    with pytest.raises(InputError, match="'x'"):
        encoder_for("x", torch.zeros(2))
    rows = batch()
    rows.inputs["smell"] = rows.present["smell"] = torch.ones(N, dtype=torch.bool)
    with pytest.raises(InputError, match="smell"):
        model()(rows)
