"""Methods that keep old knowledge by penalising change of parameters or outputs."""
