"""Argument checks for the public API. Error messages are one line: the argument, the rule, the value.

Only concrete values are checked. Tracers pass through, so the same constructors work inside ``jit``, ``vmap`` and
``grad``.
"""

from __future__ import annotations

import textwrap

import jax
import numpy as np
from jax.typing import ArrayLike


def known(value: object) -> np.ndarray | None:
    """Returns ``value`` as a NumPy array if its numbers are concrete, else ``None``."""
    if isinstance(value, jax.core.Tracer):
        return None
    try:
        array = np.asarray(value)
    except Exception:  # ragged, or sharded over other hosts
        return None
    return array if array.dtype.kind in "biuf" or array.dtype.name == "bfloat16" else None


def _number(name: str, value: object, rule: str) -> np.ndarray | None:
    array = known(value)
    if array is None and not isinstance(value, jax.Array):
        raise TypeError(f"{name} must be {rule}, got {show(value)}")
    return array


def show(value: object) -> str:
    """Returns the repr of ``value`` on one line, shortened to 100 characters, for error messages."""
    return textwrap.shorten(repr(value), 100, placeholder=" ...")


def positive(name: str, value: object, *, schedule: bool = False) -> None:
    """Raises ``ValueError`` unless every known number is finite and > 0; a ``schedule`` passes unchecked."""
    if schedule and callable(value):
        return
    array = _number(name, value, "a finite number > 0")
    if array is not None and not (np.all(np.isfinite(array)) and np.all(array > 0)):
        raise ValueError(f"{name} must be finite and > 0, got {show(value)}")


def above(name: str, value: object, bound: float, *, schedule: bool = False) -> None:
    """Raises ``ValueError`` unless every known number is finite and > ``bound``; a ``schedule`` passes unchecked."""
    if schedule and callable(value):
        return
    array = _number(name, value, f"a finite number > {bound}")
    if array is not None and not (np.all(np.isfinite(array)) and np.all(array > bound)):
        raise ValueError(f"{name} must be finite and > {bound}, got {show(value)}")


def nonnegative(name: str, value: object, *, schedule: bool = False) -> None:
    """Raises ``ValueError`` unless every known number is finite and >= 0; a ``schedule`` passes unchecked."""
    if schedule and callable(value):
        return
    array = _number(name, value, "a finite number >= 0")
    if array is not None and not (np.all(np.isfinite(array)) and np.all(array >= 0)):
        raise ValueError(f"{name} must be finite and >= 0, got {show(value)}")


def integer(name: str, value: object, *, at_least: int) -> None:
    """Raises ``ValueError`` unless every known number is a whole number >= ``at_least``."""
    rule = f"a whole number >= {at_least}"
    array = _number(name, value, rule)
    if array is None:
        return
    whole = array.dtype.kind in "iu" or (
        array.dtype.kind == "f" and np.all(np.isfinite(array)) and np.all(array == np.round(array))
    )
    if not (whole and np.all(array >= at_least)):
        raise ValueError(f"{name} must be {rule}, got {show(value)}")


def count(name: str, value: ArrayLike) -> int:
    """Returns ``value`` as an int; raises ``ValueError`` unless it is one whole number in [1, 2**31)."""
    integer(name, value, at_least=1)
    if isinstance(value, jax.core.Tracer):
        raise TypeError(f"{name} must be known before tracing (optax.inject_hyperparams: name it in static_args)")
    array = np.asarray(value)
    if array.ndim != 0 or int(array) >= 2**31:
        raise ValueError(f"{name} must be one whole number under 2**31, got {show(value)}")
    return int(array)


def fraction(name: str, value: object, *, schedule: bool = False) -> None:
    """Raises ``ValueError`` unless every known number is in [0, 1); a ``schedule`` passes unchecked."""
    if schedule and callable(value):
        return
    array = _number(name, value, "a number in [0, 1)")
    if array is not None and not (np.all(np.isfinite(array)) and np.all(array >= 0) and np.all(array < 1)):
        raise ValueError(f"{name} must be in [0, 1), got {show(value)}")


def share(name: str, value: object, *, schedule: bool = False) -> None:
    """Raises ``ValueError`` unless every known number is in [0, 1]; a ``schedule`` passes unchecked."""
    if schedule and callable(value):
        return
    array = _number(name, value, "a number in [0, 1]")
    if array is not None and not (np.all(array >= 0) and np.all(array <= 1)):
        raise ValueError(f"{name} must be in [0, 1], got {show(value)}")


def one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raises ``ValueError`` unless ``value`` is one of the choices."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")


def last_axis(**arrays: ArrayLike) -> None:
    """Raises ``ValueError`` unless the last axes of the named arrays have the same length."""
    sizes = {}
    for name, array in arrays.items():
        if np.ndim(array) < 1:
            raise ValueError(f"{name} must have at least one axis, got a scalar")
        sizes[name] = np.shape(array)[-1]
    if len(set(sizes.values())) > 1:
        shapes = ", ".join(f"{name} {np.shape(array)}" for name, array in arrays.items())
        raise ValueError(f"{' and '.join(arrays)} must have last axes of the same length, got {shapes}")
