"""Certificates of a limit point, recomputed with plain NumPy."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rvsmjax as rv
from rvsmjax.certificate import certificate, certificate_at, lagrangian, largest_learning_rate

LAM, BETA, K, A = 0.01, 0.1, 3, 0.4
RELU = rv.NoOverlapReLU(K)
VALUE = {
    "l1": lambda x: np.abs(x).sum(),
    "l0": lambda x: np.count_nonzero(x),
    "tl1": lambda x: ((A + 1) * np.abs(x) / (A + np.abs(x))).sum(),
}
loss, grad, pull = jax.jit(RELU.loss), jax.jit(RELU.grad), jax.jit(RELU.pull)
jitted = jax.jit(lambda penalty, *numbers: certificate(RELU, penalty, *numbers))
PENALTIES = {"l1": rv.L1(), "l0": rv.L0(), "tl1": rv.TransformedL1(A)}


def sphere(d=15, seed=0):
    w, w_star = np.random.default_rng(seed).normal(size=(2, d))
    w = w_star + 0.5 * w
    return w / np.linalg.norm(w), w_star / np.linalg.norm(w_star)


def angle(u, v):
    return np.arccos(np.clip(u @ v / np.linalg.norm(u) / np.linalg.norm(v), -1, 1))


@pytest.mark.parametrize("kind", ["l1", "tl1"])
def test_every_field(kind, x64):
    w, w_star = sphere()
    penalty = PENALTIES[kind]
    u = np.asarray(penalty.prox(w, LAM / BETA))
    assert 0 < np.count_nonzero(u) < len(u)
    c = jitted(penalty, LAM, BETA, w, w_star)
    gamma, slope = angle(w, u), np.asarray(grad(w, w_star))
    bound = 4 * K * BETA * np.sin(gamma)
    want = {
        "theta_w": angle(w, w_star),
        "f_w": float(loss(w, w_star)),
        "theta_u": angle(u, w_star),
        "f_u": float(loss(u, w_star)),
        "f_u_unit": float(loss(u / np.linalg.norm(u), w_star)),
        "zeros": len(u) - np.count_nonzero(u),
        "gamma": gamma,
        "dist_w": np.linalg.norm(w - w_star),
        "residual": abs(np.linalg.norm(slope - slope @ w * w) - BETA * np.linalg.norm(u) * np.sin(gamma)),
        "slack_13": bound - np.linalg.norm(w - w_star),
        "slack_14": bound + LAM / BETA * np.sqrt(len(u)) - np.linalg.norm(u - w_star),
        "lagrangian": float(loss(w, w_star)) + LAM * VALUE[kind](u) + BETA / 2 * ((w - u) ** 2).sum(),
    }
    assert set(want) == set(c._fields)
    for name, value in want.items():
        assert float(getattr(c, name)) == pytest.approx(value, rel=1e-9, abs=1e-14), name
    alone = jax.jit(partial(lagrangian, RELU, penalty, LAM, BETA))(w, w_star)
    assert float(alone) == pytest.approx(want["lagrangian"], rel=1e-13)


def test_angles_with_zero_u_are_right_angles():
    w, w_star = (x.astype("f4") for x in sphere())
    c = jitted(rv.L1(), 10.0, 0.1, w, w_star)
    assert float(c.gamma) == float(c.theta_u) == pytest.approx(np.pi / 2)
    assert float(c.f_u) == float(c.f_u_unit) == pytest.approx(float(loss(0 * w, w_star)))
    assert int(c.zeros) == len(w)
    assert float(c.residual) == pytest.approx(float(pull(w, w_star)))
    assert float(c.lagrangian) == pytest.approx(float(loss(w, w_star)) + 0.05, rel=1e-6)
    assert all(np.isfinite(x) for x in c)


def test_a_batch_and_padding_change_nothing(x64):
    ws, targets = (np.stack(x) for x in zip(*(sphere(seed=i) for i in range(3)), strict=True))
    one = partial(jitted, rv.L1(), LAM, BETA)
    many = jax.jit(jax.vmap(one))(ws, targets)
    wide = np.pad(ws[1], (0, 5)), np.pad(targets[1], (0, 5))
    u, envelope = rv.L1().prox(wide[0], LAM / BETA), rv.moreau_envelope(rv.L1(), wide[0], LAM / BETA)
    padded = jax.jit(partial(certificate_at, RELU, LAM, BETA, 15))(*wide, u, envelope)
    for name, alone in one(ws[1], targets[1])._asdict().items():
        assert float(getattr(many, name)[1]) == pytest.approx(float(alone), rel=1e-12, abs=1e-15)
        assert float(getattr(padded, name)) == pytest.approx(float(alone), rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("kind", ["l1", "l0"])
def test_at_a_limit_the_residual_vanishes_and_the_bounds_hold(kind, x64):
    w, w_star = np.random.default_rng(1).normal(size=(2, 15))
    w, w_star = w / np.linalg.norm(w), w_star / np.linalg.norm(w_star)
    lam, beta = 1e-4, 4e-3
    tx = optax.chain(rv.rvsm(PENALTIES[kind], lam, beta), optax.sgd(largest_learning_rate(beta)), rv.unit_sphere())
    s = jax.jit(lambda w: rv.solve(RELU, tx, w, w_star, tol=1e-12, check_every=10))(w)
    c = jitted(PENALTIES[kind], lam, beta, s.w, w_star)
    assert float(c.residual) < 1e-12
    assert float(c.slack_13) > 0
    assert float(c.theta_w) < 0.01
    if kind == "l1":
        assert float(c.slack_14) > 0


def test_largest_learning_rate():
    assert float(largest_learning_rate(1.0)) == pytest.approx(0.2)
    np.testing.assert_allclose(largest_learning_rate(jnp.array([0.0, 4.0])), [0.25, 0.125])
