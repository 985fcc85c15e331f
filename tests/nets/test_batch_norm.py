"""Batch normalization against Flax's own: values, derivatives, running averages."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from rvsmjax.nets.batch_norm import BatchNorm

SHAPE = 6, 5, 4, 3


def pair(**options):
    """Returns Flax's norm and ours with the same random numbers."""
    norms = [cls(3, momentum=0.9, rngs=nnx.Rngs(0), **options) for cls in (nnx.BatchNorm, BatchNorm)]
    for norm in norms:
        for i, variable in enumerate((norm.mean, norm.var, norm.scale, norm.bias)):
            if variable is not None:
                variable[...] = jnp.asarray(np.random.default_rng(i).uniform(0.5, 2, 3), variable.dtype)
    return norms


def outcome(norm, x, *arguments, **options):
    """Returns values, derivatives by the inputs and parameters, and the averages."""
    graph, params, rest = nnx.split(norm, nnx.Param, ...)

    def total(params, x):
        merged = nnx.merge(graph, params, rest, copy=True)
        y = merged(x, *arguments, **options)
        return jnp.sum(jnp.sin(y.astype(jnp.float32))), (y, merged.mean[...], merged.var[...])

    (_, (y, mean, var)), slopes = jax.value_and_grad(total, (0, 1), has_aux=True)(params, x)
    return y, mean, var, [leaf[...] if hasattr(leaf, "dtype") else leaf for leaf in jax.tree.leaves(slopes)]


@pytest.mark.parametrize("running", [False, True, None])
@pytest.mark.parametrize(
    ("options", "tolerance"),
    [
        ({}, 1e-5),
        ({"use_scale": False, "use_bias": False}, 1e-5),
        ({"use_bias": False, "epsilon": 0.1, "use_running_average": True}, 1e-5),
        ({"dtype": jnp.bfloat16}, 0.06),
    ],
)
def test_it_is_that_of_flax_to_rounding(options, tolerance, running):
    theirs, ours = pair(**options)
    x = jnp.asarray(np.random.default_rng(5).normal(3, 2, SHAPE), options.get("dtype", "float32"))
    want, got = (outcome(norm, x, running) for norm in (theirs, ours))
    chex.assert_trees_all_equal_shapes_and_dtypes(want, got)
    if "dtype" in options:  # Flax itself multiplies in bfloat16 outside training
        want = outcome(pair(**options | {"dtype": jnp.float32})[0], x.astype(jnp.float32), running)
        want, got = (jax.tree.map(lambda y: y.astype(jnp.float32), tree) for tree in (want, got))
    chex.assert_trees_all_close(want, got, rtol=tolerance, atol=tolerance)


@pytest.mark.filterwarnings("ignore:scatter inputs have incompatible types")  # Flax's averages stay in float32
def test_double_precision_and_forward_mode(x64):
    theirs, ours = pair(dtype=jnp.float64, param_dtype=jnp.float64)
    x, change = np.random.default_rng(0).normal(size=(2, *SHAPE))
    want, got = (jax.jvp(lambda x, norm=norm: nnx.clone(norm)(x), (x,), (change,)) for norm in (theirs, ours))
    assert got[0].dtype == jnp.float64
    chex.assert_trees_all_close(want, got, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("options", [{"use_fast_variance": False}, {"axis": 0}, {"mask": True}])
def test_what_is_special_is_that_of_flax_to_the_bit(options):
    mask = {"mask": jnp.arange(6).reshape(6, 1, 1, 1) < 4} if options.pop("mask", False) else {}
    theirs, ours = pair(**options)
    x = jnp.asarray(np.random.default_rng(5).normal(3, 2, (3, *SHAPE[1:]) if "axis" in options else SHAPE), "float32")
    chex.assert_trees_all_equal(outcome(theirs, x, **mask), outcome(ours, x, **mask))


def test_a_constant_channel_has_finite_derivatives():
    _, ours = pair()
    y, _, _, slopes = outcome(ours, jnp.full(SHAPE, 1000.0))
    assert all(np.isfinite(leaf).all() for leaf in [y, *slopes])
