"""Pools are runs that differ in their seed alone; their numbers are those of NumPy."""

import math

import numpy as np
import pytest

from pyfast_mmcl.report.collect import collect
from pyfast_mmcl.report.measures import COSTS, interval, mean_sd, number
from pyfast_mmcl.report.pooled import pools
from tests.report.made import grid, history, run


def test_spreads_and_matrices(tmp_path):
    table = pools(collect([grid(tmp_path)]))
    assert list(table) == ["digits · class-incremental · 3 tasks", "har · class-incremental · 3 tasks"]
    group = table["digits · class-incremental · 3 tasks"]
    last = [pool.spread("last_accuracy").mean for pool in group]
    assert {pool.label for pool in group} == {"er", "finetune", "joint"} and last == sorted(last, reverse=True)
    pool = next(pool for pool in group if pool.label == "er")
    matrices = np.stack([history("er", seed).accuracy_matrix for seed in range(3)])
    assert np.allclose(pool.mean_matrix, matrices.mean(0)) and np.allclose(pool.sd_matrix, matrices.std(0, ddof=1))
    values = matrices[:, -1].mean(1)
    found = pool.spread("last_accuracy")
    assert (found.mean, found.sd, found.count) == pytest.approx((values.mean(), values.std(ddof=1), 3))
    assert pool.spread("unheard_of") is None
    line = pool.accuracy_line()
    assert line.values[-1] == pytest.approx(100 * values.mean())
    assert line.high[-1] - line.values[-1] == pytest.approx(100 * values.std(ddof=1))
    assert math.isnan(pool.forgetting_line().values[0])


def test_differences_are_paired_by_seed(tmp_path):
    run(tmp_path / "a0", "er", 0), run(tmp_path / "a1", "er", 1), run(tmp_path / "a2", "er", 2)
    run(tmp_path / "b1", "finetune", 1), run(tmp_path / "b2", "finetune", 2)
    (group,) = pools(collect([tmp_path])).values()
    er, base = sorted(group, key=lambda pool: pool.label)
    both = [history("er", s).summary()["forgetting"] - history("finetune", s).summary()["forgetting"] for s in (1, 2)]
    found = er.difference(base, "forgetting")
    assert found.count == 2 and found.mean == pytest.approx(np.mean(both))


def test_settings_that_differ_make_pools_of_their_own(tmp_path):
    for seed in (0, 1):
        run(tmp_path / f"a{seed}", "er", seed, hyper={"capacity": 50, "beta": 1})
        run(tmp_path / f"b{seed}", "er", seed, hyper={"capacity": 500, "beta": 1})
        run(tmp_path / f"c{seed}", "si", seed, hyper={"c": 2})
    (group,) = pools(collect([tmp_path])).values()
    assert {pool.label: len(pool.runs) for pool in group} == {"er (capacity 50)": 2, "er (capacity 500)": 2, "si": 2}


def test_tasks_that_seeds_order_differently_are_numbered(tmp_path):
    run(tmp_path / "a", seed=0, T=2, tasks=["x", "y"])
    run(tmp_path / "b", seed=1, T=2, tasks=["y", "x"])
    (((pool,),)) = pools(collect([tmp_path])).values()
    assert pool.tasks == ["task 1", "task 2"]


def test_modalities_and_costs(tmp_path):
    for seed in (0, 1):
        alone = {"image": [[0.5, math.nan], [0.3 + seed / 10, math.nan]], "text": [[math.nan] * 2] * 2}
        run(tmp_path / f"a{seed}", seed=seed, T=2, by_modality=alone, trainable_parameters=[1000, 3000])
    (((pool,),)) = pools(collect([tmp_path])).values()
    assert pool.modalities == ["image", "text"] and pool.last_by_modality("text") is None
    assert pool.last_by_modality("image").mean == pytest.approx(0.35)
    assert pool.matrix_by_modality("image")[1, 0] == pytest.approx(0.35)
    costs = {cost.name: pool.cost(cost.amount) for cost in COSTS}
    assert costs["seconds"].mean == pytest.approx(2 * (0.5 + 1.5) / 2) and costs["kept_mib"].mean == 1
    assert costs["trainable_thousands"].mean == 3 and costs["peak_memory_mib"].mean == 256


def test_one_seed_has_no_spread(tmp_path):
    (((pool,),)) = pools(collect([run(tmp_path / "a")])).values()
    spread = pool.spread("last_accuracy")
    assert pool.sd_matrix is None and mean_sd(spread) == number(100 * spread.mean) and interval(spread) == ""


@pytest.mark.parametrize(
    ("value", "digits", "words"),
    [(-0.04, 1, "0.0"), (-3.14, 1, "−3.1"), (1234.5, 0, "1,234"), (math.nan, 1, "–"), (-1234.5, 2, "−1,234.50")],
)
def test_numbers_as_people_write_them(value, digits, words):
    assert number(value, digits) == words
