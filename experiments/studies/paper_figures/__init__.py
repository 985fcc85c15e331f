"""The figures of the paper that need no sweep."""
