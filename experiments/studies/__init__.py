"""The studies, each in a folder of its own."""
