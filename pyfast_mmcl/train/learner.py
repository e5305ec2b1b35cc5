"""The one training loop. Methods are lists of parts; this file is the only one that steps an optimizer."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from pyfast_mmcl._errors import InputError, number_above_zero, whole_number
from pyfast_mmcl.data import Batch, Loader, Scenario, Stream, Task
from pyfast_mmcl.models import Output
from pyfast_mmcl.ops.sampling import fold_seed
from pyfast_mmcl.train.checkpoint import has_checkpoint, load_checkpoint, save_checkpoint
from pyfast_mmcl.train.evaluation import Measure, measure_for, measure_name
from pyfast_mmcl.train.history import History
from pyfast_mmcl.train.isolate import choose_device, isolated, seed_torch
from pyfast_mmcl.train.measure import peak_memory, state_bytes
from pyfast_mmcl.train.method import Method, as_method
from pyfast_mmcl.train.optimizers import Factory, optimizer_factory, optimizer_name
from pyfast_mmcl.train.part import Part
from pyfast_mmcl.train.progress import ProgressBar
from pyfast_mmcl.train.resume import Position, check_folder, run_state, take_state, weights_are_finite
from pyfast_mmcl.train.terms import NonFiniteError, add_terms, bad_term, collect_terms, means

if TYPE_CHECKING:
    from accelerate import Accelerator

_EVALUATION_ROWS = 512
# On a GPU every look at a number waits for the device, so finiteness is looked at this often (and before every save).
_STEPS_PER_CHECK = 50
_HALF = (torch.float16, torch.bfloat16)
# Places of the hooks around a task in the tree of seeds, beside the epochs 0, 1, 2, …
_BEFORE, _AFTER = -1, -2


class Learner:
    """Trains a model on a stream of tasks with the parts of one method.

    model             nn.Module called on a Batch; returns Output, or scores [B, C]
    method            name of a recipe, recipe function, Entry, or list of Parts; hyper: arguments of the recipe
    epochs            passes over the training rows of each task (default 10)
    batch_size        fresh rows per step (default 32)
    optimizer, lr     "adamw" (default, lr 1e-3), "adam", "sgd", or a function of the parameters; it is built afresh for
                      every task after ``before_task``, so that methods may add or freeze weights there
    seed              decides row order, memories and random layers
    device            default: CUDA where there is one, else the CPU; accelerator: an accelerate.Accelerator instead
    threads           CPU threads during the run. The default 1 makes the numbers independent of the machine's cores,
                      which torch's reductions are not; None keeps torch's setting
    clip_norm         largest gradient norm (default: no clipping)
    checkpoint_dir    folder for checkpoints, written after every task and epoch and every ``checkpoint_every`` steps
    progress          draw a progress bar when on a terminal
    measure           what the accuracy matrix holds: "accuracy", "recall_at_1", or a function of the answered test rows
                      (``train.evaluation``); by default R@1 for a stream of pairs and accuracy for all others

    With the same seed a run gives the same bits on the CPU, interrupted or not. Raises InputError for bad arguments.
    """

    def __init__(
        self,
        model: nn.Module,
        method: Any,
        *,
        epochs: int = 10,
        batch_size: int = 32,
        optimizer: str | Factory = "adamw",
        lr: float | None = None,
        seed: int = 0,
        device: torch.device | str | None = None,
        accelerator: Accelerator | None = None,
        threads: int | None = 1,
        clip_norm: float | None = None,
        checkpoint_dir: str | Path | None = None,
        checkpoint_every: int | None = None,
        progress: bool = True,
        measure: str | Measure | None = None,
        hyper: dict[str, Any] | None = None,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise InputError(f"model: expected a torch.nn.Module, got {type(model).__name__}.")
        for name, value in {"checkpoint_every": checkpoint_every, "threads": threads}.items():
            if value is not None:
                whole_number(name, value)
        if accelerator is not None and accelerator.num_processes > 1:
            raise InputError(f"accelerator: expected one process, got {accelerator.num_processes}; start a single one.")
        self.method: Method = as_method(method, hyper or {})
        self.parts: list[Part] = self.method.parts
        self.epochs = whole_number("epochs", epochs)
        self.batch_size = whole_number("batch_size", batch_size)
        self.seed = whole_number("seed", seed, least=None)
        self.threads = threads
        self.clip_norm = None if clip_norm is None else number_above_zero("clip_norm", clip_norm)
        self.accelerator = accelerator
        self.device = accelerator.device if accelerator else choose_device(device)
        self.model = model.to(self.device)
        self.generator = torch.Generator()
        self.task: Task | None = None
        self.steps_per_epoch = 0
        self.checkpoint_dir = None if checkpoint_dir is None else Path(checkpoint_dir)
        self.checkpoint_every = checkpoint_every
        self.progress = progress
        measure_for(measure, "classify")
        self._given_measure = measure
        self.measure_name = measure_name(measure)
        self._build_optimizer = optimizer_factory(optimizer, lr)
        self.optimizer_name = optimizer_name(optimizer, lr)
        self._optimizer: Any = None
        self._forward = accelerator.prepare_model(model) if accelerator else model
        self._at = Position()
        self._sums: dict[str, Tensor] = {}
        self._stream: Stream | None = None
        self.history: History | None = None

    @property
    def step(self) -> int:
        """Batches trained on so far, over all tasks."""
        return self._at.total

    @property
    def epoch(self) -> int:
        """Epoch of the current task, from 0."""
        return self._at.epoch

    @property
    def step_of_epoch(self) -> int:
        """Batches of the current epoch trained on so far; ``steps_per_epoch`` is their number."""
        return self._at.step

    @property
    def objective(self) -> str:
        """What the stream asks to be learnt: "classify" or "pairs"."""
        return "classify" if self._stream is None else self._stream.objective

    @property
    def scenario(self) -> Scenario | None:
        """The rules of the stream: its labels and modalities, and whether a row tells its task at test."""
        return None if self._stream is None else self._stream.scenario

    @property
    def classes_seen(self) -> tuple[int, ...]:
        """Classes of the tasks up to the current one."""
        tasks = self._stream.tasks[: self.task.id + 1] if self._stream and self.task else []
        return tuple(sorted({label for task in tasks for label in task.classes}))

    def fit(self, stream: Stream, resume: bool = False) -> History:
        """Train on every task of ``stream`` in turn, testing on all tasks after each.

        resume: continue from the checkpoint in ``checkpoint_dir`` (start afresh where there is none). Raises
        CheckpointError when it is damaged or belongs to another run, NonFiniteError when the training diverges.
        """
        if self._stream is not None:
            raise InputError("fit: this learner has run already; make a new one for another run.")
        if not isinstance(stream, Stream):
            raise InputError(f"fit: expected a Stream, got {type(stream).__name__}; make one with Stream.from_dataset.")
        self._stream = stream
        self._measure = measure_for(self._given_measure, stream.objective)
        check_folder(self, resume)
        names = [task.name for task in stream.tasks]
        hyper = {**self.method.hyper, "epochs": self.epochs, "batch_size": self.batch_size}
        self.history = History(self.method.name, stream.scenario.title, names, self.seed, hyper)
        with isolated(self.device, self.threads):
            folder = self.checkpoint_dir
            if resume and folder is not None and has_checkpoint(folder):
                take_state(self, load_checkpoint(folder))
            else:
                self.history.initial = [self._accuracy(task.id, ask_parts=False) for task in stream.tasks]
                self._save()
            total = self.epochs * sum(len(self._loader(task.id, 0)) for task in stream.tasks)
            with ProgressBar(total, done=self._at.total, enabled=self.progress) as self._bar:
                for task in stream.tasks[self._at.task :]:
                    self._run_task(task)
        return self.history

    def forward(self, batch: Batch) -> Output:
        """The model's answer for a batch on the learner's device."""
        out = self._forward(batch)
        out = out if isinstance(out, Output) else Output(out)
        if not isinstance(out.scores, Tensor) or out.scores.ndim < 2 or len(out.scores) != len(batch):
            got = tuple(out.scores.shape) if isinstance(out.scores, Tensor) else type(out.scores).__name__
            raise InputError(f"model: expected an Output or scores [B, C] with B = {len(batch)} rows, got {got}.")
        # Losses are taken in float32, whatever precision the model computes in.
        return replace(out, scores=out.scores.float()) if out.scores.dtype in _HALF else out

    @torch.no_grad()
    def predict(self, batch: Batch) -> Tensor:
        """Scores [B, C] of the model as the method has it answer. Row i depends on row i of the batch alone."""
        return self._answer(batch, self.parts).scores

    def evaluate(self, task: int, split: str = "test") -> float:
        """The measure in [0, 1] on one task of the stream being fitted."""
        if self._stream is None:
            raise InputError("evaluate: there is no stream yet; call fit first.")
        return self._accuracy(task, split)

    def task_loader(self) -> Loader:
        """The loader that ``after_task`` is given, at any time: the current training rows in the order of their ids."""
        if self._stream is None or self.task is None:
            raise InputError("task_loader: there is no current task; it exists while fit runs.")
        seen = self.method.trains_on == "seen"
        return self._stream.loader(self.task.id, seen=seen, batch_size=self.batch_size)

    def _run_task(self, task: Task) -> None:
        self.task = task
        self._clock = time.perf_counter()
        if not self._at.started:
            self.history.seconds.append(0.0)
            self._seed(task.id, _BEFORE)
            for part in self.parts:
                part.before_task(self, task)
            self._optimizer = self._make_optimizer()
            self._at.started = True
        for epoch in range(self._at.epoch, self.epochs):
            self._bar.describe(
                f"task {task.id + 1}/{len(self._stream.tasks)} {task.name} · epoch {epoch + 1}/{self.epochs}"
            )
            self._run_epoch(task, epoch)
        self._seed(task.id, _AFTER)
        loader = self.task_loader()
        for part in self.parts:
            part.after_task(self, task, loader)
        self._tick_clock()
        self.history.accuracy.append([self._accuracy(other.id) for other in self._stream.tasks])
        self.history.peak_memory.append(peak_memory(self.device))
        self.history.kept_bytes.append(state_bytes([part.state_dict() for part in self.parts]))
        self._at = Position(task.id + 1, total=self._at.total)
        self._save()

    def _run_epoch(self, task: Task, epoch: int) -> None:
        loader = self._loader(task.id, epoch)
        self.steps_per_epoch = len(loader)
        for i in range(self._at.step, len(loader)):
            # Seeded before the rows are read: whatever is random in a step depends on its place alone.
            self._seed(task.id, epoch, i)
            self._train_step(loader[i].to(self.device, non_blocking=True))
            self._at.step, self._at.total = i + 1, self._at.total + 1
            self._bar.advance(lambda: means(self._sums, self._at.step))
            if self.checkpoint_every and self._at.total % self.checkpoint_every == 0:
                self._save()
        self._stop_if(bad_term(self._sums))
        terms = means(self._sums, len(loader))
        self.history.losses.append({"task": task.id, "epoch": epoch, "steps": len(loader), "terms": terms})
        self._sums = {}
        self._at.epoch, self._at.step = epoch + 1, 0
        self._save()

    def _train_step(self, batch: Batch) -> None:
        self.model.train()
        for part in self.parts:
            batch = part.extend(self, batch)
            if not isinstance(batch, Batch):
                raise InputError(f"part {part.name!r}: expected extend to return a Batch, got {type(batch).__name__}.")
        out = self.forward(batch)
        terms = collect_terms(self, batch, out)
        add_terms(self._sums, terms)
        if self.device.type == "cpu" or self._at.total % _STEPS_PER_CHECK == 0:
            self._stop_if(bad_term(terms))
        total = sum(terms.values())
        if self._optimizer is not None and isinstance(total, Tensor) and total.requires_grad:
            self._optimizer.zero_grad(set_to_none=True)
            self.accelerator.backward(total) if self.accelerator else total.backward()
            for part in self.parts:
                part.edit_grads(self, batch)
            if self.clip_norm is not None:
                clip = self.accelerator.clip_grad_norm_ if self.accelerator else nn.utils.clip_grad_norm_
                clip(self.model.parameters(), self.clip_norm)
            self._optimizer.step()
        with torch.no_grad():
            for part in self.parts:
                part.after_step(self, batch, out)

    def _stop_if(self, what: str | None) -> None:
        if what is None:
            return
        at = self._at
        kept = f"; the last checkpoint in {self.checkpoint_dir} is kept" if self.checkpoint_dir else ""
        raise NonFiniteError(
            f"training diverged in task {at.task + 1}, epoch {at.epoch + 1}, step {at.step + 1}: {what}; "
            f"lower the learning rate, set clip_norm or check the inputs for extreme values{kept}."
        )

    def _answer(self, batch: Batch, parts: list[Part]) -> Output:
        training = self.model.training
        self.model.eval()
        try:
            batch = batch.to(self.device)
            # The answer asked for is nobody's to look at: a model that generates is not led by it either.
            batch = replace(batch, target=torch.full_like(batch.target, -1))
            out = self.forward(batch)
            answers = (part.predict(self, batch, out) for part in parts)
            given = next((answer for answer in answers if answer is not None), out)
            return given if isinstance(given, Output) else replace(out, scores=given)
        finally:
            self.model.train(training)

    def _accuracy(self, task: int, split: str = "test", *, ask_parts: bool = True) -> float:
        loader = self._stream.loader(task, split, batch_size=_EVALUATION_ROWS)
        parts = self.parts if ask_parts else []
        with torch.no_grad():
            return self._measure((batch, self._answer(batch, parts).to("cpu")) for batch in loader)

    def _loader(self, task: int, epoch: int) -> Loader:
        seen = self.method.trains_on == "seen"
        return self._stream.loader(task, seen=seen, batch_size=self.batch_size, seed=self.seed, epoch=epoch)

    def _make_optimizer(self) -> Any:
        trainable = [p for p in self.model.parameters() if p.requires_grad]
        if not trainable:
            return None
        optimizer = self._build_optimizer(trainable)
        return self.accelerator.prepare_optimizer(optimizer) if self.accelerator else optimizer

    def _seed(self, *place: int) -> None:
        seed = fold_seed(self.seed, *place)
        seed_torch(self.device, seed)
        self.generator.manual_seed(fold_seed(seed, 1))

    def _save(self) -> None:
        """Write a checkpoint, but never one of a run that has diverged."""
        if self.checkpoint_dir is None:
            return
        self._stop_if(bad_term(self._sums))
        if not weights_are_finite(self):
            self._stop_if("the weights are no longer finite")
        if self._at.started:
            self._tick_clock()
        save_checkpoint(self.checkpoint_dir, run_state(self))

    def _tick_clock(self) -> None:
        now = time.perf_counter()
        self.history.seconds[-1] += now - self._clock
        self._clock = now
