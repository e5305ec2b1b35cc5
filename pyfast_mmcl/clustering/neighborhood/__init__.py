"""Methods whose prior is that neighbours share a cluster."""
