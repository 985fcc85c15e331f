"""λ, β and a tuned for a required sparsity, by gradient through the limit and by grid search: is Tl1 better than both?

Command: ``python -m experiments tune``.

Expected at the defaults (12 settings, three penalties each, 2,000 held-out seeds): no. At equal sparsity tuned Tl1 is
nearer to w* than l1 by 0.08 to 0.14 rad in every setting, and at best as near as l0: over the least angle possible with
as many nonzero components it has 0 to 0.001 rad more, never less. It is tuned towards l0, a to its lower bound or near
it; l0 has nothing to tune but λ: its ū is w* on its support. Gradient and grid agree to 0.002 rad for l0 and Tl1, to
0.005 for l1, of which the grid finds a slightly better β far from the start. Six minutes of one core, compilation
included.
"""
