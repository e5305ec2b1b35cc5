"""The two bounds every method is read against: plain fine-tuning and joint training."""
