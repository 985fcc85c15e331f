"""The LeNet studies through the command line: small, on the digits and, if a folder has it, on MNIST."""

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from experiments.cli import main as cli
from experiments.data import datasets
from experiments.studies.cifar import config as cifar
from experiments.studies.cifar.config import CifarConfig
from experiments.studies.lenet.binary import config as lenet_binary
from experiments.studies.lenet.binary import report as lenet_binary_report
from experiments.studies.lenet.binary.config import LenetBinaryConfig
from experiments.studies.lenet.compress import config as lenet_compress
from experiments.studies.lenet.compress.config import Lenet5CompressConfig, make_study
from experiments.studies.lenet.records import config as lenet_records
from experiments.studies.lenet.records.config import LenetRecordsConfig
from experiments.training import report as training_report
from experiments.training.run_store import read
from experiments.training.study import KEPT

COMMANDS = {
    "table": (["lenet-binary"], 3),
    "best": (["lenet-binary", "--best"], 3),
    "compress": (["lenet5-compress"], 5),
    "records": (["lenet-records"], 3),
}
SOURCES = [
    "digits",
    pytest.param("mnist", marks=pytest.mark.skipif(not os.environ.get(datasets.VARIABLE), reason="no folder")),
]


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Returns a function that runs a command once at small size and returns its record."""
    folder, finished = tmp_path_factory.mktemp("lenet"), {}

    def run(name, *more):
        key = (name, more)
        if key not in finished:
            out = folder / f"{name}{len(finished)}"
            arguments = [*COMMANDS[name][0], "--quick", "--runs", str(folder / "runs"), "--out", str(out), *more]
            assert cli.main([*arguments, "--quiet"]) == 0
            finished[key] = out
        return finished[key]

    return run


@pytest.mark.robustness
@pytest.mark.parametrize(
    "name", ["table", *(pytest.param(name, marks=pytest.mark.slow) for name in ("best", "compress", "records"))]
)
def test_quick(name, records):
    out, (_, count) = records(name), COMMANDS[name]
    runs = pd.read_csv(out / "runs.csv")
    assert len(runs) == json.loads((out / "config.json").read_text())["runs"] == count
    assert runs.test_accuracy_u.between(0, 1).all()
    report = (out / "report.md").read_text()
    assert f"{count} of {count} runs are finished" in report
    for picture in out.glob("*.png"):
        assert picture.name in report
        assert np.ptp(Image.open(picture)) > 127
    for digits in (f"{100 * runs.test_accuracy_u.iloc[-1]:.2f}", f"{100 * runs.zeros.iloc[-1]:.2f}"):
        assert digits in report


@pytest.mark.robustness
def test_a_second_command_trains_nothing(records, monkeypatch):
    old = records("table")
    monkeypatch.setattr("experiments.training.run_store.fit", lambda *a, **k: pytest.fail("trained again"))
    monkeypatch.setattr("experiments.data.images.load", lambda *a, **k: pytest.fail("images read"))
    again = records("table", "--finished")
    assert not (again / "runs.csv").samefile(old / "runs.csv")
    assert (again / "runs.csv").read_text() == (old / "runs.csv").read_text()
    assert (again / "curves.png").read_bytes() == (old / "curves.png").read_bytes()


@pytest.mark.robustness
@pytest.mark.skipif(not os.environ.get(datasets.VARIABLE), reason="no folder of MNIST")
def test_on_mnist(tmp_path):
    arguments = ["lenet5-compress", "--quick", "--data", "mnist", "--epochs", "1", "--methods", "magnitude"]
    assert cli.main([*arguments, "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out"), "--quiet"]) == 0
    runs = pd.read_csv(tmp_path / "out" / "runs.csv")
    assert runs.test_accuracy_u.min() > 0.9


@pytest.mark.slow
def test_out_of_time_leaves_no_record_and_resumes(tmp_path, capsys):
    arguments = ["lenet-binary", "--quick", "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out"), "--quiet"]
    assert cli.main([*arguments, "--minutes", "1e-6"]) == cli.BAD_INPUT
    assert "--minutes must leave time" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert [path.name for path in (tmp_path / "runs").rglob("metrics.jsonl")] == ["metrics.jsonl"]
    assert cli.main(arguments) == 0


def test_ctrl_c_reports_what_is_saved(tmp_path, capsys, monkeypatch):
    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("experiments.training.run_store.fit", stop)
    arguments = ["lenet-binary", "--quick", "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]
    assert cli.main(arguments) == cli.INTERRUPTED
    assert "interrupted; checkpoints are saved" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lenet-binary", "--epochs", "0"], "--epochs must be a whole number >= 1, got 0"),
        (["lenet-binary", "--lam", "0"], "--lam must be > 0, got 0"),
        (["lenet-binary", "--lam", "1", "1"], "--lam must hold distinct values, at least one, got [1.0, 1.0]"),
        (["lenet-binary", "--other-epochs", "-1"], "--other-epochs must be >= 0, got -1"),
        (["lenet-binary", "--best-epochs", "0"], "--best-epochs must be a whole number >= 1, got 0"),
        (["lenet-binary", "--finished"], "--finished needs a finished run, got none in"),
        (["lenet-binary", "--minutes", "0"], "--minutes must be > 0, got 0"),
        (["lenet-binary", "--data", "cifar"], "--data must be one of mnist, digits, got 'cifar'"),
        (["lenet-binary", "--quick", "--batch", "2000"], "--batch must be in [1, 1,137], the training images, got "),
        (["lenet5-compress", "--sparsity", "1"], "--sparsity must be in (0, 1), got 1"),
        (["lenet5-compress", "--tune-epochs", "0"], "--tune-epochs must be a whole number >= 1, got 0"),
        (["lenet-records", "--methods", "svd"], "--methods must be one of sparsify, sparsify-unshifted, "),
        (["lenet-records", "--network", "lenet"], "--network must be one of lenet-300-100, lenet-5, got 'lenet'"),
        (["lenet-records", "--network", "lenet-5", "--times", "68"], "--times must hold a size of lenet-5, got [68]"),
        (["lenet-records", "--epochs", "1"], "--epochs must be >= 2, with fine-tuning, got 1"),
        (["lenet5-compress", "--methods", "svd"], "--methods must be one of rvsm-top-k, rvsm-l0, rvsm-tl1, admm, magn"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_bad_input(arguments, message, tmp_path, capsys):
    assert cli.main([*arguments, "--out", str(tmp_path / "out"), "--runs", str(tmp_path / "runs")]) == cli.BAD_INPUT
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_missing_images_are_named(tmp_path, capsys):
    arguments = [
        "lenet-binary",
        "--data-dir",
        str(tmp_path),
        "--out",
        str(tmp_path / "out"),
        "--runs",
        str(tmp_path / "r"),
    ]
    assert cli.main(arguments) == cli.BAD_INPUT
    assert "train-images-idx3-ubyte.gz is missing in" in capsys.readouterr().err


def outcome(u, zeros=0.0, **settings):
    """Returns a synthetic finished run."""
    leaf = [round(zeros * 1000), 1000]
    curves = {name: [0.5, u] for name in ("loss", "train_accuracy", "accuracy_w", "accuracy_u", "zeros")}
    measures = dict.fromkeys(("test_accuracy_w", "validation_accuracy_u", "validation_accuracy_w"), u)
    layers = {"conv1/kernel": leaf, "dense1/kernel": leaf}
    return {
        "settings": settings, "test_accuracy_u": u, **measures, "zeros": zeros, "zeros_by_leaf": layers,
        "seconds_per_epoch": 2.0, "curves": curves,
    }  # fmt: skip


def test_the_verdict_on_the_papers_table():
    config = LenetBinaryConfig()
    study = lenet_binary.table_1(config)
    outcomes = {label: [] for label in study}
    outcomes["base"] = [outcome(0.97), outcome(0.95)]
    outcomes["group l1, λ = 0.001"] = [outcome(0.9, 0.5)]
    outcomes[lenet_binary.UNITS] = [outcome(0.86, 0.85), outcome(0.88, 0.85)]
    text = " ".join(
        str(block) for section in lenet_binary_report.sections(study, outcomes, config) for block in section.blocks
    )
    assert "base: reached by base" in text
    assert "33.31 % of zeros: reached by group l1, λ = 0.001. " in text  # top-k has 87.00, under 87.17
    assert "66.67 % of zeros: reached by group top-k" in text
    assert "zeros printed for λ = 0.001 do not come about" in text
    assert "96.00 ± 1.41" in text
    assert f"5 of {sum(map(len, study.values()))} runs are finished. The same command goes on" in text


def test_the_verdict_on_compression():
    config = Lenet5CompressConfig()
    study = make_study(config)
    assert len(study["dense"]) == 3
    assert {len(group) for label, group in study.items() if "99.4" in label} == {1}
    outcomes = {label: [outcome(0.99, 0.986)] * len(group) for label, group in study.items()}
    outcomes[f"rvsm-l0, {lenet_compress.TUNED}, 98.6 %"] = [outcome(0.9945, 0.986)]
    from experiments.studies.lenet.compress.report import sections

    text = " ".join(str(block) for section in sections(study, outcomes, config) for block in section.blocks)
    assert "98.6 %: rvsm-l0 99.45%, the best other, admm, 99.00%; asked 99.2%: reached" in text
    assert "71.4" in text


SPEEDRUN = CifarConfig(
    net="quick", preset="speedrun", dtype="bfloat16", method=("sgd", "sparsify"), sparsity=(0.9, 0.95)
)
LONGER = dataclasses.replace(SPEEDRUN, method=("sparsify",), epochs=18)


def test_published_runs_belong_to_a_study():
    """Published runs are those of the commands at their defaults, and of the speedrun."""
    studies = [
        lenet_binary.table_1(LenetBinaryConfig()),
        lenet_binary.best(LenetBinaryConfig()),
        make_study(Lenet5CompressConfig()),
        lenet_records.make_study(LenetRecordsConfig()),
        cifar.make_study(cifar.settled(CifarConfig(net="slim", preset="short"))),
        cifar.make_study(cifar.settled(SPEEDRUN)),
        cifar.make_study(cifar.settled(LONGER)),
    ]
    recipes = {recipe.name(): recipe for study in studies for group in study.values() for recipe in group}
    kept = list(KEPT.glob("*.json"))
    assert kept
    for path in kept:
        assert read(path)["settings"] == recipes[path.stem].settings()
        assert len(read(path)["curves"]["zeros"]) == recipes[path.stem].epochs


def test_percent():
    assert training_report.percent([]) == "not yet run"
    assert training_report.percent([0.5]) == "50.00"
    assert training_report.percent([0.5, 0.52]) == "51.00 ± 1.41"
    assert training_report.share([(1, 4), (3, 4)]) == 0.5


@pytest.mark.parametrize(
    "arguments", [["lenet-binary"], ["lenet-binary", "--best"], ["lenet5-compress"], ["lenet-records"]], ids=" ".join
)
def test_the_page_has_the_tables_of_the_published_runs(arguments, tmp_path):
    page = Path(__file__).parents[4] / "docs" / "lenet.md"
    again = tmp_path / "lenet.md"
    again.write_bytes(page.read_bytes())
    arguments = [*arguments, "--finished", "--quiet", "--docs", str(again), "--out", str(tmp_path / "out")]
    assert cli.main(arguments) == 0
    assert again.read_text() == page.read_text()
