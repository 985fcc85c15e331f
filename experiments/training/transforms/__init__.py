"""Gradient transformations of the studies: baselines, and the average of the parameters."""
