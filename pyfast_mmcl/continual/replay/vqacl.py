"""VQACL, its prototypes: what a question and an object look like across tasks, read as two extra tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.models import PrototypeBank, PrototypeTokens
from pyfast_mmcl.train.memory import Balanced
from pyfast_mmcl.train.part import Part
from pyfast_mmcl.train.parts import CrossEntropy, Replay
from pyfast_mmcl.train.registry import recipe

if TYPE_CHECKING:
    from pyfast_mmcl.data import Batch, Task
    from pyfast_mmcl.models import Output
    from pyfast_mmcl.train.learner import Learner


class MovingPrototypes(Part):
    """Moves the prototypes of the types and classes in the batch; those of others stay as they are.

    question_k ← mean of the batch's question tokens of type k                       k the type of the current task
    question_k ← question_momentum · question_k + (1 − question_momentum) · mean_k    other types, from memory
    vision_c   ← vision_momentum · vision_c + (1 − vision_momentum) · mean_c          the classes in the batch

    A prototype seen for the first time takes the mean. The type of a row is its task; old rows that hide it have none.
    """

    def __init__(self, question_momentum: float, vision_momentum: float) -> None:
        self.question_momentum = share("question_momentum", question_momentum)
        self.vision_momentum = share("vision_momentum", vision_momentum)

    def before_task(self, learner: Learner, task: Task) -> None:
        tokens = getattr(learner.model, "prototypes", None)
        if not isinstance(tokens, PrototypeTokens):
            raise InputError(
                f"vqacl: expected a sequence model with models.PrototypeTokens as .prototypes, got "
                f"{type(learner.model).__name__}; use models.TokenClassifier, or leave the model out."
            )
        if task.id >= len(tokens.question.known):
            raise InputError(
                f"vqacl: the model has prototypes of {len(tokens.question.known)} types of question and this is task "
                f"{task.id + 1}; build it with n_types, the number of tasks."
            )

    def after_step(self, learner: Learner, batch: Batch, out: Output) -> None:
        tokens = learner.model.prototypes
        assert isinstance(tokens, PrototypeTokens)
        for name in ("question", "vision"):
            if name not in out.modalities:
                raise InputError(f"vqacl: expected the model to give the mean {name} tokens in Output.modalities.")
        question, vision = out.modalities["question"], out.modalities["vision"]
        now, fresh = learner.task.id, torch.arange(len(batch), device=batch.device) < batch.fresh
        kind = batch.task.masked_fill(fresh, now)
        move(tokens.question, question, kind, self.question_momentum, (kind >= 0) & (kind != now))
        move(tokens.question, question, kind, 0.0, kind == now)
        move(tokens.vision, vision, batch.target, self.vision_momentum)


def move(bank: PrototypeBank, rows: Tensor, key: Tensor, momentum: float, among: Tensor | None = None) -> None:
    """Move every prototype that some row [B, D] has as its ``key`` [B] towards the mean of these rows.

    Rows of zeros are those whose side is missing. among: bool [B], the rows that count.
    """
    counts = (rows != 0).any(1)
    counts = counts if among is None else counts & among
    which, place = key[counts].unique(return_inverse=True)
    if len(which) == 0:
        return
    sums = torch.zeros(len(which), rows.shape[1], dtype=torch.float64, device=rows.device)
    sums.index_add_(0, place, rows[counts].double())
    bank.move(which, sums / place.bincount(minlength=len(which)).unsqueeze(1), momentum)


def share(name: str, value: float) -> float:
    """``value`` as float. Raises InputError outside [0, 1]."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise InputError(f"{name}: expected a number in [0, 1], got {value!r}.")
    return float(value)


@recipe(
    family="replay",
    paper="X. Zhang, F. Zhang, C. Xu, VQACL: A Novel Visual Question Answering Continual Learning Setting, CVPR 2023",
    model="tokens",
)
def vqacl(
    capacity: int = 200,
    rows: int | None = None,
    question_momentum: float = 0.5,
    vision_momentum: float = 0.3,
) -> list[Part]:
    """Balanced replay for a sequence model that reads prototypes of questions and of objects as two extra tokens.

    loss   = cross_entropy(scores[fresh + memory], target[fresh + memory])
    tokens = cat([H, question prototype, vision prototype]),  each the nearest to the mean of the row's own tokens of
             that side by the cosine after tanh, without a gradient

    Sample-specific is what H says of a row, sample-invariant what its prototypes say. Prototypes: MovingPrototypes.

    capacity           rows of the memory (200 as the other methods here; the authors: 5000 for VQAv2, 500 for NExT-QA),
                       shared out evenly over the tasks' classes
    rows               rows drawn per step; None draws as many as the batch has
    question_momentum  of the types of earlier tasks (.5, VQAv2; .3 for NExT-QA)
    vision_momentum    of the classes (.3, VQAv2; .5 for NExT-QA)

    Needs a sequence model with ``models.PrototypeTokens`` (``models.TokenClassifier``).

    Reference: Zhang, Zhang and Xu, CVPR 2023, section 4. A type of question is a task here and an object's class the
    row's class. The authors' code lets the prototype of every class that a batch lacks decay; ours moves those present
    alone. Prototypes move after the step, so a step reads those of the step before; theirs takes turns between a
    current and a memory batch, ours joins both in one.
    """
    return [
        Replay(capacity, rows=rows, policy=Balanced(("task", "target"))),
        CrossEntropy(),
        MovingPrototypes(question_momentum, vision_momentum),
    ]
