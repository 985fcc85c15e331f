"""python -m benchmarks.conformance.build: writes cases.json, with minimizers in 50 digits from the definitions alone.

Each scalar minimizer is compared with a grid, too. Inputs are exact floats of the dtype that a case names.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
from mpmath import mpf

from .definitions import DIGITS, SCALARS, minimizer

CASES = Path(__file__).parent / "cases.json"
DTYPES = ("float32", "float64")
Case = dict[str, Any]
EXACT, BY_NORM = {"ulp": 2, "of": "x"}, {"ulp": 2, "of": "v"}

SETTINGS: dict[str, list[tuple[dict[str, float], float, list[float]]]] = {
    # parameters, the step up to which the objective is convex, steps
    "l1": [({}, np.inf, [0.5, 3.0])],
    "l0": [({}, 0.0, [0.5, 3.0])],
    "tl1": [
        ({"a": 1.0}, 0.25, [0.125, 0.25, 0.251, 2.0]),
        ({"a": 0.125}, 1 / 144, [0.5]),
        ({"a": 7.0}, 49 / 16, [1.0, 4.0]),
    ],
    "mcp": [({"gamma": 2.0}, 2.0, [0.5, 1.999, 2.0, 5.0]), ({"gamma": 0.3}, 0.3, [0.1, 1.0])],
    "scad": [({"gamma": 3.7}, 2.7, [0.5, 1.0, 2.7, 4.0, 8.0]), ({"gamma": 2.5}, 1.5, [1.4, 1.6, 3.5])],
    "l_half": [({}, 0.0, [1e-6, 0.5, 1.0, 30.0])],
    "log_sum": [({"epsilon": 1.0}, 1.0, [0.25, 1.0, 1.001, 4.0]), ({"epsilon": 0.1}, 0.01, [0.009, 1.0, 50.0])],
    "capped_l1": [({"theta": 1.0}, 0.0, [0.5, 2.0, 5.0]), ({"theta": 0.3}, 0.0, [0.1, 1.0])],
}


def knots(function: str, parameters: dict[str, float], step: float) -> list[float]:
    """Returns the points where the formula of the prox changes, apart from the threshold."""
    if function == "mcp":
        return [parameters["gamma"]]
    if function == "scad":
        gamma = parameters["gamma"]
        return [gamma, 1 + step, (gamma + 1 + step) / 2]
    if function == "capped_l1":
        theta = parameters["theta"]
        return [theta, theta + step / 2]
    return [parameters["epsilon"]] if function == "log_sum" else []


def last_zero(function: str, parameters: dict[str, float], step: float, dtype: str) -> float:
    """Returns the largest float with the minimizer 0, by bisection over the bits of floats, which sort like them."""
    kind = np.dtype(dtype).type
    bits = np.dtype(f"uint{8 * np.dtype(dtype).itemsize}").type
    low, high = 0, int(kind(1e6).view(bits))
    while high - low > 1:
        middle = (low + high) // 2
        zero = minimizer(function, parameters, [float(bits(middle).view(kind))], step)[0] == 0
        low, high = (middle, high) if zero else (low, middle)
    return float(bits(low).view(kind))


def beside(point: float, dtype: str) -> list[float]:
    """Returns a float and its neighbours."""
    x = np.dtype(dtype).type(point)
    return [float(np.nextafter(x, x.dtype.type(0))), float(x), float(np.nextafter(x, x.dtype.type(np.inf)))]


def scalar_cases(function: str, dtype: str) -> Iterator[Case]:
    """Yields the cases of a separable penalty."""

    def rounded(x: float) -> float:
        return float(np.dtype(dtype).type(x))

    for numbers, critical, steps in SETTINGS[function]:
        parameters = {name: rounded(x) for name, x in numbers.items()}
        for given in steps:
            step = rounded(given)
            t = last_zero(function, parameters, step, dtype)
            up = beside(t, dtype)[2]
            points = {
                "zero and −0": [0.0, -0.0],
                "at the threshold, on both sides": [t, -t, up, -up],
                "inside": [rounded(0.5 * t), rounded(-0.999 * t), rounded(1e-3 * t)],
                "outside": [rounded(x * t) for x in (1.001, -1.1, 1.5, -2.0, 3.0, 10.0)],
                "tiny": [1e-30, -1e-20, 1e-10],
                "huge": [rounded(1e6), rounded(-1e12)],
            }
            around = [x for knot in knots(function, parameters, step) for x in beside(knot, dtype)]
            if around:
                points["where the formula changes"] = [*around, *(-x for x in around)]
            about = "" if step < critical else ", not convex" if step > critical else ", critical step"
            for name, v in points.items():
                v = [rounded(x) for x in v]
                yield make(function, parameters, v, step, dtype, name + about, EXACT, step <= critical)
        yield make(function, parameters, [0.0, 1.0, -0.3125], 0.0, dtype, "step 0: the identity", EXACT, True)


def vector_cases(dtype: str) -> Iterator[Case]:
    """Yields the cases of penalties that compare components."""

    def rounded(v: list[float]) -> list[float]:
        return [float(x) for x in np.asarray(v, dtype)]

    def one(function: str, parameters: dict[str, Any], v: list[float], step: float, about: str) -> Case:
        exact = {name: rounded(x) if isinstance(x, list) else x for name, x in parameters.items()}
        convex = function in ("group_l1", "slope")
        tolerance = BY_NORM if function.startswith("group") else EXACT
        (s,) = rounded([step])
        return make(function, exact, rounded(v), s, dtype, about, tolerance, convex)

    spread = [3.0, -1.0, 2.0, 0.5, -2.5]
    for function in ("group_l1", "group_l0"):
        yield one(function, {}, [3.0, -4.0], 1.0, "kept")
        yield one(function, {}, [0.3, -0.4, 0.0], 1.0, "removed")
        yield one(function, {}, [3.0, 4.0], 5.0 if function == "group_l1" else 12.5, "at the threshold: 0")
        yield one(function, {}, [0.0, 0.0], 1.0, "zero")
        yield one(function, {}, [1e12, 1e-6], 0.5, "components of different size")
        yield one(function, {}, spread, 0.0, "step 0: the identity")
        yield one(function, {}, [3.0, -4.0], 4.9375 if function == "group_l1" else 12.4375, "just above the threshold")
        for size in (25, 75, 500):
            yield one(function, {}, [math.cos(i * i) for i in range(size)], 2.0, f"{size} components")
    for k in (0, 1, 3, 5, 7):
        yield one("top_k", {"k": k}, spread, 1.0, f"k = {k} of 5")
    yield one("top_k", {"k": 2}, [1.0, -1.0, 1.0], 1.0, "ties: the lowest index is kept")
    yield one("top_k", {"k": 2}, [0.0, 0.0, 1.0], 1.0, "fewer nonzero components than k")
    for alpha in (0.0, 0.5, 1.0):
        parameters: dict[str, Any] = {"alpha": alpha}
        yield one("l1_minus_l2", parameters, spread, 0.75, f"maximum above the step, α = {alpha:g}")
        yield one("l1_minus_l2", parameters, spread, 3.5, f"maximum below the step, α = {alpha:g}")
        yield one("l1_minus_l2", parameters, [1.0, 0.3, -0.2], 1.0, f"maximum at the step, α = {alpha:g}")
        yield one("l1_minus_l2", parameters, [1.0, 0.999, -0.2], 0.9, f"maximum just above the step, α = {alpha:g}")
        yield one("l1_minus_l2", parameters, [1.0, -1.0, 0.5], 2.0, f"tied maxima below the step, α = {alpha:g}")
        yield one("l1_minus_l2", parameters, [0.0, 0.0], 1.0, f"zero, α = {alpha:g}")
        yield one("l1_minus_l2", parameters, [1e-3, -2e-3, 5e-4], 1.0, f"far below the step, α = {alpha:g}")
        yield one("l1_minus_l2", parameters, [1e12, -1.0, 3.0], 1.0, f"components of different size, α = {alpha:g}")
        yield one("l1_minus_l2", parameters, spread, 0.0, f"step 0: the identity, α = {alpha:g}")
    weights = {
        "equal weights: ℓ1": [1.0] * 5,
        "one weight: ℓ∞": [1.0, 0, 0, 0, 0],
        "falling weights": [2.0, 1.4, 1.1, 0.3, 0.1],
        "weights 0": [0.0] * 5,
        "weights of OSCAR": [1.0, 0.8, 0.6, 0.4, 0.2],
    }
    for about, w in weights.items():
        for step in (0.0, 0.25, 1.0, 2.0, 10.0):
            yield one("slope", {"weights": w}, spread, step, f"{about}, step {step:g}")
        yield one("slope", {"weights": w}, [1.0, -1.0, 1.0, 1.0, -1.0], 0.5, f"{about}, ties")
        yield one("slope", {"weights": w}, [0.0, 0, -0.0, 0, 0], 0.5, f"{about}, zero")
        yield one("slope", {"weights": w}, [1.0, 1.001, -1.002, 0.999, 1e-9], 0.3, f"{about}, nearly tied")


def make(
    function: str,
    parameters: dict[str, Any],
    v: list[float],
    step: float,
    dtype: str,
    about: str,
    tolerance: dict[str, Any],
    convex: bool,
) -> Case:
    """Returns a case, its minimizer computed and compared with a grid."""
    want = minimizer(function, parameters, v, step)
    if function in SCALARS:
        for x, y in zip(want, v, strict=True):
            check(function, parameters, y, step, x)
    return {
        "function": function,
        "parameters": parameters,
        "v": v,
        "step": step,
        "dtype": dtype,
        "about": about,
        "convex": convex,
        "tolerance": tolerance,
        "expected": [mpmath.nstr(x, 40) for x in want],
    }


def check(function: str, parameters: dict[str, float], v: float, step: float, x: Any) -> None:
    """Raises ``AssertionError`` if a point of a grid has a lower objective than the minimizer ``x``."""
    with mpmath.workdps(DIGITS):
        rho = SCALARS[function](**{name: mpf(value) for name, value in parameters.items()}).rho
        size, least = mpf(abs(v)), mpf(abs(x))

        def objective(y: Any) -> Any:
            return (y / 2 - size) * y + step * rho(y)

        grid = [size * mpf(i) / 200 for i in range(221)]
        assert all(objective(least) <= objective(y) + mpf(10) ** -40 * size**2 for y in grid), (function, v, step, x)


def main() -> None:
    """Writes the cases."""
    cases = [case for dtype in DTYPES for function in SETTINGS for case in scalar_cases(function, dtype)]
    cases += [case for dtype in DTYPES for case in vector_cases(dtype)]
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
    CASES.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    print(f"{len(cases)} cases, {sum(len(case['v']) for case in cases)} components")


if __name__ == "__main__":
    main()
