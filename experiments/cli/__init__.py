"""Command line: flags, registry of commands, cost estimates, records."""
