"""What the audit says, in tables: the sections of ``docs/audit.md``, of the record and of the terminal."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...reports.document import Section, Table
from .lanes import FAMILIES, PATCHES, SIZES
from .margins import ROUNDINGS, Margin
from .summary import Tally, Verdict


def sections_of(verdicts: list[Verdict], run: dict[str, Any]) -> list[Section]:
    """Returns the report.

    Args:
      verdicts: what was seen.
      run: the record's ``config.json``.
    """
    fail = [verdict for verdict in verdicts if verdict.fails]
    stand = [verdict for verdict in verdicts if not verdict.fails]
    searched = any(tally.found is not None for verdict in verdicts for tally in verdict.margins.values())
    return [
        Section("How", _how(run), on_terminal=False),
        Section("Verdicts", [_verdicts(verdicts)]),
        Section(f"Claims that fail: {len(fail)}", [_claims(fail)] if fail else ["None."], on_terminal=False),
        Section("Counterexamples", [_replays(fail, run)] if fail else ["None."], on_terminal=False),
        Section(f"Claims that stand: {len(stand)}", [_claims(stand)] if stand else ["None."], on_terminal=False),
        *([Section("Falsifier", [_FALSIFIER, _search(verdicts)], on_terminal=False)] if searched else []),
        Section("Conditions", [_CONDITIONS, _conditions(verdicts)], on_terminal=False),
        _time(run),
    ]


def _how(run: dict[str, Any]) -> list[str | Table]:
    config, commit = run["config"], run["commit"]
    where = "no checkout" if commit is None else commit["hash"] + ", with changes" * commit["dirty"]
    return [
        f"Written by `python -m experiments audit --docs docs/audit.md` (key {config['key']}, {config['lanes']:,} "
        f"lanes a claim, float64, commit {where}).",
        "A claim is a pair of functions, of a lane's conditions and of its conclusions, each with margins: an "
        "inequality holds where its margin is ≥ 0; an equation has −|difference|. A lane is a violation where its "
        f"conditions hold and a margin is below zero by more than its allowance: {ROUNDINGS}·eps times the sum of the "
        "magnitudes that went into it, and for limits what their last residual (under 1e-11 and 1e-6·β) may still "
        "move. Between, it is within rounding and says nothing. Every expectation is in closed form or by quadrature: "
        "there is no sampling error in a margin.",
        f"Lanes: d in {', '.join(map(str, SIZES))}; k in {', '.join(map(str, PATCHES))}; in turn "
        f"{', '.join(FAMILIES)}; half of them l1, a quarter l0, a quarter tl1 with a log-normal a (1 where penalties "
        "are ranked); η, β, λ, δ are random shares in (0, 1] of the largest values that the theorem allows, those "
        "included. A path has 100 steps; a limit is run to rest, at most 4,000 steps, or does not count (hard "
        "thresholding: 12,000, and counts). Claims without a constant (O(·), “there is an L”) are taken with the one "
        "that their line names.",
    ]


def _verdicts(verdicts: list[Verdict]) -> Table:
    rows = []
    for verdict in verdicts:
        worst = min((tally.worst for tally in verdict.margins.values()), default=np.inf)
        refuted = any(tally.refuted for tally in verdict.margins.values())
        fails = " and ".join(["audit"] * (verdict.violations > 0) + ["falsifier"] * refuted)
        outcome = f"fails ({fails})" if fails else "stands"
        rows.append([verdict.claim.name, outcome, f"{verdict.met:,}", f"{verdict.violations:,}", _number(worst)])
    return Table(["claim", "", "lanes", "violations", "worst margin"], rows, labels=2)


def _claims(verdicts: list[Verdict]) -> Table:
    rows = []
    for verdict in verdicts:
        claim = verdict.claim
        for i, (name, tally) in enumerate(verdict.margins.items()):
            says = claim.statement + f" (in place of {claim.corrects})" * bool(claim.corrects)
            head = [claim.name, claim.where, says] if not i else ["", "", ""]
            share = f" ({100 * tally.violations / verdict.met:.2g} %)" if tally.violations else ""
            rows.append(
                [
                    *head,
                    name,
                    f"{verdict.met:,}",
                    f"{tally.violations:,}{share}",
                    f"{tally.rounding:,}",
                    _number(tally.worst),
                    *([] if all(t.found is None for v in verdicts for t in v.margins.values()) else [_found(tally)]),
                ]
            )
    columns = ["claim", "where", "says", "margin", "lanes", "violations", "within rounding", "worst margin"]
    if rows and len(rows[0]) > len(columns):
        columns.append("falsifier")
    return Table(columns, rows, labels=4)


def _found(tally: Tally) -> str:
    if tally.found is None or np.isnan(tally.found.margin.slack):
        return "–"
    return _number(float(tally.found.margin.slack)) + " ✗" * tally.refuted


def _number(value: float) -> str:
    return "–" if value == np.inf else f"{value:.2e}" if value else "0"


def _replays(verdicts: list[Verdict], run: dict[str, Any]) -> Table:
    """The lane with the worst violation of each margin, and the command that runs it again."""
    config = run["config"]
    flags = f" --key {config['key']}" + " --quick" * config["quick"]
    if config["claims"]:
        # The same claims make the same program, to the last digit.
        flags += " --claims " + " ".join(config["claims"])
    rows = []
    for verdict in verdicts:
        name = verdict.claim.name
        for margin, tally in verdict.margins.items():
            if tally.violations:
                command = f"`python -m experiments audit --replay {name} --lane {tally.lane}{flags}`"
                rows.append([name, margin, _number(tally.worst), command])
            elif tally.refuted:
                rows.append([name, margin, _found(tally), "by the falsifier alone: `claims.json` of the record has it"])
    return Table(["claim", "margin", "worst", "again"], rows, labels=2)


_FALSIFIER = (
    "Gradient descent (Adam) on each margin over start, w*, shares of λ, β, η, δ, and a, from fresh lanes, kept inside "
    "the conditions by the map from raw numbers to lanes; through unrolled steps for paths and limits, which are then "
    "run to rest. The least margin found where the conditions hold, beside the audit's; ✗: a violation."
)


def _search(verdicts: list[Verdict]) -> Table:
    rows = []
    for verdict in verdicts:
        for name, tally in verdict.margins.items():
            outcome = "breaks" if tally.refuted else "holds"
            if tally.found is None or np.isnan(tally.found.margin.slack):
                outcome = "no start met the conditions"
            known = "broken" if tally.violations else "holds"
            rows.append([verdict.claim.name, name, _number(tally.worst), known, _found(tally), outcome])
    return Table(["claim", "margin", "audit", "", "falsifier", ""], rows, labels=2)


_CONDITIONS = "Lanes drawn for each claim, those that meet its conditions, and how many fail each of them."


def _conditions(verdicts: list[Verdict]) -> Table:
    rows = []
    for verdict in verdicts:
        failed = "; ".join(f"{name}: {count:,}" for name, count in verdict.unmet.items())
        rows.append([verdict.claim.name, failed or "none", f"{verdict.lanes:,}", f"{verdict.met:,}"])
    return Table(["claim", "condition: lanes that fail it", "drawn", "meet all"], rows, labels=2)


def _time(run: dict[str, Any]) -> Section:
    rows = [[name, f"{value:.0f} s"] for name, value in run["seconds"].items()]
    rows.append(["peak memory", f"{run['peak_memory_bytes'] / 1e9:.2f} GB"])
    return Section("Time, compilation included", [Table(["", f"{run['cores']} cores"], rows)], on_page=False)


def margin_rows(margins: dict[str, Margin]) -> list[list[str]]:
    """Returns a row for each margin of one lane: name, slack, allowance, verdict."""

    def verdict(margin: Margin) -> str:
        if margin.slack >= 0:
            return "holds"
        return "within rounding" if margin.slack >= -margin.allowance else "violated"

    return [[name, f"{m.slack:.17g}", f"{m.allowance:.3g}", verdict(m)] for name, m in margins.items()]
