"""Claims as functions: conditions on the parameters and the state of a run, and conclusions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

from jax import Array

from rvsmjax.penalties import Penalty

from .margins import Margins


class Parameters(NamedTuple):
    """Parameters of one lane. Vectors may be padded with zeros, which stay zero; ``d`` counts the other components.

    Attributes:
      penalty: P.
      k: number of patches, >= 1.
      d: number of components of w, without padding.
      lam: λ.
      beta: β; the prox step is λ/β.
      learning_rate: η.
      delta: δ of the theorems, in (0, π).
      w_star: w*, of shape (d,).
      s: number of components that hard thresholding keeps.
    """

    penalty: Penalty
    k: Array
    d: Array
    lam: Array
    beta: Array
    learning_rate: Array
    delta: Array
    w_star: Array
    s: Array


class Run(NamedTuple):
    """Parameters of a lane and the resulting state, see ``states``."""

    parameters: Parameters
    state: Any


@dataclasses.dataclass(frozen=True)
class Claim:
    """A theorem, lemma or sentence of a paper, as margins of one lane: pure functions, differentiable and vmappable.

    Attributes:
      name: unique short name: the paper's letter and the number; ``-right`` marks the correction of a printed claim.
      where: paper and number or section.
      statement: the claim in one line.
      subject: key of ``subjects.SUBJECTS``.
      conditions: (parameters, state) -> margins; the claim applies if all are >= 0.
      conclusions: run -> margins; a margin below zero by more than its allowance is a violation.
      penalties: names of the penalties to which the claim applies.
    """

    name: str
    where: str
    statement: str
    subject: str
    conditions: Callable[[Parameters, Any], Margins]
    conclusions: Callable[[Run], Margins]
    penalties: tuple[str, ...] = ("l1",)

    @property
    def corrects(self) -> str:
        """Name of the printed claim that this one corrects, or empty."""
        name = self.name.removesuffix("-right")
        return name if name != self.name else ""
