"""Whole runs of every method against a plain restatement of its published formula, all in float64.

Here a run is a loop of a few lines: gradient steps on cross-entropy plus the penalty written out over the tasks so far,
importance from one row at a time. Nothing but the model and the order of the rows is shared with the package.
"""

import copy
import dataclasses
from functools import cache

import pytest
import torch
from torch import nn

from pyfast_mmcl.train import Learner, default_model
from tests.continual.regularization.truth import OWN_MODALITIES, small_stream

LR, EPOCHS, BATCH, SEED = 0.05, 2, 6, 4


class Wide(nn.Module):
    """The model in float64."""

    def __init__(self, stream):
        super().__init__()
        self.inner = default_model(stream, width=6).double()

    def forward(self, batch):
        return self.inner(dataclasses.replace(batch, inputs={m: x.double() for m, x in batch.inputs.items()}))


def flat(tensors):
    return torch.cat([x.flatten() for x in tensors])


class Run:
    """θ is one vector; ``fisher``, ``omega``, ``centre`` and ``path`` have an entry per finished task."""

    def __init__(self, stream, penalty):
        self.stream, self.penalty = stream, penalty
        self.model = Wide(stream)
        self.fisher, self.omega, self.centre, self.path, self.inputs = [], [], [], [], []

    def train(self):
        weights = list(self.model.parameters())
        for task in self.stream.tasks:
            self.inputs.append(self.means(task))
            start, path = flat(weights).detach(), 0.0
            for epoch in range(EPOCHS):
                for batch in self.stream.loader(task.id, batch_size=BATCH, seed=SEED, epoch=epoch):
                    scores = self.model(batch).scores
                    fit = -scores.log_softmax(1).gather(1, batch.target[:, None]).mean()
                    slope = flat(torch.autograd.grad(fit, weights))
                    pull = torch.zeros_like(slope)
                    if task.id:
                        theta = flat(weights).detach().requires_grad_(True)
                        (pull,) = torch.autograd.grad(self.penalty(self, theta), [theta])
                    step = -LR * (slope + pull)
                    path = path - slope * step
                    with torch.no_grad():
                        for w, change in zip(weights, step.split([w.numel() for w in weights]), strict=True):
                            w += change.view_as(w)
            self.centre.append(flat(weights).detach())
            self.path.append((path, (self.centre[-1] - start) ** 2))
            self.measure(task, weights)
        return self.centre[-1]

    def measure(self, task, weights):
        """Fisher: mean over rows of Σ_y p(y|x) (∂ log p(y|x) / ∂θ)². Ω of MAS: mean over rows of |∂ Σ_c z_c² / ∂θ|."""
        fisher, omega, rows = 0.0, 0.0, 0
        for batch in self.stream.loader(task.id, batch_size=1):
            z = self.model(batch).scores[0]
            z = z[z > -1e30]
            log_p = z.log_softmax(0)
            for value in log_p:
                slope = flat(torch.autograd.grad(value, weights, retain_graph=True, materialize_grads=True))
                fisher = fisher + value.detach().exp() * slope**2
            omega = omega + flat(torch.autograd.grad((z**2).sum(), weights, materialize_grads=True)).abs()
            rows += 1
        self.fisher.append(fisher / rows)
        self.omega.append(omega / rows)

    def means(self, task):
        """Unit vector per modality: the mean of its inputs over the rows that have it."""
        batches = list(self.stream.loader(task.id, batch_size=1000))
        vectors = {}
        for m in batches[0].inputs:
            shown = torch.cat([b.inputs[m][b.present[m]] for b in batches]).double()
            if len(shown):
                vectors[m] = shown.flatten(1).mean(0) / shown.flatten(1).mean(0).norm()
        return vectors


def ewc(lam):
    def penalty(run, theta):
        return lam / 2 * sum((f * (theta - c) ** 2).sum() for f, c in zip(run.fisher, run.centre, strict=True))

    return penalty


def ewc_huszar(lam):
    return lambda run, theta: lam / 2 * (sum(run.fisher) * (theta - run.centre[-1]) ** 2).sum()


def online_ewc(lam, gamma, gamma_in_penalty):
    def penalty(run, theta):
        fading = 0.0
        for f in run.fisher:
            fading = gamma * fading + f
        outside = gamma if gamma_in_penalty else 1.0
        return lam / 2 * (outside * fading * (theta - run.centre[-1]) ** 2).sum()

    return penalty


def mas(lam):
    return lambda run, theta: lam * (sum(run.omega) * (theta - run.centre[-1]) ** 2).sum()


def si(c, xi):
    def penalty(run, theta):
        omega = torch.zeros_like(theta)
        for path, moved in run.path:
            omega = (omega + path / (moved + xi)).clamp(min=0)
        return c * (omega * (theta - run.centre[-1]) ** 2).sum()

    return penalty


def tir(lam, importance):
    def penalty(run, theta):
        per_task = run.omega if importance == "mas" else run.fisher
        largest, owner = torch.stack([x / x.sum() for x in per_task]).max(0)
        now = len(run.inputs) - 1
        similar, common = torch.ones(now).double(), torch.zeros(now).bool()
        for m in {m for vectors in run.inputs for m in vectors}:
            with_it = [t for t in range(now + 1) if m in run.inputs[t]]
            dots = {(i, j): run.inputs[i][m] @ run.inputs[j][m] for j in with_it for i in with_it if i < j}
            if not dots:
                continue
            values = torch.stack(list(dots.values()))
            for (i, j), dot in dots.items():
                if j == now:
                    one = len(values) == 1
                    s = dot.clamp(0, 1) if one else torch.sigmoid((dot - values.mean()) / values.std())
                    similar[i], common[i] = similar[i] * s, True
        firm = 1 - torch.where(common, similar, 0.0)
        return lam * (largest * firm[owner] * (theta - run.centre[-1]) ** 2).sum()

    return penalty


CASES = [
    ("ewc", ewc, {"lam": 200.0}),
    ("ewc", ewc, {"lam": 200.0, "mode": "separate"}),
    ("ewc_huszar", ewc_huszar, {"lam": 200.0}),
    ("online_ewc", online_ewc, {"lam": 200.0, "gamma": 0.7, "gamma_in_penalty": True}),
    ("online_ewc", online_ewc, {"lam": 200.0, "gamma": 0.7, "gamma_in_penalty": False}),
    ("mas", mas, {"lam": 0.5}),
    ("si", si, {"c": 2.0, "xi": 0.02}),
    ("tir", tir, {"lam": 300.0, "importance": "mas"}),
    ("tir", tir, {"lam": 300.0, "importance": "exact"}),
]


@cache
def stream_of(scenario):
    """Rows that lack a modality in every scenario, and in the last one tasks that lack one altogether."""
    if scenario == "own":
        return small_stream(OWN_MODALITIES, rows=60, missing={}, task_modalities=[["a", "b"], ["a"], ["b"]])
    return small_stream(scenario, rows=60)


@cache
def finetuned(scenario):
    run = Run(stream_of(scenario), lambda run, theta: (0 * theta).sum())
    run.measure = lambda task, weights: None
    return run.train()


@pytest.mark.parametrize("scenario", ["cil", "til", "dil", "own"])
@pytest.mark.parametrize(("method", "formula", "hyper"), CASES)
def test_a_run_is_the_published_formula(method, formula, hyper, scenario):
    torch.set_num_threads(1)
    stream = stream_of(scenario)
    given = {name: value for name, value in hyper.items() if name != "mode"}
    run = Run(stream, formula(**given))
    learner = Learner(
        copy.deepcopy(run.model), method, epochs=EPOCHS, batch_size=BATCH, optimizer="sgd", lr=LR, seed=SEED,
        device="cpu", progress=False, hyper=hyper,
    )  # fmt: skip
    learner.fit(stream)
    expected = run.train()
    felt = float((expected - finetuned(scenario)).abs().max())
    error = float((flat(learner.model.parameters()).detach() - expected).abs().max())
    # Embeddings of tasks are kept in float32.
    assert felt > 1e-5 and error < (1e-5 if method == "tir" else 1e-7) * felt
