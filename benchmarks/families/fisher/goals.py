"""The goals of the Fisher family."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.families.fisher import contestants as who
from benchmarks.families.fisher.models import build
from benchmarks.goals import Goal, Verdict, by_case, fastest, speed_verdicts, verdict

MEMORY = "extra memory ≤ that of forward and backward + 2 floats per parameter, as a share of that"


def _on_gpu(row: dict) -> bool:
    return str(row.get("isa") or "").startswith("sm_")


def _for(prefix: str, *, gpu: bool = False) -> Callable[[dict], bool]:
    return lambda row: row["model"].startswith(prefix) and _on_gpu(row) == gpu


STEP, LOOP, VMAP = (who.STEP,), (who.LOOP,), (who.VMAP,)
GOALS = (
    Goal("MLP: ≤ 1.2 × forward and backward (the figure is its inverse)", 1 / 1.2, STEP, _for("mlp")),
    Goal("MLP: ≥ 15 × vmap(grad)", 15.0, VMAP, _for("mlp")),
    Goal("ResNet-18: ≤ 1.5 × forward and backward (inverse)", 1 / 1.5, STEP, _for("resnet18")),
    Goal("ViT: ≤ 1.4 × forward and backward (inverse)", 1 / 1.4, STEP, _for("vit")),
    Goal("GPU, ViT-B: ≤ 1.25 × forward and backward (inverse)", 1 / 1.25, STEP, _for("vit-b", gpu=True)),
)


def evaluate(rows: list[dict]) -> list[Verdict]:
    """A verdict per goal that was measured at all, then the goal for memory."""
    return speed_verdicts(GOALS, rows) + _memory(by_case(rows))


def _memory(groups: list[list[dict]]) -> list[Verdict]:
    """1 is the bound, smaller is better."""
    shares = []
    for group in groups:
        ours, plain = fastest(group, (who.OURS,)), fastest(group, STEP)
        if ours is None or plain is None or ours["extra_mib"] is None or plain["extra_mib"] is None:
            continue
        parameters = sum(p.numel() for p in build(group[0]["model"]).parameters())
        shares.append(ours["extra_mib"] / (plain["extra_mib"] + 8 * parameters / 2**20))
    return [verdict(MEMORY, "one-shot", 1.0, shares, smaller_is_better=True)] if shares else []
