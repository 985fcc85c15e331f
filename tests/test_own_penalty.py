"""The penalty of examples/own_penalty.py: at most ten lines, and correct everywhere."""

import ast
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rvsmjax as rv
from rvsmjax.sweep._program import plan
from tests.penalties import test_oracles as oracles
from tests.repository.test_examples import load

PATH = Path(__file__).parents[1] / "examples" / "own_penalty.py"
example = load(PATH)
MCP = example.MCP


@pytest.fixture
def in_the_table(monkeypatch, x64):
    """Adds the penalty to the tables of l1, l0 and transformed l1, with its definition restated for the oracle."""
    monkeypatch.setitem(
        oracles.RHO, "mcp", lambda x, a: np.minimum(np.abs(x), a) - np.minimum(np.abs(x), a) ** 2 / (2 * a)
    )
    monkeypatch.setitem(oracles.KINDS, "mcp", MCP)
    monkeypatch.setitem(oracles.proxes, "mcp", jax.jit(lambda v, s, a: MCP(a).prox(v, s)))
    monkeypatch.setitem(oracles.thresholds, "mcp", jax.jit(lambda s, a: MCP(a).threshold(s)))


def test_it_has_at_most_ten_lines():
    lines = PATH.read_text(encoding="utf-8").splitlines()
    (node,) = (node for node in ast.parse("\n".join(lines)).body if isinstance(node, ast.ClassDef))
    body = lines[node.decorator_list[0].lineno - 1 : node.end_lineno]
    assert len([line for line in body if line.strip()]) <= 10


@pytest.mark.usefixtures("in_the_table")
@pytest.mark.parametrize(
    "test",
    [
        oracles.test_prox_is_the_global_minimizer,
        oracles.test_threshold_from_both_sides,
        oracles.test_moreau_envelope_is_the_minimum,
        oracles.test_value_is_the_sum_over_components,
        oracles.test_group_prox_beats_every_other_vector,
    ],
    ids=lambda test: test.__name__,
)
def test_the_oracles_of_all_penalties(test):
    test("mcp")


def test_it_splits_in_a_chain():
    """At a fixed point w, the remaining force is the gradient of β times the envelope of (λ/β)·P."""
    target = jnp.array([3.0, 0.4, -1.0, 0.02])
    penalty, lam, beta = MCP(1.5), 0.3, 1.0
    optimizer = optax.chain(rv.rvsm(penalty, lam, beta), optax.sgd(0.2))

    def step(carry, _):
        w, state = carry
        updates, state = optimizer.update(w - target, state, w)
        return (optax.apply_updates(w, updates), state), None

    (w, state), _ = jax.lax.scan(step, (target, optimizer.init(target)), None, 500)
    u = rv.sparse_params(state, w)
    np.testing.assert_array_equal(u, penalty.prox(w, lam / beta))
    np.testing.assert_array_equal(u == 0, [False, True, False, True])
    slope = jax.grad(lambda w: jnp.sum((w - target) ** 2) / 2 + beta * rv.moreau_envelope(penalty, w, lam / beta))(w)
    np.testing.assert_allclose(slope, 0, atol=1e-6)


def test_it_runs_in_a_sweep_with_other_penalties(capsys):
    result = example.main(seeds=50)
    assert result.counts["converged"] == 4 * 50
    shown = capsys.readouterr().out
    assert "mcp(gamma=0.1)" in shown
    theta = result.data["theta_u"].reshape(4, -1).mean(1)
    zeros = result.data["zeros"].reshape(4, -1).mean(1)
    # Large components are not shrunk: as many zeros as l1 at a smaller angle; with a large γ it is l1.
    np.testing.assert_allclose(zeros[1:3], zeros[0], atol=0.3)
    assert theta[1] < 0.7 * theta[0]
    assert theta[2] == pytest.approx(theta[0], rel=0.05)


def test_a_lane_of_the_sweep_is_the_limit_of_the_chain():
    grid = rv.Grid(penalty=MCP(0.1), d=6, k=2, lam=1e-4, beta=4e-3, seeds=3)
    data = rv.run_sweep(grid, jax.random.key(5), tol=1e-6).data
    chain = optax.chain(rv.rvsm(MCP(0.1), 1e-4, 4e-3), optax.sgd(1 / 4.004), rv.unit_sphere())
    for seed in range(3):
        key = jax.random.fold_in(jax.random.key(5), seed)
        w_star, w0 = rv.geometry.unit(jax.random.normal(key, (2, plan.ROWS))[:, :6])
        limit = rv.solve(rv.NoOverlapReLU(k=2), chain, w0, w_star, tol=1e-6)
        assert limit.converged
        assert float(rv.angle(limit.u, w_star)) == pytest.approx(float(data["theta_u"].ravel()[seed]), abs=2e-4)
