"""The one training loop: learner, parts, memory, registry, checkpoints, progress."""
