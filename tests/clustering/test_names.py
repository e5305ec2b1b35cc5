"""Estimators are found in the room of clustering by the names of their classes."""

import pytest

import pyfast_mmcl
from pyfast_mmcl import clustering
from pyfast_mmcl.clustering.kmeans import KMeans
from pyfast_mmcl.train.registry import estimators


def test_every_estimator_is_found_by_name():
    for entry in estimators().values():
        assert getattr(clustering, entry.target.__name__) is entry.target
        assert entry.target.__name__ in dir(clustering)
    from pyfast_mmcl.clustering import KMeans as found
    from pyfast_mmcl.clustering import Training

    assert found is KMeans is pyfast_mmcl.clustering.KMeans
    assert Training(threads=2).threads == 2 and "Training" in dir(clustering)


def test_neighbours_are_found_by_name():
    from pyfast_mmcl.clustering import knn_graph, neighbors, neighbors_of

    assert neighbors_of is neighbors.neighbors_of and knn_graph is neighbors.knn_graph
    assert {"nearest_rows", "mutual_neighbors", "shared_neighbors"} <= set(dir(clustering))
    assert clustering.nearest_rows is neighbors.nearest_rows


def test_no_two_estimators_share_a_name():
    names = [entry.target.__name__ for entry in estimators().values()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", ["KMean", "kmean", "_hidden", "Engine"])
def test_other_names_are_no_attributes(name):
    with pytest.raises(AttributeError, match=name):
        getattr(clustering, name)
