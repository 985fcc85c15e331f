"""ADMM and RVSM on one-layer problems with a sparse w*."""
