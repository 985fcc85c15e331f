"""Comparison of RVSM and ADMM on the one-layer network (IntelliSys 2020, section 3.3).

Claim: ADMM's multiplier "tends to reduce the sparsity of the limit" as it closes the gap between w and u, and RVSM's u
"is much more sparse than in the case of ADMM".

Command: ``python -m experiments admm``.

Expected at the defaults: the claim holds for dense w* at equal λ and β, in every cell. With l1, a component of u is
zero for |w*_i| below about kλ + λ/β in RVSM, and below about kλ in ADMM, whose limits have w = u: 12 ± 9 % of zeros
against 0.2 ± 1 % at λ = 1e-4, β = 4e-3, d = 20. With l0 (and tl1 at larger λ) ADMM does not converge. At equal sparsity
the angles of l1 are about the same for both; if 80 % of w* are zero, both recover them (81 and 80 %). Seven minutes on
two shared cores.
"""
