"""What the papers print: the sentences that claims refute, and those beyond numbered results."""
