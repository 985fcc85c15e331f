"""LeNet on MNIST: three studies and the recipes that they share."""
