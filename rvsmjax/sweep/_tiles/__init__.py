"""How one tile of lanes runs: the fused step, XLA's loop over it, and the same step as GPU kernels."""
