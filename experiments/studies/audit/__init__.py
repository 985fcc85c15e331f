"""The papers' claims, held against random problems."""
