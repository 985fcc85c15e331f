"""Transfer of files to the rented machine and back."""
