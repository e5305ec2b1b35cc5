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
        "notes": (
            "Every method that replays labelled rows is above finetune at every budget. samm, whose heads of single "
            "modalities teach each other, is the best everywhere except at the smallest budgets of HAR and Omniglot, "
            "where icarl is; derpp is second from the middle budget on. agem, whose paper tells tasks apart, keeps "
            "little with one head, on Omniglot next to nothing. mir is above er on HAR, below it on digits and no "
            "better on Omniglot; its candidates are much of a memory as small as these. gdumb, which knows nothing but "
            "its memory, is about level with er or above it on HAR and digits, and far below on Omniglot, where the "
            "memory has one to four drawings of a character. er_ace forgets least there, because it learns the new "
            "characters late; its accuracy at the end is er's.",
            "kdr trains on pairs without labels and is compared with itself without replay and distillation: far above "
            "on digits, 2 points above on Omniglot, no better on HAR, whose two sides (phone and watch) do not caption "
            "each other. vqacl's prototypes help er with the same sequence model at the smallest budgets of digits and "
            "of Omniglot (there within the spread of the seeds), make no difference or cost accuracy at the larger "
            "ones, and cost accuracy on HAR.",
            "Kept KiB count everything between tasks: gdumb keeps the first weights, icarl and kdr the model before "
            "the task.",
        ),
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
        "notes": (
            "That multimodal replay helps holds here for accuracy with as many rows: with all modalities kept, er is "
            "18 points above the better learner of one modality on digits, 9 on HAR and 3 on Omniglot; joint training "
            "gains 2, 1 and 7 points from the second modality, so on digits and HAR most of the gain is replay's, and "
            "on Omniglot none of it is. It also forgets less on digits, but no less than the learner of watch rotation "
            "on HAR, and on Omniglot more than the learner of images, who learns less.",
            "With as many bytes it does not hold on Omniglot: a row of strokes is a sixth of a row with its image, and "
            "er that keeps nothing but strokes, with half of the fresh rows alike, ends level with er that keeps both "
            "(37.6 and 37.1).",
            "Elsewhere a multimodal model gains little from a memory of one modality, however many rows its bytes "
            "give, also when missing modalities no longer tell old rows from new ones: at most 23 points with "
            "recordings (all modalities give 60), 4 with drawings and less than 2 otherwise. Its fusion is trained for "
            "the old classes on rows that the test does not resemble.",
        ),
    },
}
