"""Methods whose prior is invariance to augmentation."""
