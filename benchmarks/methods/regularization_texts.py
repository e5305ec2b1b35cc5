"""What the result folders of the weight-regularisation experiments say about themselves."""

from __future__ import annotations

from typing import Any

from benchmarks.methods.results import Column, Table

_ACCURACY = (
    Column("last_accuracy", "accuracy at the end", "%"),
    Column("average_incremental_accuracy", "average incremental accuracy", "%"),
    Column("forgetting", "forgetting", "%"),
)
_MAIN = Table(
    "Weight regularisation",
    (
        *_ACCURACY,
        Column("strength", "strength", digits=None),
        Column("kept_kib", "kept KiB", digits=0),
    ),
)
_TUNING = (
    "Strengths by decades, two seeds that the final runs do not use, tested on validation rows: digits and people that "
    "the final runs train on, while the test digits and test people of the final runs are left out altogether."
)

ABOUT: dict[str, dict[str, Any]] = {
    "regularization": {
        "title": "Weight regularisation on digits and activities",
        "text": (
            "A small classifier (one hidden layer per modality, concatenation, one hidden layer, one head) learns the "
            "tasks of a stream one after the other; accuracy is the mean over tasks after the last one, forgetting "
            "that of Chaudhry et al. Split MNIST: 10,000 digits, five tasks, 3 epochs, batch 64, lr 0.001. Permuted "
            "MNIST: 2,500 digits in five orders of the pixels, 3 epochs, batch 64, lr 0.005. HAR: four phone and watch "
            "sensors, 12 people trained on and 6 others tested on, 10 epochs, batch 32, lr 0.001; two tasks of "
            "activities. With task ids a row is scored on the classes of its task. The "
            "strength of every penalty (λ, or c of si) is the best of four decades on validation rows and two other "
            "seeds (`regularization-tuning`); ewc_huszar and online_ewc take that of ewc. Everything else is the "
            "recipe's default. joint sees all data so far and is an upper bound; er keeps 200 examples, the others "
            "none. Times in runs.csv are those of a busy machine and compare nothing."
        ),
        "tables": (_MAIN,),
        "notes": (
            "Where tasks are told apart (task ids) or share their classes (permuted pixels) the mean of every penalty "
            "is above that of finetune, by much on digits, within the spread of finetune on HAR, and the EWC family is "
            "level with or above er, which keeps examples. Penalties also make the seeds agree.",
            "Class by class with one head, no penalty replaces a memory: they stay far below er, as the literature "
            "finds, and si is no better than finetune.",
            "The grid ends at the best strength of mas on HAR (0.01) and of tir class by class (1e5): others beyond it "
            "may be better.",
            "Folded ewc, ewc_huszar and online_ewc agree within their spread on these streams.",
        ),
    },
    "regularization-tuning": {"title": "Strengths of the weight-regularisation methods", "text": _TUNING, "tables": ()},
    "fisher-labels": {
        "title": "What the estimator of the Fisher does to ewc",
        "text": (
            "The same runs of ewc (folded) with the Fisher of all classes weighted by their probability (exact), one "
            "label drawn from the model (sampled), the label of the row (empirical), and the square of the batch-mean "
            "gradient (batch, which is no Fisher), each at a strength tuned for it (`fisher-labels-tuning`), and once "
            "more at the strength tuned for exact."
        ),
        "tables": (Table("ewc by estimator", _MAIN.columns[:-1]),),
        "notes": (
            "At strengths tuned for each, the estimators agree within their spread on these streams: two to ten "
            "classes, models trained for few epochs. The strength is what differs: the square of the batch-mean "
            "gradient needs one a hundred times larger, and at the strength of exact it protects little.",
        ),
    },
    "fisher-labels-tuning": {"title": "Strengths of ewc by estimator", "text": _TUNING, "tables": ()},
}
