"""Methods whose prior is the structure of the data: manifolds, graphs, subspaces."""
