"""RigL: sparse training whose pattern moves to where the gradient is large."""

from __future__ import annotations

import optax
from jax import Array
from jax.typing import ArrayLike

from rvsmjax.methods.dynamic.training import dynamic
from rvsmjax.transforms.leaves.layouts import Layout
from rvsmjax.transforms.leaves.marks import Marks
from rvsmjax.transforms.leaves.selection import Mask


def rigl(
    optimizer: optax.GradientTransformation,
    sparsity: float,
    *,
    steps: int,
    every: int = 100,
    fraction: ArrayLike = 0.3,
    distribution: str = "erk",
    seed: ArrayLike = 0,
    mask: Mask = None,
    layout: Layout | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Returns ``optimizer`` on a sparse pattern that moves to where the gradient is large: RigL.

    .. math:: f(t) = \tfrac{\alpha}{2}\left(1 + \cos\frac{\pi t}{T}\right), \qquad T = \tfrac34\,\mathrm{steps}

    At first each leaf has random live weights, and the first update sets the others to 0. Every ``every`` steps until
    T, after the optimizer's step, a leaf drops the fraction f(t) of its live weights that is smallest in magnitude, and
    grows as many by the largest gradient among those not live then. What grows starts at 0, with entries in the
    optimizer's state as after ``init``; what is dropped and grown at once stays as it was. In between only live weights
    have gradients and move. The number of live weights never changes, and is exact: round(sparsity·n) of all n are not.

    In the paper a step that moves the pattern does not move the weights; here it does both. Adam's moments of grown
    weights start at 0 without a new bias correction: at first their steps are up to six times larger.

    Args:
      optimizer: any optax optimizer, complete with its learning rate. Nothing may follow in a chain.
      sparsity: fraction of weights that are not live, in [0, 1).
      steps: total number of updates of the training, >= 1.
      every: steps between two moves of the pattern, >= 1.
      fraction: α, the fraction of live weights that a leaf exchanges at first, in [0, 1].
      distribution: densities of the leaves, ``"erk"`` or ``"uniform"``: see ``methods.dynamic.densities.live_counts``.
      seed: of the random pattern, >= 0.
      mask: which leaves, see ``select``.
      layout: what each axis of a leaf means, see ``rvsm``: each slice of a stack counts as a leaf.

    Raises:
      TypeError: if an integer leaf is selected, or ``sparsity`` is traced.
      ValueError: if a number is out of range, the distribution is unknown, ``update`` is called without ``params``, or
        a mask or layout does not fit.

    Source: U. Evci et al., arXiv 1911.11134, Algorithm 1.

    Example:
      >>> import jax.numpy as jnp, rvsmjax as rv
      >>> w = jnp.ones((8, 8))
      >>> tx = rv.methods.rigl(optax.sgd(0.1), 0.75, steps=400)
      >>> updates, state = tx.update(w, tx.init(w), w)
      >>> int(jnp.sum(w + updates == 0))
      48
    """

    def scores(marks: Marks, gradients: optax.Updates, count: Array) -> list[Array]:
        del count
        return marks.marked(gradients)

    return dynamic("rigl", scores, optimizer, sparsity, steps, every, fraction, distribution, seed, mask, layout)
