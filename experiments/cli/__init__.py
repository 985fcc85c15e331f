"""The command line: flags, the registry of commands, what every command does around its own work."""
