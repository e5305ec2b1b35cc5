"""The one training loop. Methods are lists of parts; this file runs them over the tasks of a stream."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from pyfast_mmcl._errors import InputError, number_above_zero, whole_number
from pyfast_mmcl.data import Batch, Loader, Stream, Task
from pyfast_mmcl.models import Output
from pyfast_mmcl.ops.sampling import fold_seed
from pyfast_mmcl.train.checkpoint import has_checkpoint, load_checkpoint, save_checkpoint
from pyfast_mmcl.train.early import EarlyStop
from pyfast_mmcl.train.evaluation import Measure, measure_for, measure_name, shown_measure
from pyfast_mmcl.train.examine import Examiner, answer
from pyfast_mmcl.train.files import as_folder
from pyfast_mmcl.train.history import History
from pyfast_mmcl.train.isolate import choose_device, isolated, seed_torch
from pyfast_mmcl.train.measure import note_costs
from pyfast_mmcl.train.method import Method, as_method
from pyfast_mmcl.train.optimizers import Factory, optimizer_factory, optimizer_name
from pyfast_mmcl.train.part import Part
from pyfast_mmcl.train.place import Place, Position
from pyfast_mmcl.train.precision import Precision, precision_name
from pyfast_mmcl.train.processes import Processes
from pyfast_mmcl.train.progress import ProgressBar
from pyfast_mmcl.train.resume import check_folder, run_state, take_state, weights_are_finite
from pyfast_mmcl.train.schedules import LearningRate, Schedule
from pyfast_mmcl.train.settings import check_epochs, check_stream, settings_of
from pyfast_mmcl.train.step import Stepper
from pyfast_mmcl.train.terms import add_terms, bad_term, collect_terms, diverged, means
from pyfast_mmcl.train.trackers import Trackers, check_trackers, numbers_of

if TYPE_CHECKING:
    from accelerate import Accelerator

# On a GPU every look at a number waits for the device, so finiteness is looked at this often (and before every save).
_STEPS_PER_CHECK = 50
# Places of the hooks around a task in the tree of seeds, beside the epochs 0, 1, 2, …
_BEFORE, _AFTER = -1, -2


class Learner(Place):
    """Trains a model on a stream of tasks with the parts of one method.

    model             nn.Module called on a Batch; returns Output, or scores [B, C]
    method            name of a recipe, recipe function, Entry, or list of Parts; hyper: arguments of the recipe
    epochs            passes over the training rows of each task (default 10), or one number per task
    batch_size        fresh rows per step, of all processes together (default 32)
    optimizer, lr     "adamw" (default, lr 1e-3), "adam", "sgd", or a function of the parameters; it is built afresh for
                      every task after ``before_task``, so that methods may add or freeze weights there
    schedule, warmup  of the learning rate over a task: "constant" (default), "cosine" or a function (``schedules``)
    patience          stop a task after so many epochs without a better measure on its validation rows and bring the
                      best weights back (default: no early stopping)
    precision         "no" (default), "bf16" or "fp16": what the model computes in (``precision``)
    accumulate        parts that the rows of a step go through the model in, one after the other (default 1; ``step``)
    clip_norm         largest gradient norm (default: no clipping)
    seed              decides row order, memories and random layers
    device            default: CUDA where there is one, else the CPU; accelerator: an accelerate.Accelerator instead,
                      whose processes act as one (``processes``)
    threads           CPU threads during the run. The default 1 makes the numbers independent of the machine's cores,
                      which torch's reductions are not; None keeps torch's setting
    checkpoint_dir    folder for checkpoints, written after every task and epoch and every ``checkpoint_every`` steps
    progress          draw a progress bar and the accuracy matrix so far when on a terminal
    measure           what the accuracy matrix holds: "accuracy", "recall_at_1", or a function of the answered test rows
                      (``evaluation``); by default R@1 for a stream of pairs and accuracy for all others
    by_modality       also measure every modality alone (of pairs: either direction)
    trackers, log_dir "csv", "tensorboard", "wandb", … or objects (``trackers``); default folder checkpoint_dir/logs

    With the same seed a run gives the same bits on the CPU, interrupted or not. Raises InputError for bad arguments.
    """

    def __init__(
        self,
        model: nn.Module,
        method: Any,
        *,
        epochs: int | Sequence[int] = 10,
        batch_size: int = 32,
        optimizer: str | Factory = "adamw",
        lr: float | None = None,
        schedule: str | Schedule = "constant",
        warmup: float = 0,
        patience: int | None = None,
        precision: str | None = None,
        accumulate: int = 1,
        clip_norm: float | None = None,
        seed: int = 0,
        device: torch.device | str | None = None,
        accelerator: Accelerator | None = None,
        threads: int | None = 1,
        checkpoint_dir: str | Path | None = None,
        checkpoint_every: int | None = None,
        progress: bool = True,
        measure: str | Measure | None = None,
        by_modality: bool = False,
        trackers: str | Sequence[Any] = (),
        log_dir: str | Path | None = None,
        hyper: dict[str, Any] | None = None,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise InputError(f"model: expected a torch.nn.Module, got {type(model).__name__}.")
        for name, value in {"checkpoint_every": checkpoint_every, "threads": threads}.items():
            if value is not None:
                whole_number(name, value)
        super().__init__(check_epochs(epochs))
        self.method: Method = as_method(method, {} if hyper is None else hyper)
        self.parts: list[Part] = self.method.parts
        self.batch_size = whole_number("batch_size", batch_size)
        self.seed = whole_number("seed", seed, least=None)
        self.threads = threads
        self.accelerator = accelerator
        self.device = accelerator.device if accelerator else choose_device(device)
        self.model = model.to(self.device)
        self.generator = torch.Generator()
        self.checkpoint_dir = None if checkpoint_dir is None else as_folder("checkpoint_dir", checkpoint_dir)
        self.checkpoint_every = checkpoint_every
        self.progress = progress
        measure_for(measure, "classify")
        self._given_measure, self.by_modality = measure, by_modality
        self.measure_name = measure_name(measure)
        self.trackers = check_trackers(trackers)
        logs = self.checkpoint_dir / "logs" if self.checkpoint_dir else None
        self.log_dir = logs if log_dir is None else as_folder("log_dir", log_dir)
        self._build_optimizer = optimizer_factory(optimizer, lr)
        self.optimizer_name = optimizer_name(optimizer, lr)
        self._optimizer: Any = None
        self._trained: list[str] = []
        self._rate = LearningRate(schedule, warmup)
        self._early = None if patience is None else EarlyStop(whole_number("patience", patience))
        self._processes = Processes(accelerator)
        self._stepper = Stepper(
            self.model,
            self.device,
            Precision(precision_name(precision, accelerator), self.device),
            self._processes,
            accumulate=whole_number("accumulate", accumulate),
            clip_norm=None if clip_norm is None else number_above_zero("clip_norm", clip_norm),
        )
        self._sums: dict[str, Tensor] = {}
        self.history: History | None = None

    def fit(self, stream: Stream, resume: bool = False) -> History:
        """Train on every task of ``stream`` in turn, testing on all tasks after each.

        resume: continue from the checkpoint in ``checkpoint_dir`` (start afresh where there is none). Raises
        CheckpointError when it is damaged or belongs to another run, NonFiniteError when the training diverges.
        """
        if self._stream is not None:
            raise InputError("fit: this learner has run already; make a new one for another run.")
        check_stream(self, stream)
        self._stream = stream
        self._examiner = Examiner(self, measure_for(self._given_measure, stream.objective))
        check_folder(self, resume)
        names = [task.name for task in stream.tasks]
        self.history = History(self.method.name, stream.scenario.title, names, self.seed, settings_of(self))
        self.history.measure = shown_measure(self._given_measure, stream.objective)
        with isolated(self.device, self.threads):
            folder = self.checkpoint_dir
            saved = load_checkpoint(folder) if resume and folder is not None and has_checkpoint(folder) else None
            # Nobody writes to the folder before all processes have looked into it.
            self._processes.wait()
            if saved is not None:
                take_state(self, saved)
            else:
                self.history.initial = self._examiner.all_tasks(ask_parts=False)
                self._save()
            self._log = self._open_trackers()
            total = sum(self.epochs_of(task.id) * len(self._loader(task.id, 0)) for task in stream.tasks)
            shown = self.progress and self._processes.main
            with closing(self._log), ProgressBar(total, done=self._at.total, enabled=shown) as self._bar:
                self._bar.matrix(self.history.accuracy)
                for task in stream.tasks[self._at.task :]:
                    self._run_task(task)
        return self.history

    def forward(self, batch: Batch) -> Output:
        """The model's answer for a batch on the learner's device."""
        return self._stepper.forward(batch)

    def predict(self, batch: Batch) -> Tensor:
        """Scores [B, C] of the model as the method has it answer. Row i depends on row i of the batch alone."""
        return answer(self, batch, self.parts).scores

    def evaluate(self, task: int, split: str = "test") -> float:
        """The measure in [0, 1] on one task of the stream being fitted."""
        if self._stream is None:
            raise InputError("evaluate: there is no stream yet; call fit first.")
        return self._examiner.task(task, split, share=False)

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
            self._begin_task(task)
        epochs = self.epochs_of(task.id)
        for epoch in range(self._at.epoch, epochs):
            if self._early is not None and self._early.stopped:
                self._bar.skip((epochs - epoch) * self.steps_per_epoch)
                break
            self._bar.describe(f"task {task.id + 1}/{len(self._stream.tasks)} {task.name} · epoch {epoch + 1}/{epochs}")
            self._run_epoch(task, epoch)
        if self._early is not None:
            self._early.restore(self.model)
        self._seed(task.id, _AFTER)
        loader = self.task_loader()
        for part in self.parts:
            part.after_task(self, task, loader)
        self._tick_clock()
        self._end_task(task)

    def _begin_task(self, task: Task) -> None:
        self.history.seconds.append(0.0)
        self.model.train()
        self._seed(task.id, _BEFORE)
        for part in self.parts:
            part.before_task(self, task)
        self._trained = [name for name, p in self.model.named_parameters() if p.requires_grad]
        self._optimizer = self._make_optimizer()
        if self._early is not None:
            self._early.start()
        self._at.started = True

    def _end_task(self, task: Task) -> None:
        assert self.history is not None
        self.history.accuracy.append(self._examiner.all_tasks())
        note_costs(self, self.history)
        if self.by_modality:
            for name, row in self._examiner.by_modality().items():
                self.history.by_modality.setdefault(name, []).append(row)
        self._bar.matrix(self.history.accuracy)
        self._log.log(numbers_of(self.history), self._at.total)
        self._at = Position(task.id + 1, total=self._at.total)
        self._save()

    def _run_epoch(self, task: Task, epoch: int) -> None:
        loader = self._loader(task.id, epoch)
        self.steps_per_epoch = len(loader)
        for i in range(self._at.step, len(loader)):
            # Seeded before the rows are read: whatever is random in a step depends on its place alone.
            seed = self._seed(task.id, epoch, i)
            self._train_step(loader[i].to(self.device, non_blocking=True), seed)
            self._at.step, self._at.total = i + 1, self._at.total + 1
            self._bar.advance(lambda: means(self._sums, self._at.step))
            if self.checkpoint_every and self._at.total % self.checkpoint_every == 0:
                self._save()
        self._stop_if(bad_term(self._sums))
        terms = means(self._sums, len(loader))
        entry: dict[str, Any] = {"task": task.id, "epoch": epoch, "steps": len(loader), "terms": terms}
        if self._early is not None:
            seen = self.method.trains_on == "seen"
            entry["validation"] = self._examiner.task(task.id, "validation", seen=seen, ask_parts=False)
            self._early.look(entry["validation"], self.model)
        self.history.losses.append(entry)
        logged = {f"loss/{name}": value for name, value in terms.items()}
        self._log.log(logged | {name: entry[name] for name in ("validation",) if name in entry}, self._at.total)
        self._sums = {}
        self._at.epoch, self._at.step = epoch + 1, 0
        self._save()

    def _train_step(self, batch: Batch, seed: int) -> None:
        for part in self.parts:
            batch = part.extend(self, batch)
            if not isinstance(batch, Batch):
                raise InputError(f"part {part.name!r}: expected extend to return a Batch, got {type(batch).__name__}.")
        stepper = self._stepper
        out = stepper.answer(batch, seed)
        terms = collect_terms(self, batch, out)
        add_terms(self._sums, terms)
        if self.device.type == "cpu" or self._at.total % _STEPS_PER_CHECK == 0:
            self._stop_if(bad_term(terms))
        total = sum(terms.values())
        if self._optimizer is not None and isinstance(total, Tensor) and total.requires_grad:
            self._optimizer.zero_grad(set_to_none=True)
            stepper.backward(total)
            stepper.precision.unscale(self._optimizer)
            for part in self.parts:
                part.edit_grads(self, batch)
            step = self._at.epoch * self.steps_per_epoch + self._at.step
            self._rate.set(self._optimizer, step, self.epochs * self.steps_per_epoch)
            stepper.update(self._optimizer)
        with torch.no_grad():
            for part in self.parts:
                part.after_step(self, batch, out)

    def _stop_if(self, what: str | None) -> None:
        if what is not None:
            raise diverged(what, self._at, self.checkpoint_dir)

    def _loader(self, task: int, epoch: int) -> Loader:
        seen = self.method.trains_on == "seen"
        return self._stream.loader(task, seen=seen, batch_size=self.batch_size, seed=self.seed, epoch=epoch)

    def _make_optimizer(self) -> Any:
        parameters = dict(self.model.named_parameters())
        if not self._trained:
            return None
        optimizer = self._build_optimizer([parameters[name] for name in self._trained])
        self._rate.start(optimizer)
        return optimizer

    def _open_trackers(self) -> Trackers:
        if not self._processes.main:
            return Trackers((), None, {})
        config = {"method": self.method.name, "seed": self.seed, **self.history.hyper}
        return Trackers(self.trackers, self.log_dir, config, step=self._at.total, accelerator=self.accelerator)

    def _seed(self, *place: int) -> int:
        seed = fold_seed(self.seed, *place)
        seed_torch(self.device, seed)
        self.generator.manual_seed(fold_seed(seed, 1))
        return seed

    def _save(self) -> None:
        """Write a checkpoint, but never one of a run that has diverged."""
        if self.checkpoint_dir is None:
            return
        self._stop_if(bad_term(self._sums))
        if not weights_are_finite(self):
            self._stop_if("the weights are no longer finite")
        if self._at.started:
            self._tick_clock()
        if self._processes.main:
            save_checkpoint(self.checkpoint_dir, run_state(self))

    def _tick_clock(self) -> None:
        now = time.perf_counter()
        self.history.seconds[-1] += now - self._clock
        self._clock = now
