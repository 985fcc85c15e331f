"""Norms and angles compared with 50 digits and finite differences, up to the limits of the number range."""

from functools import partial

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

import rvsmjax as rv
from rvsmjax import geometry

angle, unit, tangent = jax.jit(rv.angle), jax.jit(geometry.unit), jax.jit(geometry.tangent)
chord, length_difference = jax.jit(geometry.chord), jax.jit(geometry.length_difference)
norm = jax.jit(geometry.norm, static_argnames=("axis", "keepdims"))
EDGES = [0.0, 1e-45, 1e-38, 1e-30, 1e-15, 1.0, 1e15, 1e30]


def exact_angle(u, v):
    """Returns the angle between exactly the floats in u and v, in 50 digits."""
    with mpmath.workdps(50):
        u, v = (mpmath.matrix([mpmath.mpf(float(x)) for x in a]) for a in (u, v))
        u, v = u / mpmath.norm(u), v / mpmath.norm(v)
        near, far = (2 * mpmath.asin(mpmath.norm(x) / 2) for x in (u - v, u + v))
        return near if near < far else mpmath.pi - far


def pairs_at(angles, seed=0, d=7):
    """Pairs of float32 vectors of random lengths, at about the given angles."""
    rng = np.random.default_rng(seed)
    u, v = rng.normal(size=(2, len(angles), d))
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    v -= (u * v).sum(1, keepdims=True) * u
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    w = np.cos(angles)[:, None] * u + np.sin(angles)[:, None] * v
    lengths = 10 ** rng.uniform(-3, 3, (2, len(angles), 1))
    return (lengths[0] * u).astype("f4"), (lengths[1] * w).astype("f4")


def test_angle_is_accurate_where_the_arc_cosine_is_not():
    small = 10.0 ** np.arange(-7, 0)
    u, v = pairs_at(np.concatenate([small, [0.5, 1.0, 1.5, 2.0, 3.0]]))
    want = np.array([float(exact_angle(a, b)) for a, b in zip(u, v, strict=True)])
    # Normalizing rounds every component: an absolute error of a few units of 6e-8.
    np.testing.assert_allclose(angle(u, v), want, rtol=3e-7, atol=1.5e-7)
    np.testing.assert_allclose(angle(u, -v), np.pi - want, rtol=3e-7, atol=1.5e-7)
    one = np.array([1.0, 0.0, 0.0], "f4")
    tilted = np.stack([np.ones(7), small, 0 * small], 1).astype("f4")
    np.testing.assert_allclose(angle(one, tilted), np.arctan(small), rtol=3e-7)


def test_angle_in_float64(x64):
    u, v = (a.astype("f8") for a in pairs_at(np.array([1e-6, 0.1, 1.6, 3.1])))
    want = [float(exact_angle(a, b)) for a, b in zip(u, v, strict=True)]
    np.testing.assert_allclose(angle(u, v), want, rtol=1e-9, atol=1e-15)


def test_angle_at_zero_and_pi():
    u = jnp.array([1.0, -2.0, 3.0])
    assert float(angle(u, u)) == 0.0
    assert float(angle(u, 4 * u)) == 0.0
    assert float(angle(u, -u)) == pytest.approx(np.pi, rel=1e-7)
    zero = jnp.zeros(3)
    assert [float(angle(*pair)) for pair in [(u, zero), (zero, u), (zero, zero)]] == [pytest.approx(np.pi / 2)] * 3


def test_angle_broadcasts_over_leading_axes():
    u, v = np.random.default_rng(1).normal(size=(2, 4, 3, 5)).astype("f4")
    out = np.asarray(angle(u[:, :1], v[0]))
    assert out.shape == (4, 3)
    np.testing.assert_allclose(out[2, 1], angle(u[2, 0], v[0, 1]), rtol=1e-6)


def test_norm_against_float64():
    v = np.random.default_rng(2).normal(size=(3, 4, 5)) * 10.0 ** np.array([-30, 0, 30])[:, None, None]
    v = v.astype("f4")
    for axis in (0, -1, (0, 2), (-2, -1)):
        want = np.sqrt((v.astype("f8") ** 2).sum(axis))
        np.testing.assert_allclose(norm(v, axis), want, rtol=3e-7)
    assert norm(v, (0, 2), keepdims=True).shape == (1, 4, 1)


@pytest.mark.parametrize("x", [1e-37, 0.3, 7e9, 3e37, 1e38, 3.4e38])
def test_norm_of_one_component_is_its_magnitude(x):
    v = jnp.array([0.0, -x, 0.0])
    assert float(norm(v)) == float(np.float32(x))
    assert float(norm(v[1:2])) == float(np.float32(x))


def test_unit_and_tangent():
    v, g = np.random.default_rng(3).normal(size=(2, 6, 4)).astype("f4")
    np.testing.assert_allclose(np.linalg.norm(np.asarray(unit(v), "f8"), axis=-1), 1, atol=2e-7)
    np.testing.assert_allclose(np.cross(v[:, :3], unit(v[:, :3])), 0, atol=1e-6)
    flat = np.asarray(tangent(v, g), "f8")
    np.testing.assert_allclose((flat * v).sum(-1), 0, atol=2e-6)
    along = g - flat
    np.testing.assert_allclose(np.cross(along[:, :3], v[:, :3]), 0, atol=2e-6)
    assert unit(jnp.zeros(3)).tolist() == [0, 0, 0]
    assert tangent(jnp.zeros(3), jnp.ones(3)).tolist() == [1, 1, 1]


def test_chord_and_length_difference_are_accurate_for_nearby_vectors():
    with mpmath.workdps(50):
        for i, apart in enumerate([1.0, 1e-2, 1e-4, 1e-6]):
            rng = np.random.default_rng(i)
            u = rng.normal(size=6).astype("f4")
            v = (u + apart * rng.normal(size=6)).astype("f4")
            a, b = (mpmath.matrix([mpmath.mpf(float(x)) for x in w]) for w in (u, v))
            want = a / mpmath.norm(a) - b / mpmath.norm(b)
            for got, sign in ((chord(u, v), 1), (chord(v, u), -1)):
                off = [float(sign * mpmath.mpf(float(g)) - x) for g, x in zip(got, want, strict=True)]
                assert np.linalg.norm(off) < 1e-6 * float(mpmath.norm(want))
            longer = mpmath.norm(a) - mpmath.norm(b)
            assert float(length_difference(u, v)) == pytest.approx(
                float(longer), abs=3e-7 * float(np.linalg.norm(u - v))
            )
    zero, v = np.zeros(2, "f4"), np.array([3.0, 4.0], "f4")
    np.testing.assert_allclose([chord(zero, v), chord(v, zero), chord(zero, zero)], [[-0.6, -0.8], [0.6, 0.8], zero])


def test_derivatives_against_finite_differences(x64):
    rng = np.random.default_rng(4)
    u, v, du, dv = rng.normal(size=(4, 5))

    @jax.jit
    def all_of_them(u, v):
        n = geometry.norm(u)
        return jnp.concatenate([
            jnp.stack([rv.angle(u, v), n]), geometry.unit(u), geometry.tangent(u, v), geometry.quotient(v, u + 10),
            geometry.chord(u, v), geometry.length_difference(u, v)[None],
        ])  # fmt: skip

    h = 1e-5
    want = (all_of_them(u + h * du, v + h * dv) - all_of_them(u - h * du, v - h * dv)) / (2 * h)
    np.testing.assert_allclose(jax.jit(partial(jax.jvp, all_of_them))((u, v), (du, dv))[1], want, atol=1e-9)
    grad = jax.jit(jax.grad(lambda u, v: all_of_them(u, v).sum(), (0, 1)))(u, v)
    assert float(grad[0] @ du + grad[1] @ dv) == pytest.approx(float(want.sum()), rel=1e-8)
    first = jax.jit(jax.grad(rv.angle))
    second = jax.jit(jax.hessian(rv.angle))(u, v) @ du
    np.testing.assert_allclose(second, (first(u + h * du, v) - first(u - h * du, v)) / (2 * h), atol=1e-8)


def test_derivative_of_the_chord_between_vectors_of_equal_length(x64):
    u, v = np.array([0.6, 0.8, 0.0]), np.array([0.0, 0.8, -0.6])
    for a, b in ((u, v), (v, u)):
        jacobian = jax.jit(jax.jacfwd(geometry.chord))(a, b)
        np.testing.assert_allclose(jacobian, np.eye(3) - np.outer(a, a), atol=1e-15)
        np.testing.assert_allclose(jax.jit(jax.jacfwd(geometry.chord, 1))(a, b), np.outer(b, b) - np.eye(3), atol=1e-15)


def test_gradient_of_the_angle_is_a_unit_tangent_over_the_length():
    u, v = pairs_at(np.tile([1e-4, 1e-2, 1.0, 3.0, np.pi - 1e-4], 4), seed=5)
    grad = np.asarray(jax.jit(jax.vmap(jax.grad(rv.angle)))(u, v), "f8")
    lengths = np.linalg.norm(u.astype("f8"), axis=1)
    np.testing.assert_allclose(np.linalg.norm(grad, axis=1) * lengths, 1, rtol=1e-5)
    np.testing.assert_allclose((grad * u).sum(1), 0, atol=1e-6)


def test_everything_is_finite_at_the_edges():
    shape = np.array([[1.0, 0, 0], [1, 1, 0], [1, -2, 3], [-1, 2, -3]], "f4")
    vectors = jnp.asarray(np.float32(EDGES)[:, None, None] * shape).reshape(-1, 3)
    u, v = jnp.repeat(vectors, len(vectors), 0), jnp.tile(vectors, (len(vectors), 1))

    def everything(u, v):
        parts = geometry.unit(u), geometry.chord(u, v), geometry.tangent(u, v)
        return jnp.stack([rv.angle(u, v), geometry.norm(u), length_difference(u, v), *(part.sum() for part in parts)])

    assert np.isfinite(jax.jit(jax.vmap(everything))(u, v)).all()
    first = jax.jit(jax.vmap(jax.jacrev(lambda u, v: everything(u, v)[:5], (0, 1))))(u, v)
    assert all(np.isfinite(part).all() for part in first)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_dtype_is_kept(dtype):
    v = jnp.array([3.0, 4.0], dtype)
    for out in (norm(v), unit(v), angle(v, v), tangent(v, v), chord(v, v), length_difference(v, v)):
        assert out.dtype == dtype
    assert float(norm(v)) == 5.0
    assert angle(v, np.float32([1, 0])).dtype == "float32"
    assert angle(np.array([3, 4]), np.array([1, 0])).dtype == "float32"


def test_float64_is_kept(x64):
    v = jnp.array([3.0, 4.0])
    assert {a.dtype.name for a in (norm(v), unit(v), angle(v, v))} == {"float64"}


def test_16_bit_inputs_round_once():
    v = np.random.default_rng(6).normal(size=(50, 300))
    v = jnp.asarray(v, jnp.bfloat16)
    want = jnp.asarray(np.linalg.norm(np.asarray(v, "f8"), axis=1), jnp.bfloat16)
    assert (norm(v) == want).all()
