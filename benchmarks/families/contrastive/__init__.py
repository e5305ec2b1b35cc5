"""Contrastive losses: forward and backward over all pairs of two sets of rows."""
