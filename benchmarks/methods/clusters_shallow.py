"""Clusterings of scikit-learn and faiss on the same vectors."""

from __future__ import annotations

import numpy as np

from benchmarks.methods.clusters_data import Data
from benchmarks.methods.clusters_settings import Budget

STARTS = 10  # as many as ours


def kmeans(data: Data, seed: int, budget: Budget) -> np.ndarray:
    from sklearn.cluster import KMeans

    return KMeans(data.K, n_init=STARTS, random_state=seed).fit(data.vectors).labels_


def faiss_kmeans(data: Data, seed: int, budget: Budget) -> np.ndarray:
    import faiss

    # All rows, however many per centre: faiss would take a sample, and warn below 39 rows per centre.
    options = {"min_points_per_centroid": 1, "max_points_per_centroid": len(data.y)}
    model = faiss.Kmeans(data.vectors.shape[1], data.K, niter=100, nredo=STARTS, seed=seed, **options)
    model.train(data.vectors)
    return model.index.search(data.vectors, 1)[1][:, 0]


def mixture(data: Data, seed: int, budget: Budget) -> np.ndarray:
    from sklearn.mixture import GaussianMixture

    model = GaussianMixture(data.K, covariance_type="diag", reg_covar=1e-3, random_state=seed)
    return model.fit_predict(data.vectors)


def spectral(data: Data, seed: int, budget: Budget) -> np.ndarray:
    from sklearn.cluster import SpectralClustering

    return SpectralClustering(data.K, affinity="nearest_neighbors", random_state=seed).fit(data.vectors).labels_


def agglomerative(data: Data, seed: int, budget: Budget) -> np.ndarray:
    from sklearn.cluster import AgglomerativeClustering

    return AgglomerativeClustering(data.K).fit(data.vectors).labels_
