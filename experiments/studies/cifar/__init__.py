"""Pruned networks on CIFAR-10."""
