"""Gradient transformations of the studies: baselines, and averages of the parameters."""
