"""Methods that train on their own confident assignments."""
