"""Streams of the shows that start from small models of random weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.methods.show import BOUNDS, SEEDS, Show
from pyfast_mmcl.data import Stream
from pyfast_mmcl.data.streams import get_stream

DISTILLATION = ("lwf", "feature_kd", "relation_kd")
REPLAY = ("er", "derpp", "icarl")
BY_TASK = ("hat", "progressive")


def dealt(name: str, scenario: str, **arguments: Any) -> Callable[[str, int], Stream]:
    """A stream of the package as a function of (held_out, seed)."""
    return lambda held_out, seed: get_stream(name)(scenario, held_out=held_out, seed=seed, **arguments)


_HAR = "Activities seen by four phone and watch sensors, 12 people trained on and 6 others tested on"
_DIGITS = "MNIST images paired with spoken digits of four speakers, two digits per task"

STREAMS = (
    Show(
        folder="shows-har-cil",
        title="HAR, activities (CIL)",
        text=f"{_HAR}: two tasks of three and two activities, one head, no task id.",
        stream=dealt("har", "cil"),
        methods=(*BOUNDS, "frozen, linear probe", "ewc", "mas", *DISTILLATION, "dgr", *REPLAY),
        epochs=5,
        capacity=60,
        seeds=SEEDS,
        notes=(
            "dgr, which keeps no row, and derpp come within seven points of joint. lwf and feature_kd forget least "
            "because they hardly learn the second task: forgetting says little by itself.",
        ),
    ),
    Show(
        folder="shows-har-dil",
        title="HAR, groups of people (DIL)",
        text=f"{_HAR}: three groups of people, all activities in each, one head, no task id.",
        stream=dealt("har", "dil"),
        methods=(*BOUNDS, "frozen, linear probe", "ewc", "mas", *DISTILLATION, "dgr", *REPLAY),
        epochs=5,
        capacity=60,
        seeds=SEEDS,
        notes=(
            "Groups of people leave little to forget: finetune ends level with joint. dgr and the distillation "
            "methods are two points above it, er and derpp with 60 rows are not.",
        ),
    ),
    Show(
        folder="shows-har-mdtil",
        title="HAR, sensors that change (MDTIL)",
        text=(
            f"{_HAR}: six groups of people, seen by the phone, by the watch, by both, and again. Every task has its "
            "own five classes, and a row says which task it belongs to."
        ),
        stream=dealt("har", "mdtil", n_tasks=6),
        methods=(*BOUNDS, "frozen, linear probe", "ewc", "mas", *DISTILLATION, *BY_TASK, "er", "derpp"),
        epochs=5,
        capacity=60,
        seeds=SEEDS,
        notes=(
            "With the task id, ewc and mas and a column per task are level with joint. er has 60 rows of six tasks "
            "and is between these and finetune; a linear probe of random features is far below, so that the encoders "
            "do learn.",
        ),
    ),
    Show(
        folder="shows-digits-cil",
        title="image+audio digits (CIL)",
        text=f"{_DIGITS}, one head, no task id.",
        stream=dealt("spoken_digits", "cil"),
        methods=(*BOUNDS, "frozen, linear probe", "ewc", *DISTILLATION, "dgr", *REPLAY),
        epochs=5,
        capacity=150,
        lr=3e-3,
        notes=(
            "A linear probe of random features, which forgets nothing because it adds up sums, is above every method "
            "that keeps neither rows nor sums.",
        ),
    ),
    Show(
        folder="shows-digits-til",
        title="image+audio digits, task ids (TIL)",
        text=f"{_DIGITS}, which of which two a row says.",
        stream=dealt("spoken_digits", "til"),
        methods=(*BOUNDS, "frozen, linear probe", "ewc", *DISTILLATION, *BY_TASK, "er"),
        epochs=5,
        capacity=50,
        lr=3e-3,
    ),
    Show(
        folder="shows-omniglot-cil",
        title="Omniglot image+stroke (CIL)",
        text=(
            "Drawings of characters and the pen strokes that drew them: one alphabet per task (20 to 40 characters, 14 "
            "drawings of each), other people tested on, one head, no task id."
        ),
        stream=dealt("omniglot", "cil"),
        methods=(*BOUNDS, "frozen, linear probe", "ewc", "lwf, λ 1", *REPLAY),
        epochs=6,
        capacity=272,
        lr=3e-3,
    ),
    Show(
        folder="shows-clinc150-cil",
        title="CLINC150, intents (CIL)",
        text="Short requests in English: ten domains of 15 intents each, one domain per task, one head, no task id.",
        stream=dealt("clinc150", "cil"),
        methods=(*BOUNDS, "frozen, linear probe", "ewc", "lwf, λ 1", *REPLAY),
        epochs=3,
        capacity=750,
        lr=1e-2,
    ),
    Show(
        folder="shows-pacs-dil",
        title="PACS, styles (DIL)",
        text="Seven kinds of objects as photos, paintings, cartoons and sketches, one style per task, no task id.",
        stream=dealt("pacs", "dil"),
        methods=(*BOUNDS, "frozen, linear probe", "ewc", "lwf, λ 1", *REPLAY),
        epochs=2,
        capacity=200,
    ),
)
