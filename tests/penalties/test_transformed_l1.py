"""TransformedL1 against a 50-digit minimizer, in its limits, and at the threshold where the derivative is infinite."""

import itertools

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rvsmjax as rv

F = np.float32
A = F([1e-3, 3e-3, 0.01, 0.1, 0.37, 1.0, 2.5, 10.0, 100.0, 1e3])


@jax.jit
def parts(v, s, a):
    penalty = rv.TransformedL1(a)
    return penalty.shrinkage(v, s), penalty.prox(v, s)


@jax.jit
def threshold(s, a):
    return rv.TransformedL1(a).threshold(s)


slopes = jax.jit(jax.vmap(jax.grad(lambda v, s, a: parts(v, s, a)[0], (0, 1, 2))))


def minimizer(v, s, a):
    """argmin over x >= 0 of (x − v)²/2 + s·P(x), in 50 digits: Newton from v down to the outermost stationary point."""
    v, s, a = (mpmath.mpf(float(y)) if not isinstance(y, mpmath.mpf) else y for y in (v, s, a))
    x = v
    for _ in range(400):
        slope = x - v + s * a * (a + 1) / (a + x) ** 2
        bend = 1 - 2 * s * a * (a + 1) / (a + x) ** 3
        if bend <= 0 or x <= 0:
            return mpmath.mpf(0)  # the objective has no stationary point to the right of 0
        x, last = x - slope / bend, x
        if abs(x - last) <= abs(x) * mpmath.mpf(10) ** -45:
            break
    if x <= 0:
        return mpmath.mpf(0)
    return x if (x - v) ** 2 / 2 + s * (a + 1) * x / (a + x) < v**2 / 2 else mpmath.mpf(0)


def steps_for(a):
    """Steps far under, just under, at, just over and far over the critical one, a²/(2(a + 1)), rounded to float32."""
    critical = float(a) ** 2 / (2 * (float(a) + 1))
    near = [critical * (1 + sign * 10.0**e) for e in (-7, -6, -4, -2) for sign in (-1, 1)]
    return F([critical, *near, *critical * 10.0 ** np.array([-5, -2, -1, 1, 2]), 1e-8, 1e-3, 10.0])


def points():
    """(v, step, a) with v at the threshold, one float above it, a little above, and far above."""
    s, a = (np.array(x, F) for x in zip(*[(s, a) for a in A for s in steps_for(a)], strict=True))
    t = np.asarray(threshold(s, a))
    near = [t, np.nextafter(t, F(np.inf)), *(t * F(1 + 10.0**e) for e in (-6, -4, -2))]
    v = np.stack([*near, 3 * t, t + a, 30 * (t + a)])
    return tuple(np.broadcast_to(x, v.shape).ravel() for x in (v, s, a))


def relative_error(got, want):
    return max(abs((mpmath.mpf(float(g)) - w) / w) for g, w in zip(got, want, strict=True) if w > 0)


def test_float32_shrinkage_has_six_digits():
    v, s, a = points()
    with mpmath.workdps(50):
        want = [mpmath.mpf(float(v)) - minimizer(v, s, a) for v, s, a in zip(v, s, a, strict=True)]
        assert relative_error(parts(v, s, a)[0], want) < 2e-6


def test_float64_shrinkage_has_fourteen_digits(x64):
    v, s, a = (x[::3].astype("f8") for x in points())
    v = v * (1 + 1e-9)
    with mpmath.workdps(50):
        want = [mpmath.mpf(float(v)) - minimizer(v, s, a) for v, s, a in zip(v, s, a, strict=True)]
        assert relative_error(parts(v, s, a)[0], want) < 3e-14


def test_threshold_is_the_last_float_with_prox_zero():
    s, a = (np.array(x, F) for x in zip(*[(s, a) for a in A for s in steps_for(a)], strict=True))
    t = np.asarray(threshold(s, a))
    up = np.nextafter(t, F(np.inf))
    assert not parts(t, s, a)[1].any()
    with mpmath.workdps(50):
        hair = mpmath.mpf(10) ** -13  # a float that is the threshold to twice the precision may fall on either side
        at = [minimizer(v * (1 - hair), s, a) for v, s, a in zip(map(float, t), s, a, strict=True)]
        above = [minimizer(v * (1 + hair), s, a) for v, s, a in zip(map(float, up), s, a, strict=True)]
    assert not any(at)
    assert all(above)
    jumps = s.astype("f8") > 1.01 * a.astype("f8") ** 2 / (2 * (a.astype("f8") + 1))
    assert (np.asarray(parts(up, s, a)[1])[jumps] > 0).all()


def test_prox_does_not_pass_zero_just_above_the_threshold():
    """The last digit of the shrinkage exceeds prox(v) there."""
    rng = np.random.default_rng(1)
    a = F(10 ** rng.uniform(-3, 3, 4000))
    s = F(a.astype("f8") ** 2 / (2 * (a + 1)) * 10 ** rng.uniform(-4, 0, 4000))
    t = np.asarray(threshold(s, a))
    for v in (np.nextafter(t, F(np.inf)), t * F(1 + 2e-7), t * F(1 + 1e-6)):
        assert (np.asarray(parts(v, s, a)[1]) >= 0).all()
        assert (np.asarray(slopes(v, s, a)[0]) < 0).all()


def test_float32_derivatives_of_the_shrinkage():
    rng = np.random.default_rng(0)
    a = F(10 ** rng.uniform(-3, 3, 60))
    s = F(a.astype("f8") ** 2 / (2 * (a + 1)) * 10 ** rng.uniform(-3, 3, 60))
    v = np.asarray(threshold(s, a)) * F(1 + 10 ** rng.uniform(-2, 1, 60))
    got = np.stack(slopes(v, s, a), 1)
    with mpmath.workdps(50):
        for row, slope in zip(zip(v, s, a, strict=True), got, strict=True):
            row = [mpmath.mpf(float(x)) for x in row]
            for i, x in enumerate(row):
                h = x * mpmath.mpf(10) ** -18
                up, down = ([*row[:i], x + sign * h, *row[i + 1 :]] for sign in (1, -1))
                want = ((up[0] - minimizer(*up)) - (down[0] - minimizer(*down))) / (2 * h)
                assert float(slope[i]) == pytest.approx(float(want), rel=2e-4, abs=1e-6 * float(row[0] / x))


def test_derivatives_are_finite_and_of_the_right_sign_where_the_true_one_is_infinite():
    s, a = (np.array(x, F) for x in zip(*[(s, a) for a in A for s in steps_for(a)[:9]], strict=True))
    t = np.asarray(threshold(s, a))
    for v in (t, np.nextafter(t, F(0)), np.nextafter(t, F(np.inf)), t * F(1 + 1e-6)):
        in_v, in_step, in_a = (np.asarray(x) for x in slopes(v, s, a))
        assert np.isfinite([in_v, in_step, in_a]).all()
        assert (in_v[v > t] < 0).all()  # more v, less shrinkage
        assert (in_step[v > t] > 0).all()
        assert (in_v[v <= t] == 1).all()
        assert not in_step[v <= t].any()


@pytest.mark.parametrize("a", [1e5, 1e6, 1e7])
def test_large_a_is_l1(a):
    v, s = np.meshgrid(np.linspace(-5, 5, 41, dtype=F), F([0.01, 0.3, 2.0]))
    gap = np.abs(parts(v, s, F(a))[1] - rv.L1().prox(v, s))
    assert (gap <= s * (1 + np.abs(v)) ** 2 * 2 / a + 1e-6 * np.abs(v)).all()
    assert float(threshold(F(0.3), F(a))) == pytest.approx(0.3, rel=2 / a + 1e-7)
    assert float(rv.TransformedL1(a).value(v)) == pytest.approx(np.abs(v).sum(), rel=6 / a + 1e-6)


@pytest.mark.parametrize("a", [1e-4, 1e-6, 1e-8])
def test_small_a_is_l0(a):
    s = F([0.01, 0.3, 2.0])
    for factor in (0.0, 0.5, 0.98, 1.02, 1.5, 10.0):
        v = F(factor) * np.sqrt(2 * s)
        np.testing.assert_allclose(parts(v, s, F(a))[1], v if factor > 1 else 0 * v, rtol=4 * a + 2e-7)
    np.testing.assert_allclose(threshold(s, F(a)), np.sqrt(2 * s), rtol=4 * a + 2e-7)
    assert float(rv.TransformedL1(a).value(jnp.array([0.0, 1.0, -3.0, 0.0]))) == pytest.approx(2, rel=2 * a + 1e-6)


def test_a_interpolates():
    """P grows with 1/a at |x| < 1, falls at |x| > 1, and is 1 at |x| = 1 for every a."""
    value = jax.jit(jax.vmap(lambda a, x: rv.TransformedL1(a).value(x), (0, None)))
    assert (np.diff(value(A, F(0.5))) < 0).all()
    assert (np.diff(value(A, F(2.0))) > 0).all()
    np.testing.assert_allclose(value(A, F(1.0)), 1, rtol=1e-6)


def test_vectors_of_a_and_step_broadcast():
    v, s, a = np.linspace(-2, 2, 9, dtype=F), F([[0.1], [0.5]]), A[:, None, None]
    got = parts(v, s, a)[1]
    assert got.shape == (len(A), 2, 9)
    for i, j in itertools.product((0, 4, 9), range(2)):
        np.testing.assert_allclose(got[i, j], parts(v, s[j], a[i, 0])[1], rtol=1e-6)


def positive(low, high):
    return st.floats(float(F(low)), float(F(high)), width=32)


@given(v=positive(1e-6, 1e4), s=positive(1e-6, 1e4), a=positive(1e-3, 1e3), factor=positive(1, 4))
def test_shape_of_the_map(v, s, a, factor):
    far = np.asarray(F(v) * F(factor))
    (near_shrinkage, far_shrinkage), (x, y) = (np.asarray(z) for z in parts(F([v, far]), F(s), F(a)))
    assert 0 <= x <= F(v)
    assert y >= x - 4e-7 * far
    if x > 0:  # less shrinkage further out
        assert far_shrinkage <= near_shrinkage * (1 + 1e-6)
    assert (F(v) <= threshold(F(s), F(a))) <= (x == 0)


@pytest.mark.parametrize("a", [1e-3, 0.1, 1.0, 30.0, 1e20])
@pytest.mark.parametrize("step", [0.0, 1e-4, 0.03, 2.0])
def test_the_shrinker_of_loops_is_the_shrinkage(a, step):
    penalty = rv.TransformedL1(a)
    v = jnp.asarray(np.linspace(-4, 4, 4001), jnp.float32)
    got, want = jax.jit(penalty.shrinker(jnp.float32(step)))(v), penalty.shrinkage(v, step)
    np.testing.assert_allclose(got, want, rtol=4e-6, atol=1e-7)
