"""Grid of a sweep: validated, labelled axes whose combinations are the lanes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import jax
import numpy as np

from rvsmjax import _checks
from rvsmjax.penalties import L0, L1, Penalty, TransformedL1
from rvsmjax.problems import NoOverlapBinary, NoOverlapReLU, OneLayerProblem, Problem

PENALTIES: dict[str, Callable[..., Penalty]] = {"l1": L1, "l0": L0, "tl1": TransformedL1}
PROBLEMS: dict[str, type[OneLayerProblem]] = {"relu": NoOverlapReLU, "binary": NoOverlapBinary}
"""Names that ``activation`` accepts."""

Numbers = float | Sequence[float]
Counts = int | Sequence[int]


@dataclasses.dataclass(frozen=True)
class Factory:
    """Factory of one-layer problems: a class, or an instance used as a template whose k is replaced.

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


class Values(NamedTuple):
    """Validated values on the axes of a grid of one-layer problems."""

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
    """The lanes of a sweep: every combination of the values on its axes, each one random problem.

    By default a one-layer problem. Every argument up to ``normalize`` but ``activation`` takes one value or a sequence
    of distinct values; attributes hold tuples.

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
      problem: a ``Problem``; of the arguments above only ``seeds`` is given then, and the other axes are those of
        ``axes``. A ``OneLayerProblem`` is taken as ``activation``.
      axes: axes by name, which an algorithm or a ``Problem`` reads: each one value or a sequence of distinct numbers or
        of instances of ``Penalty``.
      static: names in ``axes`` whose values are constants of the program, such as sizes, switches and names: any
        hashable values. Each combination of them is compiled.

    Raises:
      ValueError: an empty axis, repeated values, a number out of range, an unknown name, an argument that a ``Problem``
        does not take.
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
    problem: Problem | OneLayerProblem | None = None
    axes: Mapping[str, Any] = dataclasses.field(default_factory=dict, hash=False)
    static: Sequence[str] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "seeds", _seeds(self.seeds))
        object.__setattr__(self, "static", (self.static,) if isinstance(self.static, str) else tuple(self.static))
        if isinstance(self.problem, OneLayerProblem):
            object.__setattr__(self, "activation", self.problem)
            object.__setattr__(self, "problem", None)
        object.__setattr__(self, "axes", self._named_axes())
        if self.problem is None:
            self._check_one_layer()
            return
        if not isinstance(self.problem, Problem):
            raise TypeError(f"problem must be an instance of Problem, got {_checks.show(self.problem)}")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name in ONE_LAYER and value != field.default:
                raise ValueError(f"{field.name} must be an axis in axes with a problem, got {_checks.show(value)}")

    def _named_axes(self) -> dict[str, tuple[Any, ...]]:
        if not isinstance(self.axes, Mapping):
            raise TypeError(f"axes must be a dictionary of values by name, got {_checks.show(self.axes)}")
        if unknown := [name for name in self.static if name not in self.axes]:
            raise ValueError(f"static must be names in axes, got {unknown[0]!r}")
        reserved = {"seed", "problem", *(() if self.problem is not None else ONE_LAYER)}
        axes = {}
        for name, given in self.axes.items():
            if not isinstance(name, str) or not name.isidentifier() or name.startswith("_") or name in reserved:
                raise ValueError(f"axes must have new names that are identifiers, got {name!r}")
            values = _axis(f"axes[{name!r}]", given)
            if name not in self.static:
                values = _plain(name, values)
            if any(a == b for i, a in enumerate(values) for b in values[:i]):
                raise ValueError(f"axes[{name!r}] must hold distinct values, got {_checks.show(list(values))}")
            axes[name] = values
        return axes

    def _check_one_layer(self) -> None:
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
    def values(self) -> Values:
        """The values on each axis of a grid of one-layer problems."""
        return Values(*(cast(Any, getattr(self, name)) for name in Values._fields))

    @property
    def factory(self) -> Factory:
        """Factory of the one-layer problems of the lanes, by k."""
        return Factory(PROBLEMS[self.activation] if isinstance(self.activation, str) else self.activation)

    @property
    def labels(self) -> tuple[str, ...]:
        """Unique name of each entry of the penalty axis, with its parameters if the plain name repeats."""
        return labelled(self.values.penalty)

    @property
    def shape(self) -> dict[str, int]:
        """Length of each axis, in the order of the result's dimensions."""
        lengths = {name: len(values) for name, values in self.axes.items()}
        if self.problem is None:
            fixed = self.values._asdict()
            del fixed["seeds"]
            lengths = {name: 1 if values is None else len(values) for name, values in fixed.items()} | lengths
        return lengths | {"seed": len(self.seeds)}  # type: ignore[arg-type]

    @property
    def size(self) -> int:
        """Number of lanes."""
        return math.prod(self.shape.values())

    @property
    def is_plain(self) -> bool:
        """Whether its lanes are one-layer problems without custom axes."""
        return self.problem is None and not self.axes


ONE_LAYER = ("penalty", "d", "k", "lam", "beta", "a", "learning_rate", "activation", "normalize")
"""Arguments that describe one-layer problems."""


def labelled(penalties: Sequence[Penalty]) -> tuple[str, ...]:
    """Returns a unique name of each penalty, with its parameters if the plain name repeats."""
    names = [penalty.name for penalty in penalties]

    def label(penalty: Penalty) -> str:
        numbers = jax.tree_util.tree_leaves_with_path(penalty)
        values = ", ".join(f"{jax.tree_util.keystr(path)[1:]}={float(leaf):g}" for path, leaf in numbers)
        return f"{penalty.name}({values})" if names.count(penalty.name) > 1 and values else penalty.name

    return tuple(label(penalty) for penalty in penalties)


def _plain(name: str, values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Returns the values of a traced axis: penalties, or numbers of one type."""
    if all(isinstance(value, Penalty) for value in values):
        if any(np.ndim(leaf) for value in values for leaf in jax.tree.leaves(value)):
            raise ValueError(f"axes[{name!r}] must hold penalties of single numbers, got {_checks.show(list(values))}")
        return values
    array = _checks.known(values)
    if array is None or array.ndim != 1 or not np.isfinite(array).all():
        shown = _checks.show(list(values))
        raise TypeError(f"axes[{name!r}] must hold finite numbers or penalties, or be named in static, got {shown}")
    return tuple(array.tolist())


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
