"""Libraries and plain torch that compute quadratic penalties."""
