"""Measures of continual learning, clustering and retrieval."""
