"""Studies, one package each."""
