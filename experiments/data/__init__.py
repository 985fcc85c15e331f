"""The images that networks are trained on."""
