"""Store of finished runs: no retraining, resuming, locks between processes."""

import dataclasses
import fcntl
import json

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.data import images
from experiments.data.labelled import Labelled
from experiments.records.folder import BadInput
from experiments.studies.lenet.recipes import LeNetRecipe
from experiments.training.loop import Diverged, OutOfTime, evaluator
from experiments.training.recipes import make_task
from experiments.training.run_store import Locked, Runs

RECIPE = LeNetRecipe(activation="relu", learning_rate=0.05, epochs=2, batch=25, data="digits")


@pytest.fixture(scope="module")
def data():
    whole = images.load("digits")
    return images.Data(*(Labelled(part.images[:100], part.labels[:100]) for part in whole))


def test_a_finished_run_is_a_small_file_and_is_not_trained_again(tmp_path, data):
    epochs = []
    first = Runs(tmp_path, lambda: data, lambda recipe, row: epochs.append(row["epoch"])).result(RECIPE)
    assert epochs == [1, 2]
    assert first["settings"] == RECIPE.settings()
    assert first["zeros_by_leaf"]["dense1/kernel"] == [0, 400_000]
    assert [len(curve) for curve in first["curves"].values()] == [2] * 5
    assert first["validation_accuracy_u"] == pytest.approx(first["curves"]["accuracy_u"][-1], abs=1e-5)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".locks", f"{RECIPE.name()}.json", f"{RECIPE.name()}.npz",
    ]  # fmt: skip
    assert (tmp_path / f"{RECIPE.name()}.json").stat().st_size < 5000
    again = Runs(tmp_path, lambda: data, lambda recipe, row: pytest.fail("trained again")).result(RECIPE)
    assert again == first


def test_the_test_set_is_read_only_at_the_end(tmp_path, data):
    """With different test images only the test accuracy changes."""
    other = data._replace(test=Labelled(data.test.images, data.test.labels + 10))
    a, b = (Runs(tmp_path / name, lambda part=part: part).result(RECIPE) for name, part in (("a", data), ("b", other)))
    assert a["curves"] == b["curves"]
    assert a["test_accuracy_u"] != b["test_accuracy_u"]


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({}, marks=pytest.mark.slow),
        {"method": "sparsify", "sparsity": 0.9},
        pytest.param({"label_smoothing": 0.1}, marks=pytest.mark.slow),
    ],
    ids=["sgd", "sparsify", "smoothed"],
)
def test_out_of_time_resumes_to_the_same_bits(settings, tmp_path, data):
    recipe = dataclasses.replace(RECIPE, **settings)
    whole = Runs(tmp_path / "whole", lambda: data).result(recipe)
    parts = tmp_path / "parts"
    with pytest.raises(OutOfTime):
        Runs(parts, lambda: data, time_limit=0).result(recipe)
    assert not (parts / f"{recipe.name()}.json").exists()
    seen = []
    again = Runs(parts, lambda: data, lambda recipe, row: seen.append(row["epoch"])).result(recipe)
    assert seen == [2]
    assert again["curves"] == whole["curves"]
    zeros, size = (sum(counts) for counts in zip(*whole["zeros_by_leaf"].values(), strict=True))
    assert zeros == round(recipe.sparsity * size)
    with np.load(tmp_path / "whole" / f"{recipe.name()}.npz") as a, np.load(parts / f"{recipe.name()}.npz") as b:
        assert a.files == b.files
        assert all(a[name].tobytes() == b[name].tobytes() for name in a.files)


def test_a_run_starts_from_another_and_trains_it_first(tmp_path, data):
    frozen = dataclasses.replace(RECIPE, method="frozen", sparsity=0.95, epochs=1, start=RECIPE)
    result = Runs(tmp_path, lambda: data).result(frozen)
    assert (tmp_path / f"{RECIPE.name()}.json").exists()
    assert result["zeros"] == pytest.approx(0.95, abs=1e-5)
    (tmp_path / f"{RECIPE.name()}.npz").unlink()
    (tmp_path / f"{frozen.name()}.json").unlink()
    before = (tmp_path / f"{RECIPE.name()}.json").read_text()
    seen = []
    again = Runs(tmp_path, lambda: data, lambda recipe, row: seen.append(recipe)).result(frozen)
    assert again["curves"] == result["curves"]
    assert seen == [RECIPE, RECIPE, frozen]
    assert json.loads(before)["curves"] == json.loads((tmp_path / f"{RECIPE.name()}.json").read_text())["curves"]


def test_a_run_locked_by_another_process_is_not_trained(tmp_path, data):
    lock = tmp_path / ".locks" / RECIPE.name()
    lock.parent.mkdir()
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(Locked):
            Runs(tmp_path, lambda: data).result(RECIPE)
    assert Runs(tmp_path, lambda: data).result(RECIPE)["zeros"] == 0


def test_errors_name_the_file(tmp_path, data):
    path = tmp_path / f"{RECIPE.name()}.json"
    path.write_text(json.dumps({"settings": {}})[:-1])
    with pytest.raises(BadInput, match=r"^.*\.json must hold a finished run"):
        Runs(tmp_path, lambda: data).result(RECIPE)
    with pytest.raises(Diverged, match=r"^the loss is (nan|inf) in epoch 1; .* keeps the last good checkpoint$"):
        Runs(tmp_path, lambda: data).result(dataclasses.replace(RECIPE, learning_rate=float("inf")))


def test_running_means_follow_u(tmp_path, data):
    """u at 95 % zeros, directly from a dense network: with the running means of w its accuracy would be random."""
    dense = dataclasses.replace(RECIPE, activation="binary", ste="clipped_relu", normalize=True, epochs=6)
    split = dataclasses.replace(dense, method="rvsm", penalty="top_k", sparsity=0.6, beta=1e-6, epochs=1, start=dense)
    runs = Runs(tmp_path, lambda: data)
    result = runs.result(split)
    with np.load(tmp_path / f"{split.name()}.npz") as arrays:
        names = [name for name in arrays.files if "rest" in name and "mean" in name]
        means_u = {name: arrays[name] for name in names}
    assert len(names) == 3
    with np.load(tmp_path / f"{dense.name()}.npz") as arrays:
        assert all(jnp.abs(arrays[name] - means_u[name]).max() > 0.02 for name in names)
    params, rest = runs.weights(split)
    network = evaluator(make_task(split, data, (params, rest)))
    assert network(params, rest, data.validation) == result["validation_accuracy_u"]
    _, stale = runs.weights(split.start)
    assert network(params, stale, data.validation) != result["validation_accuracy_u"]
