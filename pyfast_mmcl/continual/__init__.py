"""Continual-learning methods: one folder per family of the survey, one file per published method."""
