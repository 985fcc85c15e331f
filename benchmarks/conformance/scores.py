"""How a library's results compare with the expected ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import mpmath
import numpy as np
from mpmath import mpf

NEAR = 1e-6
"""Error, relative to the largest component of v, up to which the minimizer is the right one but digits are lost."""
CONVEX_FORMULA = {("skglm", "mcp"), ("skglm", "scad"), ("pyproximal", "scad")}
"""Formulas that hold only where the objective is convex; the other cases lie outside what they promise."""
POSITIVE_STEP = ("pyproximal", "proxop")
"""Libraries that take only steps > 0."""


class Score(NamedTuple):
    """The verdict on one case.

    Attributes:
      verdict: ``exact`` within the tolerance of the case, ``near`` within ``NEAR``, ``wrong``, or ``outside`` what the
        library promises, where it is neither exact nor near.
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
    outside = (not case["convex"] and (library, case["function"]) in CONVEX_FORMULA) or (
        case["step"] == 0 and library in POSITIVE_STEP
    )
    bad = "outside" if outside else "wrong"
    if isinstance(result, str):
        return Score(bad, np.inf)
    ulps, relative = errors(case, result)
    if ulps <= case["tolerance"]["ulp"]:
        return Score("exact", ulps)
    return Score("near" if relative <= NEAR else bad, ulps)
