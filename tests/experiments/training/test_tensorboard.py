"""Logs of trainings: the numbers of every epoch under the name of the run; a missing package is one line."""

import importlib.machinery
import struct
import sys
import types

import pytest

from experiments.cli import main as cli
from experiments.data import images
from experiments.data.labelled import Labelled
from experiments.records.tensorboard import Logs
from experiments.studies.lenet.recipes import LeNetRecipe
from experiments.training.run_store import Runs

RECIPE = LeNetRecipe(
    activation="relu",
    learning_rate=0.05,
    epochs=2,
    batch=25,
    data="digits",
    method="rvsm",
    penalty="l0",
    lam=1e-4,
    beta=0.5,
)


@pytest.fixture(scope="module")
def data():
    whole = images.load("digits")
    return images.Data(*(Labelled(part.images[:100], part.labels[:100]) for part in whole))


class Writer:
    """Stands in for that of the package."""

    def __init__(self, folder):
        self.folder, self.closed = folder, False
        WRITERS.append(self)
        self.rows = {}

    def add_scalar(self, name, number, step):
        assert not self.closed
        self.rows.setdefault(step, {})[name] = number

    def close(self):
        self.closed = True


WRITERS = []


@pytest.fixture
def writers(monkeypatch):
    package = types.ModuleType("tensorboardX")
    package.__spec__ = importlib.machinery.ModuleSpec("tensorboardX", None)
    package.SummaryWriter = Writer
    monkeypatch.setitem(sys.modules, "tensorboardX", package)
    WRITERS.clear()
    return WRITERS


def test_each_epoch_and_the_splitting(tmp_path, data, writers):
    with Logs(tmp_path / "logs") as logs:
        result = Runs(tmp_path / "runs", lambda: data, logs=logs).result(RECIPE)
    (writer,) = writers
    assert writer.folder == str(tmp_path / "logs" / RECIPE.name())
    assert writer.closed
    assert list(writer.rows) == [1, 2]
    for step, numbers in writer.rows.items():
        assert all(isinstance(number, float) for number in numbers.values())
        for name, curve in result["curves"].items():
            assert numbers[name] == pytest.approx(curve[step - 1], abs=1e-5)
        assert (numbers["lam"], numbers["beta"]) == pytest.approx((1e-4, 0.5))
        assert 0 < numbers["gap"] < 1
    last = {name.removeprefix("zeros/"): n for name, n in writer.rows[2].items() if name.startswith("zeros/")}
    assert last == pytest.approx({name: zeros / size for name, (zeros, size) in result["zeros_by_leaf"].items()})


def test_without_logs_nothing_is_written(tmp_path, data, writers):
    Runs(tmp_path, lambda: data).result(RECIPE)
    assert writers == []


@pytest.mark.robustness
def test_the_flag(tmp_path, writers):
    arguments = ["lenet-binary", "--quick", "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out"), "--quiet"]
    assert cli.main([*arguments, "--tensorboard", str(tmp_path / "logs")]) == 0
    runs = {path.stem for path in (tmp_path / "runs").glob("*.json")}
    assert {writer.folder for writer in writers} == {str(tmp_path / "logs" / name) for name in runs}
    assert len(runs) == 3
    assert all(writer.closed and writer.rows for writer in writers)


def test_a_missing_package_is_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    arguments = ["lenet-binary", "--quick", "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]
    assert cli.main([*arguments, "--tensorboard", str(tmp_path)]) == cli.BAD_INPUT
    wanted = "--tensorboard needs tensorboardX, which comes with: pip install 'rvsmjax[experiments]'"
    assert capsys.readouterr().err.rstrip().endswith(wanted)
    assert not (tmp_path / "runs").exists()


def test_the_files_can_be_read(tmp_path, data):
    pytest.importorskip("tensorboardX")
    from tensorboardX.proto.event_pb2 import Event

    with Logs(tmp_path / "logs") as logs:
        result = Runs(tmp_path / "runs", lambda: data, logs=logs).result(RECIPE)
    (path,) = (tmp_path / "logs" / RECIPE.name()).iterdir()
    written, found = path.read_bytes(), {}
    while written:  # length, its checksum, an event, its checksum
        (length,) = struct.unpack("<Q", written[:8])
        event = Event.FromString(written[12 : 12 + length])
        found |= {(value.tag, event.step): value.simple_value for value in event.summary.value}
        written = written[16 + length :]
    for step in (1, 2):
        assert found["loss", step] == pytest.approx(result["curves"]["loss"][step - 1], abs=1e-5)
        assert found["beta", step] == 0.5
