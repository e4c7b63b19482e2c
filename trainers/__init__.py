"""Scores one candidate: data sets, child networks, training, results. No Ray, no search."""
