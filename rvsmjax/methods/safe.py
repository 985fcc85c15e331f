"""SAFE: sharpness-aware minimization within ADMM."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import DTypeLike

from rvsmjax import _checks
from rvsmjax.geometry import working_dtype
from rvsmjax.penalties import Penalty
from rvsmjax.transforms.admm import admm
from rvsmjax.transforms.leaves.layouts import Layout
from rvsmjax.transforms.leaves.selection import Mask
from rvsmjax.transforms.metric import Metric
from rvsmjax.transforms.rules import Overrides


def safe(
    optimizer: optax.GradientTransformation,
    penalty: Penalty,
    rho: optax.ScalarOrSchedule,
    lam: optax.ScalarOrSchedule = 1.0,
    *,
    radius: float | Array = 0.1,
    dual_every: int = 32,
    steps: int | None = None,
    mask: Mask = None,
    overrides: Overrides | None = None,
    layout: Layout | None = None,
    metric: Metric = None,
    state_dtype: DTypeLike | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Returns ADMM whose w-step takes the gradient at the worst point nearby, which leads to flat and sparse minima.

    .. math:: g \leftarrow \nabla f\Bigl(w + r\,\frac{\nabla f(w)}{\|\nabla f(w)\|}\Bigr) + \rho(w - u + z)

    This is ``admm`` followed by ``optimizer``, with another gradient of f; the pull stays at w. The norm is over all
    leaves, selected or not. ``update`` takes the gradient at w, and ``grad_fn`` for that at the other point, as
    ``optax.contrib.sam`` in its opaque mode: a function of parameters and a number, which is 0. Within
    ``optax.MultiSteps`` it must be that of all batches, since it is called once.

    .. code-block:: python

        grad_fn = jax.grad(lambda params, _: loss(params, batch))
        updates, state = tx.update(grad_fn(params, 0), state, params, grad_fn=grad_fn)

    Args:
      optimizer: any optax optimizer, complete with its learning rate.
      penalty: P, a constraint such as ``TopK(sparsity=0.9, scope="global")`` in the source.
      rho: ρ > 0, a number or a schedule; λ in the source.
      lam: λ >= 0, a number or a schedule; no effect on a constraint.
      radius: r >= 0, distance of the other point; ρ in the source.
      dual_every: steps between updates of u and z, >= 1.
      steps: if given, ρ rises along half a cosine from 0 to ``rho`` in so many updates, as in the source.
      mask: which leaves, see ``select``.
      overrides: other penalties and λ for some leaves, see ``rvsm``.
      layout: what each axis of a leaf means, see ``rvsm``.
      metric: see ``admm``; with importance scores of the weights as the metric this is SAFE+.
      state_dtype: see ``admm``.

    Raises:
      TypeError: see ``admm``; if ``update`` is called without ``grad_fn``, or ``rho`` is a schedule beside ``steps``.
      ValueError: see ``admm``; if ``radius`` < 0 or ``steps`` < 1.

    Source: Lee et al., arXiv 2506.06866, Algorithm 1, and their code. Theirs updates u and z after each
    ``dual_every``-th step of w, and here it is before the next one, with the same w; so the last one is part of
    ``sparse_params``, which projects w + z. Theirs has ρ = 0 in the first step, and here it is a step further.

    Example:
      >>> import rvsmjax as rv
      >>> w, grad_fn = jnp.array([1.0, 0.01]), jax.grad(lambda w, _: jnp.sum((w - 1) ** 2))
      >>> tx = safe(optax.sgd(0.1), rv.TopK(k=1), rho=0.1)
      >>> updates, state = tx.update(grad_fn(w, 0), tx.init(w), w, grad_fn=grad_fn)
      >>> rv.sparse_params(state, w).tolist()
      [1.0, 0.0]
    """
    _checks.nonnegative("radius", radius)
    strength = rho if steps is None else _rising(rho, steps)
    split = admm(
        penalty,
        strength,
        lam,
        dual_every,
        mask,
        overrides=overrides,
        layout=layout,
        metric=metric,
        state_dtype=state_dtype,
    )
    chain = optax.chain(split, optimizer)

    def update(
        updates: optax.Updates,
        state: optax.OptState,
        params: optax.Params | None = None,
        *,
        grad_fn: Callable[[optax.Params, int], optax.Updates] | None = None,
        **extra: object,
    ) -> tuple[optax.Updates, optax.OptState]:
        if params is None:
            raise ValueError("params must be passed to update: safe takes the gradient near params")
        if grad_fn is None:
            raise TypeError("grad_fn must be passed to update: safe takes a second gradient, got None")
        return chain.update(grad_fn(_ascended(params, updates, radius), 0), state, params, **extra)

    return optax.GradientTransformationExtraArgs(chain.init, update)


def _rising(rho: optax.ScalarOrSchedule, steps: int) -> Callable[[Array], Array]:
    """Returns the schedule ρ(1 − cos πτ)/2 with τ = (count + 1)/steps, at most 1."""
    if callable(rho):
        raise TypeError("steps must be None if rho is a schedule, got both")
    _checks.positive("rho", rho)
    _checks.integer("steps", steps, at_least=1)

    def strength(count: Array) -> Array:
        progress = jnp.minimum((count + 1).astype(jnp.result_type(float)) / steps, 1)
        return rho * jnp.square(jnp.sin(jnp.pi / 2 * progress))  # 1 − cos would be 0 in float32 in the first steps

    return strength


def _ascended(params: optax.Params, gradients: optax.Updates, radius: float | Array) -> optax.Params:
    squares = [jnp.sum(jnp.square(jnp.abs(g).astype(working_dtype(g)))) for g in jax.tree.leaves(gradients)]
    norm = jnp.sqrt(sum(squares, jnp.float32(0)))
    scale = jnp.where(norm > 0, radius / jnp.where(norm > 0, norm, 1), 0)
    return optax.apply_updates(params, jax.tree.map(lambda g: (scale * g).astype(g.dtype), gradients))
