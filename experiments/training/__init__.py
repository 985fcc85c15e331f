"""Training of networks: recipes, optimizer chains, compiled programs, training loop, store of finished runs."""
