"""CIFAR-10 recipes: steps of the released code written out, its percentile, random crops and flips."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import rvsmjax as rv
from experiments.data import images
from experiments.data.labelled import Labelled
from experiments.studies.cifar.recipes import convolutions, fast, modern, preparation, released, short
from experiments.training.augment import flipped
from experiments.training.chains import restart_all, restart_momentum
from experiments.training.loop import fit
from experiments.training.recipes import make_optimizer, make_task
from experiments.training.study import KEPT
from experiments.training.transforms.released_admm import SignedPercentile

W = {
    "conv": {"kernel": np.random.default_rng(0).normal(size=(3, 3, 2, 2)) * 0.05},
    "head": {"kernel": np.random.default_rng(1).normal(size=(4, 2)), "bias": np.ones(2)},
}


def test_released_steps_written_out(x64):
    """Weight decay in the gradient, Nesterov momentum, β(w − u) outside it; the rate falls at 40, 60 and 80 %."""
    recipe = dataclasses.replace(released("resnet18", "rvsm", "l0", epochs=5), lam=1e-4)
    chain = make_optimizer(recipe, 3, jax.tree.map(jnp.asarray, W))
    params = jax.tree.map(jnp.asarray, W)
    state, update = chain.init(params), jax.jit(chain.update)
    w, m = jax.tree.map(np.copy, W), jax.tree.map(np.zeros_like, W)
    rng = np.random.default_rng(2)
    threshold = np.sqrt(2 * 1e-4 / 8e-2)
    for step in range(15):
        rate = 0.1 * 0.1 ** sum(step >= end for end in (6, 9, 12))  # epochs 2, 3 and 4 of 5
        g = jax.tree.map(lambda x: rng.normal(size=x.shape) * 0.01, W)
        updates, state = update(jax.tree.map(jnp.asarray, g), state, params)
        params = optax.apply_updates(params, updates)
        g = jax.tree.map(lambda g, w: g + 5e-4 * w, g, w)
        m = jax.tree.map(lambda m, g: 0.9 * m + g, m, g)
        r = jax.tree.map(np.zeros_like, w)
        old = w["conv"]["kernel"]
        r["conv"]["kernel"] = 8e-2 * np.where(np.abs(old) > threshold, 0, old)
        assert 0 < (r["conv"]["kernel"] == 0).sum() < 36
        moves = jax.tree.map(lambda g, m, r: g + 0.9 * m + r, g, m, r)
        w = jax.tree.map(np.array, optax.apply_updates(w, optax.tree.scale(-rate, moves)))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-14), params, w)


def test_released_admm_written_out(x64):
    """Two epochs of the released code: u and z before each step, z reset each epoch, one force per convolution."""
    tree = {**W, "conv2": {"kernel": np.random.default_rng(5).normal(size=(3, 3, 2, 3)) * 0.05}}
    recipe = released("resnet18", "admm", "signed_percentile", epochs=200)
    chain = make_optimizer(recipe, 4, jax.tree.map(jnp.asarray, tree))
    params = jax.tree.map(jnp.asarray, tree)
    state, update = chain.init(params), jax.jit(chain.update)
    w, rng, zeros = jax.tree.map(np.copy, tree), np.random.default_rng(2), []
    for _ in range(2):
        state = restart_all(state)
        m = jax.tree.map(np.zeros_like, w)
        z = {name: np.zeros_like(w[name]["kernel"]) for name in ("conv", "conv2")}
        for _ in range(4):
            g = jax.tree.map(lambda x: rng.normal(size=x.shape) * 0.01, tree)
            updates, state = update(jax.tree.map(jnp.asarray, g), state, params)
            params = optax.apply_updates(params, updates)
            pull = jax.tree.map(np.zeros_like, w)
            for name in z:
                v = w[name]["kernel"] + z[name]
                u = np.where(np.abs(v) < np.percentile(v, 60), 0, v)
                zeros.append((u == 0).mean())
                z[name] = z[name] + w[name]["kernel"] - u
                pull[name]["kernel"] = 2 * 1e-2 * (w[name]["kernel"] - u + z[name])
            g = jax.tree.map(lambda g, w: g + 5e-4 * w, g, w)
            m = jax.tree.map(lambda m, g: 0.9 * m + g, m, g)
            w = jax.tree.map(lambda w, g, m, r: w - 0.1 * (g + 0.9 * m + r), w, g, m, pull)
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-13), params, w)
    assert max(zeros) > 0.1  # the projection is at work


def test_momentum_starts_anew():
    recipe = released("resnet18", "rvsm", "l0")
    params = jax.tree.map(jnp.asarray, W)
    chain = make_optimizer(recipe, 3, params)
    state = chain.init(params)
    ones = jax.tree.map(jnp.ones_like, params)
    first, state = chain.update(ones, state, params)
    second, state = chain.update(ones, state, params)
    fresh, after = chain.update(ones, restart_momentum(state), params)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b), fresh, first)
    assert float(jnp.abs(second["head"]["bias"] - first["head"]["bias"]).min()) > 0.05
    counts = [int(leaf) for leaf in jax.tree.leaves(after) if leaf.dtype == jnp.int32 and leaf.ndim == 0]
    assert 3 in counts  # the schedules continue


def test_names_of_runs_are_stable():
    """Finished runs are stored under these names; a new field must not change them."""
    for method, penalty in (("sgd", ""), ("rvsm", "l0"), ("admm", ""), ("admm", "signed_percentile")):
        path = KEPT / f"{short('slim', method, penalty, epochs=2, seed=1).name()}.json"
        assert path.exists()
    assert modern("resnet18", "rvsm", "l0").name() == "resnet18-rvsm-l0-1e-06-seed0-2a503127"


def test_the_released_code_trains_on_all_images():
    data = images.load("digits32")
    task = make_task(released("slim", "rvsm", "l0", epochs=1), data)
    assert len(task.train.labels) == 1437
    assert task.held_out is data.test
    assert (task.settle, task.restart) == (False, restart_momentum)
    admm = [make_task(released("slim", "admm", penalty, epochs=1), data) for penalty in ("", "signed_percentile")]
    assert [(task.settle, task.restart) for task in admm] == [(True, restart_momentum), (False, restart_all)]
    plain = make_task(modern("slim", "rvsm", "l0", epochs=1), data)
    assert len(plain.train.labels) == 1137
    assert (plain.settle, plain.restart) == (True, None)


@pytest.mark.parametrize(("net", "share"), [pytest.param("vgg16", 0.9999, marks=pytest.mark.slow), ("resnet18", 0.293)])
def test_zeros_at_initialisation(net, share):
    """Share of zeros of ℓ0 in convolutions at PyTorch's initialisation, with the paper's λ and β."""
    recipe = released(net, "rvsm", "l0")
    params = nnx.state(recipe.make_network(), nnx.Param)
    u = rv.sparse_params(make_optimizer(recipe, 390, params).init(params), params)
    assert float(rv.sparsity(u, convolutions).total.fraction) == pytest.approx(share, abs=5e-4)


def test_only_the_released_rvsm_overwrites_w_by_u():
    data = images.load("digits32")
    for (method, preset), want in {
        ("rvsm", released): True,
        ("rvsm", modern): False,
        ("admm", released): False,
        ("sgd", released): False,
    }.items():
        recipe = preset("slim", method, "l0" if method == "rvsm" else "", epochs=1)
        assert make_task(recipe, data).overwrite is want


def test_the_papers_settings():
    vgg, resnet, admm = (
        released("vgg16", "rvsm", "tl1"),
        released("resnet18", "rvsm", "l0"),
        released("resnet18", "admm", ""),
    )
    assert (vgg.lam, vgg.beta, resnet.lam, resnet.beta) == (1e-5, 1e-2, 1e-6, 8e-2)
    assert (admm.sparsity, admm.beta, admm.overwrite) == (0.6, 1e-2, False)
    assert (resnet.epochs, resnet.batch, resnet.learning_rate, resnet.nesterov) == (200, 128, 0.1, True)
    assert released("vgg16", "sgd", "", seed=2).name().startswith("vgg16-sgd-seed2-")
    assert (vgg.overwrite, admm.placement) == (True, "coupled")
    recent = modern("resnet18", "rvsm", "l0", seed=1)
    assert (recent.lam, recent.schedule, recent.standardize, recent.seed) == (1e-6, "cosine", True, 1)
    assert [short("slim", method, "").sparsity for method in ("sgd", "admm", "magnitude")] == [0, 0.6, 0.6]


def test_the_fast_settings():
    large, small = fast("resnet18", "rvsm", "l1", batch=512), fast("slim", "sgd", "")
    assert (large.learning_rate, small.learning_rate, large.warm_up, large.schedule) == (0.4, 0.1, 0.1, "cosine")
    assert (large.momentum, large.nesterov, large.weight_decay, large.decay) == (0.9, True, 5e-4, "kernels")
    nets = ("resnet18", "vgg16", "resnet20", "slim")
    assert [fast(net, "sgd", "").label_smoothing for net in nets] == [0.1, 0.1, 0, 0]
    assert (large.crop, large.standardize, large.train_on) == ("reflect", True, "part")
    assert large.preparation() is preparation(True, "reflect")
    assert [fast(net, "rvsm", "l1").beta for net in nets] == [8e-2] * 4
    assert (large.placement, fast("vgg16", "admm", "").beta) == ("decoupled", 1e-2)
    methods = ("sgd", "rvsm", "admm", "magnitude", "sparsify")
    recipes = [fast("slim", method, "l0" if method == "rvsm" else "") for method in methods]
    assert [recipe.sparsity for recipe in recipes] == [0, 0.9, 0.9, 0.9, 0.9]
    assert [recipe.follow for recipe in recipes] == [False, True, True, False, False]
    assert make_task(fast("resnet18", "sgd", ""), images.load("digits32")).label_smoothing == 0.1


@pytest.mark.robustness
def test_fast_l1_ends_with_the_sparsity_asked_for():
    """λ follows the sparsity: 80 % of the convolutions to one weight, after two epochs of ten steps."""
    whole = images.load("digits32")
    data = images.Data(*(Labelled(part.images[:200], part.labels[:200]) for part in whole))
    recipe = fast("slim", "rvsm", "l1", epochs=2, batch=20, sparsity=0.8)
    end = fit(make_task(recipe, data), epochs=2, batch=20, key=recipe.keys()[1], folder=None)
    found, w = (rv.sparsity(tree, convolutions).total for tree in (end.u, end.state.params))
    assert (int(w.zeros), int(found.size)) == (0, 76_720)
    assert abs(int(found.zeros) - round(0.8 * 76_720)) <= 1
    assert float(rv.sparsity(end.u).leaves["head/kernel"].fraction) == 0


def test_a_percentile_of_signed_weights_prunes_less_than_stated():
    """Of a symmetric sample, a share 2p − 1 lies below its p-quantile in magnitude: 60 % for p = 80 %."""
    v = jax.random.normal(jax.random.key(0), (200_000,))
    for p in (0.8, 0.6, 0.95):
        zeros = float(jnp.mean(SignedPercentile(p).prox(v, 1.0) == 0))
        assert zeros == pytest.approx(2 * p - 1, abs=5e-3)
    assert jnp.array_equal(SignedPercentile(0.3).prox(v, 1.0), v)  # a negative percentile prunes nothing
    with pytest.raises(NotImplementedError):
        SignedPercentile(0.3).threshold(1.0)


@pytest.mark.parametrize("penalty", ["", "signed_percentile"])
def test_admm_splits_only_convolutions(penalty):
    task = make_task(released("slim", "admm", penalty, epochs=1), images.load("digits32"))
    params = nnx.state(task.network, nnx.Param)
    u = rv.sparse_params(task.optimizer.init(params), params)
    zeros = {name: float(leaf.fraction) for name, leaf in rv.sparsity(u).leaves.items()}
    assert zeros["head/kernel"] == 0
    kernels = rv.sparsity(u, lambda path: convolutions(path)).total
    assert float(kernels.fraction) == pytest.approx(0.2 if penalty else 0.6, abs=0.03)


def test_input_is_cropped_flipped_and_scaled():
    pictures = jnp.arange(64 * 32 * 32 * 3, dtype=jnp.uint32).astype(jnp.uint8).reshape(64, 32, 32, 3)
    plain = preparation(False)
    assert plain is preparation(False)
    np.testing.assert_allclose(plain(pictures, jax.random.key(0), False), pictures / np.float32(255), rtol=1e-6)
    standard = np.asarray(preparation(True)(pictures, jax.random.key(0), False))
    want = (np.asarray(pictures[3, 4, 5]) / 255 - [0.4914, 0.4822, 0.4465]) / [0.2470, 0.2435, 0.2616]
    np.testing.assert_allclose(standard[3, 4, 5], want, rtol=1e-4)
    flips, both = np.asarray(flipped(pictures, jax.random.key(1))), (pictures, pictures[:, :, ::-1])
    ways = [[(flips[i] == np.asarray(way[i])).all() for way in both] for i in range(64)]
    assert all(a != b for a, b in ways)
    assert 16 < sum(a for a, _ in ways) < 48
    bright = jnp.maximum(pictures, 1)
    for crop, black in (("zeros", True), ("reflect", False)):
        assert bool(jnp.any(preparation(False, crop)(bright, jax.random.key(2), True) == 0)) is black
    train = plain(pictures, jax.random.key(2), True)
    assert train.shape == pictures.shape
    assert float(jnp.mean(train != plain(pictures, jax.random.key(2), False))) > 0.5


def test_digits_in_the_shape_of_cifar():
    data = images.load("digits32")
    assert [part.images.shape for part in data] == [(1137, 32, 32, 3), (300, 32, 32, 3), (360, 32, 32, 3)]
