"""The one-layer study: Tables 1 to 3 of the paper, and beyond."""
