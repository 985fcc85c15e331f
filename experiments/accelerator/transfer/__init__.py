"""What travels to the rented machine and what comes back."""
