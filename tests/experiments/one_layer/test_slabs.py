"""A sweep in slabs: after any interruption, the same files as without one."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import rvsmjax.sweep
from experiments.cli import main as cli
from experiments.cli import runner as study
from experiments.one_layer import output
from experiments.records import zarr_store as store
from experiments.records.folder import DONE, BadInput

FLAGS = ["sweep", "--penalty", "l0", "tl1", "--d", "4", "--k", "1", "2", "--seeds", "70", "--slab", "80", "--quiet"]
"""Four slabs, of one k and 35 seeds each."""


@pytest.fixture(autouse=True)
def no_set_up(monkeypatch):
    monkeypatch.setattr(cli, "prepare_jax", lambda precision: None)


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "record"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli, "prepare_jax", lambda precision: None)
        assert cli.main([*FLAGS, "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def stopped(tmp_path, monkeypatch):
    """The folder of a record whose command was interrupted in its third slab."""
    real, calls = rvsmjax.sweep.run_sweep, []

    def run(*args, **kwargs):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(rvsmjax.sweep, "run_sweep", run)
        assert cli.main([*FLAGS, "--out", str(tmp_path / "record")]) == cli.INTERRUPTED
    assert [path.name for path in tmp_path.iterdir()] == [".record.unfinished"]
    return tmp_path / "record"


def test_data_and_statistics_match_a_single_slab(whole, tmp_path):
    assert cli.main([*FLAGS, "--slab", "1000", "--out", str(tmp_path / "record")]) == 0
    ours, theirs = (xr.open_zarr(folder / "data.zarr").load() for folder in (whole, tmp_path / "record"))
    assert ours.identical(theirs)
    assert ours.sizes["seed"] == 70
    tables = [pd.read_csv(folder / "summary.csv") for folder in (whole, tmp_path / "record")]
    pd.testing.assert_frame_equal(*tables, rtol=1e-12)  # sums in another order
    config = json.loads((whole / "config.json").read_text())
    assert config["lanes"] == sum(config["status"].values()) == 280
    assert config["steps"]["needed"] == int(ours.steps.sum())
    assert not list(whole.parent.glob(".*"))
    assert {path.name for path in whole.iterdir()} == {path.name for path in (tmp_path / "record").iterdir()}


def test_resuming_gives_the_same_files(whole, stopped, monkeypatch, capsys):
    real, calls = rvsmjax.sweep.run_sweep, []
    monkeypatch.setattr(rvsmjax.sweep, "run_sweep", lambda *a, **k: calls.append(1) or real(*a, **k))
    check, checked = store.Store.check, []
    monkeypatch.setattr(store.Store, "check", lambda *args: checked.append(1) or check(*args))
    assert cli.main([*FLAGS, "--out", str(stopped)]) == 0
    assert len(calls) == len(checked) == 2  # slabs of the same process are not checked
    assert files(stopped / "data.zarr") == files(whole / "data.zarr")
    assert (stopped / "summary.csv").read_bytes() == (whole / "summary.csv").read_bytes()
    assert [path.name for path in stopped.parent.iterdir()] == ["record"]
    config = json.loads((stopped / "config.json").read_text())
    assert config["steps"] == json.loads((whole / "config.json").read_text())["steps"]


def test_ctrl_c_reports_what_is_saved(stopped, capsys, monkeypatch):
    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(rvsmjax.sweep, "run_sweep", stop)
    assert cli.main([*FLAGS, "--out", str(stopped)]) == cli.INTERRUPTED
    assert "interrupted; finished slabs are saved" in capsys.readouterr().err


@pytest.mark.robustness
def test_an_interrupted_report_resumes_without_lanes(whole, tmp_path, monkeypatch, capsys):
    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    for module, name in ((output, "to_frame"), (output, "save"), (study, "write_config")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, stop)
            assert cli.main([*FLAGS, "--out", str(tmp_path / "record")]) == cli.INTERRUPTED
        assert "interrupted; finished slabs are saved" in capsys.readouterr().err
        monkeypatch.setattr(rvsmjax.sweep, "run_sweep", lambda *args, **kwargs: pytest.fail("lanes ran again"))
    assert cli.main([*FLAGS, "--out", str(tmp_path / "record")]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["record"]
    ours, theirs = files(tmp_path / "record"), files(whole)
    assert ours.keys() == theirs.keys()
    for name in (name for name in ours if name == "summary.csv" or name.startswith("data.zarr")):
        assert ours[name] == theirs[name], name


@pytest.mark.robustness
def test_without_out_the_same_command_resumes_its_folder(whole, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    real, calls = rvsmjax.sweep.run_sweep, []

    def run(*args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(rvsmjax.sweep, "run_sweep", run)
    assert cli.main(FLAGS) == cli.INTERRUPTED
    (left,) = (tmp_path / "results").iterdir()
    assert cli.main([*FLAGS, "--key", "5"]) == 0  # another sweep, another folder
    assert left.exists()
    calls[:] = [1, 1, 1]
    assert cli.main(FLAGS) == 0
    assert len(calls) == 3 + 3
    assert not left.exists()
    finished = tmp_path / "results" / left.name.removeprefix(".").removesuffix(".unfinished")
    assert files(finished / "data.zarr") == files(whole / "data.zarr")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--key", "1"], "--key must be 0 as in the run in "),
        (["--seeds", "60"], "--seeds must be 70 as in the run in "),
        (["--lam", "1e-3"], "--lam must be [0.0001] as in the run in "),
        (["--slab", "40"], "--slab must be 80 as in the run in "),
    ],
)
def test_another_configuration_is_refused(stopped, flags, message, capsys):
    before = files(stopped.parent)
    assert cli.main([*FLAGS, *flags, "--out", str(stopped)]) == cli.BAD_INPUT
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert files(stopped.parent) == before


@pytest.mark.robustness
def test_overwrite_starts_again(stopped, whole):
    assert cli.main([*FLAGS, "--key", "1", "--overwrite", "--out", str(stopped)]) == 0
    assert json.loads((stopped / "config.json").read_text())["config"]["key"] == 1
    assert files(stopped / "data.zarr") != files(whole / "data.zarr")


def test_a_folder_in_use_is_refused(stopped, capsys):
    from experiments.records.folder import alone

    with alone(stopped.parent / ".record.unfinished") as held:
        assert held
        assert cli.main([*FLAGS, "--out", str(stopped)]) == cli.BAD_INPUT
    assert "--out must not be in use by another process, got " in capsys.readouterr().err
    assert cli.main([*FLAGS, "--out", str(stopped)]) == 0


@pytest.mark.parametrize(
    "wrong",
    [
        "cut short",
        pytest.param("other bytes", marks=pytest.mark.robustness),
        pytest.param("gone", marks=pytest.mark.robustness),
    ],
)
def test_altered_data_are_reported_and_recomputed(stopped, whole, wrong, capsys):
    chunk = sorted((stopped.parent / ".record.unfinished" / "data.zarr" / "theta_u").glob("[0-9]*"))[0]
    data = chunk.read_bytes()
    if wrong == "gone":
        chunk.unlink()
    else:
        chunk.write_bytes(data[:-9] if wrong == "cut short" else bytes([*data[:-9], *(255 - b for b in data[-9:])]))
    assert cli.main([*FLAGS, "--out", str(stopped)]) == cli.BAD_INPUT
    error = capsys.readouterr().err
    assert "data.zarr must hold the data as written, got other bytes in " in error
    assert error.count("\n") == 1
    assert not stopped.exists()
    assert cli.main([*FLAGS, "--out", str(stopped)]) == 0
    assert files(stopped / "data.zarr") == files(whole / "data.zarr")


def test_a_full_disk_is_reported_and_partial_slabs_are_discarded(whole, tmp_path, monkeypatch, capsys):
    import zarr

    real, writes = zarr.Array.__setitem__, []

    def full(self, where, values):
        writes.append(1)
        if len(writes) == 32:
            raise OSError(28, "No space left on device")
        real(self, where, values)

    with monkeypatch.context() as patch:
        patch.setattr(zarr.Array, "__setitem__", full)
        assert cli.main([*FLAGS, "--out", str(tmp_path / "record")]) == cli.BAD_INPUT
    error = capsys.readouterr().err
    assert "could not be written (No space left on device); finished slabs are saved" in error
    assert error.count("\n") == 1
    marks = [path.name for path in (tmp_path / ".record.unfinished" / "done").iterdir()]
    assert len(marks) == 2  # one slab, and the mark of the arrays
    assert cli.main([*FLAGS, "--out", str(tmp_path / "record")]) == 0
    assert files(tmp_path / "record" / "data.zarr") == files(whole / "data.zarr")


def disk(total, free):
    return lambda path: shutil._ntuple_diskusage(total, total - free, free)


@pytest.mark.parametrize(("total", "free"), [(20_000, 20_000), (30_000, 20_000)])
def test_a_disk_too_small_is_reported_at_once(tmp_path, monkeypatch, capsys, total, free):
    monkeypatch.setattr(shutil, "disk_usage", disk(total, free))
    monkeypatch.setattr(rvsmjax.sweep, "run_sweep", lambda *args, **kwargs: pytest.fail("the sweep ran"))
    assert cli.main([*FLAGS, "--out", str(tmp_path / "a" / "record")]) == cli.BAD_INPUT
    assert "grid must fit on the disk: 280 lanes need up to 0 GB, got 0 GB of " in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_disk_needs_room_only_for_missing_slabs(stopped, monkeypatch, capsys):
    monkeypatch.setattr(shutil, "disk_usage", disk(30_000, 13_000))
    assert cli.main([*FLAGS, "--out", str(stopped)]) == cli.BAD_INPUT
    assert "grid must fit on the disk: 140 lanes need up to 0 GB, got 0 GB of free space" in capsys.readouterr().err
    monkeypatch.setattr(shutil, "disk_usage", disk(30_000, 14_000))
    assert cli.main([*FLAGS, "--out", str(stopped)]) == 0


def test_unfinished_arrays_are_created_again(tmp_path):
    labels = xr.Dataset(coords={"penalty": ["l0"], "seed": [0, 1]}, attrs={"tol": 1.0})
    shape = {"penalty": 1, "seed": 2}
    (tmp_path / store.DATA).mkdir()
    (tmp_path / store.DATA / "half").touch()
    slab = {"penalty": slice(0, 1), "seed": slice(1, 2)}
    first = store.Store(tmp_path, labels, shape, {"penalty": 1, "seed": 1})
    first.write(slab, {"x": np.array([[3]], np.int8)}, {"seconds": 2.0})
    assert not (tmp_path / store.DATA / "half").exists()
    again = store.Store(tmp_path, labels, shape, {"penalty": 1, "seed": 1})
    assert again.done(slab)
    assert not again.done({"penalty": slice(0, 1), "seed": slice(0, 1)})
    assert again.check(slab) == {"seconds": 2.0}
    assert again.lanes().x.values.tolist()[0][1] == 3
    (tmp_path / DONE).rename(tmp_path / "elsewhere")
    (tmp_path / DONE).touch()
    with pytest.raises(BadInput, match=r"could not be written"):
        again.write(slab, {"x": np.array([[3]], np.int8)}, {})
