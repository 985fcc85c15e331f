"""How many weights of each leaf are live, for a sparsity over all leaves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from rvsmjax import _checks

DISTRIBUTIONS = ("erk", "uniform")


def live_counts(shapes: Sequence[tuple[int, ...]], sparsity: float, distribution: str = "erk") -> list[int]:
    """Returns the number of live weights of each leaf; round(sparsity·n) of all n weights are not.

    ``"uniform"`` gives all leaves one density. ``"erk"``, Erdős–Rényi-Kernel, gives leaf l the density

        min(1, ε · (sum of its dimensions)/(product of its dimensions)),

    with the ε at which the densities have the sparsity: small leaves are denser. The numbers are then rounded to whole
    ones, those with the largest remainders up.

    Args:
      shapes: shapes of the leaves.
      sparsity: fraction of zeros over all leaves, in [0, 1).
      distribution: ``"erk"`` or ``"uniform"``.

    Raises:
      ValueError: if ``sparsity`` is outside [0, 1), or the distribution is unknown.

    Source: RigL, arXiv 1911.11134, section 3 (1); the kernel version of SET, arXiv 1707.04780.

    Example:
      >>> live_counts([(4, 4), (8, 8)], 0.75)
      [7, 13]
    """
    _checks.fraction("sparsity", sparsity)
    _checks.one_of("distribution", distribution, DISTRIBUTIONS)
    sizes = [math.prod(shape) for shape in shapes]
    live = sum(sizes) - round(float(sparsity) * sum(sizes))
    # The density is a share of the size, so the number of live weights is proportional to the sum of the dimensions.
    # A scalar counts as a vector of length one, which is full.
    shares = [Fraction(n if distribution == "uniform" else sum(s or (1,))) for s, n in zip(shapes, sizes, strict=True)]
    exact = _clipped(shares, sizes, live)
    counts = [math.floor(number) for number in exact]
    by_remainder = sorted(range(len(counts)), key=lambda i: counts[i] - exact[i])
    for i in by_remainder[: live - sum(counts)]:
        counts[i] += 1
    return counts


def _clipped(shares: Sequence[Fraction], sizes: Sequence[int], total: int) -> list[Fraction]:
    """Returns numbers proportional to the shares, but at most the sizes, that add up to ``total``."""
    full: set[int] = set()
    while True:
        rest = sum((share for i, share in enumerate(shares) if i not in full and sizes[i]), Fraction(0))
        left = total - sum(sizes[i] for i in full)
        scale = left / rest if rest else Fraction(0)
        over = {i for i, share in enumerate(shares) if i not in full and scale * share > sizes[i] > 0}
        if not over:
            pairs = enumerate(zip(shares, sizes, strict=True))
            return [Fraction(size) if i in full or not size else scale * share for i, (share, size) in pairs]
        full |= over
