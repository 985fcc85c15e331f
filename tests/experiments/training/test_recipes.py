"""Recipes: stable names, chains, augmentation."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import rvsmjax as rv
from experiments.data import images
from experiments.records.folder import BadInput
from experiments.studies.lenet.recipes import LeNetRecipe
from experiments.training import recipes
from experiments.training.augment import shifted
from experiments.training.recipes import keep_largest, make_optimizer
from rvsmjax.nets import LeNet

KERNELS = 430_500


@pytest.fixture(scope="module")
def params():
    return nnx.state(LeNet(rngs=nnx.Rngs(0)), nnx.Param)


def test_settings_and_name_depend_only_on_changed_fields():
    recipe = LeNetRecipe(lam=1e-3, method="rvsm", penalty="l1", start=LeNetRecipe(seed=2))
    assert recipe.settings() == {"lam": 1e-3, "method": "rvsm", "penalty": "l1", "start": {"seed": 2}}
    assert recipe.name() == "binary-rvsm-l1-0.001-seed0-56ab213f"
    assert LeNetRecipe().name() == "binary-sgd-seed0-44136fa3"
    changes = {"seed": 1, "epochs": 7, "lam": 2e-3, "shift": 1, "start": None}
    others = [dataclasses.replace(recipe, **{name: value}) for name, value in changes.items()]
    assert len({other.name() for other in [recipe, *others]}) == len(others) + 1


def zeros(tree):
    return {name: int(leaf.zeros) for name, leaf in rv.sparsity(tree).leaves.items()}


def final_u(recipe, params, steps=30):
    """Returns u and w after steps with zero gradients."""
    chain = make_optimizer(recipe, steps // recipe.epochs, params)
    state, w = chain.init(params), params
    update = jax.jit(chain.update)
    gradients = jax.tree.map(jnp.zeros_like, w)
    for _ in range(steps):
        updates, state = update(gradients, state, w)
        w = optax.apply_updates(w, updates)
    return (rv.sparse_params(state, w) if recipe.method in ("rvsm", "admm") else w), w


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "rvsm", "penalty": "top_k"},
        pytest.param({"method": "rvsm", "penalty": "tl1"}, marks=pytest.mark.slow),
        pytest.param({"method": "rvsm", "penalty": "l0"}, marks=pytest.mark.slow),
        pytest.param({"method": "rvsm", "penalty": "l1"}, marks=pytest.mark.slow),
        {"method": "admm", "beta": 0.1},
        {"method": "magnitude"},
    ],
    ids=lambda settings: settings.get("penalty", settings["method"]),
)
def test_the_target_sparsity_is_reached(settings, params):
    recipe = LeNetRecipe(sparsity=0.9, epochs=3, **{"beta": 1.0} | settings)
    u, w = final_u(recipe, params)
    if settings.get("penalty") in ("l0", "l1", "tl1"):
        # At least 0.9: that of the initial weights, which have moved towards u since.
        assert 0.9 <= float(rv.sparsity(u).total.fraction) < 0.95
    else:
        assert sum(zeros(u).values()) == round(0.9 * KERNELS)
    if settings["method"] == "rvsm":
        assert sum(zeros(w).values()) == 0


def test_groups_of_units_keep_the_output_layer(params):
    u, _ = final_u(LeNetRecipe(method="rvsm", penalty="group_top_k", sparsity=0.85, epochs=3), params)
    pruned = {name: (np.asarray(leaf) == 0).all(tuple(range(leaf.ndim - 1))) for name, leaf in kernels(u).items()}
    assert {name: int(units.sum()) for name, units in pruned.items()} == {
        "conv1": 0, "conv2": 43, "dense1": 425, "dense2": 0,
    }  # fmt: skip
    assert zeros(u)["dense1/kernel"] == 425 * 800


def kernels(state):
    return {name: state[name]["kernel"][...] for name in ("conv1", "conv2", "dense1", "dense2")}


def test_seeds_share_a_network_and_a_chain_unless_lam_depends_on_the_weights(params):
    recipe = LeNetRecipe(method="rvsm", penalty="top_k", sparsity=0.9)
    first, other = (nnx.eval_shape(dataclasses.replace(recipe, seed=seed).make_network) for seed in (0, 3))
    assert nnx.graphdef(first) == nnx.graphdef(other)
    assert make_optimizer(recipe, 10, params) is make_optimizer(dataclasses.replace(recipe, seed=3), 10, params)
    assert make_optimizer(recipe, 10, params) is not make_optimizer(recipe, 11, params)
    l0 = dataclasses.replace(recipe, penalty="l0")
    half = jax.tree.map(lambda w: w / 2, params)
    assert make_optimizer(l0, 10, params) is not make_optimizer(l0, 10, half)


def test_learning_rates(params):
    def moved(recipe, steps):
        chain = make_optimizer(recipe, steps, params)
        state, sizes = chain.init(params), []
        for _ in range(steps):
            updates, state = chain.update(
                jax.tree.map(jnp.ones_like, params), state, jax.tree.map(jnp.zeros_like, params)
            )
            sizes.append(-float(updates["conv1"]["kernel"][...][0, 0, 0, 0]))
        return sizes

    plain = LeNetRecipe(momentum=0.0, learning_rate=0.5, epochs=1)
    assert moved(plain, 10) == pytest.approx([0.5] * 6 + [0.05] * 4)
    cosine = moved(dataclasses.replace(plain, schedule="cosine"), 8)
    assert cosine == pytest.approx([0.25 * (1 + np.cos(np.pi * i / 8)) for i in range(8)], rel=1e-5)


def test_a_frozen_pattern_stays(params):
    start = keep_largest(params, 0.99)
    assert sum(zeros(start).values()) == round(0.99 * KERNELS)
    w = np.concatenate([np.asarray(leaf).ravel() for leaf in kernels(params).values()])
    kept = np.concatenate([np.asarray(leaf).ravel() for leaf in kernels(start).values()])
    assert np.abs(w[kept == 0]).max() <= np.abs(kept[kept != 0]).min()
    data = images.load("digits")
    task = recipes.make_task(LeNetRecipe(method="frozen", sparsity=0.99, epochs=1), data, (params, nnx.State({})))
    frozen = nnx.state(task.network, nnx.Param)
    state = task.optimizer.init(frozen)
    updates, state = task.optimizer.update(jax.tree.map(jnp.ones_like, frozen), state, frozen)
    assert zeros(optax.apply_updates(frozen, updates)) == zeros(start)


def test_images_are_shifted_independently():
    pictures = jnp.arange(1, 2 * 6 * 6 + 1, dtype=jnp.uint8).reshape(2, 6, 6, 1)
    pictures = jnp.concatenate([pictures] * 20)
    moved = np.asarray(shifted(pictures, jax.random.key(0), 2))
    padded = np.pad(pictures, ((0, 0), (2, 2), (2, 2), (0, 0)))
    shifts = set()
    for before, after in zip(padded, moved, strict=True):
        (shift,) = [(i, j) for i in range(5) for j in range(5) if (before[i : i + 6, j : j + 6] == after).all()]
        shifts.add(shift)
    assert len(shifts) > 12
    assert {i for i, _ in shifts} == {j for _, j in shifts} == set(range(5))
    reflected = np.asarray(shifted(pictures, jax.random.key(0), 2, "reflect"))
    whole = np.pad(pictures, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="reflect")
    for zeros, before, after in zip(moved, whole, reflected, strict=True):
        ways = [before[i : i + 6, j : j + 6] for i in range(5) for j in range(5)]
        assert sum((way == after).all() for way in ways) == 1
        np.testing.assert_array_equal(np.where(zeros == 0, after, zeros), after)  # the same shift


def test_digits_in_the_shape_of_mnist():
    data = images.load("digits")
    assert [part.images.shape for part in data] == [(1137, 28, 28, 1), (300, 28, 28, 1), (360, 28, 28, 1)]
    assert data.train.images.dtype == jnp.uint8
    assert int(data.train.images.max()) == 255
    seen = [bytes(image) for part in data for image in np.asarray(part.images)]
    assert len(set(seen)) > 1780  # the digits have a few duplicates
    labels = np.concatenate([part.labels for part in data])
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    with pytest.raises(BadInput, match=r"^data must be one of mnist, digits, cifar10, digits32, got 'cifar'$"):
        images.load("cifar")
