"""Figures 2, 4, 5, 6 and 7 of arXiv 1812.05719, from our own functions.

Command: ``python -m experiments figures``. Expected: the shapes of the paper's figures; in Figure 6 l1 has the smallest
angle in every draw; in Figure 7 the Lagrangian never rises. Seconds.

Where the paper does not state a number, ``figure_data.CHOICES`` does.
"""

from experiments.cli.command import Command
from experiments.cli.estimate import Cost, always
from experiments.studies.paper_figures.config import FiguresConfig

STUDY = Command(
    name="figures",
    config=FiguresConfig,
    run=f"{__name__}.run:run",
    workload=always("figures", "a few figures", Cost(7, 0, 0.5)),
    examples=("",),
)
