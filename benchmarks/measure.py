"""One case: everyone prepares, passes the gate, then takes turns. No contestant is timed before its answer is right."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import families
from benchmarks.processes import ContestantFailed, Process

MIB = 1 << 20


@dataclass(frozen=True)
class Effort:
    """How long to measure. A contestant whose call is so slow that `repeats` turns would exceed `seconds` gets fewer,
    never fewer than `fewest`; one predicted to need more than `longest` per call is skipped."""

    repeats: int = 7
    fewest: int = 3
    seconds: float = 30.0
    longest: float = 60.0
    pause: float = 0.03  # between turns: lets the last contestant's spinning threads go to sleep


def measure(case, processes: list[Process], folder: Path, effort: Effort) -> list[dict]:
    """Rows (contestant fields and figures) of one case, in the order of `processes`."""
    rows, ready = [], []
    for process in processes:
        row = {"contestant": process.contestant.name, "role": process.contestant.role, "mode": process.contestant.mode}
        rows.append(row)
        try:
            row.update(_admit(case, process, folder, effort))
        except ContestantFailed as failure:
            message = str(failure)
            row["gate"] = message if message.startswith(("unavailable", "skipped")) else f"failed: {message}"
            continue
        if row["gate"] == "passed":
            ready.append((process, row, []))
        else:
            process.ask("drop")
    _take_turns(ready, effort)
    for process, row, medians in ready:
        if medians:
            row["median_s"], row["min_s"] = statistics.median(medians), min(medians)
            row["gflops"] = case.flops / row["median_s"] / 1e9 if row["median_s"] else None
            row["repeats"] = len(medians)
            process.ask("drop")
    return rows


def _admit(case, process: Process, folder: Path, effort: Effort) -> dict:
    """Prepare one contestant and judge its first answer; the returned fields hold no speed."""
    process.start()
    predicted = process.ask("load", case=case.to_dict(), folder=str(folder))["predicted"]
    if predicted > effort.longest:
        process.ask("drop")
        raise ContestantFailed(
            f"skipped: a call would take about {predicted:.0f} s, the limit is {effort.longest:.0f} s"
        )
    built = process.ask("build")
    out = folder / "answer.npz"
    first = process.ask("first", out=str(out))
    verdict = judge(case, out, folder, process.info["tolerance"])
    out.unlink()
    return {
        "backend": built["backend"],
        "build_s": built["seconds"],
        "held_mib": built["held"] / MIB,
        "first_s": first["seconds"],
        "turn_s": first["turn_seconds"],
        "extra_mib": None if first["extra"] is None else first["extra"] / MIB,
        "gate": "passed" if verdict is None else f"failed: {verdict}",
    }


def judge(case, answer_file: Path, folder: Path, tolerance: float) -> str | None:
    """None when the saved answer agrees with float64, else the reason."""
    family = families.of(case.op)
    with np.load(answer_file) as saved, np.load(folder / family.data.file_names(case)["truth"]) as truth:
        return family.gate.check(case, dict(saved), dict(truth), family.data.load(case, folder), tolerance)


def turns_of(seconds: float, effort: Effort) -> int:
    """Turns a contestant gets when one of them takes about `seconds`."""
    affordable = int(effort.seconds / seconds) if seconds > 0 else effort.repeats
    return max(effort.fewest, min(effort.repeats, affordable))


def _take_turns(ready: list, effort: Effort) -> None:
    """A, B, C, A, B, C, … until everyone had its turns; a turn's median joins the contestant's list."""
    turns = {id(row): turns_of(row.pop("turn_s"), effort) for _, row, _ in ready}
    for number in range(effort.repeats):
        for process, row, medians in ready:
            if number >= turns[id(row)] or row["gate"] != "passed":
                continue
            time.sleep(effort.pause)
            try:
                samples = process.ask("turn", expected=row["first_s"])["samples"]
            except ContestantFailed as failure:
                row["gate"] = f"failed: {failure}"
                medians.clear()
                continue
            medians.append(statistics.median(samples))
