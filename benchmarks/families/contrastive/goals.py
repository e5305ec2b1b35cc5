"""The goals of the contrastive family."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.families.contrastive import contestants as who
from benchmarks.families.contrastive.cases import SIZES, VIEWS, Case
from benchmarks.goals import Goal, Verdict, by_case, fastest, speed_verdicts, verdict

EAGER = (who.EAGER, who.OPEN_CLIP)  # torch without a fused loss, whoever wrote it
FLOAT32_RIVALS = (*EAGER, who.PEER)
LIBRARIES = (who.OPEN_CLIP, who.PEER)

MEMORY = "extra memory beyond the gradients ≤ 5 % of eager's, InfoNCE at N = 4,096, as a share of that"
GPU_MEMORY = "extra memory beyond the gradients ≤ 0.3 GB on a GPU, InfoNCE at N = 32,768, as a share of that"


def _on_gpu(row: dict) -> bool:
    return str(row.get("isa") or "").startswith("sm_")


def _at(op: str | tuple[str, ...], low: int, high: float, *, gpu: bool = False, **sizes) -> Callable[[dict], bool]:
    """Rows of `op` with low ≤ similarity rows ≤ high on the named kind of machine."""
    ops = (op,) if isinstance(op, str) else op

    def applies(row: dict) -> bool:
        count = row["N"] * (2 if row["op"] in VIEWS else 1)
        fits = row["op"] in ops and low <= count <= high and _on_gpu(row) == gpu
        return fits and all(row[name] == value for name, value in sizes.items())

    return applies


_CLIP = _at("info_nce", 4_096, 4_096, dtype="float32")
_VIEWS = _at(VIEWS, 4_096, 4_096)
_KL = _at("similarity_kl", 4_096, 4_096)
_SMALL = _at(("info_nce", *VIEWS), 1, 256)

GOALS = (
    Goal("InfoNCE N = 4,096: ≥ 2× eager torch, float32", 2.0, EAGER, _CLIP),
    Goal("InfoNCE N = 4,096: ≥ 3.5× eager torch, bf16 tiles", 3.5, EAGER, _CLIP, ours=who.OURS_BFLOAT16),
    Goal("NT-Xent and SupCon 2N = 4,096: ≥ 2.5× the best peer", 2.5, FLOAT32_RIVALS, _VIEWS),
    Goal("similarity_kl N = M = 4,096: ≥ 2.5× eager torch", 2.5, EAGER, _KL),
    Goal("at most 256 rows: not slower than eager torch", 1.0, EAGER, _SMALL),
    Goal("GPU, InfoNCE N = 32,768: ≥ 1.4× the best peer", 1.4, LIBRARIES, _at("info_nce", 32_768, 32_768, gpu=True)),
    Goal("GPU, SigLIP N ≥ 65,536: ≥ 1.2× siglip-kernel", 1.2, ("siglip-kernel",), _at("siglip", 65_536, 2e5, gpu=True)),
)


def evaluate(rows: list[dict]) -> list[Verdict]:
    """A verdict per goal that was measured at all, then the goals for memory."""
    return speed_verdicts(GOALS, rows) + _memory(by_case(rows))


def beyond_gradients(row: dict) -> float | None:
    """MiB a call adds at its peak, without the gradients of rows it has to return."""
    case = Case(
        **{name: row[name] or 0 for name in SIZES}, **{name: row[name] for name in ("op", "dtype", "direction")}
    )
    return None if row["extra_mib"] is None else max(0.0, row["extra_mib"] - case.gradient_mib)


def _memory(groups: list[list[dict]]) -> list[Verdict]:
    """1 is the bound, smaller is better; eager is whichever of its kind needs least."""
    cpu, gpu = [], []
    for group in groups:
        ours = fastest(group, (who.OURS,), "one-shot")
        share = beyond_gradients(ours) if ours else None
        if share is None:
            continue
        eager = [beyond_gradients(row) for row in group if row["median_s"] and row["role"] in EAGER]
        eager = [mib for mib in eager if mib]
        if _CLIP(group[0]) and eager:
            cpu.append(share / (0.05 * min(eager)))
        if _at("info_nce", 32_768, 32_768, gpu=True)(group[0]):
            gpu.append(share / (0.3 * 1000**3 / 2**20))
    pairs = ((MEMORY, cpu), (GPU_MEMORY, gpu))
    return [verdict(text, "one-shot", 1.0, shares, smaller_is_better=True) for text, shares in pairs if shares]
