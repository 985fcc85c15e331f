"""Speed against peers, each measured in the same run."""
