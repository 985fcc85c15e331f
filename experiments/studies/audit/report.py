"""What the audit says, in tables: the sections of ``docs/audit.md``, of the record and of the terminal."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...reports.document import Section, Table
from .evaluate import Size
from .lanes import ANY_BETA, FAMILIES, MANY_PATCHES, PATCHES, SIZES
from .margins import ROUNDINGS, Margin
from .printed.flaws import FLAWS
from .printed.sentences import SENTENCES
from .summary import STANDS, Tally, Verdict

PAPERS = {"A": "A, arXiv 1812.05719", "I": "I, IntelliSys 2020", "F": "F, Frontiers 2020"}
OUTCOMES = (STANDS, "hypothesis missing", "misprint", "fails")


def sections_of(verdicts: list[Verdict], run: dict[str, Any]) -> list[Section]:
    """Returns the report.

    Args:
      verdicts: what was seen.
      run: the record's ``config.json``.
    """
    fail = [verdict for verdict in verdicts if verdict.fails]
    stand = [verdict for verdict in verdicts if not verdict.fails]
    searched = any(tally.found is not None for verdict in verdicts for tally in verdict.margins.values())
    settled = [verdict for verdict in verdicts if verdict.rested or verdict.restless]
    means = [verdict for verdict in verdicts if verdict.claim.mean]
    return [
        Section("Claims by verdict and paper", [_counts(verdicts), _KINDS]),
        Section("How", _how(run), on_terminal=False),
        Section("Verdicts", [_verdicts(verdicts)]),
        Section("What the papers print", [_PRINTED, _printed(fail, run)] if fail else ["None."], on_terminal=False),
        Section(f"Claims that fail: {len(fail)}", [_claims(fail)] if fail else ["None."], on_terminal=False),
        Section("Counterexamples", [_replays(fail, run)] if fail else ["None."], on_terminal=False),
        Section(f"Claims that stand: {len(stand)}", [_claims(stand)] if stand else ["None."], on_terminal=False),
        *([Section("At the papers' own settings", [_MEANS, _means(means)], on_terminal=False)] if means else []),
        *([Section("Falsifier", [_FALSIFIER, _search(verdicts)], on_terminal=False)] if searched else []),
        Section("Conditions", [_CONDITIONS, _conditions(verdicts)], on_terminal=False),
        *([Section("Convergence", [_CONVERGENCE, _convergence(settled)], on_terminal=False)] if settled else []),
        Section("Sentences beyond the numbered results", [_SENTENCES, _sentences(verdicts)], on_terminal=False),
        _time(run),
    ]


_KINDS = (
    "Of claims as printed; the last column counts the corrections and the conditional forms that stand beside them. "
    "*Hypothesis missing*: false as printed, true under a hypothesis that stands in the proof or elsewhere in the "
    "papers. *Misprint*: false as printed, but the paper goes on with the right form. *Fails*: false, and the papers "
    "have nothing that mends it. Each of the three has a counterexample."
)


def _counts(verdicts: list[Verdict]) -> Table:
    rows = {}
    for letter, paper in PAPERS.items():
        mine = [verdict for verdict in verdicts if verdict.claim.name.startswith(letter)]
        printed = [verdict for verdict in mine if not verdict.claim.corrects]
        counts = [sum(verdict.outcome == outcome for verdict in printed) for outcome in OUTCOMES]
        rows[paper] = [len(printed), *counts, sum(not v.fails for v in mine if v.claim.corrects)]
    rows["all"] = [sum(column) for column in zip(*rows.values(), strict=True)]
    table = [[paper, *map(str, row)] for paper, row in rows.items()]
    return Table(["paper", "claims", *OUTCOMES, "corrected, stand"], table, labels=1)


_PRINTED = (
    "Every claim that does not stand, the sentence that it refutes, word for word (formulas in plain text), the "
    "hypothesis or the correction, the claim that states it, and the command that runs the worst counterexample "
    "again."
)


def _printed(verdicts: list[Verdict], run: dict[str, Any]) -> Table:
    rows = []
    for verdict in verdicts:
        name = verdict.claim.name
        flaw = FLAWS.get(name)
        broken = [tally for tally in verdict.margins.values() if tally.violations]
        worst = min(broken, key=lambda tally: tally.worst, default=None)
        command = f"`{_replay(name, worst.lane, run)}`" if worst else "see Counterexamples"
        quote, at, note = (f"“{flaw.quote}”", flaw.at, flaw.note) if flaw else ("–", verdict.claim.where, "–")
        rows.append([name, verdict.outcome, quote, at, note, mended(name) or "–", command])
    columns = ["claim", "verdict", "as printed", "where", "missing, or right", "mended", "counterexample"]
    return Table(columns, rows, labels=6)


def mended(name: str) -> str:
    """Returns the names of the claims that correct or restrict a printed claim."""
    from .claims import CLAIMS

    return ", ".join(other for other, claim in CLAIMS.items() if claim.corrects == name)


def _how(run: dict[str, Any]) -> list[str | Table]:
    config, commit = run["config"], run["commit"]
    size = Size()
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
        f"included. Where a claim is stated for every β: β up to {ANY_BETA:.0f}, λ up to 2β, and for limits k in "
        f"{', '.join(f'{k:,}' for k in MANY_PATCHES)}. Claims that rank the penalties are taken at the papers' own "
        "settings, in the mean over uniform draws at each d. A path has 100 steps. A limit is run to rest for "
        f"{size.cap:,} steps; a lane that is not at rest then goes on from there at the largest η of the theorem "
        f"(limits do not depend on η), for {size.rounds[0]:,} and then {size.rounds[1]:,} steps; those that are not at "
        "rest even then are counted under Convergence (hard thresholding: 12,000 steps, and every lane counts). Claims "
        "without a constant (O(·), “there is an L”) are taken with the one that their line names.",
    ]


def _verdicts(verdicts: list[Verdict]) -> Table:
    rows = []
    for verdict in verdicts:
        worst = min((tally.worst for tally in verdict.margins.values()), default=np.inf)
        refuted = any(tally.refuted for tally in verdict.margins.values())
        found = "in the mean" if verdict.claim.mean else ""
        found = found or " and ".join(["audit"] * (verdict.violations > 0) + ["falsifier"] * refuted)
        outcome = verdict.outcome + f" ({found})" * bool(found)
        rows.append([verdict.claim.name, outcome, f"{verdict.met:,}", f"{verdict.violations:,}", _number(worst)])
    return Table(["claim", "", "lanes", "violations", "worst margin"], rows, labels=2)


def _claims(verdicts: list[Verdict]) -> Table:
    rows = []
    for verdict in verdicts:
        claim = verdict.claim
        for i, (name, tally) in enumerate(verdict.margins.items()):
            says = claim.statement + f" (beside {claim.corrects})" * bool(claim.corrects)
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
    rows = []
    for verdict in verdicts:
        name = verdict.claim.name
        for margin, tally in verdict.margins.items():
            if tally.violations:
                rows.append([name, margin, _number(tally.worst), f"`{_replay(name, tally.lane, run)}`"])
            elif tally.refuted:
                rows.append([name, margin, _found(tally), "by the falsifier alone: `claims.json` of the record has it"])
    return Table(["claim", "margin", "worst", "again"], rows, labels=2)


def _replay(name: str, lane: int, run: dict[str, Any]) -> str:
    """Returns the command that measures a claim on a lane again."""
    config = run["config"]
    flags = f" --key {config['key']}" + " --quick" * config["quick"]
    if config["claims"]:
        # The same claims make the same program, to the last digit.
        flags += " --claims " + " ".join(config["claims"])
    return f"python -m experiments audit --replay {name} --lane {lane}{flags}"


_MEANS = (
    "Mean of each margin over the draws of one d, with its standard error; a claim holds if no mean is below zero by "
    "more than three of them. Beside it the share of single draws in which the inequality is broken."
)


def _means(verdicts: list[Verdict]) -> Table:
    rows = []
    for verdict in verdicts:
        for name, tally in verdict.margins.items():
            for d, mean in tally.means.items():
                if mean.draws:
                    value = f"{_number(mean.value)} ± {_number(mean.error)}"
                    share = f"{100 * mean.broken / mean.draws:.3g} %"
                    outcome = "broken" if mean.negative else "holds"
                    rows.append([verdict.claim.name, name, str(d), f"{mean.draws:,}", value, outcome, share])
    return Table(["claim", "margin", "d", "draws", "mean", "", "draws that break it"], rows, labels=2)


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


_CONVERGENCE = (
    "Lanes that meet all other conditions of a claim about limits: at rest within the step cap, after one and after "
    "two rounds of further steps, and not at rest even then; these last ones do not count for the claim. Rest is a "
    "residual under 1e-11 and under 1e-6·β."
)


def _convergence(verdicts: list[Verdict]) -> Table:
    rows = []
    for verdict in verdicts:
        counts = [f"{verdict.rested[i]:,}" for i in range(3)]
        rows.append([verdict.claim.name, *counts, f"{verdict.restless:,}"])
    return Table(["claim", "within the cap", "first round", "second round", "not at rest"], rows, labels=1)


_SENTENCES = "Remarks, steps of proofs and observations: the claims that state them, or why none can."


def _sentences(verdicts: list[Verdict]) -> Table:
    outcomes = {verdict.claim.name: verdict.outcome for verdict in verdicts}
    rows = []
    for where, says, claims, reason in SENTENCES:
        named = "; ".join(f"{name}: {outcomes.get(name, 'not run')}" for name in claims)
        rows.append([where, says or "–", named or "none", reason or "–"])
    return Table(["where", "sentence", "claims", "remark"], rows, labels=2)


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
