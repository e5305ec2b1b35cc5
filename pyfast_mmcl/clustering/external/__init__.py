"""Methods that bring knowledge from outside the data, such as texts or a vocabulary."""
