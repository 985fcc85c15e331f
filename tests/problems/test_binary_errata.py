"""Errata of the Frontiers paper: each test fails with the printed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rvsmjax as rv

S = (2 / np.pi) ** 0.5
K, D = 5, 3


def unit_pair(theta, d=D, seed=0):
    basis, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(d, 2)))
    return np.cos(theta) * basis[:, 0] + np.sin(theta) * basis[:, 1], basis[:, 0]


def deviations(samples, value):
    """Returns the distance of the sample mean from a value in standard errors, maximal over components."""
    return np.max(np.abs(samples.mean(0) - value) / (samples.std(0) / len(samples) ** 0.5))


def draws(w, w_star, count=200_000):
    """Input patches, active units and differences of single units, of random samples."""
    x = np.random.default_rng(7).normal(size=(count, K, D))
    on = x @ w > 0
    return x, on, on.astype(float) - (x @ w_star > 0)


def test_the_loss_is_the_one_with_a_half(x64):
    """Eq. 2 and 3 have no ½, eq. 5 has; f = kθ/(2π), from which eq. 14, 15 and Lemma 4 follow, is the latter."""
    theta = 1.1
    w, w_star = unit_pair(theta)
    _, _, off = draws(w, w_star)
    squares = off.sum(-1) ** 2
    loss = float(rv.NoOverlapBinary(K).loss(w, w_star))
    assert deviations(squares / 2, loss) < 4
    assert deviations(squares, loss) > 50
    assert deviations(squares, K * theta / np.pi) < 4


def test_the_residual_is_one_number_per_sample(x64):
    """Eq. 7 and 8 multiply by the vector of single differences; the derivative of eq. 5 has their sum."""
    s = 0.7

    @jax.custom_jvp
    def unit_step(z):
        return (z > 0).astype(z.dtype)

    unit_step.defjvp(lambda z, dz: (unit_step(*z), s * (z[0] > 0) * dz[0]))
    w, w_star = unit_pair(1.4)
    x = np.random.default_rng(8).normal(size=(6, K, D))

    @jax.jit
    def straight_through(w):
        return jax.grad(lambda w: jnp.mean((unit_step(x @ w).sum(-1) - unit_step(x @ w_star).sum(-1)) ** 2) / 2)(w)

    on = x @ w > 0
    printed = s * ((on * (on.astype(float) - (x @ w_star > 0)))[..., None] * x).sum(1).mean(0)
    got = np.asarray(rv.NoOverlapBinary(K, s).sampled_grad(w, w_star, x))
    np.testing.assert_allclose(got, straight_through(w), rtol=1e-12, atol=1e-15)
    assert np.linalg.norm(got - printed) > 0.1 * np.linalg.norm(got)


def test_both_residuals_have_equal_means_but_different_variances(x64):
    """The differences of other units have mean zero: eq. 15 does not distinguish the forms of eq. 8."""
    w, w_star = unit_pair(1.4)
    x, on, off = draws(w, w_star)
    scalar = S * ((on * off.sum(-1, keepdims=True))[..., None] * x).sum(1)
    vector = S * ((on * off)[..., None] * x).sum(1)
    expected = np.asarray(rv.NoOverlapBinary(K).grad(w, w_star))
    assert deviations(scalar, expected) < 4
    assert deviations(vector, expected) < 4
    assert (scalar.var(0) > 2 * vector.var(0)).all()


def test_the_true_gradient_has_a_denominator(x64):
    """Eq. 14 as printed is sin θ times ∇f; with the division by ‖(I − ŵŵᵀ)w*‖ Lemma 1 follows from it."""
    theta, length, h = 0.4, 1.7, 1e-6
    w, w_star = unit_pair(theta)
    w = length * w
    problem = rv.NoOverlapBinary(K)
    loss = jax.jit(problem.loss)
    slope = np.array([float(loss(w + h * e, w_star) - loss(w - h * e, w_star)) / (2 * h) for e in np.eye(D)])
    printed = -K / (2 * np.pi * length) * (w_star - (w @ w_star) / length**2 * w)
    np.testing.assert_allclose(problem.true_grad(w, w_star), slope, rtol=1e-7)
    np.testing.assert_allclose(printed, np.sin(theta) * slope, rtol=1e-7)
    lemma_1 = np.sin(theta) / (4 * np.pi**2 * length) * K**2
    coarse = np.asarray(problem.grad(w, w_star))
    assert coarse @ np.asarray(problem.true_grad(w, w_star)) == pytest.approx(lemma_1, rel=1e-12)
    assert coarse @ printed == pytest.approx(np.sin(theta) * lemma_1, rel=1e-12)


@pytest.mark.parametrize(("s", "half"), [(S, K / (2 * np.pi)), (1.0, K / (2 * np.sqrt(2 * np.pi)))])
def test_half_of_c_depends_on_the_scale(s, half, x64):
    """Eq. 15 and 18 have k/(2π), with the factor of eq. 8; Lemma 5 to Theorem 1 have k/(2√(2π)), without it."""
    w, w_star = unit_pair(0.9)
    x, on, off = draws(w, w_star)
    steps = s * ((on * off.sum(-1, keepdims=True))[..., None] * x).sum(1)
    other = {S: 1.0, 1.0: S}[s] / s * half
    np.testing.assert_allclose(rv.NoOverlapBinary(K, s).grad(w, w_star), half * (w - w_star), rtol=1e-12, atol=1e-15)
    assert float(rv.NoOverlapBinary(K, s).c) / 2 == pytest.approx(half, rel=1e-15)
    assert deviations(steps, half * (w - w_star)) < 4
    assert deviations(steps, other * (w - w_star)) > 10


def room(w_1, w_2, w_star, lipschitz, s=S):
    """Returns the margin of eq. 17 (right side minus left side), for rows of unit vectors."""
    problem = rv.NoOverlapBinary(K, s)
    way = w_2 - w_1
    rise = problem.loss(w_2, w_star) - problem.loss(w_1, w_star)
    linear = (np.asarray(problem.grad(w_1, w_star)) * way).sum(-1)
    return np.asarray(linear + lipschitz / 2 * (way**2).sum(-1) - rise)


def test_the_constant_of_lemma_4_needs_its_half(x64):
    """The proof of eq. 17 omits the ½ of L/2 and gets L = k/(4π); with it L is k/(2π), the K of eq. 19."""
    rng = np.random.default_rng(9)
    w_star = unit_pair(0.0)[1]
    w_1, w_2 = (v / np.linalg.norm(v, axis=-1, keepdims=True) for v in rng.normal(size=(2, 20_000, D)))
    w_2[::2] = w_1[::2] + 0.05 * w_2[::2]
    w_2 /= np.linalg.norm(w_2, axis=-1, keepdims=True)
    w_1, w_2 = np.where((w_1 @ w_star < w_2 @ w_star)[:, None], (w_1, w_2), (w_2, w_1))  # w_2 is the nearer to w*
    assert room(w_1, w_2, w_star, K / (2 * np.pi)).min() > -1e-15
    assert (room(w_1, w_2, w_star, K / (4 * np.pi)) < -1e-6).any()
    # With a larger scale no constant does, with none a step away from w*: f has a cone there.
    near, nearer = unit_pair(np.pi / 2)[0][None], unit_pair(np.pi / 2 - 1e-5)[0][None]
    assert room(near, nearer, w_star, 1000 * K, 1.0)[0] < 0
    assert room(near, nearer, w_star, K / (2 * np.pi))[0] > 0
    assert room(w_star[None], unit_pair(1e-4)[0][None], w_star, 1000 * K)[0] < 0
