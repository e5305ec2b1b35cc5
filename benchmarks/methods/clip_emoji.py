"""A small open_clip model trained from scratch on emoji with our loss and with open_clip's, side by side.

    export PYFAST_MMCL_DATA=folder OMP_NUM_THREADS=1
    python -m benchmarks.methods.clip_emoji train        # three trainings per seed, about 3 minutes a seed
    python -m benchmarks.methods.clip_emoji compare      # both losses on the features of every step, 1 minute a seed
    python -m benchmarks.methods.clip_emoji time         # CPU time of a step with each loss

The three trainings of a seed start from the same weights and see the same batches: our ClipLoss, open_clip's, and
open_clip's again from weights of which one is moved to the next float32, to see how far rounding alone drives curves.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.methods import emoji as pairs
from benchmarks.methods import results
from benchmarks.methods.clip_check import Gap, LossCheck, check, gap, nudged
from benchmarks.methods.clip_training import Loss, Recipe, Trainer, retrieval
from benchmarks.methods.results import Column, Experiment, Row, Table
from pyfast_mmcl.losses import ClipLoss
from pyfast_mmcl.models.open_clip_import import load_open_clip
from pyfast_mmcl.models.tiny_clip import clip_tokenizer, tiny_clip
from pyfast_mmcl.train.files import replace_text

STREAM, SAME, TIMING = "emoji", "every step of a training on emoji", "emoji, one thread"
OURS, THEIRS, NUDGED = "pyfast_mmcl ClipLoss", "open_clip ClipLoss", "open_clip ClipLoss, one weight nudged"
UNTRAINED = "untrained"
SEEDS, THREADS = (0, 1, 2), 1
EARLY = 20  # first steps, before rounding has grown
TIMED_STEPS, WARM_STEPS = 12, 3
CURVES = "curves.csv"

TEXT = """A CLIP of open_clip's own classes (`models.tiny_clip`, 7.6 million parameters) learns image-text pairs of
1,158 emoji in three styles; 200 emoji are held out, whose names and pictures training never shows. A picture asks for
its name among 200, a name for any of its pictures in up to three styles; pictures that are blank or that repeat another
style's are left out. Both losses see the same first weights, batches and optimizer. Beside the difference of the two
curves stands what rounding alone does: open_clip's loss from weights of which one is moved to the next float32. Then
both losses are given the features of every step of one training: figures are the largest over the steps, absolute for
the loss and for the gradient of the scale, relative to the largest entry for the gradient of the features."""


def experiment(recipe: Recipe) -> Experiment:
    """What is recorded, and how it is shown."""
    recall = [
        Column(f"{way}_r{k}", f"{way.replace('_to_', ' → ')} R@{k}", "%")
        for way in ("image_to_text", "text_to_image")
        for k in (1, 5, 10)
    ]
    curve = (
        Column("curve_early", f"first {EARLY} steps", "", None),
        Column("curve_all", "all steps", "", None),
    )
    same = [
        Column(f"{kind}_{part}", f"{title}, {text}", "", None)
        for kind, title in (("difference", "from open_clip's"), ("error", "from float64"))
        for part, text in (("loss", "loss"), ("features", "gradient of features"), ("scale", "gradient of scale"))
    ]
    return Experiment(
        name="clip_emoji",
        title="CLIP from scratch on emoji: our loss and open_clip's",
        text=TEXT,
        config={**asdict(recipe), "model": "tiny_clip()", "held_out": 200},
        streams=(STREAM, SAME, TIMING),
        methods=(OURS, THEIRS, NUDGED, UNTRAINED),
        tables=(
            Table("Retrieval", tuple(recall)),
            Table("Difference from the curve of open_clip's loss", curve),
            Table("Same features", tuple(same)),
            Table("CPU time", (Column("step_ms", "training step", "ms", 0), Column("loss_ms", "loss alone", "ms", 2))),
        ),
        packages=("torch", "numpy", "open_clip_torch"),
    )


def main(argv: list[str] | None = None) -> int:
    """Train or time every seed and record it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.methods.clip_emoji", description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("train", "compare", "time"))
    parser.add_argument("--data", type=Path, default=os.environ.get("PYFAST_MMCL_DATA"), help="folder of emoji.npz")
    parser.add_argument("--seeds", type=int, nargs="*", default=SEEDS, help="none: write the prose anew")
    parser.add_argument("--steps", type=int, default=Recipe.steps)
    parser.add_argument("--results", type=Path, default=results.RESULTS)
    options = parser.parse_args(argv)
    if options.data is None:
        parser.error("name the data folder: --data or PYFAST_MMCL_DATA")
    torch.set_num_threads(THREADS)
    emoji, recipe = pairs.read(Path(options.data)), Recipe(steps=options.steps)
    for seed in options.seeds:
        start, run = time.perf_counter(), Run(emoji, recipe, seed)
        folder = record(recipe, getattr(run, options.what)(), options.results)
        if options.what == "train":
            write_curves(folder / CURVES, seed, run.curves)
        print(f"{options.what} seed {seed}: {time.perf_counter() - start:.0f} s", flush=True)
    record(recipe, [], options.results)
    return 0


def record(recipe: Recipe, rows: list[Row], root: Path) -> Path:
    return results.record(experiment(recipe), rows, threads=THREADS, root=root)


class Run:
    """The trainings of one seed, one step of each in turn."""

    def __init__(self, emoji: pairs.Emoji, recipe: Recipe, seed: int) -> None:
        self.emoji, self.recipe, self.seed = emoji, recipe, seed
        self.tokenizer = clip_tokenizer()
        self.losses: dict[str, Loss] = {OURS: ClipLoss(), THEIRS: load_open_clip().loss.ClipLoss()}
        self.trainers = {name: Trainer(tiny_clip(seed=seed), loss, recipe) for name, loss in self.losses.items()}
        self.curves: dict[str, list[float]] = {}
        self.checks: dict[str, list[LossCheck]] = {OURS: [], THEIRS: []}

    def train(self) -> list[Row]:
        """All steps of the three trainings: curves and retrieval."""
        self.trainers[NUDGED] = Trainer(nudged(tiny_clip(seed=self.seed)), self.losses[THEIRS], self.recipe)
        self.curves = {name: [] for name in self.trainers}
        for images, tokens in self.batches(self.recipe.steps):
            for name, trainer in self.trainers.items():
                self.curves[name].append(trainer.step(images, tokens))
        measures = {name: self.recall(trainer.model) for name, trainer in self.trainers.items()}
        measures[UNTRAINED] = self.recall(tiny_clip(seed=self.seed))
        for name in (OURS, NUDGED):
            measures[name] |= {"curve_early": self.apart(name, EARLY), "curve_all": self.apart(name)}
        return self._listed(STREAM, measures)

    def compare(self) -> list[Row]:
        """All steps of the training with our loss; at each, both losses on its features."""
        for images, tokens in self.batches(self.recipe.steps):
            self.trainers[OURS].step(images, tokens)
            self.check()
        measures = {name: largest("error", [one.error for one in found]) for name, found in self.checks.items()}
        both = zip(self.checks[OURS], self.checks[THEIRS], strict=True)
        measures[OURS] |= largest("difference", [gap(a.loss, a.gradient, b.loss, b.gradient) for a, b in both])
        return self._listed(SAME, measures)

    def time(self) -> list[Row]:
        """Median CPU ms of a step and of the loss alone, both in turn; the warm-up is not counted.

        CPU time of one thread, because it changes little with what else the machine does.
        """
        seconds: dict[str, list[float]] = {OURS: [], THEIRS: []}
        for step, (images, tokens) in enumerate(self.batches(WARM_STEPS + TIMED_STEPS)):
            for name in (OURS, THEIRS) if step % 2 else (THEIRS, OURS):
                self.trainers[name].step(images, tokens)
                seconds[name].append(self.trainers[name].seconds)
            self.check()
        alone = {name: [one.seconds for one in found] for name, found in self.checks.items()}
        measures = {
            name: {
                "step_ms": 1e3 * statistics.median(seconds[name][WARM_STEPS:]),
                "loss_ms": 1e3 * statistics.median(alone[name][WARM_STEPS:]),
            }
            for name in seconds
        }
        return self._listed(TIMING, measures)

    def batches(self, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
        for images, captions in pairs.batches(self.emoji, self.recipe.batch, steps, self.seed):
            yield images, self.tokenizer(captions)

    def check(self) -> None:
        for name, loss in self.losses.items():
            self.checks[name].append(check(loss, self.trainers[OURS].features))

    def apart(self, name: str, steps: int | None = None) -> float:
        """Largest difference between this curve and open_clip's over the first ``steps``."""
        both = zip(self.curves[name][:steps], self.curves[THEIRS][:steps], strict=True)
        return max(abs(a - b) for a, b in both)

    def recall(self, model: nn.Module) -> dict[str, float]:
        images, names, image_labels, name_labels = pairs.held_out(self.emoji)
        return retrieval(model, images, self.tokenizer(names), (image_labels, name_labels))

    def _listed(self, stream: str, measures: dict[str, dict[str, float]]) -> list[Row]:
        return [
            Row(stream, name, self.seed, measure, value)
            for name, values in measures.items()
            for measure, value in values.items()
        ]


def largest(kind: str, gaps: list[Gap]) -> dict[str, float]:
    """The largest of every part of the gaps, as measures."""
    return {f"{kind}_{part}": max(getattr(one, part) for one in gaps) for part in ("loss", "features", "scale")}


def write_curves(path: Path, seed: int, curves: dict[str, list[float]]) -> None:
    """Put this seed's curves into the file: a line per step, a column per training."""
    head = ",".join(["seed", "step", *(f'"{name}"' for name in curves)])
    old = path.read_text(encoding="utf-8").splitlines()[1:] if path.exists() else []
    lines = [line for line in old if line.split(",")[0] != str(seed)]
    for step, values in enumerate(zip(*curves.values(), strict=True), start=1):
        lines.append(",".join([str(seed), str(step), *(f"{value:.9g}" for value in values)]))
    lines.sort(key=lambda line: [int(x) for x in line.split(",")[:2]])
    replace_text(path, "\n".join([head, *lines]) + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
