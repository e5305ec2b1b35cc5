"""The float64 truth of the losses is their definition; right answers pass, each kind of wrong one is named."""

import importlib

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from benchmarks.families.contrastive import contestants, data, gate
from benchmarks.families.contrastive.cases import TINY, VIEWS, Case, clip, kl
from benchmarks.families.contrastive.data import BIAS, SCALE

SHAPES = (
    clip(97, 33),
    Case("nt_xent", N=33, D=17),
    Case("sup_con", N=40, D=17, C=6),
    Case("siglip", N=65, D=16),
    kl(63, 31),
    kl(31, 31, M=65),
)


@pytest.fixture
def ready(tmp_path):
    """Inputs and truth of a case."""

    def make(case):
        data.make(case, tmp_path)
        with np.load(tmp_path / data.file_names(case)["truth"]) as truth:
            return data.load(case, tmp_path), dict(truth)

    return make


def definition(case, values):
    """The loss as one formula over the whole matrix of similarities."""
    scale = values.get("scale", SCALE[case.op])
    if case.op in VIEWS:
        u = F.normalize(values["z"], dim=1)
        logits = (scale * u @ u.T).masked_fill(torch.eye(len(u), dtype=torch.bool), -torch.inf)
        labels = values.get("labels", torch.arange(case.N).repeat(2))
        positive = (labels[:, None] == labels) & ~torch.eye(len(u), dtype=torch.bool)
        mean = torch.stack([row[own].mean() for row, own in zip(logits, positive, strict=True)])
        return (logits.logsumexp(1) - mean).mean()
    if case.op == "similarity_kl":
        s = scale * values["student_a"] @ values.get("bank", values.get("student_b")).T
        t = scale * values["teacher_a"] @ values.get("bank", values.get("teacher_b")).T
        rows, columns = (
            (t.softmax(dim) * (t.log_softmax(dim) - s.log_softmax(dim))).sum() / s.shape[1 - dim] for dim in (1, 0)
        )
        return rows if case.direction == "ab" else (rows + columns) / 2
    logits = scale * values["a"] @ values["b"].T
    if case.op == "siglip":
        y = 2 * torch.eye(case.N, dtype=torch.float64) - 1
        return -F.logsigmoid(y * (logits + values["bias"])).sum() / case.N
    return (-logits.log_softmax(1).diagonal().mean() - logits.log_softmax(0).diagonal().mean()) / 2


def whole_answer(case, arrays):
    """Loss and gradients in float64 by autograd, named as a contestant's answer."""
    values = {name: torch.tensor(np.asarray(array)) for name, array in arrays.items()}
    values = {name: value if name == "labels" else value.double() for name, value in values.items()}
    for name, value in (("scale", SCALE[case.op]), ("bias", BIAS)):
        if name in case.differentiable:
            values[name] = torch.tensor(value, dtype=torch.float64)
    wanted = [values[name].requires_grad_() for name in case.differentiable]
    loss = definition(case, values)
    named = zip(case.differentiable, torch.autograd.grad(loss, wanted), strict=True)
    return {"loss": loss.detach().numpy()} | {f"grad_{name}": grad.numpy() for name, grad in named}


@pytest.mark.parametrize("case", SHAPES, ids=lambda case: case.id)
def test_truth_is_the_definition(ready, case):
    arrays, truth = ready(case)
    answer = whole_answer(case, arrays)
    assert gate.check(case, gate.keep(case, answer, truth), truth, arrays, 1e-12) is None
    assert set(truth) == {"sample", *answer}


def test_truth_of_many_blocks(ready, monkeypatch):
    monkeypatch.setattr("benchmarks.families.contrastive.truth.BLOCK", 16)
    for case in SHAPES:
        arrays, truth = ready(case)
        kept = gate.keep(case, whole_answer(case, arrays), truth)
        assert gate.check(case, kept, truth, arrays, 1e-12) is None


SPOILED = (
    (lambda answer: answer.update(loss=answer["loss"] * 1.001), "loss is"),
    (lambda answer: answer.update(loss=np.float64("nan")), "loss is"),
    (lambda answer: answer["grad_a"].__setitem__((0, 3), answer["grad_a"][0, 3] + 1e-4), "grad_a is"),
    (lambda answer: answer["grad_b"].__setitem__((-1, 0), np.nan), "grad_b is"),
    (lambda answer: answer.update(grad_b=answer["grad_a"]), "grad_b is"),
    (lambda answer: answer.update(grad_scale=answer["grad_scale"] + 0.01), "grad_scale is"),
    (lambda answer: answer.pop("grad_scale"), "grad_scale is missing"),
    (lambda answer: answer.update(grad_a=answer["grad_a"][:-1]), "grad_a: expected shape (65, 16)"),
)


@pytest.mark.parametrize(("spoil", "reason"), SPOILED, ids=[reason for _, reason in SPOILED])
def test_each_kind_of_wrong_answer_is_named(ready, spoil, reason):
    case = clip(65, 16)
    arrays, truth = ready(case)
    truth["sample"] = np.arange(case.N)
    answer = whole_answer(case, arrays)
    truth |= {name: answer[name].copy() for name in ("grad_a", "grad_b")}
    spoil(answer)
    verdict = gate.check(case, gate.keep(case, answer, truth), truth, arrays, gate.FLOAT32_TOLERANCE)
    assert verdict.startswith(reason)


ANSWERS = [
    (case, entry)
    for case in TINY
    for entry in contestants.CPU
    if entry.accepts(case, frozenset()) and not entry.options.get("compile") and not entry.env
]


@pytest.mark.parametrize(("case", "entry"), ANSWERS, ids=[f"{case.op}-{case.M}-{one.name}" for case, one in ANSWERS])
def test_every_contestant_gives_right_answers(ready, case, entry):
    peer = importlib.import_module(entry.peer)
    if peer.unavailable():
        pytest.skip(peer.unavailable())
    arrays, truth = ready(case)
    prepared = peer.prepare(case, data.inputs(case, arrays), entry.options)
    tolerance = peer.tolerance(entry.options) if hasattr(peer, "tolerance") else peer.TOLERANCE
    answer = gate.keep(case, prepared.arrays(prepared.run()), truth)
    assert gate.check(case, answer, truth, arrays, tolerance) is None


@pytest.mark.parametrize("peer_name", ("ours", "torch_eager"))
def test_bfloat16_input_is_judged_against_the_rounded_rows(ready, peer_name):
    case = clip(97, 33, dtype="bfloat16")
    arrays, truth = ready(case)
    assert all(np.array_equal(array, torch.tensor(array).bfloat16().float()) for array in arrays.values())
    peer = importlib.import_module(f"{contestants.__package__}.peers.{peer_name}")
    prepared = peer.prepare(case, data.inputs(case, arrays), {})
    answer = gate.keep(case, prepared.arrays(prepared.run()), truth)
    assert gate.check(case, answer, truth, arrays, gate.BFLOAT16_TOLERANCE) is None


def test_a_part_keeps_both_views_and_the_bank():
    case = Case("sup_con", N=50, D=4, C=3)
    arrays = {"z": np.arange(400).reshape(100, 4), "labels": np.arange(100)}
    small, kept = data.part(case, arrays, 20)
    assert small.rows == 40 and kept["labels"].tolist() == [*range(20), *range(50, 70)]
    small, kept = data.part(kl(100, 4, M=30), {"student_a": np.zeros((100, 4)), "bank": np.zeros((30, 4))}, 40)
    assert (small.N, small.M, len(kept["student_a"]), len(kept["bank"])) == (40, 30, 40, 30)


@pytest.mark.parametrize("name", ("inf_cl", "siglip_kernel"))
def test_gpu_peers_say_why_they_are_absent(name, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    reason = importlib.import_module(f"{contestants.__package__}.peers.{name}").unavailable()
    assert "needs a CUDA GPU" in reason or "pip install" in reason
