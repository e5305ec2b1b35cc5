"""Multimodal batches, streams and scenarios."""
