"""Methods whose prior is a distribution of the representation, such as a mixture."""
