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
    "Strengths by decades: four, and more while the best lies at an end. Seeds that the final runs do not use (two; "
    "five on HAR class by class, where two could not tell strengths apart), tested on validation rows: digits and "
    "people that the final runs train on, while the test digits and test people of the final runs are left out "
    "altogether."
)

ABOUT: dict[str, dict[str, Any]] = {
    "regularization": {
        "title": "Weight regularisation on digits and activities",
        "text": (
            "A small classifier (one hidden layer per modality, concatenation, one hidden layer, one head) learns the "
            "tasks of a stream one after the other; accuracy is the mean over tasks after the last one, forgetting "
            "that of Chaudhry et al. Split MNIST: 10,000 digits, five tasks of two digits, 3 epochs, batch 64, lr "
            "0.001; which of two with task ids, which of ten, or odd or even. Permuted MNIST: 2,500 digits in five "
            "orders of the pixels, 3 epochs, batch 64, lr 0.005. HAR: four phone and watch sensors, 12 people trained "
            "on and 6 others tested on, 10 epochs, batch 32, lr 0.001; two tasks of activities, with and without task "
            "ids, or three groups of people. With task ids a row is scored on the classes of its task. The strength of "
            "every penalty (λ, or c of si) is the best by decades on validation rows and other seeds "
            "(`regularization-tuning`); ewc_huszar and online_ewc take that of ewc. Everything else is the recipe's "
            "default. joint sees all data so far and is an upper bound; er keeps 200 examples, the others none. Times "
            "in runs.csv are those of a busy machine and compare nothing."
        ),
        "tables": (_MAIN,),
        "notes": (
            "Where tasks are told apart (task ids) or share their classes while the inputs change much (permuted "
            "pixels, odd or even), every penalty is far above finetune on digits. With task ids and on permuted pixels "
            "the EWC family is level with er or above it, which keeps examples; on odd or even er is above all of "
            "them. On HAR with task ids the means of all penalties are above that of finetune, within its spread over "
            "seeds; penalties make the seeds agree.",
            "Groups of people (HAR) leave nothing to protect: finetune forgets little and is as good as joint. No "
            "penalty is better than finetune there; their means are up to two points below it, about the spread of "
            "seeds.",
            "Class by class with one head no penalty replaces a memory. On split MNIST all but si are above finetune "
            "and far below er; si is no better than finetune. On HAR no penalty is better than finetune beyond the "
            "spread, and the strengths chosen on validation people did not carry over to the test people. None of the "
            "papers claims otherwise: ewc and si were shown on permuted pixels, si and mas on tasks with a head each, "
            "tir on instruction tuning; van de Ven and Tolias (arXiv:1904.07734) report that such penalties fail where "
            "the task must be inferred.",
            "Every strength lies inside the decades tried. Class by class on HAR that says little: the strengths of "
            "tir are level with finetune from one end to the other, those of mas and ewc differ less between decades "
            "than between seeds.",
            "Folded ewc, ewc_huszar and online_ewc agree within their spread on these streams; over two tasks ewc and "
            "ewc_huszar are the same objective.",
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
