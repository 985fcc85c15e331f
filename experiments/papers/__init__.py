"""Settings and tables as the papers print them."""
