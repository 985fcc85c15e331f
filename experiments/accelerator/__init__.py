"""Minutes on a rented accelerator: an ordered queue of measurements and trainings, and their way there and back."""
