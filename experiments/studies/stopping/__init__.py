"""Stopping rules that could explain rows θ(w̄,w*) and f(w̄) of Tables 1 to 3 of arXiv 1812.05719.

These rows are not those of limits (``paper_comparison.impossible_rows``): the runs were stopped before convergence. The
paper states neither the stopping rule nor the learning rate nor the distributions of w* and w⁰. Here each of a list of
rules stops runs of RVSM, with the tolerance that best explains the printed angles.

Command: ``python -m experiments stopping``. Results: ``docs/stopping_rule.md``.

Expected at the defaults: with one tolerance for all cells, rules on the length of a step, the Lagrangian, f(w) or the
number of steps are worse by hundreds of units of log-likelihood. With one tolerance (or learning rate) per penalty the
rule ‖Δw‖₁ < tol matches the 15 angles within 5 % on average; no other rule comes close. Two minutes on two cores.
"""
