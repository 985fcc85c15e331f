"""RVSCGD, the chain (rvsm, sgd, unit_sphere) on the binary problem: properties of its limits."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rvsmjax as rv
from rvsmjax.certificate import certificate, lagrangian, largest_learning_rate

S = (2 / np.pi) ** 0.5
PENALTIES = {"l1": rv.L1(), "l0": rv.L0(), "tl1": rv.TransformedL1(1.0)}
every_penalty = pytest.mark.parametrize("name", PENALTIES)


@partial(jax.jit, static_argnames=("options",))
def batch(penalty, s, rate, k, lam, beta, w, w_star, options):
    def one(k, lam, beta, w, w_star):
        problem = rv.NoOverlapBinary(k, s)
        eta = rate * largest_learning_rate(beta, problem)
        chain = optax.chain(rv.rvsm(penalty, lam, beta), optax.sgd(eta), rv.unit_sphere())
        solution = rv.solve(problem, chain, w, w_star, **dict(options))
        measured = certificate(problem, penalty, lam, beta, solution.w, w_star)
        return solution._replace(opt_state=None), measured

    return jax.vmap(one)(k, lam, beta, w, w_star)


def runs(penalty, k, lam, beta, w, w_star, s=S, rate=1.0, **options):
    """Solutions and certificates of all lanes, in NumPy."""
    numbers = (np.broadcast_to(np.asarray(x, float), len(w)) for x in (k, lam, beta))
    outputs = batch(penalty, s, rate, *numbers, w, w_star, tuple(({"tol": 1e-13} | options).items()))
    return jax.tree.map(np.asarray, outputs)


def starts(count=240, d=12, seed=0):
    w, w_star = np.random.default_rng(seed).normal(size=(2, count, d))
    return (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (w, w_star))


def across(w, v):
    return v - (v * w).sum(-1, keepdims=True) / (w * w).sum(-1, keepdims=True) * w


def sides(solution, k, beta, w_star, s):
    """(c/2) sin θ and β‖u‖ sin γ with c = s·k/√(2π), in NumPy."""
    w, u = solution.w, solution.u
    pull = s * k / np.sqrt(8 * np.pi) * np.linalg.norm(across(w, w_star), axis=1)
    return pull, beta * np.linalg.norm(across(w, u), axis=1)


@every_penalty
@pytest.mark.parametrize("s", [S, 1.0])
def test_the_limit_is_an_equilibrium_in_every_lane(name, s, x64):
    w, w_star = starts()
    count = len(w)
    w[:60] = -w_star[:60] + 1e-3 * w[:60]  # from the far side
    w[60:120] = w_star[60:120] + 1e-6 * w[60:120]
    w_star[120:180, 3:] = 0  # a sparse truth
    w, w_star = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (w, w_star))
    k = np.tile([1, 2, 5, 20], count // 4)
    lam, beta = np.tile([1e-4, 1e-4, 1e-3], count // 3), np.tile([4e-3, 0.02], count // 2)
    solution, measured = runs(PENALTIES[name], k, lam, beta, w, w_star, s)
    assert solution.converged.all()
    left, right = sides(solution, k, beta, w_star, s)
    assert np.abs(left - right).max() < 1e-12
    assert measured.residual.max() < 1e-11
    assert right.max() > 1e-3
    printed = k / (2 * np.sqrt(2 * np.pi)) * left / (s * k / np.sqrt(8 * np.pi))
    # F eq. 22 is printed for s = 1; with the factor of eq. 8 it is off by √(π/2).
    assert (np.abs(printed - right).max() < 1e-12) == (s == 1.0)
    # The total force, not only the norms: F eq. 21.
    force = -s * k[:, None] / np.sqrt(8 * np.pi) * w_star - beta[:, None] * solution.u
    assert np.linalg.norm(across(solution.w, force), axis=1).max() < 1e-12
    assert measured.slack_13.min() > -1e-12  # where u = w the bound is zero, and θ the tolerance
    assert ((solution.u == 0).sum(1) > 0).any()


@every_penalty
def test_bounds_of_the_certificate_are_those_of_the_binary_problem(name, x64):
    w, w_star = starts(seed=1)
    k, lam, beta = 3, 2e-4, 0.01
    solution, measured = runs(PENALTIES[name], k, lam, beta, w, w_star)
    w, u = solution.w, solution.u
    bound = 4 * np.pi / k * beta * np.linalg.norm(across(w, u), axis=1) / np.linalg.norm(u, axis=1)
    np.testing.assert_allclose(measured.slack_13, bound - np.linalg.norm(w - w_star, axis=1), atol=1e-12)
    allowed = bound + lam / beta * 12**0.5
    np.testing.assert_allclose(measured.slack_14, allowed - np.linalg.norm(u - w_star, axis=1), atol=1e-12)
    assert measured.slack_13.min() > 0
    assert name != "l1" or measured.slack_14.min() > 0
    np.testing.assert_allclose(measured.f_w, k / (2 * np.pi) * measured.theta_w, rtol=1e-13)
    one = certificate(rv.NoOverlapBinary(k), PENALTIES[name], lam, beta, 0 * w[0], w_star[0])
    assert all(np.isfinite(x) for x in one)


def test_the_limit_equals_f_eq_12(x64):
    """w* = (2/c)β(w̄ − ū) + C·w̄ with C >= 1 − (2/c)λ√d: (12) at the scale of the run."""
    w, w_star = starts(seed=2)
    k, lam, beta = 2, 1e-3, 0.02
    solution, _ = runs(rv.L1(), k, lam, beta, w, w_star)
    two_over_c = 2 * np.pi / k
    rest = w_star - two_over_c * beta * (solution.w - solution.u)
    assert np.linalg.norm(across(solution.w, rest), axis=1).max() < 1e-12
    assert ((rest * solution.w).sum(1) >= 1 - two_over_c * lam * 12**0.5).all()


@every_penalty
def test_the_limit_does_not_minimize_the_lagrangian(name, x64):
    """F Lemma 7 calls it stationary; but L(w) − L(w*) >= θ(k/(2π) − β) on the sphere, as f has a cone at w*."""
    w, w_star = starts(seed=4)
    penalty, k, lam, beta = PENALTIES[name], 5, 1e-4, 4e-3
    _, measured = runs(penalty, k, lam, beta, w, w_star)
    there = jax.jit(jax.vmap(partial(lagrangian, rv.NoOverlapBinary(k), penalty, lam, beta)))(w_star, w_star)
    assert (measured.theta_w > 1e-4).all()
    gap = measured.lagrangian - np.asarray(there)
    assert (gap >= measured.theta_w * (k / (2 * np.pi) - beta)).all()


def test_neither_lagrangian_nor_angle_decreases_in_every_run(x64):
    """F Lemmas 5 and 6, under their conditions: kθ/(2π) has a cone at w*, and the angle undershoots its limit."""
    k, d, lam, beta = 20, 50, 1e-4, 4e-3
    w, w_star = starts(60, d, seed=3)
    delta = np.pi - np.arccos((w * w_star).sum(1))
    assert (beta <= k * np.sin(delta) / (2 * np.sqrt(2 * np.pi))).all()
    assert lam < k / (2 * np.sqrt(2 * np.pi) * d)
    solution, _ = runs(rv.L1(), k, lam, beta, w, w_star, rate=0.1, trace_every=1, max_steps=2000)
    assert solution.converged.all()
    rises = [np.nanmax(np.diff(x, axis=1), axis=1) for x in (solution.trace.lagrangian, solution.trace.theta)]
    for rise in rises:
        assert 0.2 < (rise > 1e-9).mean() < 0.8
    # Every step is shorter than 1/2 before it is scaled back: ‖E[g]‖ <= c.
    c = k / np.pi
    assert 0.1 * float(largest_learning_rate(beta, rv.NoOverlapBinary(k))) * (c + beta) <= 0.5


def test_the_largest_learning_rate():
    for k, beta in ((1, 4e-3), (20, 4e-3), (2, 0.5), (5, 3.0)):
        want = min(1 / (beta + k / (2 * np.pi)), 2 * np.sqrt(2 * np.pi) / k)
        assert float(largest_learning_rate(beta, rv.NoOverlapBinary(k))) == pytest.approx(want, rel=1e-6)
    rates = largest_learning_rate(jnp.array([4e-3, 9.0]), rv.NoOverlapBinary(2, ste_scale=3.0))
    np.testing.assert_allclose(rates, 1 / (np.array([4e-3, 9.0]) + 3 / np.sqrt(2 * np.pi)), rtol=1e-6)


def test_a_start_at_angle_pi_stays(x64):
    """At θ = π the coarse gradient is radial: the projection onto the sphere cancels it."""
    w_star = np.array([0.6, 0.8, 0.0])
    problem = rv.NoOverlapBinary(2)
    chain = optax.chain(rv.rvsm(rv.L0(), 1e-4, 4e-3), optax.sgd(1.0), rv.unit_sphere())
    solution = rv.solve(problem, chain, -w_star, w_star, tol=1e-12)
    assert bool(solution.converged)
    assert float(rv.angle(solution.w, w_star)) == pytest.approx(np.pi)
