"""Dimensions from which RVSM at fixed λ and β sets every component of u to zero.

The penalty zeroes every component of w̄ up to a threshold t, which depends on λ/β alone, while the components of a unit
vector shrink like 1/√d. Where ū = 0 the splitting has no tangential force, so w̄ = w*: such a limit exists if and only
if max|w*ᵢ| ≤ t. The study compares the share of limits with ū = 0 with the probability of that for w* uniform on the
sphere, which is computed exactly, and lane by lane with the lane's own w*.

Command: ``python -m experiments dimension``.

Expected at the defaults: with ℓ0 (t = 0.22) half of the lanes have ū = 0 at d = 165 and all at d = 600; with Tℓ1
(t = 0.05) and ℓ1 (t = 0.025) none has up to d = 800, since there it takes d = 5,938 and 28,507. No lane has ū = 0 and
max|w*ᵢ| > t; about 0.5 % of those with max|w*ᵢ| ≤ t end at another limit. Four and a half minutes on two cores that
trained networks beside it; 85 s of processor time.
"""
