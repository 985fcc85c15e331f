"""Claims as functions: conditions on the parameters and the state of a run, and conclusions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

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


Kind = Literal["fails", "hypothesis missing", "misprint"]
"""Verdicts other than ``stands``, see ``Flaw``."""


class Flaw(NamedTuple):
    """The printed sentence that a claim refutes.

    Attributes:
      kind: ``hypothesis missing`` if a hypothesis that the paper has elsewhere mends the sentence; ``misprint`` if what
        follows from it in the paper uses the right form; else ``fails``.
      quote: the sentence as printed, with its formulas in plain text.
      at: its place in the paper.
      note: the missing hypothesis and its place, the right form, or why no condition of the paper helps.
    """

    kind: Kind
    quote: str
    at: str
    note: str


@dataclasses.dataclass(frozen=True)
class Claim:
    """A theorem, lemma or sentence of a paper, as margins of one lane: pure functions, differentiable and vmappable.

    Attributes:
      name: unique short name: the paper's letter and the number; ``-right`` marks the correction of a printed claim,
        ``-if`` the printed claim under the hypothesis that it lacks.
      where: paper and number or section.
      statement: the claim in one line.
      subject: key of ``subjects.SUBJECTS``.
      conditions: (parameters, state) -> margins; the claim applies if all are >= 0.
      conclusions: run -> margins; a margin below zero by more than its allowance is a violation.
      penalties: names of the penalties to which the claim applies.
      mean: whether the claim is about the mean over draws; its margins count as violated where their mean at some d is
        below zero by more than three standard errors.
    """

    name: str
    where: str
    statement: str
    subject: str
    conditions: Callable[[Parameters, Any], Margins]
    conclusions: Callable[[Run], Margins]
    penalties: tuple[str, ...] = ("l1",)
    mean: bool = False

    @property
    def corrects(self) -> str:
        """Name of the printed claim that this one corrects or restricts, or empty."""
        name = self.name.removesuffix("-right").removesuffix("-if")
        return name if name != self.name else ""
