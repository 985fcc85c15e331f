"""Arithmetic in double words, compiled as for users, against 60 digits."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from mpmath import mpf

from rvsmjax import _double

pytestmark = pytest.mark.optimized
OPERATIONS = {
    "add": (lambda x, y: _double.add(_double.root(_double.single(x)), _double.negative(_double.single(y)))),
    "multiply": lambda x, y: _double.multiply(_double.root(_double.single(x)), _double.root(_double.single(y))),
    "divide": lambda x, y: _double.divide(_double.single(x), _double.single(y)),
    "root": lambda x, y: _double.root(_double.single(x)),
    "log1p": lambda x, y: _double.log1p(x),
}
WANT = {
    "add": lambda x, y: mpmath.sqrt(x) - y,
    "multiply": lambda x, y: mpmath.sqrt(x) * mpmath.sqrt(y),
    "divide": lambda x, y: x / y,
    "root": lambda x, y: mpmath.sqrt(x),
    "log1p": lambda x, y: mpmath.log1p(x),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_twice_the_digits(name, dtype):
    rng = np.random.default_rng(0)
    x, y = (10 ** rng.uniform(-6, 6, (2, 300))).astype(dtype)
    with jax.enable_x64(dtype == "float64"):
        high, low = map(np.asarray, jax.jit(OPERATIONS[name])(jnp.asarray(x), jnp.asarray(y)))
        down = np.asarray(_double.below((jnp.asarray(high), jnp.asarray(low))))
    unit = float(np.finfo(dtype).eps) ** 2
    with mpmath.workdps(60):
        for a, b, under, *point in zip(high, low, down, x, y, strict=True):
            numbers = [mpf(float(z)) for z in point]
            want = WANT[name](*numbers)
            scale = max(abs(want), mpmath.sqrt(numbers[0]) + numbers[1] if name == "add" else 0)
            assert abs(mpf(float(a)) + mpf(float(b)) - want) <= 4 * unit * scale
            if name == "divide":
                assert mpf(float(under)) <= want < mpf(float(np.nextafter(under, np.inf, dtype=dtype)))
