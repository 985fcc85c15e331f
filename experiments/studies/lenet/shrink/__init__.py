"""LeNet-5 made smaller."""
