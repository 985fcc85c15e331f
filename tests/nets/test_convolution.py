"""The fast convolution compared with XLA's: values, derivatives of both modes, vmap, what it leaves to XLA."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax
from jax.test_util import check_grads

from rvsmjax.nets import _onednn, convolution
from rvsmjax.nets.convolution import convolve

AVX2 = "flags : fpu avx avx2 fma"
LAYOUT = ("NHWC", "HWIO", "NHWC")
CASES = [
    # images, kernel, strides, padding
    ((5, 8, 8, 4), (3, 3, 4, 6), (1, 1), ((1, 1), (1, 1))),
    ((5, 8, 8, 4), (3, 3, 4, 6), (2, 2), ((1, 1), (1, 1))),
    ((3, 7, 9, 5), (1, 1, 5, 2), (2, 2), ((0, 0), (0, 0))),
    ((4, 9, 6, 3), (5, 2, 3, 2), (1, 2), "SAME"),
    ((4, 9, 6, 7), (5, 2, 7, 2), (3, 1), "VALID"),
    ((3, 2, 2, 8), (3, 3, 8, 8), (1, 1), ((1, 1), (1, 1))),
    ((1, 12, 12, 4), (3, 3, 4, 4), (1, 1), ((0, 2), (3, 1))),
    ((3, 6, 6, 3), (3, 3, 3, 4), (1, 1), ((-1, 0), (1, 1))),
]


def xla(x, kernel, strides, padding):
    return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=LAYOUT)


def mine(x, kernel, strides, padding):
    return convolve(x, kernel, strides, padding, dimension_numbers=LAYOUT)


def drawn(*shapes, dtype=jnp.float32):
    keys = jax.random.split(jax.random.key(0), len(shapes))
    return [jax.random.normal(key, shape, dtype) for key, shape in zip(keys, shapes, strict=True)]


@pytest.mark.parametrize("chunk", [2**21, 3000], ids=["at once", "in chunks"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_value_and_derivatives_are_those_of_xla(case, chunk, monkeypatch, x64):
    monkeypatch.setattr(convolution, "PATCHES", chunk)
    x, kernel, dx, dk = drawn(*case[:2], *case[:2], dtype=jnp.float64)
    got, want = (jax.jvp(lambda x, k, f=f: f(x, k, *case[2:]), (x, kernel), (dx, dk)) for f in (mine, xla))
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)
    (cotangent,) = drawn(got[0].shape, dtype=jnp.float64)
    pulled = (jax.vjp(lambda x, k, f=f: f(x, k, *case[2:]), x, kernel)[1](cotangent) for f in (mine, xla))
    for a, b in zip(*pulled, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.slow
def test_second_derivatives(monkeypatch, x64):
    monkeypatch.setattr(convolution, "PATCHES", 2000)
    x, kernel = drawn((3, 4, 4, 2), (3, 3, 2, 2), dtype=jnp.float64)
    f = lambda x, k: jnp.sum(jnp.tanh(mine(x, k, (1, 1), "SAME")))  # noqa: E731
    check_grads(f, (x, kernel), order=2)


def test_vmap_over_kernels_and_images(x64):
    x, kernels = drawn((2, 3, 6, 6, 2), (2, 3, 3, 2, 4), dtype=jnp.float64)
    f = lambda x, k: mine(x, k, (1, 1), "SAME")  # noqa: E731
    both, one = jax.vmap(f)(x, kernels), jnp.stack([f(*pair) for pair in zip(x, kernels, strict=True)])
    np.testing.assert_allclose(both, one, rtol=1e-12, atol=1e-12)
    gradient = jax.grad(lambda k: jnp.sum(jax.vmap(f, (None, 0))(x[0], k) ** 2))(kernels)
    want = jnp.stack([jax.grad(lambda k: jnp.sum(f(x[0], k) ** 2))(k) for k in kernels])
    np.testing.assert_allclose(gradient, want, rtol=1e-10, atol=1e-10)


def test_patches_are_not_kept_for_the_derivative():
    x, kernel = drawn((512, 16, 16, 8), (3, 3, 8, 8))
    f = lambda k: jnp.sum(mine(x, k, (1, 1), "SAME") ** 2)  # noqa: E731
    memory = jax.jit(jax.grad(f)).lower(kernel).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 4 * x.nbytes  # the patches of all images take nine times those of x


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_other_devices_have_the_convolutions_of_xla(platform):
    x, kernel = drawn((8, 2, 2, 16), (3, 3, 16, 16))
    f = lambda x, k: jnp.sum(mine(x, k, (1, 1), "SAME") ** 2)  # noqa: E731
    g = lambda x, k: jnp.sum(xla(x, k, (1, 1), "SAME") ** 2)  # noqa: E731
    lowered = (jax.jit(jax.grad(h, (0, 1))).trace(x, kernel).lower(lowering_platforms=(platform,)) for h in (f, g))
    texts = [program.as_text() for program in lowered]
    assert [text.count("stablehlo.convolution") for text in texts] == [3, 3]
    assert "stablehlo.dot_general" not in texts[0]
    assert "stablehlo.while" not in texts[0]


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_dilation": 2},
        {"input_dilation": 2, "padding": ((1, 1), (1, 1))},
        {"feature_group_count": 2},
        {"precision": "highest"},
        {"padding": "CIRCULAR"},
    ],
    ids=str,
)
def test_a_layer_of_flax(options):
    settings = {"strides": 1, "padding": "SAME", "rngs": nnx.Rngs(0)} | options
    fast, plain = (
        nnx.Conv(4, 6, (3, 3), **settings | {"rngs": nnx.Rngs(0)}, **more)
        for more in ({"conv_general_dilated": convolve}, {})
    )
    (x,) = drawn((2, 8, 8, 4))
    np.testing.assert_allclose(fast(x), plain(x), rtol=2e-5, atol=2e-5)


def test_bfloat16_and_other_numbers_of_axes():
    x, kernel = (a.astype(jnp.bfloat16) for a in drawn((4, 4, 4, 8), (3, 3, 8, 8)))
    got = convolve(x, kernel, (1, 1), "SAME", dimension_numbers=LAYOUT)
    assert got.dtype == jnp.bfloat16
    np.testing.assert_allclose(got.astype("f4"), xla(x, kernel, (1, 1), "SAME").astype("f4"), rtol=0.05, atol=0.2)
    line, window = drawn((2, 9, 4), (3, 4, 5))
    layout = ("NHC", "HIO", "NHC")
    one = convolve(line, window, (1,), "SAME", dimension_numbers=layout)
    np.testing.assert_array_equal(one, lax.conv_general_dilated(line, window, (1,), "SAME", dimension_numbers=layout))


def test_images_on_explicit_mesh_axes(monkeypatch):
    monkeypatch.setattr(convolution, "PATCHES", 2000)  # several chunks, which would cut the sharded axis
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Explicit,))
    x, kernel = drawn((16, 2, 2, 4), (3, 3, 4, 4))
    f = lambda x, k: jnp.sum(mine(x, k, (1, 1), "SAME") ** 2)  # noqa: E731
    want = jax.grad(f, (0, 1))(x, kernel)
    with jax.set_mesh(mesh):
        placed = jax.device_put(x, jax.NamedSharding(mesh, jax.P("data")))
        got = jax.jit(jax.grad(f, (0, 1)))(placed, jax.device_put(kernel, jax.NamedSharding(mesh, jax.P())))
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_no_images_and_wrong_channels():
    assert mine(jnp.zeros((0, 4, 4, 3)), jnp.zeros((3, 3, 3, 2)), (1, 1), "SAME").shape == (0, 4, 4, 2)
    with pytest.raises(ValueError, match="lhs feature dimension size"):
        mine(jnp.zeros((2, 4, 4, 3)), jnp.zeros((3, 3, 5, 2)), (1, 1), "SAME")


@pytest.mark.parametrize(
    "arguments",
    [pytest.param((), marks=pytest.mark.robustness), pytest.param(("all",), marks=pytest.mark.slow)],
    ids=["some", "all"],
)
def test_onednn_with_one_device(arguments):
    """Other tests have several devices, where it is not used."""
    command = [sys.executable, "-m", "tests.nets.one_device", *arguments]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XLA_"))}
    environment["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # it compiles in half the time, and oneDNN has its own code
    root = Path(__file__).parents[2]
    run = subprocess.run(command, capture_output=True, text=True, cwd=root, env=environment, check=False)
    assert run.returncode == 0, run.stderr
    for line in ("float32", "bfloat16"):
        assert run.stdout.count(f"{line} ") >= 1, run.stdout


def test_several_devices_have_the_convolutions_of_xla():
    assert jax.device_count("cpu") == 8
    assert not _onednn.is_available(jnp.zeros(3))


@pytest.mark.parametrize(
    ("version", "flags", "expected"),
    [
        ((0, 10, 2), AVX2, [True, False, False]),
        ((0, 12, 0), AVX2 + " avx512f avx512bw avx512dq avx512vl", [True, True, False]),
        ((0, 10, 2), "flags : sse4_2 avx", [False, False, False]),
        ((0, 9, 0), AVX2, [False, False, False]),
        ((0, 13, 0), AVX2, [False, False, False]),
        ((1, 0, 0), AVX2, [False, False, False]),
    ],
)
def test_onednn_needs_a_known_version_and_processor(version, flags, expected, monkeypatch):
    arrays = [jnp.zeros(3, dtype) for dtype in ("float32", "bfloat16", "float16")]
    monkeypatch.setattr(_onednn, "_flags", _onednn._flags.__wrapped__)
    monkeypatch.setattr(jax, "__version_info__", version)
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    monkeypatch.setattr(_onednn.platform, "system", lambda: "Linux")
    monkeypatch.setattr(_onednn.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(Path, "read_text", lambda self, encoding: f"processor : 0\n{flags}\n")
    assert [_onednn.is_available(x) for x in arrays] == expected
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert not _onednn.is_available(arrays[0])
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    monkeypatch.setattr(_onednn.platform, "machine", lambda: "aarch64")
    assert not _onednn.is_available(arrays[0])
