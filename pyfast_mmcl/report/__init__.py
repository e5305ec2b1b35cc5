"""Tables, plots and the self-contained HTML page that shows a run."""
