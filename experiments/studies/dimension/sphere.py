"""Components of a vector uniform on the unit sphere in R^d: probabilities that they are small."""

from __future__ import annotations

import math

import numpy as np
from scipy import special

TERMS = 2**18
"""Maximum number of terms of the sum; reached only for d < 10, whose terms decay slowly."""

RARE = 1e-6
"""Expected number of components over t under which two of them at once can be neglected."""

MOST = 10**6
"""Largest d that ``half_dimension`` tries."""


def all_below(d: int, t: float) -> float:
    """Returns P(max|wᵢ| ≤ t), with an absolute error under 1e-9 for d ≥ 10; for smaller d under 2e-3, near t = 1/√d.

    For t² ≥ ½ at most one component exceeds t, so P = 1 − d P(|w₁| > t). Else, with R = 1/t², P is up to a factor the
    density at R of the sum of squares of d variables uniform in [−1, 1]. That density has the Laplace transform
    (√(π/p) erf(√p) / 2)^d, so

      P = Γ(d/2) R^(1−d/2) / (2πi) ∫ e^(pR) p^(−d/2) erf(√p)^d dp

    along a vertical line. The sum lies in [0, d], so the trapezoidal rule of step 2π/d has no discretisation error.

    Args:
      d: dimension, at least 1.
      t: bound, at least 0.
    """
    if t >= 1:
        return 1.0
    if d * t**2 <= 1:
        return 0.0
    over = d * (1 - one_below(d, t))
    if t**2 >= 0.5 or over < RARE:
        return max(1 - over, 0.0)
    square = 1 / t**2
    middle = d / (2 * square)  # saddle point of e^(pR) p^(−d/2)
    step = 2 * math.pi / d
    # From here on |1 + iω/middle|^(−d/2) is under 1e-18.
    end = middle * math.sqrt(10 ** min(72 / d, 30) - 1)
    omega = step * np.arange(min(TERMS, math.ceil(end / step) + 1))
    relative = 1 + 1j * omega / middle
    exponent = 1j * omega * square - d / 2 * np.log(relative) + d * np.log(special.erf(np.sqrt(middle * relative)))
    terms = np.exp(exponent).real
    scale = math.lgamma(d / 2) + d / 2 - d / 2 * math.log(d / 2) + math.log(square * step / math.pi)
    total = math.exp(scale) * (float(terms.sum()) - float(terms[0]) / 2)
    return min(max(total, 0.0), 1.0)


def one_below(d: int, t: float) -> float:
    """Returns P(|wᵢ| ≤ t), the expected share of components up to t."""
    if d == 1 or t >= 1:
        return float(t >= 1)
    return float(special.betainc(1 / 2, (d - 1) / 2, t**2))


def half_dimension(t: float) -> int | None:
    """Returns the smallest d with P(max|wᵢ| ≤ t) ≥ ½; None if it exceeds ``MOST``."""
    low, high = 0, 1
    while all_below(high, t) < 0.5:
        low, high = high, 2 * high
        if low >= MOST:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if all_below(middle, t) >= 0.5 else (middle, high)
    return high
