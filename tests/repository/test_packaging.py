"""What is shipped: the wheel's files, what it asks for, the installed command, types as a user's checker sees them."""

import email
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import rvsmjax as rv

ROOT = Path(__file__).parents[2]
CORE = {"jax", "jaxlib", "optax", "flax", "numpy"}
KINDS = {".py", ".html", ".css", ".js"}
"""Endings of what belongs into the wheel, apart from py.typed."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], cwd=ROOT, check=True)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def site(wheel, tmp_path_factory):
    """The wheel unpacked, as an installer does."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def test_the_wheel_holds_the_packages_and_nothing_else(site):
    info = f"rvsmjax-{rv.__version__}.dist-info"
    assert {path.name for path in site.iterdir()} == {"rvsmjax", "rvsmjax_experiments", info}
    found = {path.relative_to(site) for path in site.rglob("*") if path.is_file()}
    assert {path.name for path in found if path.parts[0] == info} == {
        *("METADATA", "RECORD", "WHEEL", "entry_points.txt", "LICENSE")
    }
    code = {path for path in found if path.parts[0] != info}
    assert {str(path) for path in code if path.suffix not in KINDS} == {"rvsmjax/py.typed"}
    assert {path.name for path in code if path.suffix == ".html"} == {"page.html", "parts.html"}
    there = set()
    for name in ("rvsmjax", "rvsmjax_experiments", "experiments"):
        above = Path("rvsmjax_experiments") if name == "experiments" else Path()
        there |= {above / path.relative_to(ROOT) for path in (ROOT / name).rglob("*.py")}
    assert {path for path in code if path.suffix == ".py"} == there


def test_the_core_asks_for_little(site):
    (path,) = site.glob("*.dist-info/METADATA")
    metadata = email.message_from_string(path.read_text(encoding="utf-8"))
    assert metadata["Version"] == rv.__version__
    wanted = metadata.get_all("Requires-Dist")
    assert {re.match(r"[\w-]+", line)[0] for line in wanted if "extra ==" not in line} == CORE


def test_the_version_stands_in_one_place():
    places = [path for path in ROOT.iterdir() if path.suffix in {".toml", ".cff"}] + [*ROOT.glob("rvsmjax*/**/*.py")]
    quoted = re.compile(rf"version\w*\s*[:=]\s*[\"']?{re.escape(rv.__version__)}\b")
    assert [path.name for path in places if quoted.search(path.read_text(encoding="utf-8"))] == ["__init__.py"]
    assert f"## {rv.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def command(site, folder, *arguments, before="pass"):
    """Runs the installed command in a folder whose user has a package called experiments."""
    (folder / "experiments").mkdir()
    (folder / "experiments" / "__init__.py").write_text("raise SystemExit('the package of the user')\n")
    code = f"import sys; sys.argv[0] = 'rvsmjax'; {before}; from rvsmjax_experiments import main; main()"
    environment = os.environ | {"PYTHONPATH": str(site)}
    program = [sys.executable, "-c", code, *arguments]
    return subprocess.run(program, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.robustness
def test_the_installed_command_finds_its_studies(site, tmp_path):
    run = command(site, tmp_path, "sweep", "--dry-run")
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.startswith("sweep: nothing is run, nothing written")


@pytest.mark.robustness
def test_the_installed_command_keeps_runs_where_it_is_started(site, tmp_path):
    run = command(site, tmp_path, "lenet-binary", "--finished")
    assert run.returncode == 2
    assert run.stderr == "rvsmjax: --finished needs a finished run, got none in results/runs\n"


def test_a_missing_extra_is_one_line(site, tmp_path):
    run = command(site, tmp_path, "sweep", before="sys.modules['tyro'] = None")
    assert run.returncode == 2
    assert run.stdout == ""
    assert run.stderr == "rvsmjax: the studies need tyro, which comes with: pip install 'rvsmjax[experiments]'\n"


@pytest.mark.robustness
def test_the_version_needs_no_extra(site, tmp_path):
    run = command(site, tmp_path, "--version", before="sys.modules['tyro'] = None")
    assert (run.returncode, run.stdout) == (0, f"rvsmjax {rv.__version__}\n")


@pytest.mark.robustness
def test_a_strict_checker_is_content_with_a_user(site, tmp_path):
    """And sees what is wrong: each ignored error of the user's file would be reported if it were none."""
    shutil.copy(ROOT / "tests" / "repository" / "typed_user.py", tmp_path)
    options = ["--strict", "--follow-imports=silent", "--cache-dir", ROOT / "build" / "mypy-of-a-user"]
    environment = os.environ | {"MYPYPATH": str(site)}
    run = subprocess.run(
        [sys.executable, "-m", "mypy", *options, "typed_user.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_typed_user_runs(tmp_path, monkeypatch):
    """Up to where what is wrong begins."""
    text = (ROOT / "tests" / "repository" / "typed_user.py").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "typed_user"}
    exec(compile(text.partition("# What is wrong")[0], "typed_user", "exec"), names)
    assert names["network"].conv1.kernel.shape == (5, 5, 1, 20)
    assert (tmp_path / "u.npz").is_file()


def test_the_studies_do_not_name_their_package():
    """As it has another name when it is installed, and its users have one of this name."""
    named = re.compile(r"^\s*(?:from|import) (?:experiments|rvsmjax_experiments)\b", re.M)
    paths = list((ROOT / "experiments").rglob("*.py"))
    assert [path for path in paths if named.search(path.read_text(encoding="utf-8"))] == []
    assert len(paths) > 100
