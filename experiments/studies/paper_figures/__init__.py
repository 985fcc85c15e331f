"""Figures 2, 4, 5, 6 and 7 of arXiv 1812.05719, drawn with the library's functions.

Command: ``python -m experiments figures``. Expected: the shapes of the paper's figures; in Figure 6 l1 has the smallest
angle in every draw; in Figure 7 the Lagrangian never rises. Seconds.

``data.CHOICES`` has the numbers that the paper does not state.
"""
