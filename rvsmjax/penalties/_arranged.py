"""Penalties on leaves with a declared layout: slice by slice, with the axes in the order of Flax's kernels."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from rvsmjax._sharding import automatic
from rvsmjax.geometry import norm, working_dtype
from rvsmjax.penalties.base import Penalty
from rvsmjax.penalties.grouped import Grouped
from rvsmjax.penalties.top_k import TopK

STACK, INPUTS, OUTPUTS, HEADS, OTHER = ("stack",), ("in", "in_head"), ("out", "head"), ("head", "in_head"), "..."
"""Words for axes: ``head`` is an axis of heads among the outputs, ``in_head`` one among the inputs."""


@dataclasses.dataclass(frozen=True)
class Axes:
    """What each axis of a leaf means. Holds no arrays: part of the structure of a state.

    Args:
      words: one of ``stack``, ``in``, ``in_head``, ``out``, ``head`` and ``...`` for each axis.
    """

    words: tuple[str, ...]

    def where(self, words: Sequence[str]) -> tuple[int, ...]:
        """Returns the axes with one of ``words``."""
        return tuple(axis for axis, word in enumerate(self.words) if word in words)

    @property
    def within(self) -> Axes:
        """The axes of one slice."""
        return Axes(tuple(word for word in self.words if word not in STACK))

    @property
    def merged(self) -> tuple[tuple[int, ...], ...]:
        """The axes that make up each axis of a slice in Flax's order: (..., inputs, outputs)."""
        others = [(axis,) for axis in self.where(OTHER)]
        return (*others, *(axes for axes in (self.where(INPUTS), self.where(OUTPUTS)) if axes))

    @property
    def inputs(self) -> tuple[int, ...]:
        """The axes over which an output sums; where no outputs are named, a slice's last axis is theirs."""
        own = [axis for axis, word in enumerate(self.words) if word not in STACK]
        outputs = self.where(OUTPUTS) or own[-1:]
        return tuple(axis for axis in own if axis not in outputs)

    def slice_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Returns the shape of a slice in Flax's order."""
        return tuple(math.prod(shape[axis] for axis in axes) for axes in self.merged)

    def split(self, x: Array) -> list[Array]:
        """Returns the slices of a leaf in Flax's order."""
        stack = self.where(STACK)
        front = jnp.moveaxis(x, stack, range(len(stack)))
        flat = front.reshape(math.prod(stack_shape(self, x.shape)), *front.shape[len(stack) :])
        return [self.within.ordered(part) for part in flat]

    def joined(self, parts: Sequence[Array], shape: tuple[int, ...]) -> Array:
        """Returns a leaf of the given shape from its slices in Flax's order."""
        stack = self.where(STACK)
        inner = tuple(length for length, word in zip(shape, self.words, strict=True) if word not in STACK)
        front = jnp.stack([self.within.restored(part, inner) for part in parts])
        return jnp.moveaxis(front.reshape(*stack_shape(self, shape), *inner), range(len(stack)), stack)

    def ordered(self, x: Array) -> Array:
        """Returns a slice in Flax's order, its inputs merged into one axis and its outputs into another."""
        return x.transpose(*(axis for axes in self.merged for axis in axes)).reshape(self.slice_shape(x.shape))

    def restored(self, x: Array, shape: tuple[int, ...]) -> Array:
        """Returns a slice of the given shape, from one in Flax's order."""
        order = [axis for axes in self.merged for axis in axes]
        return x.reshape([shape[axis] for axis in order]).transpose(*np.argsort(order).tolist())


def stack_shape(axes: Axes | None, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the lengths of the stack axes of a leaf; () where there are none."""
    return () if axes is None else tuple(shape[axis] for axis in axes.where(STACK))


def along_stack(axes: Axes | None, metric: Array | None, shape: tuple[int, ...]) -> list[Array]:
    """Returns the metric of a leaf, broadcast along its stack axes, in a list; an empty one without a metric."""
    if metric is None:
        return []
    stack = () if axes is None else axes.where(STACK)
    lengths = [
        whole if axis in stack else own for axis, (own, whole) in enumerate(zip(metric.shape, shape, strict=True))
    ]
    return [jnp.broadcast_to(metric, lengths)]


def map_slices(
    function: Callable[..., Array],
    axes: Axes | None,
    arrays: Sequence[Array],
    numbers: Sequence[Array] = (),
    *,
    like: bool = True,
) -> Array:
    """Returns ``function(*arrays, *numbers)``, applied to each slice of a stack by itself.

    Args:
      function: function of as many slices as there are ``arrays`` and as many scalars as there are ``numbers``.
      axes: axes of the arrays.
      arrays: arrays of one shape.
      numbers: arrays with the lengths of the stack axes.
      like: whether ``function`` returns a slice and the result is like the arrays; otherwise the stack axes come first.
    """
    stack = () if axes is None else axes.where(STACK)
    for before, axis in reversed(list(enumerate(stack))):
        at = axis - before  # of the array without the stack axes before
        function = jax.vmap(function, (at,) * len(arrays) + (0,) * len(numbers), at if like else 0)
    return function(*arrays, *numbers)


def arranged(penalty: Penalty, axes: Sequence[Axes | None]) -> Penalty:
    """Returns ``penalty`` for leaves with these axes, None where nothing is declared. The slices of a stack are leaves.

    Args:
      penalty: a penalty for leaves in Flax's order.
      axes: axes of each leaf to come.
    """
    axes = tuple(axes)
    joint = type(penalty).prox_leaves is not Penalty.prox_leaves
    if not any(axes) or (penalty.separable and not joint):
        return penalty
    if isinstance(penalty, Grouped):
        return ArrangedGroups(arranged(penalty.penalty, axes), penalty.axes, axes)
    # The order of components matters to TopK in ties alone, and a global count does not see the leaves.
    if isinstance(penalty, TopK) and (penalty.scope == "global" or not any(of and of.where(STACK) for of in axes)):
        return penalty
    return Arranged(penalty, axes)


@dataclasses.dataclass(frozen=True)
class Arranged(Penalty):
    """A penalty on leaves with declared axes; made for one call, never part of a state.

    Args:
      penalty: the penalty, for leaves in Flax's order.
      axes: axes of each leaf, None where nothing is declared.
    """

    penalty: Penalty
    axes: tuple[Axes | None, ...] = dataclasses.field(metadata={"static": True})
    separable: ClassVar[bool] = False

    @property
    def is_constraint(self) -> bool:
        """Whether the penalty is one."""
        return self.penalty.is_constraint

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """Raises ``ValueError`` if the penalty does not apply to the slices of an array of this shape."""
        self.penalty.check_shape(shape if self.axes[0] is None else self.axes[0].slice_shape(shape))

    def value(self, x: ArrayLike) -> Array:
        """Returns the sum of the values of all slices, a scalar."""
        (values,) = self._scalars(lambda penalty, v: penalty.value(v), [jnp.asarray(x)])
        return jnp.sum(values)

    def prox(self, v: ArrayLike, step: ArrayLike) -> Array:
        """Returns the prox of each slice, with the shape of ``v``."""
        return self.prox_leaves([jnp.asarray(v)], step)[0]

    def prox_leaves(self, leaves: Sequence[Array], step: ArrayLike) -> list[Array]:
        """Returns the prox of several leaves, whose slices count as leaves."""
        return self.like(lambda penalty, xs, s: penalty.prox_leaves(xs, s), leaves, step)

    def shrinkage_leaves(self, leaves: Sequence[Array], step: ArrayLike) -> list[Array]:
        """Returns the shrinkage of several leaves, see ``prox_leaves``."""
        return self.like(lambda penalty, xs, s: penalty.shrinkage_leaves(xs, s), leaves, step)

    def threshold(self, step: ArrayLike) -> Array:
        """Returns the threshold of the penalty."""
        return self.penalty.threshold(step)

    def magnitudes(self, leaves: Sequence[Array]) -> list[Array]:
        """Returns the magnitudes in each leaf."""
        return self._scalars(lambda penalty, v: penalty.magnitudes([v])[0], leaves)

    def _scalars(self, function: Callable[[Penalty, Array], Array], leaves: Sequence[Array]) -> list[Array]:
        """Returns, for each leaf, ``function(penalty, slice)`` for its slices, along the first axes."""

        def one(leaf: Array, axes: Axes) -> Array:
            def whole(xs: list[Array], penalty: Penalty) -> Array:
                return map_slices(lambda x: function(penalty, axes.within.ordered(x)), axes, xs, like=False)

            return automatic(whole, [leaf], self.penalty, like=False)

        return [one(leaf, axes) for leaf, axes in self._pairs(leaves)]

    def like(self, function: Callable[..., list[Array]], leaves: Sequence[Array], step: ArrayLike) -> list[Array]:
        """Returns ``function(penalty, slices, step)`` for all slices, as leaves."""

        def alone(xs: list[Array], penalty: Penalty, step: ArrayLike) -> list[Array]:
            def one(x: Array, within: Axes) -> Array:
                return within.restored(function(penalty, [within.ordered(x)], step)[0], x.shape)

            return [map_slices(partial(one, within=axes.within), axes, [x]) for x, axes in self._pairs(xs)]

        def together(xs: list[Array], penalty: Penalty, step: ArrayLike) -> list[Array]:
            split = [axes.split(x) for x, axes in self._pairs(xs)]
            done = iter(function(penalty, [x for parts in split for x in parts], step))
            return [
                axes.joined([next(done) for _ in parts], x.shape)
                for parts, (x, axes) in zip(split, self._pairs(xs), strict=True)
            ]

        # TopK is here for its scope "leaf" alone. A penalty of the user's that compares its leaves sees all slices.
        compares = type(self.penalty).prox_leaves is not Penalty.prox_leaves and not isinstance(self.penalty, TopK)
        return automatic(together if compares else alone, leaves, self.penalty, step)

    def _pairs(self, leaves: Sequence[Array]) -> list[tuple[Array, Axes]]:
        pairs = zip(leaves, self.axes, strict=True)
        return [(leaf, Axes((OTHER,) * leaf.ndim) if axes is None else axes) for leaf, axes in pairs]


@dataclasses.dataclass(frozen=True)
class ArrangedGroups(Grouped):
    """Groups of leaves with declared axes, without moving an axis; made for one call, never part of a state.

    Args:
      penalty: the penalty on the norms, which keep the axes of their leaf.
      axes: axes to reduce in Flax's order, as in ``Grouped``.
      of: axes of each leaf, None where nothing is declared.
    """

    of: tuple[Axes | None, ...] = dataclasses.field(default=(), metadata={"static": True})

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """Raises ``ValueError`` unless the slices of an array of this shape have the axes."""
        self._reduced_of(shape, self.of[0])

    def magnitudes(self, leaves: Sequence[Array]) -> list[Array]:
        """Returns the norms of the groups of each leaf."""
        pairs = zip(leaves, self.of, strict=True)
        return [
            norm(leaf.astype(working_dtype(leaf)), self._reduced_of(leaf.shape, of), keepdims=True)
            for leaf, of in pairs
        ]

    def _reduced_of(self, shape: tuple[int, ...], of: Axes | None) -> tuple[int, ...]:
        if of is None:
            return self._reduced(shape)
        if self.axes == "heads" and of.where(HEADS):
            return tuple(axis for axis, word in enumerate(of.words) if word not in (*STACK, *HEADS))
        return tuple(axis for merged in self._reduced(of.slice_shape(shape)) for axis in of.merged[merged])
