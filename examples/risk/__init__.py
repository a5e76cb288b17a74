"""Scikit-learn's diabetes patients: who is at risk of getting worse, a model found by search, and groups beside it."""
