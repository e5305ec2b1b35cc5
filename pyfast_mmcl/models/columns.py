"""Progressive networks: a column of layers per task, which looks sideways into the frozen columns before it."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from pyfast_mmcl._errors import InputError, whole_number
from pyfast_mmcl.models.chains import (
    blocks_in,
    blocks_of,
    chains_for,
    check_modalities,
    check_tasks,
    join,
    own_classes,
    put,
)
from pyfast_mmcl.models.output import Output

if TYPE_CHECKING:
    from pyfast_mmcl.models.protocols import Rows
    from pyfast_mmcl.models.spec import Spec

_LATERAL = 16


class Lateral(nn.Module):
    """U · relu(V · (α h)): what one layer of an earlier column tells the layer above it in a later one.

    V takes h to at most ``width`` units (a 1×1 convolution for images) and U, shaped as the layer, to the layer's own;
    α is a learned scalar, 1 at the start.
    """

    def __init__(self, layer: nn.Module, width: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(()))
        if isinstance(layer, nn.Linear):
            width = min(width, layer.in_features)
            self.reduce: nn.Module = nn.Linear(layer.in_features, width)
            self.restore: nn.Module = nn.Linear(width, layer.out_features, bias=False)
            return
        if not isinstance(layer, nn.Conv1d | nn.Conv2d):
            raise InputError(
                f"columns: expected Linear or Conv layers behind the first, got {type(layer).__name__}, which takes no "
                "units of another column."
            )
        width = min(width, layer.in_channels)
        names = ("kernel_size", "stride", "padding", "dilation", "padding_mode")
        self.reduce = type(layer)(layer.in_channels, width, 1)
        shape = {name: getattr(layer, name) for name in names}
        self.restore = type(layer)(width, layer.out_channels, bias=False, **shape)

    def forward(self, h: Tensor) -> Tensor:
        return self.restore(torch.relu(self.reduce(self.alpha * h)))


@dataclass
class Trace:
    """What the layers of a column were given for a batch: {modality: [h_0, h_1, …]}, the fusion, and the head."""

    encoders: dict[str, list[Tensor]]
    fusion: Tensor
    head: Tensor


class Column(nn.Module):
    """One task's encoders, fusion and head. Layer l ≥ 2 adds what the laterals make of every earlier column's h_{l−1}.

    h_l = f(W_l h_{l−1} + Σ_{j<k} U_l^j relu(V_l^j α_l^j h_{l−1}^j))
    """

    def __init__(
        self,
        encoders: Mapping[str, nn.ModuleList],
        n_classes: int,
        *,
        earlier: int,
        embedding: int,
        features: int,
        lateral: int,
    ) -> None:
        super().__init__()

        def laterals(layer: nn.Module) -> nn.ModuleList:
            return nn.ModuleList(Lateral(layer, lateral) for _ in range(earlier))

        self.encoders = nn.ModuleDict(encoders)
        self.fusion = nn.Linear(len(encoders) * (embedding + 1), features)
        self.head = nn.Linear(features, n_classes)
        # Inputs are the same for all columns, so that the first layer has nothing to look at.
        self.encoder_laterals = nn.ModuleDict(
            {
                name: nn.ModuleList(laterals(block.layer) for block in blocks_in(self.encoders, name)[1:])
                for name in encoders
            }
        )
        self.fusion_laterals = laterals(self.fusion)
        self.head_laterals = laterals(self.head)

    def forward(self, batch: Rows, earlier: Sequence[Trace]) -> tuple[Output, Trace]:
        """Scores [B, n] of the task's own classes, and what later columns look at."""
        inputs: dict[str, list[Tensor]] = {}
        embeddings = {}
        for name, h in batch.inputs.items():
            inputs[name] = []
            for i, block in enumerate(blocks_in(self.encoders, name)):
                inputs[name].append(block.prepared(h))
                y = block.layer(inputs[name][-1])
                if i:
                    y = _add(y, self._laterals(name, i), [other.encoders[name][i] for other in earlier])
                h = block.after(y)
            embeddings[name] = h
        joined = join(embeddings, batch.present, tuple(self.encoders))
        features = torch.relu(_add(self.fusion(joined), self.fusion_laterals, [other.fusion for other in earlier]))
        scores = _add(self.head(features), self.head_laterals, [other.head for other in earlier])
        return Output(scores, features, embeddings), Trace(inputs, joined, features)

    def _laterals(self, name: str, layer: int) -> nn.ModuleList:
        own = self.encoder_laterals[name]
        assert isinstance(own, nn.ModuleList)
        laterals = own[layer - 1]
        assert isinstance(laterals, nn.ModuleList)
        return laterals


class ProgressiveColumns(nn.Module):
    """scores of a row = those of the column of its task; every column is the same chain of layers with fresh weights.

    encoders      {modality: nn.Sequential of Linear, Conv, EmbeddingBag, activations and pooling → [B, embedding]},
                  the encoders of the first column
    task_classes  bool [T, C]: the classes of every task; the others get the lowest finite number
    embedding, features: widths as in MultimodalClassifier

    ``add_column`` freezes what there is and adds a column for another task. Each column is computed once per batch,
    with or without later ones. A task without a column yet scores 0 for all its classes. Raises InputError without
    task ids, and for encoders of other layers.

    Reference: Rusu et al., Progressive Neural Networks, arXiv:1606.04671, 2016, equation 2; one V per earlier column
    in place of one for all together, and its width and the start of α, are ours.
    """

    task_classes: Tensor

    def __init__(
        self,
        encoders: Mapping[str, nn.Module],
        task_classes: Tensor | None,
        *,
        embedding: int = 64,
        features: int = 64,
    ) -> None:
        super().__init__()
        self.widths = {"embedding": embedding, "features": features}
        self.columns = nn.ModuleList()
        self._plan: list[dict[str, int]] = []
        self.register_buffer("task_classes", own_classes(task_classes, "columns of tasks"))
        self._append({name: blocks_of(name, chain) for name, chain in encoders.items()}, 0, _LATERAL)

    @classmethod
    def for_stream(cls, spec: Spec) -> ProgressiveColumns:
        """Small columns whose encoders fit the rows of ``spec``."""
        return cls(chains_for(spec), spec.task_classes, embedding=spec.width, features=spec.width)

    def add_column(self, task: int, lateral: int = _LATERAL) -> None:
        """Freeze all columns and add one for ``task``, drawn afresh; nothing where the task has one.

        lateral: units between V and U.
        """
        if any(column["task"] == task for column in self._plan):
            return
        self.requires_grad_(False)
        encoders = {}
        for name in self._first().encoders:
            fresh = copy.deepcopy(blocks_in(self._first().encoders, name))
            for block in fresh:
                block.layer.reset_parameters()
            encoders[name] = nn.ModuleList(fresh).requires_grad_(True)
        self._append(encoders, task, lateral)
        # A column that has just been frozen rests from now on, whenever the caller sets the mode next.
        self.train(self.training)

    def structure(self) -> list[dict[str, int]]:
        """The task and the width of the laterals of every column, in order."""
        return copy.deepcopy(self._plan)

    def restructure(self, structure: Any) -> None:
        """Add the columns that ``structure`` has beyond those there are. Raises InputError when it has others."""
        if structure[: len(self._plan)] != self._plan:
            raise InputError(f"columns: expected a structure that begins with {self._plan}, got {structure}.")
        for column in structure[len(self._plan) :]:
            self.add_column(column["task"], column["lateral"])

    def train(self, mode: bool = True) -> ProgressiveColumns:
        """As nn.Module; frozen columns stay in evaluation mode, so that dropout leaves them as they were."""
        super().train(mode)
        for column in list(self.columns)[:-1]:
            column.eval()
        return self

    def forward(self, batch: Rows) -> Output:
        check_modalities(batch.inputs, tuple(self._first().encoders))
        check_tasks(batch.task, len(self.task_classes))
        found = self._answers(batch)
        some = found[0].scores
        scores = some.new_zeros(len(some), self.task_classes.shape[1])
        scores = scores.masked_fill(~self.task_classes[batch.task], torch.finfo(some.dtype).min)
        features, embeddings = found[0].features, dict(found[0].modalities)
        for column, out in zip(self._plan, found, strict=False):
            assert features is not None and out.features is not None
            mine = (batch.task == column["task"]).unsqueeze(1)
            scores = torch.where(mine, put(out.scores, self.task_classes[column["task"]]), scores)
            features = torch.where(mine, out.features, features)
            embeddings = {name: torch.where(mine, out.modalities[name], e) for name, e in embeddings.items()}
        return Output(scores, features, embeddings)

    def _answers(self, batch: Rows) -> list[Output]:
        """What the columns say, up to the last one that a row asks for."""
        needed = len(self.columns)
        if not self.training:
            # A look at the ids makes a GPU wait; in training the last column is asked anyway.
            asked = set(batch.task.unique().tolist())
            needed = max((k + 1 for k, column in enumerate(self._plan) if column["task"] in asked), default=1)
        found: list[Output] = []
        traces: list[Trace] = []
        for column in list(self.columns)[:needed]:
            out, trace = column(batch, traces)
            found.append(out)
            traces.append(trace)
        return found

    def _first(self) -> Column:
        first = self.columns[0]
        assert isinstance(first, Column)
        return first

    def _append(self, encoders: Mapping[str, nn.ModuleList], task: int, lateral: int) -> None:
        lateral = whole_number("lateral", lateral)
        n = int(self.task_classes[task].sum())
        column = Column(encoders, n, earlier=len(self.columns), lateral=lateral, **self.widths)
        if len(self.columns):
            like = self._first().fusion.weight
            column = column.to(like.device, like.dtype)
        self.columns.append(column)
        self._plan.append({"task": task, "lateral": lateral})


def check_columns(method: str, model: nn.Module) -> ProgressiveColumns:
    """``model``. Raises InputError when it has no columns."""
    if not isinstance(model, ProgressiveColumns):
        raise InputError(
            f"{method}: expected a models.ProgressiveColumns, got {type(model).__name__}; a column per task is what "
            "the method trains, so leave the model out or build one from your encoders."
        )
    return model


def _add(y: Tensor, laterals: nn.ModuleList, told: Sequence[Tensor]) -> Tensor:
    """y + Σ_j lateral_j(told_j)."""
    for lateral, h in zip(laterals, told, strict=True):
        y = y + lateral(h)
    return y
