"""What a claim is: conditions on the parameters and the states of a run, and conclusions about it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

from jax import Array

from rvsmjax.penalties import Penalty

from .margins import Margins


class Parameters(NamedTuple):
    """The numbers of one lane. Vectors may be padded with zeros, which no step leaves: ``d`` counts the others.

    Attributes:
      penalty: P.
      k: patches, a whole number >= 1.
      d: components of w that are not padding.
      lam: λ.
      beta: β; λ/β is the step of prox.
      learning_rate: η.
      delta: δ of the theorems, in (0, π).
      w_star: w*, of shape (d,).
      s: components that hard thresholding keeps.
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
    """What a conclusion is about: the parameters and the states that came of them, see ``states``."""

    parameters: Parameters
    state: Any


@dataclasses.dataclass(frozen=True)
class Claim:
    """A theorem, lemma or sentence of a paper as margins of one lane; pure functions that ``vmap`` and differentiate.

    Attributes:
      name: short, unique: the paper's letter, then the number.
      where: paper and place.
      statement: what is claimed, in one line.
      subject: the kind of run that it is about: a key of ``subjects.SUBJECTS``.
      conditions: (parameters, state) -> margins; the claim says nothing unless all are >= 0.
      conclusions: run -> margins; each that is < 0 by more than its allowance is a violation.
      penalties: names of the penalties that it is claimed for.
      corrects: name of the printed claim in whose place this one stands.
    """

    name: str
    where: str
    statement: str
    subject: str
    conditions: Callable[[Parameters, Any], Margins]
    conclusions: Callable[[Run], Margins]
    penalties: tuple[str, ...] = ("l1",)
    corrects: str = ""
