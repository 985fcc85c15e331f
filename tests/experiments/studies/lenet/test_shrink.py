"""The study of a smaller LeNet through the command line: small, on the digits."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import rvsmjax as rv
from experiments.cli import main as cli
from experiments.studies.lenet.compress.config import Lenet5CompressConfig
from experiments.studies.lenet.compress.config import make_study as make_compress
from experiments.studies.lenet.shrink.config import DENSE, TUNED, Lenet5ShrinkConfig, entry, make_study
from experiments.studies.lenet.shrink.report import choose
from experiments.training.inference import sizes, times
from rvsmjax.nets import LeNet

pytest.importorskip("safetensors")


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shrink")
    arguments = ["lenet5-shrink", "--quick", "--epochs", "1", "--find-epochs", "1", "--share", "0.5", "0.8"]
    arguments += ["--runs", str(folder / "runs"), "--out", str(folder / "record"), "--quiet"]
    assert cli.main(arguments) == 0
    return folder / "record"


@pytest.mark.robustness
def test_the_record(record):
    facts = json.loads((record / "config.json").read_text())
    assert facts["runs"] == 5
    smaller = facts["smaller"]
    assert [one["widths"] for one in smaller["seeds"]] == [[10, 25, 250], [4, 10, 100]]
    for one in smaller["seeds"]:
        assert one["answers_that_differ"] == 0
        assert one["scores_differ_by"] < 1e-5 * one["largest_score"]
    numbers = [size["numbers"] for size in smaller["sizes"].values()]
    assert numbers == sorted(numbers, reverse=True)
    assert numbers[0] == numbers[1] == 431_080
    assert smaller["sizes"]["with zeros"]["bytes as npz"] < 0.9 * smaller["sizes"]["dense"]["bytes as npz"]
    report = (record / "report.md").read_text()
    assert "5 of 5 runs are finished" in report
    assert f"| 80 % of units out{' (chosen)' * (smaller['chosen'] == 0.8)} | 4-10-100 |" in report


@pytest.mark.robustness
def test_the_smaller_network_loads_from_its_file(record):
    widths = {0.5: (10, 25, 250), 0.8: (4, 10, 100)}[
        json.loads((record / "config.json").read_text())["smaller"]["chosen"]
    ]
    network = LeNet(widths=widths, rngs=nnx.Rngs(0))
    like = nnx.to_pure_dict(nnx.state(network, nnx.Param))
    params = rv.load_npz(record / "small.npz", like)
    same = rv.load_safetensors(record / "small.safetensors", like)
    jax.tree.map(np.testing.assert_array_equal, params, same)
    graph, _ = nnx.split(network, nnx.Param)
    scores = nnx.merge(graph, params)(jnp.zeros((1, 28, 28, 1)))
    assert np.isfinite(np.asarray(scores)).all()


def test_dense_networks_are_those_of_lenet5_compress():
    ours, theirs = make_study(Lenet5ShrinkConfig()), make_compress(Lenet5CompressConfig())
    assert [run.name() for run in ours[DENSE]] == [run.name() for run in theirs["dense"]]


def test_validation_chooses_the_largest_acceptable_share():
    config = Lenet5ShrinkConfig(share=(0.5, 0.7, 0.8), loss=0.2, seeds=2)

    def runs(*accuracies):
        return [{"settings": {"seed": s} if s else {}, "validation_accuracy_u": a} for s, a in enumerate(accuracies)]

    outcomes = {DENSE: runs(0.99, 0.992), entry(TUNED, 0.5): runs(0.991, 0.99), entry(TUNED, 0.7): runs(0.987, 0.991)}
    outcomes[entry(TUNED, 0.8)] = runs(0.985, 0.989)
    assert choose(outcomes, config) == 0.7
    assert choose(outcomes | {entry(TUNED, 0.8): []}, config) == 0.7
    assert choose(outcomes | {DENSE: runs(1.0, 1.0)}, config) == 0.5


def test_times_of_every_repeat_and_network():
    small, large = (LeNet(widths=widths, rngs=nnx.Rngs(0)) for widths in [(1, 1, 1), (40, 100, 1000)])
    seconds = times({"small": small, "large": large}, jnp.zeros((50, 28, 28, 1)), 7)
    assert {name: row.shape for name, row in seconds.items()} == {"small": (7,), "large": (7,)}
    assert np.median(seconds["small"]) < np.median(seconds["large"])


def test_sizes_are_counted():
    kernel = jnp.zeros((10, 10)).at[3, 4].set(1)
    size = sizes({"kernel": kernel, "bias": jnp.zeros(5)})
    assert size["numbers"] == 105
    assert size["bytes"] == 420
    assert size["bytes as BCOO"] == 20 + 4 + 2 * 4
    assert size["bytes as npz"] < 1000


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--share 1", "--share must be in (0, 1), got 1"),
        ("--share 0.5 0.5", "--share must hold distinct values, at least one, got [0.5, 0.5]"),
        ("--loss -1", "--loss must be >= 0, got -1"),
        ("--repeats 0", "--repeats must be a whole number >= 1, got 0"),
        ("--images 0 64", "--images must be whole numbers >= 1, got 0"),
    ],
)
def test_bad_input(flags, message, refused):
    assert message in refused("lenet5-shrink", flags)
