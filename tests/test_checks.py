"""Invalid input raises one line with the argument, the rule and the value, in every public function."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rvsmjax as rv
from rvsmjax import _checks

W = jnp.array([0.6, 0.8])
RELU = rv.NoOverlapReLU(2)

NEGATIVE = [-1, -1e-30, np.float32(-2.0), np.array([1.0, -1.0]), jnp.array(-1.0), jnp.array([0.5, -0.5])]
NOT_FINITE = [math.nan, math.inf, -math.inf, np.float64("nan"), jnp.array([1.0, math.inf]), jnp.bfloat16(math.nan)]
ZERO = [0, 0.0, np.int32(0), np.zeros(2), jnp.array(0.0), jnp.array(0, jnp.bfloat16)]
NO_NUMBER = ["1", b"1", None, 1j, np.complex64(1j), {}, {"a": 1.0}, object(), float, lambda count: 0.1, [[1], [1, 2]]]
FRACTIONAL = [1.5, np.float32(2.5), jnp.array([1.0, 1.5])]

POSITIVE_EDGES = [
    ("a", lambda x: rv.TransformedL1(x)),
    ("ste_scale", lambda x: rv.NoOverlapBinary(2, x)),
    ("beta", lambda x: rv.rvsm(rv.L1(), 0.1, x)),
    ("tol", lambda x: rv.solve(RELU, optax.sgd(0.1), W, W, tol=x)),
    ("positive", lambda x: _checks.positive("positive", x)),
]
NONNEGATIVE_EDGES = [
    ("lam", lambda x: rv.rvsm(rv.L1(), x, 0.1)),
    ("step", lambda x: rv.L1().prox(W, x)),
    ("step", lambda x: rv.L1().threshold(x)),
    ("step", lambda x: rv.L0().prox(W, x)),
    ("step", lambda x: rv.L0().threshold(x)),
    ("step", lambda x: rv.TransformedL1().prox(W, x)),
    ("step", lambda x: rv.TransformedL1().threshold(x)),
    ("step", lambda x: rv.Grouped(rv.L1(), axes=0).prox(W, x)),
    ("step", lambda x: rv.moreau_envelope(rv.TopK(k=1), W, x)),
]
COUNT_EDGES = [
    ("k", 1, lambda x: rv.NoOverlapReLU(x)),
    ("k", 0, lambda x: rv.TopK(k=x)),
    ("max_steps", 1, lambda x: rv.solve(RELU, optax.sgd(0.1), W, W, max_steps=x)),
    ("check_every", 1, lambda x: rv.solve(RELU, optax.sgd(0.1), W, W, check_every=x)),
]


SCHEDULED = {"a", "lam", "beta", "rho"}
NO_SCHEDULE = [x for x in NO_NUMBER if not callable(x)]


def refuses(name, call, values, error):
    for value in values:
        with pytest.raises(error) as caught:
            call(value)
        message = str(caught.value)
        assert message.startswith(f"{name} must "), message
        assert "got " in message, message
        assert "\n" not in message
        assert len(message) < 300


@pytest.mark.parametrize(("name", "call"), POSITIVE_EDGES)
def test_positive_numbers(name, call):
    refuses(name, call, [*NEGATIVE, *NOT_FINITE, *ZERO], ValueError)
    refuses(name, call, NO_NUMBER if name not in SCHEDULED else NO_SCHEDULE, TypeError)


@pytest.mark.parametrize(("name", "call"), NONNEGATIVE_EDGES)
def test_nonnegative_numbers(name, call):
    refuses(name, call, [*NEGATIVE, *NOT_FINITE], ValueError)
    refuses(name, call, NO_NUMBER if name not in SCHEDULED else NO_SCHEDULE, TypeError)


@pytest.mark.parametrize(("name", "least", "call"), COUNT_EDGES)
def test_counts(name, least, call):
    refuses(name, call, [*NEGATIVE, *NOT_FINITE, *FRACTIONAL, *(ZERO if least else [])], ValueError)
    refuses(name, call, [x for x in NO_NUMBER if not (name == "k" and least == 0 and x is None)], TypeError)


def test_sparsity_is_a_fraction():
    refuses("sparsity", lambda x: rv.TopK(sparsity=x), [*NEGATIVE, *NOT_FINITE, 1, 1.0, jnp.array(2.0)], ValueError)
    refuses("sparsity", lambda x: rv.TopK(sparsity=x), [x for x in NO_SCHEDULE if x is not None], TypeError)


@pytest.mark.parametrize("arguments", [{}, {"k": 1, "sparsity": 0.5}])
def test_top_k_takes_one_of_two(arguments):
    with pytest.raises(TypeError, match="exactly one of sparsity and k"):
        rv.TopK(**arguments)


@pytest.mark.parametrize("penalty", ["l1", rv.L1, None, 1.0])
def test_a_penalty_is_an_instance(penalty):
    for call in (lambda p: rv.Grouped(p), lambda p: rv.rvsm(p, 0.1, 0.1)):
        refuses("penalty", call, [penalty], TypeError)


def test_axes():
    refuses("axes", lambda x: rv.Grouped(rv.L1(), x), [(), (0, 0), [], "0", "columns"], ValueError)
    refuses("axes", lambda x: rv.Grouped(rv.L1(), x), [None, (0.5,), (None,)], TypeError)
    for axes in [(2,), (-3,), (0, -2)]:
        for call in (lambda p: p.value(jnp.ones((2, 2))), lambda p: p.prox(jnp.ones((2, 2)), 0.1)):
            refuses("axes", lambda x, call=call: call(rv.Grouped(rv.L1(), x)), [axes], ValueError)
    assert rv.Grouped(rv.L1(), axes=np.int64(1)).axes == (1,)


@pytest.mark.parametrize(
    "value", [1, 2.5, np.float32(0.5), np.array([1, 2]), jnp.array(3.0), jnp.ones(2, jnp.bfloat16)]
)
def test_good_numbers_pass(value):
    _checks.positive("x", value)
    _checks.nonnegative("x", value)
    _checks.nonnegative("x", 0 * value)


@pytest.mark.parametrize("value", [1, 2.0, np.int8(3), np.array([1, 2]), jnp.array([4.0]), 2**40])
def test_whole_numbers_pass(value):
    _checks.integer("x", value, at_least=1)


def test_tracers_pass_unchecked():
    def build(x):
        penalties = [rv.TransformedL1(x), rv.TopK(k=x), rv.TopK(sparsity=x)]
        out = sum(jnp.sum(p.prox(W, x)) for p in penalties)
        tx = rv.rvsm(rv.L1(), lam=x, beta=x)
        return out + jnp.sum(tx.update(W, tx.init(W), W)[0]) + rv.NoOverlapReLU(x).loss(W, W)

    assert jax.eval_shape(build, -1.0).shape == ()
    assert jax.eval_shape(jax.vmap(build), jnp.array([-1.0, jnp.nan])).shape == (2,)


def test_long_values_are_cut_to_one_line():
    with pytest.raises(ValueError, match=r"^a must be finite and > 0, got .*\.\.\.$"):
        rv.TransformedL1(-jnp.ones((50, 50)))


def test_last_axis():
    with pytest.raises(ValueError, match=r"^u and v must have last axes of the same length, got u \(3,\), v \(4, 2\)$"):
        rv.angle(jnp.ones(3), jnp.ones((4, 2)))
    with pytest.raises(ValueError, match=r"^v must have at least one axis, got a scalar$"):
        rv.angle(jnp.ones(3), 1.0)
