"""Minimizers of ½‖x − v‖² + step·P(x) in 50 digits, from the definition of P alone.

A scalar objective is smooth between its knots. Its minimizer is a knot or a stationary point, where a polynomial
vanishes; all candidates are compared by their objective. Vectors are found by enumerating supports or blocks. A tie
goes to the candidate of least norm, then to the one listed first.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import mpmath
from mpmath import mpf

Number = Any
"""An ``mpf``: mpmath has no types."""
Vector = list[Number]
DIGITS = 50
TIE = mpf(10) ** -40
"""Relative difference of objectives below which two candidates tie: it is rounding at 50 digits."""


class Piece(NamedTuple):
    """An interval of x >= 0 on which the objective is smooth.

    Attributes:
      low: its lower end.
      high: its upper end.
      stationary: (v, step) ↦ coefficients, highest first, of a polynomial that vanishes in r at stationary points.
      power: x = r^power.
    """

    low: Number
    high: Number
    stationary: Callable[[Number, Number], Sequence[Number]]
    power: int = 1


class Scalar(NamedTuple):
    """ρ(x) for x >= 0, and its smooth pieces."""

    rho: Callable[[Number], Number]
    pieces: Sequence[Piece]


INFINITY = mpf("inf")


def l1() -> Scalar:
    """ρ(x) = x."""
    return Scalar(lambda x: x, [Piece(mpf(0), INFINITY, lambda v, s: (1, s - v))])


def l0() -> Scalar:
    """ρ(x) = 1 where x > 0."""
    return Scalar(lambda x: mpf(x > 0), [Piece(mpf(0), INFINITY, lambda v, s: (1, -v))])


def tl1(a: Number) -> Scalar:
    """ρ(x) = (a + 1)x/(a + x), of slope a(a + 1)/(a + x)²."""
    return Scalar(
        lambda x: (a + 1) * x / (a + x),
        [Piece(mpf(0), INFINITY, lambda v, s: (1, 2 * a - v, a * a - 2 * a * v, s * a * (a + 1) - a * a * v))],
    )


def mcp(gamma: Number) -> Scalar:
    """ρ(x) = x − x²/(2γ) up to γ, γ/2 beyond."""
    return Scalar(
        lambda x: x - x * x / (2 * gamma) if x < gamma else gamma / 2,
        [
            Piece(mpf(0), gamma, lambda v, s: (1 - s / gamma, s - v)),
            Piece(gamma, INFINITY, lambda v, s: (1, -v)),
        ],
    )


def scad(gamma: Number) -> Scalar:
    """ρ of slope 1 up to 1, (γ − x)/(γ − 1) up to γ, 0 beyond."""

    def rho(x: Number) -> Number:
        if x <= 1:
            return x
        return (2 * gamma * x - x * x - 1) / (2 * (gamma - 1)) if x < gamma else (gamma + 1) / 2

    return Scalar(
        rho,
        [
            Piece(mpf(0), mpf(1), lambda v, s: (1, s - v)),
            Piece(mpf(1), gamma, lambda v, s: (1 - s / (gamma - 1), s * gamma / (gamma - 1) - v)),
            Piece(gamma, INFINITY, lambda v, s: (1, -v)),
        ],
    )


def l_half() -> Scalar:
    """ρ(x) = √x; in r = √x the slope of the objective times r is r³ − vr + s/2."""
    return Scalar(mpmath.sqrt, [Piece(mpf(0), INFINITY, lambda v, s: (1, 0, -v, s / 2), power=2)])


def log_sum(epsilon: Number) -> Scalar:
    """ρ(x) = log(1 + x/ε), of slope 1/(ε + x)."""
    return Scalar(
        lambda x: mpmath.log1p(x / epsilon),
        [Piece(mpf(0), INFINITY, lambda v, s: (1, epsilon - v, s - epsilon * v))],
    )


def capped_l1(theta: Number) -> Scalar:
    """ρ(x) = min(x, θ)."""
    return Scalar(
        lambda x: min(x, theta),
        [Piece(mpf(0), theta, lambda v, s: (1, s - v)), Piece(theta, INFINITY, lambda v, s: (1, -v))],
    )


SCALARS: Mapping[str, Callable[..., Scalar]] = {
    "l1": l1,
    "l0": l0,
    "tl1": tl1,
    "mcp": mcp,
    "scad": scad,
    "l_half": l_half,
    "log_sum": log_sum,
    "capped_l1": capped_l1,
}


def real_roots(coefficients: Sequence[Number]) -> Iterator[Number]:
    """Yields the real roots of a polynomial of degree at most three, highest coefficient first."""
    coefficients = list(itertools.dropwhile(lambda c: c == 0, coefficients))
    if len(coefficients) < 2:
        return
    if len(coefficients) == 2:
        yield -coefficients[1] / coefficients[0]
    elif len(coefficients) == 3:
        one, b, c = (x / coefficients[0] for x in coefficients)
        square = b * b - 4 * one * c
        if square >= 0:
            # One root as a sum without cancellation, the other from the product of both.
            large = -(b + mpmath.sign(b) * mpmath.sqrt(square)) / 2 if b else mpmath.sqrt(square) / 2
            yield large
            if large:
                yield c / large
    else:
        with mpmath.workdps(4 * DIGITS):  # double roots lose half the digits
            yield from cubic_roots(*(x / coefficients[0] for x in coefficients[1:]))


def cubic_roots(b: Number, c: Number, d: Number) -> list[Number]:
    """Returns the real roots of x³ + bx² + cx + d by the formulas of Viète and Cardano."""
    p, q = c - b * b / 3, 2 * b**3 / 27 - b * c / 3 + d
    inside = (q / 2) ** 2 + (p / 3) ** 3
    if inside <= 0:
        if p == 0:
            return [-b / 3]
        radius = mpmath.sqrt(-p / 3)
        third = mpmath.acos(max(min(-q / 2 / radius**3, mpf(1)), mpf(-1))) / 3
        return [2 * radius * mpmath.cos(third - 2 * mpmath.pi * k / 3) - b / 3 for k in range(3)]
    large = -mpmath.sign(q) * mpmath.cbrt(abs(q) / 2 + mpmath.sqrt(inside))
    return [large - p / 3 / large - b / 3]


def best(candidates: Sequence[Vector], objective: Callable[[Vector], Number]) -> Vector:
    """Returns the candidate of the least objective."""
    values = [objective(x) for x in candidates]
    least = min(values)
    scale = max(abs(least), mpf(10) ** -300)
    ties = [x for x, value in zip(candidates, values, strict=True) if value - least <= TIE * scale]
    lengths = [mpmath.fsum(abs(c) for c in x) for x in ties]
    shortest = min(lengths)
    return next(x for x, n in zip(ties, lengths, strict=True) if n - shortest <= TIE * max(shortest, mpf(10) ** -300))


def scalar_minimizer(penalty: Scalar, v: Number, step: Number) -> Number:
    """Returns the minimizer for one component."""
    size, sign = abs(v), mpmath.sign(v)
    if step == 0:
        return v
    points = [mpf(0)]
    for low, high, stationary, power in penalty.pieces:
        roots = [r**power for r in real_roots(stationary(size, step)) if r >= 0]
        points += [low, *([high] if high < INFINITY else []), *(x for x in roots if low <= x <= high)]
    # The difference to the objective at 0, which does not cancel for small x.
    (x,) = best([[x] for x in points], lambda x: size**2 / 2 + (x[0] / 2 - size) * x[0] + step * penalty.rho(x[0]))
    return sign * x


def supports(n: int) -> Iterator[tuple[int, ...]]:
    """Yields every subset of n indices, small ones first, in lexical order."""
    for size in range(n + 1):
        yield from itertools.combinations(range(n), size)


def top_k(v: Vector, step: Number, k: int) -> Vector:
    """The indicator of at most k nonzero components: the nearest of all vectors that keep k components."""
    n = len(v)
    kept = itertools.combinations(range(n), min(k, n))
    candidates = [[x if i in set(s) else mpf(0) for i, x in enumerate(v)] for s in kept]
    distances = [mpmath.fsum((a - b) ** 2 for a, b in zip(v, x, strict=True)) for x in candidates]
    return candidates[distances.index(min(distances))]


def l1_minus_l2(v: Vector, step: Number, alpha: Number) -> Vector:
    """P(x) = ‖x‖₁ − α‖x‖₂, by every support: there x(1 − αs/‖x‖) = |v| − s, along which x can point two ways."""
    size, signs = [abs(x) for x in v], [mpmath.sign(x) for x in v]

    def objective(x: Vector) -> Number:
        square = mpmath.fsum((a - b) ** 2 for a, b in zip(x, size, strict=True)) / 2
        return square + step * (mpmath.fsum(x) - alpha * mpmath.sqrt(mpmath.fsum(a * a for a in x)))

    candidates = []
    for support in supports(len(v)):
        rest = {i: size[i] - step for i in support}
        length = mpmath.sqrt(mpmath.fsum(z * z for z in rest.values()))
        directions: list[dict[int, Number]] = []
        if length:
            directions += [{i: z * (1 + sign * alpha * step / length) for i, z in rest.items()} for sign in (1, -1)]
        elif support:
            directions.append({i: alpha * step * mpf(i == support[0]) for i in support})
        candidates += [[mpf(x.get(i, 0)) for i in range(len(v))] for x in directions or [{}]]
    candidates = [x for x in candidates if min(x) >= 0]
    return [sign * a for sign, a in zip(signs, best(candidates, objective), strict=True)]


def slope(v: Vector, step: Number, weights: Vector) -> Vector:
    """P(x) = Σ w_i |x|₍ᵢ₎: constant on blocks of the sorted components, by every division into blocks."""
    n = len(v)
    order = sorted(range(n), key=lambda i: (-abs(v[i]), i))
    rest = [abs(v[i]) - step * w for i, w in zip(order, weights, strict=True)]

    def objective(x: Vector) -> Number:
        square = mpmath.fsum((a - abs(b)) ** 2 for a, b in zip(x, v, strict=True)) / 2
        return square + step * mpmath.fsum(w * a for w, a in zip(weights, sorted(x, reverse=True), strict=True))

    candidates = []
    for cuts in itertools.product((False, True), repeat=n - 1):
        ends = [0, *(i + 1 for i, cut in enumerate(cuts) if cut), n]
        x: Vector = [mpf(0)] * n
        for start, end in itertools.pairwise(ends):
            mean = max(mpmath.fsum(rest[start:end]) / (end - start), mpf(0))
            for i in order[start:end]:
                x[i] = mean
        candidates.append(x)
    return [mpmath.sign(a) * b for a, b in zip(v, best(candidates, objective), strict=True)]


def grouped(v: Vector, step: Number, penalty: Scalar) -> Vector:
    """ρ of the norm of v: the minimizer is along v."""
    length = mpmath.sqrt(mpmath.fsum(x * x for x in v))
    if not length:
        return v
    share = scalar_minimizer(penalty, length, step) / length
    return [x * share for x in v]


VECTORS: Mapping[str, Callable[..., Vector]] = {
    "group_l1": functools.partial(grouped, penalty=l1()),
    "group_l0": functools.partial(grouped, penalty=l0()),
    "top_k": top_k,
    "l1_minus_l2": l1_minus_l2,
    "slope": slope,
}


def minimizer(function: str, parameters: Mapping[str, Any], v: Sequence[float], step: float) -> Vector:
    """Returns argmin of ½‖x − v‖² + step·P(x) for exact floats, to 50 digits.

    Args:
      function: a name of ``SCALARS``, applied to each component, or of ``VECTORS``.
      parameters: those of the function.
      v: the point.
      step: s >= 0.
    """
    with mpmath.workdps(DIGITS):
        point, s = [mpf(x) for x in v], mpf(step)
        exact = {
            name: [mpf(x) for x in value] if isinstance(value, (list, tuple)) else value
            for name, value in parameters.items()
        }
        exact = {name: mpf(x) if isinstance(x, float) else x for name, x in exact.items()}
        if function in SCALARS:
            penalty = SCALARS[function](**exact)
            return [scalar_minimizer(penalty, x, s) for x in point]
        return VECTORS[function](point, s, **exact) if s or function == "top_k" else point
