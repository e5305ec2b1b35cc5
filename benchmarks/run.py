"""Measure cases and keep the rows: `python -m benchmarks.run --preset quick`.

Contestants are separate processes that take turns on the same inputs; see measure.py for the order of things and
each family's contestants.py for who takes part.
"""

from __future__ import annotations

import argparse
import datetime
import fcntl
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

from benchmarks import cases, families, machine, records
from benchmarks.contestant import Contestant, entrants, environment
from benchmarks.families import Family
from benchmarks.measure import Effort, measure
from benchmarks.processes import Process


def main(argv: list[str] | None = None) -> int:
    """Run the chosen cases; 0 when every answer was right, 1 when a gate failed, 2 for a wrong command."""
    options = _parser().parse_args(argv)
    named = [families.load(options.family)] if options.family else [families.load(name) for name in families.NAMES]
    try:
        sizes = {letter: int(value) for letter, value in (pair.split("=") for pair in options.size)}
        chosen = {family: cases.select(family, options.preset, options.op, sizes) for family in named}
    except (ValueError, AttributeError) as error:
        print(f"benchmarks.run: {error}", file=sys.stderr)
        return 2
    if not any(chosen.values()):
        print("benchmarks.run: no case of this preset has these sizes; --list shows them", file=sys.stderr)
        return 2
    if options.list:
        print("\n".join(case.id for some in chosen.values() for case in some))
        return 0
    effort = Effort(options.repeats, min(3, options.repeats), options.seconds, options.longest)
    return max(_run_family(family, some, effort, options) for family, some in chosen.items() if some)


def _run_family(family: Family, chosen: tuple, effort: Effort, options: argparse.Namespace) -> int:
    """A family's cases with its own contestants, whose processes end before the next family begins."""
    words, everyone = options.only, family.contestants.CPU
    pool = tuple(one for one in everyone if not words or any(word in one.name for word in words))
    runner = Runner(pool, effort, Path(options.results), options.machine or machine.slug(), lock=options.lock)
    return runner.run(chosen, resume=options.resume)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__.split("\n")[0])
    parser.add_argument("--preset", default="quick", choices=("quick", "goals", "full"))
    parser.add_argument("--family", choices=families.NAMES, help="all when not given")
    parser.add_argument("--op", choices=families.every_op())
    parser.add_argument("--size", action="append", default=[], metavar="LETTER=VALUE", help="e.g. D=768; repeatable")
    parser.add_argument(
        "--only", action="append", default=[], metavar="WORD", help="contestants whose name contains it"
    )
    parser.add_argument("--repeats", type=int, default=Effort.repeats)
    parser.add_argument("--seconds", type=float, default=Effort.seconds, help="time for one contestant in one case")
    parser.add_argument("--longest", type=float, default=Effort.longest, help="skip contestants slower than this")
    parser.add_argument("--resume", action="store_true", help="leave out cases measured at this commit")
    parser.add_argument("--lock", metavar="FILE", help="hold an exclusive lock on FILE during each case")
    parser.add_argument("--results", default=str(records.RESULTS))
    parser.add_argument("--machine", help="folder name of this machine's results")
    parser.add_argument("--list", action="store_true", help="print the cases and stop")
    return parser


class Runner:
    """Holds the contestants' processes for a whole run."""

    def __init__(
        self,
        pool: tuple[Contestant, ...],
        effort: Effort,
        results: Path,
        slug: str,
        *,
        lock: str | None = None,
        describe: Callable[[], dict] = machine.describe,
    ):
        self.threads, self.effort, self.results, self.slug = machine.cores(), effort, results, slug
        self.lock, self.describe = lock, describe
        self.flags = machine.isa_flags()
        self.pool = {contestant.name: Process(contestant, self.threads) for contestant in pool}

    def run(self, chosen: tuple, *, resume: bool = False) -> int:
        commit, failed = machine.commit(), False
        todo = [case for case in chosen if not (resume and self._measured(case, commit))]
        with tempfile.TemporaryDirectory(prefix="pyfast-bench-") as scratch:
            try:
                for number, case in enumerate(todo, 1):
                    print(f"[{number}/{len(todo)}] {case.id}", flush=True)
                    folder = Path(scratch)
                    _keep_only(case, folder)
                    with exclusive(self.lock):
                        make_inputs(case, folder, self.threads)
                        rows = self._measure(case, folder, commit)
                    records.replace_case(records.path_of(self.slug, case.op, self.results), rows)
                    print(table(rows), flush=True)
                    failed |= any(row["gate"].startswith("failed") for row in rows)
            finally:
                for process in self.pool.values():
                    process.stop()
        return 1 if failed else 0

    def _measured(self, case, commit: str) -> bool:
        wanted = records.case_key(case.to_dict())
        rows = records.read(records.path_of(self.slug, case.op, self.results))
        return any(records.case_key(row) == wanted and row["commit"] == commit for row in rows)

    def _measure(self, case, folder: Path, commit: str) -> list[dict]:
        taking_part = entrants(case, tuple(process.contestant for process in self.pool.values()), self.flags)
        started = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        common = case.to_dict() | {
            "threads": self.threads,
            "commit": commit,
            **self.describe(),
            "date": started,
            "run": f"{started} {case.id}",
        }
        rows = measure(case, [self.pool[entrant.name] for entrant in taking_part], folder, self.effort)
        for row in rows:
            process = self.pool[row["contestant"]]
            row.update(common)
            row["env"] = " ".join(f"{name}={value}" for name, value in sorted(process.info.get("env", {}).items()))
            row["blas"] = "; ".join(" ".join(map(str, library.values())) for library in process.info.get("blas", []))
            row["versions"] = " ".join(f"{name}={value}" for name, value in process.info.get("versions", {}).items())
        return rows


def _keep_only(case, folder: Path) -> None:
    """Delete inputs this case does not use: a large database would otherwise stay in memory as page cache."""
    wanted = set(families.of(case.op).data.file_names(case).values())
    for file in folder.iterdir():
        if file.name not in wanted:
            file.unlink()


def make_inputs(case, folder: Path, threads: int) -> None:
    """Inputs and float64 truth, made by a process whose BLAS nobody has set."""
    plain = environment(Contestant("inputs", "none"), threads)
    command = [sys.executable, "-m", "benchmarks.inputs", json.dumps(case.to_dict()), str(folder)]
    subprocess.run(command, cwd=machine.ROOT, env=plain, check=True)


@contextmanager
def exclusive(path: str | None):
    """An exclusive lock on a file shared with other heavy jobs of the machine."""
    if path is None:
        yield
        return
    with open(path, "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def table(rows: list[dict]) -> str:
    """The rows of one case for a terminal; a contestant without a right answer shows its reason and no speed."""
    lines = []
    fastest = min((row["median_s"] for row in rows if row.get("median_s")), default=None)
    for row in rows:
        if not row.get("median_s"):
            lines.append(f"    {row['contestant']:<30} {row['gate']}")
            continue
        extra = "" if row["extra_mib"] is None else f"{row['extra_mib']:9.1f} MiB extra"
        lines.append(
            f"    {row['contestant']:<30} {row['median_s'] * 1e3:11.3f} ms  min {row['min_s'] * 1e3:11.3f}"
            f"  {row['gflops']:7.1f} GF/s  {row['median_s'] / fastest:7.2f}x{extra}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
