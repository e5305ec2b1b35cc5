"""One call from a method's name and a stream to the history of a run."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import nn

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.data import Stream
from pyfast_mmcl.models import Spec
from pyfast_mmcl.ops.sampling import fold_seed
from pyfast_mmcl.train.history import History
from pyfast_mmcl.train.isolate import isolated, seed_torch
from pyfast_mmcl.train.learner import Learner
from pyfast_mmcl.train.method import model_kind
from pyfast_mmcl.train.registry import model_class

# Place of the model's first weights in the tree of seeds, apart from every place of the run.
_MODEL = -3
# What a method that needs no special model is given, and what takes its place where answers are generated.
_ANY, _GENERATES = "classifier", "sequence"
# And what takes its place where pairs are learnt.
_PAIRS = "dual encoder"
_SETTINGS = set(inspect.signature(Learner).parameters) - {"model", "method", "seed", "hyper"}


def run_continual(
    method: Any,
    stream: Stream,
    *,
    model: nn.Module | None = None,
    seed: int = 0,
    resume: bool = False,
    hyper: dict[str, Any] | None = None,
    **settings: Any,
) -> History:
    """Train ``method`` on ``stream`` and test on all tasks after each.

    method    name of a recipe ("er"), recipe, or list of Parts
    model     any module called on a Batch; by default a small one that fits stream and method (``default_model``)
    resume    continue from ``checkpoint_dir``; the result has the bits of an uninterrupted run
    settings  arguments of Learner by their names (epochs, lr, device, precision, checkpoint_dir, …); all others are
              arguments of the recipe, which may also be given as ``hyper`` where the names would meet

    Raises InputError, UnknownNameError or CheckpointError.
    """
    own = {name: value for name, value in settings.items() if name in _SETTINGS}
    others = {name: value for name, value in settings.items() if name not in _SETTINGS}
    learner = Learner(
        default_model(stream, method, seed=seed) if model is None else model,
        method,
        seed=seed,
        hyper={**others, **(hyper or {})},
        **own,
    )
    return learner.fit(stream, resume=resume)


def default_model(stream: Stream, method: Any = None, *, seed: int = 0, width: int = 64) -> nn.Module:
    """A small model for the rows of ``stream``, of the kind that ``method`` needs, its weights decided by ``seed``.

    A classifier with one encoder per modality serves most methods, and is what None gives; others need heads of their
    own per modality, two towers or a sequence of tokens, and say so (``Entry.model``). Where answers are generated, the
    model that generates takes the place of the classifier, and where pairs are learnt one of two towers. Raises
    InputError for a method that has no use for it.
    """
    kind, spec = _ANY if method is None else model_kind(method), stream_spec(stream, width=width)
    if spec.answer_length and kind not in (_ANY, _GENERATES):
        raise InputError(
            f"model: the answers of this stream are generated, and the method needs a {kind} model, which answers with "
            f"one class per row; choose a method that takes any model, or a stream of classes."
        )
    if kind == _ANY and stream.objective == "pairs":
        kind = _PAIRS
    cpu = torch.device("cpu")
    with isolated(cpu, None):
        seed_torch(cpu, fold_seed(seed, _MODEL))
        return model_class(_GENERATES if spec.answer_length else kind).for_stream(spec)


def stream_spec(stream: Stream, *, width: int = 64) -> Spec:
    """What a model must know about the rows of ``stream``."""
    inputs, _, target = stream.gather(stream.rows(0)[:1])
    return Spec(
        inputs,
        stream.n_classes,
        n_tasks=stream.n_tasks,
        class_names=stream.class_names,
        vocabulary=stream.vocabulary,
        task_classes=stream.task_classes if stream.scenario.task_id_at_test else None,
        answer_length=target.shape[1] if target.ndim > 1 else 0,
        objective=stream.objective,
        width=width,
    )
