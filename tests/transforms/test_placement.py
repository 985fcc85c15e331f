"""rvsm before an optimizer's moments and after them: compared with handwritten iterations, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rvsmjax as rv

LAM, BETA, RATE, A, STEPS = 0.05, 0.6, 0.1, 0.5, 8
START, TARGET = np.random.default_rng(3).normal(size=(2, 12)) * [[0.6], [1.0]]
CURVATURE = np.linspace(0.3, 2, 12)


def gradient(w):
    return CURVATURE * (w - TARGET)


def soft(v, s):
    return np.sign(v) * np.maximum(np.abs(v) - s, 0)


def transformed(v, s, a=A):
    """Returns the global minimizer, among zero and the roots of the cubic of its stationary points."""
    out = []
    for x in np.abs(v):
        roots = np.roots([1, 2 * a - x, a * a - 2 * a * x, s * a * (a + 1) - a * a * x])
        points = [0.0, *(r.real for r in roots if abs(r.imag) < 1e-9 and r.real > 0)]
        out.append(min(points, key=lambda p: (p - x) ** 2 / 2 + s * (a + 1) * p / (a + p)))
    return np.sign(v) * out


class SGD:
    def step(self, g, w, t):
        return g


class Momentum:
    m = 0.0

    def step(self, g, w, t):
        self.m = 0.9 * self.m + g
        return self.m


class Nesterov(Momentum):
    def step(self, g, w, t):
        return g + 0.9 * super().step(g, w, t)


class Adam:
    m = v = 0.0

    def step(self, g, w, t):
        self.m = 0.9 * self.m + 0.1 * g
        self.v = 0.999 * self.v + 0.001 * g * g
        return self.m / (1 - 0.9**t) / (np.sqrt(self.v / (1 - 0.999**t)) + 1e-8)


class AdamW(Adam):
    def step(self, g, w, t):
        return super().step(g, w, t) + 0.02 * w


# A handwritten iteration, the optax optimizer, and its transformations before the learning rate.
OPTIMIZERS = {
    "sgd": (SGD, optax.sgd(RATE), []),
    "momentum": (Momentum, optax.sgd(RATE, 0.9), [optax.trace(0.9)]),
    "nesterov": (Nesterov, optax.sgd(RATE, 0.9, nesterov=True), [optax.trace(0.9, nesterov=True)]),
    "adam": (Adam, optax.adam(RATE), [optax.scale_by_adam()]),
    "adamw": (
        AdamW,
        optax.adamw(RATE, weight_decay=0.02),
        [optax.scale_by_adam(), optax.add_decayed_weights(0.02)],
    ),
}


def run(chain, w=START, steps=STEPS):
    """The iterates w and u of a chain, in one jitted scan."""

    def step(carry, _):
        w, state = carry
        updates, state = chain.update(gradient(w), state, w)
        w = optax.apply_updates(w, updates)
        return (w, state), (w, rv.sparse_params(state, w))

    return jax.jit(lambda w: jax.lax.scan(step, (w, chain.init(w)), length=steps)[1])(jnp.asarray(w))


def by_hand(optimizer, prox, coupled, refresh=1):
    """w at each step; ``prox(w, t)`` gives β and u at step t."""
    w, u, out = START, None, []
    for t in range(STEPS):
        beta, fresh = prox(w, t)
        u = fresh if t % refresh == 0 else u
        r = beta * (w - u)
        if coupled:
            w = w - RATE * optimizer.step(gradient(w) + r, w, t + 1)
        else:
            w = w - RATE * (optimizer.step(gradient(w), w, t + 1) + r)
        out.append(w)
    return out


def close(got, want):
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("coupled", [True, False], ids=["coupled", "decoupled"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_coupled_and_decoupled(name, coupled, x64):
    optimizer, whole, links = OPTIMIZERS[name]
    link = rv.rvsm(rv.TransformedL1(A), LAM, BETA)
    chain = optax.chain(link, whole) if coupled else optax.chain(*links, link, optax.scale(-RATE))
    ws, us = run(chain)
    want = by_hand(optimizer(), lambda w, t: (BETA, transformed(w, LAM / BETA)), coupled)
    np.testing.assert_allclose(ws, want, rtol=0, atol=1e-10)
    np.testing.assert_allclose(us[-1], transformed(want[-1], LAM / BETA), rtol=0, atol=1e-10)
    assert 0 < np.sum(us[-1] == 0) < 12


def test_the_two_positions_differ_if_the_optimizer_has_moments(x64):
    for name, (optimizer, _, _) in OPTIMIZERS.items():
        ends = [
            by_hand(optimizer(), lambda w, t: (BETA, soft(w, LAM / BETA)), coupled)[-1] for coupled in (True, False)
        ]
        assert (np.abs(ends[0] - ends[1]).max() > 1e-3) == (name != "sgd")


@pytest.mark.parametrize("coupled", [True, False], ids=["coupled", "decoupled"])
def test_u_refreshed_every_third_step(coupled, x64):
    link = rv.rvsm(rv.L1(), LAM, BETA, update_every=3)
    chain = optax.chain(link, optax.sgd(RATE, 0.9))
    if not coupled:
        chain = optax.chain(optax.trace(0.9), link, optax.scale(-RATE))
    ws, us = run(chain)
    want = by_hand(Momentum(), lambda w, t: (BETA, soft(w, LAM / BETA)), coupled, refresh=3)
    close(ws, want)
    close(us, soft(np.array(want), LAM / BETA))
    assert np.abs(want[-1] - by_hand(Momentum(), lambda w, t: (BETA, soft(w, LAM / BETA)), coupled)[-1]).max() > 1e-4


def test_schedules_for_lam_beta_and_a(x64):
    lam, beta, a = (lambda t: 0.02 + 0.01 * t), (lambda t: 0.9 - 0.05 * t), (lambda t: 0.2 + 0.1 * t)
    ws, us = run(optax.chain(rv.rvsm(rv.TransformedL1(a), lam, beta), optax.sgd(RATE)))
    want = by_hand(SGD(), lambda w, t: (beta(t), transformed(w, lam(t) / beta(t), a(t))), True)
    np.testing.assert_allclose(ws, want, rtol=0, atol=1e-10)
    for t, (w, u) in enumerate(zip(want, us, strict=True)):
        np.testing.assert_allclose(u, transformed(w, lam(t) / beta(t), a(t)), rtol=0, atol=1e-10)
    assert 0 < np.sum(us[-1] == 0) < 12
