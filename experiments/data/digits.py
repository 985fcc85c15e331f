"""Digits of scikit-learn, 8 × 8 pixels, in three splits; no download."""

from __future__ import annotations

import jax.numpy as jnp
from jax.typing import DTypeLike

from .images import Data
from .labelled import Labelled

LEARNT, VALIDATION, TEST = 1149, 288, 360
"""Images per split, as in the examples."""


def load(dtype: DTypeLike) -> Data:
    """Returns images of shape (n, 8, 8, 1) with pixels in [0, 1]; the splits are stratified by digit."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    x, y = load_digits(return_X_y=True)
    x, x_test, y, y_test = train_test_split(x, y, test_size=TEST, stratify=y, random_state=0)
    x, x_val, y, y_val = train_test_split(x, y, test_size=VALIDATION, stratify=y, random_state=0)
    parts = ((x, y), (x_val, y_val), (x_test, y_test))
    return Data(
        *(Labelled(jnp.asarray(a / 16, dtype).reshape(-1, 8, 8, 1), jnp.asarray(b, jnp.int32)) for a, b in parts)
    )
