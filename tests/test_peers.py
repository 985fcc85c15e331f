"""The peers of the benchmarks do what the sweep does."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rvsmjax as rv
from benchmarks import gpu, numpy_rvsm, peers, rates

PENALTIES = {"l1": rv.L1(), "l0": rv.L0(), "tl1": rv.TransformedL1(1.0)}


@pytest.mark.parametrize("name", PENALTIES)
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
    found = {
        "numpy": numpy_rvsm.advance(name, w, w_star, k, 20),
        "python": peers.python_lane(name, w, w_star, 20),
    }
    if (numba := peers.numba_lanes()) is not None:
        found["numba"] = numba(rates.CODES[name], w, w_star, 20)
    for peer, values in found.items():
        np.testing.assert_allclose(values, want, atol=2e-6, err_msg=peer)


def test_pytorch_steps_are_those_of_numpy():
    torch = pytest.importorskip("torch")
    w, w_star = rates.starts(12, 6)
    for name in PENALTIES:
        found = peers.torch_lanes(name, torch.from_numpy(w), torch.from_numpy(w_star), 20, peers.torch_step)
        want = numpy_rvsm.advance(name, w, w_star, np.full(6, 2, np.float32), 20)
        np.testing.assert_allclose(found, want, atol=2e-6)


def test_rates_are_taken():
    (result,) = rates.measure(("l1",), (6,), lanes=300, steps=16, repeats=1)
    assert {"ours, all cores", "ours, one core", "NumPy, all lanes at once"} <= set(result["updates/s"])
    for median, least, most in result["updates/s"].values():
        assert 0 < least <= median <= most
    record = {"machine": "m", "versions": {"python": "3", "jax": "1"}, "date": "d", "results": [result]}
    axes = {"lanes": {"values": [1, 2], "seconds": [0.1, 0.2], "exponent": 1.0}}
    text = rates.table(record | {"scaling": axes})
    assert "exponent 1.00" in text
    assert "| ours, one core |" in text


def test_the_gpu_script_runs_at_a_small_size():
    engines = ("interpret", "xla")
    found = gpu.measure((2,), (5,), lanes=130, steps=8, repeats=1, engines=engines, penalties=("l1",))
    assert [own["engine"] for own in found["grid"]] == ["interpret", "xla"]
    for own in found["beside the CPU"]:
        assert own["largest difference"]["theta_w"] < 1e-4
        assert own["same zeros"] > 0.99
    operations = found["floor"]["operations"]
    assert 5 < operations["l1"] < operations["tl1"] < 100
    record = {"devices": ["d"], "versions": {"python": "3", "jax": "1", "torch": "2"}, "date": "d"}
    assert "| interpret | 40 |" in gpu.table(record | found)
