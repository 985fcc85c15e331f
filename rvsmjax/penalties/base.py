"""The penalty interface: value, proximal operator, threshold."""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from rvsmjax import _checks
from rvsmjax._pytree import Module, PyTree


class Penalty(Module, abc.ABC):
    r"""A penalty P with its proximal operator.

    The whole package uses one convention:

    .. math:: \mathrm{prox}(v, s) = \operatorname{argmin}_x \tfrac12\|x - v\|^2 + s\,P(x),

    the *global* minimizer, with ``step`` s = λ/β in relaxed variable splitting. If two points tie, at |v| equal to the
    threshold, prox returns 0.

    A subclass is a frozen dataclass. Its fields are numbers, and leaves of a pytree: they can be traced, differentiated
    and vmapped. A field with ``metadata={"static": True}`` is part of the tree structure instead. A new penalty defines
    ``value`` and ``prox``, and ``threshold`` if it has one:

    Example:
      >>> import dataclasses, rvsmjax as rv
      >>> @dataclasses.dataclass(frozen=True)
      ... class Ridge(rv.Penalty):
      ...     weight: float = 1.0
      ...     def value(self, x):
      ...         return 0.5 * self.weight * jnp.sum(x**2)
      ...     def prox(self, v, step):
      ...         return v / (1 + step * self.weight)
      >>> Ridge(2.0).prox(jnp.array([3.0]), 1.0).tolist()
      [1.0]
    """

    name: ClassVar[str] = ""
    """Short name in grids, tables and on the command line. Defaults to the lower-case class name."""

    separable: ClassVar[bool] = True
    """Whether prox acts componentwise, so ``step`` and the fields may broadcast against ``v``."""

    fixes_zero: ClassVar[bool] = False
    """Whether a zero component contributes nothing to ``value`` and stays zero under prox, so zero padding is harmless.

    Sweeps then share compiled code between dimensions.
    """

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        if not cls.__dict__.get("name"):
            cls.name = cls.__name__.lower()

    @property
    def is_constraint(self) -> bool:
        """Whether P is 0 on a set and ∞ outside, so λ has no effect."""
        return False

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """Raises ``ValueError`` if the penalty does not apply to arrays of this shape."""

    @abc.abstractmethod
    def value(self, x: ArrayLike) -> Array:
        """Returns P(x), a scalar, summed over all components of ``x`` (any shape)."""

    @abc.abstractmethod
    def prox(self, v: ArrayLike, step: ArrayLike) -> Array:
        """Returns argmin_x ½‖x − v‖² + step·P(x), with the shape and dtype of ``v``; ``step`` >= 0."""

    def threshold(self, step: ArrayLike) -> Array:
        """Returns the largest t with prox(v, step) = 0 for every |v| <= t.

        Raises:
          NotImplementedError: if the penalty has no fixed threshold, because prox depends on the other components.
        """
        raise NotImplementedError(f"{type(self).__name__} has no fixed threshold; call prox")

    def shrinkage(self, v: ArrayLike, step: ArrayLike) -> Array:
        """Returns v − prox(v, step), the gradient of the Moreau envelope, with the shape and dtype of ``v``.

        Penalties override this where a direct formula is more accurate than the difference.
        """
        return jnp.asarray(v) - self.prox(v, step)

    def decomposition(self, v: ArrayLike, step: ArrayLike) -> tuple[Array, Array]:
        """Returns the two parts of v: prox(v, step), to the digits of v, and the shrinkage.

        Penalties override this where one of them costs little beside the other.
        """
        return self.prox(v, step), self.shrinkage(v, step)

    def shrinker(self, step: Array) -> Callable[[Array], Array]:
        """Returns v ↦ shrinkage(v, step) for arrays with the dtype of ``step``, for use in loops.

        Penalties override this if part of the work depends only on ``step``.
        """
        return lambda v: self.shrinkage(v, step)

    def magnitudes(self, leaves: Sequence[Array]) -> list[Array]:
        """Returns the numbers that ``threshold`` applies to: |v| for each leaf, norms of groups in ``Grouped``."""
        return [jnp.abs(leaf) for leaf in leaves]

    def prox_leaves(self, leaves: Sequence[Array], step: ArrayLike) -> list[Array]:
        """Returns the prox of several leaves, to the digits of v. Acts on each leaf separately unless overridden."""
        return [self.decomposition(leaf, step)[0] for leaf in leaves]

    def shrinkage_leaves(self, leaves: Sequence[Array], step: ArrayLike) -> list[Array]:
        """Returns the shrinkage of several leaves. Acts on each leaf separately unless overridden."""
        return [self.shrinkage(leaf, step) for leaf in leaves]


def moreau_envelope(penalty: Penalty, v: ArrayLike, step: ArrayLike) -> Array:
    r"""Returns :math:`\min_x \tfrac12\|x - v\|^2 + s\,P(x)`, a scalar, summed over all components of ``v``.

    By the envelope theorem the gradient in v is ``penalty.shrinkage(v, step)``, and the derivative in ``step`` is P at
    the minimizer. Gradient descent on a loss plus β times this envelope, at step λ/β, is RVSM.

    Args:
      penalty: any penalty.
      v: array of any shape.
      step: number >= 0.

    Raises:
      ValueError: if ``step`` is negative or not finite.

    Example:
      >>> import rvsmjax as rv
      >>> float(rv.moreau_envelope(rv.L1(), jnp.array([3.0, 0.5]), 1.0))
      2.625
    """
    _checks.nonnegative("step", step)
    return _envelope(penalty, jnp.asarray(v), jnp.asarray(step))


@jax.custom_jvp
def _envelope(penalty: Penalty, v: Array, step: Array) -> Array:
    x, shrinkage = penalty.decomposition(v, step)
    return 0.5 * jnp.sum(jnp.square(shrinkage)) + step * penalty.value(x)


@_envelope.defjvp
def _envelope_jvp(primals: tuple[Penalty, Array, Array], tangents: tuple[PyTree, Array, Array]) -> tuple[Array, Array]:
    (penalty, v, step), (dpenalty, dv, dstep) = primals, tangents
    x, shrinkage = penalty.decomposition(v, step)
    # The minimizer x contributes only to second and higher derivatives.
    value, dvalue = jax.jvp(lambda p: p.value(x), (penalty,), (dpenalty,))
    envelope = _envelope(penalty, v, step)
    change = jnp.sum(shrinkage * dv) + value * dstep + step * dvalue
    return envelope, change.astype(envelope.dtype)
