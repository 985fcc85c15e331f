"""What a speedrun adds to a training: lookahead, schedule, flips, augmented test images, a count of operations."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from experiments.studies.lenet.recipes import LeNetRecipe
from experiments.training.augment import alternated
from experiments.training.augmented import augmented_scores
from experiments.training.evaluation import evaluates_u
from experiments.training.inference import forward_operations, training_operations
from experiments.training.recipes import make_optimizer
from experiments.training.transforms.lookahead import lookahead
from rvsmjax.nets import QuickNet, ResNet

PLAIN = LeNetRecipe(learning_rate=0.5, momentum=0.0, epochs=1, weight_decay=0.0)


@pytest.mark.parametrize("total", [10, 12])
def test_lookahead_in_numpy(total):
    rng = np.random.default_rng(0)
    w = {"kernel": rng.normal(size=(4, 3)), "bias": np.zeros(3)}
    params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), w)
    chain = optax.chain(optax.sgd(0.1), lookahead(0.95, total))
    state, update, slow = chain.init(params), jax.jit(chain.update), dict(w)
    for step in range(1, total + 1):
        g = {name: rng.normal(size=x.shape) for name, x in w.items()}
        updates, state = update(jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), g), state, params)
        params = optax.apply_updates(params, updates)
        w = {name: x - 0.1 * g[name] for name, x in w.items()}
        if step % 5 == 0:
            d = 0.95**5 * (step / total) ** 3
            slow = {
                "kernel": d * slow["kernel"] + (1 - d) * w["kernel"],
                "bias": d * slow["bias"] + (1 - d) * w["bias"],
            }
            slow["bias"] = w["bias"] if step == 5 else slow["bias"]  # it begins at zero, without an average
        if step % 5 == 0 or step == total:
            w = dict(slow)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), params, w)


def test_lookahead_leaves_zero_components_alone():
    """As sparse parameters have them: components that were pruned, are zero throughout, or have returned."""
    chain = lookahead(0.9, 10)
    state, change = chain.init({"kernel": jnp.ones(4)}), {"kernel": jnp.full(4, 0.5)}
    d = 0.9**5 * np.array([0.5, 1]) ** 3
    for step, w in enumerate(([1.0, 1, 0, 0],) * 5 + ([2.0, 0, 0, 3],) * 5):
        updates, state = chain.update(change, state, {"kernel": jnp.asarray(w)})
        if step == 4:
            first = d[0] + (1 - d[0]) * 1.5
            np.testing.assert_allclose(state.average["kernel"], [first, first, 0, 0], rtol=1e-6)
            np.testing.assert_allclose(updates["kernel"], [first - 1, first - 1, 0.5, 0.5], rtol=1e-5)
        elif step == 9:
            second = d[1] * first + (1 - d[1]) * 2.5
            np.testing.assert_allclose(state.average["kernel"], [second, 0, 0, 3.5], rtol=1e-6)
            np.testing.assert_allclose(updates["kernel"], [second - 2, 0.5, 0.5, 0.5], rtol=1e-5)
        else:
            np.testing.assert_array_equal(updates["kernel"], change["kernel"])


def test_sparsify_around_lookahead_reaches_the_sparsity():
    params = {"kernel": jnp.asarray(np.random.default_rng(0).normal(size=(20, 30)), jnp.float32)}
    recipe = dataclasses.replace(PLAIN, method="sparsify", sparsity=0.8, lookahead=0.95, learning_rate=0.01)
    chain = make_optimizer(recipe, 40, params)
    state, w, update = chain.init(params), params, jax.jit(chain.update)
    for step in range(40):
        g = {"kernel": jnp.asarray(np.random.default_rng(step).normal(size=(20, 30)), jnp.float32)}
        updates, state = update(g, state, w)
        w = optax.apply_updates(w, updates)
    start, end = (np.asarray(tree["kernel"]) for tree in (params, w))
    assert (end == 0).sum() == 480
    # Steps of 0.01 times noise change little: the largest remain.
    assert np.abs(start)[end != 0].min() > np.quantile(np.abs(start), 0.8) - 0.2
    assert np.abs(end - start)[end != 0].max() < 0.3


def moves(recipe, params, steps):
    """Returns the updates of each step with gradients of one and parameters that stay."""
    chain = make_optimizer(recipe, steps, params)
    state, found = chain.init(params), []
    for _ in range(steps):
        updates, state = chain.update(jax.tree.map(jnp.ones_like, params), state, params)
        found.append(updates)
    return found


def test_the_triangular_schedule():
    recipe = dataclasses.replace(PLAIN, schedule="triangle", warm_up=0.25)
    params = {"kernel": jnp.ones((2, 2))}
    rates = [-float(updates["kernel"][0, 0]) for updates in moves(recipe, params, 16)]
    rising, falling = np.linspace(0.1, 0.5, 5), np.linspace(0.5, 0.035, 13)
    assert rates == pytest.approx([*rising[:-1], *falling[:-1]], rel=1e-5)


def test_biases_of_norms_learn_faster_but_decay_alike():
    recipe = dataclasses.replace(PLAIN, norm_biases=64.0, weight_decay=0.1)
    params = {"norm": {"bias": jnp.full(3, 2.0)}, "conv": {"kernel": jnp.full((3, 3), 2.0), "bias": jnp.full(3, 2.0)}}
    (updates,) = moves(recipe, params, 1)
    found = {jax.tree_util.keystr(path): -2 * float(leaf.max()) for path, leaf in jax.tree.leaves_with_path(updates)}
    assert found == pytest.approx(
        {"['norm']['bias']": 64.2, "['conv']['kernel']": 1.2, "['conv']['bias']": 1.2}, rel=1e-5
    )


def test_the_average_of_lookahead_is_evaluated_with_running_means_of_its_own():
    params = {"kernel": jnp.ones((2, 2))}
    chains = [make_optimizer(dataclasses.replace(PLAIN, lookahead=d), 4, params) for d in (0.0, 0.95)]
    assert [evaluates_u(chain.init(params)) for chain in chains] == [False, True]


def test_gradual_pruning_is_evaluated_with_the_running_means_of_its_training():
    params = {"kernel": jnp.ones((2, 2))}
    methods = ("sgd", "magnitude", "rvsm", "sparsify")
    recipe = dataclasses.replace(PLAIN, penalty="l0", sparsity=0.5)
    chains = [make_optimizer(dataclasses.replace(recipe, method=name), 4, params) for name in methods]
    assert [evaluates_u(chain.init(params)) for chain in chains] == [False, False, True, True]


def test_images_are_mirrored_in_alternate_epochs():
    images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (200, 4, 4, 3)), jnp.uint8)
    key = jax.random.key(3)
    epochs = [np.asarray(alternated(images, key, jnp.int32(epoch))) for epoch in range(4)]
    plain, mirror = np.asarray(images), np.asarray(images)[:, :, ::-1]
    flips = [(epoch == mirror).all((1, 2, 3)) for epoch in epochs]
    assert all(((epoch == plain).all((1, 2, 3)) == ~flip).all() for epoch, flip in zip(epochs, flips, strict=True))
    assert 70 < flips[0].sum() < 130
    assert (flips[0] == ~flips[1]).all()
    assert (flips[0] == flips[2]).all()
    assert (flips[1] == flips[3]).all()


def test_augmented_scores_written_out():
    x = np.random.default_rng(0).normal(size=(3, 6, 6, 2)).astype("float32")
    weights = np.random.default_rng(1).normal(size=(72, 5)).astype("float32")

    def scores(x):
        return np.tanh(x.reshape(len(x), -1) @ weights)

    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    up, down = padded[:, :6, :6], padded[:, 2:, 2:]
    want = (scores(x) + scores(x[:, :, ::-1])) / 4
    want += sum(scores(part) for part in (up, up[:, :, ::-1], down, down[:, :, ::-1])) / 8
    got = augmented_scores(lambda x: jnp.tanh(x.reshape(len(x), -1) @ weights), jnp.asarray(x))
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_operations_counted_by_hand():
    """QuickNet does not compute the rows and columns that pooling would drop: 30, 14 and 6 of 31, 15 and 7."""
    quick = nnx.eval_shape(lambda: QuickNet(dtype=jnp.bfloat16, rngs=nnx.Rngs(0)))
    products = 31**2 * 12 * 24 + 30**2 * 9 * 24 * 64 + 15**2 * 9 * 64**2 + 14**2 * 9 * 64 * 256
    products += 7**2 * 9 * 256**2 + 6**2 * 9 * 256**2 + 3**2 * 9 * 256**2 + 256 * 10
    assert forward_operations(quick, (1, 32, 32, 3)) == 2 * products
    assert training_operations(quick, (32, 32, 3), 800_000) == 6 * products * 800_000
    slim = nnx.eval_shape(lambda: ResNet(blocks=(1, 1), width=16, rngs=nnx.Rngs(0)))
    products = 32**2 * 9 * (3 * 16 + 2 * 16**2) + 16**2 * (9 * (16 * 32 + 32**2) + 16 * 32) + 32 * 10
    assert forward_operations(slim, (4, 32, 32, 3)) == 4 * 2 * products
