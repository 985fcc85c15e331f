"""LeNet with binary activations."""
