"""The penalties that every study takes, by name."""
