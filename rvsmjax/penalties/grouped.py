"""Group penalties: any penalty applied to the norms of groups."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Sequence
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from rvsmjax.geometry import float_dtype, norm, quotient, working_dtype
from rvsmjax.penalties.base import Penalty

KEPT = {"filters": -1, "channels": -2, "rows": 0}
"""Named groups: the axis that is kept, in the order of Flax's kernels."""
NAMED = (*KEPT, "heads")


@dataclasses.dataclass(frozen=True)
class Grouped(Penalty):
    r"""P(x) = Σ_g ρ(‖x_g‖₂): group lasso from L1, group l0 from L0, group transformed l1, top-k groups from TopK.

    prox applies the prox of ``penalty`` to the norm of each group and keeps the group's direction. Groups are not
    weighted.

    Args:
      penalty: the penalty on the norms.
      axes: axes to reduce; each index into the remaining axes is one group. The default groups a convolution kernel in
        Flax's layout (height, width, input, output) by output filter. A name keeps a single axis, for kernels of any
        rank: ``"filters"`` the last, ``"channels"`` the second to last, ``"rows"`` the first. For kernels in another
        order, and for ``"heads"``, which makes each attention head a group, a transformation takes a ``layout``.

    Raises:
      TypeError: if ``penalty`` is not a Penalty or ``axes`` holds anything but integers.
      ValueError: if ``axes`` is empty or repeats an axis; when applied, if the array lacks an axis or, for
        ``"heads"``, no layout declares heads.

    Source: F section 6, Table 1 (group lasso); group l0 and transformed l1 by the same construction.

    Example:
      >>> from rvsmjax.penalties.l1 import L1
      >>> Grouped(L1(), axes=(1,)).prox(jnp.array([[3.0, 4.0], [0.3, 0.4]]), 1.0).tolist()
      [[2.4..., 3.2...], [0.0, 0.0]]
    """

    penalty: Penalty
    axes: tuple[int, ...] | str = dataclasses.field(default=(0, 1, 2), metadata={"static": True})
    name: ClassVar[str] = "grouped"
    separable: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not isinstance(self.penalty, Penalty):
            raise TypeError(f"penalty must be an instance of Penalty, got {self.penalty!r}")
        if isinstance(self.axes, str):
            if self.axes not in NAMED:
                raise ValueError(f"axes must be integers or one of {', '.join(NAMED)}, got {self.axes!r}")
            return
        sequence: Any = (self.axes,) if np.ndim(self.axes) == 0 else self.axes
        try:
            axes = tuple(operator.index(axis) for axis in sequence)
        except TypeError:
            raise TypeError(f"axes must be a nonempty tuple of distinct integers, got {self.axes!r}") from None
        if not axes or len(set(axes)) < len(axes):
            raise ValueError(f"axes must be a nonempty tuple of distinct integers, got {self.axes!r}")
        object.__setattr__(self, "axes", axes)

    @property
    def is_constraint(self) -> bool:
        """Whether the penalty on the norms is one."""
        return self.penalty.is_constraint

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """Raises ``ValueError`` unless the array has the axes."""
        self._reduced(shape)

    def value(self, x: ArrayLike) -> Array:
        """Returns the penalty of the group norms, a scalar."""
        return self.penalty.value(self.magnitudes([jnp.asarray(x)])[0])

    def prox(self, v: ArrayLike, step: ArrayLike) -> Array:
        """Returns ``v`` with the norm of each group replaced by its prox."""
        leaf = jnp.asarray(v)
        (size,) = self.magnitudes([leaf])
        return (leaf * quotient(self.penalty.prox(size, step), size)).astype(float_dtype(leaf))

    def shrinkage(self, v: ArrayLike, step: ArrayLike) -> Array:
        """Returns ``v`` with the norm of each group replaced by its shrinkage."""
        return self.shrinkage_leaves([jnp.asarray(v)], step)[0]

    def prox_leaves(self, leaves: Sequence[Array], step: ArrayLike) -> list[Array]:
        """Returns the prox of several leaves; a ``TopK`` of global scope compares the groups of all leaves."""
        norms = self.magnitudes(leaves)
        new = self.penalty.prox_leaves(norms, step)
        shares = [quotient(x, n) for x, n in zip(new, norms, strict=True)]
        return [(leaf * share).astype(float_dtype(leaf)) for leaf, share in zip(leaves, shares, strict=True)]

    def shrinkage_leaves(self, leaves: Sequence[Array], step: ArrayLike) -> list[Array]:
        """Returns the shrinkage of several leaves, see ``prox_leaves``."""
        norms = self.magnitudes(leaves)
        new = self.penalty.shrinkage_leaves(norms, step)
        shares = [jnp.where(n > 0, quotient(x, n), 1) for x, n in zip(new, norms, strict=True)]
        return [(leaf * share).astype(float_dtype(leaf)) for leaf, share in zip(leaves, shares, strict=True)]

    def threshold(self, step: ArrayLike) -> Array:
        """Returns the threshold on the norm of a group."""
        return self.penalty.threshold(step)

    def magnitudes(self, leaves: Sequence[Array]) -> list[Array]:
        """Returns the norms of the groups of each leaf."""
        return [norm(leaf.astype(working_dtype(leaf)), self._reduced(leaf.shape), keepdims=True) for leaf in leaves]

    def _reduced(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        ndim = len(shape)
        if self.axes == "heads":
            raise ValueError(f"axes 'heads' must be of a kernel whose layout declares a head axis, got shape {shape}")
        if isinstance(self.axes, str):
            if ndim < 2:
                raise ValueError(f"axes {self.axes!r} must be of an array of rank 2 or more, got shape {shape}")
            return tuple(axis for axis in range(ndim) if axis != KEPT[self.axes] % ndim)
        axes = tuple(axis + ndim if axis < 0 else axis for axis in self.axes)
        if not all(0 <= axis < ndim for axis in axes) or len(set(axes)) < len(axes):
            raise ValueError(f"axes must be distinct axes of the array, got {self.axes} for shape {shape}")
        return axes
