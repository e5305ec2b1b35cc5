"""LSTM, GRU and RNN: the recurrence runs once more in plain torch, whose pre-activations have the gradients wanted.

With G_t the gradient of a step's pre-activations, ``G_ih = Σ_t G_t ⊗ x_t`` and ``G_hh = Σ_t G_t ⊗ h_{t-1}``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from ...._errors import InputError
from ..calls import Call
from ..contributions import Contribution, Dense, Outer
from ..shared import Shared

Parts = list[tuple[Shared, Contribution]]
State = tuple[Tensor, ...]


@dataclass
class Run:
    """One layer in one direction. weights: ih, hh and perhaps their biases.

    inputs [T, N, D] and the states before each step; what each of them adds to the pre-activations.
    """

    weights: list[Tensor]
    inputs: Tensor
    from_input: Tensor
    before: list[Tensor] = field(default_factory=list)
    from_state: list[Tensor] = field(default_factory=list)


def _lstm_step(i: Tensor, h: Tensor, state: State) -> State:
    enter, forget, value, leave = (i + h).chunk(4, 1)
    cell = forget.sigmoid() * state[1] + enter.sigmoid() * value.tanh()
    return leave.sigmoid() * cell.tanh(), cell


def _gru_step(i: Tensor, h: Tensor, state: State) -> State:
    (i_r, i_z, i_n), (h_r, h_z, h_n) = i.chunk(3, 1), h.chunk(3, 1)
    keep = (i_z + h_z).sigmoid()
    return ((1 - keep) * (i_n + (i_r + h_r).sigmoid() * h_n).tanh() + keep * state[0],)


STEPS: dict[str, Callable[[Tensor, Tensor, State], State]] = {
    "lstm": _lstm_step,
    "gru": _gru_step,
    "rnn_tanh": lambda i, h, state: ((i + h).tanh(),),
    "rnn_relu": lambda i, h, state: ((i + h).relu(),),
}


def recurrent(call: Call, grads: list[Tensor | None]) -> Parts | None:
    """torch.lstm, gru, rnn_tanh and rnn_relu: layers, directions, initial states."""
    names = ("input", "hx", "params", "has_biases", "num_layers", "dropout", "train", "bidirectional", "batch_first")
    x, start, weights, biases, layers, dropout, train, both, batch_first = call.bind(*names)
    starts = [start] if isinstance(start, Tensor) else start
    directions, each = 1 + bool(both), 4 if biases else 2
    if not isinstance(weights, (list, tuple)) or len(weights) != layers * directions * each:
        return None
    if dropout and train:
        raise InputError(f"{call.key}: its inner dropout cannot be drawn again; call model.eval() or set dropout=0.")
    time = 1 if batch_first else 0
    found = [_sequences(call, x, time), *(_sequences(call, s, 0) for s in starts)]
    data = [d for d in found if d is not None]
    if len(data) < len(found):
        return None
    step = STEPS[call.name]
    groups = [list(weights[i : i + each]) for i in range(0, len(weights), each)]
    with torch.enable_grad():
        runs, results = _unroll(step, data[0], data[1:], groups, directions)
    axes = [time] + [0] * (len(results) - 1)
    wanted = [_sequences(call, g, a, i) for i, (g, a) in enumerate(zip(grads, axes, strict=True))]
    return _parts(call, runs, results, wanted)


def cell(call: Call, grads: list[Tensor | None]) -> Parts | None:
    """torch.lstm_cell, gru_cell, rnn_tanh_cell and rnn_relu_cell: one step."""
    x, start, w_ih, w_hh, b_ih, b_hh = call.bind("input", "hx", "w_ih", "w_hh", "b_ih", "b_hh")
    starts = [start] if isinstance(start, Tensor) else start
    data = [rows for t in (x, *starts) if call.target(t) is None and (rows := call.rows(t)) is not None]
    if len(data) < 1 + len(starts):
        return None
    weights = [w for w in (w_ih, w_hh, b_ih, b_hh) if w is not None]
    steps, *state = (d.flatten(0, 1)[None] for d in data)
    with torch.enable_grad():
        runs, results = _unroll(STEPS[call.name.removesuffix("_cell")], steps, state, [weights], 1)
    wanted = [None if g is None else call.out_rows(g, i).flatten(0, 1)[None] for i, g in enumerate(grads)]
    return _parts(call, runs, results[1:], wanted)


def _sequences(call: Call, x: Tensor | None, time: int, place: int | None = None) -> Tensor | None:
    """An argument (or the gradient of result ``place``) as [T, B·k, D], sample by sample."""
    if x is None or call.target(x) is not None:
        return None
    rows = call.rows(x) if place is None else call.out_rows(x, place)
    # rows [B, T, k, D] or [B, k, T, D]
    return None if rows is None else rows.movedim(1 + time, 0).flatten(1, 2)


def _unroll(
    step: Callable, x: Tensor, starts: list[Tensor], groups: list[list[Tensor]], directions: int
) -> tuple[list[Run], list[Tensor]]:
    """All runs, and (output [T, N, ·], final states [L·directions, N, ·])."""
    runs: list[Run] = []
    finals: list[State] = []
    outputs: list[Tensor] = []
    for i, weights in enumerate(groups):
        if i % directions == 0 and i:
            x, outputs = torch.cat(outputs, -1), []
        backwards = i % directions == 1
        run = _start(weights, x.flip(0) if backwards else x)
        states, last = _steps(step, run, tuple(s[i].to(run.inputs.dtype) for s in starts))
        outputs.append(torch.stack(states[::-1] if backwards else states))
        runs.append(run)
        finals.append(last)
    return runs, [torch.cat(outputs, -1), *(torch.stack(s) for s in zip(*finals, strict=True))]


def _start(weights: list[Tensor], x: Tensor) -> Run:
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    values = [w.detach().to(wide) for w in weights]
    x = x.to(wide)
    from_input = F.linear(x, values[0], values[2] if len(values) > 2 else None)
    return Run(weights, x, from_input if from_input.requires_grad else from_input.requires_grad_())


def _steps(step: Callable, run: Run, state: State) -> tuple[list[Tensor], State]:
    values = [w.detach().to(run.inputs.dtype) for w in run.weights]
    w_hh, bias = values[1], values[3] if len(values) > 2 else None
    states = []
    for i in run.from_input.unbind(0):
        run.before.append(state[0])
        run.from_state.append(F.linear(state[0], w_hh, bias))
        if not run.from_state[-1].requires_grad:
            run.from_state[-1].requires_grad_()
        state = step(i, run.from_state[-1], state)
        states.append(state[0])
    return states, state


def _parts(call: Call, runs: list[Run], results: list[Tensor], wanted: list[Tensor | None]) -> Parts:
    inner = [t for run in runs for t in (run.from_input, *run.from_state)]
    pairs = [(r, w.to(r.dtype)) for r, w in zip(results, wanted, strict=True) if w is not None]
    found = iter(torch.autograd.grad([r for r, _ in pairs], inner, [w for _, w in pairs], materialize_grads=True))
    parts: Parts = []
    for run in runs:
        g_input, g_state = next(found), torch.stack([next(found) for _ in run.from_state])
        tensors = (g_input, g_state, run.inputs.detach(), torch.stack(run.before).detach())
        g_input, g_state, x, h = (_by_sample(t, call.samples) for t in tensors)
        forms: tuple[Contribution, ...] = (
            Outer(g_input, x, run.weights[0].shape),
            Outer(g_state, h, run.weights[1].shape),
            Dense(g_input.sum(1)),
            Dense(g_state.sum(1)),
        )
        for weight, part in zip(run.weights, forms, strict=False):
            if (target := call.target(weight)) is not None:
                parts.append((target, part))
    return parts


def _by_sample(x: Tensor, samples: int) -> Tensor:
    """[T, B·k, D] as [B, k·T, D]."""
    return x.transpose(0, 1).reshape(samples, -1, x.shape[-1])
