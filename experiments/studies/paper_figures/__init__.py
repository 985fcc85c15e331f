"""Figures 2, 4, 5, 6 and 7 of arXiv 1812.05719, from our own functions.

Command: ``python -m experiments figures``. Expected: the shapes of the paper's figures; in Figure 6 l1 has the smallest
angle in every draw; in Figure 7 the Lagrangian never rises. Seconds.

Where the paper does not state a number, ``figure_data.CHOICES`` does.
"""
