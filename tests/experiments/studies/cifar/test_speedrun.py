"""The preset ``speedrun``: its numbers, and a dense and a sparse run on the digits with a narrow network."""

import json

import jax
import numpy as np
import pytest

import rvsmjax as rv
from experiments.cli import main as cli
from experiments.data import images
from experiments.data.labelled import Labelled
from experiments.studies.cifar import recipes
from experiments.studies.cifar.config import CifarConfig, make_study, settled
from experiments.studies.cifar.recipes import CifarRecipe, preparation, short, speedrun
from experiments.training.loop import fit
from experiments.training.recipes import make_task
from experiments.training.run_store import outcome
from rvsmjax.nets import QuickNet


def test_the_settings_of_the_source():
    recipe = speedrun("quick", "sgd", "")
    assert (recipe.batch, recipe.epochs, recipe.train_on, recipe.evaluate_every) == (1000, 16, "all", 16)
    assert recipe.learning_rate == pytest.approx(1.4648, abs=1e-4)
    assert recipe.weight_decay == pytest.approx(0.00133, abs=1e-5)
    assert (recipe.momentum, recipe.nesterov, recipe.norm_biases, recipe.lookahead) == (0.85, True, 64, 0.95)
    assert (recipe.schedule, recipe.warm_up, recipe.label_smoothing) == ("triangle", 0.23, 0.2)
    assert (recipe.shift, recipe.crop, recipe.alternating, recipe.standardize) == (2, "reflect", True, True)
    assert speedrun("quick", "sgd", "", batch=500).learning_rate == pytest.approx(recipe.learning_rate / 2)
    assert speedrun("quick", "sgd", "", epochs=4).evaluate_every == 4
    methods = ("sgd", "rvsm", "admm", "magnitude", "sparsify")
    assert [speedrun("slim", method, "").sparsity for method in methods] == [0, 0.9, 0.9, 0.9, 0.9]


def test_batches_of_each_preset():
    sizes = {preset: settled(CifarConfig(preset=preset)).batch for preset in recipes.PRESETS}
    assert sizes == {"released": 128, "modern": 128, "short": 128, "fast": 128, "speedrun": 1000}
    assert settled(CifarConfig(preset="speedrun", batch=7, epochs=3)).batch == 7
    (recipe,) = make_study(settled(CifarConfig(net="slim", preset="short", method=("sgd",), seeds=1)))["sgd"]
    assert recipe == short("slim", "sgd", "", epochs=2)


def test_images_of_training_are_shifted_and_not_mirrored():
    pictures = np.random.default_rng(0).integers(0, 256, (50, 32, 32, 3)).astype("uint8")
    x = np.asarray(preparation(False, "reflect", 2, flip=False)(pictures, jax.random.key(0), True))
    padded = np.pad(pictures, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="reflect") / np.float32(255)
    found = set()
    for before, after in zip(padded, x, strict=True):
        ways = [(i, j) for i in range(5) for j in range(5) if np.allclose(before[i : i + 32, j : j + 32], after)]
        assert len(ways) == 1
        found.add(ways[0])
    assert len(found) > 15


def test_the_patches_are_whitened_for_the_training_images(monkeypatch):
    monkeypatch.setitem(recipes.NETS, "quick", narrow)
    data = images.load("digits32")
    recipe = speedrun("quick", "sgd", "", data="digits32", batch=100)
    kernel = np.asarray(make_task(recipe, data).network.patches.kernel[...]).reshape(12, 24)
    x = (np.asarray(data.train.images) / 255 - recipes.MEANS) / recipes.DEVIATIONS
    views = np.concatenate([x[:, i : i + 31, j : j + 31] for i in (0, 1) for j in (0, 1)], -1)
    covariance = np.cov((views @ kernel[:, :12]).reshape(-1, 12).T)
    # The digits are grey: eight of the twelve directions have no variance.
    np.testing.assert_allclose(covariance, np.diag([0] * 8 + [1] * 4), atol=0.02)
    assert CifarRecipe(net="quick").make_network().patches.kernel[...].max() == 0.5


def narrow(init, **options):
    del init
    return QuickNet(widths=(4, 8, 8), **options)


@pytest.mark.slow
def test_a_sparse_run_ends_with_the_sparsity(monkeypatch):
    """90 % of the convolutions to one weight, after an epoch of ten steps; the patches stay as they are."""
    monkeypatch.setitem(recipes.NETS, "quick", narrow)
    whole = images.load("digits32")
    data = images.Data(*(Labelled(part.images[:100], part.labels[:100]) for part in whole))
    recipe = speedrun("quick", "sparsify", "", epochs=1, batch=20, data="digits32")
    task = make_task(recipe, data)
    patches = np.asarray(task.network.patches.kernel[...])
    end = fit(task, epochs=1, batch=20, key=recipe.keys()[1], folder=None, evaluate_every=recipe.evaluate_every)
    found = rv.sparsity(end.u, recipes.convolutions).total
    assert (int(found.zeros), int(found.size)) == (round(0.9 * SIZE), SIZE)
    assert float(rv.sparsity(end.u).leaves["head/kernel"].fraction) == 0
    np.testing.assert_array_equal(end.rest_u["patches"]["kernel"][...], patches)
    result = outcome(recipe, task, data, end, [1.0])
    assert 0 <= result["augmented_test_accuracy_u"] <= 1


SIZE = 9 * (24 * 4 + 4 * 4 + 4 * 8 + 3 * 8 * 8)
"""Weights of the convolutions of ``narrow``, but for the patches."""


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    folder = tmp_path_factory.mktemp("speedrun")
    flags = "--net quick --preset speedrun --data digits32 --epochs 2 --batch 200 --seeds 1 --method sgd sparsify"
    command = ["cifar", *flags.split(), "--sparsity", "0.9", "--quiet"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(recipes.NETS, "quick", narrow)
        assert cli.main([*command, "--runs", str(folder / "runs"), "--out", str(folder / "out")]) == 0
    return folder


@pytest.mark.robustness
def test_records_of_a_dense_and_a_sparse_run(record):
    runs = {path.name.split("-")[1]: json.loads(path.read_text()) for path in (record / "runs").glob("*.json")}
    assert set(runs) == {"sgd", "sparsify"}
    for run in runs.values():
        assert run["curves"]["accuracy_u"][0] is None  # only the last epoch is evaluated
        assert run["curves"]["accuracy_u"][1] == pytest.approx(run["test_accuracy_u"], abs=1e-4)
        assert 0 <= run["augmented_test_accuracy_u"] <= 1
        assert run["curves"]["loss"][1] < run["curves"]["loss"][0]
        kernels = {name: counts for name, counts in run["zeros_by_leaf"].items() if name != "head/kernel"}
        assert len(kernels) == 6
    for run, share in ((runs["sgd"], 0), (runs["sparsify"], 0.9)):
        zeros, sizes = np.sum([counts for name, counts in run["zeros_by_leaf"].items() if name != "head/kernel"], 0)
        assert sizes == SIZE
        if share:
            assert zeros == round(share * SIZE)
        assert run["zeros_by_leaf"]["head/kernel"] == [0, 80]
    products = 31**2 * 12 * 24 + 9 * (30**2 * 24 * 4 + 15**2 * 4**2 + 14**2 * 4 * 8 + (49 + 36 + 9) * 8**2) + 80
    assert {run["operations"] for run in runs.values()} == {6 * products * 2 * 1400}


@pytest.mark.robustness
def test_report_of_a_speedrun(record):
    report = (record / "out" / "report.md").read_text()
    header = next(line for line in report.splitlines() if "augmented" in line and line.startswith("|"))
    assert [cell.strip() for cell in header.strip("|").split("|")] == [
        "", "accuracy of u", "of u, augmented", "of w", "zeros, thresholded", "zeros, all", "PFLOP", "minutes", "cores",
        "seeds",
    ]  # fmt: skip
    assert "The test images are read once, after the last epoch" in report
