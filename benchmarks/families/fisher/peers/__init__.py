"""Libraries and plain torch that compute squared per-sample gradients."""
