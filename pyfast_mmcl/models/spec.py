"""What a stream tells about its rows, so that a small model can be made to fit them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Spec:
    """The argument of every model's ``for_stream``.

    inputs         {modality: [1, …]}  a row as an example of shapes and dtypes
    n_classes      C, over all tasks
    n_tasks        T
    class_names    the C names, or () where there are none
    vocabulary     number of token ids, where a modality is text or answers are generated
    task_classes   bool [T, C] where rows are scored on the classes of their own task (task-incremental)
    answer_length  S, tokens of a generated answer; 0 where the target is a class
    objective      "classify", or "pairs" where the two sides of a row are to find each other
    width          width of the small layers
    """

    inputs: Mapping[str, Tensor]
    n_classes: int
    n_tasks: int = 1
    class_names: tuple[str, ...] = ()
    vocabulary: int | None = None
    task_classes: Tensor | None = None
    answer_length: int = 0
    objective: str = "classify"
    width: int = 64
