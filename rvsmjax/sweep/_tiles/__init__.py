"""Execution of one tile: the fused step, XLA's loop over it, and the same step as GPU kernels."""
