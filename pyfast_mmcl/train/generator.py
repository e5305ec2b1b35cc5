"""Rows made up by a generator, in the place of a memory: what it is taught, and how it is asked."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pyfast_mmcl._errors import InputError, number_above_zero, unknown_name, whole_number
from pyfast_mmcl.data import Batch, cat
from pyfast_mmcl.models.generators import RecordVAE

if TYPE_CHECKING:
    from pyfast_mmcl.data import Loader, Task
    from pyfast_mmcl.train.learner import Learner

CONDITIONS = ("none", "task", "class")


class GeneratedRows:
    """A ReplaySource whose rows are drawn from a RecordVAE, taught after every task on its rows and on its own.

    −ELBO = share · mean over rows of the task + (1 − share) · mean over rows made up by itself as it was before

    condition   what a row is made up for, drawn as often as there were rows of it: a "task" (default), which the row
                then carries; a "class", which becomes its target; or "none"
    epochs      passes over the rows of a task (default 30)
    batch_size  rows of the task per step, and as many made up (128); lr: of Adam (2e-3)
    share       of the loss; None: 1/t after task t, as if every task so far had as many rows
    vae         arguments of RecordVAE

    Targets that nobody knows are −1, and so are tasks where no task is drawn. Random numbers come from
    ``learner.generator`` and ``sample``'s own.

    Reference: Shin et al., Continual Learning with Deep Generative Replay, NeurIPS 2017, equation 1 for the generator.
    """

    def __init__(
        self,
        *,
        condition: str = "task",
        epochs: int = 30,
        batch_size: int = 128,
        lr: float = 2e-3,
        share: float | None = None,
        **vae: Any,
    ) -> None:
        if condition not in CONDITIONS:
            raise unknown_name("condition of the generator", condition, CONDITIONS)
        self.condition = condition
        self.epochs, self.batch_size = whole_number("generator epochs", epochs), whole_number("batch_size", batch_size)
        self.lr, self.share = number_above_zero("generator lr", lr), share
        self._given = vae
        # Its first weights are drawn in ``learn``, from the run's random numbers; here they only show what is wrong.
        with torch.random.fork_rng(devices=[]):
            self.vae_ = RecordVAE(**vae)
        self.counts_: list[int] = []  # rows met of every condition, or of all in one place
        self.places_: list[int] = []  # the task of every condition, −1 for none or several
        self.answer_: list[int] = []  # shape of a target
        self.tasks_ = 0

    def __len__(self) -> int:
        return sum(self.counts_)

    def to(self, device: torch.device) -> GeneratedRows:
        """The same, its weights on ``device``: a checkpoint brings them to the CPU."""
        self.vae_.to(device)
        return self

    def sample(self, n: int, generator: torch.Generator | None = None) -> Batch:
        """n rows that nobody has seen, on the device of the generator's weights. Raises InputError before a task."""
        if len(self) == 0:
            raise InputError("generator: it has met no rows yet; replay from it after the first task.")
        drawn = torch.multinomial(torch.tensor(self.counts_).double(), n, replacement=True, generator=generator)
        inputs, present = self.vae_.sample(n, generator, drawn if self.condition != "none" else None)
        device, unknown = next(iter(present.values())).device, torch.full((n,), -1)
        target = drawn if self.condition == "class" else torch.full((n, *self.answer_), -1)
        task = torch.tensor(self.places_)[drawn]
        return Batch(inputs, target.to(device), task.to(device), present, unknown.to(device), 0)

    def learn(self, learner: Learner, task: Task, loader: Loader) -> None:
        """Teach the generator the rows of ``loader``, and what it has made up so far once more."""
        rows = cat(list(loader)).to(learner.device)
        if len(self) == 0:
            self.vae_ = RecordVAE(**self._given)
        self.vae_.to(learner.device)
        old = copy.deepcopy(self) if len(self) else None
        condition = self._meet(rows, task)
        share = 1 / self.tasks_ if self.share is None else self.share
        optimizer = torch.optim.Adam(self.vae_.parameters(), self.lr)
        self.vae_.train()
        with torch.enable_grad():
            for _ in range(self.epochs):
                order = torch.randperm(len(rows), generator=learner.generator).to(rows.device)
                for some in order.split(self.batch_size):
                    loss = self._loss(rows.select(some), condition[some], learner.generator)
                    if old is not None and share < 1:
                        dream = old.sample(len(some), learner.generator)
                        again = self._loss(dream, self._of(dream), learner.generator)
                        loss = share * loss + (1 - share) * again
                    optimizer.zero_grad(set_to_none=True)
                    loss.backward()
                    optimizer.step()
        self.vae_.eval()

    def state_dict(self) -> dict[str, Any]:
        known = {"counts": list(self.counts_), "places": list(self.places_), "answer": list(self.answer_)}
        return {
            **known,
            "tasks": self.tasks_,
            "structure": self.vae_.structure(),
            "weights": dict(self.vae_.state_dict()),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.counts_, self.places_, self.answer_ = (list(state[name]) for name in ("counts", "places", "answer"))
        self.tasks_ = state["tasks"]
        self.vae_.restructure(state["structure"])
        self.vae_.load_state_dict(state["weights"])

    def _meet(self, rows: Batch, task: Task) -> Tensor:
        """Make room for ``rows``; returns their conditions [N]."""
        if self.condition == "class" and rows.target.ndim != 1:
            raise InputError(
                f"generator: condition 'class' needs one class per row, got targets {tuple(rows.target.shape)}; "
                "choose 'task' or 'none' where answers are generated."
            )
        number = torch.zeros_like(rows.index)
        if self.condition != "none":
            number = rows.target if self.condition == "class" else torch.full_like(rows.index, task.id)
        seen = number.bincount(minlength=len(self.counts_)).tolist()
        for place, count in enumerate(seen):
            if place == len(self.counts_):
                self.counts_.append(0)
                self.places_.append(-1)
            if count and self.condition != "none":
                self.places_[place] = task.id if self.counts_[place] == 0 else -1
            self.counts_[place] += count
        self.answer_, self.tasks_ = list(rows.target.shape[1:]), self.tasks_ + 1
        self.vae_.meet(rows.inputs, rows.present, 0 if self.condition == "none" else len(self.counts_))
        return number

    def _of(self, rows: Batch) -> Tensor:
        return rows.target if self.condition == "class" else rows.task

    def _loss(self, rows: Batch, condition: Tensor, generator: torch.Generator) -> Tensor:
        noise = torch.randn(len(rows), self.vae_.latent, generator=generator).to(rows.device)
        given = None if self.condition == "none" else condition
        return self.vae_.loss(rows.inputs, rows.present, given, noise=noise).mean()
