"""``--dry-run``, ``--json``, ``--version``, ``--help``."""

import dataclasses
import json
import subprocess
import sys
import types

import pytest

import rvsmjax
from experiments.cli import estimate as plan
from experiments.cli import main as cli
from experiments.cli import report as pages
from experiments.cli import runner as study
from experiments.cli.registry import commands
from experiments.records.folder import BadInput, DryRun
from experiments.studies.lenet.shrink.config import Lenet5ShrinkConfig, make_study


@pytest.fixture(autouse=True)
def no_set_up(monkeypatch):
    monkeypatch.setattr(cli, "prepare_jax", lambda precision: None)


@pytest.fixture
def a_record(monkeypatch):
    """Makes ``report`` accept any folder as a record."""
    monkeypatch.setattr(pages, "read_record", lambda folder: types.SimpleNamespace(command="sweep"))


@pytest.mark.parametrize("command", commands())
def test_a_dry_run_of_every_command_writes_nothing(command, a_record, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(study, "record", lambda *a, **k: pytest.fail("a record was started"))
    monkeypatch.chdir(tmp_path)
    arguments = [command, *["folder"] * (command == "report"), "--dry-run"]
    assert cli.main(arguments) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"{command}: nothing is run, nothing written\n  size ")
    assert len(shown.splitlines()) == 5
    assert cli.main([*arguments, "--json"]) == 0
    estimate = json.loads(capsys.readouterr().out)
    assert estimate.keys() == {field.name for field in dataclasses.fields(plan.Plan)}
    assert command == "cifar" or 0 <= estimate["seconds"] < 1e5
    assert not list(tmp_path.iterdir())


def test_a_dry_run_checks_the_flags(tmp_path, capsys):
    assert cli.main(["sweep", "--dry-run", "--lam", "-1"]) == cli.BAD_INPUT
    assert "--lam" in capsys.readouterr().err
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / f"{make_study(Lenet5ShrinkConfig())['dense'][0].name()}.json").write_text("[]")
    assert cli.main(["lenet5-shrink", "--dry-run", "--runs", str(tmp_path / "runs")]) == cli.BAD_INPUT


def planned(flags):
    config = cli.parse(flags.split())
    command = next(command for command in commands().values() if type(config) is command.config)
    with pytest.raises(DryRun) as dry_run:
        command.load()(config, cli.Console(quiet=True), cli.Clock())
    assert dry_run.value.command == command.name
    return command.workload(dry_run.value.config)


def test_a_sweep_of_twice_the_lanes_takes_twice_as_long():
    one, two = (planned(f"sweep --seeds {seeds} --dry-run") for seeds in (100_000, 200_000))
    assert one.size.startswith("6,000,000 lanes in ")
    assert one.seconds * 1.7 < two.seconds < one.seconds * 2
    assert two.disk_bytes == 2 * one.disk_bytes
    assert planned("sweep --dry-run").seconds < 60
    assert planned("sweep --precision float64 --dry-run").seconds > planned("sweep --dry-run").seconds


def test_finished_runs_cost_nothing_unless_their_weights_are_needed(tmp_path):
    flags = (
        f"lenet5-shrink --share 0.5 --seeds 1 --epochs 3 --find-epochs 5 --tune-epochs 7 --runs {tmp_path} --dry-run"
    )
    assert planned(flags).size == "3 runs, of which 0 are finished; 15 epochs to train"
    (dense,), *_ = make_study(cli.parse(flags.split())).values()
    finished = {"settings": {}, "curves": {}, "seconds_per_epoch": 2.0}
    (tmp_path / f"{dense.name()}.json").write_text(json.dumps(finished))
    assert planned(flags).size == "3 runs, of which 1 are finished; 15 epochs to train"
    (tmp_path / f"{dense.name()}.npz").touch()
    assert planned(flags).size == "3 runs, of which 1 are finished; 12 epochs to train"
    assert planned(flags).seconds == 5 + 2.0 * 12
    assert planned(f"{flags} --minutes 0.1").seconds == 6
    assert planned(f"{flags} --finished").seconds == 0


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "not known"),
        (0, "about 0 s"),
        (17, "about 17 s"),
        (300, "about 5 min"),
        (7e3, "about 1.9 h"),
        (1e6, "about 12 days"),
    ],
)
def test_durations(seconds, words):
    assert plan.duration(seconds) == words


def test_json_is_one_object_on_success_and_error(tmp_path, capsys):
    tiny = [
        "sweep",
        "--penalty",
        "l1",
        "--d",
        "2",
        "--k",
        "2",
        "--seeds",
        "3",
        "--json",
        "--out",
        str(tmp_path / "record"),
    ]
    assert cli.main(tiny) == 0
    captured = capsys.readouterr()
    record = json.loads(captured.out, parse_constant=lambda name: pytest.fail(name))
    assert (record["record"], record["lanes"], record["config"]["d"]) == (str(tmp_path / "record"), 3, [2])
    assert captured.err == ""
    assert cli.main(tiny) == cli.BAD_INPUT
    captured = capsys.readouterr()
    error = json.loads(captured.out)
    assert error["exit_code"] == cli.BAD_INPUT
    assert "--overwrite" in error["error"]
    assert error["error"] in captured.err


def test_ctrl_c_in_json(monkeypatch, capsys):
    def stop(*args):
        raise KeyboardInterrupt("checkpoints are saved")

    monkeypatch.setattr("experiments.studies.paper_figures.run.run", stop)
    assert cli.main(["figures", "--json"]) == cli.INTERRUPTED
    assert json.loads(capsys.readouterr().out) == {"error": "interrupted; checkpoints are saved", "exit_code": 130}


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"rvsmjax {rvsmjax.__version__}\n"


def test_help_lists_examples_and_commands(capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--help"], "rvsmjax")
    shown = capsys.readouterr().out
    assert "  rvsmjax sweep --quick " in shown
    assert all(f"• {command} " in shown for command in commands())
    assert "\x1b" not in shown


@pytest.mark.parametrize("command", commands())
def test_examples_of_the_help_are_accepted(command, a_record, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="0"):
        cli.main([command, "--help"], "rvsmjax")
    shown = capsys.readouterr().out
    examples = [line.split() for line in shown.splitlines() if line.startswith(f"  rvsmjax {command}")]
    assert examples
    for words in examples:
        config = cli.parse(words[1:])
        assert type(config) is commands()[command].config
        if "--dry-run" not in words:
            config = dataclasses.replace(config, dry_run=True)
        try:
            with pytest.raises(DryRun):
                commands()[command].load()(config, cli.Console(quiet=True), cli.Clock())
        except BadInput as error:
            pytest.fail(f"{' '.join(words)}: {error}")


@pytest.mark.robustness
def test_no_colour_but_on_a_terminal(tmp_path):
    program = [sys.executable, "-m", "experiments", "sweep", "--penalty", "l1", "--d", "2", "--k", "2", "--seeds", "3"]
    run = subprocess.run([*program, "--out", str(tmp_path / "r")], capture_output=True, text=True, check=True)
    assert "Record:" in run.stdout
    assert "\x1b" not in run.stdout + run.stderr


@pytest.mark.robustness
def test_a_closed_pipe_is_no_error(tmp_path):
    program = f"{sys.executable} -m experiments --help | head -n 1"
    run = subprocess.run(program, shell=True, capture_output=True, text=True, check=True)
    assert run.stdout.startswith("usage: ")
    assert run.stderr == ""
