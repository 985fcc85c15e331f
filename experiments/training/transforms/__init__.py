"""Gradient transformations of the studies: baselines, and lookahead."""
