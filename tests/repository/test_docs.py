"""The pages: links and commands are valid, the reference has every public name, the site has no broken links."""

import functools
import importlib.util
import inspect
import pkgutil
import re
import shlex
import tomllib
import types
from pathlib import Path

import jax
import numpy as np
import pytest

import rvsmjax as rv
from experiments.accelerator.cli import make_parser
from experiments.cli import main as cli
from rvsmjax import certificate, geometry, methods, nets, penalties, problems, schedules, storage, sweep, transforms

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("[!.]*/README.md"), *DOCS.rglob("*.md")])
by_page = pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))

FENCED = re.compile(r"^(`{3,})([^\n`]*)\n(.*?)^\1$", re.M | re.S)
INLINE = re.compile(r"`([^`\n]+)`")


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def python_blocks(name):
    text = (DOCS / name).read_text(encoding="utf-8")
    return [body for _, kind, body in FENCED.findall(text) if kind == "python"]


def prose(page):
    """Returns a page without fenced or indented code blocks."""
    return re.sub(r"^    .*$", "", FENCED.sub("", page.read_text(encoding="utf-8")), flags=re.M)


# Links


def slug(heading):
    """A heading's anchor, as GitHub and MyST form it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@functools.cache
def anchors(page):
    return {slug(heading) for heading in re.findall(r"^#+ (.*)$", prose(page), re.M)}


def wrong_links(page, text):
    """Yields the broken links of a page."""
    for link in re.findall(r"\]\(([^()\s]+)\)", INLINE.sub("", text)):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if "://" in path:
            continue
        there = target.is_file() and target.is_relative_to(ROOT)
        if target.suffix == ".md":
            there = there and target in PAGES and (not anchor or anchor in anchors(target))
        if not there:
            yield link


@by_page
def test_links(page):
    assert list(wrong_links(page, prose(page))) == []


def test_the_check_sees_what_leads_nowhere():
    page = DOCS / "index.md"
    text = "[a](none.md) [b](install.md) [c](install.md#nowhere) [d](#the-papers) [e](../pyproject.toml) `[f](no)`"
    assert list(wrong_links(page, text)) == ["none.md", "install.md#nowhere"]


def test_every_page_is_in_one_table_of_contents():
    entries_of_toctrees = []
    for page in PAGES:
        for _, kind, body in FENCED.findall(page.read_text(encoding="utf-8")):
            if kind == "{toctree}":
                entries = re.findall(r"^(?:[^:\n]*<)?([\w./-]+)>?$", body, re.M)
                entries_of_toctrees += [(page.parent / f"{entry}.md").resolve() for entry in entries]
    assert sorted([DOCS / "index.md", *entries_of_toctrees]) == PAGES


# Commands

MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
SHELL = re.compile(r"(?:\.venv/bin/python|python3?) (?:-m|examples/)|make [a-z]|pip ")


def commands(page):
    """Returns the shell commands of a page, in blocks and inline; one of those that differ only in values."""
    text = page.read_text(encoding="utf-8")
    shown = [line for _, kind, body in FENCED.findall(text) if kind == "sh" for line in joined(body)]
    shown += [code for code in INLINE.findall(prose(page)) if SHELL.match(code)]
    return list({(*shlex.split(one, comments=True)[:3], *re.findall(r"--[\w-]+", one)): one for one in shown}.values())


def joined(body):
    return [line for line in body.replace("\\\n", " ").splitlines() if line.split("#")[0].strip()]


def check(command):
    """Raises an error if a command does not exist in the repository."""
    program, *words = shlex.split(command, comments=True)
    if program == "make":
        values = dict(word.split("=", 1) for word in words if "=" in word)
        targets = [word for word in words if "=" not in word]
        assert all(re.search(rf"^{target}:.*## ", MAKEFILE, re.M) for target in targets)
        assert values.keys() <= {"ACCEL", "ARGS", "PYTHON", "VENV"}
        assert (ROOT / "requirements" / f"{values.get('ACCEL', 'cpu')}.lock").is_file()
        if targets == ["sweep"]:
            cli.parse(["sweep", *shlex.split(values.get("ARGS", ""))])
    elif program == "pip":
        assert words[0] == "install"
        assert set(re.findall(r"\.\[([\w,]+)\]", command)) <= EXTRAS.keys()
    elif program == "rvsmjax":
        cli.parse(words)
    elif words[:2] == ["-m", "experiments"]:
        assert words[2:] in ([], ["COMMAND"]) or cli.parse(words[2:])
    elif words[:2] == ["-m", "experiments.accelerator"]:
        make_parser().parse_args(words[2:])
    elif words[0] == "-m":
        assert importlib.util.find_spec(words[1]), command
    else:
        assert (ROOT / words[0]).is_file(), command


@by_page
def test_commands(page):
    for command in commands(page):
        check(command)


@pytest.mark.parametrize(
    "command",
    [
        "make cake",
        "make sweep ARGS='--none 1'",
        "make setup ACCEL=none",
        'pip install ".[none]"',
        "python -m experiments none",
        "python3 -m experiments.accelerator none",
        "python examples/none.py",
        "cargo build",
    ],
)
def test_the_check_sees_what_is_no_command(command, capsys):
    with pytest.raises((AssertionError, cli.BadInput, IndexError)):
        check(command)


# The reference


def public_things():
    """Returns every public name of the library with its object."""
    for package in (rv, penalties, problems, transforms, methods, sweep, nets):
        for name, thing in vars(package).items():
            if not name.startswith("_") and not isinstance(thing, types.ModuleType):
                yield f"{package.__name__}.{name}", thing
    for module in (certificate, geometry, schedules, storage):
        for name, thing in vars(module).items():
            if not name.startswith("_") and inspect.isfunction(thing) and thing.__module__ == module.__name__:
                yield f"{module.__name__}.{name}", thing


def documented():
    """Returns the full names on the reference pages."""
    for page in sorted((DOCS / "api").glob("*.md")):
        module = "rvsmjax"
        for directive, name in re.findall(r"^\.\. (\w+):: (\S+)", page.read_text(encoding="utf-8"), re.M):
            if directive == "currentmodule":
                module = name
            elif directive.startswith("auto") and directive != "autosummary":
                yield name if name.startswith("rvsmjax.") else f"{module}.{name}"


def resolve(name):
    """Returns the object of a full name, also in a module that a function of the same name shadows."""
    parent, _, last = name.rpartition(".")
    parent, _, last = name.rpartition(".")
    return getattr(pkgutil.resolve_name(parent), last)


def test_the_reference_has_every_public_name():
    objects = {name: resolve(name) for name in documented()}
    there = {id(thing) for thing in objects.values()}
    assert [name for name, thing in public_things() if id(thing) not in there] == []
    assert len(objects) > 60


def test_nothing_is_documented_twice():
    names = list(documented())
    assert len(names) == len(set(names))


def test_the_overview_has_the_names_of_the_package():
    text = (DOCS / "api" / "index.md").read_text(encoding="utf-8")
    listed = re.findall(r"^   (\w+)$", text, re.M)
    public = [name for name, x in vars(rv).items() if not name.startswith("_") and not isinstance(x, types.ModuleType)]
    assert sorted(listed) == sorted(public)


# Programs


@pytest.mark.slow
def test_the_programs_of_the_lanes_run_and_go_on_from_their_files(tmp_path, monkeypatch, capsys):
    pytest.importorskip("sklearn")
    monkeypatch.chdir(tmp_path)
    code = "\n".join(python_blocks("lanes.md")[:3])
    exec(code, {})
    written = {file.name: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    assert sorted(written) == ["lanes-0.npz", "lanes-20.npz", "lanes-40.npz"]
    exec(code, {})
    assert {file.name: file.stat().st_mtime_ns for file in tmp_path.iterdir()} == written
    assert capsys.readouterr().out.count("±") == 24


# Custom penalties

ORACLES = load(ROOT / "tests" / "penalties" / "test_oracles.py")


def own_penalty():
    """Returns the lines of the page and the class that they define."""
    blocks = python_blocks("own_penalty.md")
    names = {}
    exec(blocks[0] + blocks[1], names)
    return blocks[1].splitlines(), names["MCP"]


def test_a_penalty_takes_ten_lines_and_is_that_of_the_example():
    lines, _ = own_penalty()
    assert len([line for line in lines if line]) <= 10
    assert "\n".join(lines) in (ROOT / "examples" / "own_penalty.py").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "test",
    [
        "test_prox_is_the_global_minimizer",
        "test_threshold_from_both_sides",
        "test_moreau_envelope_is_the_minimum",
        "test_value_is_the_sum_over_components",
        "test_derivatives_against_finite_differences",
        "test_group_prox_beats_every_other_vector",
    ],
)
@pytest.mark.usefixtures("x64")
def test_it_passes_the_tests_of_the_others(test, monkeypatch):
    _, mcp = own_penalty()
    rho = lambda x, a: np.where(np.abs(x) < a, np.abs(x) - x**2 / (2 * a), a / 2)  # noqa: E731
    entries = {
        "RHO": rho,
        "KINDS": mcp,
        "proxes": jax.jit(lambda v, s, a: mcp(a).prox(v, s)),
        "thresholds": jax.jit(lambda s, a: mcp(a).threshold(s)),
    }
    for table, entry in entries.items():
        monkeypatch.setitem(getattr(ORACLES, table), "mcp", entry)
    getattr(ORACLES, test)("mcp")


# The site

SITE = load(DOCS / "site" / "pages.py")


def test_a_whole_site_has_no_problems(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "style.css").write_text("@import 'other.css'; a { background: url(data:x) }")
    (tmp_path / "a.html").write_text('<link href="style.css"><a href="b/#x">b</a><a href="https://x.org"><p id="y">')
    (tmp_path / "b" / "index.html").write_text('<a href="../a.html#y">a</a><a href="#">top</a><p id="x">')
    assert SITE.problems(tmp_path) == []


@pytest.mark.parametrize(
    ("page", "style", "complaint"),
    [
        ('<a href="none.html">', "", "links to none.html, which does not exist"),
        ('<a href="#none">', "", "links to #none, an anchor that a.html lacks"),
        ('<a href="?q=1#none">', "", "an anchor that a.html lacks"),
        ('<img src="none.png">', "", "links to none.png"),
        ('<script src="https://x.org/y.js"></script>', "", "loads https://x.org/y.js"),
        ('<link rel="preconnect" href="//x.org">', "", "loads //x.org"),
        ("", "@import url('https://x.org/font.css');", "loads https://x.org/font.css"),
        ("", "a { background: url(//x.org/i.png) }", "loads //x.org/i.png"),
    ],
)
def test_the_site_check_sees(page, style, complaint, tmp_path):
    (tmp_path / "a.html").write_text(page)
    (tmp_path / "style.css").write_text(style)
    (problem,) = SITE.problems(tmp_path)
    assert complaint in problem
