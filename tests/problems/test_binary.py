"""NoOverlapBinary against sampling with standard errors, 50 digits and finite differences."""

import chex
import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

import rvsmjax as rv

KS = [1, 2, 5, 20]
every_k = pytest.mark.parametrize("k", KS)
S = (2 / np.pi) ** 0.5


@jax.jit
def everything(k, s, w, w_star):
    problem = rv.NoOverlapBinary(k, s)
    return problem.loss(w, w_star), problem.grad(w, w_star), problem.true_grad(w, w_star), problem.pull(w, w_star)


slope = jax.jit(jax.grad(lambda k, w, w_star: rv.NoOverlapBinary(k).loss(w, w_star), 1))


def loss(k, w, w_star):
    return np.asarray(everything(float(k), S, w, w_star)[0])


def grad(k, w, w_star, s=S):
    return np.asarray(everything(float(k), s, w, w_star)[1])


def true_grad(k, w, w_star):
    return np.asarray(everything(float(k), S, w, w_star)[2])


def pair(theta, length=1.0, length_star=1.0, d=5, seed=0):
    """Returns w and w* with given lengths and angle, in float64."""
    rng = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(rng.normal(size=(d, 2)))
    return length * (np.cos(theta) * basis[:, 0] + np.sin(theta) * basis[:, 1]), length_star * basis[:, 0]


GEOMETRIES = [(0.05, 1.0, 1.0), (0.3, 0.7, 1.0), (1.2, 1.0, 2.5), (2.2, 1.6, 0.4), (3.13, 0.8, 1.1)]


def sample_terms(w, w_star, x, s):
    """½(h − h*)² and s·(h − h*)·Σ 1{z > 0}·x of every sample, in NumPy."""
    on = x @ w > 0
    off = on.sum(-1) - (x @ w_star > 0).sum(-1)
    return off**2 / 2, s * off[:, None] * (on[..., None] * x).sum(-2)


@every_k
@pytest.mark.parametrize("s", [S, 1.0])
def test_loss_and_coarse_gradient_against_sampling(k, s, x64):
    x = np.random.default_rng(k).normal(size=(150_000 // k + 30_000, k, 3))
    for theta, length, length_star in GEOMETRIES:
        w, w_star = pair(theta, length, length_star, d=3)
        halves, steps = sample_terms(w, w_star, x, s)
        error = halves.std() / len(x) ** 0.5
        assert abs(halves.mean() - loss(k, w, w_star)) < 4 * error
        assert error < 0.05 * halves.mean()
        error = steps.std(0) / len(x) ** 0.5
        assert (np.abs(steps.mean(0) - grad(k, w, w_star, s)) < 4 * error).all()
        if theta > 0.2:
            assert np.linalg.norm(error) < 0.06 * np.linalg.norm(steps.mean(0))


@pytest.mark.parametrize("s", [S, 0.3])
def test_sampled_loss_and_gradient_are_those_of_the_sample(s, x64):
    k, d = 3, 4
    problem, x = rv.NoOverlapBinary(k, s), np.random.default_rng(1).normal(size=(40_000, k, d))
    w, w_star = pair(1.0, 1.5, 0.8, d)
    halves, steps = sample_terms(w, w_star, x, s)
    forward = jax.jit(problem.forward)(w, x)
    assert forward.dtype == np.float64
    np.testing.assert_array_equal(forward, (x @ w > 0).sum(-1))
    assert jax.eval_shape(problem.forward, w, x[:6].reshape(2, 3, k, d)).shape == (2, 3)
    assert float(jax.jit(problem.sampled_loss)(w, w_star, x)) == pytest.approx(halves.mean(), rel=1e-12)
    np.testing.assert_allclose(jax.jit(problem.sampled_grad)(w, w_star, x), steps.mean(0), rtol=1e-10)


@every_k
def test_true_gradient_against_central_differences(k, x64):
    h = 1e-6
    for theta, length, length_star in [*GEOMETRIES, (1e-3, 0.9, 1.0), (np.pi - 1e-3, 1.0, 1.0)]:
        w, w_star = pair(theta, length, length_star)
        ways = h * min(1, theta * length) * np.eye(5)
        rises = np.array([loss(k, w + way, w_star) - loss(k, w - way, w_star) for way in ways])
        want = rises / (2 * ways.max())
        got = true_grad(k, w, w_star)
        np.testing.assert_allclose(got, want, rtol=0, atol=2e-6 * np.linalg.norm(want))
        by_jax = slope(float(k), w, w_star)
        np.testing.assert_allclose(got, by_jax, rtol=0, atol=1e-9 * np.linalg.norm(want))


def exact(k, w, w_star):
    """F eq. 15 and eq. 14 with its denominator, in 50 digits, for exactly the given floats."""
    w, s = (mpmath.matrix([mpmath.mpf(float(x)) for x in v]) for v in (w, w_star))
    n = mpmath.norm(w)
    w, s = w / n, s / mpmath.norm(s)
    theta = 2 * mpmath.atan2(mpmath.norm(w - s), mpmath.norm(w + s))
    coarse = k / mpmath.pi * (w - mpmath.cos(theta / 2) / mpmath.norm(w + s) * (w + s))
    across = s - sum(a * b for a, b in zip(w, s, strict=True)) * w
    return coarse, -k / (2 * mpmath.pi * n) / mpmath.norm(across) * across


def relative_error(got, want):
    off = [mpmath.mpf(float(g)) - s for g, s in zip(got, want, strict=True)]
    return float(mpmath.norm(off) / mpmath.norm(want))


def test_float32_keeps_its_digits_where_w_is_near_the_truth():
    with mpmath.workdps(50):
        for i, theta in enumerate([2.0, 1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6]):
            for length in (1.0, 1 + theta, 1 - theta / 3):
                w, w_star = (x.astype("f4") for x in pair(theta, length, seed=i))
                coarse, steep = exact(20, w, w_star)
                assert relative_error(grad(20, w, w_star), coarse) < 1e-6
                assert relative_error(true_grad(20, w, w_star), steep) < 1e-6
                assert relative_error(true_grad(20, w, -w_star), exact(20, w, -w_star)[1]) < 1e-6


def test_unequal_lengths_lose_the_digits_that_directions_lack():
    with mpmath.workdps(50):
        for i, theta in enumerate([1.0, 1e-2, 1e-4]):
            w, w_star = (x.astype("f4") for x in pair(theta, 0.3, 40.0, seed=i))
            coarse, steep = exact(20, w, w_star)
            assert relative_error(grad(20, w, w_star), coarse) < 4e-7 / theta
            assert relative_error(true_grad(20, w, w_star), steep) < 4e-7 / theta


def test_everything_is_finite_at_the_edges():
    w_star = np.array([1.0, -2.0, 2.0], "f4")
    ray = np.array([0.3, 1.0, -0.4], "f4")
    parallel = [np.nextafter(w_star, 9), *(size * w_star for size in (1, -1, 2, -3, -1e-3, 1e-30, -1e-30))]
    w = np.stack([*parallel, *(size * ray for size in (0, 1e-38, 1e-30, 1e-7, 1, 1e6))]).astype("f4")

    def look(k, w, w_star):
        problem = rv.NoOverlapBinary(k)
        derivatives = jax.grad(problem.loss, (0, 1)), problem.true_grad, jax.grad(problem.pull, (0, 1))
        return problem.loss(w, w_star), problem.pull(w, w_star), [f(w, w_star) for f in (problem.grad, *derivatives)]

    def slopes(k, s, w, w_star):
        return jax.jacrev(lambda *a: rv.NoOverlapBinary(a[0], a[1]).grad(*a[2:]), (0, 1, 2, 3))(k, s, w, w_star)

    for function, numbers in ((look, ()), (slopes, (np.float32(0.7),))):
        inner = jax.vmap(function, (*(None for _ in range(1 + len(numbers))), 0, None))
        lanes = jax.jit(jax.vmap(inner, (0, *(None for _ in numbers), None, None)))
        for target in (w_star, 0 * w_star):
            leaves = jax.tree.leaves(lanes(np.array(KS, "f4"), *numbers, w, target))
            assert all(np.isfinite(x).all() for x in leaves)


def test_theta_at_zero_and_pi():
    w = np.array([1.0, -2.0, 2.0], "f4")
    k, c = 5, 5 / np.pi
    assert float(loss(k, w, 3 * w)) == 0
    assert float(loss(k, w, -w)) == pytest.approx(k / 2)
    assert not np.any(grad(k, w, w))
    np.testing.assert_allclose(grad(k, w, -3 * w), c * w / 3, rtol=1e-6)
    for size in (1, 3, 7, -1, -3):
        assert not np.any(true_grad(k, w, size * w))
    # A zero vector has no direction: its angle is π/2, and the coarse gradient there is the mean over directions.
    assert float(loss(k, 0 * w, w)) == pytest.approx(k / 4)
    np.testing.assert_allclose(grad(k, 0 * w, w), -c / 2 * w / 3, rtol=1e-6)
    assert not np.any(true_grad(k, 0 * w, w))


@every_k
def test_coefficients_and_pull_describe_the_coarse_gradient(k, x64):
    for s in (S, 0.4):
        problem = rv.NoOverlapBinary(k, s)
        for theta, length, length_star in GEOMETRIES:
            w, w_star = pair(theta, length, length_star)
            p, c = problem.coefficients(length, length_star, theta)
            np.testing.assert_allclose(p * w / length + c * w_star, grad(k, w, w_star, s), atol=1e-13)
            across = grad(k, w, w_star, s) - (grad(k, w, w_star, s) @ w) * w / length**2
            pull = everything(float(k), s, w, w_star)[3]
            assert float(pull) == pytest.approx(np.linalg.norm(across), rel=1e-9, abs=1e-15)


def test_leading_axes_broadcast_and_numbers_are_traced_once():
    w, w_star = np.random.default_rng(5).normal(size=(2, 3, 4, 5)).astype("f4")

    @jax.jit
    @chex.assert_max_traces(n=1)
    def run(k, s, w, w_star):
        problem = rv.NoOverlapBinary(k, s)
        return problem.loss(w, w_star), problem.grad(w, w_star), problem.true_grad(w, w_star)

    outputs = [run(k, s, w, w_star[0]) for k, s in ((2, S), (3, 1.0), (4, 0.5))]
    values, coarse, slopes = outputs[0]
    assert (values.shape, coarse.shape, slopes.shape) == ((3, 4), (3, 4, 5), (3, 4, 5))
    assert {x.dtype.name for x in outputs[0]} == {"float32"}
    np.testing.assert_allclose(values[2, 1], loss(2, w[2, 1], w_star[0, 1]), rtol=1e-6)
    np.testing.assert_allclose(coarse[2, 1], grad(2, w[2, 1], w_star[0, 1]), rtol=1e-5)
    assert float(jnp.max(jnp.abs(outputs[1][1]))) > 0


def test_vmap_over_k_and_scale():
    w, w_star = np.random.default_rng(6).normal(size=(2, 4, 5)).astype("f4")
    k, s = np.arange(1, 5, dtype="f4"), np.linspace(0.2, 1, 4, dtype="f4")
    got = jax.jit(lambda k, s: rv.NoOverlapBinary(k, s).grad(w, w_star))(k, s)
    want = [grad(k[i], w[i], w_star[i], s[i]) for i in range(4)]
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_16_bit_vectors_keep_their_dtype():
    w, w_star = (jnp.asarray(x, jnp.bfloat16) for x in pair(0.8))
    problem = rv.NoOverlapBinary(3)
    assert problem.loss(w, w_star).dtype == problem.grad(w, w_star).dtype == jnp.bfloat16
    assert float(problem.loss(w, w_star)) == pytest.approx(3 * 0.8 / (2 * np.pi), rel=0.01)


def test_errors_name_the_argument():
    problem, w = rv.NoOverlapBinary(2), jnp.ones(3)
    for call in (problem.loss, problem.grad, problem.true_grad):
        with pytest.raises(ValueError, match=r"^w and w_star must have last axes of the same length, got w \(3,\)"):
            call(w, jnp.ones(4))
    for x in (jnp.ones(3), jnp.ones((5, 3)), jnp.ones((4, 3, 3))):
        with pytest.raises(ValueError, match=r"^x must have shape \(\.\.\., k, d\) with k = 2, got \("):
            problem.sampled_grad(w, w, x)
    with pytest.raises(ValueError, match=r"^ste_scale must be finite and > 0, got 0$"):
        rv.NoOverlapBinary(2, ste_scale=0)
    with pytest.raises(ValueError, match=r"^k must be a whole number >= 1, got 2.5$"):
        rv.NoOverlapBinary(2.5)
