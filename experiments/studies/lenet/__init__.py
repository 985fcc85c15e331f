"""LeNet on MNIST: three studies and their common recipes."""
