"""Losses of rows that are spread over processes: equal to one process with all rows."""

import numpy as np
import pytest
import torch

from tests.check import assert_no_worse
from tests.ops.contrastive import ring_jobs as jobs
from tests.ops.contrastive.ring_jobs import Case
from tests.processes import pool

GROUPS = {2: (0, 1), 3: (0, 2, 3), 4: (0, 1, 2, 3)}
EQUAL, UNEVEN, EMPTY, PRIME = (4, 4, 4, 4), (1, 5, 2, 3), (3, 0, 5, 0), (17, 31, 2, 13)
MEAN, SUM, NONE = ((), (("reduction", "sum"),), (("reduction", "none"),))
AB, BA = (("direction", "ab"),), (("direction", "ba"),)


def run(case: Case, ranks: tuple[int, ...]) -> list[dict[str, np.ndarray]]:
    answers = pool().run(jobs.on_rank, ranks, *[(case,)] * len(ranks))
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return answers


def trimmed(case: Case, world: int) -> Case:
    return case._replace(rows=case.rows[:world], cols=case.cols[:world])


CASES = [
    Case("info_nce", UNEVEN, UNEVEN),
    Case("info_nce", EMPTY, EMPTY),
    Case("info_nce", (0, 0, 0, 0), (0, 0, 0, 0)),
    Case("info_nce", PRIME, PRIME, scale=100.0, seed=1),
    Case("info_nce", UNEVEN, UNEVEN, options=AB),
    Case("info_nce", UNEVEN, UNEVEN, options=BA),
    Case("info_nce", UNEVEN, UNEVEN, options=SUM, weights=True),
    Case("info_nce", UNEVEN, EMPTY, labels=4, weights=True),
    Case("info_nce", EMPTY, UNEVEN, labels=30, seed=2),
    Case("info_nce", UNEVEN, EMPTY, labels=3, options=AB + SUM),
    Case("nt_xent", (2, 6, 0, 4), (2, 6, 0, 4)),
    Case("nt_xent", (2, 6, 0, 4), (2, 6, 0, 4), options=SUM, scale=100.0),
    Case("sup_con", UNEVEN, UNEVEN, labels=3),
    Case("sup_con", EMPTY, EMPTY, labels=5, weights=True, seed=3),
    Case("siglip", UNEVEN, UNEVEN),
    Case("siglip", EMPTY, EMPTY, options=SUM),
    Case("siglip", UNEVEN, EMPTY, labels=4),
]


@pytest.mark.parametrize("world", (2, 3, 4))
@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.op}-{sum(c.rows)}x{sum(c.cols)}-{c.labels}-{c.options}")
def test_value_and_gradients_are_those_of_one_process(case, world):
    case = trimmed(case, world)
    answers, truth = run(case, GROUPS[world]), jobs.in_one_process(case)
    for answer in answers:
        np.testing.assert_allclose(answer["value"], truth["value"], rtol=1e-13, atol=1e-15)
    for name, gradient in jobs.joined(answers).items():
        np.testing.assert_allclose(gradient, truth[name], rtol=1e-11, atol=1e-14 * case.scale, err_msg=name)


@pytest.mark.parametrize("world", (5, 6))
@pytest.mark.parametrize("op", ("info_nce", "nt_xent", "sup_con", "siglip"))
def test_more_ranks_than_one_hop_reaches(op, world):
    rows = (2, 4, 0, 6, 2, 4)[:world]
    case = Case(op, rows, rows, labels=3 if op == "sup_con" else 0, seed=5)
    answers, truth = run(case, tuple(range(world))), jobs.in_one_process(case)
    assert len({answer["value"].item() for answer in answers}) == 1
    np.testing.assert_allclose(answers[0]["value"], truth["value"], rtol=1e-13)
    for name, gradient in jobs.joined(answers).items():
        np.testing.assert_allclose(gradient, truth[name], rtol=1e-11, atol=1e-13, err_msg=name)


PER_ROW = [
    Case("info_nce", UNEVEN, UNEVEN, options=NONE),
    Case("info_nce", UNEVEN, EMPTY, labels=4, options=AB + NONE),
    Case("info_nce", UNEVEN, EMPTY, labels=4, options=BA + NONE, weights=True),
    Case("sup_con", UNEVEN, UNEVEN, labels=4, options=NONE),
]


@pytest.mark.parametrize("case", PER_ROW, ids=lambda c: f"{c.op}-{c.options}")
def test_losses_per_row_with_an_upstream_gradient_each(case):
    answers, truth = run(case, GROUPS[4]), jobs.in_one_process(case)
    values = np.concatenate([x["value"] for x in answers])
    np.testing.assert_allclose(values, truth["value"], rtol=1e-12, atol=1e-14)
    for name, gradient in jobs.joined(answers).items():
        np.testing.assert_allclose(gradient, truth[name], rtol=1e-11, atol=1e-13, err_msg=name)


@pytest.mark.parametrize("op", ("info_nce", "nt_xent", "sup_con", "siglip"))
@pytest.mark.parametrize("scale", (20.0, 100.0))
@pytest.mark.parametrize("dtype", ("float32", "bfloat16", "float16"))
def test_low_precision_is_no_worse_than_one_process(op, dtype, scale):
    case = Case(op, (18, 32, 0, 14), (18, 32, 0, 14), dtype, labels=9 if op == "sup_con" else 0, scale=scale)
    answers, truth = run(case, GROUPS[4]), jobs.in_one_process(case)
    plain = jobs.in_one_process(case, getattr(torch, dtype))
    for answer in answers:
        assert_no_worse(answer["value"], plain["value"], truth["value"], atol=1e-6)
    for name, gradient in jobs.joined(answers).items():
        assert_no_worse(gradient, plain[name], truth[name], atol=2e-6)


@pytest.mark.parametrize("backend", ("torch", "auto"))
@pytest.mark.parametrize("op", ("info_nce", "nt_xent", "siglip"))
def test_blocks_of_several_tiles(op, backend):
    rows, options = (1100, 0, 770, 34), (("backend", backend),)
    case = Case(op, rows, rows, "float32", options=options, seed=4)
    answers, truth = run(case, GROUPS[4]), jobs.in_one_process(case._replace(options=()))
    plain = jobs.in_one_process(case._replace(options=()), torch.float32)
    assert_no_worse(answers[1]["value"], plain["value"], truth["value"], atol=2e-6)
    for name, gradient in jobs.joined(answers).items():
        # The scale's is the sum of all row dots, whose terms are many times larger than it.
        atol = 1e-6 if name == "scale" else 2e-6 * np.abs(truth[name]).max()
        assert_no_worse(gradient, plain[name], truth[name], atol=atol)


@pytest.mark.parametrize("op", ("info_nce", "sup_con", "siglip"))
def test_bits_are_the_same_every_time_and_the_value_on_every_rank(op):
    case = Case(op, PRIME, PRIME, "float32", labels=5 if op == "sup_con" else 0)
    first, second = run(case, GROUPS[4]), run(case, GROUPS[4])
    for one, two in zip(first, second, strict=True):
        assert all(np.array_equal(one[name], two[name]) for name in one)
    assert len({answer["value"].item() for answer in first}) == 1


def test_a_group_whose_ranks_are_not_the_worlds():
    case = trimmed(Case("info_nce", UNEVEN, UNEVEN), 2)
    answers, truth = run(case, (1, 3)), jobs.in_one_process(case)
    np.testing.assert_allclose(jobs.joined(answers)["b"], truth["b"], rtol=1e-11, atol=1e-14)


def test_a_group_of_one():
    case = trimmed(Case("info_nce", PRIME, PRIME), 1)
    (answer,), truth = run(case, (2,)), jobs.in_one_process(case)
    for name in truth:
        np.testing.assert_allclose(answer[name], truth[name], rtol=1e-11, atol=1e-13, err_msg=name)


def test_nan_on_one_rank_reaches_the_loss_of_all():
    answers = pool().run(jobs.with_nan, GROUPS[4], *[(Case("info_nce", UNEVEN, UNEVEN),)] * 4)
    assert all(np.isnan(value) for value in answers)


def test_gradient_factor_and_scale_gradient():
    plain = Case("info_nce", UNEVEN, UNEVEN)
    total = float(jobs.in_one_process(plain)["scale"])
    once, more = run(plain, GROUPS[4]), run(plain._replace(options=(("gradient_factor", 4.0),)), GROUPS[4])
    for a, b in zip(once, more, strict=True):
        assert np.array_equal(a["value"], b["value"])
        np.testing.assert_allclose(b["a"], 4 * a["a"], rtol=1e-13)
        np.testing.assert_allclose(a["scale"], total / 4, rtol=1e-12)  # the same on every rank, in DDP or not
        np.testing.assert_allclose(b["scale"], total, rtol=1e-12)
    summed, shares = (run(plain._replace(options=(("scale_gradient", how),)), GROUPS[4]) for how in ("sum", "share"))
    assert all(np.allclose(x["scale"], total, rtol=1e-12) for x in summed)
    assert len({float(x["scale"]) for x in shares}) == 4
    assert sum(float(x["scale"]) for x in shares) == pytest.approx(total, rel=1e-12)


def test_frozen_sides_get_no_gradient_and_need_none():
    answers = pool().run(jobs.frozen, GROUPS[4], *[(Case("info_nce", UNEVEN, UNEVEN),)] * 4)
    truth = jobs.in_one_process(Case("info_nce", UNEVEN, UNEVEN))
    np.testing.assert_allclose(np.concatenate(answers), truth["a"], rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("world", (2, 3, 4))
@pytest.mark.parametrize("op", ("info_nce", "nt_xent", "sup_con", "siglip"))
@pytest.mark.parametrize("dtype", ("float64", "float32"))
def test_rows_that_are_constants_leave_the_scale_its_gradient(op, dtype, world):
    rows = (4, 6, 0, 2)[:world]
    case = Case(op, rows, rows, dtype, labels=3 if op == "sup_con" else 0)
    ranks = (0, 1, 2, 3)[:world]
    answers = pool().run(jobs.only_the_scale_learns, ranks, *[(case,)] * world)
    truth = float(jobs.in_one_process(case)["scale"])
    assert float(sum(answers)) == pytest.approx(truth, rel=1e-12 if dtype == "float64" else 1e-4, abs=1e-7)


def test_ddp_averages_to_the_gradient_of_the_global_loss():
    answers = pool().run(jobs.under_ddp, GROUPS[4], *[(Case("info_nce", UNEVEN, UNEVEN),)] * 4)
    truth = jobs.towers_in_one_process(Case("info_nce", UNEVEN, UNEVEN))
    for answer in answers:
        for name, gradient in truth.items():
            np.testing.assert_allclose(answer[name], gradient, rtol=1e-10, atol=1e-13, err_msg=name)


def test_without_a_graph_ranks_need_not_agree_on_gradients():
    case = Case("info_nce", UNEVEN, UNEVEN)
    answers = pool().run(jobs.without_graph, GROUPS[4], *[(case,)] * 4)
    truth = [float(jobs.in_one_process(case._replace(op=op))["value"]) for op in ("info_nce", "siglip")]
    for answer in answers:
        np.testing.assert_allclose(answer, truth, rtol=1e-13)


def test_under_torch_compile():
    case = Case("info_nce", UNEVEN, UNEVEN)
    answers = pool().run(jobs.compiled, GROUPS[4], *[(case,)] * 4)
    np.testing.assert_allclose(np.concatenate(answers), 2 * jobs.in_one_process(case)["a"], rtol=1e-11, atol=1e-14)


def test_numpy_rows_give_a_float():
    case = Case("info_nce", UNEVEN, UNEVEN)
    answers = pool().run(jobs.from_numpy, GROUPS[4], *[(case,)] * 4)
    assert answers == [pytest.approx(float(jobs.in_one_process(case)["value"]), rel=1e-13)] * 4
    assert all(isinstance(answer, float) for answer in answers)
