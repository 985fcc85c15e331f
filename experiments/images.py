"""Images on the device in three parts: MNIST, or scikit-learn's small digits in its shape where no file is at hand."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from experiments.datasets import Images
from experiments.mnist import load_mnist
from experiments.record import BadInput
from experiments.training import Labelled

SOURCES = {"mnist": 5000, "digits": 300}
"""Names, and how many of the training images are kept for validation."""
SPLIT_SEED = 0


class Data(NamedTuple):
    """The three parts; ``test`` is read once, at the end of a run."""

    train: Labelled
    validation: Labelled
    test: Labelled


def load(source: str, data_dir: Path | None = None) -> Data:
    """Returns images of shape (n, 28, 28, 1), uint8; the validation part is drawn from the training images by one key.

    Raises:
      BadInput: an unknown source, or files that are missing or altered.
    """
    if source not in SOURCES:
        raise BadInput(f"data must be one of {', '.join(SOURCES)}, got {source!r}")
    rest, test = load_mnist(data_dir) if source == "mnist" else _digits()
    order = np.random.default_rng(SPLIT_SEED).permutation(len(rest.labels))
    first, others = np.split(order, [SOURCES[source]])
    return Data(*(_on_device(part) for part in (_rows(rest, others), _rows(rest, first), test)))


def _digits() -> tuple[Images, Images]:
    """Returns 1,437 and 360 images of 8 × 8 pixels, each pixel repeated three times and a frame of two added."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    large = np.kron(x.reshape(-1, 8, 8) * (255 / 16), np.ones((1, 3, 3)))
    images = np.pad(large, ((0, 0), (2, 2), (2, 2))).astype(np.uint8)[..., None]
    whole = Images(images, y.astype(np.uint8))
    order = np.random.default_rng(SPLIT_SEED).permutation(len(y))
    return _rows(whole, order[360:]), _rows(whole, order[:360])


def _rows(part: Images, rows: np.ndarray) -> Images:
    return Images(part.images[rows], part.labels[rows])


def _on_device(part: Images) -> Labelled:
    return Labelled(jnp.asarray(part.images), jnp.asarray(part.labels, jnp.int32))
