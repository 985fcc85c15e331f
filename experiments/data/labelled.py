"""Examples with labels, on the device."""

from __future__ import annotations

from typing import NamedTuple

from jax import Array


class Labelled(NamedTuple):
    """Examples on the device: ``images`` of shape (n, ...), ``labels`` of shape (n,)."""

    images: Array
    labels: Array
