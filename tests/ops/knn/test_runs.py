"""`KMeansRuns` against Lloyd's loop by definition in float64."""

from __future__ import annotations

import signal

import numpy as np
import pytest
import torch

from pyfast_mmcl.ops.knn import runs as runs_module
from pyfast_mmcl.ops.knn.runs import CENTERS_REST, EMPTY_CLUSTER, LABELS_REPEAT, OUT_OF_STEPS, KMeansRuns
from tests.check import assert_same_bits


def rows(N=400, D=17, seed=0, kind="normal"):
    x = np.random.default_rng(seed).normal(size=(N, D))
    if kind == "groups":
        x += 3 * np.random.default_rng(seed).normal(size=(7, D))[np.arange(N) % 7]
    if kind == "offset":
        x += 5
    if kind == "grid":
        x = np.round(x)  # many rows lie midway between two centres, many coincide
    if kind == "lengths":
        x *= 10.0 ** np.random.default_rng(seed).integers(-3, 4, size=(N, 1))
    return torch.from_numpy(x.astype(np.float32))


def costs_of(x, centers):
    return ((x.double()[:, None] - centers.double()) ** 2).sum(-1)


def plain(x, centers, steps):
    """Labels, centres and inertia of every step, float64 sums; centres are float32."""
    for _ in range(steps):
        cost = costs_of(x, centers)
        labels = cost.argmin(1)
        yield labels, centers, float(cost.min(1).values.sum())
        sums = torch.zeros(centers.shape, dtype=torch.float64).index_add_(0, labels, x.double())
        centers = (sums / torch.bincount(labels, minlength=len(centers))[:, None]).float()


KINDS = ["normal", "groups", "offset", "grid", "lengths"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("N", "D", "K"), [(1, 1, 1), (65, 2, 3), (257, 17, 16), (120, 300, 40)])
def test_every_step_is_that_of_the_definition(isa, kind, N, D, K):
    x = rows(N, D, kind=kind)
    start = x[:: max(N // K, 1)][:K].clone() + 0.01 * torch.arange(K)[:, None]
    runs, centers, fresh = KMeansRuns(x), start.clone(), True
    for labels, where, inertia in plain(x, start, 6):
        assert_same_bits(centers, where)
        if len(labels.unique()) < K:
            break
        end, [found] = runs.advance(centers.clone(), tol=0.0, steps=0, fresh=fresh)
        assert end == OUT_OF_STEPS and found == pytest.approx(inertia, rel=1e-11)
        now = runs.assigned(K)
        assert torch.equal(now.labels, labels)
        assert torch.equal(now.counts, torch.bincount(labels, minlength=K))
        torch.testing.assert_close(now.costs, costs_of(x, where).min(1).values, rtol=1e-12, atol=1e-30)
        sums = torch.zeros(K, D, dtype=torch.float64).index_add_(0, labels, x.double())
        torch.testing.assert_close(now.sums, sums, rtol=1e-12, atol=1e-12 * float(x.abs().max()))
        centers, fresh = (now.sums / now.counts[:, None]).float(), False


def test_ends(isa):
    x = rows()
    runs, centers = KMeansRuns(x), x[:5].clone()
    end, inertias = runs.advance(centers, tol=0.0, steps=300, fresh=True)
    assert end == LABELS_REPEAT and (np.diff(inertias) <= 1e-12 * inertias[0]).all()
    again, one = runs.advance(centers, tol=0.0, steps=300, fresh=False)
    assert again == LABELS_REPEAT and one == pytest.approx(inertias[-1:])
    assert runs.advance(x[:5].clone(), tol=1e9, steps=300, fresh=True)[0] == CENTERS_REST
    end, inertias = runs.advance(x[:5].clone(), tol=0.0, steps=3, fresh=True)
    assert end == OUT_OF_STEPS and len(inertias) == 4
    far = torch.cat([x[:2], torch.full((1, 17), 1e3)])
    before = far.clone()
    assert runs.advance(far, tol=0.0, steps=9, fresh=True)[0] == EMPTY_CLUSTER
    assert_same_bits(far, before)  # the caller refills it
    assert runs.assigned(3).counts[2] == 0


def test_bits_do_not_depend_on_threads_or_instruction_set(monkeypatch):
    monkeypatch.setattr(runs_module, "_SHARED_FROM", 0)
    x = rows(700, 50, kind="groups")
    uniforms = torch.from_numpy(np.random.default_rng(0).random(1 + 19 * 4))
    results = []
    for isa in ("scalar", "avx2", "avx512", "avx512_bf16"):
        monkeypatch.setenv("PYFAST_ISA", isa)
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            runs = KMeansRuns(x)
            drawn = runs.draw(20, uniforms)
            centers = x[drawn].clone()
            _, inertias = runs.advance(centers, tol=0.0, steps=40, fresh=True)
            history = torch.tensor(inertias, dtype=torch.float64)
            results.append((drawn, centers, history, *runs.assigned(20), torch.tensor(runs.variance())))
    for found in results[1:]:
        for ours, first in zip(found, results[0], strict=True):
            assert_same_bits(ours, first)


def test_long_rows_that_leave_take_nothing_with_them(isa):
    # 1e14 added to a sum and taken away again would cost the small rows all their digits.
    x = torch.cat([rows(50, 3), torch.tensor([[1e14, 0, 0], [-1e14, 1e14, 0]])])
    runs = KMeansRuns(x)
    centers = torch.tensor([[0.0, 0, 0], [-1e14, 1e14, 0]])
    runs.advance(centers.clone(), tol=0.0, steps=0, fresh=True)
    runs.advance(torch.tensor([[0.0, 0, 0], [1e14, 1e14, 0]]), tol=0.0, steps=0, fresh=False)
    labels = costs_of(x, torch.tensor([[0.0, 0, 0], [1e14, 1e14, 0]])).argmin(1)
    now = runs.assigned(2)
    assert torch.equal(now.labels, labels)
    torch.testing.assert_close(now.sums[0], x.double()[labels == 0].sum(0), rtol=1e-12, atol=0)


def test_inertia_of_rows_on_their_centers_is_zero(isa):
    x = rows(kind="grid")[:5].repeat(20, 1)
    end, inertias = KMeansRuns(x).advance(x[:5].clone(), tol=0.0, steps=9, fresh=True)
    assert end == CENTERS_REST and inertias == [0.0, 0.0]


@pytest.mark.parametrize("far", [1e18, 2e18, 1e19, 1e25, 1e37])
def test_centers_whose_squares_leave_float32(isa, far):
    # Lanes behind the last centre stand 2^60 away: they must not win, wherever the centres are.
    x = rows(70, 4)
    for near in (False, True):
        centers = torch.full((3, 4), far) * torch.tensor([[1.0], [-1.0], [2.0]])
        centers[1] = x[0] if near else centers[1]
        runs = KMeansRuns(x)
        runs.advance(centers.clone(), tol=0.0, steps=0, fresh=True)
        assert not runs.reach(centers)
        assert torch.equal(runs.assigned(3).labels, costs_of(x, centers).argmin(1))


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers here")
def test_an_interrupt_does_not_wait_for_the_end_of_a_run():
    x = rows(20_000, 32)
    runs, done, cut = KMeansRuns(x), x[:64].clone(), x[:64].clone()
    end, _ = runs.advance(done, tol=0.0, steps=10_000, fresh=True)
    assert end == LABELS_REPEAT

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        with pytest.raises(KeyboardInterrupt):
            runs.advance(cut, tol=0.0, steps=10_000, fresh=True)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert not torch.equal(cut, done)


def test_variance_and_manners():
    x = rows(kind="offset")
    assert KMeansRuns(x).variance() == pytest.approx(float(x.double().var(0, unbiased=False).mean()), rel=1e-12)
    assert not KMeansRuns(x + 1e4).centred and not KMeansRuns(x + 1e4).pays
    assert KMeansRuns(x).pays and KMeansRuns.sized(600, 512) and not KMeansRuns.sized(600, 513)
    assert not KMeansRuns.sized(10**8, 10)
    assert not KMeansRuns(x * 1e-15).pays and not KMeansRuns(x * 1e16).squares_fit
    assert not KMeansRuns.usable(x.double()) and not KMeansRuns.usable(x.half()) and not KMeansRuns.usable(x[:0])
    assert KMeansRuns.usable(x[:, :1]) and KMeansRuns.usable(x[::2, 1:]) and not KMeansRuns.usable(x[:, ::2])


def test_strided_rows(isa):
    x = rows(200, 40)
    for part in (x[::2, 3:20], x[:, :1], x.T.contiguous().T[:, :1]):
        ours, copy = KMeansRuns(part), KMeansRuns(part.clone(memory_format=torch.contiguous_format))
        a, b = part[:4].clone(memory_format=torch.contiguous_format), part[:4].contiguous().clone()
        assert ours.advance(a, tol=0.0, steps=20, fresh=True) == copy.advance(b, tol=0.0, steps=20, fresh=True)
        assert_same_bits(a, b)


# Draws


def greedy(x, K, uniforms, weights):
    """k-means++ by definition, on the same numbers."""
    weights = weights.numpy()
    trials = (len(uniforms) - 1) // max(K - 1, 1)
    cost, chosen = np.ones(len(x)), []
    for k in range(K):
        running = np.cumsum(cost * weights)
        few = uniforms[:1] if k == 0 else uniforms[1 + (k - 1) * trials : 1 + k * trials]
        candidates = np.searchsorted(running, few.numpy() * running[-1], side="right")
        fresh = costs_of(x, x[candidates]).numpy()
        fresh = np.minimum(fresh, cost[:, None]) if k else fresh
        best = int((fresh * weights[:, None]).sum(0).argmin())
        cost = fresh[:, best]
        chosen.append(int(candidates[best]))
    return chosen


@pytest.mark.parametrize("kind", ["normal", "groups", "offset"])
@pytest.mark.parametrize(("N", "D", "K", "trials"), [(1, 1, 1, 2), (300, 16, 9, 4), (257, 33, 20, 5), (200, 5, 64, 6)])
def test_draw_is_greedy_k_means_plus_plus(isa, kind, N, D, K, trials):
    x = rows(N, D, kind=kind)
    uniforms = torch.from_numpy(np.random.default_rng(1).random(1 + (K - 1) * trials))
    weights = torch.from_numpy(np.random.default_rng(2).integers(0, 3, N) + (N == 1))
    drawn = KMeansRuns(x).draw(K, uniforms, weights.double())
    assert drawn.tolist() == greedy(x, K, uniforms, weights.double())


@pytest.mark.parametrize("value", [0.0, float(np.nextafter(1.0, 0.0))])
def test_draw_at_the_ends_of_the_range(isa, value):
    x = rows(50, 4)
    weights = torch.zeros(50, dtype=torch.float64)
    weights[[3, 20, 41]] = 1.0
    drawn = KMeansRuns(x).draw(3, torch.full((1 + 2 * 3,), value, dtype=torch.float64), weights)
    assert sorted(drawn.tolist()) == [3, 20, 41]


def test_draw_ends_where_rows_run_out(isa):
    x = rows(3, 5).repeat(10, 1)
    drawn = KMeansRuns(x).draw(8, torch.from_numpy(np.random.default_rng(0).random(1 + 7 * 4)))
    assert len(drawn) == 3 and len(x[drawn].unique(dim=0)) == 3
