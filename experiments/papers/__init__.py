"""Settings and tables printed in the papers."""
