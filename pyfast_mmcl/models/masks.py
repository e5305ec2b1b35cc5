"""Hard attention to the task: units that a task opens, and weights that earlier tasks hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.models.chains import (
    blocks_in,
    blocks_of,
    chains_for,
    check_modalities,
    check_tasks,
    join,
    own_classes,
    put,
    units_of,
)
from pyfast_mmcl.models.output import Output

if TYPE_CHECKING:
    from pyfast_mmcl.models.protocols import Rows
    from pyfast_mmcl.models.spec import Spec

# Serrà et al. 2018, §2.4 and the authors' code: where the hyperbolic cosine and the embeddings are cut.
_LARGEST_EXPONENT = 50.0
_LARGEST_EMBEDDING = 6.0
_STEEPEST = 400.0


class Gate(nn.Module):
    """a = σ(s · e_task): which of a layer's units a task uses; ``cumulative`` is the maximum over the tasks closed.

    One embedding e [U] per task, N(0, 1) at the start; a is computed in float32 at least.
    """

    cumulative: Tensor

    def __init__(self, units: int, n_tasks: int) -> None:
        super().__init__()
        self.embeddings = nn.ParameterList(nn.Parameter(torch.randn(units)) for _ in range(n_tasks))
        self.register_buffer("cumulative", torch.zeros(units))

    def mask(self, task: int, scale: Tensor) -> Tensor:
        """[U] of one task."""
        return torch.sigmoid(scale * _wide(self.embeddings[task]))

    def forward(self, task: Tensor, scale: Tensor) -> Tensor:
        """task int64 [B] → [B, U]."""
        return torch.sigmoid(scale * _wide(torch.stack(list(self.embeddings))))[task]

    @torch.no_grad()
    def compensate(self, task: int, scale: Tensor, steepest: Tensor) -> None:
        """grad(e) ← (s_max / s) · (cosh(s e) + 1) / (cosh(e) + 1) · grad(e): without the annealing."""
        e = self.embeddings[task]
        if e.grad is not None:
            wide = _wide(e)
            steep = (scale * wide).clamp(-_LARGEST_EXPONENT, _LARGEST_EXPONENT).cosh() + 1
            e.grad.copy_(steepest / scale * steep / (wide.cosh() + 1) * e.grad)

    @torch.no_grad()
    def clamp(self, task: int) -> None:
        self.embeddings[task].clamp_(-_LARGEST_EMBEDDING, _LARGEST_EMBEDDING)

    @torch.no_grad()
    def close(self, task: int, steepest: Tensor) -> None:
        """cumulative ← max(cumulative, a_task at s_max)."""
        self.cumulative.copy_(torch.maximum(self.cumulative, self.mask(task, steepest)))


class MaskedClassifier(nn.Module):
    """scores = head_task(a · relu(fusion({m: encoder_m(x_m)}, present))), every layer's units multiplied by a_task.

    encoders      {modality: nn.Sequential of Linear, Conv, EmbeddingBag, activations and pooling → [B, embedding]}
    task_classes  bool [T, C]: the classes that the head of every task scores; the others get the lowest finite number
    embedding, features: widths as in MultimodalClassifier

    The masks follow ``batch.task`` row by row, at s_max; in training at the scale that ``anneal`` has set. Called in
    the order ``start_task``, then per step ``anneal``, ``edit_grads`` (after the backward pass) and ``hold`` (after the
    step), at the end ``close_task``. Raises InputError without task ids, and for encoders of other layers.

    Reference: Serrà et al., Overcoming Catastrophic Forgetting with Hard Attention to the Task, ICML 2018, §2.
    """

    task_classes: Tensor
    steepest: Tensor

    def __init__(
        self,
        encoders: Mapping[str, nn.Module],
        task_classes: Tensor | None,
        *,
        embedding: int = 64,
        features: int = 64,
    ) -> None:
        super().__init__()
        classes = own_classes(task_classes, "masks of tasks")
        n_tasks = len(classes)
        self.encoders = nn.ModuleDict({name: blocks_of(name, chain) for name, chain in encoders.items()})
        self.gates = nn.ModuleDict(
            {
                name: nn.ModuleList(Gate(units_of(block.layer), n_tasks) for block in blocks_in(self.encoders, name))
                for name in encoders
            }
        )
        self.modalities = tuple(encoders)
        self.embedding = embedding
        self.fusion = nn.Linear(len(encoders) * (embedding + 1), features)
        self.fusion_gate = Gate(features, n_tasks)
        self.heads = nn.ModuleList(nn.Linear(features, int(own.sum())) for own in classes)
        self.register_buffer("task_classes", classes)
        self.register_buffer("steepest", torch.tensor(_STEEPEST))
        self._scale: Tensor | None = None
        self._before: list[tuple[Tensor, Tensor, Tensor]] = []

    @classmethod
    def for_stream(cls, spec: Spec) -> MaskedClassifier:
        """A small masked classifier whose encoders fit the rows of ``spec``."""
        return cls(chains_for(spec), spec.task_classes, embedding=spec.width, features=spec.width)

    def forward(self, batch: Rows) -> Output:
        check_modalities(batch.inputs, self.modalities)
        check_tasks(batch.task, len(self.heads))
        scale = self.steepest if self._scale is None or not self.training else self._scale
        embeddings = {}
        for name, h in batch.inputs.items():
            for block, gate in zip(blocks_in(self.encoders, name), self._gates(name), strict=True):
                y = block.layer(block.prepared(h))
                h = block.after(y * _like(gate(batch.task, scale), y))
            embeddings[name] = h
        y = self.fusion(join(embeddings, batch.present, self.modalities))
        features = torch.relu(y * _like(self.fusion_gate(batch.task, scale), y))
        return Output(self._scores(features, batch.task), features, embeddings)

    def start_task(self, task: int, steepest: float) -> None:
        """Train the embeddings and the head of this task alone, beside the layers; steepest: s_max."""
        self.steepest.fill_(steepest)
        for gate in self.all_gates():
            for t, e in enumerate(gate.embeddings):
                e.requires_grad_(t == task)
        for t, head in enumerate(self.heads):
            head.requires_grad_(t == task)

    def anneal(self, progress: float) -> None:
        """s = 1/s_max + (s_max − 1/s_max) · progress, from 0 at the first batch of an epoch to 1 at the last."""
        least = 1 / self.steepest
        self._scale = least + (self.steepest - least) * progress

    def usage(self, task: int) -> Tensor:
        """Σ a (1 − a^{<t}) / Σ (1 − a^{<t}): the share that the task takes of the units nobody holds. A scalar."""
        scale = self.steepest if self._scale is None else self._scale
        free = [1 - _wide(gate.cumulative) for gate in self.all_gates()]
        taken = [(gate.mask(task, scale) * f).sum() for gate, f in zip(self.all_gates(), free, strict=True)]
        total = torch.stack([f.sum() for f in free]).sum()
        # With every unit held there is nothing to take, and 0/0 would be NaN.
        return torch.stack(taken).sum() / total.clamp(min=torch.finfo(total.dtype).tiny)

    @torch.no_grad()
    def edit_grads(self, task: int) -> None:
        """Scale the gradient of every weight by what earlier tasks leave of it, and undo the annealing of e's."""
        self._before = []
        for parameter, left in self.left_over():
            if parameter.grad is not None:
                self._before.append((parameter, parameter.detach().clone(), left == 0))
                parameter.grad.mul_(left)
        scale = self.steepest if self._scale is None else self._scale
        for gate in self.all_gates():
            gate.compensate(task, scale, self.steepest)

    @torch.no_grad()
    def hold(self, task: int) -> None:
        """Put back weights that earlier tasks hold wholly, whatever the optimizer does on its own, such as decay."""
        for parameter, before, held in self._before:
            parameter.copy_(torch.where(held, before, parameter))
        self._before = []
        for gate in self.all_gates():
            gate.clamp(task)

    def close_task(self, task: int) -> None:
        """Let the task hold the units it uses."""
        for gate in self.all_gates():
            gate.close(task, self.steepest)

    def left_over(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Every weight of the masked layers with 1 − min(a_out, a_in), every bias with 1 − a_out, of a^{<t}."""
        for layer, gate, inputs in self._wiring():
            out = gate.cumulative
            if isinstance(layer, nn.EmbeddingBag):
                yield layer.weight, 1 - torch.minimum(out, inputs.unsqueeze(1))
                continue
            left = 1 - torch.minimum(out.unsqueeze(1), inputs)
            yield layer.weight, left.reshape(*left.shape, *[1] * (layer.weight.ndim - 2))
            if layer.bias is not None:
                yield layer.bias, 1 - out

    def all_gates(self) -> list[Gate]:
        """The gates of all encoders, and that of the fusion."""
        return [gate for name in self.modalities for gate in self._gates(name)] + [self.fusion_gate]

    def _wiring(self) -> Iterator[tuple[Any, Gate, Tensor]]:
        """Every masked layer with its gate and the cumulative mask of its inputs; what comes from outside counts 1."""
        for name in self.modalities:
            held = None
            for block, gate in zip(blocks_in(self.encoders, name), self._gates(name), strict=True):
                layer = block.layer
                n = layer.weight.shape[0 if isinstance(layer, nn.EmbeddingBag) else 1]
                # Flattening lays the places of a channel side by side.
                yield (
                    layer,
                    gate,
                    gate.cumulative.new_ones(n) if held is None else held.repeat_interleave(n // len(held)),
                )
                held = gate.cumulative
        last = [self._gates(name)[-1].cumulative for name in self.modalities]
        last = [held.repeat_interleave(self.embedding // len(held)) for held in last]
        yield self.fusion, self.fusion_gate, torch.cat([*last, last[0].new_ones(len(last))])

    def _scores(self, features: Tensor, task: Tensor) -> Tensor:
        scores = features.new_full((len(features), self.task_classes.shape[1]), torch.finfo(features.dtype).min)
        for t, head in enumerate(self.heads):
            scores = torch.where((task == t).unsqueeze(1), put(head(features), self.task_classes[t]), scores)
        return scores

    def _gates(self, name: str) -> list[Gate]:
        own = self.gates[name]
        assert isinstance(own, nn.ModuleList)
        return [gate for gate in own if isinstance(gate, Gate)]


def check_masked(method: str, model: nn.Module) -> MaskedClassifier:
    """``model``. Raises InputError when it has no masks of tasks."""
    if not isinstance(model, MaskedClassifier):
        raise InputError(
            f"{method}: expected a models.MaskedClassifier, got {type(model).__name__}; its masks are what the method "
            "trains, so leave the model out or build one from your encoders."
        )
    return model


def _like(mask: Tensor, y: Tensor) -> Tensor:
    """A mask [B, U] in the shape and precision of a layer's answer [B, U, …]."""
    return mask.reshape(*mask.shape, *[1] * (y.ndim - 2)).to(y.dtype)


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
