"""Parameters found by gradient, beside search."""
