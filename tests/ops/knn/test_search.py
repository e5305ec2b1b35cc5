"""`knn` equals the float64 ranking: every instruction set, metric, awkward size, layout and adversarial set."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyfast_mmcl.ops.knn import PackedRows, knn
from pyfast_mmcl.ops.knn.reference import knn_reference
from tests.check import assert_same_bits, layouts
from tests.ops.knn.truth import METRICS, SETS, assert_exact


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("d", [1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 64, 97, 128, 300])
def test_every_width(isa, metric, d):
    q, x = torch.randn(19, d), torch.randn(301, d)
    assert_exact(*knn(q, x, 11, metric=metric, backend="native"), q, x, 11, metric)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("n", [0, 1, 2, 3, 5, 11, 12, 13, 25, 65])
def test_every_number_of_queries(isa, metric, n):
    q, x = torch.randn(n, 24), torch.randn(129, 24)
    assert_exact(*knn(q, x, 5, metric=metric, backend="native"), q, x, 5, metric)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("m", [0, 1, 7, 15, 16, 17, 31, 32, 33, 63, 127, 1025])
def test_every_number_of_rows(isa, metric, m):
    q, x = torch.randn(14, 20), torch.randn(m, 20)
    for k in (1, 3, 40):  # 40 exceeds several of the databases: padding
        assert_exact(*knn(q, x, k, metric=metric, backend="native"), q, x, k, metric)


@pytest.mark.parametrize("k", [1, 2, 10, 100, 500, 1024, 1500, 1501, 3000])
def test_every_k(isa, k):
    q, x = torch.randn(9, 16), torch.randn(1500, 16)
    assert_exact(*knn(q, x, k, backend="native"), q, x, k, "l2")


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("k", [1, 10])
def test_adversarial_sets(isa, name, metric, k):
    x = SETS[name](700, 48)
    q = torch.cat([x[::70] + 0, SETS[name](13, 48)])
    assert_exact(*knn(q, x, k, metric=metric, backend="native"), q, x, k, metric)


@pytest.mark.parametrize("d", [768, 1024, 2048])
@pytest.mark.parametrize("name", ["gaussian", "offset", "near_duplicates", "all_equal"])
def test_wide_rows(isa, name, d):
    x = SETS[name](150, d)
    q = torch.cat([x[:4], SETS[name](5, d)])
    assert_exact(*knn(q, x, 7, backend="native"), q, x, 7, "l2")


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_dtypes_and_layouts(isa, metric, dtype):
    q, x = torch.randn(23, 37).to(dtype), torch.randn(260, 37).to(dtype)
    first = knn(q, x, 6, metric=metric, backend="native")
    assert_exact(*first, q, x, 6, metric)
    for name, strided_x in layouts(x):
        for _, strided_q in layouts(q):
            for a, b in zip(first, knn(strided_q, strided_x, 6, metric=metric, backend="native"), strict=True):
                assert_same_bits(a, b), name


def test_mixed_dtypes(isa):
    q, x = torch.randn(9, 33), torch.randn(100, 33).to(torch.bfloat16)
    assert_exact(*knn(q, x, 4, backend="native"), q, x, 4, "l2")


def test_all_float16_values(isa):
    """Every finite half-precision number, denormals and both zeros included, is read correctly."""
    bits = torch.arange(65536, dtype=torch.int32).to(torch.uint16).view(torch.float16)
    x = bits[bits.isfinite()].reshape(-1, 31)[:, :1]
    q = torch.tensor([[0.0], [1e-7], [-3.1e-5], [60000.0]]).half()
    assert_exact(*knn(q, x, 20, backend="native"), q, x, 20, "l2")
    wide = torch.cat([x, x.flip(0)] * 9, dim=1)  # the vectorised reader
    assert_exact(*knn(wide[:5], wide, 9, backend="native"), wide[:5], wide, 9, "l2")


@pytest.mark.parametrize("metric", METRICS)
def test_nan_and_infinity_come_last(isa, metric):
    q, x = torch.randn(8, 24), torch.randn(90, 24)
    x[3, 5], x[40], x[41, 0], x[77, 1] = torch.nan, torch.nan, torch.inf, -torch.inf
    q[2, 0], q[5, 3] = torch.nan, torch.inf
    for k in (5, 90, 95):
        d, i = knn(q, x, k, metric=metric, backend="native")
        want_d, want_i = knn_reference(q, x, k, metric)
        assert torch.equal(i, want_i)
        torch.testing.assert_close(d, want_d.float(), equal_nan=True, rtol=1e-6, atol=0)


def test_rows_beyond_the_safe_range_take_the_exact_path(isa):
    x = torch.randn(200, 16)
    x[[5, 50, 150]] *= torch.tensor([1e25, 1e30, 3e37])[:, None]
    q = torch.cat([torch.randn(6, 16), x[[5, 150]] * 1.001])
    assert_exact(*knn(q, x, 12, backend="native"), q, x, 12, "l2")


@pytest.mark.parametrize("metric", METRICS)
def test_exclude_self(isa, metric):
    x = torch.cat([torch.randn(60, 18), torch.randn(3, 18).repeat(9, 1)])
    d, i = knn(x, x, 7, metric=metric, exclude_self=True, backend="native")
    want_d, want_i = knn_reference(x, x, 7, metric, exclude_self=True)
    assert not (i == torch.arange(len(x))[:, None]).any()
    assert torch.equal(i, want_i)
    torch.testing.assert_close(d, want_d.float(), rtol=1e-6, atol=1e-6)
    d, i = knn(x, x, len(x), metric=metric, exclude_self=True, backend="native")
    assert (i[:, -1] == -1).all() and (i[:, :-1] >= 0).all()


@pytest.mark.parametrize("backend", ["native", "torch"])
@pytest.mark.parametrize("exclude_self", [False, True])
def test_groups(isa, backend, exclude_self):
    x = torch.randn(120, 12)
    groups = torch.randint(0, 6, (120,)) * 1000 - 3
    d, i = knn(x, x, 9, groups=groups, exclude_self=exclude_self, backend=backend)
    for row in range(120):
        members = (groups == groups[row]).nonzero()[:, 0]
        members = members[members != row] if exclude_self else members
        dist = (x[row].double() - x[members].double()).square().sum(1)
        order = dist.argsort(stable=True)[:9]
        want = torch.full((9,), -1)
        want[: len(order)] = members[order]
        assert torch.equal(i[row], want)
        assert torch.isinf(d[row, len(order) :]).all()


def test_groups_of_two_sides_and_of_a_bank(isa):
    q, x = torch.randn(10, 8), torch.randn(50, 8)
    query_groups, row_groups = np.arange(10) % 4, torch.arange(50) % 3  # nobody in the database is in group 3
    d, i = knn(q, x, 60, groups=(query_groups, row_groups), backend="native")
    assert (i[query_groups == 3] == -1).all() and torch.isinf(d[query_groups == 3]).all()
    assert all((row_groups[i[r][i[r] >= 0]] == query_groups[r]).all() for r in range(10))
    again = knn(q, PackedRows(x), 60, groups=(query_groups, row_groups), backend="native")
    assert_same_bits(i, again[1])


@pytest.mark.parametrize("metric", METRICS)
def test_same_bits_for_every_thread_count_isa_and_path(metric, monkeypatch):
    q, x = torch.randn(130, 40), torch.randn(2500, 40)
    x[1000:1400] = x[:400]
    results = []
    for isa in ("scalar", "avx2", "avx512", "avx512_bf16"):
        monkeypatch.setenv("PYFAST_ISA", isa)
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(knn(q, x, 12, metric=metric, backend="native"))
        results.append(knn(q, PackedRows(x, metric), 12, metric=metric, backend="native"))
    for distances, indices in results[1:]:
        assert_same_bits(distances, results[0][0])
        assert_same_bits(indices, results[0][1])


def test_streamed_database_and_many_passes(isa, tmp_path):
    """A memory map bigger than the shared bank's limit is packed block by block, in several passes over the queries."""
    m, d = (90_000, 96) if isa == "avx512_bf16" else (45_000, 96)
    path = tmp_path / "rows.npy"
    rng = np.random.default_rng(0)
    rows = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(m, d))
    rows[:] = rng.standard_normal((m, d), dtype=np.float32)
    rows.flush()
    mapped = np.load(path, mmap_mode="r")
    q = rng.standard_normal((5, d), dtype=np.float32)
    distances, indices = knn(q, mapped, 6, backend="native")
    assert isinstance(indices, np.ndarray) and distances.dtype == np.float32
    assert_exact(
        torch.from_numpy(distances), torch.from_numpy(indices), torch.from_numpy(q), torch.from_numpy(rows), 6, "l2"
    )


def test_more_queries_than_one_pass(isa):
    x, q = torch.randn(40, 8), torch.randn(20_000, 8)
    _d, i = knn(q, x, 2, backend="native")
    want = torch.cdist(q.double(), x.double()).topk(2, largest=False)
    assert torch.equal(i, want.indices)


@given(st.data())
def test_random_shapes_and_values(data):
    n, m, d = (data.draw(st.integers(a, b)) for a, b in ((0, 40), (0, 200), (1, 70)))
    k = data.draw(st.integers(1, 220))
    metric = data.draw(st.sampled_from(METRICS))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**31)))
    levels = data.draw(st.sampled_from([2, 5, 10**6]))  # few levels make many ties
    q, x = (torch.randint(-levels, levels + 1, (r, d), generator=generator).float() for r in (n, m))
    shift = data.draw(st.sampled_from([0.0, 3.0, 1e5]))
    assert_exact(*knn(q + shift, x + shift, k, metric=metric, backend="native"), q + shift, x + shift, k, metric)


def test_torch_backend_agrees_with_the_truth():
    for metric in METRICS:
        for name in ("gaussian", "duplicates", "some_zero_rows", "offset"):
            q, x = SETS[name](11, 20), SETS[name](333, 20)
            assert_exact(*knn(q, x, 9, metric=metric, backend="torch"), q, x, 9, metric)


def test_float64_runs_on_the_reference_and_stays_float64():
    q, x = torch.randn(5, 9, dtype=torch.float64), torch.randn(60, 9, dtype=torch.float64)
    d, i = knn(q, x, 4)
    assert d.dtype == torch.float64
    assert torch.equal(i, torch.cdist(q, x).topk(4, largest=False).indices)


def test_numpy_in_numpy_out():
    q, x = np.random.default_rng(0).standard_normal((2, 30, 5)).astype(np.float32)
    d, i = knn(q, x[::-1], 3)
    dt, it = knn(torch.from_numpy(q), torch.from_numpy(x[::-1].copy()), 3)
    assert isinstance(d, np.ndarray) and np.array_equal(i, it.numpy()) and np.array_equal(d, dt.numpy())


def test_under_torch_compile():
    q, x = torch.randn(6, 8), torch.randn(40, 8)
    compiled = torch.compile(lambda a, b: knn(a * 2, b * 2, 3), fullgraph=True, backend="eager")
    for a, b in zip(compiled(q, x), knn(q * 2, x * 2, 3), strict=True):
        assert_same_bits(a, b)
    torch.library.opcheck(torch.ops.pyfast_mmcl.knn, (q, x, 3, "l2", False, "auto"), test_utils="test_schema")
    torch.library.opcheck(torch.ops.pyfast_mmcl.knn, (q, x, 3, "l2", False, "auto"), test_utils="test_faketensor")


def test_inputs_that_need_gradients_are_accepted():
    q = torch.randn(4, 6, requires_grad=True)
    d, i = knn(q, q, 2)
    assert not d.requires_grad and torch.equal(i[:, 0], torch.arange(4))


@pytest.mark.parametrize("scale", [1e-38, 1e36, 3e37])
def test_cosine_at_the_ends_of_the_float_range(isa, scale):
    """1 / |x| leaves the normal numbers near |x| = 2^126: such rows must not be screened with a wrong unit vector."""
    base = torch.randn(64)
    x = (base + 1e-4 * torch.randn(300, 64)) * scale / 4
    q = (base + 1e-4 * torch.randn(20, 64)) * scale / 4
    assert_exact(*knn(q, x, 5, metric="cosine", backend="native"), q, x, 5, "cosine")
    assert_exact(*knn(q / scale, x, 5, metric="cosine", backend="native"), q / scale, x, 5, "cosine")


@pytest.mark.parametrize("metric", METRICS)
def test_a_wide_row_just_inside_the_safe_range(isa, metric):
    x = torch.randn(600, 4500) / 67
    x[301] *= 0.95 * 2.0**60  # not among the rows the scale is chosen from
    q = torch.cat([x[:3], x[300:302] * 1.01, torch.full((1, 4500), torch.nan)])
    d, i = knn(q, x, 4, metric=metric, backend="native")
    assert_exact(d[:5], i[:5], q[:5], x, 4, metric)
    assert torch.equal(i[5], torch.arange(4)) and d[5].isnan().all()


def test_many_rows_that_cannot_be_screened(isa):
    x = torch.randn(9000, 6)
    x[torch.arange(9000) % 10 > 0] = torch.nan
    d, i = knn(x[:20:10], x, 1000, backend="native")
    good = torch.arange(0, 9000, 10)
    assert set(i[0, :900].tolist()) == set(good.tolist())
    assert d[:, 900:].isnan().all() and torch.equal(i[1, 900:905], torch.tensor([1, 2, 3, 4, 5]))


def test_groups_of_empty_sides():
    x = torch.randn(5, 3)
    none = torch.zeros(0, dtype=torch.long)
    for q, db in ((x, x[:0]), (x[:0], x), (x[:0], x[:0])):
        for backend in ("native", "torch"):
            groups = (none.new_zeros(len(q)), none.new_zeros(len(db)))
            _, i = knn(q, db, 2, groups=groups, backend=backend)
            assert i.shape == (len(q), 2) and (i == -1).all()


def test_groups_in_a_streamed_database(isa):
    """Row numbers and on-the-fly packing together."""
    x = torch.randn(60_000, 160)
    groups = torch.arange(60_000) % 2
    q, mine = x[:6] + 0.01, torch.tensor([0, 1, 0, 1, 1, 0])
    _, i = knn(q, x, 3, groups=(mine, groups), backend="native")
    distance = (q.double()[:, None] - x.double()).square().sum(-1).masked_fill(groups != mine[:, None], torch.inf)
    assert torch.equal(i, distance.topk(3, largest=False).indices)


def test_negated_views_and_expanded_rows(isa):
    z = torch.randn(40, 8, dtype=torch.complex64)
    negated = z.conj().imag  # torch flips the sign lazily, which raw memory does not show
    assert torch.equal(knn(negated, negated.resolve_neg(), 1, backend="native")[1][:, 0], torch.arange(40))
    one = torch.randn(1, 8).expand(30, 8)
    assert torch.equal(knn(one[:2], one, 4, backend="native")[1], torch.arange(4).expand(2, 4))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_searches(isa):
    q, x = torch.randn(50, 16), torch.randn(2000, 16)
    want = knn(q, x, 3, backend="native")[1]
    child = os.fork()
    if child == 0:
        os._exit(0 if torch.equal(knn(q, x, 3, backend="native")[1], want) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert torch.equal(knn(q, x, 3, backend="native")[1], want)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("ratio", [1e-15, 1e15])
def test_queries_of_another_magnitude(isa, metric, ratio):
    """Where float64 itself rounds scores together, ties still go to the smaller index of equal scores."""
    x = torch.randint(-2, 3, (400, 12)).float()
    q = torch.randint(-2, 3, (30, 12)).float() * ratio
    d, i = knn(q, x, 15, metric=metric, backend="native")
    assert_exact(d, i, q, x, 15, metric)
    scalar_like = knn_reference(q, x, 15, metric)
    if metric == "ip":  # exact in float64: the whole ranking is decided
        assert torch.equal(i, scalar_like[1])
