"""unit_sphere: after the step every leaf taken has norm 1."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rvsmjax as rv


@pytest.mark.parametrize(("dtype", "slack"), [("float32", 2e-7), ("bfloat16", 8e-3)])
def test_the_step_ends_on_the_sphere_along_the_same_ray(dtype, slack):
    w, g = (jnp.asarray(x, dtype) for x in np.random.default_rng(0).normal(size=(2, 40)))
    updates, _ = rv.unit_sphere().update(g, rv.unit_sphere().init(w), w)
    assert updates.dtype == dtype
    new, raw = (np.asarray(x, "f8") for x in (optax.apply_updates(w, updates), w + g))
    assert np.linalg.norm(new) == pytest.approx(1, abs=slack)
    np.testing.assert_allclose(new, raw / np.linalg.norm(raw), atol=slack)


def test_a_leaf_is_one_vector_and_leaves_left_out_keep_their_updates():
    rng = np.random.default_rng(1)
    params = {"kernel": rng.normal(size=(2, 3, 4)), "bias": rng.normal(size=4), "other": rng.normal(size=(2, 2))}
    params = jax.tree.map(jnp.float32, params)
    grads = jax.tree.map(lambda x: 0.1 * x + 1, params)
    tx = rv.unit_sphere(mask="kernel")
    updates, state = jax.jit(tx.update)(grads, tx.init(params), params)
    kernel = np.asarray(params["kernel"] + updates["kernel"], "f8")
    assert np.sqrt((kernel**2).sum()) == pytest.approx(1, abs=3e-7)
    for name in ("bias", "other"):
        np.testing.assert_array_equal(updates[name], grads[name])
    assert not jax.tree.leaves(state)


def test_where_there_is_no_direction_params_stay():
    w = jnp.array([0.6, -0.8])
    updates, _ = rv.unit_sphere().update(-w, rv.unit_sphere().init(w), w)
    assert updates.tolist() == [0, 0]
    zero = jnp.zeros(2)
    assert rv.unit_sphere().update(zero, rv.unit_sphere().init(zero), zero)[0].tolist() == [0, 0]


def test_huge_and_tiny_steps_keep_their_direction():
    w = jnp.array([0.6, 0.8])
    for g in (1e30, 1e-30):
        start = w if g > 1 else 0 * w
        updates, _ = rv.unit_sphere().update(g * jnp.array([4.0, -3.0]), rv.unit_sphere().init(w), start)
        np.testing.assert_allclose(start + updates, [0.8, -0.6], rtol=1e-6)


def test_params_are_required():
    with pytest.raises(ValueError, match=r"^params must be passed to update: "):
        rv.unit_sphere().update(jnp.ones(2), rv.unit_sphere().init(jnp.ones(2)))


def test_a_mask_that_does_not_fit_is_refused_at_init():
    with pytest.raises(ValueError, match="mask must select at least one leaf"):
        rv.unit_sphere(mask="nothing").init({"kernel": jnp.ones((2, 2))})
