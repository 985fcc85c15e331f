"""proximal compared with handwritten iterations and with its definition on a grid; its limits; invalid input."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rvsmjax as rv
from rvsmjax.methods import proximal

STEPS = 30
RNG = np.random.default_rng(4)
START, TARGET = RNG.normal(size=(2, 12))
CURVATURE = np.linspace(0.2, 5, 12)


def slope(w):
    return CURVATURE * (w - TARGET)


def soft(v, s):
    return np.sign(v) * np.maximum(np.abs(v) - s, 0)


def run(tx, steps=STEPS, start=START):
    def step(carry, _):
        w, state = carry
        updates, state = tx.update(slope(w), state, w)
        return (optax.apply_updates(w, updates), state), (w, state)

    start = jnp.asarray(start)
    (w, state), (before, states) = jax.jit(lambda w: jax.lax.scan(step, (w, tx.init(w)), length=steps))(start)
    return np.append(before[1:], w[None], axis=0), states, state


def rate(t):
    return 0.1 / (1 + 0.1 * t)


def test_adamw_and_l1_without_a_metric(x64):
    optimizer = optax.adamw(rate, 0.8, 0.95, 1e-3, weight_decay=0.1)
    got, _, state = run(proximal(optimizer, rv.L1(), lambda t: 1.2 + 0.01 * t, rate=rate))
    w, m, v = START, np.zeros(12), np.zeros(12)
    for t in range(STEPS):
        g = slope(w)
        m, v = 0.8 * m + 0.2 * g, 0.95 * v + 0.05 * g**2
        direction = (m / (1 - 0.8 ** (t + 1))) / (np.sqrt(v / (1 - 0.95 ** (t + 1))) + 1e-3) + 0.1 * w
        w = soft(w - rate(t) * direction, rate(t) * (1.2 + 0.01 * t))
        np.testing.assert_allclose(got[t], w, rtol=0, atol=1e-12)
        np.testing.assert_array_equal(got[t] == 0, w == 0)
    assert 0 < np.sum(w == 0) < 12
    np.testing.assert_array_equal(rv.sparse_params(state, got[-1]), got[-1])


DEFINITIONS = {
    "l1": (rv.L1(), np.abs),
    "l0": (rv.L0(), lambda x: (x != 0) * 1.0),
    "tl1": (rv.TransformedL1(0.5), lambda x: 1.5 * np.abs(x) / (0.5 + np.abs(x))),
}


@pytest.mark.parametrize("corrected", [True, False])
@pytest.mark.parametrize("kind", DEFINITIONS)
def test_each_step_in_the_metric_minimizes_its_definition(kind, corrected, x64):
    """No point of a fine grid is better by more than the grid allows."""
    (penalty, value), lam, b2, eps = DEFINITIONS[kind], 0.4, 0.9, 1e-2
    if corrected:
        optimizer = optax.adam(rate, 0.7, b2, eps)
    else:
        optimizer = optax.chain(optax.scale_by_rms(b2, eps, eps_in_sqrt=False), optax.scale_by_learning_rate(rate))
    given = {"metric": "second_moment", "b2": b2 if corrected else None, "eps": eps}
    got, _, _ = run(proximal(optimizer, penalty, lam, rate=rate, **given))
    grid = np.append(np.linspace(-4, 4, 80_001), 0)[:, None]
    w, m, v, zeros = START, np.zeros(12), np.zeros(12), 0
    for t in range(STEPS):
        g = slope(w)
        m, v = (0.7 * m + 0.3 * g, b2 * v + (1 - b2) * g**2) if corrected else (g, b2 * v + (1 - b2) * g**2)
        c = np.sqrt(v / (1 - b2 ** (t + 1)) if corrected else v) + eps
        ahead = w - rate(t) * (m / (1 - 0.7 ** (t + 1)) if corrected else m) / c
        cost = lambda x, c=c, ahead=ahead, t=t: c * (x - ahead) ** 2 / (2 * rate(t)) + lam * value(x)  # noqa: E731
        w = got[t]
        best = np.min(cost(grid), axis=0)
        np.testing.assert_array_less(cost(w), best + 1e-9)
        np.testing.assert_allclose(cost(w), best, atol=1e-5)
        zeros = max(zeros, np.sum(w == 0))
    assert zeros > 0
    assert np.any(w != 0)


def test_the_limit_in_the_metric_solves_the_lasso_and_that_without_does_not(x64):
    """min Σ c(w − t)²/2 + λ|w| has the solution soft(t, λ/c)."""
    lam, want = 0.3, soft(TARGET, 0.3 / CURVATURE)
    falling = optax.polynomial_schedule(0.05, 1e-4, 2, 4000)
    ends = {
        metric: run(proximal(optax.adam(falling), rv.L1(), lam, rate=falling, metric=metric), 4000)[0][-1]
        for metric in (None, "second_moment")
    }
    np.testing.assert_allclose(ends["second_moment"], want, atol=1e-3)
    np.testing.assert_array_equal(ends["second_moment"] == 0, want == 0)
    assert 0 < np.sum(want == 0) < 12
    assert np.max(np.abs(ends[None] - want)) > 0.02


def test_top_k_is_iterative_hard_thresholding(x64):
    got, _, _ = run(proximal(optax.sgd(0.15), rv.TopK(k=4), rate=0.15))
    w = START
    for t in range(STEPS):
        w = w - 0.15 * slope(w)
        w = np.where(np.isin(np.arange(12), np.argsort(-np.abs(w), kind="stable")[:4]), w, 0)
        np.testing.assert_allclose(got[t], w, rtol=0, atol=1e-12)


@pytest.mark.parametrize("metric", [None, "second_moment"])
@pytest.mark.parametrize("penalty", [rv.L0(), rv.L1(), rv.TransformedL1()], ids=lambda p: p.name)
def test_the_share_of_zeros_is_that_asked_for(penalty, metric):
    rising = rv.cubic_sparsity(0.75, 0, 6)
    got, states, _ = run(
        proximal(optax.adam(0.05), penalty, rate=0.05, sparsity=rising, metric=metric), 10, START.astype(np.float32)
    )
    np.testing.assert_array_equal(np.sum(got == 0, axis=1), [round(12 * float(rising(t))) for t in range(10)])
    assert np.all(np.diff(states.rules[0].lam[:2]) > 0)


def test_overrides_and_other_leaves():
    params = {"a": jnp.ones((3, 4)), "b": jnp.full((3, 4), 0.3), "bias": jnp.full(4, 0.01)}
    tx = proximal(optax.sgd(0.1), rv.L1(), 1.0, rate=0.1, overrides={"a": {"penalty": rv.NM(2, 4, axis=-1)}})
    updates, _ = tx.update(jax.tree.map(jnp.zeros_like, params), tx.init(params), params)
    new = optax.apply_updates(params, updates)
    assert np.all(np.sum(np.asarray(new["a"]) != 0, axis=1) == 2)
    np.testing.assert_allclose(new["b"], 0.2, rtol=1e-6)
    assert new["bias"].tolist() == params["bias"].tolist()


def test_a_rate_of_zero_leaves_the_parameters():
    w, tx = jnp.array([1.0, 1e-8, 0.0]), proximal(optax.sgd(0.0), rv.L1(), 1.0, rate=0.0)
    updates, _ = tx.update(jnp.ones(3), tx.init(w), w)
    assert updates.tolist() == [0, 0, 0]


def test_errors():
    sgd, adam = optax.sgd(0.1), optax.adam(0.1)
    for name, value, rule in (
        ("rate", -1, "finite and >= 0"),
        ("rate", np.nan, "finite and >= 0"),
        ("lam", -1, "finite and >= 0"),
        ("eps", 0, "finite and > 0"),
        ("b2", 1.0, r"in \[0, 1\)"),
        ("metric", "nu", "one of second_moment"),
    ):
        with pytest.raises(ValueError, match=f"^{name} must be {rule}, got '?{value}'?$"):
            proximal(adam, rv.L1(), **({"lam": 1.0, "rate": 0.1} | {name: value}))
    with pytest.raises(TypeError, match=r"^sparsity must be None if lam is given"):
        proximal(sgd, rv.L1(), 0.1, rate=0.1, sparsity=0.5)
    with pytest.raises(TypeError, match=r"^lam must be given \(or sparsity\)"):
        proximal(sgd, rv.L1(), rate=0.1)
    with pytest.raises(ValueError, match=r"^metric 'second_moment' must find one second moment nu .*, got 0$"):
        proximal(sgd, rv.L1(), 0.1, rate=0.1, metric="second_moment").init(jnp.ones(2))
    with pytest.raises(TypeError, match=r"^metric must be constant in each group for L1"):
        proximal(adam, rv.Grouped(rv.L1(), "rows"), 0.1, rate=0.1, metric="second_moment").init(jnp.ones((2, 2)))
    tx = proximal(sgd, rv.L1(), 0.1, rate=0.1)
    with pytest.raises(ValueError, match=r"^params must be passed to update: proximal"):
        tx.update(jnp.ones(2), tx.init(jnp.ones(2)))
