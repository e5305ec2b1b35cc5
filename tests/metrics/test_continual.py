"""Golden tables of every definition, and what must hold for any matrix."""

import math

import numpy as np
import pytest
import torch

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.metrics import continual as m

SMALL = [[90, 20, 10, 30], [80, 85, 15, 25], [70, 86, 95, 40], [60, 78, 96, 88]]

# ZSCL on the eleven tasks of MTIL, order I, rounded to one decimal (Zheng et al. 2023).
MTIL = np.array(
    """
    55.1 86.0 66.3 44.9 49.2 70.6 88.3 53.6 87.4 61.3 65.7
    48.9 94.2 68.6 44.7 50.4 67.0 87.6 55.2 85.0 61.0 65.9
    47.1 93.1 86.2 46.5 50.1 68.8 87.7 63.4 87.6 60.6 67.4
    47.0 93.8 85.0 76.2 51.7 69.9 87.8 65.9 88.4 61.2 67.2
    46.1 92.8 84.0 75.0 97.8 69.1 87.1 67.6 88.0 60.3 67.1
    43.8 92.5 83.2 73.5 97.2 96.3 87.1 63.3 86.5 58.8 66.9
    44.3 92.2 82.9 71.2 96.8 93.8 92.2 63.5 87.3 60.3 67.9
    41.9 91.9 80.5 67.8 95.3 89.5 91.9 99.0 84.4 58.4 66.5
    41.6 91.8 81.3 68.2 95.7 90.7 92.0 98.8 95.3 58.9 66.4
    39.8 91.9 81.8 68.9 95.7 91.6 91.8 98.8 94.5 85.8 67.3
    40.6 92.2 81.3 70.5 94.8 90.5 91.9 98.7 93.9 85.3 80.2
    """.split(),
    dtype=float,
).reshape(11, 11)


@pytest.mark.parametrize(
    ("measure", "expected"),
    [
        (m.last_accuracy, 80.5),
        (m.average_incremental_accuracy, 84.1667),
        (m.lower_triangle_accuracy, 82.8),
        (m.forgetting, 12.3333),
        (m.forgetting_first_last, 12.0),
        (m.forgetting_including_last, 12.6667),
        (m.forgetting_global_maximum, 15.5),
        (m.backward_transfer, -12.0),
        (m.backward_transfer_all_stages, -10.8333),
        (m.forward_transfer_without_initial, 25.0),
        (m.zero_shot_transfer, 21.3889),
        (m.overall_average, 60.5),
    ],
)
def test_golden_small(measure, expected):
    assert measure(SMALL) == pytest.approx(expected, abs=5e-5)


def test_golden_small_with_further_inputs():
    assert m.pooled_last_accuracy(SMALL, [100, 200, 100, 400]) == pytest.approx(83.0)
    assert m.forward_transfer(SMALL, [10] * 4) == pytest.approx(15.0)


@pytest.mark.parametrize(
    ("measure", "expected"),
    [
        (m.zero_shot_transfer, 68.14),
        (m.overall_average, 75.39),
        (m.last_accuracy, 83.62),
        (m.forgetting, 3.85),
        (m.forgetting_first_last, 3.85),
        (m.backward_transfer_all_stages, -4.26),
        (m.forgetting_global_maximum, 15.39),
        (m.average_incremental_accuracy, 77.60),
        (m.forward_transfer_without_initial, 68.30),
    ],
)
def test_golden_mtil(measure, expected):
    # The published row was computed before rounding the matrix to one decimal.
    assert measure(MTIL) == pytest.approx(expected, abs=0.03)


# Zero-shot CLIP ViT-B/16 on the same tasks: it never trains, so every row is this one (Zheng et al. 2023).
CLIP = np.array([24.3, 88.4, 68.2, 44.6, 54.9, 71.0, 88.5, 59.4, 89.0, 64.7, 65.2])
ORDER_2 = [9, 6, 7, 8, 5, 10, 0, 1, 3, 4, 2]


@pytest.mark.parametrize(("order", "transfer"), [(list(range(11)), 69.4), (ORDER_2, 65.4)])
def test_golden_zero_shot(order, transfer):
    A = np.tile(CLIP[order], (11, 1))
    assert m.zero_shot_transfer(A) == pytest.approx(transfer, abs=0.06)
    assert m.overall_average(A) == pytest.approx(65.3, abs=0.06)
    assert m.last_accuracy(A) == pytest.approx(65.3, abs=0.06)
    assert m.forgetting(A) == 0 and m.backward_transfer_all_stages(A) == 0


def test_curves_end_at_the_measures():
    assert m.accuracy_after_each(SMALL) == pytest.approx([90, 82.5, 251 / 3, 80.5])
    assert m.forgetting_after_each(SMALL) == pytest.approx([math.nan, 10, 9.5, 37 / 3], nan_ok=True)
    assert m.forgetting_of_each(SMALL) == pytest.approx([30, 8, -1])
    rng = np.random.default_rng(3)
    for T in (1, 2, 5):
        A = rng.random((T, T))
        assert m.accuracy_after_each(A).mean() == pytest.approx(m.average_incremental_accuracy(A))
        assert m.forgetting_after_each(A)[-1] == pytest.approx(m.forgetting(A), nan_ok=True)
        if T > 1:
            assert m.forgetting_of_each(A).mean() == pytest.approx(m.forgetting(A))


def test_other_names_of_the_same_measure():
    assert m.final_average_performance(SMALL) == pytest.approx(80.5)
    assert m.average_forgetting(SMALL) == pytest.approx(12.3333, abs=5e-5)


def test_relations_that_hold_for_every_matrix():
    rng = np.random.default_rng(0)
    for T in (2, 3, 7):
        A = rng.random((T, T))
        assert m.forgetting_including_last(A) >= max(0.0, m.forgetting(A)) - 1e-12
        assert m.backward_transfer(A) == -m.forgetting_first_last(A)
        assert m.pooled_last_accuracy(A, [5] * T) == pytest.approx(m.last_accuracy(A))
        assert m.forward_transfer(A, [0.0] * T) == pytest.approx(m.forward_transfer_without_initial(A))
        assert m.forgetting(A + 3) == pytest.approx(m.forgetting(A))
    assert m.forgetting(np.eye(3)) == 1.0 and m.forgetting(np.ones((3, 3))) == 0.0


def test_accuracy_counts_rows_and_whole_answers():
    scores = torch.tensor([[1.0, 2.0], [3.0, 0.0], [0.0, 1.0]])
    batches = [(scores[:2], torch.tensor([1, 1])), (scores[2:], torch.tensor([1]))]
    assert m.accuracy(batches) == pytest.approx(2 / 3)
    answers = torch.stack([scores, scores], 1)
    assert m.accuracy([(answers, torch.tensor([[1, 1], [0, 1], [1, 1]]))]) == pytest.approx(2 / 3)
    with pytest.raises(InputError, match="at least one row"):
        m.accuracy([])
    with pytest.raises(InputError, match="do not fit"):
        m.accuracy([(scores, torch.tensor([1, 1]))])


def test_climb_is_relative_to_chance():
    assert m.relative_to_chance(60, 70, 50) == pytest.approx(-0.5)
    with pytest.raises(InputError, match="chance"):
        m.relative_to_chance(60, 50, 50)


def test_climb_measures_by_hand():
    """A task with chance 20, learnt alone to 70; 60 in the stream, 45 at its end."""
    assert m.upstream_transfer(60, 70, 20) == pytest.approx(-0.2)
    assert m.relative_forgetting(60, 45, 20) == pytest.approx(15 / 40)
    assert m.relative_forgetting(60, 20, 20) == 1 and m.relative_forgetting(60, 60, 20) == 0
    assert m.low_shot_transfer(40, 30, 20) == 1


def test_one_task_has_accuracy_and_no_forgetting():
    assert m.last_accuracy([[0.5]]) == 0.5
    assert math.isnan(m.forgetting([[0.5]])) and math.isnan(m.zero_shot_transfer([[0.5]]))


def test_summary_names_every_measure_and_leaves_the_matrix_alone():
    A = np.array(SMALL, dtype=float)
    values = m.summary(A, [10] * 4)
    assert values["forgetting"] == m.forgetting(A) and values["forward_transfer"] == pytest.approx(15.0)
    assert "forward_transfer" not in m.summary(A)
    assert np.array_equal(A, np.array(SMALL, dtype=float))


@pytest.mark.parametrize("bad", [[[1, 2]], [1.0], [], [[math.nan]], np.zeros((2, 3))])
def test_bad_matrices_are_refused(bad):
    with pytest.raises(InputError, match="accuracy matrix"):
        m.last_accuracy(bad)


def test_bad_companions_are_refused():
    with pytest.raises(InputError, match="sizes"):
        m.pooled_last_accuracy(SMALL, [1, 2])
    with pytest.raises(InputError, match="initial"):
        m.forward_transfer(SMALL, [math.nan] * 4)


def test_answers_that_are_no_number_are_wrong():
    nan, inf = math.nan, math.inf
    scores = torch.tensor([[nan, nan], [nan, 1.0], [2.0, -inf], [1.0, nan]])
    assert m.accuracy([(scores, torch.zeros(4, dtype=torch.int64))]) == 0.25
    with pytest.raises(InputError, match="sizes"):
        m.pooled_last_accuracy(SMALL, [1, 2, nan, 4])
