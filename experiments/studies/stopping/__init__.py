"""Which stopping rule gives rows θ(w̄,w*) and f(w̄) of Tables 1 to 3 of arXiv 1812.05719.

These rows are those of no limit (``compare.impossible_rows``): the runs were stopped on their way. The paper states
neither the rule nor the learning rate nor the laws of w* and w⁰. Here every rule of a list stops runs of RVSM, with
the tolerance that explains the printed angles best.

Command: ``python -m experiments stopping``. ``docs/stopping_rule.md`` tells what was found.

Expected at the defaults: with one tolerance for all cells, rules on the length of a step, the Lagrangian, f(w) or the
number of steps are out by hundreds of units of log-likelihood. With one tolerance (or learning rate) for each penalty
the rule ‖Δw‖₁ < tol meets the 15 angles within 5 % in the mean, and no other comes near. Two minutes on two cores.
"""
