"""float64 pair scores and exhaustive ranking: plain torch on any device, and the CUDA kernel against it on a GPU."""

import pytest
import torch

from pyfast_mmcl import _native
from pyfast_mmcl.ops.knn import exact_cuda
from pyfast_mmcl.ops.knn.reference import knn_reference

METRICS = ("l2", "ip", "cosine")
NO_SELF = -torch.ones(7, dtype=torch.int64)


@pytest.mark.parametrize("D", [1, 2, 7, 16, 97])
def test_halving_sum(D: int) -> None:
    values = torch.randn(5, 3, D, dtype=torch.float64)
    torch.testing.assert_close(exact_cuda.halving_sum(values.clone()), values.sum(-1), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("metric", METRICS)
def test_a_score_depends_on_its_two_rows_alone(metric: str) -> None:
    # Equal rows must tie in every bit wherever they stand, or ties would not go to the smaller index.
    q, x = torch.randn(3, 37), torch.randn(1, 37).expand(300, -1)
    rows, ids = torch.cartesian_prod(torch.arange(3), torch.arange(300)).unbind(1)
    scores = exact_cuda.torch_pair_scores(q, x, rows, ids, metric).view(3, 300)
    assert torch.equal(scores, scores[:, :1].expand(-1, 300))
    for count in (1, 2, 31, 257):
        assert torch.equal(exact_cuda.torch_pair_scores(q, x, rows[:count], ids[:count], metric), scores[0, :count])


@pytest.mark.parametrize("metric", METRICS)
def test_pair_scores_in_blocks(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    q, x = torch.randn(7, 12), torch.randn(9, 12)
    rows, ids = torch.cartesian_prod(torch.arange(7), torch.arange(9)).unbind(1)
    whole = exact_cuda.pair_scores(q, x, rows, ids, metric)
    monkeypatch.setattr(exact_cuda, "BLOCK_VALUES", 5 * 12)
    assert torch.equal(exact_cuda.pair_scores(q, x, rows, ids, metric), whole)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("k", [1, 4, 30, 35])
def test_exhaustive_equals_the_reference(metric: str, k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact_cuda, "BLOCK_VALUES", 8 * 5)
    monkeypatch.setattr(exact_cuda, "BLOCK_PAIRS", 7 * 11)
    q, x = torch.randn(7, 8), torch.randn(30, 8).round()
    x[20:] = x[:10]
    x[4, 0], x[9, 1], x[11] = torch.nan, torch.inf, 0
    key, ids = exact_cuda.exhaustive(q, x, k, metric, NO_SELF)
    scores, best = knn_reference(q, x, k, metric)
    assert torch.equal(ids, best)
    torch.testing.assert_close(exact_cuda.distances_of(key, metric), scores, rtol=1e-12, atol=1e-12, equal_nan=True)


def test_exhaustive_names_rows_and_leaves_out_the_own_one() -> None:
    x = torch.randn(12, 5)
    names = torch.arange(12) * 10
    _, ids = exact_cuda.exhaustive(x[:7], x, 12, "l2", names[:7], names)
    assert (ids[:, -1] == -1).all() and not (ids == names[:7, None]).any()
    assert torch.equal(ids[:, :-1].sort(dim=1).values, torch.stack([names[names != own] for own in names[:7]]))


def test_missing_entries_stay_behind_infinite_and_nan_rows() -> None:
    key, ids = torch.tensor([[torch.inf, torch.inf]]).double(), torch.tensor([[-1, 7]])
    more_key, more_ids = torch.tensor([[torch.nan, 1.0]]).double(), torch.tensor([[3, 5]])
    key, ids = exact_cuda.merge_best(key, ids, more_key, more_ids, 4)
    assert ids.tolist() == [[5, 7, 3, -1]] and key[0, 2].isnan()


def test_best_of_pairs_of_rows_with_too_few_pairs() -> None:
    rows, ids = torch.tensor([2, 0, 2, 2]), torch.tensor([9, 4, 3, 1])
    key, best = exact_cuda.best_of_pairs(3, 2, rows, ids, torch.tensor([1.0, 5.0, 1.0, 2.0]).double())
    assert best.tolist() == [[4, -1], [-1, -1], [3, 9]]
    assert key.tolist() == [[5.0, torch.inf], [torch.inf, torch.inf], [1.0, 1.0]]


@pytest.mark.gpu
@pytest.mark.skipif(not _native.info()["cuda"], reason="the compiled module was built without CUDA")
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("D", [1, 7, 8, 9, 100, 768])
def test_cuda_kernel_agrees_with_torch(metric: str, dtype: torch.dtype, D: int) -> None:
    q, x = torch.randn(33, D, device="cuda").to(dtype), torch.randn(129, 2 * D, device="cuda").to(dtype)[:, ::2]
    x[5] = 0
    rows, ids = torch.randint(33, (1000,), device="cuda"), torch.randint(129, (1000,), device="cuda")
    scores = exact_cuda.native_pair_scores(q, x, rows, ids, metric)
    truth = exact_cuda.torch_pair_scores(q, x, rows, ids, metric)
    torch.testing.assert_close(scores, truth, rtol=1e-13, atol=1e-13)
    assert exact_cuda._native_self_check(q.device) == ""
