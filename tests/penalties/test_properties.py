"""Properties of every prox: odd, monotone, shrinking, equivariant."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rvsmjax as rv
from tests.penalties.table import KINDS

F = np.float32
EPS = 5e-7
kinds = pytest.mark.parametrize("kind", KINDS)


def between(low, high):
    return st.floats(float(F(low)), float(F(high)), width=32)


number = st.one_of(st.just(0.0), between(1e-6, 1e4), between(-1e4, -1e-6))
vectors = st.lists(number, min_size=8, max_size=8).map(lambda v: np.array(v, F))
steps, shapes = between(1e-6, 1e3), between(1e-3, 1e3)

prox = {kind: jax.jit(lambda v, s, a, kind=kind: KINDS[kind](a).prox(v, s)) for kind in KINDS}
grouped = {kind: jax.jit(lambda v, s, a, kind=kind: rv.Grouped(KINDS[kind](a), axes=(1,)).prox(v, s)) for kind in KINDS}
top = jax.jit(lambda v, k: rv.TopK(k=k).prox(v))


@kinds
@given(v=vectors, s=steps, a=shapes)
def test_odd_monotone_and_no_longer_than_v(kind, v, s, a):
    v = np.sort(v)
    x = np.asarray(prox[kind](v, s, a))
    np.testing.assert_array_equal(prox[kind](-v, s, a), -x)
    assert (np.abs(x) <= np.abs(v)).all()
    assert (x * v >= 0).all()
    assert (np.diff(x) >= -EPS * np.abs(v[1:])).all()


@kinds
@given(v=vectors, s=steps, a=shapes, factor=between(1, 100))
def test_a_larger_step_shrinks_more(kind, v, s, a, factor):
    less, more = (np.abs(prox[kind](v, step, a)) for step in (F(s), F(s) * F(factor)))
    assert (more <= less + EPS * np.abs(v)).all()


@kinds
@given(v=vectors, a=shapes)
def test_identity_as_the_step_vanishes(kind, v, a):
    for step in F([1e-16, 1e-20, 1e-30, 0]):
        # P rises at most as fast as at 0, by 1 + 1/a for transformed l1; infinitely fast for l0 and l1/2.
        bound = {"l0": np.sqrt(2 * step), "l_half": 1.5 * step ** (2 / 3)}.get(kind, step * (1 + 1 / a))
        assert (np.abs(prox[kind](v, step, a) - v) <= bound + EPS * np.abs(v)).all()
    np.testing.assert_array_equal(prox[kind](v, F(0), a), v)


@kinds
@given(v=vectors, s=steps, a=shapes)
def test_a_group_of_size_one_is_the_scalar_case(kind, v, s, a):
    x = prox[kind](v, s, a)
    np.testing.assert_allclose(grouped[kind](v[:, None], s, a)[:, 0], x, rtol=EPS, atol=0)


@pytest.mark.parametrize("kind", [pytest.param(k, marks=pytest.mark.slow if k == "log_sum" else ()) for k in KINDS])
@given(v=vectors, s=steps, a=shapes, turn=between(0, 6.28))
def test_group_prox_is_rotation_equivariant(kind, v, s, a, turn):
    v = v.reshape(4, 2)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    norms = np.linalg.norm(v.astype("f8"), axis=1)
    t = float(KINDS[kind](a).threshold(F(s)))
    clear = np.abs(norms - t) > 1e-5 * t  # rounding moves a norm across a jump
    turned = grouped[kind]((v @ rotation).astype("f4"), s, a)
    gap = np.linalg.norm(turned - np.asarray(grouped[kind](v, s, a)) @ rotation, axis=1)
    assert (gap <= 1e-5 * norms)[clear].all()


@kinds
@given(v=vectors, s=steps, a=shapes, order=st.permutations(range(8)))
def test_prox_is_permutation_equivariant(kind, v, s, a, order):
    order = list(order)
    np.testing.assert_array_equal(prox[kind](v[order], s, a), np.asarray(prox[kind](v, s, a))[order])
    rows = v.reshape(8, 1) * F([1, -2])
    np.testing.assert_array_equal(grouped[kind](rows[order], s, a), np.asarray(grouped[kind](rows, s, a))[order])


@given(v=vectors, w=vectors, s=steps)
def test_soft_thresholding_is_nonexpansive(v, w, s):
    gap = np.abs(prox["l1"](v, s, 1.0) - prox["l1"](w, s, 1.0))
    assert (gap <= np.abs(v - w) + EPS * np.maximum(np.abs(v), np.abs(w))).all()


@given(v=vectors, k=st.integers(0, 10))
def test_top_k_keeps_the_largest(v, k):
    x = np.asarray(top(v, k))
    kept = x != 0
    assert (x[kept] == v[kept]).all()
    assert kept.sum() == min(k, np.count_nonzero(v))
    if kept.any() and not kept.all():
        assert np.abs(v[kept]).min() >= np.abs(v[~kept]).max()
    np.testing.assert_array_equal(top(x, k), x)
    np.testing.assert_array_equal(top(-v, k), -x)
