"""Adaptive hard thresholding on one-layer problems."""
