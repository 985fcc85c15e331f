"""How the tiles of a grid become one compiled program: plan, draws, queue with refilling, measures."""
