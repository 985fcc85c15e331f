"""How a library's results compare with the expected ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import mpmath
import numpy as np
from mpmath import mpf

from .definitions import SCALARS

NEAR = 1e-6
"""Error, relative to the largest component of v, up to which the minimizer is the right one but digits are lost."""
TIE = 1e-12
"""Objective above the least one, relative to ‖v‖², up to which a point ties with the minimizer."""
CONVEX_FORMULA = {("skglm", "mcp"), ("skglm", "scad"), ("pyproximal", "scad")}
"""Formulas that hold only where the objective is strictly convex; the other cases lie outside what they promise."""
POSITIVE_STEP = ("pyproximal", "proxop")
"""Libraries that take only steps > 0."""


class Score(NamedTuple):
    """The verdict on one case.

    Attributes:
      verdict: ``exact`` within the tolerance of the case, ``near`` within ``NEAR`` or tied with the minimizer,
        ``wrong``, or ``outside`` what the library promises, where it is none of these.
      error: the largest error in units in the last place, inf if there is no result.
    """

    verdict: str
    error: float


def errors(case: dict[str, Any], result: Sequence[float]) -> tuple[float, float]:
    """Returns the largest error in units of the tolerance's last place, and relative to the largest component of v."""
    kind = np.dtype(case["dtype"]).type
    longest = max(abs(x) for x in case["v"])
    ulps = relative = 0.0
    with mpmath.workdps(50):
        for got, text in zip(result, case["expected"], strict=True):
            if not np.isfinite(got):
                return np.inf, np.inf
            want = mpf(text)
            error = float(abs(mpf(got) - want))
            size = kind(longest if case["tolerance"]["of"] == "v" else abs(float(want)))
            # A result below the smallest normal float may be 0.
            unit = max(float(np.spacing(size)), float(np.finfo(kind).tiny) / 2)
            ulps, relative = max(ulps, error / unit), max(relative, error / longest if longest else float(error > 0))
    return ulps, relative


def score(library: str, case: dict[str, Any], result: Any) -> Score:
    """Returns the verdict on the result of a library, a list of floats or the text of an error."""
    convex = case["convex"] and "critical step" not in case["about"]
    outside = (not convex and (library, case["function"]) in CONVEX_FORMULA) or (
        case["step"] == 0 and library in POSITIVE_STEP
    )
    bad = "outside" if outside else "wrong"
    if isinstance(result, str):
        return Score(bad, np.inf)
    ulps, relative = errors(case, result)
    if ulps <= case["tolerance"]["ulp"]:
        return Score("exact", ulps)
    return Score("near" if relative <= NEAR or ties(case, result) else bad, ulps)


def ties(case: dict[str, Any], result: Sequence[float]) -> bool:
    """Returns whether the objective of a result is the least one up to rounding, for separable penalties and top-k."""
    with mpmath.workdps(50):
        v, want, got = ([mpf(x) for x in numbers] for numbers in (case["v"], case["expected"], result))

        def objective(x: Sequence[Any]) -> Any:
            distance = mpmath.fsum((a - b) ** 2 for a, b in zip(x, v, strict=True)) / 2
            if case["function"] == "top_k":
                return distance if sum(y != 0 for y in x) <= case["parameters"]["k"] else mpf("inf")
            rho = SCALARS[case["function"]](**{name: mpf(y) for name, y in case["parameters"].items()}).rho
            return distance + mpf(case["step"]) * mpmath.fsum(rho(abs(y)) for y in x)

        if case["function"] not in (*SCALARS, "top_k") or not all(np.isfinite(result)):
            return False
        return bool(objective(got) - objective(want) <= TIE * mpmath.fsum(y * y for y in v))
