"""Grid of a sweep: validated, labelled axes whose combinations are the lanes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import jax
import numpy as np

from rvsmjax import _checks
from rvsmjax.penalties import L0, L1, Penalty, TransformedL1
from rvsmjax.problems import NoOverlapBinary, NoOverlapReLU, OneLayerProblem

PENALTIES: dict[str, Callable[..., Penalty]] = {"l1": L1, "l0": L0, "tl1": TransformedL1}
PROBLEMS: dict[str, type[OneLayerProblem]] = {"relu": NoOverlapReLU, "binary": NoOverlapBinary}
"""Names that ``activation`` accepts."""

Numbers = float | Sequence[float]
Counts = int | Sequence[int]


@dataclasses.dataclass(frozen=True)
class Problem:
    """Factory of problems: a class, or an instance used as a template whose k is replaced.

    Args:
      template: the class or the instance.
    """

    template: type[OneLayerProblem] | OneLayerProblem

    def __call__(self, k: Any) -> OneLayerProblem:
        """Returns the problem with ``k`` patches, batched if ``k`` is an array."""
        return self.template(k) if isinstance(self.template, type) else dataclasses.replace(self.template, k=k)

    @property
    def name(self) -> str:
        """Its name in ``PROBLEMS``, or else the class name."""
        cls = self.template if isinstance(self.template, type) else type(self.template)
        return next((name for name, known in PROBLEMS.items() if known is cls), cls.__name__)


class Axes(NamedTuple):
    """Validated values on the axes of a grid."""

    penalty: tuple[Penalty, ...]
    d: tuple[int, ...]
    k: tuple[int, ...]
    lam: tuple[float, ...]
    beta: tuple[float, ...]
    learning_rate: tuple[float, ...] | None
    normalize: tuple[bool, ...]
    seeds: Sequence[int]


@dataclasses.dataclass(frozen=True)
class Grid:
    """The lanes of a sweep: every combination of the values on its axes, each one random one-layer problem.

    Every argument but ``activation`` takes one value or a sequence of distinct values; attributes hold tuples.

    Args:
      penalty: names (``"l1"``, ``"l0"``, ``"tl1"``) or instances of ``Penalty``, separable or not.
      d: dimensions of w, >= 1.
      k: numbers of patches, >= 1.
      lam: λ >= 0.
      beta: β > 0.
      a: shape parameters > 0 of ``"tl1"`` given by name; each adds one entry to the penalty axis.
      learning_rate: η > 0; ``None`` uses the largest that the activation's theorem allows: 1/(β + 4) for relu,
        min{1/(β + k/(2π)), 2√(2π)/k} for binary.
      seeds: a count n for seeds 0 to n − 1, or the seeds, each in [0, 2³²). A seed draws w* and the start w⁰ uniformly
        on the sphere; lanes of equal seed and d share both in any grid.
      activation: ``"relu"``, ``"binary"``, a subclass of ``OneLayerProblem``, or an instance: its k is ignored, its
        other parameters are compiled into the program.
      normalize: whether w is normalised after each step. Without it the binary activation has a limit only where
        u = w: its coarse gradient and the pull towards u both shorten w, and nothing lengthens it.

    Raises:
      ValueError: an empty axis, repeated values, a number out of range, an unknown name.
      TypeError: a value of the wrong type.

    Example:
      >>> Grid(penalty=["l1", "l0"], d=[10, 20], k=2, seeds=100).size
      400
    """

    penalty: str | Penalty | Sequence[str | Penalty] = ("l1", "l0", "tl1")
    d: Counts = (10, 20, 30, 40, 50)
    k: Counts = 2
    lam: Numbers = 1e-4
    beta: Numbers = 4e-3
    a: Numbers = 1.0
    learning_rate: Numbers | None = None
    seeds: Counts = 1000
    activation: str | type[OneLayerProblem] | OneLayerProblem = "relu"
    normalize: bool | Sequence[bool] = True

    def __post_init__(self) -> None:
        def put(name: str, values: tuple[Any, ...]) -> None:
            if not values:
                raise ValueError(f"{name} must hold at least one value, got an empty axis")
            if len(set(values)) < len(values):
                raise ValueError(f"{name} must hold distinct values, got {list(values)}")
            object.__setattr__(self, name, values)

        for name in ("lam", "beta", "a"):
            values = _axis(name, getattr(self, name))
            (_checks.nonnegative if name == "lam" else _checks.positive)(name, values)
            put(name, tuple(float(v) for v in values))
        for name in ("d", "k"):
            values = _axis(name, getattr(self, name))
            _checks.integer(name, values, at_least=1)
            put(name, tuple(int(v) for v in values))
        if self.learning_rate is not None:
            values = _axis("learning_rate", self.learning_rate)
            _checks.positive("learning_rate", values)
            put("learning_rate", tuple(float(v) for v in values))
        put("normalize", tuple(_boolean(v) for v in _axis("normalize", self.normalize)))
        object.__setattr__(self, "seeds", _seeds(self.seeds))
        known = isinstance(self.activation, str) and self.activation in PROBLEMS
        cls = self.activation if isinstance(self.activation, type) else type(self.activation)
        if not known and not issubclass(cls, OneLayerProblem):
            names = ", ".join(PROBLEMS)
            raise ValueError(f"activation must be one of {names}, or a OneLayerProblem, got {self.activation!r}")
        object.__setattr__(self, "penalty", tuple(self._penalties()))
        if len(set(self.labels)) < len(self.labels):
            raise ValueError(f"penalty must hold distinct values, got {', '.join(self.labels)}")

    def _penalties(self) -> list[Penalty]:
        entries: list[Penalty] = []
        for item in _axis("penalty", self.penalty):
            if isinstance(item, Penalty):
                if any(np.ndim(leaf) for leaf in jax.tree.leaves(item)):
                    raise ValueError(f"penalty must hold single numbers, got {item!r}")
                entries.append(item)
            elif not isinstance(item, str):
                raise TypeError(f"penalty must be a name or an instance of Penalty, got {item!r}")
            elif item not in PENALTIES:
                raise ValueError(f"penalty must be one of {', '.join(PENALTIES)} or an instance, got {item!r}")
            elif item == "tl1":
                entries += [TransformedL1(a) for a in cast(tuple[float, ...], self.a)]
            else:
                entries.append(PENALTIES[item]())
        return entries

    @property
    def axes(self) -> Axes:
        """The values on each axis."""
        return Axes(*(cast(Any, getattr(self, name)) for name in Axes._fields))

    @property
    def problem(self) -> Problem:
        """Factory of the problems of the lanes, by k."""
        return Problem(PROBLEMS[self.activation] if isinstance(self.activation, str) else self.activation)

    @property
    def labels(self) -> tuple[str, ...]:
        """Unique name of each entry of the penalty axis, with its parameters if the plain name repeats."""
        names = [penalty.name for penalty in self.axes.penalty]

        def label(penalty: Penalty) -> str:
            numbers = jax.tree_util.tree_leaves_with_path(penalty)
            values = ", ".join(f"{jax.tree_util.keystr(path)[1:]}={float(leaf):g}" for path, leaf in numbers)
            return f"{penalty.name}({values})" if names.count(penalty.name) > 1 and values else penalty.name

        return tuple(label(penalty) for penalty in self.axes.penalty)

    @property
    def shape(self) -> dict[str, int]:
        """Length of each axis, in the order of the result's dimensions."""
        lengths = {name: 1 if values is None else len(values) for name, values in self.axes._asdict().items()}
        lengths["seed"] = lengths.pop("seeds")
        return lengths

    @property
    def size(self) -> int:
        """Number of lanes."""
        return math.prod(self.shape.values())


def _axis(name: str, value: Any) -> tuple[Any, ...]:
    if isinstance(value, (str, Penalty, bool)) or np.ndim(value) == 0:
        return (value,)
    values = tuple(value)
    if not values:
        raise ValueError(f"{name} must hold at least one value, got an empty axis")
    return values


def _seeds(value: Any) -> Sequence[int]:
    if np.ndim(value) == 0:
        _checks.integer("seeds", value, at_least=1)
        value = range(int(value))
    elif not isinstance(value, range):
        values = _axis("seeds", value)
        _checks.integer("seeds", values, at_least=0)
        value = tuple(int(v) for v in values)
        if len(set(value)) < len(value):
            raise ValueError("seeds must hold distinct values, got repeated ones")
    if not value:
        raise ValueError("seeds must hold at least one value, got an empty axis")
    ends = (value[0], value[-1]) if isinstance(value, range) else value
    if min(ends) < 0 or max(ends) >= 2**32:
        raise ValueError(f"seeds must lie in [0, 2**32), got {min(ends)} to {max(ends)}")
    return cast(Sequence[int], value)


def _boolean(value: Any) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"normalize must be True or False, got {value!r}")
    return bool(value)
