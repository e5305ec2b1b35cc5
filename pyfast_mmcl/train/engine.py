"""The engine of deep clustering: phases of training over one set of rows, that survive a kill at any moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from pyfast_mmcl._errors import CheckpointError, InputError, unknown_name, whole_number
from pyfast_mmcl.ops.sampling import fold_seed
from pyfast_mmcl.train.checkpoint import has_checkpoint, load_checkpoint, save_checkpoint
from pyfast_mmcl.train.files import as_folder
from pyfast_mmcl.train.identity import differences
from pyfast_mmcl.train.isolate import isolated, seed_torch
from pyfast_mmcl.train.optimizers import fuse
from pyfast_mmcl.train.phases import Phase, Player, Step
from pyfast_mmcl.train.precision import Precision
from pyfast_mmcl.train.processes import Processes
from pyfast_mmcl.train.progress import ProgressBar
from pyfast_mmcl.train.shares import Shares
from pyfast_mmcl.train.terms import NonFiniteError, add_terms, bad_term, means

if TYPE_CHECKING:
    from accelerate import Accelerator

# Gradients in float16 would need a scaler, whose state a checkpoint would have to keep.
_PRECISIONS = ("no", "bf16")
# Places in the tree of seeds beside the epochs 0, 1, 2, … of a phase.
_START, _WATCH, _END = -1, -2, -3
# A number on a GPU is looked at this often: every look waits for the device.
_STEPS_PER_CHECK = 50


@dataclass
class Place:
    """Where a training stands: ``step`` batches of ``epoch`` of ``phase`` are done, ``total`` batches of the phase."""

    phase: int = 0
    epoch: int = 0
    step: int = 0
    total: int = 0
    started: bool = False


class Engine:
    """Trains ``network`` by phases.

    network         everything that learns or is learnt: what its ``state_dict`` does not hold is not resumed
    seed            decides row order and everything random, together with the place in the training
    threads         CPU threads meanwhile; with 1 the numbers do not depend on the machine's cores. None: as they are
    precision       "no", or "bf16" for products in bfloat16 (autocast; weights stay in float32)
    accelerator     an accelerate.Accelerator: every process takes its share of every batch and gradients are averaged.
                    What the objectives and ``Step`` make of the shares, and batch normalisation, are those of the whole
                    batch: up to rounding, all processes learn what one would, except for numbers that a network draws
                    as it goes (dropout), which every process draws anew
    checkpoint_dir  folder for checkpoints, written after every epoch and every ``checkpoint_every`` steps
    identity        what a checkpoint must agree with, in JSON

    ``history``: one entry per epoch, {"phase", "epoch", "steps", "terms"}. With the same seed a training gives the same
    bits on the CPU, interrupted or not.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        seed: int,
        device: torch.device,
        threads: int | None = 1,
        precision: str = "no",
        accelerator: Accelerator | None = None,
        checkpoint_dir: str | Path | None = None,
        checkpoint_every: int | None = None,
        progress: bool = False,
        identity: dict[str, Any] | None = None,
    ) -> None:
        if precision not in _PRECISIONS:
            raise unknown_name("precision", precision, _PRECISIONS)
        self.network = network.to(device)
        self.seed, self.device, self.threads = seed, device, threads
        self._processes = Processes(accelerator)
        self.checkpoint_dir = None if checkpoint_dir is None else as_folder("checkpoint_dir", checkpoint_dir)
        self.checkpoint_every = None if checkpoint_every is None else whole_number("checkpoint_every", checkpoint_every)
        self.progress = progress
        self.identity = {**(identity or {}), "seed": seed, "precision": precision}
        self.history: list[dict[str, Any]] = []
        self._precision = Precision(precision, device)
        self._at = Place()
        self._sums: dict[str, Tensor] = {}
        self._optimizers: list[torch.optim.Optimizer] = []
        self._generator = torch.Generator()

    def run(self, phases: Sequence[Phase], *, resume: bool = False) -> None:
        """Train through all ``phases``, from the checkpoint where there is one to resume.

        Raises InputError for a folder that another training has written to, CheckpointError for a damaged or foreign
        checkpoint, NonFiniteError when the training diverges.
        """
        folder = self.checkpoint_dir
        if resume and folder is None:
            raise InputError("resume: there is no folder to resume from; give checkpoint_dir.")
        with isolated(self.device, self.threads):
            if folder is not None and has_checkpoint(folder):
                if not resume:
                    raise InputError(f"{folder} holds the checkpoint of an earlier run; resume it or choose another.")
                self._take(load_checkpoint(folder), phases)
            total = sum(phase.epochs * phase.n_batches for phase in phases)
            done = sum(phase.epochs * phase.n_batches for phase in phases[: self._at.phase]) + self._at.total
            with ProgressBar(total, done=done, enabled=self.progress) as self._bar:
                for phase in phases[self._at.phase :]:
                    self._run_phase(phase)
            self._processes.wait()

    def _run_phase(self, phase: Phase) -> None:
        if not self._at.started:
            self._seed(_START)
            self._call(phase.start)
            self._optimizers = [fuse(player.optimizer(player.parameters)) for player in phase.players]
            self._at.started = True
        for epoch in range(self._at.epoch, phase.epochs):
            self._bar.describe(f"{phase.name} · epoch {epoch + 1}/{phase.epochs}")
            if self._run_epoch(phase, epoch):
                break
        self._seed(_END)
        self._call(phase.end)
        self._at = Place(self._at.phase + 1)
        self._optimizers = []
        self._save()

    def _run_epoch(self, phase: Phase, epoch: int) -> bool:
        """Whether the phase ends here."""
        every = phase.watch_every or phase.n_batches
        order = torch.randperm(phase.n_rows, generator=self._generator_of(epoch))
        for i in range(self._at.step, phase.n_batches):
            if phase.watch is not None and self._at.total % every == 0:
                self._seed(_WATCH, self._at.total)
                if self._call(phase.watch, self._at.total):
                    if self._at.step:
                        self._record(phase, epoch, i)
                    return True
            self._take_step(phase, epoch, i, order)
            self._at.step, self._at.total = i + 1, self._at.total + 1
            self._bar.advance(lambda: means(self._sums, self._at.step))
            if self.checkpoint_every and self._at.total % self.checkpoint_every == 0:
                self._save()
        self._record(phase, epoch, phase.n_batches)
        self._at.epoch, self._at.step = epoch + 1, 0
        self._save()
        return False

    def _take_step(self, phase: Phase, epoch: int, i: int, order: Tensor) -> None:
        self.network.train()
        done = self._at.total / (phase.epochs * phase.n_batches)
        for place, (player, optimizer) in enumerate(zip(phase.players, self._optimizers, strict=True)):
            for turn in range(player.repeats):
                self._seed(epoch, i, place, turn)
                rows = phase.batch(order, i)
                if player.repeats > 1 and turn > 0:
                    rows = torch.randperm(phase.n_rows, generator=self._generator)[: len(rows)]
                self._update(player, optimizer, Step(rows, self._generator, done, epoch))

    def _update(self, player: Player, optimizer: torch.optim.Optimizer, step: Step) -> None:
        shares = Shares(self._processes, len(step.batch))
        if rank := self._processes.rank:
            # Other rows than the first process's need other draws.
            seed_torch(self.device, fold_seed(self._generator.initial_seed(), rank))
        with self._precision.autocast(), shares.statistics(self.network):
            terms = player.objective(replace(step, shares=shares))
        total = torch.stack([term.float() for term in terms.values()]).sum() * shares.weight
        # Of all processes, so that all of them stop when one has to.
        means_of = self._processes.mean(torch.stack([term.detach().float() for term in terms.values()]) * shares.weight)
        prefix = f"{player.name}." if player.name else ""
        named = {f"{prefix}{name}": term for name, term in zip(terms, means_of, strict=True)}
        add_terms(self._sums, {name: term / player.repeats for name, term in named.items()})
        if self.device.type == "cpu" or self._at.total % _STEPS_PER_CHECK == 0:
            self._stop_if(bad_term(named))
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        self._processes.average_gradients(player.parameters)
        if player.clip_norm is not None:
            nn.utils.clip_grad_norm_(player.parameters, player.clip_norm)
        if player.schedule is not None:
            factor = player.schedule(step.done)
            for group in optimizer.param_groups:
                group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor
        optimizer.step()

    def _stop_if(self, what: str | None) -> None:
        if what is not None:
            at = self._at
            raise NonFiniteError(
                f"training diverged in phase {at.phase + 1}, epoch {at.epoch + 1}, step {at.step + 1}: {what}; lower "
                f"the learning rate or rescale the rows."
            )

    def _record(self, phase: Phase, epoch: int, steps: int) -> None:
        self._stop_if(bad_term(self._sums))
        terms = means(self._sums, max(1, steps))
        self.history.append({"phase": phase.name, "epoch": epoch, "steps": steps, "terms": terms})
        self._sums = {}

    def _call(self, hook: Any, *arguments: Any) -> Any:
        self._processes.copy_first(self.network.buffers())
        if hook is None:
            return None
        training = self.network.training
        self.network.eval()
        try:
            with torch.no_grad():
                answer = hook(*arguments)
                # What a GPU adds up in another order each time must not lead the processes apart.
                self._processes.copy_first([*self.network.parameters(), *self.network.buffers()])
                return answer
        finally:
            self.network.train(training)

    def _seed(self, *place: int) -> None:
        seed = fold_seed(self.seed, self._at.phase, *place)
        seed_torch(self.device, seed)
        self._generator.manual_seed(fold_seed(seed, 1))

    def _generator_of(self, epoch: int) -> torch.Generator:
        return torch.Generator().manual_seed(fold_seed(self.seed, self._at.phase, epoch))

    def _save(self) -> None:
        if self.checkpoint_dir is None or not self._processes.main:
            return
        state = {
            "training": self.identity,
            "place": asdict(self._at),
            "network": dict(self.network.state_dict()),
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
            "sums": dict(self._sums),
            "history": self.history,
        }
        save_checkpoint(self.checkpoint_dir, state)

    def _take(self, state: dict[str, Any], phases: Sequence[Phase]) -> None:
        if different := differences(state.get("training", {}), self.identity):
            raise CheckpointError(
                f"checkpoint {self.checkpoint_dir} belongs to another training: {different}; use the same settings or "
                f"another folder."
            )
        try:
            self.network.load_state_dict(state["network"])
        except RuntimeError as error:
            raise CheckpointError(
                f"checkpoint {self.checkpoint_dir} holds another network ({str(error).splitlines()[-1].strip()}); go "
                f"on with the version that wrote it, or use another folder."
            ) from error
        self._at, self.history = Place(**state["place"]), state["history"]
        self._sums = {name: value.to(self.device) for name, value in state["sums"].items()}
        if self._at.started:
            players = phases[self._at.phase].players
            self._optimizers = [fuse(player.optimizer(player.parameters)) for player in players]
            for optimizer, values in zip(self._optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(values)
