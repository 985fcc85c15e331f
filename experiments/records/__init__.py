"""Records of runs: folders, data, checkpoints, environment."""
