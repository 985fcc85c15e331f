"""Arithmetic in double words: unevaluated sums of two floats, with about twice the digits.

XLA simplifies (c + y) − c to y for a constant c, which breaks ``two_sum(c, y)``. So constants come second here.
"""

from __future__ import annotations

from fractions import Fraction

import jax
import jax.numpy as jnp
from jax import Array

from rvsmjax._exact import two_product, two_sum

Double = tuple[Array, Array]
"""A number as its rounded value and the remainder."""
LOG_2 = Fraction("0.6931471805599453094172321214581765680755")


def single(x: Array) -> Double:
    """Returns a float as a double word."""
    return x, jnp.zeros_like(x)


def constant(value: Fraction, like: Array) -> Double:
    """Returns a rational number, in the shape and dtype of ``like``."""
    high = like.dtype.type(float(value))
    low = like.dtype.type(float(value - Fraction(float(high))))
    return jnp.full_like(like, high), jnp.full_like(like, low)


def negative(x: Double) -> Double:
    """Returns −x."""
    return -x[0], -x[1]


def add(x: Double, y: Double) -> Double:
    """Returns x + y, accurate also where the high words cancel."""
    high, low = two_sum(x[0], y[0])
    other, rest = two_sum(x[1], y[1])
    high, low = two_sum(high, low + other)
    return two_sum(high, low + rest)


def multiply(x: Double, y: Double) -> Double:
    """Returns x·y."""
    high, low = two_product(x[0], y[0])
    return two_sum(high, low + (x[0] * y[1] + x[1] * y[0]))


def divide(x: Double, y: Double) -> Double:
    """Returns x/y; y ≠ 0."""
    first = x[0] / y[0]
    rest, _ = add(x, negative(multiply(single(first), y)))
    return two_sum(first, rest / y[0])


def root(x: Double) -> Double:
    """Returns √x; x >= 0."""
    first = jnp.sqrt(x[0])
    square, low = two_product(first, first)
    rest = ((x[0] - square) - low) + x[1]
    return two_sum(first, rest / (2 * jnp.where(first > 0, first, 1)))


def times(x: Double, power: Array) -> Double:
    """Returns x·power for a power of two."""
    return x[0] * power, x[1] * power


def below(x: Double) -> Array:
    """Returns the largest float that is at most x."""
    high, low = two_sum(*x)
    return jnp.where(low < 0, jnp.nextafter(high, jnp.full_like(high, -jnp.inf)), high)


def power_near(x: Array) -> Array:
    """Returns a power of two near x >= 0, bounded so that its reciprocal is a normal float."""
    info = jnp.finfo(x.dtype)
    return jax.lax.reduce_precision(jnp.clip(x, 4 * info.tiny, 1 / (4 * info.tiny)), info.nexp, 0)


def log1p(y: Array) -> Double:
    """Returns log(1 + y) for a float y >= 0, as a multiple of artanh of z = (f − 1)/(f + 1).

    f is 1 + y where y is small, otherwise the fourth root of 1 + y over a power of two.
    """
    one = jnp.ones_like(y)
    small = y < 0.25
    whole = two_sum(y, one)
    power = power_near(whole[0])
    fourth = root(root(times(whole, 1 / power)))
    large = divide(add(fourth, single(-one)), add(fourth, single(one)))
    direct = divide(single(y), two_sum(y, 2 * one))
    z = jnp.where(small, direct[0], large[0]), jnp.where(small, direct[1], large[1])
    square = multiply(z, z)
    # |z| < 0.112: so many terms, of which the first few need double words.
    doubles, terms = (4, 8) if y.dtype == jnp.float32 else (9, 18)
    tail = jnp.zeros_like(y)
    for n in range(terms, doubles - 1, -1):
        tail = tail * square[0] + 1 / (2 * n + 1)
    series = single(tail)
    for n in range(doubles - 1, -1, -1):
        series = add(multiply(series, square), constant(Fraction(1, 2 * n + 1), y))
    log_f = multiply(series, times(z, jnp.where(small, 2 * one, 8 * one)))
    exponent = jnp.where(small, 0, jnp.round(jnp.log2(power)))
    return add(multiply(single(exponent), constant(LOG_2, y)), log_f)
