"""Choosing rows: reservoirs, priority trees, herding, k-centre, weighted draws, replay memories."""
