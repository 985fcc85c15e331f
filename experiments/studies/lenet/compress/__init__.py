"""LeNet-5 compressed."""
