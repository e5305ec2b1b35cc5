"""Fisher information: squared per-sample gradients of whole models."""
