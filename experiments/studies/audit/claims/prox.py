"""Claims on the prox of a number v at step λ: the printed minimiser against an arbitrary y."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from rvsmjax.geometry import quotient
from rvsmjax.penalties import L0, L1, Penalty, TransformedL1

from ..chosen import Chosen
from ..claim import Claim, Parameters, Run
from ..margins import Margins, at_most
from ..states import Scalar
from .shared import no_conditions


def _minimises(p: Parameters, state: Scalar, penalty: Penalty, answer: Array) -> Margins:
    """Compares ½(y − v)² + λρ(y) at ``answer`` with its values at the competitor, at 0 and at v."""

    def value(y: Array) -> Array:
        return jnp.square(y - state.v) / 2 + p.lam * penalty.value(y)

    terms = jnp.square(state.v), p.lam
    others = {"any y": state.competitor, "y = 0": jnp.zeros_like(state.v), "y = v": state.v}
    return {name: at_most(value(answer), value(y), *terms) for name, y in others.items()}


def _soft(run: Run) -> Margins:
    p, s = run
    return _minimises(p, s, L1(), jnp.sign(s.v) * jnp.maximum(jnp.abs(s.v) - p.lam, 0))


def _hard_printed(run: Run) -> Margins:
    p, s = run
    return _minimises(p, s, L0(), jnp.where(jnp.abs(s.v) < p.lam, 0, s.v))


def _hard(run: Run) -> Margins:
    p, s = run
    return _minimises(p, s, L0(), jnp.where(jnp.abs(s.v) > jnp.sqrt(2 * p.lam), s.v, 0))


def _transformed(run: Run) -> Margins:
    p, s = run
    assert isinstance(p.penalty, Chosen | TransformedL1)
    a, size = jnp.asarray(p.penalty.a), jnp.abs(s.v)
    subcritical = p.lam <= a**2 / (2 * (a + 1))
    t = jnp.where(subcritical, p.lam * (a + 1) / a, jnp.sqrt(2 * p.lam * (a + 1)) - a / 2)
    cosine = 1 - quotient(27 * p.lam * a * (a + 1), 2 * (a + size) ** 3)
    # Above the threshold the cosine is > −1, so arccos is differentiable; below, the formula is not used.
    phi = jnp.arccos(jnp.where(size > t, jnp.clip(cosine, -1 + 1e-15, 1 - 1e-15), 0))
    g = jnp.sign(s.v) * (2 / 3 * (a + size) * jnp.cos(phi / 3) - 2 * a / 3 + size / 3)
    return _minimises(p, s, TransformedL1(a), jnp.where(size > t, g, 0))


CLAIMS = (
    Claim(
        "A-soft",
        "A eq. 12, I section 3.2, F section 3.2",
        "S_λ(v) = sgn(v) max(|v| − λ, 0) minimises ½(y − v)² + λ|y|",
        "prox",
        no_conditions,
        _soft,
    ),
    Claim(
        "A-5.2.1",
        "A Lemma 5.2.1, F Lemma 8",
        "g_λ(v) beyond the threshold t, else 0, minimises ½(y − v)² + λρ_a(y)",
        "prox",
        no_conditions,
        _transformed,
        ("tl1",),
    ),
    Claim(
        "A-5.2.2",
        "A Lemma 5.2.2",
        "v where |v| ≥ λ, else 0, minimises ½(y − v)² + λ‖y‖₀",
        "prox",
        no_conditions,
        _hard_printed,
        ("l0",),
    ),
    Claim(
        "A-5.2.2-right",
        "F Lemma 9, A section 5.3",
        "v where |v| > √(2λ), else 0, minimises ½(y − v)² + λ‖y‖₀",
        "prox",
        no_conditions,
        _hard,
        ("l0",),
    ),
)
