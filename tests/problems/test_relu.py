"""NoOverlapReLU against sampling with standard errors, 50 digits, finite differences and the paper's statements."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

import rvsmjax as rv
from rvsmjax.problems import splitting_residual

KS = [1, 2, 5, 20]
every_k = pytest.mark.parametrize("k", KS)

slopes = jax.jit(jax.grad(lambda k, w, w_star: rv.NoOverlapReLU(k).loss(w, w_star), (0, 1, 2)))
hessian = jax.jit(jax.hessian(lambda k, w, w_star: rv.NoOverlapReLU(k).loss(w, w_star), 1))
jitted = jax.jit(lambda k, w, w_star: (rv.NoOverlapReLU(k).loss(w, w_star), rv.NoOverlapReLU(k).grad(w, w_star)))


def loss(k, w, w_star):
    return np.asarray(jitted(float(k), w, w_star)[0])


def grad(k, w, w_star):
    return np.asarray(jitted(float(k), w, w_star)[1])


def pair(theta, length=1.0, length_star=1.0, d=5, seed=0):
    """Returns w and w* with given lengths and angle, in float64."""
    rng = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(rng.normal(size=(d, 2)))
    return length * (np.cos(theta) * basis[:, 0] + np.sin(theta) * basis[:, 1]), length_star * basis[:, 0]


GEOMETRIES = [(0.01, 1.0, 1.0), (0.3, 0.7, 1.0), (1.2, 1.0, 2.5), (2.2, 1.6, 0.4), (3.13, 0.8, 1.1), (0.0, 1.3, 1.0)]


def patch_means(w, x):
    """(1/k) Σ max(w·x[i], 0) and its gradient in w, in NumPy."""
    z = x @ w
    return np.maximum(z, 0).mean(-1), ((z > 0)[..., None] * x).mean(-2)


@every_k
def test_loss_and_gradient_against_sampling(k, x64):
    x = np.random.default_rng(k).normal(size=(200_000 // k + 20_000, k, 3))
    for theta, length, length_star in GEOMETRIES:
        w, w_star = pair(theta, length, length_star, d=3)
        (out, slope), (target, _) = patch_means(w, x), patch_means(w_star, x)
        squares, steps = (out - target) ** 2, 2 * (out - target)[:, None] * slope
        error = squares.std() / len(x) ** 0.5
        assert abs(squares.mean() - loss(k, w, w_star)) < 5 * error
        assert error < 0.02 * squares.mean()
        error = steps.std(0) / len(x) ** 0.5
        assert (np.abs(steps.mean(0) - grad(k, w, w_star)) < 5 * error).all()
        assert np.linalg.norm(error) < 0.05 * np.linalg.norm(steps.mean(0))


def test_sampled_loss_and_gradient_are_those_of_the_sample_and_converge(x64):
    k, d = 3, 4
    problem, x = rv.NoOverlapReLU(k), np.random.default_rng(1).normal(size=(40_000, k, d))
    w, w_star = pair(1.0, 1.5, 0.8, d)
    (out, slope), (target, _) = patch_means(w, x), patch_means(w_star, x)
    np.testing.assert_allclose(jax.jit(problem.forward)(w, x), out, rtol=1e-12, atol=1e-14)
    assert jax.eval_shape(problem.forward, w, x[:6].reshape(2, 3, k, d)).shape == (2, 3)
    sampled_loss, sampled_grad = jax.jit(problem.sampled_loss), jax.jit(problem.sampled_grad)
    assert float(sampled_loss(w, w_star, x)) == pytest.approx(((out - target) ** 2).mean(), rel=1e-12)
    np.testing.assert_allclose(sampled_grad(w, w_star, x), (2 * (out - target)[:, None] * slope).mean(0), rtol=1e-10)
    gaps = [abs(sampled_loss(w, w_star, x[:m]) / loss(k, w, w_star) - 1) for m in (400, 40_000)]
    assert gaps[1] < 0.03
    assert np.linalg.norm(sampled_grad(w, w_star, x) - grad(k, w, w_star)) < 0.03 * np.linalg.norm(grad(k, w, w_star))


@every_k
def test_derivatives_against_finite_differences(k, x64):
    h, rng = 1e-5, np.random.default_rng(2)
    for theta, length, length_star in GEOMETRIES[:-1]:
        w, w_star = pair(theta, length, length_star)
        dw, dw_star = rng.normal(size=(2, 5))
        by_k, by_w, by_star = slopes(float(k), w, w_star)
        np.testing.assert_allclose(by_w, grad(k, w, w_star), rtol=1e-12, atol=1e-15)
        rises = [
            loss(k, w + h * dw, w_star) - loss(k, w - h * dw, w_star),
            loss(k, w, w_star + h * dw_star) - loss(k, w, w_star - h * dw_star),
            loss(k + h, w, w_star) - loss(k - h, w, w_star),
        ]
        want = np.array(rises) / (2 * h)
        np.testing.assert_allclose([by_w @ dw, by_star @ dw_star, by_k], want, rtol=1e-6, atol=1e-10)
        bend = (grad(k, w + h * dw, w_star) - grad(k, w - h * dw, w_star)) / (2 * h)
        np.testing.assert_allclose(hessian(float(k), w, w_star) @ dw, bend, rtol=1e-4, atol=1e-8)


def printed_formula(k, w, w_star):
    """(loss, gradient) as printed in the paper, in 50 digits, for exactly the given floats."""
    w, s = (mpmath.matrix([mpmath.mpf(float(x)) for x in v]) for v in (w, w_star))
    n, ns, pi, k = mpmath.norm(w), mpmath.norm(s), mpmath.pi, mpmath.mpf(k)
    theta = 2 * mpmath.asin(mpmath.norm(w / n - s / ns) / 2)
    b = (k**2 - k) / (2 * pi)
    g = n * ns * (mpmath.sin(theta) + (pi - theta) * mpmath.cos(theta)) / (2 * pi)
    value = ((b + k / 2) * (n**2 + ns**2) - 2 * k * g - 2 * b * n * ns) / k**2
    radial = k + (k**2 - k) / pi - k / pi * ns / n * mpmath.sin(theta) - (k**2 - k) / pi * ns / n
    return value, (radial * w - k / pi * (pi - theta) * s) / k**2


@every_k
def test_float32_keeps_its_digits_at_small_angles(k):
    angles = [1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6]
    with mpmath.workdps(50):
        for i, theta in enumerate(angles):
            for length in (1.0, 1 + theta, 0.3, 40.0):
                w, w_star = (x.astype("f4") for x in pair(theta, length, seed=i))
                value, slope = printed_formula(k, w, w_star)
                assert abs(float(loss(k, w, w_star)) / value - 1) < 1e-6
                off = [float(mpmath.mpf(float(g)) - s) for g, s in zip(grad(k, w, w_star), slope, strict=True)]
                assert np.linalg.norm(off) < 1e-6 * float(mpmath.norm(slope))


@every_k
def test_float32_at_large_angles(k):
    with mpmath.workdps(50):
        for theta in (1.5, 2.5, 3.1, np.pi - 1e-3, np.pi - 1e-6):
            w, w_star = (x.astype("f4") for x in pair(theta, 0.7))
            value, slope = printed_formula(k, w, w_star)
            assert abs(float(loss(k, w, w_star)) / value - 1) < 1e-6
            np.testing.assert_allclose(grad(k, w, w_star), np.array(slope.tolist(), float).ravel(), atol=4e-7)


def test_everything_is_finite_at_the_edges():
    w_star = np.array([1.0, -2.0, 2.0], "f4")
    ray = np.array([0.3, 1.0, -0.4], "f4")
    parallel = [np.nextafter(w_star, 9), *(size * w_star for size in (1, -1, 2, -1e-3, 1e-30, -1e-30))]
    w = np.stack([*parallel, *(size * ray for size in (0, 1e-38, 1e-30, 1e-7, 1, 1e6))]).astype("f4")

    def everything(k, w, w_star):
        problem = rv.NoOverlapReLU(k)
        derivatives = jax.grad(problem.loss, (0, 1)), jax.hessian(problem.loss), problem.pull, jax.grad(problem.pull)
        return problem.loss(w, w_star), problem.grad(w, w_star), [f(w, w_star) for f in derivatives]

    lanes = jax.jit(jax.vmap(jax.vmap(everything, (None, 0, None)), (0, None, None)))
    for target in (w_star, 0 * w_star):
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(lanes(np.array(KS, "f4"), w, target)))


@every_k
def test_minimum_saddle_and_origin(k, x64):
    w_star = np.random.default_rng(3).normal(size=6)
    assert float(loss(k, w_star, w_star)) == 0
    assert not np.any(grad(k, w_star, w_star))
    saddle = -(k**2 - k) / (k**2 + (np.pi - 1) * k) * w_star
    if k > 1:
        np.testing.assert_allclose(grad(k, saddle, w_star), 0, atol=1e-15)
    np.testing.assert_allclose(grad(k, 0 * w_star, w_star), -w_star / (2 * k), rtol=1e-15)
    for ray in (w_star, -w_star, np.arange(6.0)):  # f has one-sided derivatives at 0, those of the gradient nearby
        rise = (loss(k, 1e-7 * ray, w_star) - loss(k, 0 * ray, w_star)) / 1e-7
        assert float(rise) == pytest.approx(float(grad(k, 1e-12 * ray, w_star) @ ray), rel=1e-5, abs=1e-6)


@every_k
def test_on_the_sphere_the_loss_is_half_the_squared_angle_over_k(k, x64):
    for theta in (1e-2, 1e-4, 1e-6):
        assert float(loss(k, *pair(theta))) == pytest.approx(theta**2 / (2 * k), rel=theta)


@every_k
def test_coefficients_and_pull_describe_the_gradient(k, x64):
    problem = rv.NoOverlapReLU(k)
    for theta, length, length_star in GEOMETRIES:
        w, w_star = pair(theta, length, length_star)
        p, c = problem.coefficients(length, length_star, theta)
        np.testing.assert_allclose(p * w / length + c * w_star, grad(k, w, w_star), atol=1e-14)
        across = grad(k, w, w_star) - (grad(k, w, w_star) @ w) * w / length**2
        assert float(problem.pull(w, w_star)) == pytest.approx(np.linalg.norm(across), rel=1e-9, abs=1e-15)


def test_splitting_residual_is_the_norm_of_the_total_force(x64):
    (w, w_star), force = pair(0.8, 1.7), np.random.default_rng(4).normal(size=5)
    problem, total = rv.NoOverlapReLU(3), grad(3, w, w_star) + force
    run = partial(splitting_residual, problem, w, w_star, force)
    assert float(run(normalize=False)) == pytest.approx(np.linalg.norm(total), rel=1e-13)
    tangent = total - (total @ w) * w / (w @ w)
    assert float(run(normalize=True)) == pytest.approx(np.linalg.norm(tangent), rel=1e-13)
    balance = problem.grad(w, w_star)
    assert float(splitting_residual(problem, w, w_star, -balance, normalize=True)) < 1e-16


def test_leading_axes_broadcast_and_k_is_traced_once():
    w, w_star = np.random.default_rng(5).normal(size=(2, 3, 4, 5)).astype("f4")

    @jax.jit
    @chex.assert_max_traces(n=1)
    def run(k, w, w_star):
        return rv.NoOverlapReLU(k).loss(w, w_star), rv.NoOverlapReLU(k).grad(w, w_star)

    outputs = [run(k, w, w_star[0]) for k in (2, 3, 4)]
    values, slopes = outputs[0]
    assert (values.shape, slopes.shape) == ((3, 4), (3, 4, 5))
    np.testing.assert_allclose(values[2, 1], loss(2, w[2, 1], w_star[0, 1]), rtol=1e-6)
    np.testing.assert_allclose(slopes[2, 1], grad(2, w[2, 1], w_star[0, 1]), rtol=1e-5)


def test_shape_errors_name_the_argument():
    problem, w = rv.NoOverlapReLU(2), jnp.ones(3)
    for call in (problem.loss, problem.grad):
        with pytest.raises(ValueError, match=r"^w and w_star must have last axes of the same length, got w \(3,\)"):
            call(w, jnp.ones(4))
    for x in (jnp.ones(3), jnp.ones((5, 3)), jnp.ones((4, 3, 3))):
        with pytest.raises(ValueError, match=r"^x must have shape \(\.\.\., k, d\) with k = 2, got \("):
            problem.forward(w, x)
    with pytest.raises(ValueError, match=r"^w and x must have last axes of the same length"):
        problem.sampled_loss(w, w, jnp.ones((4, 2, 5)))
    with pytest.raises(ValueError, match=r"^w must be one vector \(use vmap for more\), got shape \(2, 3\)"):
        problem.forward(jnp.ones((2, 3)), jnp.ones((4, 2, 3)))
