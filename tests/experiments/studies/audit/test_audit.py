"""The audit: counts, record, report, replay of a lane."""

import functools
import json
import re
import types

import jax
import numpy as np
import pytest

from experiments.cli import main as cli
from experiments.studies.audit.claims import CLAIMS
from experiments.studies.audit.claims.shared import MAX_RESIDUAL
from experiments.studies.audit.config import AuditConfig
from experiments.studies.audit.evaluate import ClaimMargins, concerns, measured
from experiments.studies.audit.lanes import constrain, draw
from experiments.studies.audit.limits import run_to_limits
from experiments.studies.audit.margins import Margin
from experiments.studies.audit.printed.flaws import FLAWS
from experiments.studies.audit.run import size_of
from experiments.studies.audit.subjects import SUBJECTS, limit_at
from experiments.studies.audit.summary import Tally, Verdict

POINTS = ("A-5.2.2", "A-5.2.2-right", "F-eq18", "F-lemma5-half")
PATHS = ("F-lemma5-stays", "F-lemma6")
FALSE = tuple(FLAWS)
"""Claims known to be false as printed; their corrections and all others stand."""


def command(*flags, capsys=None):
    code = cli.main(["audit", *flags])
    return code, capsys.readouterr() if capsys else None


def quick(folder, *flags):
    """Runs a quick audit; returns its folder, its verdicts and the copy of its report."""
    docs = folder.with_suffix(".md")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli, "prepare_jax", lambda precision: None)
        assert cli.main(["audit", "--quick", "--quiet", "--out", str(folder), "--docs", str(docs), *flags]) == 0
    claims = json.loads((folder / "claims.json").read_text(encoding="utf-8"))
    return types.SimpleNamespace(folder=folder, claims=claims, docs=docs)


@pytest.fixture(scope="module")
def points(tmp_path_factory):
    """Claims on points, with the search."""
    return quick(tmp_path_factory.mktemp("audit") / "points", "--claims", *POINTS)


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """Claims on paths, without the search: unrolled steps compile slowly."""
    return quick(tmp_path_factory.mktemp("audit") / "paths", "--claims", *PATHS, "--restarts", "0")


@pytest.mark.robustness
def test_lanes_and_search_reproduce_the_known_verdicts(points, paths):
    fails = {name: claim["fails"] for name, claim in (points.claims | paths.claims).items()}
    wanted = [True, False, False, True, False, True]
    assert list(fails.items()) == list(zip(POINTS + PATHS, wanted, strict=True))
    for name in ("A-5.2.2", "F-lemma5-half"):
        margins = points.claims[name]["margins"].values()
        assert any(m["violations"] > 0 for m in margins)
        assert any(m["falsifier"]["slack"] < -m["falsifier"]["allowance"] for m in margins)
    assert "falsifier" not in paths.claims["F-lemma6"]["margins"]["L"]


@pytest.mark.robustness
def test_lanes_are_counted(points, paths):
    assert {claim["lanes"] for claim in points.claims.values()} == {256}
    assert {name: claim["lanes"] for name, claim in paths.claims.items()} == {"F-lemma5-stays": 512, "F-lemma6": 256}
    for claim in (points.claims | paths.claims).values():
        assert claim["met"] > 0.8 * claim["lanes"]


worst_claims = pytest.mark.parametrize(
    ("which", "names", "name", "margin"),
    [
        ("points", POINTS, "A-5.2.2", "y = 0"),
        ("paths", PATHS, "F-lemma6", "L"),
    ],
    ids=["points", "paths"],
)


@pytest.mark.robustness
@worst_claims
def test_report_lists_every_claim(which, names, name, margin, request):
    audit = request.getfixturevalue(which)
    report = (audit.folder / "report.md").read_text(encoding="utf-8")
    assert audit.docs.read_text(encoding="utf-8") == report
    assert all(report.count(f"| {name} |") >= 3 for name in names)
    assert json.loads((audit.folder / "config.json").read_text())["config"]["lanes"] == 256
    worst = audit.claims[name]["margins"][margin]
    assert f"{worst['worst']:.2e}" in report
    assert f"--replay {name} --lane {worst['lane']} --key 0 --quick" in report
    assert f"Claims that fail: {sum(claim['fails'] for claim in audit.claims.values())}" in report
    assert ("## Falsifier" in report) == (which == "points")


@pytest.mark.robustness
@worst_claims
def test_replay_reproduces_every_digit(which, names, name, margin, request, capsys, monkeypatch):
    monkeypatch.setattr(cli, "prepare_jax", lambda precision: None)
    tally = request.getfixturevalue(which).claims[name]["margins"][margin]
    flags = ["--quick", "--claims", *names, "--replay", name, "--lane", str(tally["lane"])]
    code, captured = command(*flags, capsys=capsys)
    assert (code, captured.err) == (0, "")
    row = next(
        line for line in captured.out.splitlines() if line.strip().startswith(f"{margin} ") and "violated" in line
    )
    assert float(re.findall(r"-\d\S*", row)[0]) == tally["worst"]
    assert "w* = " in captured.out


@pytest.mark.usefixtures("x64")
def test_a_lane_does_not_depend_on_its_neighbours():
    lanes, size = np.arange(40), size_of(AuditConfig(quick=True))
    (one,) = measured("F path", PATHS, 0, lanes, size)
    (other,) = measured("F path", PATHS, 0, lanes[::-1][:17], size)
    for a, b in zip(jax.tree.leaves(one.margins), jax.tree.leaves(other.margins), strict=True):
        np.testing.assert_array_equal(a[::-1][:17], b)


@pytest.mark.parametrize("name", ["A limit", "F limit"])
def test_lanes_run_to_their_limits(x64, name):
    subject, key = SUBJECTS[name], jax.random.key(0)
    fixed, raw = jax.vmap(functools.partial(draw, name, key))(np.arange(16))
    p, start = jax.vmap(functools.partial(constrain, name))(fixed, raw)
    w, _ = jax.jit(functools.partial(run_to_limits, subject))(p, start[:, 0], 20_000)
    limits = jax.vmap(functools.partial(limit_at, subject))(p, start[:, 0], w)
    assert np.mean(limits.residual < MAX_RESIDUAL) > 0.7
    np.testing.assert_allclose(np.linalg.norm(w, axis=1), 1, rtol=1e-6)


def test_tallies_distinguish_violations_from_rounding():
    tally = Tally()
    lanes = np.arange(6)
    tally.add(lanes, Margin(np.array([1.0, -0.5, -3.0, 0.0, np.nan, -2.0]), np.array([0.1, 1.0, 5.0, 0.1, 0.1, 0.1])))
    assert (tally.violations, tally.rounding) == (2, 2)
    assert (tally.worst, tally.lane) == (-np.inf, 4)
    tally = Tally()
    tally.add(lanes[:4], Margin(np.array([1.0, -0.5, -3.0, 0.0]), np.array([0.1, 1.0, 5.0, 0.1])))
    assert (tally.violations, tally.rounding, tally.worst, tally.lane) == (0, 2, -3.0, 2)
    # A violation replaces a lower margin within its allowance.
    tally.add(lanes[4:], Margin(np.array([-0.2, 7.0]), np.array([0.1, 0.1])))
    assert (tally.violations, tally.rounding, tally.worst, tally.lane) == (1, 2, -0.2, 4)
    tally.add(lanes[:2], Margin(np.array([-9.0, 7.0]), np.array([10.0, 0.1])))
    assert (tally.violations, tally.rounding, tally.worst, tally.lane) == (1, 3, -0.2, 4)


def test_only_lanes_that_meet_the_conditions_count():
    verdict = Verdict(CLAIMS["F-lemma6"])
    lanes = np.arange(8)
    assert concerns(verdict.claim, lanes).tolist() == [True, True, False, False] * 2
    unmet = Margin(np.array([0.0, -1.0] * 4), np.zeros(8))
    verdict.add(lanes, ClaimMargins({"η": unmet}, {"L": Margin(-np.ones(8), np.zeros(8))}))
    assert (verdict.lanes, verdict.met, verdict.unmet) == (4, 2, {"η": 2})
    assert (verdict.violations, verdict.fails) == (2, True)


BAD = [
    ("--claims A-5.2.2 nonsense", ["--claims", "nonsense"]),
    ("--lanes 0", ["--lanes", "0"]),
    ("--restarts -1", ["--restarts", "-1"]),
    ("--iterations 0", ["--iterations", "0"]),
    ("--replay nonsense", ["--replay", "nonsense"]),
    ("--replay A-5.2.2 --claims F-lemma6", ["--replay", "--claims", "A-5.2.2"]),
    ("--replay A-5.2.2 --lane -1", ["--lane", "-1"]),
    ("--docs /nowhere/at/all.md", ["--docs", "/nowhere/at/all.md"]),
    ("--key x", ["--key", "x"]),
]


@pytest.mark.parametrize(("flags", "words"), BAD)
def test_bad_input_is_refused_in_one_line(flags, words, refused):
    error = refused("audit", flags)
    assert all(word in error for word in words), error


@pytest.mark.slow
def test_all_verdicts_are_the_known_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(cli, "prepare_jax", lambda precision: None)
    flags = ["--quick", "--lanes", "1024", "--restarts", "8", "--iterations", "60", "--quiet"]
    assert cli.main(["audit", *flags, "--out", str(tmp_path / "record")]) == 0
    claims = json.loads((tmp_path / "record" / "claims.json").read_text(encoding="utf-8"))
    assert {name: claim["verdict"] for name, claim in claims.items() if claim["fails"]} == {
        name: FLAWS[name].kind for name in FALSE
    }
    refuted = {
        name
        for name, claim in claims.items()
        if not CLAIMS[name].mean
        and any(m["falsifier"]["slack"] < -m["falsifier"]["allowance"] for m in claim["margins"].values())
    }
    # The search alone finds the known errata that a run can show.
    wanted = {"A-5.2.2", "I-thm1-monotone", "F-lemma5", "F-lemma6"}
    assert wanted | {"F-eq14", "F-lemma5-half"} <= refuted
