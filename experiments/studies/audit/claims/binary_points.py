"""Claims of F on the binary loss and its gradients, at one or two points."""

from __future__ import annotations

import functools
import math

import jax.numpy as jnp
import numpy as np
from jax import Array

from rvsmjax.geometry import angle, norm, quotient, tangent, unit
from rvsmjax.problems import NoOverlapBinary

from ..claim import Claim, Parameters, Run
from ..margins import Margins, at_least, at_most, equal
from ..states import Points
from .binary_paths import PRINTED, RIGHT
from .shared import no_conditions

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(40)
_POINTS = "binary points"


def _interior(p: Parameters, s: Points) -> Margins:
    sines = jnp.minimum(*(jnp.sin(angle(w, p.w_star)) for w in s))
    lengths = jnp.minimum(norm(s.first), norm(s.second))
    return {"0 < θ < π": at_least(sines, 1e-6), "w ≠ 0": at_least(lengths, 1e-6)}


def _shell(p: Parameters, s: Points) -> Margins:
    lengths = jnp.stack([norm(s.first), norm(s.second)])
    return _interior(p, s) | {"‖w‖ ≥ 1/2": at_least(lengths, 0.5), "‖w‖ ≤ 3/2": at_most(lengths, 1.5)}


def _true_slope(p: Parameters, w: Array) -> Array:
    return NoOverlapBinary(p.k).true_grad(w, p.w_star)


def _printed_slope(p: Parameters, w: Array) -> Array:
    """Returns ∇f(w) as printed in F eq. 14."""
    return -p.k / (2 * math.pi) * quotient(tangent(w, p.w_star), norm(w))


def _coarse(p: Parameters, w: Array) -> Array:
    return NoOverlapBinary(p.k).grad(w, p.w_star)


def _correlation(run: Run) -> Margins:
    p, s = run
    left = jnp.sum(_coarse(p, s.first) * _true_slope(p, s.first))
    right = jnp.sin(angle(s.first, p.w_star)) * p.k**2 / (4 * math.pi**2 * norm(s.first))
    return {"⟨E[g], ∇f⟩": equal(left, right, p.k**2 / norm(s.first))}


def _slope_of_loss(p: Parameters, w: Array) -> Array:
    """Returns ∇f(w)·τ, τ the unit tangent towards w*, by a central difference; exact, since f is linear in θ."""
    f, theta = NoOverlapBinary(p.k), angle(w, p.w_star)
    towards, h = unit(tangent(w, p.w_star)), jnp.minimum(theta, math.pi - theta) / 2
    size = norm(w)
    ahead, behind = (size * (jnp.cos(h) * unit(w) + jnp.sin(sign * h) * towards) for sign in (1, -1))
    return quotient(f.loss(ahead, p.w_star) - f.loss(behind, p.w_star), 2 * h * size)


def _slope(run: Run, slope: Array) -> Margins:
    p, s = run
    towards = unit(tangent(s.first, p.w_star))
    lost = p.k / (norm(s.first) * jnp.sin(angle(s.first, p.w_star)))
    return {"∇f": equal(jnp.sum(slope * towards), _slope_of_loss(p, s.first), lost)}


def _slope_printed(run: Run) -> Margins:
    return _slope(run, _printed_slope(run.parameters, run.state.first))


def _slope_right(run: Run) -> Margins:
    p, s = run
    return _slope(run, quotient(_printed_slope(p, s.first), jnp.sin(angle(s.first, p.w_star))))


def _expected(run: Run) -> Margins:
    """Compares F eq. 15 with quadrature over the wedge between the two half-spaces, where E r = √(π/2)."""
    p, s = run
    star, w = unit(p.w_star), unit(s.first)
    theta, side = angle(w, star), unit(tangent(w, star))
    # φ is the angle from w, so w* is at θ; for φ in (−π/2, θ − π/2) the unit of w is active, that of w* is not.
    phi = -math.pi / 2 + theta / 2 * (1 + _NODES)
    scale = math.sqrt(2 / math.pi) * p.k * math.sqrt(math.pi / 2) / (2 * math.pi) * theta / 2
    along, across = (scale * jnp.sum(_WEIGHTS * trig(phi)) for trig in (jnp.cos, jnp.sin))
    middle = jnp.cos(theta / 2) * unit(w + star)
    printed = p.k / math.pi * (w - middle)
    return {"E[g]": equal(printed, along * w + across * side, p.k)}


def _on_sphere(run: Run, half: float) -> Margins:
    p, s = run
    w, star = unit(s.first), unit(p.w_star)
    return {"E[g]": equal(_coarse(p, w), p.k * half * (w - star), p.k)}


def _lipschitz_true(run: Run) -> Margins:
    p, s = run
    change = norm(_true_slope(p, s.first) - _true_slope(p, s.second))
    bound = 4 * jnp.sqrt(p.k) / math.pi
    return {"‖Δ∇f‖ ≤ L_f‖Δw‖": at_most(change, bound * norm(s.first - s.second), p.k)} | _quadratic(
        run, _true_slope(p, s.first), bound
    )


def _quadratic(run: Run, slope: Array, lipschitz: Array) -> Margins:
    """Returns f(w₂) <= f(w₁) + ⟨slope, w₂ − w₁⟩ + (L/2)‖w₂ − w₁‖²."""
    p, s = run
    f, step = NoOverlapBinary(p.k), s.second - s.first
    rise = f.loss(s.second, p.w_star) - f.loss(s.first, p.w_star)
    right = jnp.sum(slope * step) + lipschitz / 2 * jnp.sum(step * step)
    return {"f(w₂) ≤ …": at_most(rise, right, p.k)}


def _lipschitz_coarse(run: Run) -> Margins:
    p, s = run
    change = norm(_coarse(p, s.first) - _coarse(p, s.second))
    return {"K": at_most(change, p.k / math.pi * norm(s.first - s.second), p.k)}


def _descent(run: Run) -> Margins:
    """Returns F eq. 17 with L = k/π, the largest constant of the proof; no L is large enough as w₁ → w*."""
    p, s = run
    return _quadratic(run, _coarse(p, s.first), p.k / math.pi)


def _descent_right(run: Run) -> Margins:
    """Returns the inequality for the normalised points, the one farther from w* first."""
    p, s = run
    first, second = unit(s.first), unit(s.second)
    nearer = angle(first, p.w_star) < angle(second, p.w_star)
    first, second = jnp.where(nearer, second, first), jnp.where(nearer, first, second)
    return _quadratic(Run(p, Points(first, second)), _coarse(p, first), p.k / (2 * math.pi))


def _sharper(run: Run) -> Margins:
    k = run.parameters.k
    return {"4√k/π ≤ k/√(2π)": at_most(4 * jnp.sqrt(k) / math.pi, k / math.sqrt(2 * math.pi))}


def _many_units(p: Parameters, s: Points) -> Margins:
    return {"k ≥ 11": at_least(p.k, 11.0)}


def _away_from_zero(run: Run) -> Margins:
    p, s = run
    return {"‖E[g]‖ ≥ k/1000": at_least(norm(_coarse(p, s.first)), p.k / 1000)}


def _bounded(run: Run) -> Margins:
    p, s = run
    return {"‖E[g]‖ ≤ k/π": at_most(norm(_coarse(p, s.first)), p.k / math.pi)}


CLAIMS = (
    Claim("F-lemma1", "F Lemma 1", "⟨E[g], ∇f⟩ = sin θ·k²/(4π²‖w‖)", _POINTS, _interior, _correlation),
    Claim("F-eq14", "F Lemma 2, eq. 14", "∇f = −(k/(2π‖w‖))(I − ŵŵᵀ)w*", _POINTS, _interior, _slope_printed),
    Claim("F-eq14-right", "F Lemma 2, eq. 14", "the same over ‖(I − ŵŵᵀ)w*‖", _POINTS, _interior, _slope_right),
    Claim(
        "F-eq15",
        "F Lemma 2, eq. 15",
        "E[g] = (k/π)[ŵ − cos(θ/2)(ŵ + w*)/‖ŵ + w*‖], residual of eq. 8 as a scalar",
        _POINTS,
        _interior,
        _expected,
    ),
    Claim(
        "F-eq18",
        "F eq. 18",
        "E[g] = (k/(2π))(w − w*) for unit w",
        _POINTS,
        no_conditions,
        functools.partial(_on_sphere, half=RIGHT),
    ),
    Claim(
        "F-lemma5-half",
        "F proofs of Lemma 5 to Theorem 1",
        "E[g] = (k/(2√(2π)))(w − w*) for unit w, with the √(2/π) of eq. 8",
        _POINTS,
        no_conditions,
        functools.partial(_on_sphere, half=PRINTED),
    ),
    Claim(
        "F-lemma3",
        "F Lemma 3, Remark 2",
        "∇f is Lipschitz between norms c and C, L_f = 4√k/π at c = C = 1/2 (here: 1/2 to 3/2)",
        _POINTS,
        _shell,
        _lipschitz_true,
    ),
    Claim(
        "F-lemma4-eq16",
        "F Lemma 4, eq. 16",
        "‖E[g(w₁)] − E[g(w₂)]‖ ≤ (k/π)‖w₁ − w₂‖ where 1/2 ≤ ‖w‖ ≤ 3/2",
        _POINTS,
        _shell,
        _lipschitz_coarse,
    ),
    Claim(
        "F-lemma4-eq17",
        "F Lemma 4, eq. 17",
        "f(w₂) − f(w₁) ≤ ⟨E[g(w₁)], w₂ − w₁⟩ + (L/2)‖w₂ − w₁‖², here L = k/π, where 1/2 ≤ ‖w‖ ≤ 3/2",
        _POINTS,
        _shell,
        _descent,
    ),
    Claim(
        "F-lemma4-eq17-right",
        "F proof of Lemma 4",
        "the same on the sphere where θ₂ ≤ θ₁, at L = k/(2π)",
        _POINTS,
        no_conditions,
        _descent_right,
    ),
    Claim("F-remark2", "F Remark 2", "L_f = 4√k/π is sharper than K = k/√(2π)", _POINTS, no_conditions, _sharper),
    Claim("F-remark2-right", "F Remark 2", "the same for k ≥ 11", _POINTS, _many_units, _sharper),
    Claim(
        "F-remark1-bounded",
        "F Remark 1",
        "‖E[g(w)]‖ is bounded away from zero, here by k/1000",
        _POINTS,
        no_conditions,
        _away_from_zero,
    ),
    Claim("F-remark1-bounded-right", "F Remark 1", "‖E[g(w)]‖ ≤ k/π", _POINTS, no_conditions, _bounded),
)
