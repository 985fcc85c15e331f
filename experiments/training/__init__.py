"""Networks are trained: recipes, compiled programs, the loop, runs that are kept."""
