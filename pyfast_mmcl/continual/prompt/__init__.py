"""Methods that learn prompts for a frozen backbone."""
