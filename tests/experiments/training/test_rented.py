"""Training on a rented accelerator, tested on a CPU: record of ``Runs``, one program per epoch, no recompilation."""

import contextlib
import dataclasses
import functools
import json
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import cifar
from experiments.data import images
from experiments.data.labelled import Labelled
from experiments.records.folder import BadInput
from experiments.studies.cifar import recipes as cifar_recipes
from experiments.studies.lenet.recipes import LeNetRecipe
from experiments.training import loop as training
from experiments.training import programs, rented
from experiments.training.loop import OutOfTime
from experiments.training.report import curves
from experiments.training.run_store import Runs
from rvsmjax.nets import ResNet

RECIPE = LeNetRecipe(
    method="rvsm", penalty="l0", lam=1e-3, activation="relu", learning_rate=0.05, epochs=3, batch=25, data="digits"
)
ALL_BUT_TIMES = (
    "settings", "curves", "zeros", "zeros_by_leaf", "test_accuracy_u", "test_accuracy_w",
    "validation_accuracy_u", "validation_accuracy_w",
)  # fmt: skip


@pytest.fixture(scope="module")
def data():
    whole = images.load("digits")
    return images.Data(*(Labelled(part.images[:100], part.labels[:100]) for part in whole))


@pytest.fixture
def as_on_a_card(monkeypatch):
    for module in (programs, training):
        monkeypatch.setattr(module, "scans", lambda: True)


@contextlib.contextmanager
def compilations():
    """Yields a list that gets an item for each compilation in the block."""
    events = []

    def count(event, duration, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            events.append(event)

    jax.monitoring.register_event_duration_secs_listener(count)
    try:
        yield events
    finally:
        jax.monitoring.unregister_event_duration_listener(count)


def soon():
    return time.monotonic() + 600


def test_the_record_matches_that_of_the_run_store(tmp_path, data):
    stored = Runs(tmp_path, lambda: data).result(RECIPE)
    record = rented.train(RECIPE, data, soon(), evaluate_every=1)
    assert {name: record[name] for name in ALL_BUT_TIMES} == {name: stored[name] for name in ALL_BUT_TIMES}
    assert record.keys() - stored.keys() == {"evaluate_every"}
    assert record["devices"] == stored["devices"]
    json.dumps(record)


def test_an_epoch_in_one_program_is_the_loop_of_steps(data, as_on_a_card, monkeypatch):
    one = rented.train(RECIPE, data, soon(), evaluate_every=1)
    monkeypatch.undo()
    loop = rented.train(RECIPE, data, soon(), evaluate_every=1)
    for name, curve in loop["curves"].items():
        assert one["curves"][name] == pytest.approx(curve, abs=0.02 if "accuracy" in name else 2e-4), name
    assert one["zeros"] == pytest.approx(loop["zeros"], abs=1e-3)
    assert one["curves"]["loss"][-1] < one["curves"]["loss"][0]


def test_evaluation_is_every_few_epochs_and_at_the_end(data, as_on_a_card):
    rows = []
    record = rented.train(RECIPE, data, soon(), rows.append, evaluate_every=2)
    assert [row["accuracy_u"] is None for row in rows] == [True, False, False]
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert [value is None for value in record["curves"]["zeros"]] == [True, False, False]
    assert all(value > 0 for value in record["curves"]["loss"])
    every = rented.train(RECIPE, data, soon(), evaluate_every=1)
    assert [every["curves"]["accuracy_u"][i] for i in (1, 2)] == record["curves"]["accuracy_u"][1:]


@pytest.mark.slow
def test_a_run_on_all_images_reports_the_best_epoch(data):
    """Its curves are of the test images, and it has no validation accuracy."""
    whole = dataclasses.replace(RECIPE, train_on="all", settle=False)
    rows = []
    record = rented.train(whole, data, soon(), rows.append, evaluate_every=1)
    assert record["validation_accuracy_u"] is record["validation_accuracy_w"] is None
    for name in ("accuracy_u", "accuracy_w"):
        assert record["curves"][name][-1] == pytest.approx(record[f"test_{name}"], abs=1e-5)
        assert record["best_epoch_on_test"][name] == max(round(row[name], 5) for row in rows)
    assert record["best_epoch_on_test"]["evaluated_epochs"] == 3
    sparse = rented.train(whole, data, soon(), evaluate_every=2)
    assert sparse["best_epoch_on_test"]["evaluated_epochs"] == 2
    assert "best_epoch_on_test" not in rented.train(RECIPE, data, soon())


def test_curves_with_gaps_are_drawn(data):
    record = rented.train(RECIPE, data, soon(), evaluate_every=2)
    panel = curves({"rvsm": [record]}, part="test").plain()["panels"][0]
    (line,) = panel["series"]
    assert line["x"] == [2, 3]
    assert line["y"] == pytest.approx([100 * value for value in record["curves"]["accuracy_u"][1:]], rel=1e-4)
    assert panel["y"]["label"] == "test accuracy of u  [%]"


@pytest.mark.usefixtures("no_compilation_cache")
def test_programs_compiled_ahead_are_not_recompiled(data, as_on_a_card):
    """A second run with another λ, β and seed compiles nothing at all."""
    recipe = dataclasses.replace(RECIPE, epochs=4)
    assert rented.compile_ahead(recipe, data) is rented.compile_ahead(recipe, data)
    compiled = rented.compile_ahead(recipe, data).result().programs
    with compilations() as first:
        rented.train(recipe, data, soon())
    other = dataclasses.replace(recipe, lam=2e-3, beta=0.5, seed=1)
    with compilations() as again:
        record = rented.train(other, data, soon())
    assert compiled.epoch._cache_size() == compiled.look._cache_size() == 1
    assert len(first) < 10  # small operations for the record
    assert not again
    assert record["settings"]["lam"] == 2e-3


def test_a_run_that_would_miss_its_deadline_stops(data):
    rows = []
    long = dataclasses.replace(RECIPE, epochs=10_000)
    start = time.monotonic()
    with pytest.raises(OutOfTime):
        rented.train(long, data, start + 60, rows.append)
    assert time.monotonic() - start < 30
    assert len(rows) < 20
    with pytest.raises(OutOfTime):
        rented.train(long, data, time.monotonic() - 1, lambda row: pytest.fail("trained"))


def test_errors_of_the_thread_reach_the_run(data):
    with pytest.raises(BadInput, match=r"^recipe must .*, got "):
        rented.compile_ahead(dataclasses.replace(RECIPE, method="frozen", start=RECIPE), data)
    bad = dataclasses.replace(RECIPE, penalty="l7")
    with pytest.raises(ValueError, match=r"^penalty must be one of .*, got 'l7'$"):
        rented.compile_ahead(bad, data).result()
    with pytest.raises(ValueError, match=r"^penalty must be one of .*, got 'l7'$"):
        rented.train(bad, data, soon())


@pytest.mark.parametrize("card", [pytest.param(False, marks=pytest.mark.slow), True])
def test_images_per_second_count_whole_batches(card, monkeypatch):
    monkeypatch.setitem(cifar_recipes.NETS, "slim", functools.partial(ResNet, blocks=(1,), width=4))
    monkeypatch.setattr(cifar, "scans", lambda: card)
    clock = iter(range(100))
    monkeypatch.setattr(cifar.time, "perf_counter", lambda: 2.0 * next(clock))
    rates = cifar.images_per_second("slim", "l0", count=70, batch=30, dtype="float32", epochs=2)
    assert rates == [30.0, 30.0]  # 60 images in 2 s
    turn = cifar.ours(cifar.make_recipe("slim", "sgd", 30, "float32"), steps=2)
    before = [np.asarray(leaf) for leaf in jax.tree.leaves(turn()) if leaf.dtype == jnp.float32]
    after = [np.asarray(leaf) for leaf in jax.tree.leaves(turn()) if leaf.dtype == jnp.float32]
    assert any((a != b).any() for a, b in zip(before, after, strict=True))


WITHOUT = """
import sys
for name in ("tyro", "zarr", "pooch", "platformdirs", "sklearn"):
    sys.modules[name] = None
import experiments.training.rented, experiments.studies.cifar.recipes, experiments.studies.cifar.lowered
import benchmarks.cifar
"""


@pytest.mark.robustness
def test_it_imports_without_the_optional_packages():
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT], cwd=Path(__file__).parents[3], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
