"""Kinds of run to which claims apply, and the map from a lane's parameters and start to its state."""

from __future__ import annotations

import dataclasses
import math

import jax.numpy as jnp
from jax import Array

from rvsmjax.geometry import angle, norm
from rvsmjax.penalties import L0, L1, Penalty, TransformedL1
from rvsmjax.problems import NoOverlapBinary, NoOverlapReLU, OneLayerProblem, splitting_residual

from ...one_layer.hard import keep_largest
from .chosen import Chosen
from .claim import Parameters
from .states import Limit, Path, Points, Scalar, State, Three, follow, follow_hard


@dataclasses.dataclass(frozen=True)
class Subject:
    """A kind of run.

    Attributes:
      form: ``scalar``, ``points``, ``path``, ``limit``, ``three`` (limits), ``thresholded`` (three vectors) or
        ``nested`` (projections of a vector).
      problem: ReLU or binary activation.
      normalize: whether w is normalised after each step.
      hard: whether the method is adaptive hard thresholding, not RVSM.
      late: whether u lags by one step.
      dimensions: d of consecutive lanes where the setting is a paper's own, of a mean over each; else empty.
    """

    form: str
    problem: type[OneLayerProblem] = NoOverlapReLU
    normalize: bool = True
    hard: bool = False
    late: bool = False
    dimensions: tuple[int, ...] = ()

    @property
    def uses_penalty(self) -> bool:
        """Whether the run depends on the lane's penalty."""
        return self.form in ("path", "limit") and not self.hard

    @property
    def is_limit(self) -> bool:
        """Whether the state is one limit or several."""
        return self.form in ("limit", "three")


SUBJECTS = {
    "prox": Subject("scalar"),
    "relu points": Subject("points"),
    "A path": Subject("path"),
    "A path at a loose rate": Subject("path"),
    "A limit": Subject("limit"),
    "three limits": Subject("three"),
    "three limits, Tables 1 to 3": Subject("three", dimensions=(10, 20, 30, 40, 50)),
    "three thresholdings, Figure 6": Subject("thresholded", dimensions=(2, 5, 10, 30, 50)),
    "killed": Subject("nested", dimensions=(800,)),
    "A path, any β": Subject("path"),
    "A2 path": Subject("path", normalize=False, hard=True),
    "A2 limit": Subject("limit", normalize=False, hard=True),
    "I path": Subject("path", normalize=False),
    "I late path": Subject("path", normalize=False, late=True),
    "I limit": Subject("limit", normalize=False),
    "I path, any β": Subject("path", normalize=False),
    "I late path, any β": Subject("path", normalize=False, late=True),
    "I limit, any β": Subject("limit", normalize=False),
    "binary points": Subject("points", NoOverlapBinary),
    "F path": Subject("path", NoOverlapBinary),
    "F limit": Subject("limit", NoOverlapBinary),
    "F path, any β": Subject("path", NoOverlapBinary),
}
"""Kinds of run by name."""


def reach(subject: Subject, p: Parameters, start: Array, steps: int) -> State:
    """Returns the state of a lane after ``steps`` differentiable steps, also for limits.

    Args:
      subject: kind of run.
      p: the lane.
      start: w⁰ and the second point, of shape (2, d).
      steps: length of a path.
    """
    if subject.form == "scalar":
        return Scalar(start[0, 0], start[1, 0])
    if subject.form in ("points", "nested"):
        return Points(start[0], start[1])
    if subject.form == "thresholded":
        return Three(*(Limit(start[0], start[0], q.prox(start[0], p.lam / p.beta), 0 * p.lam) for q in three(p)))
    if subject.form == "three":
        lanes = [p._replace(penalty=q) for q in three(p)]
        return Three(*(limit_at(subject, q, start[0], _path(subject, q, start[0], steps).w[-1]) for q in lanes))
    path = _path(subject, p, start[0], steps)
    return path if subject.form == "path" else limit_at(subject, p, start[0], path.w[-1])


def three(p: Parameters) -> tuple[Penalty, ...]:
    """Returns l1, l0 and tl1 with the lane's a."""
    assert isinstance(p.penalty, Chosen | TransformedL1)
    return L1(), L0(), TransformedL1(p.penalty.a)


def limit_at(subject: Subject, p: Parameters, start: Array, w: Array) -> Limit:
    """Returns w as a limit, with its residual."""
    problem = subject.problem(p.k)
    if subject.hard:
        # Once the support is constant the method is gradient descent.
        return Limit(start, w, keep_largest(w, p.s), norm(problem.grad(w, p.w_star)))
    shrinkage = p.penalty.shrinkage(w, p.lam / p.beta)
    residual = splitting_residual(problem, w, p.w_star, p.beta * shrinkage, subject.normalize)
    return Limit(start, w, w - shrinkage, residual)


def _path(subject: Subject, p: Parameters, start: Array, steps: int) -> Path:
    problem = subject.problem(p.k)
    if subject.hard:
        return follow_hard(problem, p, start, steps)
    return follow(problem, p, start, steps, normalize=subject.normalize, late=subject.late)


def largest_rate(subject: Subject, p: Parameters, w: Array) -> Array:
    """Returns the largest η of the subject's theorem for a run that starts at w.

    A: 1/(β + 4). I: 1/(β + 1 + 3/M), where M is taken as 0.9·min(‖w‖, 1). F: the bound of Theorem 1 (iii), both parts.
    """
    if subject.problem is NoOverlapBinary:
        first = p.k / math.pi * jnp.sin(angle(w, p.w_star) / 2) + p.beta
        bound = jnp.minimum(1 / (p.beta + p.k / math.pi), 2 * math.sqrt(2 * math.pi) / p.k)
        return jnp.minimum(bound, 0.5 / first)
    least = 1.0 if subject.normalize else 0.9 * jnp.clip(norm(w), 1e-3, 1)
    return 1 / (p.beta + 1 + 3 / jnp.asarray(least))
