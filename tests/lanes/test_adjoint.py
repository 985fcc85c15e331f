"""Derivatives of ``run_lanes`` against closed forms, ``solve`` and finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rvsmjax as rv

ONE, TWO = jax.devices()[:1], jax.devices()[:2]
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(30, 4)), RNG.normal(size=30)


def ridge(numbers, **options):
    """Gradient descent on ‖Xv − y‖²/2n + λ‖v‖²/2, with a momentum whose sign the lane's key gives."""

    def init(n):
        return {"v": jnp.zeros(4), "moment": jnp.zeros(4), "count": 0, "key": n["key"], "change": jnp.inf}

    def step(s, n):
        gradient = X.T @ (X @ s["v"] - Y) / len(Y) + n["lam"] * s["v"]
        moment = 0.3 * jax.random.bernoulli(n["key"]) * s["moment"] - n["rate"] * gradient
        change = jnp.max(jnp.abs(jax.lax.stop_gradient(moment)))
        return {"v": s["v"] + moment, "moment": moment, "count": s["count"] + 1, "key": s["key"], "change": change}

    def done(s, n):
        return s["change"] < 1e-13

    def measure(s, n):
        return {"loss": n["weight"] * jnp.sum(s["v"] ** 3), "v": s["v"], "count": s["count"]}

    return rv.run_lanes(
        init, step, done, numbers, **{"max_steps": 20_000, "measure": measure, "adjoint": "implicit"} | options
    )


def lanes(count):
    return {
        "lam": jnp.asarray(RNG.uniform(0.01, 1, count)),
        "rate": jnp.asarray(RNG.uniform(0.1, 0.5, count)),
        "weight": jnp.asarray(RNG.normal(size=count)),
        "key": jax.random.split(jax.random.key(1), count),
    }


def closed_form(lam, weight):
    return weight * jnp.sum(jnp.linalg.solve(X.T @ X / len(Y) + lam * jnp.eye(4), X.T @ Y / len(Y)) ** 3)


@pytest.mark.parametrize(("count", "devices"), [(3, ONE), pytest.param(50, TWO, marks=pytest.mark.slow)])
def test_it_is_the_derivative_of_the_limit(count, devices, x64):
    numbers = lanes(count)
    keys = numbers.pop("key")

    def total(numbers):
        values = ridge(numbers | {"key": keys}, devices=devices).values
        return jnp.sum(values["loss"]), values

    got, values = jax.jit(jax.grad(total, has_aux=True))(numbers)
    for name, position in (("lam", 0), ("weight", 1)):
        want = jax.vmap(jax.grad(closed_form, position))(numbers["lam"], numbers["weight"])
        np.testing.assert_allclose(got[name], want, rtol=1e-9, err_msg=name)
    # The limit does not depend on the rate.
    np.testing.assert_allclose(got["rate"], 0, atol=1e-9)
    plain = ridge(numbers | {"key": keys}, devices=devices, adjoint=None)
    np.testing.assert_array_equal(values["loss"], plain.values["loss"])
    np.testing.assert_array_equal(values["count"], plain.values["count"])


@pytest.mark.slow
def test_it_agrees_with_the_derivative_of_solve(x64):
    problem, rate = rv.NoOverlapReLU(2), 0.2
    w_star, w0 = rv.geometry.unit(jax.random.normal(jax.random.key(3), (2, 5)))

    def chain(lam, beta):
        return optax.chain(rv.rvsm(rv.TransformedL1(), lam, beta), optax.sgd(rate), rv.unit_sphere())

    def init(n):
        return w0, w0 + 1

    def step(s, n):
        tx = chain(n["lam"], n["beta"])
        updates, _ = tx.update(problem.grad(s[0], w_star), tx.init(s[0]), s[0])
        return optax.apply_updates(s[0], updates), jax.lax.stop_gradient(s[0])

    def done(s, n):
        return jnp.linalg.norm(s[0] - s[1]) < 1e-13

    def measure(s, n):
        tx = chain(n["lam"], n["beta"])
        return rv.angle(rv.sparse_params(tx.init(s[0]), s[0]), w_star)

    def by_lanes(numbers):
        return rv.run_lanes(
            init, step, done, numbers, max_steps=20_000, measure=measure, adjoint="implicit", devices=ONE
        ).values

    def by_solve(lam, beta):
        end = rv.solve(problem, chain(lam, beta), w0, w_star, tol=1e-13, max_steps=20_000)
        return rv.angle(end.u, w_star)

    numbers = {"lam": jnp.array([1e-4, 1e-3]), "beta": jnp.array([4e-3, 1e-2])}
    got = jax.grad(lambda n: jnp.sum(by_lanes(n)))(numbers)
    want = jax.vmap(jax.grad(by_solve, (0, 1)))(numbers["lam"], numbers["beta"])
    np.testing.assert_allclose(by_lanes(numbers), jax.vmap(by_solve)(numbers["lam"], numbers["beta"]), atol=1e-10)
    for name, values in zip(("lam", "beta"), want, strict=True):
        np.testing.assert_allclose(got[name], values, rtol=1e-6, err_msg=name)


def test_float32_and_where_there_is_no_derivative():
    """x ← cos(a·x) contracts at a = 0.8 and has a repelling fixed point at a = 3, at which the third lane starts."""

    def init(n):
        return n["start"]

    def step(x, n):
        return jnp.cos(n["a"] * x)

    def done(x, n):
        return jnp.abs(step(x, n) - x) < 2e-4

    def values(a):
        numbers = {"a": a, "start": jnp.array([0.0, 0.5, 0.39])}
        return rv.run_lanes(init, step, done, numbers, max_steps=200, adjoint="implicit", devices=ONE)

    a = jnp.array([0.8, 0.8, 3.0])
    out = values(a)
    assert out.done.all()
    got = jax.grad(lambda a: jnp.sum(values(a).values))(a)
    x = out.values[0]
    slope = -x * jnp.sin(0.8 * x) / (1 + 0.8 * jnp.sin(0.8 * x))
    np.testing.assert_allclose(got[:2], slope, rtol=1e-3)
    assert got[2] == 0
    with_nan = jax.grad(lambda a: jnp.sum(jnp.array([1, jnp.nan, 1]) * values(a).values))(a)
    assert np.isnan(with_nan).tolist() == [False, True, False]
    np.testing.assert_array_equal(with_nan[::2], got[::2])


def test_a_reverse_pass_with_other_numbers_compiles_nothing():
    traced = []

    def step(x, n):
        traced.append(1)
        return (x + n / x) / 2

    def done(x, n):
        return jnp.abs(x * x - n) <= 1e-5 * n

    def roots(n):
        return jnp.sum(rv.run_lanes(jnp.ones_like, step, done, n, max_steps=50, adjoint="implicit", devices=ONE).values)

    slopes = [jax.grad(roots)(n) for n in (jnp.array([4.0, 9.0]), jnp.array([1.0, 16.0]))]
    np.testing.assert_allclose(slopes, [[1 / 4, 1 / 6], [1 / 2, 1 / 8]], rtol=1e-5)
    count = len(traced)
    jax.grad(roots)(jnp.array([25.0, 36.0]))
    # run_lanes checks shapes in each call; each function is traced once more for that.
    assert len(traced) - count <= 1


def test_an_unknown_adjoint():
    with pytest.raises(ValueError, match=r"^adjoint must be 'implicit' or None, got 'unroll'$"):
        ridge(lanes(2), adjoint="unroll")


def test_a_reverse_pass_that_does_not_fit_in_memory(monkeypatch):
    """Its lanes hold the limit, the cotangent of it and λ."""

    def total(rate):
        lanes = rv.run_lanes(
            lambda n: jnp.zeros(1000),
            lambda x, n: x + n * (1 - x),
            lambda x, n: jnp.max(jnp.abs(1 - x)) < 1e-4,
            rate,
            max_steps=100,
            measure=lambda x, n: jnp.sum(x),
            adjoint="implicit",
            devices=ONE,
        )
        return jnp.sum(lanes.values)

    rates = jnp.full(10, 0.5)
    monkeypatch.setattr("rvsmjax.lanes.run.free_memory", lambda devices: 10 * 14_000)
    assert float(total(rates)) == pytest.approx(10_000, rel=1e-3)
    with pytest.raises(ValueError, match=r"^numbers must fit in memory: 10 lanes need 0.0 GB, 0.0 GB are free"):
        jax.grad(total)(rates)
