"""Training loop on the digits: learning, resuming to the same bits, errors."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from sklearn.datasets import load_digits

import rvsmjax as rv
from experiments.data.labelled import Labelled
from experiments.records.folder import BadInput
from experiments.training import evaluation
from experiments.training.chains import restart_momentum
from experiments.training.evaluation import sparse
from experiments.training.loop import Diverged, OutOfTime, Task, fit, make_programs
from experiments.training.programs import TrainState, make_step, split

bit_equality = pytest.mark.optimized

KEY = jax.random.key(5)


class Small(nnx.Module):
    """One hidden layer, with variables that are not parameters: running means and dropout."""

    def __init__(self, rngs):
        self.hidden, self.norm, self.out = (
            nnx.Linear(64, 32, rngs=rngs),
            nnx.BatchNorm(32, rngs=rngs),
            nnx.Linear(32, 10, rngs=rngs),
        )
        self.dropout = nnx.Dropout(0.1, rngs=rngs)

    def __call__(self, x):
        return self.out(self.dropout(nnx.relu(self.norm(self.hidden(x)))))


def prepare(images, key, train):
    x = images.astype(jnp.float32) / 16
    return x + 0.01 * jax.random.normal(key, x.shape) if train else x


@functools.cache
def data():
    x, y = load_digits(return_X_y=True)
    x, y = jnp.asarray(x, jnp.uint8), jnp.asarray(y)
    return Labelled(x[:1200], y[:1200]), Labelled(x[1200:], y[1200:])


L0, L1, TOP = rv.L0(), rv.L1(), rv.TopK(sparsity=0.8, scope="global")


@functools.cache
def task(learning_rate=0.2, penalty=L0):
    """Returns a task, cached so its step compiles once for all tests."""
    optimizer = optax.chain(rv.rvsm(penalty, 1e-4, 0.1), optax.sgd(learning_rate, momentum=0.9))
    return Task(Small(nnx.Rngs(0)), optimizer, *data(), prepare)


def bits(tree):
    return [
        np.asarray(leaf).tobytes()
        for leaf in jax.tree.leaves(tree)
        if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    ]


def test_it_learns_and_measures_w_and_u(tmp_path, monkeypatch):
    rows, calls = [], []
    monkeypatch.setattr(evaluation, "sparse", lambda state: calls.append(1) or sparse(state))
    end = fit(task(0.1, TOP), epochs=6, batch=50, key=KEY, folder=tmp_path, on_epoch=rows.append)
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert len(calls) == 6
    assert rows[-1]["accuracy_w"] > 0.85
    assert rows[-1]["zeros"] == pytest.approx(0.8, abs=1e-3)
    assert set(rows[-1]["zeros_by_leaf"]) == {"hidden/kernel", "out/kernel"}
    assert rows[0]["loss"] > rows[-1]["loss"]
    assert [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == rows == end.history
    zeros = rv.sparsity(end.u).total
    assert int(zeros.zeros) == round(0.8 * zeros.size)
    assert float(rv.sparsity(end.state.params).total.fraction) < 0.01


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_one_step_with_smoothed_labels_written_out(smoothing):
    """The share of a label that is smoothed goes to all ten classes alike, its own included."""
    graph, params, rest = split(Small(nnx.Rngs(3)))
    optimizer, train = optax.sgd(0.5), data()[0]
    order = jax.random.permutation(jax.random.key(1), len(train.labels))
    rows = order[50:100]
    x, labels = prepare(train.images[rows], jax.random.fold_in(KEY, 1), True), train.labels[rows]

    def loss(params):
        logs = jax.nn.log_softmax(nnx.merge(graph, params, rest, copy=True)(x))
        return -jnp.mean((1 - smoothing) * logs[jnp.arange(50), labels] + smoothing * logs.mean(1))

    want, gradients = jax.value_and_grad(loss)(params)
    expected = jax.tree.map(lambda w, g: w - 0.5 * g, params, gradients)
    state = TrainState(*jax.tree.map(jnp.copy, (params, rest)), optimizer.init(params))
    step = make_step(graph, optimizer.update, prepare, 50, smoothing)
    state, sums = step(state, jnp.zeros(2), train, order, jnp.int32(1), KEY)
    assert float(sums[0]) == pytest.approx(50 * float(want), rel=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), state.params, expected)


def test_running_means_move_towards_those_of_u(tmp_path):
    """From the means of w towards those of u's hidden layer, by one percent of the distance with each of 5 batches."""
    end = fit(task(0.1, TOP), epochs=2, batch=50, key=KEY, folder=tmp_path)
    hidden = prepare(data()[0].images, KEY, False) @ end.u["hidden"]["kernel"][...] + end.u["hidden"]["bias"][...]
    mean_w, mean_u = (rest["norm"]["mean"][...] for rest in (end.state.rest, end.rest_u))
    ratio = jnp.linalg.norm(mean_u - hidden.mean(0)) / jnp.linalg.norm(mean_w - hidden.mean(0))
    assert float(ratio) == pytest.approx(0.99**5, abs=0.01)


@pytest.mark.slow
@bit_equality
def test_a_stopped_run_resumes_to_the_same_bits(tmp_path):
    whole = fit(task(), epochs=4, batch=64, key=KEY, folder=tmp_path / "whole")
    parts = tmp_path / "parts"

    class Stopped(Exception):
        pass

    def stop(row):
        if row["epoch"] in (1, 3):
            raise Stopped

    for _ in range(2):
        with pytest.raises(Stopped):
            fit(task(), epochs=4, batch=64, key=KEY, folder=parts, on_epoch=stop)
    again = fit(task(), epochs=4, batch=64, key=KEY, folder=parts, on_epoch=stop)
    assert bits(again.state) == bits(whole.state)
    assert not any(leaf.committed for leaf in jax.tree.leaves(again.state))  # committed leaves would recompile the step
    assert again.history == whole.history
    assert fit(task(), epochs=4, batch=64, key=KEY, folder=parts).history == whole.history


@bit_equality
def test_w_becomes_u_at_the_end_of_an_epoch(tmp_path):
    """u is that of the last w of the epoch: soft thresholding u again would shrink it twice."""
    overwriting = dataclasses.replace(task(penalty=L1), overwrite=True)
    first = fit(overwriting, epochs=1, batch=64, key=KEY, folder=tmp_path / "first")
    plain = fit(task(penalty=L1), epochs=1, batch=64, key=KEY, folder=tmp_path / "plain")
    assert bits(first.u) == bits(first.state.params) == bits(plain.u) != bits(plain.state.params)
    assert first.history == plain.history
    assert 0 < first.history[0]["zeros"] < 1
    whole = fit(overwriting, epochs=3, batch=64, key=KEY, folder=tmp_path / "whole")
    assert whole.history[0] == first.history[0]
    again = fit(overwriting, epochs=3, batch=64, key=KEY, folder=tmp_path / "first")
    for end in (again, fit(overwriting, epochs=3, batch=64, key=KEY, folder=tmp_path / "whole")):
        assert bits((end.state, end.u, end.rest_u)) == bits((whole.state, whole.u, whole.rest_u))
    assert whole.history != fit(task(penalty=L1), epochs=3, batch=64, key=KEY, folder=tmp_path / "plain").history


@pytest.mark.parametrize(
    "changes",
    [{}, {"overwrite": True}, {"restart": restart_momentum, "settle": False}, {"label_smoothing": 0.3}],
)
def test_an_epoch_as_one_program_is_the_loop(changes):
    """Up to rounding: parameters, running means, dropout keys, u and all metrics."""
    changed = dataclasses.replace(task(0.05), **changes)
    loop, whole = (
        fit(changed, epochs=2, batch=50, key=KEY, folder=None, programs=make_programs(changed, 50, whole=whole))
        for whole in (False, True)
    )
    for ours, theirs in zip(
        *(jax.tree.leaves((end.state, end.u, end.rest_u)) for end in (whole, loop)),
        strict=True,
    ):
        if jnp.issubdtype(ours.dtype, jax.dtypes.prng_key):
            ours, theirs = jax.random.key_data(ours), jax.random.key_data(theirs)
        np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=2e-5)
    for ours, theirs in zip(whole.history, loop.history, strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-5)
        assert ours["zeros"] == pytest.approx(theirs["zeros"], abs=1e-3)
        assert ours["accuracy_u"] == pytest.approx(theirs["accuracy_u"], abs=0.005)
    assert whole.history[1]["loss"] < whole.history[0]["loss"]
    # The loss with smoothed labels is at least their entropy.
    entropy = -0.73 * np.log(0.73) - 9 * 0.03 * np.log(0.03)
    assert (whole.history[1]["loss"] > entropy) == (changed.label_smoothing == 0.3)


def test_without_an_evaluation_an_epoch_is_the_same():
    """Also if w becomes u, which is then computed separately."""
    overwriting = dataclasses.replace(task(0.05), overwrite=True)
    programs = make_programs(overwriting, 50, True)
    every, last = (
        fit(overwriting, epochs=3, batch=50, key=KEY, folder=None, evaluate_every=often, programs=programs)
        for often in (1, 3)
    )
    assert bits((every.state, every.u, every.rest_u)) == bits((last.state, last.u, last.rest_u))
    assert [row["accuracy_w"] is None for row in last.history] == [True, True, False]
    assert last.history[2] == every.history[2]


def test_a_diverged_loss_is_reported_without_a_folder():
    with pytest.raises(Diverged, match=r"^the loss is (nan|inf) in epoch \d$"):
        fit(task(jnp.nan), epochs=3, batch=64, key=KEY, folder=None)


def test_checkpoints_are_spaced_in_time_and_a_stop_is_saved(tmp_path):
    whole = fit(task(), epochs=4, batch=64, key=KEY, folder=tmp_path / "whole")
    parts = tmp_path / "parts"

    def saved():
        return sorted(int(path.name) for path in (parts / "checkpoints").iterdir())

    answers = iter([False, False, True])
    with pytest.raises(OutOfTime):
        fit(task(), epochs=4, batch=64, key=KEY, folder=parts, save_every=1e9, stop=lambda: next(answers))
    assert saved() == [3]
    again = fit(task(), epochs=4, batch=64, key=KEY, folder=parts, save_every=1e9, stop=lambda: pytest.fail("asked"))
    assert saved() == [3, 4]
    assert bits(again.state) == bits(whole.state)


def test_other_settings_are_refused(tmp_path):
    fit(task(), epochs=1, batch=64, key=KEY, folder=tmp_path, settings={"beta": 0.1, "seed": 0})
    with pytest.raises(BadInput, match=r"^beta must be 0\.1 as in the run in .*, got 0\.2$"):
        fit(task(), epochs=2, batch=64, key=KEY, folder=tmp_path, settings={"beta": 0.2, "seed": 0})
    with pytest.raises(BadInput, match=r"^epochs must be at least 1 .*, got 0$"):
        fit(task(), epochs=0, batch=64, key=KEY, folder=tmp_path, settings={"beta": 0.1, "seed": 0})


def test_a_diverged_loss_stops_the_run_and_keeps_the_last_checkpoint(tmp_path):
    fit(task(), epochs=1, batch=64, key=KEY, folder=tmp_path)
    with pytest.raises(Diverged, match=r"^the loss is (nan|inf) in epoch 2; .* keeps the last good checkpoint$"):
        fit(task(jnp.nan), epochs=2, batch=64, key=KEY, folder=tmp_path)
    assert len(fit(task(), epochs=2, batch=64, key=KEY, folder=tmp_path).history) == 2
