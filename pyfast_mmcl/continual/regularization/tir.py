"""Task-similarity-informed regularisation: what mattered to a similar task is held less firmly."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from pyfast_mmcl._errors import InputError, unknown_name
from pyfast_mmcl.train.importance import LABELS, check_samples, fisher, output_sensitivity
from pyfast_mmcl.train.part import Part
from pyfast_mmcl.train.parts import CrossEntropy
from pyfast_mmcl.train.quadratic import Quadratic, grown, penalty_strength, state_entry
from pyfast_mmcl.train.registry import recipe

if TYPE_CHECKING:
    from pyfast_mmcl.data import Batch, Loader, Task
    from pyfast_mmcl.models import Output
    from pyfast_mmcl.train.learner import Learner

Embed = Callable[["Batch"], dict[str, Tensor]]
Importance = Callable[["Learner", "Loader"], dict[str, Tensor]]

_ROWS_PER_EMBEDDING = 1000


class SimilarityInformed(Part):
    """λ · Σ_i Ω_i (1 − s[owner_i]) (θ_i − θ*_i)², θ* the weights when the task began.

    Ω is the largest importance that any earlier task gave a weight, owner that task, and s its similarity to this one.
    """

    def __init__(
        self,
        lam: float,
        *,
        importance: str | Importance = "mas",
        embed: Embed | None = None,
        samples: int | None = None,
    ) -> None:
        if not callable(importance) and importance not in ("mas", *LABELS):
            raise unknown_name("importance of tir", importance, ("mas", *LABELS))
        if embed is not None and not callable(embed):
            raise InputError(f"embed: expected a function of a Batch, got {type(embed).__name__}.")
        self.lam = penalty_strength("lam", lam)
        self.importance = importance
        self.embed = raw_means if embed is None else embed
        self.samples = check_samples(samples)
        self.quadratic_ = Quadratic()
        self.owner_: dict[str, Tensor] = {}  # int16, as the weights
        self.embeddings_: list[dict[str, Tensor]] = []  # of the tasks so far, the current one included
        self._discounted: dict[str, Tensor] | None = None

    def before_task(self, learner: Learner, task: Task) -> None:
        self.embeddings_.append(task_embedding(learner, self.embed))
        self._discounted = None

    def loss(self, learner: Learner, batch: Batch, out: Output) -> Tensor | None:
        if self._discounted is None:
            self._discounted = self._discount(learner)
        return self.quadratic_.penalty(learner.model, self.lam, self._discounted)

    def after_task(self, learner: Learner, task: Task, loader: Loader) -> None:
        self._discounted = None
        new = self._measure(learner, loader)
        total = sum(float(omega.double().sum()) for omega in new.values())
        self.quadratic_.follow(learner.model)
        largest = dict(self.quadratic_.weight)
        for name, omega in new.items():
            omega = omega / total if total > 0 else omega
            old = largest.get(name, torch.zeros_like(omega))
            owner = grown(name, self.owner_.get(name, torch.zeros_like(old, dtype=torch.int16)), old)
            largest[name], self.owner_[name] = torch.maximum(old, omega), owner.masked_fill(omega > old, task.id)
        self.quadratic_.anchor_here(learner.model, largest)

    def state_dict(self) -> dict[str, Any]:
        return {
            "quadratic": self.quadratic_.state_dict(),
            "owner": dict(self.owner_),
            "embeddings": [dict(embedding) for embedding in self.embeddings_],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.quadratic_.load_state_dict(state_entry(state, "quadratic", dict))
        self.owner_ = dict(state_entry(state, "owner", dict))
        self.embeddings_ = list(state_entry(state, "embeddings", list))
        self._discounted = None

    def _discount(self, learner: Learner) -> dict[str, Tensor]:
        """Ω_i (1 − s[owner_i]) in a copy: the importance itself is not touched, so discounts do not compound."""
        self.quadratic_.follow(learner.model)
        firmness = 1 - similarities(self.embeddings_).to(learner.device)
        discounted = {}
        for name, omega in self.quadratic_.weight.items():
            owner = self.owner_[name] = grown(name, self.owner_[name], omega)
            discounted[name] = omega * firmness.to(omega.dtype)[owner.long()]
        return discounted

    def _measure(self, learner: Learner, loader: Loader) -> dict[str, Tensor]:
        if callable(self.importance):
            return checked(self.importance(learner, loader), learner.model)
        if self.importance == "mas":
            return output_sensitivity(learner, loader, samples=self.samples)
        return fisher(learner, loader, labels=self.importance, samples=self.samples)


def checked(importance: Any, model: nn.Module) -> dict[str, Tensor]:
    """A function's importance of parameters by name. Raises InputError where it cannot weigh a penalty."""
    if not isinstance(importance, dict):
        raise InputError(f"importance: expected {{parameter name: tensor}}, got {type(importance).__name__}.")
    parameters = dict(model.named_parameters())
    for name, value in importance.items():
        if name not in parameters:
            raise unknown_name("parameter in the importance", name, parameters)
        shape = parameters[name].shape
        if not isinstance(value, Tensor) or value.shape != shape:
            got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise InputError(f"importance: expected a tensor {tuple(shape)} for {name!r}, got {got}.")
        if not bool((value.isfinite() & (value >= 0)).all()):
            raise InputError(f"importance: expected finite numbers of at least 0 for {name!r}, got others.")
    return {name: value.detach() for name, value in importance.items()}


def raw_means(batch: Batch) -> dict[str, Tensor]:
    """Rows as they are: {modality: [B, D]} flattened numbers, or how often each token id occurs (id 0 pads)."""
    return {name: _counts(x) if _is_text(x) else x.flatten(1).float() for name, x in batch.inputs.items()}


def task_embedding(learner: Learner, embed: Embed) -> dict[str, Tensor]:
    """Unit vector [D] per modality: the mean of ``embed`` over some 1000 evenly spaced rows of the current task.

    Rows without a modality do not count for it; a modality that no row has is left out.
    """
    loader = learner.task_loader()
    stride = max(1, loader.n_rows // _ROWS_PER_EMBEDDING)
    sums: dict[str, Tensor] = {}
    position = 0
    for batch in loader:
        rows = torch.arange(-position % stride, len(batch), stride)
        position += len(batch)
        with torch.no_grad():
            batch = batch.select(rows).to(learner.device)
            for name, x in embedded(embed, batch).items():
                shown = x[batch.present[name]] if name in batch.present else x
                if len(shown):
                    sums[name] = _added(sums.get(name), shown.double().sum(0).cpu())
    return {name: (x / x.norm().clamp(min=torch.finfo(x.dtype).tiny)).float() for name, x in sums.items()}


def embedded(embed: Embed, batch: Batch) -> dict[str, Tensor]:
    """{modality: [B, D]} of a batch. Raises InputError where ``embed`` gives anything else."""
    vectors = embed(batch)
    if not isinstance(vectors, dict):
        raise InputError(f"embed: expected {{modality: [B, D]}}, got {type(vectors).__name__}.")
    for name, x in vectors.items():
        if not isinstance(x, Tensor) or x.ndim != 2 or len(x) != len(batch):
            got = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise InputError(f"embed: expected [{len(batch)}, D] for {name!r}, got {got}.")
    return vectors


def similarities(embeddings: list[dict[str, Tensor]]) -> Tensor:
    """s [t − 1] in [0, 1]: how similar each earlier task is to the last of ``embeddings``, float64.

    Per modality the dot products of all pairs of tasks, as z-scores through a sigmoid (a single pair: clamped to
    [0, 1]); then the product over the modalities that both tasks have, 0 where they have none in common.
    """
    last = len(embeddings) - 1
    similar, shared = torch.ones(last, dtype=torch.float64), torch.zeros(last, dtype=torch.bool)
    for name in dict.fromkeys(name for embedding in embeddings for name in embedding):
        have = [t for t, embedding in enumerate(embeddings) if name in embedding]
        pairs = [(i, j) for j in have for i in have if i < j]
        if not pairs:
            continue
        dots = torch.stack([_dot(embeddings[i][name], embeddings[j][name]) for i, j in pairs])
        if len(pairs) == 1:
            scores = dots.clamp(0, 1)
        else:
            spread = dots.std()
            scores = torch.sigmoid((dots - dots.mean()) / spread) if spread > 0 else torch.full_like(dots, 0.5)
        for (i, j), score in zip(pairs, scores, strict=True):
            if j == last:
                similar[i] *= score
                shared[i] = True
    return torch.where(shared, similar, 0.0)


def _is_text(x: Tensor) -> bool:
    return x.ndim == 2 and x.dtype in (torch.int32, torch.int64)


def _counts(ids: Tensor) -> Tensor:
    """[B, largest id + 1] how often each token occurs in its row, padding left out."""
    width = int(ids.max()) + 1 if ids.numel() else 1
    counts = torch.zeros(len(ids), width, device=ids.device)
    counts.scatter_add_(1, ids.long(), (ids != 0).to(counts.dtype))
    return counts


def _added(a: Tensor | None, b: Tensor) -> Tensor:
    """a + b, the shorter one filled with zeros: token counts are as long as the largest id seen."""
    if a is None:
        return b
    short, long = sorted((a, b), key=len)
    long = long.clone()
    long[: len(short)] += short
    return long


def _dot(a: Tensor, b: Tensor) -> Tensor:
    n = min(len(a), len(b))
    return a[:n].double() @ b[:n].double()


@recipe(
    family="regularization",
    paper="J. He et al., Continual Instruction Tuning for Large Multimodal Models, arXiv:2311.16206, 2023",
)
def tir(
    lam: float = 100.0,
    importance: str | Importance = "mas",
    embed: Embed | None = None,
    samples: int | None = None,
) -> list[Part]:
    """Cross-entropy and a quadratic around the latest optimum that is weaker for weights owned by similar tasks.

    loss = cross_entropy(scores, target) + lam · (Ω · (1 − s[owner]) · (θ − θ*)²).sum()
    Ω    = largest over earlier tasks k of Ω_k / Ω_k.sum(), owner the k of the maximum

    lam         strength, 0 for none; 100 as in the authors' example scripts with MAS
    importance  Ω_k: "mas", or a Fisher by its labels ("exact", "sampled", "empirical", "batch", "auto"), or a function
                (learner, loader) → {parameter name: tensor}
    embed       function of a Batch giving {name: [B, D]}, such as frozen image and text encoders; task embeddings are
                unit means of it. By default the raw inputs of every modality (token counts for text), which tells
                tasks apart by their average input and no more.
    samples     rows of a task that Ω_k is estimated from (default: all)

    Reference: He et al., arXiv:2311.16206 (IEEE TIP 2026). The prefactor, dividing Ω_k by its total, discounts that do
    not compound and the treatment of missing modalities follow our specification; the published method may differ.
    """
    return [CrossEntropy(), SimilarityInformed(lam, importance=importance, embed=embed, samples=samples)]
