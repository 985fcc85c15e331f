"""What a run leaves behind: the folder of its record, data, checkpoints, surroundings."""
