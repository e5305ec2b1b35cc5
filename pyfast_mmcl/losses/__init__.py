"""Objectives made of ops: contrastive, distillation and clustering terms."""
