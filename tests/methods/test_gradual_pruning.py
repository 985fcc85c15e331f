"""Gradual pruning compared with loops in NumPy: the masks, their counts, what returns, and errors."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rvsmjax as rv
from rvsmjax.methods import gradual_pruning

SHARES = [0.0, 0.25, 0.5, 0.75, 0.75]


def share(step):
    return jnp.asarray(SHARES)[step]


def train(chain, params, moves):
    state, update = chain.init(params), jax.jit(chain.update)
    for move in moves:
        updates, state = update(jax.tree.map(jnp.asarray, move), state, params)
        params = optax.apply_updates(params, updates)
        yield params, state


def test_the_smallest_of_all_components_against_a_loop():
    rng = np.random.default_rng(3)
    shapes = {"a": (4, 5), "b": (3, 4)}
    w = {name: rng.normal(size=shape).astype("f4") for name, shape in shapes.items()}
    params = {name: {"kernel": jnp.asarray(leaf), "bias": jnp.zeros(5)} for name, leaf in w.items()}
    moves = [{n: rng.normal(size=s).astype("f4") for n, s in shapes.items()} for _ in SHARES]
    given = [{n: {"kernel": leaf, "bias": np.ones(5, "f4")} for n, leaf in move.items()} for move in moves]
    chain = gradual_pruning(rv.TopK(sparsity=share, scope="global"), every=2)
    alive = np.ones(32, bool)
    for step, (got, state) in enumerate(train(chain, params, given)):
        flat = np.concatenate([(w[name] + moves[step][name]).ravel() for name in shapes])
        flat = np.where(alive, flat, 0)
        if step % 2 == 0:
            alive[np.argsort(np.abs(flat), kind="stable")[: round(SHARES[step] * 32)]] = False
        flat = np.where(alive, flat, 0)
        w = {"a": flat[:20].reshape(4, 5), "b": flat[20:].reshape(3, 4)}
        for name in shapes:
            np.testing.assert_array_equal(got[name]["kernel"], w[name])
            part = alive[:20] if name == "a" else alive[20:]
            np.testing.assert_array_equal(state.support[name]["kernel"], part.reshape(shapes[name]))
        assert (flat == 0).sum() == round(SHARES[step - step % 2] * 32)
    assert got["a"]["bias"].tolist() == [5.0] * 5
    assert (flat == 0).sum() == 24
    assert float(rv.sparsity(got).total.fraction) == float(rv.scalars(state, got)["sparsity"]) == 0.75


def test_n_of_m_and_groups_in_one_chain():
    rng = np.random.default_rng(0)
    w = {"conv": rng.normal(size=(2, 4, 6)).astype("f4"), "head": rng.normal(size=(8, 3)).astype("f4")}
    chain = gradual_pruning(
        rv.NM(2, 4), overrides={"conv": {"penalty": rv.Grouped(rv.TopK(sparsity=0.5), "filters")}}, mask=True
    )
    ((params, _),) = train(chain, jax.tree.map(jnp.asarray, w), [jax.tree.map(np.zeros_like, w)])
    norms = np.sqrt((w["conv"] ** 2).sum((0, 1)))
    assert set(np.flatnonzero((np.asarray(params["conv"]) == 0).all((0, 1)))) == set(np.argsort(norms)[:3])
    blocks = np.asarray(params["head"]).T.reshape(3, 2, 4)
    assert ((blocks != 0).sum(-1) == 2).all()


def test_a_pruned_component_never_returns():
    moves = [np.array(move, "f4") for move in ([0.0, 0.0], [-0.25, 5.0], [0.0, 0.5], [0.0, 5.0])]
    chain = gradual_pruning(rv.TopK(k=1), every=2)
    found = [params.tolist() for params, _ in train(chain, jnp.array([1.0, 0.5]), moves)]
    assert found == [[1.0, 0.0], [0.75, 0.0], [0.75, 0.0], [0.75, 0.0]]


def test_the_update_of_a_pruned_component_does_not_count():
    """However large it is, with the momentum of an optimizer for instance, as many components stay as asked."""
    moves = [np.array(move, "f4") for move in ([0.0, 0.0], [0.0, 5.0])]
    found = [params.tolist() for params, _ in train(gradual_pruning(rv.TopK(k=1)), jnp.array([1.0, 0.5]), moves)]
    assert found == [[1.0, 0.0], [1.0, 0.0]]


def test_errors():
    with pytest.raises(TypeError, match=r"^penalty must be a constraint such as TopK or NM, got L1"):
        gradual_pruning(rv.L1())
    with pytest.raises(TypeError, match=r"^penalty must be a constraint such as TopK or NM, got L0"):
        gradual_pruning(rv.NM(), overrides={"a": {"penalty": rv.L0(), "lam": 0.1}})
    with pytest.raises(ValueError, match=r"^every must be a whole number >= 1, got 0$"):
        gradual_pruning(rv.NM(), every=0)
