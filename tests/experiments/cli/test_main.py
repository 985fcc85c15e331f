"""Outcomes of the command line: exit codes, one-line errors, no partial records."""

import json
import subprocess
import sys

import jax
import pytest

import rvsmjax.sweep
from experiments.cli import main as cli
from experiments.studies.sweep import report
from experiments.studies.sweep.config import SweepConfig


@pytest.fixture
def no_set_up(monkeypatch):
    """Keeps commands from changing JAX's settings for later tests."""
    monkeypatch.setattr(cli, "prepare_jax", lambda precision: None)


@pytest.fixture
def no_run(monkeypatch):
    monkeypatch.setattr(rvsmjax.sweep, "run_sweep", lambda *args, **kwargs: pytest.fail("the sweep ran"))


BAD = [
    ("--lam nan", ["lam", "nan"]),
    ("--lam -1", ["lam", "-1"]),
    ("--lam 1e-4 inf", ["lam", "inf"]),
    ("--beta 0", ["beta", "0"]),
    ("--beta nan", ["beta", "nan"]),
    ("--a 0", ["--a", "0"]),
    ("--k 0", ["--k", "0"]),
    ("--k 2.5", ["--k", "whole number", "2.5"]),
    ("--d 0", ["--d", "0"]),
    ("--d 10 x", ["--d", "whole number", "x"]),
    ("--d", ["--d", "at least one"]),
    ("--d 10 10", ["--d", "distinct"]),
    ("--penalty", ["--penalty", "at least one"]),
    ("--penalty l1 foo", ["--penalty", "l0", "l1", "tl1", "foo"]),
    ("--seeds 0", ["--seeds", "0"]),
    ("--seeds 1.5", ["--seeds", "whole number", "1.5"]),
    ("--seeds 4000000000", ["grid", "disk", "fit"]),
    ("--slab 0", ["--slab", "0"]),
    ("--processes 0", ["--processes", "0"]),
    ("--coordinator 127.0.0.1:1 --process 1", ["--process must be in [0, 1), got 1"]),
    ("--learning-rate 0", ["--learning-rate", "0"]),
    ("--learning-rate nan", ["--learning-rate", "nan"]),
    ("--normalize maybe", ["--normalize", "True or False", "maybe"]),
    ("--key -1", ["--key", "[0, 2**32)", "-1"]),
    ("--max-steps 99999999999", ["--max-steps", "2**31", "99999999999"]),
    ("--precision float16", ["--precision", "float32", "float16"]),
    ("--tol", ["--tol"]),
    ("--max-steps 0", ["--max-steps", "0"]),
    ("--tol 0", ["--tol", "0"]),
    ("--tol nan", ["--tol", "nan"]),
    ("--bogus 3", ["--bogus"]),
]


@pytest.mark.usefixtures("no_set_up")
@pytest.mark.parametrize(("flags", "words"), BAD)
def test_bad_input_is_one_line_and_leaves_nothing(flags, words, tmp_path, capsys):
    code = cli.main(["sweep", "--out", str(tmp_path / "a" / "record"), *flags.split()])
    captured = capsys.readouterr()
    assert code == 2
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert all(word in captured.err for word in words), captured.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("arguments", [[], ["swep"], ["figures", "--key", "1e3"], ["figures", "--d", "3"]])
def test_bad_command_is_one_line(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "40")
    assert cli.main(arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_errors_name_only_flags_of_the_command(tmp_path, monkeypatch, capsys):
    """``report`` has no flag ``--a``, unlike ``sweep``."""
    monkeypatch.chdir(tmp_path)
    assert cli.main(["report", "missing"]) == 2
    assert "a record must be" in (error := capsys.readouterr().err)
    assert "--a" not in error


@pytest.mark.usefixtures("no_set_up", "no_run")
@pytest.mark.parametrize("name", ["record", "file", "file/record"])
def test_folder_is_checked_before_computing(name, tmp_path, capsys):
    (tmp_path / "record").mkdir()
    (tmp_path / "record" / "config.json").write_text("{}")
    (tmp_path / "file").write_text("")
    assert cli.main(["sweep", "--quick", "--out", str(tmp_path / name)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "--out" in error
    assert name in error
    assert (tmp_path / "record" / "config.json").read_text() == "{}"


@pytest.mark.usefixtures("no_set_up")
def test_ctrl_c_is_one_line_and_leaves_nothing(tmp_path, monkeypatch, capsys):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(rvsmjax.sweep, "run_sweep", interrupted)
    assert cli.main(["sweep", "--quick", "--out", str(tmp_path / "a" / "record")]) == 130
    assert capsys.readouterr().err.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("no_set_up")
def test_flags_reach_the_library(tmp_path, monkeypatch):
    seen = {}

    def stop(grid, key, **kwargs):
        seen.update(kwargs, grid=grid, key=key)
        raise KeyboardInterrupt

    monkeypatch.setattr(rvsmjax.sweep, "run_sweep", stop)
    flags = "--penalty tl1 --a 2 3 --d 4 --k 5 --lam 6e-4 --beta 7e-3 --learning-rate 0.1 --normalize False --seeds 8"
    more = "--tol 9e-5 --max-steps 90 --key 10 --precision float64"
    cli.main(["sweep", *flags.split(), *more.split(), "--out", str(tmp_path / "record")])
    grid = seen["grid"]
    assert [(penalty.name, penalty.a) for penalty in grid.penalty] == [("tl1", 2.0), ("tl1", 3.0)]
    assert (grid.d, grid.k, grid.lam, grid.beta) == ((4,), (5,), (6e-4,), (7e-3,))
    assert (grid.learning_rate, grid.normalize, len(grid.seeds)) == ((0.1,), (False,), 8)
    assert (seen["tol"], seen["max_steps"], seen["dtype"]) == (9e-5, 90, "float64")
    assert seen["key"] == jax.random.key(10)


@pytest.mark.usefixtures("no_set_up")
def test_an_internal_error_is_no_bad_input_and_leaves_nothing(tmp_path, monkeypatch):
    def broken(*args):
        raise ValueError("internal")

    monkeypatch.setattr(report, "sweep_sections", broken)
    tiny = ["sweep", "--penalty", "l1", "--d", "2", "--k", "2", "--seeds", "3", "--quiet"]
    with pytest.raises(ValueError, match="internal"):
        cli.main([*tiny, "--out", str(tmp_path / "record")])
    assert not list(tmp_path.iterdir())


def test_quick_changes_only_sizes_and_flags_override_it():
    quick, full = cli.parse(["sweep", "--quick"]), cli.parse(["sweep"])
    changed = {name for name in full.__dataclass_fields__ if getattr(quick, name) != getattr(full, name)}
    assert changed == {"d", "k", "seeds", "quick"}
    assert cli.parse(["sweep", "--quick", "--d", "7"]).d == (7,)


def test_tolerance_follows_the_precision_unless_given():
    def tol(flags):
        return cli.parse(["sweep", *flags.split()]).resolved().tol

    assert (tol(""), tol("--precision float64"), tol("--precision float64 --tol 1e-3")) == (1e-6, 1e-12, 1e-3)


def test_help_names_every_flag(capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main(["sweep", "--help"])
    shown = capsys.readouterr().out
    flags = [f"--{name.replace('_', '-')}" for name in SweepConfig.__dataclass_fields__]
    assert all(flag in shown for flag in flags)


@pytest.mark.robustness
def test_program_runs_in_float64_on_every_core(tmp_path):
    flags = ["--penalty", "l1", "--d", "3", "--k", "2", "--seeds", "20", "--precision", "float64"]
    program = [sys.executable, "-m", "experiments", "sweep", *flags, "--out", str(tmp_path / "record")]
    run = subprocess.run(program, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    config = json.loads((tmp_path / "record" / "config.json").read_text())
    assert config["config"]["tol"] == 1e-12
    assert config["status"]["converged"] == 20
    if config["devices"][0].startswith("cpu"):
        assert len(config["devices"]) == config["cores"]
    lines = (tmp_path / "record" / "summary.csv").read_text().splitlines()
    residual = next(line.split(",") for line in lines if ",residual," in line)
    assert float(residual[-2]) < 1e-11
