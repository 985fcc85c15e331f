"""RVSM on logistic classification with the one-layer network, which both papers name as future work."""
