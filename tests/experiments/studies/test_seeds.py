"""The seed study: vmapped training against separate runs, independence of lanes, convolution, choice, record."""

import functools
import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from flax import nnx

from experiments.cli import main as cli
from experiments.data import digits
from experiments.studies.seeds import summary as seeds_summary
from experiments.studies.seeds import train as seeds_runs
from experiments.studies.seeds.config import SeedsConfig, settings
from experiments.studies.seeds.networks import NETWORKS, pooled
from experiments.studies.seeds.timing import difference
from experiments.studies.seeds.train import Lane, make_lanes, make_separate, make_together, make_training

LANES = Lane(  # seed, λ, β, share of zeros, a, learning rate; lanes share at most the seed
    np.array([3, 0, 7, 3], np.uint32),
    np.array([0.01, 0.03, 0.1, 0.05]),
    np.array([1.0, 2.0, 0.5, 3.0]),
    np.array([0.9, 0.5, 0.8, 0.6]),
    np.array([1.0, 0.5, 2.0, 5.0]),
    np.array([0.1, 0.05, 0.2, 0.15]),
)


@functools.cache
def training(penalty, network="dense"):
    """Returns a short training in the current precision."""
    data = digits.load(jnp.result_type(float))
    return make_training(penalty, network, data, epochs=2, batch=64, root=jax.random.key(4))


def batched(lanes, penalty, network="dense"):
    return jax.tree.map(np.asarray, program(penalty, network)(lanes))


@functools.cache
def program(penalty, network):
    return jax.jit(jax.vmap(training(penalty, network)))


@pytest.mark.parametrize(
    ("penalty", "network"),
    [
        ("l0", "conv"),
        pytest.param("top_k", "dense", marks=pytest.mark.slow),
        pytest.param("tl1", "dense", marks=pytest.mark.slow),
    ],
)
def test_vmapped_training_equals_separate_runs(x64, penalty, network):
    apart = difference(batched(LANES, penalty, network), make_separate(training(penalty, network))(LANES))
    assert apart.numbers < 1e-12
    assert apart.shares == 0


@pytest.mark.slow
@pytest.mark.optimized
def test_a_lane_does_not_depend_on_its_neighbours(x64):
    others = LANES._replace(
        seed=np.array([3, 9, 1, 2], np.uint32),
        lam=np.array([0.01, 9, 0, 1]),
        learning_rate=np.array([0.1, 1e200, 1, 0.3]),  # one diverges
    )
    first, second = batched(LANES, "l0", "conv"), batched(others, "l0", "conv")
    assert not np.isfinite(second.curves.loss[1, -1])
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[0], b[0]), first, second)
    turned = batched(Lane(*(part[::-1] for part in LANES)), "l0", "conv")
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b[::-1], rtol=0, atol=1e-12), first, turned)


def test_a_seed_determines_the_initial_weights(x64):
    still = batched(LANES._replace(lam=np.zeros(4), learning_rate=np.full(4, 1e-30)), "l0", "conv")
    starts = still.w["conv1"]["kernel"][...]
    assert np.array_equal(starts[0], starts[3])
    assert min(np.abs(starts[i] - starts[j]).max() for i, j in ((0, 1), (0, 2), (1, 2))) > 0.01
    assert still.curves.loss[0, 0] != still.curves.loss[0, 1]  # the seeds skip different images


def test_a_seed_determines_the_order_of_the_images(x64, monkeypatch):
    draw = seeds_runs._draw
    monkeypatch.setattr(seeds_runs, "_draw", lambda network, key, dtype: draw(network, jax.random.key(1), dtype))
    fresh = make_training("none", "dense", digits.load("float64"), epochs=1, batch=64, root=jax.random.key(4))
    ends = jax.vmap(fresh)(LANES._replace(beta=np.ones(4), learning_rate=np.full(4, 0.1)))
    kernels = np.asarray(ends.w["out"]["kernel"][...])
    assert np.array_equal(kernels[0], kernels[3])
    assert min(np.abs(kernels[i] - kernels[j]).max() for i, j in ((0, 1), (0, 2), (1, 2))) > 1e-4


def test_u_is_the_prox_of_w_at_the_last_lambda(x64):
    trained = batched(LANES, "l0", "conv")
    zeros = size = 0
    for name in ("conv1", "conv2", "out"):
        w, u = (np.asarray(tree[name]["kernel"][...]) for tree in (trained.w, trained.u))
        threshold = np.sqrt(2 * LANES.lam / LANES.beta).reshape(-1, *[1] * (w.ndim - 1))
        assert np.array_equal(u, np.where(np.abs(w) > threshold, w, 0))
        zeros, size = zeros + (u == 0).reshape(4, -1).sum(1), size + u[0].size
        assert np.array_equal(trained.w[name]["bias"][...], trained.u[name]["bias"][...])
    np.testing.assert_allclose(trained.curves.zeros[:, -1], zeros / size, atol=1e-7)


def test_accuracy_is_the_share_of_correct_images(x64):
    trained, test = batched(LANES, "l0", "conv"), digits.load("float64").test
    accuracy = seeds_runs.test_accuracy("conv", trained.u, test)
    graph = nnx.graphdef(NETWORKS["conv"](nnx.Rngs(0), jnp.float64))
    for i in range(4):
        scores = nnx.merge(graph, jax.tree.map(lambda x, i=i: x[i], trained.u))(test.images)
        right = np.asarray(scores).argmax(1) == np.asarray(test.labels)
        assert accuracy[i] == pytest.approx(right.mean(), abs=1e-6)


def test_new_hyperparameters_do_not_trace_again():
    @chex.assert_max_traces(n=1)
    def train(lane):
        return training("l1")(lane)

    lanes = Lane(*(np.asarray(part, np.uint32 if i == 0 else np.float32) for i, part in enumerate(LANES)))
    make_separate(train)(lanes)


@pytest.mark.slow
def test_tiled_training_equals_the_vmapped_one(x64):
    many = Lane(*(np.tile(part, 5) for part in LANES))  # several lanes per device, with padding
    trained = make_together(training("top_k"))(many)
    tiled = jax.tree.map(lambda x: np.tile(x, (5, *[1] * (x.ndim - 1))), batched(LANES, "top_k"))
    assert difference(trained, tiled).numbers < 1e-12


@pytest.mark.parametrize(("size", "channels", "filters", "kernel"), [(8, 1, 8, 3), (4, 3, 5, 5)])
def test_convolution_equals_that_of_flax(x64, size, channels, filters, kernel):
    conv = nnx.Conv(channels, filters, (kernel, kernel), rngs=nnx.Rngs(1), param_dtype=jnp.float64)
    conv.bias[...] = jax.random.normal(jax.random.key(0), (filters,))
    x = jax.random.normal(jax.random.key(2), (6, size, size, channels))

    def peaks(conv, x):
        return nnx.max_pool(conv(x), (2, 2), (2, 2))

    @nnx.jit(static_argnums=0)
    def value_and_gradient(function, conv):
        out = function(conv, x)
        weight = jax.random.normal(jax.random.key(3), out.shape)
        return out, nnx.grad(lambda conv: jnp.sum(weight * function(conv, x)))(conv)

    ours, theirs = (value_and_gradient(function, conv) for function in (pooled, peaks))
    assert np.ptp(ours[0]) > 1
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=0, atol=1e-12), ours, theirs)


def test_networks_have_the_documented_size():
    for name, count in (("dense", 2410), ("conv", 1898)):
        network = nnx.eval_shape(lambda name=name: NETWORKS[name](nnx.Rngs(0), jnp.float32))
        assert sum(leaf.size for leaf in jax.tree.leaves(nnx.state(network, nnx.Param))) == count


def test_parts_of_the_digits_are_disjoint():
    data = digits.load("float32")
    assert [len(part.labels) for part in data] == [digits.LEARNT, digits.VALIDATION, digits.TEST]
    rows = np.concatenate([np.asarray(part.images).reshape(-1, 64) for part in data])
    assert len(np.unique(rows, axis=0)) == 1797
    assert rows.min() == 0
    assert rows.max() == 1


def test_penalties_have_the_settings_of_their_axes():
    config = SeedsConfig(lam=(0.1, 0.2), beta=(1.0, 2.0, 3.0), sparsity=(0.5,), learning_rate=(0.1, 0.3))
    assert [len(settings(config, penalty)) for penalty in ("none", "l0", "top_k")] == [2, 12, 6]
    lanes = make_lanes(config, settings(config, "l0")[2:4], 3)
    assert lanes.seed.tolist() == [0, 1, 2] * 2
    assert lanes.beta.tolist() == [2.0] * 6
    np.testing.assert_allclose(lanes.learning_rate, [0.1] * 3 + [0.3] * 3)
    assert not make_lanes(config, settings(config, "none"), 2).lam.any()


def test_intervals_are_those_of_student():
    mean, half = seeds_summary.interval([1.0, 2.0, 3.0, 4.0])
    assert mean == 2.5
    assert half == pytest.approx(3.182446 * np.sqrt(5 / 3) / 2, rel=1e-6)  # t of 3 degrees, from a printed table


def summary(**columns):
    settings = {"penalty": "l0", "setting": range(4), "zeros": [0.5, 0.79996, 0.9, 0.95], "diverged": 0}
    return pd.DataFrame({**settings, "accuracy_u": [0.99, 0.9, 0.95, 0.97], "test_u": [1, 1, 0.5, 0.4], **columns})


@pytest.mark.parametrize(
    ("columns", "least", "chosen"),
    [
        ({}, 0.8, 3),
        ({"diverged": [0, 0, 0, 1]}, 0.8, 2),
        ({"diverged": [0, 0, 1, 1]}, 0.8, 1),
        ({}, 0.99, None),
        ({"penalty": "none", "zeros": 0.0}, 0.8, 0),
    ],
)
def test_the_best_on_validation_with_enough_zeros_is_chosen(columns, least, chosen):
    assert seeds_summary.choose(summary(**columns), least) == chosen


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("seeds") / "record"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli, "prepare_jax", lambda precision: None)
        assert cli.main(["seeds", "--quick", "--quiet", "--out", str(out)]) == 0
    return out


@pytest.mark.robustness
def test_record_is_whole(folder, count_colors, report_files):
    pictures = {f"{name}.{kind}" for name in ("tradeoff", "learning") for kind in ("png", "svg")}
    names = {path.name for path in folder.iterdir()}
    assert names == {*report_files, "lanes.csv", "curves.csv.gz", "summary.csv", *pictures}
    config = json.loads((folder / "config.json").read_text())
    assert config["lanes"] == len(pd.read_csv(folder / "lanes.csv")) == 6
    assert config["differences"]["l0"]["numbers"] < 1e-5
    assert all(count_colors(folder / name)[1] > 50 for name in pictures if name.endswith("png"))


@pytest.mark.robustness
def test_only_chosen_lanes_use_the_test_images(folder):
    lanes = pd.read_csv(folder / "lanes.csv")
    assert lanes.chosen.sum() == 3
    assert (lanes.test_u.notna() == lanes.chosen).all()
    assert lanes.test_u.nunique() > 1
    assert lanes.accuracy_w.min() > 0.7  # three epochs
    curves = pd.read_csv(folder / "curves.csv.gz")
    last = curves[curves.epoch == 3].reset_index(drop=True)
    assert np.array_equal(last.accuracy_u, lanes.accuracy_u)
    assert "one after another" in (folder / "report.md").read_text()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--penalty l0 l2", ["--penalty", "l2"]),
        ("--beta 1 1", ["--beta", "distinct"]),
        ("--beta 0", ["--beta", "0"]),
        ("--lam nan", ["--lam", "nan"]),
        ("--sparsity 1", ["--sparsity", "1"]),
        ("--learning-rate -1", ["--learning-rate", "-1"]),
        ("--a 0", ["--a", "0"]),
        ("--seeds 1", ["--seeds", ">= 2", "1"]),
        ("--epochs 0", ["--epochs", "0"]),
        ("--batch 1150", ["--batch", "1,149", "1150"]),
        ("--min-sparsity 2", ["--min-sparsity", "2"]),
        ("--network vgg", ["--network", "vgg"]),
    ],
)
def test_bad_input_is_one_line(flags, words, refused):
    error = refused("seeds", flags)
    assert all(word in error for word in words), error
