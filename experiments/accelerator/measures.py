"""Measurements of the sweep, for where ``benchmarks.gpu`` has none of the name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

PENALTIES = ("l1", "l0", "tl1")
MEASURED = ("theta_w", "theta_u", "f_u", "lagrangian")


def find(name: str, settings: dict[str, Any]) -> Callable[..., Any]:
    """Returns the function of that name in ``benchmarks.gpu`` if it takes these settings, else the one here.

    Raises:
      LookupError: there is none in either.
    """
    from benchmarks import gpu

    for module in (vars(gpu), globals()):
        own = module.get(name)
        if own is not None and _takes(own, settings):
            found: Callable[..., Any] = own
            return found
    raise LookupError(f"benchmarks.gpu has no {name} yet")


def _takes(function: Callable[..., Any], settings: dict[str, Any]) -> bool:
    try:
        inspect.signature(function).bind(**settings)
    except TypeError:
        return False
    return True


def rate(penalty: str, d: int, engine: str, lanes: int, steps: int, repeats: int) -> list[float]:
    """Returns component updates in a second of each run, after one that is not counted."""
    import jax

    from benchmarks import rates

    return rates.ours(penalty, d, lanes, steps, jax.devices()[:1], repeats, engine)


def grid_seconds(
    engine: str,
    seeds: int,
    repeats: int,
    penalties: Sequence[str] = PENALTIES,
    d: Sequence[int] = (10, 20, 30, 40, 50),
    k: Sequence[int] = (2, 5, 10, 20),
) -> dict[str, Any]:
    """Returns the seconds of each run of the default grid, after one that compiles."""
    import rvsmjax as rv

    grid = rv.Grid(penalty=list(penalties), d=list(d), k=list(k), seeds=seeds)
    first = rv.run_sweep(grid, engine=engine)
    return {
        "lanes": grid.size,
        "compile_seconds": first.compile_seconds,
        "seconds": [rv.run_sweep(grid, engine=engine).run_seconds for _ in range(repeats)],
        "waste": first.steps_executed / first.steps_needed,
    }


def beside_cpu(
    engine: str,
    penalties: Sequence[str] = PENALTIES,
    d: Sequence[int] = (10, 50),
    k: Sequence[int] = (2, 20),
    seeds: int = 200,
) -> dict[str, Any]:
    """Returns the largest differences from what XLA's loop finds on the CPU."""
    import jax

    import rvsmjax as rv

    grid = rv.Grid(penalty=list(penalties), d=list(d), k=list(k), seeds=seeds)
    here = rv.run_sweep(grid, engine=engine)
    there = rv.run_sweep(grid, devices=jax.devices("cpu")[:1], engine="xla")
    apart = {name: float(np.max(np.abs(here.data[name] - there.data[name]))) for name in MEASURED}
    same = float(np.mean(here.data["zeros"] == there.data["zeros"]))
    return {"largest_difference": apart, "share_of_lanes_with_the_same_zeros": same}
