"""Lines of the tables of clusterings: what is run, by which library, on which form of the rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.methods import clusters_clip, clusters_clustpy, clusters_shallow
from benchmarks.methods.clusters_data import Data
from benchmarks.methods.clusters_settings import BATCH, Budget
from pyfast_mmcl.clustering.deep import Training
from pyfast_mmcl.train.registry import get_estimator

# (data, seed, budget) → labels [N]
Run = Callable[[Data, int, Budget], np.ndarray]


@dataclass(frozen=True)
class Ours:
    """One of the package's estimators, by its registered name.

    reads   attribute of Data that it is given; it scales the rows itself
    fixed   parameters; what the budget says of the method's name comes on top
    """

    method: str
    reads: str = "vectors"
    fixed: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, data: Data, seed: int, budget: Budget) -> np.ndarray:
        hyper = dict(self.fixed) | budget.of(self.method, len(data.y))
        estimator = get_estimator(self.method).build(n_clusters=data.K, random_state=seed, **hyper)
        return np.asarray(estimator.fit(getattr(data, self.reads)).labels_)


@dataclass(frozen=True)
class Tac:
    """TAC on the CLIP's embeddings, with WordNet's nouns, or those it has learnt from, by its text tower."""

    fixed: Mapping[str, Any]
    known: bool = False

    def __call__(self, data: Data, seed: int, budget: Budget) -> np.ndarray:
        bank = clusters_clip.nouns(known=self.known)
        return Ours("tac", "clip", {"text_bank": bank, **self.fixed})(data, seed, budget)


@dataclass(frozen=True)
class Line:
    """One line of a table.

    run     what is measured
    beside  for a peer: lines of the package with the same method, with each of which it is compared
    once    no seed makes a difference: run for the first one only
    """

    run: Run
    beside: tuple[str, ...] = ()
    once: bool = False

    @property
    def method(self) -> str:
        """The registered name of a method of the package's; "" for a peer's."""
        return "tac" if isinstance(self.run, Tac) else getattr(self.run, "method", "")


_BF16 = {"training": Training(precision="bf16")}
LINES: dict[str, Line] = {
    "kmeans": Line(Ours("kmeans", fixed={"n_init": 10})),
    "kmeans, scikit-learn": Line(clusters_shallow.kmeans, ("kmeans",)),
    "kmeans, faiss": Line(clusters_shallow.faiss_kmeans, ("kmeans",)),
    "balanced_kmeans": Line(Ours("balanced_kmeans")),
    "kmeans, views": Line(Ours("kmeans", "views", {"n_init": 10})),
    "kmeans, spherical": Line(Ours("kmeans", fixed={"n_init": 10, "spherical": True})),
    "Gaussian mixture, scikit-learn": Line(clusters_shallow.mixture),
    "spectral clustering, scikit-learn": Line(clusters_shallow.spectral),
    "agglomerative (Ward), scikit-learn": Line(clusters_shallow.agglomerative, once=True),
    "dec": Line(Ours("dec")),
    "dec, bf16": Line(Ours("dec", fixed=_BF16)),
    "dec, ClustPy": Line(clusters_clustpy.dec, ("dec", "dec, bf16")),
    "idec": Line(Ours("dec", fixed={"improved": True})),
    "idec, bf16": Line(Ours("dec", fixed={"improved": True, **_BF16})),
    "idec, ClustPy": Line(clusters_clustpy.idec, ("idec", "idec, bf16")),
    "abdc": Line(Ours("abdc")),
    "abdc, bf16": Line(Ours("abdc", fixed=_BF16)),
    "abdc, ClustPy": Line(clusters_clustpy.aec, ("abdc", "abdc, bf16")),
    "den": Line(Ours("den")),
    "den, ClustPy": Line(clusters_clustpy.den, ("den",)),
    "vade": Line(Ours("vade", "unit_range", {"likelihood": "bernoulli"})),
    # ClustPy adds the mean divergence of a batch to the sum of its reconstructions.
    "vade, β 1/256": Line(Ours("vade", "unit_range", {"likelihood": "bernoulli", "beta": 1 / BATCH})),
    "vade, ClustPy": Line(clusters_clustpy.vade, ("vade", "vade, β 1/256")),
    "vade, Gaussian": Line(Ours("vade")),
    "imsat": Line(Ours("imsat")),
    "rim": Line(Ours("rim")),
    "spectral_net": Line(Ours("spectral_net")),
    "party": Line(Ours("party")),
    "jule": Line(Ours("jule")),
    "cluster_gan": Line(Ours("cluster_gan")),
    "iic": Line(Ours("iic", "images", _BF16)),
    "cc": Line(Ours("cc", "images", _BF16)),
    "scan": Line(Ours("scan", "images", _BF16)),
    "scan, vectors": Line(Ours("scan")),
    "kmeans, CLIP": Line(Ours("kmeans", "clip", {"n_init": 20, "spherical": True})),
    "tac, training-free": Line(Tac({"training_free": True})),
    "tac": Line(Tac({})),
    "tac, training-free, nouns learnt": Line(Tac({"training_free": True}, known=True)),
    "tac, nouns learnt": Line(Tac({}, known=True)),
}
