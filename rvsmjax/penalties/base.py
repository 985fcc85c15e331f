"""What a penalty is: a value, a proximal map, a threshold."""

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
    r"""A penalty P with its proximal map.

    One scaling holds everywhere in this package, and stands here once:

    .. math:: \mathrm{prox}(v, s) = \operatorname{argmin}_x \tfrac12\|x - v\|^2 + s\,P(x),

    the *global* minimiser, with ``step`` s = λ/β in relaxed variable splitting. Where two points tie, at |v| equal to
    the threshold, the answer is 0.

    A subclass is a frozen dataclass. Its fields are numbers, which become leaves of a pytree, so that they can be
    traced, differentiated and vmapped; a field with ``metadata={"static": True}`` is part of the structure instead.
    A new penalty needs ``value`` and ``prox``, and ``threshold`` where it has one:

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
    """Short name in grids, tables and on the command line; the class name where empty."""

    separable: ClassVar[bool] = True
    """Whether prox acts on each component alone, so that ``step`` and the fields may broadcast against ``v``."""

    fixes_zero: ClassVar[bool] = False
    """Whether a component 0 counts nothing in ``value`` and stays 0 in prox: vectors may then be longer than they are.

    Sweeps share code between dimensions where it is so.
    """

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        if not cls.__dict__.get("name"):
            cls.name = cls.__name__.lower()

    @abc.abstractmethod
    def value(self, x: ArrayLike) -> Array:
        """Returns P(x), a scalar, summed over all components of ``x`` (any shape)."""

    @abc.abstractmethod
    def prox(self, v: ArrayLike, step: ArrayLike) -> Array:
        """Returns argmin_x ½‖x − v‖² + step·P(x), of the shape and dtype of ``v``; ``step`` >= 0."""

    def threshold(self, step: ArrayLike) -> Array:
        """Returns the largest t with prox(v, step) = 0 for all |v| <= t.

        Raises:
          NotImplementedError: the penalty has none, as what it keeps depends on more than the component.
        """
        raise NotImplementedError(f"{type(self).__name__} has no fixed threshold; call prox")

    def shrinkage(self, v: ArrayLike, step: ArrayLike) -> Array:
        """Returns v − prox(v, step), the gradient of the Moreau envelope, of the shape and dtype of ``v``.

        Penalties override this where it can be formed directly, to more digits than the difference has.
        """
        return jnp.asarray(v) - self.prox(v, step)

    def shrinker(self, step: Array) -> Callable[[Array], Array]:
        """Returns v ↦ shrinkage(v, step) for arrays of the dtype of ``step``, for loops that call it often.

        Penalties override this where a part of the work depends on the step alone.
        """
        return lambda v: self.shrinkage(v, step)

    def prox_leaves(self, leaves: Sequence[Array], step: ArrayLike) -> list[Array]:
        """Returns the prox of several arrays that the penalty takes together; of each alone, unless overridden."""
        return [self.prox(leaf, step) for leaf in leaves]

    def shrinkage_leaves(self, leaves: Sequence[Array], step: ArrayLike) -> list[Array]:
        """Returns the shrinkage of several arrays that the penalty takes together."""
        return [self.shrinkage(leaf, step) for leaf in leaves]


def moreau_envelope(penalty: Penalty, v: ArrayLike, step: ArrayLike) -> Array:
    r"""Returns :math:`\min_x \tfrac12\|x - v\|^2 + s\,P(x)`, a scalar, summed over all components of ``v``.

    Its gradient in v is ``penalty.shrinkage(v, step)``, in step P(x), at the minimiser x: by the envelope theorem the
    first derivative does not see the minimiser move. With β times this, at step λ/β, added to a loss, gradient descent
    is RVSM.

    Args:
      penalty: any penalty.
      v: array of any shape.
      step: number >= 0.

    Raises:
      ValueError: ``step`` is negative or not finite.

    Example:
      >>> import rvsmjax as rv
      >>> float(rv.moreau_envelope(rv.L1(), jnp.array([3.0, 0.5]), 1.0))
      2.625
    """
    _checks.nonnegative("step", step)
    return _envelope(penalty, jnp.asarray(v), jnp.asarray(step))


@jax.custom_jvp
def _envelope(penalty: Penalty, v: Array, step: Array) -> Array:
    squares = 0.5 * jnp.sum(jnp.square(penalty.shrinkage(v, step)))
    return squares + step * penalty.value(penalty.prox(v, step))


@_envelope.defjvp
def _envelope_jvp(primals: tuple[Penalty, Array, Array], tangents: tuple[PyTree, Array, Array]) -> tuple[Array, Array]:
    (penalty, v, step), (dpenalty, dv, dstep) = primals, tangents
    x = penalty.prox(v, step)
    # The minimiser moves only in second and higher derivatives.
    value, dvalue = jax.jvp(lambda p: p.value(x), (penalty,), (dpenalty,))
    envelope = _envelope(penalty, v, step)
    change = jnp.sum(penalty.shrinkage(v, step) * dv) + value * dstep + step * dvalue
    return envelope, change.astype(envelope.dtype)
