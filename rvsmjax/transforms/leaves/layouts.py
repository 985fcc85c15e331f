"""Declared layouts: which axes of a leaf are layers of a stack, inputs, outputs and heads."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import optax
from flax.core import meta

from rvsmjax._pytree import KeyPath, PyTree, unboxed
from rvsmjax.penalties import NM, Grouped, Penalty
from rvsmjax.penalties._arranged import HEADS, INPUTS, OTHER, OUTPUTS, STACK, Axes, arranged
from rvsmjax.transforms.leaves.selection import Mask, check_patterns, first_matches, is_array, path_name, select

Layout = Mapping[str, str]
"""Regular expression on the path -> a word for each axis in order, such as ``"stack in out"``; the first match wins.

``stack``: layers or experts, each slice of which counts as a leaf. ``in`` and ``out``: inputs and outputs of a matrix
product. ``head`` and ``in_head``: heads among the outputs and among the inputs. ``...``: any number of other axes. Each
slice is read in Flax's order, (..., inputs, outputs), axes of one side merged into one.
"""

WORDS = (*STACK, *INPUTS, *OUTPUTS, OTHER)

LAYERS = {"layer", "layers", "stage", "stages", "expert", "experts"}
"""Names of axes in Flax's metadata (``nn.Partitioned``) that are taken for stacks without a layout."""

ATTENTION = {"query", "key", "value", "out"}
"""Layers of Flax's attention, whose kernels have an axis of heads."""


def check_layout(layout: Layout | None) -> Layout:
    """Returns ``layout``, empty for None.

    Raises:
      TypeError: if it is no mapping to strings.
      ValueError: if a key is no regular expression, or the words of an entry are unknown or do not go together.
    """
    if layout is None:
        return {}
    if not isinstance(layout, Mapping) or not all(isinstance(words, str) for words in layout.values()):
        raise TypeError(f'layout must map regular expressions to strings such as "stack in out", got {layout!r}')
    check_patterns("layout", layout)
    for pattern, text in layout.items():
        words = text.split()
        unknown = [word for word in words if word not in WORDS]
        if unknown or not words:
            raise ValueError(f"layout must consist of the words {', '.join(WORDS)}, got {text!r} for {pattern!r}")
        if words.count(OTHER) > 1:
            raise ValueError(f"layout must have '{OTHER}' at most once, got {text!r} for {pattern!r}")
        if set(HEADS) <= set(words):
            raise ValueError(f"layout must have heads on one side, got {text!r} for {pattern!r}")
        if set(INPUTS) & set(words) and not set(OUTPUTS) & set(words):
            raise ValueError(f"layout must name the outputs where it names inputs, got {text!r} for {pattern!r}")
    return layout


def named_leaves(params: PyTree) -> list[tuple[str, PyTree]]:
    """Returns the leaves of ``params`` with their paths, ``optax.MaskedNode`` as leaves."""
    leaves: list[tuple[KeyPath, PyTree]] = jax.tree_util.tree_leaves_with_path(unboxed(params), is_leaf=is_masked)
    return [(path_name(path), leaf) for path, leaf in leaves]


def leaf_axes(params: PyTree, layout: Layout, selected: Sequence[bool]) -> list[Axes | None]:
    """Returns the axes of each selected leaf by ``layout`` or else by Flax's metadata; None where both are silent.

    Raises:
      ValueError: if a pattern never applies, or a layout does not fit the rank of a selected leaf.
    """
    leaves = named_leaves(params)
    boxes = _boxed_names(params)
    texts = list(layout.values())
    found = first_matches("layout", list(layout), [None if is_masked(leaf) else name for name, leaf in leaves])

    def axes(name: str, leaf: PyTree, pattern: int | None) -> Axes | None:
        shape = jnp.shape(leaf) if is_array(leaf) else ()
        if pattern is None:
            words = _by_metadata(boxes.get(name, ()), len(shape))
        else:
            words = _filled(texts[pattern], len(shape))
            if len(words) != len(shape):
                raise ValueError(f"layout must name each axis, got {texts[pattern]!r} for shape {shape} at {name!r}")
        return Axes(words) if set(words) - {OTHER} else None

    columns = zip(leaves, found, selected, strict=True)
    return [axes(name, leaf, pattern) if chosen else None for (name, leaf), pattern, chosen in columns]


def selected_leaves(
    params: PyTree, mask: Mask, layout: Layout | None, penalty: Penalty
) -> list[tuple[str, PyTree, Axes | None]]:
    """Returns path, array and axes of each selected leaf.

    Raises:
      ValueError: if the mask or ``layout`` does not fit, or ``penalty`` does not apply to a leaf.
    """
    layout = check_layout(layout)
    leaves = named_leaves(params)
    selected = jax.tree.leaves(select(unboxed(params), mask), is_leaf=is_masked)
    axes = leaf_axes(params, layout, selected)
    columns = zip(leaves, selected, axes, strict=True)
    chosen = [(name, leaf, of) for (name, leaf), is_selected, of in columns if is_selected]
    for name, leaf, of in chosen:
        require_fit(penalty, of, name, leaf, [name for name, _ in leaves])
    return chosen


def require_fit(penalty: Penalty, axes: Axes | None, name: str, leaf: PyTree, names: Sequence[str]) -> None:
    """Raises ``ValueError`` with the path unless a penalty applies to a leaf.

    Args:
      penalty: the penalty.
      axes: axes of the leaf.
      name: path of the leaf.
      leaf: the leaf.
      names: paths of all leaves: an attention layer has others beside it.
    """
    shape = jnp.shape(leaf)
    if _is_attention(name, names) and _by_position(penalty):
        known = axes is not None and set(axes.words) & {*INPUTS, *OUTPUTS}
        if not known and len(shape) - (len(axes.where(STACK)) if axes else 0) == 3:
            rule = "layout must tell heads from inputs in attention kernels: 'in head out' for query, key and value, "
            raise ValueError(f"{rule}'in_head in out' for out in Flax, got shape {shape} at {name!r}")
    try:
        arranged(penalty, [axes]).check_shape(shape)
    except ValueError as error:
        raise ValueError(f"{error} at {name!r}") from None


def is_masked(node: PyTree) -> bool:
    """Returns whether a node stands for an unmarked leaf."""
    return isinstance(node, optax.MaskedNode)


def _by_position(penalty: Penalty) -> bool:
    """Returns whether the default or a name, not the user's number, chooses the axes of a penalty."""
    if isinstance(penalty, Grouped):
        return isinstance(penalty.axes, str)
    return isinstance(penalty, NM) and penalty.axis == -2


def _is_attention(name: str, names: Sequence[str]) -> bool:
    parts = name.split("/")
    beside = "/".join([*parts[:-2], "query", ""])
    return len(parts) > 1 and parts[-2] in ATTENTION and any(other.startswith(beside) for other in names)


def _filled(text: str, rank: int) -> tuple[str, ...]:
    """Returns the words of a layout with ``...`` repeated, as many as ``rank`` if it fits."""
    words = text.split()
    if OTHER in words:
        at = words.index(OTHER)
        words[at : at + 1] = [OTHER] * (rank - len(words) + 1)
    return tuple(words)


def _by_metadata(names: Sequence[object], rank: int) -> tuple[str, ...]:
    words = tuple(STACK[0] if isinstance(name, str) and name in LAYERS else OTHER for name in names)
    return (*words, *[OTHER] * (rank - len(words)))[:rank]


def _boxed_names(params: PyTree) -> dict[str, Sequence[object]]:
    """Returns the names of the axes of each leaf in a box of Flax (``nn.Partitioned``, ``nnx.Variable``), by path."""
    nnx = sys.modules.get("flax.nnx")
    kinds = (meta.Partitioned, *([nnx.Variable] if nnx else []))
    found: dict[str, Sequence[object]] = {}
    for path, node in jax.tree_util.tree_leaves_with_path(params, is_leaf=lambda node: isinstance(node, kinds)):
        if isinstance(node, meta.Partitioned):
            found[path_name(path)] = node.names
        elif isinstance(node, kinds):
            found[path_name(path)] = node.get_metadata("out_sharding", None) or ()
    return found
