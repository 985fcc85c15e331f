"""Training, validation and test images on the device: MNIST, CIFAR-10, or scikit-learn's digits in their shapes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from ..records.folder import require_one_of
from .cifar10 import load_cifar10
from .datasets import Images
from .labelled import Labelled
from .mnist import load_mnist

SPLIT_SEED = 0


class Data(NamedTuple):
    """The three splits; ``test`` is read once, at the end of a run."""

    train: Labelled
    validation: Labelled
    test: Labelled


def load(source: str, data_dir: Path | None = None) -> Data:
    """Returns uint8 images; the validation images are a random subset of the training images with a fixed seed.

    Args:
      source: key of ``SOURCES``: ``mnist`` and ``digits`` have shape (n, 28, 28, 1), the others (n, 32, 32, 3).
      data_dir: folder of the files, see ``load_mnist`` and ``load_cifar10``.

    Raises:
      BadInput: an unknown source, or missing or altered files.
    """
    require_one_of("data", source, SOURCES)
    read, held_out = SOURCES[source]
    train, test = read(data_dir)
    order = np.random.default_rng(SPLIT_SEED).permutation(len(train.labels))
    validation_rows, train_rows = np.split(order, [held_out])
    return Data(*map(_on_device, (_rows(train, train_rows), _rows(train, validation_rows), test)))


def _digits(frame: int, channels: int) -> tuple[Images, Images]:
    """Returns 1,437 and 360 images of 8 × 8 pixels, enlarged three times and padded by ``frame`` pixels."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    large = np.kron(x.reshape(-1, 8, 8) * (255 / 16), np.ones((1, 3, 3)))
    images = np.pad(large, ((0, 0), (frame, frame), (frame, frame))).astype(np.uint8)[..., None]
    digits = Images(images.repeat(channels, -1), y.astype(np.uint8))
    order = np.random.default_rng(SPLIT_SEED).permutation(len(y))
    return _rows(digits, order[360:]), _rows(digits, order[:360])


def _rows(part: Images, rows: np.ndarray) -> Images:
    return Images(part.images[rows], part.labels[rows])


def _on_device(part: Images) -> Labelled:
    return Labelled(jnp.asarray(part.images), jnp.asarray(part.labels, jnp.int32))


SOURCES: dict[str, tuple[Callable[[Path | None], tuple[Images, Images]], int]] = {
    "mnist": (load_mnist, 5000),
    "digits": (lambda data_dir: _digits(2, 1), 300),
    "cifar10": (load_cifar10, 5000),
    "digits32": (lambda data_dir: _digits(4, 3), 300),
}
"""Reader of each source, and number of training images held out for validation."""
