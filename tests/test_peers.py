"""The peers of the benchmarks compute the same as the sweep."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rvsmjax as rv
from benchmarks import gpu, numpy_rvsm, peers, rates
from tests.sweep.machine import Machine

PENALTIES = {"l1": rv.L1(), "l0": rv.L0(), "tl1": rv.TransformedL1(1.0)}


@pytest.mark.parametrize(
    "name", [pytest.param("l1", marks=pytest.mark.slow), pytest.param("l0", marks=pytest.mark.slow), "tl1"]
)
def test_steps_of_every_peer_are_those_of_the_chain(name):
    w, w_star = rates.starts(12, 6)
    problem = rv.NoOverlapReLU(2)
    chain = optax.chain(rv.rvsm(PENALTIES[name], peers.LAM, peers.BETA), optax.sgd(peers.ETA), rv.unit_sphere())

    def one(w, w_star):
        def step(_, w):
            updates, _ = chain.update(jax.grad(problem.loss)(w, w_star), chain.init(w), w)
            return w + updates

        return jax.lax.fori_loop(0, 20, step, w)

    want = jax.jit(jax.vmap(one))(jnp.asarray(w), jnp.asarray(w_star))
    k = np.full(6, 2, np.float32)
    outcome = {
        "numpy": numpy_rvsm.advance(name, w, w_star, k, 20),
        "python": peers.python_lane(name, w, w_star, 20),
    }
    if (numba := peers.numba_lanes()) is not None:
        outcome["numba"] = numba(rates.CODES[name], w, w_star, 20)
    for peer, values in outcome.items():
        np.testing.assert_allclose(values, want, atol=2e-6, err_msg=peer)


def test_pytorch_steps_are_those_of_numpy():
    torch = pytest.importorskip("torch")
    w, w_star = rates.starts(12, 6)
    for name in PENALTIES:
        outcome = peers.torch_lanes(name, torch.from_numpy(w), torch.from_numpy(w_star), 20, peers.torch_step)
        want = numpy_rvsm.advance(name, w, w_star, np.full(6, 2, np.float32), 20)
        np.testing.assert_allclose(outcome, want, atol=2e-6)


def test_rates_are_measured():
    (result,) = rates.measure(("l1",), (6,), lanes=300, steps=16, repeats=1)
    assert {"ours, all cores", "ours, one core", "NumPy, all lanes at once"} <= set(result["updates/s"])
    for median, least, most in result["updates/s"].values():
        assert 0 < least <= median <= most
    record = {"machine": "m", "versions": {"python": "3", "jax": "1"}, "date": "d", "results": [result]}
    axes = {"lanes": {"values": [1, 2], "seconds": [0.1, 0.2], "exponent": 1.0}}
    text = rates.table(record | {"scaling": axes})
    assert "exponent 1.00" in text
    assert "| ours, one core |" in text


@pytest.mark.robustness
def test_measurements_of_the_accelerator_queue():
    outcome = gpu.grid_seconds("interpret", seeds=2, repeats=1, penalties=("l1",), d=(5,), k=(2, 5))
    assert outcome["lanes"] == outcome["counts"]["converged"] == 4
    assert len(outcome["seconds"]) == len(outcome["call_seconds"]) == 1
    assert 0 < outcome["seconds"][0] <= outcome["call_seconds"][0]
    beside = gpu.beside_cpu("interpret", penalties=("l1",), d=(5,), k=(2,), seeds=4)
    assert beside["largest_difference"]["theta_w"] < 1e-4
    assert beside["share_of_lanes_with_the_same_zeros"] == 1
    assert gpu.rate("l1", 5, "interpret", lanes=130, steps=16, repeats=1)[0] > 0


def test_the_floor_is_multiply_adds_that_are_done():
    with pytest.raises(LookupError, match="the floor needs an NVIDIA GPU, got the cpu device"):
        gpu.fma_floor()
    x, out = np.linspace(0, 2, 64, dtype=np.float32), np.zeros(64, np.float32)
    Machine(gpu.floor_kernel(rounds=3), 1, [x, out]).run()
    starts = np.float32([x] + [x + np.float32(1 + i * 2.0**-23) for i in range(gpu.CHAINS - 1)])
    for _ in range(3 * gpu.TERMS):
        starts = (starts * np.float32(0.999).astype(float) + np.float32(0.001).astype(float)).astype(np.float32)
    np.testing.assert_allclose(out, starts.sum(0), rtol=1e-5)
