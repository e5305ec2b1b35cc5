"""Contrastive similarity of two sets of rows, without the matrix of all pairs."""
