"""One file per library whose contrastive loss a user would otherwise train with."""
