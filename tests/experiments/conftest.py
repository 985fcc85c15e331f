"""A made-up sweep, and one real small record that several tests read."""

import contextlib
import io
import types

import numpy as np
import pytest
import xarray as xr
from PIL import Image

from experiments.cli import main as cli
from experiments.one_layer import output
from experiments.records.folder import write_config
from experiments.reports import html_page as page
from experiments.reports.document import Section, Table
from experiments.studies.sweep import report

FLOATS = [
    *["theta_w", "f_w", "theta_u", "f_u", "f_u_unit", "gamma", "dist_w"],
    *["residual", "slack_13", "slack_14", "lagrangian"],
]
DIMS = ["penalty", "d", "k", "lam", "beta", "learning_rate", "normalize", "seed"]


@pytest.fixture(scope="session")
def make_lanes():
    """Returns a function that makes up a sweep: random numbers under the labels of a real one."""

    def make(
        penalty=("l1", "l0", "tl1"), a=None, d=(10, 20), k=(2,), lam=(1e-4,), beta=(4e-3,), rate=(np.nan,), seeds=7
    ):
        if a is None:
            a = [1.0 if name.startswith("tl1") else np.nan for name in penalty]
        normalize = [True]
        shape = [len(axis) for axis in (penalty, d, k, lam, beta, rate, normalize, range(seeds))]
        rng = np.random.default_rng(0)
        data = {name: (DIMS, rng.uniform(0.01, 1, shape).astype(np.float32)) for name in FLOATS}
        data["zeros"] = (DIMS, rng.integers(0, 9, shape, np.int32))
        data["steps"] = (DIMS, rng.integers(1, 500, shape, np.int32))
        data["status"] = (DIMS, np.zeros(shape, np.int8))
        used = np.where(np.isnan(rate), 1 / (np.array(beta)[:, None] + 4), np.array(rate))
        data["eta"] = (["beta", "learning_rate"], used)
        axes = {"d": d, "k": k, "lam": lam, "beta": beta, "learning_rate": rate, "normalize": normalize}
        coords = {"penalty": np.array(penalty), "a": ("penalty", np.array(a, float)), "seed": np.arange(seeds)}
        return xr.Dataset(data, coords | {name: np.array(values) for name, values in axes.items()})

    return make


@pytest.fixture(scope="session")
def report_files():
    """Names of the files of every record that has figures."""
    return {"config.json", "report.md", "report.json", "figures.json", "report.html"}


@pytest.fixture(scope="session")
def quick(tmp_path_factory):
    """A record of ``sweep --quick`` on all penalties: its folder and what the terminal showed."""
    folder = tmp_path_factory.mktemp("sweep") / "record"
    shown, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(errors):
        code = cli.main(["sweep", "--quick", "--k", "2", "3", "--out", str(folder)])
    return types.SimpleNamespace(folder=folder, code=code, shown=shown.getvalue(), errors=errors.getvalue())


@pytest.fixture(scope="session")
def make_record(make_lanes, tmp_path_factory):
    """Returns a function that writes the record of a made-up sweep, with text that must be escaped."""

    def make(name, seeds=40, **config):
        folder = tmp_path_factory.mktemp("records") / name
        folder.mkdir()
        lanes = make_lanes(k=(2, 5), seeds=seeds)
        summary, figures = output.write_summary(folder, lanes)
        facts = {
            "command": f"python -m experiments sweep --seeds {seeds}",
            "config": {"seeds": seeds, "tol": 1e-6, "learning_rate": None, "out": str(folder)} | config,
            "versions": {"python": "3.11", "jax": "0.10.2"},
            "commit": {"hash": "0123456789abcdef0123456789abcdef01234567", "dirty": True},
            "devices": ["cpu: cpu"] * 2,
            "cores": 2,
            "lanes": 12 * seeds,
            "lanes_per_second": 1234.5,
            "steps": {"executed": 110, "needed": 100, "waste": 1.1},
            "seconds": {"set-up": 0.5, "compilation": 6.0, "run": 4.0},
            "peak_memory_bytes": 2e9,
        }
        odd = Table(
            ["what", "<i>number</i>"], [[f"row {i}", f"{(7 * i) % 10} ± 0.{i}"] for i in range(10)], "</script>"
        )
        sections = [*report.sweep_sections(summary, facts, figures), Section("A & <b>", ["`code` & <script>", odd])]
        page.write_report(folder, "A made-up <sweep>", sections, facts)
        write_config(folder, facts)
        return folder

    return make


@pytest.fixture(scope="session")
def made_up(make_record):
    """The folder of a made-up record."""
    return make_record("made-up")


@pytest.fixture(scope="session")
def count_colors():
    """Returns a function: number of pixels and of different colours of a PNG file."""

    def count(path):
        pixels = np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3).astype(np.uint32)
        return len(pixels), len(np.unique(pixels @ np.array([65536, 256, 1], np.uint32)))

    return count


@pytest.fixture
def refused(tmp_path, capsys, monkeypatch):
    """Returns a function that runs a command with bad flags and returns its one line of complaint."""
    monkeypatch.setattr(cli, "prepare_jax", lambda precision: None)

    def run(command, flags):
        assert cli.main([command, "--out", str(tmp_path / "record"), *flags.split()]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert not list(tmp_path.iterdir())
        return error

    return run
