"""Claims on the prox of a number v at step λ: the printed minimiser against an arbitrary y."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from rvsmjax.geometry import quotient
from rvsmjax.penalties import L0, L1, Penalty, TransformedL1

from ..chosen import Chosen
from ..claim import Claim, Parameters, Run
from ..margins import Margins, at_least, at_most, equal
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
    a, size = _shape(p), jnp.abs(s.v)
    t = _threshold(a, p.lam)
    cosine = 1 - quotient(27 * p.lam * a * (a + 1), 2 * (a + size) ** 3)
    # Above the threshold the cosine is > −1, so arccos is differentiable; below, the formula is not used.
    phi = jnp.arccos(jnp.where(size > t, jnp.clip(cosine, -1 + 1e-15, 1 - 1e-15), 0))
    g = jnp.sign(s.v) * (2 / 3 * (a + size) * jnp.cos(phi / 3) - 2 * a / 3 + size / 3)
    return _minimises(p, s, TransformedL1(a), jnp.where(size > t, g, 0))


def _shape(p: Parameters) -> Array:
    assert isinstance(p.penalty, Chosen | TransformedL1)
    return jnp.asarray(p.penalty.a)


def _critical(a: Array) -> Array:
    return a**2 / (2 * (a + 1))


def _threshold(a: Array, lam: Array) -> Array:
    return jnp.where(lam <= _critical(a), lam * (a + 1) / a, jnp.sqrt(2 * lam * (a + 1)) - a / 2)


def _jump(a: Array, lam: Array) -> tuple[Array, Array]:
    """Returns g_λ at the threshold, where thresholding leaves 0, and a bound on its error by arccos at −1."""
    t = _threshold(a, lam)
    cosine = jnp.clip(1 - 27 * lam * a * (a + 1) / (2 * (a + t) ** 3), -1 + 1e-15, 1 - 1e-15)
    return 2 / 3 * (a + t) * jnp.cos(jnp.arccos(cosine) / 3) - 2 * a / 3 + t / 3, 1e-6 * (a + t)


def _continuity(run: Run) -> Margins:
    """Compares λ inside and outside of the critical value by a factor in (0, 1) that the lane's λ gives."""
    a = _shape(run.parameters)
    share = 1 / (1 + run.parameters.lam)
    (below, error), (above, other) = _jump(a, _critical(a) * share), _jump(a, _critical(a) / share)
    least = jnp.sqrt(2 * _critical(a) / share * (a + 1)) - a
    return {
        "λ < a²/(2(a + 1)): continuous": at_most(jnp.abs(below), 0.0, error=error),
        "λ > a²/(2(a + 1)): jumps": equal(above, least, error=other),
    }


def _jumps_at_equality(run: Run) -> Margins:
    a = _shape(run.parameters)
    jump, _ = _jump(a, _critical(a))
    return _continuity(run) | {"λ = a²/(2(a + 1)): jumps": at_least(jump, 1e-3 * a)}


def _continuous_at_equality(run: Run) -> Margins:
    a = _shape(run.parameters)
    jump, error = _jump(a, _critical(a))
    return _continuity(run) | {"λ = a²/(2(a + 1)): continuous": at_most(jnp.abs(jump), 0.0, error=error)}


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
    Claim(
        "A-5.3-continuous",
        "A section 5.3",
        "the Tℓ1 thresholding is continuous where λ < a²/(2(a + 1)) and has a jump otherwise",
        "prox",
        no_conditions,
        _jumps_at_equality,
        ("tl1",),
    ),
    Claim(
        "A-5.3-continuous-right",
        "A section 5.3, Lemma 5.2.1",
        "the same, continuous at λ = a²/(2(a + 1)), too",
        "prox",
        no_conditions,
        _continuous_at_equality,
        ("tl1",),
    ),
)
