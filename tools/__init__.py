"""Developer tools; not installed with the library."""
