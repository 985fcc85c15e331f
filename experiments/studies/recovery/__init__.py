"""Recovery of the support of a sparse w* by ū, the prox of the limit w̄ of RVSM on the one-layer network.

The papers announce sparse w* but have no experiment on it. Here w* has s of d components other than zero, normal values
on a random support, and ‖w*‖ = 1; w⁰ is uniform on the sphere. The steps use the population gradient.

Command: ``python -m experiments recovery``.

Expected: every lane converges, without false nonzeros. The threshold decides nearly alone: ū has the support of w*
where prox(w*, λ/β) has it, except for draws whose smallest component is just above the threshold (25 of 52,800 lanes at
d = 50, k = 2; with the ReLU more of them the larger kβ is). The share with the exact support is one half where the
threshold is the median of min |w*ᵢ|. About four minutes on two cores.
"""
