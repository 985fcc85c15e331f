"""AC/DC compared with a loop in NumPy; the phases, the momentum, and errors."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rvsmjax as rv
from rvsmjax.methods import ac_dc

RATE, MOMENTUM = 0.05, 0.9


def problem():
    rng = np.random.default_rng(0)
    return (rng.normal(size=(8, 6)).astype("f4"), np.abs(rng.normal(size=(8, 6)).astype("f4")), rng.normal(size=(8, 6)))


def run(tx, steps):
    w, curvature, best = problem()
    params, state, update = w, tx.init(w), jax.jit(tx.update)
    for _ in range(steps):
        updates, state = update((curvature * (np.asarray(params) - best)).astype("f4"), state, params)
        params = optax.apply_updates(params, updates)
        yield np.asarray(params), state


def test_phases_against_a_loop():
    """Warm-up 0–3, compressed 4–6 and 10–12, decompressed 7–9 and 13–16, compressed 17–19."""
    tx = ac_dc(optax.sgd(RATE, MOMENTUM), rv.TopK(sparsity=0.75), steps=20, warm_up=4, period=3, final=3)
    compressed = {4, 5, 6, 10, 11, 12, *range(17, 25)}
    w, curvature, best = problem()
    memory, mask = np.zeros_like(w), np.ones(w.shape, bool)
    for step, (params, state) in enumerate(run(tx, 25)):
        # The paper's order: prune or reset the momentum when a phase starts, then take its steps.
        if step in (4, 10, 17):
            mask = np.abs(w) >= np.sort(np.abs(w).ravel())[-12]
            w = np.where(mask, w, 0)
        if step in (7, 13):
            mask, memory = np.ones(w.shape, bool), np.zeros_like(w)
            assert (w == 0).sum() == 36
        memory = MOMENTUM * memory + np.where(mask, curvature * (w - best), 0).astype("f4")
        w = np.where(mask, w - np.float32(RATE) * memory, 0)
        starts = step + 1 in (4, 10, 17)  # the parameters are pruned at the end of the step before
        ours = np.where(np.abs(w) >= np.sort(np.abs(w).ravel())[-12], w, 0) if starts else w
        np.testing.assert_allclose(params, ours, rtol=2e-5, atol=1e-7)
        np.testing.assert_allclose(state.inner_state[0].trace, memory, rtol=2e-5, atol=1e-6)
        assert (params == 0).sum() == (36 if {step, step + 1} & compressed else 0)
    assert float(rv.scalars(state, params)["sparsity"]) == 0.75


def test_default_phases_are_those_of_the_paper():
    """100 epochs: 10 of warm-up, then 5 each, 75 to 85 decompressed, 15 at the end compressed."""
    tx = ac_dc(optax.sgd(0.01), rv.NM(2, 4), steps=100)
    dense = [bool(jnp.all(state.support)) for _, state in run(tx, 99)]  # after a step: of the next
    compressed = {t for t in range(1, 100) if not dense[t - 1]}
    want = {t for start in range(10, 75, 10) for t in range(start, start + 5)} | set(range(85, 100))
    assert compressed == want


def test_adam_loses_its_first_moment_alone():
    tx = ac_dc(optax.chain(optax.clip(1.0), optax.adam(0.1)), rv.TopK(k=4), steps=8, warm_up=1, period=2, final=1)
    moments = [state.inner_state[1][0] for _, state in run(tx, 4)]
    w, curvature, best = problem()
    params = [w, *(p for p, _ in run(tx, 4))]
    grads = np.clip(curvature * (params[3] - best), -1, 1)
    np.testing.assert_allclose(moments[3].mu, 0.1 * grads, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(moments[3].nu, 0.999 * moments[2].nu + 0.001 * grads**2, rtol=1e-4)
    assert int(moments[3].count) == 4


def test_errors():
    sgd, top = optax.sgd(0.1), rv.TopK(k=1)
    with pytest.raises(TypeError, match=r"^penalty must be a constraint such as TopK or NM, got L0"):
        ac_dc(sgd, rv.L0(), steps=10)
    for name in ("warm_up", "period", "final", "steps"):
        with pytest.raises(ValueError, match=rf"^{name} must be a whole number >= 1, got 0$"):
            ac_dc(sgd, top, **{"steps": 10} | {name: 0})
    with pytest.raises(ValueError, match=r"^warm_up \+ final must be at most steps = 10, got 6 \+ 5$"):
        ac_dc(sgd, top, steps=10, warm_up=6, final=5)
