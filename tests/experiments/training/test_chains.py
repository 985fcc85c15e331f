"""Chains: warm-up, weight decay of kernels, the average of the parameters, sparsities that rise."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rvsmjax as rv
from experiments.records.folder import BadInput
from experiments.studies.lenet.recipes import LeNetRecipe
from experiments.training.evaluation import sparse
from experiments.training.programs import TrainState
from experiments.training.recipes import make_optimizer

PLAIN = LeNetRecipe(learning_rate=0.5, momentum=0.0, epochs=1)
SIZE = 1200


@pytest.fixture
def params():
    rng = np.random.default_rng(0)
    shapes = {"conv": {"kernel": (30, 20)}, "norm": {"scale": (20,), "bias": (20,)}, "head": {"kernel": (20, 30)}}
    return jax.tree.map(
        lambda n: jnp.asarray(rng.normal(size=n), jnp.float32), shapes, is_leaf=lambda n: type(n) is tuple
    )


def steps_of(recipe, params, steps, gradients=lambda step, w: jax.tree.map(jnp.zeros_like, w)):
    """Yields the state of the training after each step."""
    chain = make_optimizer(recipe, steps // recipe.epochs, params)
    state, w, update = chain.init(params), params, jax.jit(chain.update)
    for step in range(steps):
        updates, state = update(gradients(step, w), state, w)
        w = optax.apply_updates(w, updates)
        yield TrainState(w, {}, state)


def test_the_learning_rate_rises_linearly_and_falls_to_zero(params):
    recipe = dataclasses.replace(PLAIN, schedule="cosine", warm_up=0.25, weight_decay=0.0)
    chain = make_optimizer(recipe, 16, params)
    state, ones = chain.init(params), jax.tree.map(jnp.ones_like, params)
    rates = []
    for _ in range(17):
        updates, state = chain.update(ones, state, params)
        rates.append(-float(updates["conv"]["kernel"][0, 0]))
    falling = [0.25 * (1 + np.cos(np.pi * i / 12)) for i in range(13)]
    assert rates == pytest.approx([0, 0.125, 0.25, 0.375, *falling], abs=1e-7)
    assert (rates[0], rates[4], rates[16]) == (0, 0.5, pytest.approx(0, abs=1e-7))


def test_scales_and_biases_do_not_decay(params):
    recipe = dataclasses.replace(PLAIN, weight_decay=0.1)
    (after,) = steps_of(dataclasses.replace(recipe, decay="kernels"), params, 1)
    (all_of_them,) = steps_of(recipe, params, 1)
    for path, before in jax.tree.leaves_with_path(params):
        kernel, name = path[-1].key == "kernel", jax.tree_util.keystr(path)
        for end, factor in ((after, 0.95 if kernel else 1), (all_of_them, 0.95)):
            now = dict(jax.tree.leaves_with_path(end.params))[path]
            np.testing.assert_allclose(now, factor * before, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "rvsm", "penalty": "l1", "follow": True},
        {"method": "rvsm", "penalty": "l0", "follow": True},
        {"method": "rvsm", "penalty": "tl1", "follow": True},
        {"method": "admm", "follow": True},
        {"method": "sparsify"},
    ],
    ids=lambda settings: settings.get("penalty", settings["method"]),
)
def test_the_sparsity_rises_until_two_thirds_of_the_steps(settings, params):
    """By the cubic schedule, to one component; the parameters of sparsify are u in every step."""
    recipe = dataclasses.replace(PLAIN, learning_rate=0.01, epochs=30, sparsity=0.8, **settings)
    states = list(steps_of(recipe, params, 30, lambda step, w: jax.tree.map(lambda x: 0.3 * x, w)))
    zeros = [int(rv.sparsity(sparse(state)).total.zeros) for state in states]
    want = [0.8 * (1 - (1 - min(step / 20, 1)) ** 3) for step in range(30)]
    np.testing.assert_allclose(np.array(zeros) / SIZE, want, atol=1 / SIZE)
    assert zeros[-1] == round(0.8 * SIZE)
    if settings["method"] == "sparsify":
        assert zeros == [int(rv.sparsity(state.params).total.zeros) for state in states]


def test_sparsities_share_a_compiled_step(params):
    for settings in ({"method": "sparsify"}, {"method": "rvsm", "penalty": "l1", "follow": True}):
        recipe = dataclasses.replace(PLAIN, sparsity=0.8, **settings)
        chains = [
            make_optimizer(dataclasses.replace(recipe, sparsity=s, seed=n), 10, params)
            for n, s in enumerate((0.8, 0.5))
        ]
        assert chains[0].update is chains[1].update
        update = jax.jit(chains[0].update)
        ends = []
        for chain in chains:
            state, w = chain.init(params), params
            for _ in range(10):
                updates, state = update(w, state, w)
                w = optax.apply_updates(w, updates)
            ends.append(int(rv.sparsity(rv.sparse_params(state, w)).total.zeros))
        assert update._cache_size() == 1
        assert ends == [960, 600]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"warm_up": 1.0, "schedule": "cosine"}, "warm_up must be in [0, 1), got 1"),
        ({"warm_up": 0.1}, "warm_up must be 0 with the schedule 'step', got 0.1"),
        ({"label_smoothing": -0.1}, "label_smoothing must be in [0, 1), got -0.1"),
    ],
)  # fmt: skip
def test_bad_settings(settings, message):
    with pytest.raises(BadInput) as error:
        LeNetRecipe(**settings)
    assert str(error.value) == message
