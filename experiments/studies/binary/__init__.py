"""Figure 4 of the Frontiers paper on RVSCGD, and tables beyond it: binarized activation, coarse gradient descent.

Command: ``python -m experiments binary``.

Expected at the defaults (600,000 lanes, and 50 runs of Figure 4 in steps of η = 1e-5, all in float64): every lane and
every run converges, a lane in 24 steps of the largest η, a run of the figure in 782,000; (c/2) sin θ = β‖ū‖ sin γ to
1e-11 in every lane; in half of the runs the Lagrangian rises after its minimum, which the paper's Theorem 1 denies.
Half a minute on two cores.
"""

from experiments.cli.command import Command
from experiments.cli.estimate import Cost, in_proportion
from experiments.studies.binary.config import BinaryConfig, work

STUDY = Command(
    name="binary",
    config=BinaryConfig,
    run=f"{__name__}.run:run",
    workload=in_proportion("binary", Cost(25, 35, 1.2), work),
    examples=("--quick", "--d 20 --k 1 10 --seeds 1000"),
)
