"""Clustering estimators in scikit-learn's manner: one folder per prior of the survey, one file per method."""
