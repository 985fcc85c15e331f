"""Adapters: the prox of each library in our convention, argmin of ½‖x − v‖² + step·P(x).

Imports nothing of rvsmjax at module level and needs NumPy alone, so that it runs in the environment of the peers:
``python libraries.py NAME < cases.json`` prints the results as JSON.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Prox = Callable[[np.ndarray, float], Any]
"""(v, step) ↦ prox."""
Adapter = Callable[..., Prox]


def rvsmjax() -> Mapping[str, Adapter]:
    """Ours."""
    import jax

    import rvsmjax as rv

    prox = jax.jit(lambda penalty, v, step: penalty.prox(v, step))

    def of(make: Callable[..., Any]) -> Adapter:
        return lambda **parameters: lambda v, step: prox(make(**parameters), v, v.dtype.type(step))

    return {
        "l1": of(rv.L1),
        "l0": of(rv.L0),
        "tl1": of(rv.TransformedL1),
        "mcp": of(rv.MCP),
        "scad": of(rv.SCAD),
        "l_half": of(rv.LHalf),
        "log_sum": of(rv.LogSum),
        "capped_l1": of(rv.CappedL1),
        "group_l1": of(lambda: rv.Grouped(rv.L1(), axes=(0,))),
        "group_l0": of(lambda: rv.Grouped(rv.L0(), axes=(0,))),
        "top_k": of(lambda k: rv.TopK(k=k)),
        "l1_minus_l2": of(rv.L1MinusL2),
        "slope": of(rv.SLOPE),
    }


def skglm() -> Mapping[str, Adapter]:
    """Its ``prox_1d`` and ``prox_vec``: prox of stepsize·P, with ½."""
    from skglm import penalties as p

    def each(make: Callable[..., Any]) -> Adapter:
        return lambda **numbers: lambda v, s: [make(**numbers).prox_1d(x, s, 0) for x in v]

    return {
        "l1": each(lambda: p.L1(1.0)),
        "mcp": each(lambda gamma: p.MCPenalty(1.0, gamma)),
        "scad": each(lambda gamma: p.SCAD(1.0, gamma)),
        "l_half": each(lambda: p.L0_5(1.0)),
        "log_sum": each(lambda epsilon: p.LogSumPenalty(1.0, epsilon)),
        "slope": lambda weights: lambda v, s: p.SLOPE(np.asarray(weights)).prox_vec(v, s),
    }


def pyproximal() -> Mapping[str, Adapter]:
    """Its ``prox(x, tau)``: prox of tau·P, with ½; tau > 0. Log is scaled by log(1 + 1/ε)."""
    import pyproximal as p
    from pyproximal.proximal.Log import Log
    from pyproximal.proximal.SCAD import SCAD

    def of(make: Callable[..., Any]) -> Adapter:
        return lambda **numbers: lambda v, s: make(**numbers).prox(v.copy(), s)

    return {
        "l1": of(lambda: p.L1(1.0)),
        "l0": of(lambda: p.L0(1.0)),
        "scad": of(lambda gamma: SCAD(1.0, gamma)),
        "log_sum": of(lambda epsilon: Log(float(np.log1p(1 / epsilon)), 1 / epsilon)),
        "group_l1": of(lambda: p.Euclidean(1.0)),
        "top_k": of(lambda k: p.L0Ball(k)),
    }


def scico() -> Mapping[str, Adapter]:
    """Its ``prox(v, lam)``: prox of lam·P, with ½."""
    import jax

    jax.config.update("jax_enable_x64", True)
    from scico import functional as f

    def of(make: Callable[..., Any]) -> Adapter:
        return lambda **numbers: lambda v, s: make(**numbers).prox(jax.numpy.asarray(v), s)

    return {
        "l1": of(f.L1Norm),
        "l0": of(f.L0Norm),
        "group_l1": of(f.L2Norm),
        "l1_minus_l2": of(lambda alpha: f.L1MinusL2Norm(alpha)),
    }


def proxop() -> Mapping[str, Adapter]:
    """Its ``prox(x, gamma)``: prox of gamma·P, with ½; gamma > 0. Its capped ℓ1 is min(1, |x|/θ)."""
    import proxop as p

    def of(make: Callable[..., Any], scale: Callable[..., float] = lambda **numbers: 1.0) -> Adapter:
        return lambda **numbers: lambda v, s: make(**numbers).prox(v.copy(), s * scale(**numbers))

    return {
        "l1": of(lambda: p.AbsValue()),
        "l0": of(lambda: p.L0Norm()),
        "mcp": of(lambda gamma: p.MCP(1.0, gamma)),
        "scad": of(lambda gamma: p.SCAD(1.0, gamma)),
        "l_half": of(lambda: p.Root(0.5)),
        "log_sum": of(lambda epsilon: p.LogSum(epsilon)),
        "capped_l1": of(lambda theta: p.CapL1(1 / theta), lambda theta: theta),
        "group_l1": of(lambda: p.L2Norm()),
    }


LIBRARIES = {"rvsmjax": rvsmjax, "skglm": skglm, "pyproximal": pyproximal, "scico": scico, "proxop": proxop}


def run(name: str, cases: list[dict[str, Any]]) -> list[Any]:
    """Returns, for each case, the prox as floats, the error as text, or None where the library has no such function."""
    adapters = LIBRARIES[name]()
    results: list[Any] = []
    for case in cases:
        if case["function"] not in adapters:
            results.append(None)
            continue
        try:
            prox = adapters[case["function"]](**case["parameters"])
            out = np.asarray(prox(np.asarray(case["v"], case["dtype"]), case["step"]))
            results.append([float(x) for x in out.reshape(len(case["v"]))])
        except Exception as error:  # whatever a library raises
            results.append(f"{type(error).__name__}: {error}")
    return results


def version(name: str) -> str:
    """Returns the version of an installed library."""
    return importlib.metadata.version(name)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    given = [case for case in json.load(sys.stdin) if case["dtype"] == "float64"]
    with open(os.devnull, "w", encoding="utf-8") as quiet, contextlib.redirect_stdout(quiet):
        found = {"version": version(sys.argv[1]), "results": run(sys.argv[1], given)}
    print(json.dumps(found))
