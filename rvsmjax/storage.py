"""Saving and loading sparse parameters and masks: npz and safetensors. Orbax works as is, since u is a pytree."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rvsmjax._pytree import KeyPath, PyTree
from rvsmjax.transforms.leaves.selection import path_name

DTYPES = "__dtypes__"


def save_npz(path: str | os.PathLike[str], tree: PyTree) -> None:
    """Writes a tree of arrays, such as u or a mask, to a compressed npz file. Zeros take almost no space.

    Each array is stored under its path in the tree, such as ``conv1/kernel``. The write is atomic.

    Args:
      path: file path, including the suffix.
      tree: tree of arrays; ``{"u": u, "mask": sparsity_mask(u)}`` stores both.

    Raises:
      ValueError: if two leaves have the same path.
    """
    arrays = _by_path(tree)
    dtypes = np.asarray([f"{name}={array.dtype.name}" for name, array in arrays.items()])
    # The npz format has no bfloat16: store such arrays as unsigned integers of the same width.
    plain = {n: a.view(f"u{a.dtype.itemsize}") if a.dtype.kind == "V" else a for n, a in arrays.items()}
    target = Path(path)
    partial = target.with_name(f".{target.name}.partial")
    try:
        with partial.open("wb") as file:
            np.savez_compressed(file, **plain, **{DTYPES: dtypes})  # type: ignore[arg-type]  # any name but its flag
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def load_npz(path: str | os.PathLike[str], like: PyTree) -> PyTree:
    """Returns the tree that ``save_npz`` wrote, with the structure of ``like``.

    Args:
      path: file path.
      like: tree of arrays or ``ShapeDtypeStruct`` with the structure and shapes of the stored tree.

    Raises:
      ValueError: if the paths or shapes of ``like`` and the file differ.
    """
    with np.load(path) as file:
        dtypes = dict(entry.rsplit("=", 1) for entry in file[DTYPES].tolist())
        arrays = {name: file[name].view(jnp.dtype(dtype)) for name, dtype in dtypes.items()}
    return _like(path, arrays, like)


def save_safetensors(path: str | os.PathLike[str], tree: PyTree, metadata: Mapping[str, str] | None = None) -> None:
    """Writes a tree of arrays, such as u or a mask, to a safetensors file, which other frameworks can read.

    Each array is stored under its path in the tree, such as ``conv1/kernel``. The write is atomic. The format stores
    every zero; use ``save_npz`` for small files.

    Args:
      path: file path, including the suffix.
      tree: tree of arrays; ``{"u": u, "mask": sparsity_mask(u)}`` stores both.
      metadata: strings for the file header, by name.

    Raises:
      ModuleNotFoundError: if the package ``safetensors`` is not installed.
      ValueError: if two leaves have the same path.
    """
    safetensors = _safetensors()
    arrays = {name: np.ascontiguousarray(array).reshape(array.shape) for name, array in _by_path(tree).items()}
    target = Path(path)
    partial = target.with_name(f".{target.name}.partial")
    try:
        safetensors.numpy.save_file(arrays, partial, metadata=dict(metadata or {}) or None)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def load_safetensors(path: str | os.PathLike[str], like: PyTree) -> PyTree:
    """Returns the tree that ``save_safetensors`` wrote, with the structure of ``like``.

    Args:
      path: file path.
      like: tree of arrays or ``ShapeDtypeStruct`` with the structure and shapes of the stored tree.

    Raises:
      ModuleNotFoundError: if the package ``safetensors`` is not installed.
      ValueError: if the paths or shapes of ``like`` and the file differ.
    """
    return _like(path, _safetensors().flax.load_file(path), like)


def _safetensors() -> ModuleType:
    try:
        import safetensors.flax
        import safetensors.numpy
    except ModuleNotFoundError:
        wanted = "pip install safetensors, or pip install 'rvsmjax[experiments]'"
        raise ModuleNotFoundError(f"safetensors must be installed for this file format: {wanted}") from None
    return safetensors


def _by_path(tree: PyTree) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    for keys, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = path_name(keys) or "array"
        if name in arrays:
            raise ValueError(f"tree must have a path for each leaf, got two at {name!r}")
        arrays[name] = np.asarray(leaf)
    return arrays


def _like(path: str | os.PathLike[str], arrays: dict[str, np.ndarray], like: PyTree) -> PyTree:
    """Returns ``arrays``, the contents of a file, with the structure of ``like``."""

    def take(keys: KeyPath, leaf: Array) -> jax.Array:
        name = path_name(keys) or "array"
        if name not in arrays:
            raise ValueError(f"like must have the leaves of {os.fspath(path)}, got {name!r}, which it lacks")
        array = arrays.pop(name)
        if array.shape != np.shape(leaf):
            shapes = f"{np.shape(leaf)} at {name!r}, not {array.shape}"
            raise ValueError(f"like must have the shapes of {os.fspath(path)}, got {shapes}")
        return jnp.asarray(array)

    tree = jax.tree_util.tree_map_with_path(take, like)
    if arrays:
        raise ValueError(f"like must have every leaf of {os.fspath(path)}, got none at {min(arrays)!r}")
    return tree
