"""What the ranks of a ring do in its tests, and the same in one process with all rows."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist

from pyfast_mmcl.ops import contrastive
from pyfast_mmcl.ops.contrastive import reference, ring
from pyfast_mmcl.ops.contrastive._ring_wire import Wire

FEATURES = 7


class Case(NamedTuple):
    """One loss on seeded rows: op, rows of every rank, dtype and keywords of the op."""

    op: str
    rows: tuple[int, ...]
    cols: tuple[int, ...]
    dtype: str = "float64"
    scale: float = 9.0
    labels: int = 0  # how many different ones; 0: none
    weights: bool = False
    options: tuple[tuple[str, Any], ...] = ()
    seed: int = 0
    device: str = "cpu"


class Problem(NamedTuple):
    """All rows of a case, or those of one rank."""

    a: torch.Tensor
    b: torch.Tensor
    labels: tuple[torch.Tensor, torch.Tensor]
    weights: tuple[torch.Tensor, torch.Tensor]


def problem(case: Case) -> Problem:
    """The rows of all ranks, in rank order; they are unit rows, a pair resembles each other."""
    g = torch.Generator().manual_seed(case.seed)
    n, m = sum(case.rows), sum(case.cols)
    a = torch.randn(n, FEATURES, generator=g, dtype=torch.float64)
    b = torch.randn(m, FEATURES, generator=g, dtype=torch.float64)
    b[: min(n, m)] += a[: min(n, m)]
    dtype = getattr(torch, case.dtype)
    unit = [torch.nn.functional.normalize(x, dim=1).to(dtype).to(case.device) for x in (a, b)]
    labels = tuple(torch.randint(0, max(case.labels, 1), (k,), generator=g) for k in (n, m))
    weights = tuple(torch.rand(k, generator=g, dtype=torch.float64) for k in (n, m))
    return Problem(*unit, labels, weights)


def share(case: Case, rank: int) -> Problem:
    """The rows of ``rank``."""
    whole = problem(case)
    r = slice(sum(case.rows[:rank]), sum(case.rows[: rank + 1]))
    c = slice(sum(case.cols[:rank]), sum(case.cols[: rank + 1]))
    pick = [(pair[0][r], pair[1][c]) for pair in (whole.labels, whole.weights)]
    return Problem(whole.a[r], whole.b[c], *pick)


def views(case: Case, z: torch.Tensor) -> torch.Tensor:
    """NT-Xent in one process: view one of every rank, then view two of every rank, from rows in rank order."""
    starts = np.cumsum((0, *case.rows))
    first = [torch.arange(s, s + n // 2) for s, n in zip(starts, case.rows, strict=False)]
    second = [torch.arange(s + n // 2, s + n) for s, n in zip(starts, case.rows, strict=False)]
    return z[torch.cat([*first, *second])]


def _call(module: Any, suffix: str, case: Case, p: Problem, leaves: list[torch.Tensor], more: dict) -> torch.Tensor:
    a, b, scale, bias = leaves
    options = {**dict(case.options), **more}
    function = getattr(module, case.op + suffix)
    if case.op == "nt_xent":
        return function(views(case, a) if module is reference else a, scale, **options)
    if case.op == "sup_con":
        if case.weights:
            options["weights"] = p.weights[0]
        return function(a, p.labels[0], scale, **options)
    if case.labels:
        options["labels"] = p.labels
    if case.weights:
        options["weights"] = p.weights
    if case.op == "siglip":
        return function(a, b, scale, bias, **options)
    return function(a, b, scale, **options)


def _leaves(case: Case, p: Problem) -> list[torch.Tensor]:
    numbers = [torch.tensor(x, dtype=torch.float64) for x in (case.scale, -3.0)]
    return [x.requires_grad_() for x in (p.a.clone(), p.b.clone(), *numbers)]


def _answer(value: torch.Tensor, leaves: list[torch.Tensor], upstream: torch.Tensor) -> dict[str, np.ndarray]:
    grads = torch.autograd.grad(value, leaves, upstream.to(value), allow_unused=True)
    names = ("a", "b", "scale", "bias")
    found = {n: g.double().cpu().numpy() for n, g in zip(names, grads, strict=True) if g is not None}
    return {"value": value.detach().double().cpu().numpy(), **found}


def _upstream(case: Case, value: torch.Tensor, first: int) -> torch.Tensor:
    # Rows that are not reduced get different upstream gradients.
    return torch.tensor(1.0) if value.ndim == 0 else torch.arange(first, first + len(value)).double().sin() + 2


def on_rank(group: dist.ProcessGroup, case: Case) -> dict[str, np.ndarray]:
    """Value and gradients of this rank."""
    rank = dist.get_rank(group)
    p = share(case, rank)
    leaves = _leaves(case, p)
    more = {"process_group": group}
    # What only the ring knows is asked of the ring, the rest of the public op.
    known = {"gradient_factor", "scale_gradient"} & dict(case.options).keys()
    value = _call(ring, "_ring", case, p, leaves, more) if known else _call(contrastive, "", case, p, leaves, more)
    sizes = case.cols if dict(case.options).get("direction") == "ba" else case.rows
    return _answer(value, leaves, _upstream(case, value, sum(sizes[:rank])))


def in_one_process(case: Case, dtype: torch.dtype = torch.float64) -> dict[str, np.ndarray]:
    """The same in plain torch on the whole matrix, from the rows that the ranks have."""
    p = problem(case._replace(device="cpu"))
    p = p._replace(a=p.a.to(dtype), b=p.b.to(dtype))
    leaves = _leaves(case, p)
    value = _call(reference, "", case, p, leaves, {})
    return _answer(value, leaves, _upstream(case, value, 0))


def joined(answers: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The gradients of all ranks as one process has them: rows concatenated, those of scale and bias added."""
    whole = {n: np.concatenate([x[n] for x in answers]) for n in ("a", "b") if n in answers[0]}
    return whole | {n: sum(x[n] for x in answers) for n in ("scale", "bias") if n in answers[0]}


def with_nan(group: dist.ProcessGroup, case: Case) -> float:
    """The loss where one row of rank 1 is NaN."""
    p = share(case, dist.get_rank(group))
    if dist.get_rank(group) == 1:
        p.a[0, 0] = torch.nan
    return float(ring.info_nce_ring(p.a, p.b, case.scale, process_group=group))


def frozen(group: dist.ProcessGroup, case: Case) -> np.ndarray:
    """The gradient of a where b and the scale are constants."""
    p = share(case, dist.get_rank(group))
    a = p.a.requires_grad_()
    return torch.autograd.grad(ring.info_nce_ring(a, p.b, case.scale, process_group=group), a)[0].numpy()


class Towers(torch.nn.Module):
    """Two linear towers and a scale."""

    def __init__(self) -> None:
        super().__init__()
        g = torch.Generator().manual_seed(5)
        self.left, self.right = (
            torch.nn.Parameter(torch.randn(FEATURES, FEATURES, generator=g, dtype=torch.float64)) for _ in range(2)
        )
        self.logit_scale = torch.nn.Parameter(torch.tensor(1.5, dtype=torch.float64))

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return a @ self.left, b @ self.right, self.logit_scale.exp()


def _gradients(model: torch.nn.Module) -> dict[str, np.ndarray]:
    return {name.removeprefix("module."): p.grad.numpy() for name, p in model.named_parameters()}


def under_ddp(group: dist.ProcessGroup, case: Case) -> dict[str, np.ndarray]:
    """Gradients of the parameters after DDP's averaging, with the loss multiplied by the number of ranks."""
    p = share(case, dist.get_rank(group))
    model = torch.nn.parallel.DistributedDataParallel(Towers(), process_group=group)
    (ring.info_nce_ring(*model(p.a, p.b), process_group=group) * dist.get_world_size(group)).backward()
    return _gradients(model)


def towers_in_one_process(case: Case) -> dict[str, np.ndarray]:
    """The same parameters' gradients from all rows."""
    p, model = problem(case), Towers()
    reference.info_nce(*model(p.a, p.b)).backward()
    return _gradients(model)


def differing(group: dist.ProcessGroup, change: dict[str, Any]) -> float:
    """info_nce of three rows, but for what ``change`` says: its words, and op, features, rows of b, dtype."""
    options = dict(change)
    op, features = options.pop("op", "info_nce"), options.pop("features", FEATURES)
    dtype, rows = getattr(torch, options.pop("dtype", "float32")), options.pop("rows", 3)
    needs = options.pop("requires_grad", True)
    a, b = (torch.eye(n, features, dtype=dtype, requires_grad=needs) for n in (3, rows))
    numbers = (options.pop("scale", 10.0), *((0.0,) if op == "siglip" else ()))
    return float(getattr(contrastive, op)(a, b, *numbers, process_group=group, **options).detach())


def odd_views(group: dist.ProcessGroup, n: int) -> float:
    """nt_xent of n rows."""
    return float(contrastive.nt_xent(torch.eye(n, 5), 2.0, process_group=group))


def second_derivative(group: dist.ProcessGroup, op: str) -> None:
    """Asks for the gradient of a gradient."""
    a = torch.eye(3, requires_grad=True)
    value = getattr(contrastive, op)(a, torch.eye(3), 2.0, process_group=group)
    (gradient,) = torch.autograd.grad(value, a, create_graph=True)
    torch.autograd.grad(gradient.sum(), a)


def no_group(group: dist.ProcessGroup) -> None:
    """Hands in the group's name instead of the group."""
    contrastive.nt_xent(torch.eye(4), 2.0, process_group="WORLD")


def outside(group: dist.ProcessGroup) -> float:
    """Two of all ranks form a group, all of them call."""
    pair = dist.new_group([0, 1])
    return float(contrastive.nt_xent(torch.eye(4), 2.0, process_group=pair))


def without_graph(group: dist.ProcessGroup, case: Case) -> list[float]:
    """Values under no_grad, where only the leaves of some ranks require gradients."""
    rank = dist.get_rank(group)
    p = share(case, rank)
    a, b = p.a.requires_grad_(rank == 1), p.b.requires_grad_(rank == 2)
    with torch.no_grad():
        return [
            float(contrastive.info_nce(a, b, case.scale, process_group=group)),
            float(contrastive.siglip(a, b, case.scale, -3.0, process_group=group)),
        ]


def compiled(group: dist.ProcessGroup, case: Case) -> np.ndarray:
    """The gradient of a where the caller's function is compiled around the ring."""
    p = share(case, dist.get_rank(group))
    a = p.a.requires_grad_()

    def loss(x: torch.Tensor) -> torch.Tensor:
        return 2 * contrastive.info_nce(x + 0, p.b, case.scale, process_group=group)

    return torch.autograd.grad(torch.compile(loss, backend="aot_eager")(a), a)[0].numpy()


def from_numpy(group: dist.ProcessGroup, case: Case) -> float:
    """Rows as arrays."""
    p = share(case, dist.get_rank(group))
    return contrastive.info_nce(p.a.numpy(), p.b.numpy(), case.scale, process_group=group)


def device_not_carried(group: dist.ProcessGroup) -> None:
    """CPU rows in a group that is made to look like one of NCCL alone."""
    wire = Wire(group)
    wire._backends = {"cuda": "nccl"}
    wire.check_device(torch.device("cuda"))
    wire.check_device(torch.device("cpu"))


def over_nccl(group: dist.ProcessGroup, case: Case) -> dict[str, np.ndarray] | None:
    """`on_rank` in an NCCL group of as many ranks as there are GPUs; the other ranks have nothing to say."""
    ranks = list(range(len(case.rows)))
    nccl = dist.new_group(ranks, backend="nccl", use_local_synchronization=True)
    if dist.get_rank() not in ranks:
        return None
    torch.cuda.set_device(dist.get_rank())
    return on_rank(nccl, case)


def only_the_scale_learns(group: dist.ProcessGroup, case: Case) -> np.ndarray:
    """The scale's gradient where the rows are constants."""
    p = share(case, dist.get_rank(group))
    scale = torch.tensor(case.scale, dtype=torch.float64, requires_grad=True)
    leaves = [p.a, p.b, scale, torch.tensor(-3.0)]
    value = _call(contrastive, "", case, p, leaves, {"process_group": group})
    return torch.autograd.grad(value, scale)[0].numpy()
