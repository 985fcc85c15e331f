"""λ, β and a tuned for a required sparsity by gradient descent through the limit and by grid search: is Tl1 best?

Command: ``python -m experiments tune``.

Expected at the defaults (12 settings, three penalties each, 2,000 held-out seeds): no. At equal sparsity tuned Tl1 is
closer to w* than l1 by 0.08 to 0.14 rad in every setting, and at best as close as l0: its angle exceeds the least angle
possible with as many nonzero components by 0 to 0.001 rad. Tuning drives Tl1 towards l0, with a at or near its lower
bound; l0 has only λ to tune, since its ū is w* on the support. Gradient and grid agree to 0.002 rad for l0 and Tl1, and
to 0.005 for l1, where the grid has a slightly better β far from the start. Six minutes of one core, with compilation.
"""
