"""The colours of all figures: Paul Tol's bright scheme, which the colour-blind can tell apart, and two greys."""

BLUE, RED, GREEN, YELLOW = "#4477AA", "#EE6677", "#228833", "#CCBB44"
CYAN, PURPLE, BLACK, GREY, INK = "#66CCEE", "#AA3377", "#222222", "#999999", "#4D4D4D"
PALETTE = (BLUE, RED, GREEN, YELLOW, CYAN, PURPLE, GREY, BLACK)
"""In the order in which series without a colour of their own get them."""
