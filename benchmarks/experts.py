"""The grouped experts of a block against a loop over experts: ``python -m benchmarks.experts [--out FILE]``.

The loop is the usual way to write a mixture of experts: for every expert find its rows (which a GPU must wait for),
run them, add them up. Both compute the same; a case whose answers or gradients differ is refused. Rounds of the two
alternate, so that a busy moment hits both, and the ratio is the median over rounds. On the CPU the seconds are those of
the processor, in one thread, which do not grow while other programs have their turn.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from benchmarks import machine
from benchmarks.clock import cuda_seconds, no_collection
from benchmarks.records import RESULTS
from pyfast_mmcl.models.experts import ExpertBank

# Rows, positions, width, hidden, experts, chosen: a tiny CLIP's block, that of ViT-B/32 and of ViT-B/16.
CASES = (
    (32, 17, 128, 64, 22, 2),
    (16, 50, 768, 64, 22, 2),
    (8, 197, 768, 64, 22, 2),
    (16, 50, 768, 64, 2, 2),
)
NAMES = ("rows", "positions", "width", "hidden", "experts", "chosen")


def loop(bank: ExpertBank, x: Tensor, chosen: Tensor, gates: Tensor) -> Tensor:
    """One expert after the other, each on the rows that chose it."""
    y = torch.zeros_like(x)
    for e in range(len(bank)):
        row, place = (chosen == e).nonzero(as_tuple=True)
        if len(row) == 0:
            continue
        down, down_bias, up, up_bias = bank.parameters_of(e)
        answer = (x[row] @ down.T + down_bias).relu() @ up + up_bias
        y = y.index_add(0, row, bank.scale * gates[row, place][:, None, None] * answer)
    return y


def inputs(case: tuple[int, ...], device: str) -> tuple[ExpertBank, Tensor, Tensor, Tensor]:
    rows, positions, width, hidden, experts, k = case
    g = torch.Generator().manual_seed(0)
    bank = ExpertBank(width, experts, hidden, scale=0.1, dropout=0.0, generator=g)
    with torch.no_grad():
        for p in bank.parameters():
            p.copy_(0.1 * torch.randn(p.shape, generator=g))
    x = torch.randn(rows, positions, width, generator=g)
    chosen = torch.stack([torch.randperm(experts, generator=g)[:k] for _ in range(rows)])
    return (
        bank.to(device),
        x.to(device).requires_grad_(),
        chosen.to(device),
        torch.rand(rows, k, generator=g).to(device),
    )


def step(form, bank: ExpertBank, x: Tensor, chosen: Tensor, gates: Tensor) -> None:
    """Forward and backward, as in training."""
    torch.autograd.grad(form(bank, x, chosen, gates).square().sum(), [x, *bank.parameters()], allow_unused=True)


def processor_seconds(run: Callable[[], None]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def check(bank: ExpertBank, x: Tensor, chosen: Tensor, gates: Tensor) -> None:
    """Raise AssertionError where the forms differ in their answers or in the gradient of the rows."""
    ours, theirs = bank(x, chosen, gates), loop(bank, x, chosen, gates)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    grads = [torch.autograd.grad(y.square().sum(), x)[0] for y in (ours, theirs)]
    torch.testing.assert_close(*grads, rtol=1e-3, atol=1e-4)


def measure(case: tuple[int, ...], device: str, rounds: int) -> dict[str, object]:
    """Median seconds of a training step of either form and the median of their ratios."""
    given = inputs(case, device)
    check(*given)
    forms = (lambda bank, *rest: bank(*rest), loop)
    seconds = cuda_seconds if device.startswith("cuda") else processor_seconds
    found: list[tuple[float, ...]] = []
    with no_collection():
        for _ in range(rounds + 1):
            found.append(tuple(seconds(lambda form=form: step(form, *given)) for form in forms))
    kept = found[1:]  # the first round warms up
    ours, theirs = (statistics.median(pair[i] for pair in kept) for i in (0, 1))
    ratio = statistics.median(pair[1] / pair[0] for pair in kept)
    form = given[0].form(given[1], given[2])
    row = dict(zip(NAMES, case, strict=True))
    return {
        **row,
        "form": form,
        "grouped_ms": f"{ours * 1e3:.3f}",
        "loop_ms": f"{theirs * 1e3:.3f}",
        "ratio": f"{ratio:.2f}",
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="The grouped experts of a block against a loop over experts.")
    parser.add_argument("--out", type=Path, default=RESULTS / machine.slug() / "models" / "experts.csv")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    about = {"device": options.device, "threads": torch.get_num_threads(), "torch": torch.__version__}
    about["load"] = machine.load_average()
    rows = [{**measure(case, options.device, options.rounds), **about} for case in CASES]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with options.out.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    for row in rows:
        print(row)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
