"""Labelled examples on the device."""

from __future__ import annotations

from typing import NamedTuple

from jax import Array


class Labelled(NamedTuple):
    """Images of shape (n, ...) and labels of shape (n,), on the device."""

    images: Array
    labels: Array
