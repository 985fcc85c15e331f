"""Tables 1, 2 and 3 of arXiv 1812.05719, also for k = 5, 10, 20 and any grid of parameters.

Command: ``make sweep``, or ``python -m experiments sweep``.

Expected at the defaults (600,000 lanes): every lane converges and meets bound (13). Of the 60 printed values in rows
θ(ū,w*), f(ū), f(ū/‖ū‖) and d − ‖ū‖₀, 54 are within the range of our draws and 51 within two standard deviations (l1 at
d = 10 and 20 is outside). Rows θ(w̄,w*) and f(w̄) cannot be those of limits. About one minute on two cores.
"""
