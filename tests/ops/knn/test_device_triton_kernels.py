"""First use, streams, reuse of compiled kernels and large shapes of the Triton search.

On a machine with a GPU these run compiled (``pytest -m gpu``); elsewhere `test_search_triton.py` runs this file in a
process of its own under Triton's interpreter, which must be switched on before Triton is imported.
"""

import pytest
import torch

from tests.ops.knn.triton_cases import DEVICE, INTERPRETED, MARKS, METRICS, draw, need_kernels, truth

need_kernels()
pytestmark = MARKS

from pyfast_mmcl.ops.knn import bank_triton, exact_cuda, pack_triton, scan_triton, search_triton  # noqa: E402
from pyfast_mmcl.ops.knn.search_triton import available, knn_triton, nearest_triton, self_check  # noqa: E402


def test_available_and_self_check() -> None:
    usable, reason = available(DEVICE)
    assert usable, reason
    assert self_check(DEVICE) == ""


def test_self_check_notices_a_wrong_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    good = scan_triton.query_bounds

    def too_small(*args):
        bounds = good(*args)
        # A bound of minus one drops rows that belong to the answer.
        bounds.slack = bounds.slack - 1e3
        return bounds

    monkeypatch.setattr(bank_triton, "query_bounds", too_small)
    assert self_check(DEVICE) != ""


@pytest.mark.parametrize("failure", ["wrong", "raises"])
def test_a_failed_first_use_disables_the_kernels_with_a_reason(failure: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def check(device: torch.device) -> str:
        if failure == "raises":
            raise RuntimeError("no C compiler\nand more")
        return "l2 neighbours"

    monkeypatch.setattr(search_triton, "self_check", check)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    with pytest.warns(UserWarning, match="not used: the self-check on cuda:0"):
        usable, reason = search_triton._first_use(torch.device("cuda", 0))
    assert not usable and reason.endswith("no C compiler" if failure == "raises" else "wrong l2 neighbours")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    usable, reason = search_triton._first_use(torch.device("cuda", 0))
    assert not usable and "7.5" in reason


@pytest.mark.skipif(INTERPRETED, reason="needs a CUDA device: streams")
def test_side_stream() -> None:
    q, x = draw(300, 64), draw(5000, 64, seed=1)
    expected = truth(q, x, 10, "l2")[1]
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        _, ids = knn_triton(q, x, 10)
    torch.cuda.current_stream().wait_stream(stream)
    assert torch.equal(ids, expected)


@pytest.mark.skipif(INTERPRETED, reason="needs a CUDA device: compiled kernels")
def test_no_recompilation_when_N_and_M_change() -> None:
    def compiled() -> int:
        kernels = (pack_triton.pack_kernel, scan_triton.scan_kernel, scan_triton.compact_kernel)
        return sum(len(kernel.device_caches[torch.cuda.current_device()][0]) for kernel in kernels)

    knn_triton(draw(200, 64), draw(9000, 64), 5)
    before = compiled()
    for N, M in ((129, 9001), (200, 12345), (255, 16384)):
        knn_triton(draw(N, 64), draw(M, 64), 5)
    assert compiled() == before


@pytest.mark.skipif(INTERPRETED, reason="needs a CUDA device: too large for the interpreter")
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("D", "k"), [(128, 1), (512, 10), (768, 100), (1000, 1024)])
def test_large_shapes(metric: str, D: int, k: int) -> None:
    x = draw(60_000, D, seed=1) + draw(1, D, seed=2)
    x[1::3] = x[::3] * (1 + 1e-6)
    q = x[::199] + 0.5 * draw(302, D, seed=3)
    own = torch.full((302,), -1, device=DEVICE)
    truth_key, truth_ids = exact_cuda.exhaustive(q, x, k, metric, own)
    for dtype in (torch.float32, torch.bfloat16):
        if dtype != torch.float32:
            truth_key, truth_ids = exact_cuda.exhaustive(q.to(dtype), x.to(dtype), k, metric, own)
        distances, ids = knn_triton(q.to(dtype), x.to(dtype), k, metric=metric)
        assert torch.equal(ids, truth_ids)
        assert torch.equal(distances, exact_cuda.distances_of(truth_key, metric).float())
        labels = nearest_triton(q.to(dtype), x.to(dtype), metric=metric)[1]
        assert torch.equal(labels, truth_ids[:, 0])


@pytest.mark.skipif(INTERPRETED, reason="needs a CUDA device: deterministic-algorithm checks")
def test_runs_under_deterministic_algorithms_and_repeats_every_bit() -> None:
    q, x = draw(500, 96), draw(20_000, 96, seed=1)
    torch.use_deterministic_algorithms(True)
    try:
        runs = [knn_triton(q, x, 20) for _ in range(3)]
    finally:
        torch.use_deterministic_algorithms(False)
    for distances, ids in runs[1:]:
        assert torch.equal(distances, runs[0][0]) and torch.equal(ids, runs[0][1])
