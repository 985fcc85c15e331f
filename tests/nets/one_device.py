"""Compares oneDNN's convolutions with XLA's, in a process of its own: they need one CPU device."""

import sys

import jax
import jax.numpy as jnp
import numpy as np

from rvsmjax.nets import _onednn
from tests.nets.test_convolution import mine, xla

CASES = [
    # images, kernel, strides, padding
    ((5, 8, 8, 16), (3, 3, 16, 16), (1, 1), ((1, 1), (1, 1))),
    ((5, 8, 8, 4), (3, 3, 4, 6), (2, 2), ((1, 1), (1, 1))),
    ((3, 7, 9, 5), (1, 1, 5, 2), (2, 2), ((0, 0), (0, 0))),
    ((3, 7, 9, 5), (1, 1, 5, 2), (2, 3), ((2, 0), (1, 3))),
    ((4, 9, 6, 3), (5, 2, 3, 2), (1, 2), "SAME"),
    ((4, 9, 6, 7), (5, 2, 7, 2), (3, 1), "VALID"),
    ((3, 2, 2, 8), (3, 3, 8, 8), (1, 1), ((1, 1), (1, 1))),
    ((1, 12, 12, 4), (3, 3, 4, 4), (1, 1), ((0, 2), (3, 1))),
    ((1, 5, 5, 1), (1, 1, 1, 1), (1, 1), ((3, 3), (3, 3))),
    ((2, 9, 8, 3), (2, 2, 3, 4), (3, 3), "VALID"),
]
SOME = {"float32": (1, 3, 4, 7, 9), "bfloat16": (0, 5)}
"""Indices of the cases without the argument ``all``: every kind of strides and padding."""
SLACK = {"float32": 2e-5, "bfloat16": 0.03}


def drawn(dtype, *shapes):
    keys = jax.random.split(jax.random.key(0), len(shapes))
    return [jax.random.normal(key, shape, dtype) for key, shape in zip(keys, shapes, strict=True)]


def compare(got, want, dtype):
    for a, b in zip(*map(jax.tree.leaves, (got, want)), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        a, b = (np.asarray(x.astype("float32")) for x in (a, b))
        np.testing.assert_allclose(a, b, rtol=0, atol=SLACK[dtype] * max(1.0, np.abs(b).max()))


def values_and_derivatives(f, x, kernel, dx, dk):
    y, tangent = jax.jvp(f, (x, kernel), (dx, dk))
    pulled = jax.vjp(f, x, kernel)[1](jnp.cos(tangent))
    twice = jax.jvp(lambda x, k: jax.grad(lambda x, k: jnp.sum(jnp.sin(f(x, k))), (0, 1))(x, k), (x, kernel), (dx, dk))
    lanes = jax.vmap(f)(jnp.stack([x, dx]), jnp.stack([kernel, dk]))
    some = jax.vmap(f, (0, None))(jnp.stack([x, dx]), kernel), jax.vmap(f, (None, 0))(x, jnp.stack([kernel, dk]))
    return y, tangent, pulled, twice, lanes, some


if __name__ == "__main__":
    assert jax.device_count() == 1
    chosen = dict.fromkeys(SLACK, range(len(CASES))) if sys.argv[1:] else SOME
    for dtype, i in ((dtype, i) for dtype, indices in chosen.items() for i in indices):
        case = CASES[i]
        if not _onednn.is_available(jnp.zeros(3, dtype)):
            print(f"{dtype} {case} is left to XLA")
            continue
        arrays = drawn(dtype, *case[:2], *case[:2])
        text = jax.jit(jax.grad(lambda x, k, case=case: jnp.sum(mine(x, k, *case[2:]) ** 2), (0, 1))).lower(*arrays[:2])
        assert text.as_text().count("__onednn$convolution") >= 1
        got, want = (
            jax.jit(lambda *a, f=f, case=case: values_and_derivatives(lambda x, k: f(x, k, *case[2:]), *a))(*arrays)
            for f in (mine, xla)
        )
        compare(got, want, dtype)
        compare(mine(*arrays[:2], *case[2:]), want[0], dtype)
        print(f"{dtype} {case}: equal")

    f = jax.jit(jax.grad(lambda x, k: jnp.sum(mine(x, k, (2, 2), "SAME") ** 2), (0, 1)))
    arrays = drawn("float32", (4, 8, 8, 16), (3, 3, 16, 8))
    exported = jax.export.export(f)(*arrays)
    assert "__onednn$" not in exported.mlir_module()
    compare(exported.call(*arrays), f(*arrays), "float32")
    print("exported")

    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    kernel = jax.P(None, None, None, None)
    parts = jax.shard_map(
        lambda x, k: jax.lax.pmean(f(x, k)[1], "data"), mesh=mesh, in_specs=(jax.P("data"), kernel), out_specs=kernel
    )
    compare(jax.jit(parts)(*arrays), f(*arrays)[1], "float32")
    print("in a shard_map")
