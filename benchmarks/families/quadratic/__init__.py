"""Quadratic penalties of elastic weight consolidation: value and gradient over many old tasks."""
