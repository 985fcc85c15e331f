"""RVSCGD on the one-layer network with binary activation."""
