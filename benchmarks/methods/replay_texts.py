"""What the result folders of the replay experiments say about themselves."""

from __future__ import annotations

from typing import Any

from benchmarks.methods.results import Column, Table

_COLUMNS = (
    Column("last_accuracy", "accuracy at the end", "%"),
    Column("average_incremental_accuracy", "average incremental accuracy", "%"),
    Column("forgetting", "forgetting", "%"),
    Column("kept_kib", "kept KiB", digits=0),
)
_STREAMS = (
    "HAR: two tasks of activities seen by four phone and watch sensors, 12 people trained on and 6 others tested on, "
    "5 epochs, lr 0.001. Image+audio digits: MNIST images paired with spoken digits, two digits per task, 5 epochs, "
    "lr 0.001. Omniglot: drawings with their pen strokes, one alphabet per task (20 to 40 characters, 14 drawings of "
    "each), other people tested on, 20 epochs, lr 0.003. Class-incremental: no task id, one head."
)

ABOUT: dict[str, dict[str, Any]] = {
    "budgets": {
        "title": "Replay of sensors, digits seen and heard, and drawings with their strokes",
        "text": (
            "One encoder per modality, concatenation, one hidden layer and a head learn the classes of a stream task "
            f"by task with a memory of as many rows as the table says. {_STREAMS} Every method has the defaults of its "
            "recipe; epochs and learning rates are those with which joint does well on validation rows. Accuracy is "
            "the mean over tasks after the last one, forgetting that of Chaudhry et al."
        ),
        "tables": (Table("Replay", _COLUMNS),),
        "notes": (),
    },
    "modalities": {
        "title": "What a memory should keep: all modalities of a row or one",
        "text": (
            "er with the same model and budget, whose memory keeps every modality of a row, or only one of them (the "
            "others are missing when the row comes back): as many rows, or as many bytes, which are more rows. A model "
            "may learn that a row with something missing is an old one; in the lines with half of the fresh rows "
            "alike, every second fresh row is shown with that one modality too, so that it cannot. Below, learners "
            f"that have only one modality from the start. {_STREAMS}"
        ),
        "tables": (Table("Multimodal and unimodal replay", _COLUMNS),),
        "notes": (),
    },
}
