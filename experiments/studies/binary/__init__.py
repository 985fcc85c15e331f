"""Figure 4 of the Frontiers paper on RVSCGD, and tables beyond it: binarized activation, coarse gradient descent.

Command: ``python -m experiments binary``.

Expected at the defaults (600,000 lanes, and 50 runs of Figure 4 with η = 1e-5, all in float64): every lane and every
run converges, a lane in 24 steps with the largest η, a run of the figure in 782,000 steps. (c/2) sin θ = β‖ū‖ sin γ
holds to 1e-11 in every lane. In half of the runs the Lagrangian rises after its minimum, contrary to the paper's
Theorem 1. Half a minute on two cores.
"""
