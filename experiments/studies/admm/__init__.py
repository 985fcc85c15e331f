"""RVSM beside ADMM on the one-layer network (IntelliSys 2020, section 3.3).

Claim: ADMM's multiplier "tends to reduce the sparsity of the limit" as it closes the gap between w and u, and RVSM's u
"is much more sparse than in the case of ADMM".

Command: ``python -m experiments admm``.

Expected at the defaults: the claim holds for dense w* at equal λ and β, in every cell. A component of RVSM's u is zero
where |w*_i| is under about kλ + λ/β, in ADMM, which rests where w = u, under about kλ (l1): 12 ± 9 % of zeros against
0.2 ± 1 % at λ = 1e-4, β = 4e-3, d = 20. With l0 (and tl1 at larger λ) ADMM does not rest. At equal share of zeros the
angles of l1 are about the same for both; where 80 % of w* are zero both find them (81 and 80 %). Seven minutes on two
shared cores.
"""
