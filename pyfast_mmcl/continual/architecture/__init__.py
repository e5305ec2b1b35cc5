"""Methods that give new tasks parameters of their own: adapters, masks, columns."""
