"""Small runs, and the definitions computed row by row in float64."""

import copy

import torch

from pyfast_mmcl.data import Records, Scenario, Stream
from pyfast_mmcl.train import Learner, Part, default_model

METHODS = ("ewc", "ewc_huszar", "mas", "online_ewc", "si", "tir")
OWN_MODALITIES = Scenario("own", "own modalities", labels="disjoint", task_id_at_test=True, modalities="per task")


def small_stream(scenario="cil", *, rows=120, missing=None, seed=3, task_modalities=None):
    """Three tasks, two modalities; class-incremental ones have two classes each.

    task_modalities: the modalities of each task, where the scenario has a set per task (``OWN_MODALITIES``).
    """
    g = torch.Generator().manual_seed(seed)
    target = torch.arange(rows) % 6
    a = torch.nn.functional.one_hot(target, 6) + 0.4 * torch.randn(rows, 6, generator=g)
    b = torch.randn(rows, 5, generator=g) + target[:, None] / 3
    missing = {"b": 0.3} if missing is None else missing
    records = {"a": a, "b": b}
    if scenario == "dil":
        domains = torch.arange(rows) * 3 // rows
        records = {name: x * (1 + domains[:, None]) for name, x in records.items()}
        return Stream.from_dataset(Records(records, target), scenario="dil", domains=domains, missing=missing)
    return Stream.from_dataset(
        Records(records, target), scenario=scenario, n_tasks=3, missing=missing, task_modalities=task_modalities
    )


def make(stream, method, *parts, **settings):
    """A learner of ``method`` with ``parts`` beside its own; settings: arguments of the Learner, or of the recipe."""
    chosen = {"epochs": 1, "batch_size": 16, "lr": 0.01, "device": "cpu", "progress": False}
    known = ("epochs", "batch_size", "lr", "optimizer", "clip_norm", "checkpoint_dir", "checkpoint_every", "seed")
    chosen |= {name: value for name, value in settings.items() if name in known}
    hyper = {name: value for name, value in settings.items() if name not in known}
    learner = Learner(default_model(stream, width=8), method, hyper=hyper, **chosen)
    learner.parts.extend(parts)
    return learner


def fitted(stream, method, *parts, **settings):
    torch.set_num_threads(1)  # also for what a test computes with the model afterwards
    learner = make(stream, method, *parts, **settings)
    learner.fit(stream)
    return learner


def parameters(model):
    return {name: p.detach().double().clone() for name, p in model.named_parameters()}


def one_by_one(model, loader, weighted, *, power=2):
    """Mean over rows n of Σ_c w_nc |∂ v_nc / ∂θ|^power; ``weighted(scores, target)`` gives a row's pairs (w, v)."""
    model = copy.deepcopy(model).double().eval().requires_grad_(True)
    named = dict(model.named_parameters())
    total = {name: torch.zeros_like(p) for name, p in named.items()}
    for batch in loader:
        for row in range(len(batch)):
            rows = batch.select(slice(row, row + 1))
            rows.inputs = {name: x.double() for name, x in rows.inputs.items()}
            for weight, value in weighted(model(rows).scores[0], rows.target[0]):
                grads = torch.autograd.grad(value, list(named.values()), retain_graph=True, allow_unused=True)
                for name, grad in zip(named, grads, strict=True):
                    if grad is not None:
                        total[name] += weight * grad.abs() ** power
    return {name: value / loader.n_rows for name, value in total.items()}


def every_label(scores, target):
    logp = scores.log_softmax(0)
    return [(float(p), value) for p, value in zip(logp.detach().exp(), logp, strict=True) if p > 0]


def given_label(scores, target):
    return [(1.0, scores.log_softmax(0)[target])]


def squared_norm(scores, target):
    return [(1.0, scores[scores > torch.finfo(torch.float32).min].square().sum())]


class Watch(Part):
    """Compares the term of the method's second part with ``expected(model)`` in every step, value and gradient.

    The first task must have no term. ``remember(learner, loader)`` is called after every task; ``compared`` counts.
    """

    def __init__(self, expected, remember, *, rtol=2e-4):
        self.expected, self.remember, self.rtol, self.compared = expected, remember, rtol, 0

    def loss(self, learner, batch, out):
        term = learner.parts[1].loss(learner, batch, out)
        if learner.task.id == 0:
            assert term is None
            return None
        model = copy.deepcopy(learner.model).double()
        value = self.expected(dict(model.named_parameters()))
        torch.testing.assert_close(term.double(), value, rtol=self.rtol, atol=1e-7)
        free = [p for p in learner.model.parameters() if p.requires_grad]
        ours = torch.autograd.grad(term, free, allow_unused=True, retain_graph=True)
        theirs = torch.autograd.grad(value, list(model.parameters()), allow_unused=True)
        scale = max(float(g.abs().max()) for g in theirs if g is not None)
        for a, b in zip(ours, theirs, strict=True):
            a = torch.zeros(1).double() if a is None else a.double()
            b = torch.zeros(1).double() if b is None else b
            torch.testing.assert_close(a, b, rtol=self.rtol, atol=self.rtol * scale)
        self.compared += 1
        return None

    def after_task(self, learner, task, loader):
        self.remember(learner, loader)


def squares(params, anchor, weight):
    return sum((weight[name] * (p - anchor[name]).square()).sum() for name, p in params.items())
