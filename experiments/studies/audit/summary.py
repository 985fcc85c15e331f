"""Counts and worst margins of each claim, accumulated over batches of lanes."""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np

from ...records.folder import Facts
from .claim import Claim
from .claims.shared import AT_REST
from .evaluate import ClaimMargins, concerns
from .falsifier import SearchResult
from .margins import Margin
from .printed.flaws import FLAWS
from .subjects import SUBJECTS

STANDS = "stands"


@dataclasses.dataclass
class Mean:
    """Mean of a margin over draws of one dimension.

    Attributes:
      draws: number of draws.
      broken: number of draws that violate the inequality.
      total: sum of the slacks.
      squares: sum of their squares.
    """

    draws: int = 0
    broken: int = 0
    total: float = 0.0
    squares: float = 0.0

    def add(self, slack: np.ndarray, broken: np.ndarray) -> None:
        """Adds draws."""
        self.draws += len(slack)
        self.broken += int(broken.sum())
        self.total += float(slack.sum())
        self.squares += float(np.square(slack).sum())

    @property
    def value(self) -> float:
        """The mean."""
        return self.total / max(self.draws, 1)

    @property
    def error(self) -> float:
        """Standard error of the mean."""
        n = max(self.draws, 1)
        return float(np.sqrt(max(self.squares / n - self.value**2, 0.0) / max(n - 1, 1)))

    @property
    def negative(self) -> bool:
        """Whether the mean is below zero by more than three standard errors."""
        return self.value < -3 * self.error


@dataclasses.dataclass
class Tally:
    """One margin over the lanes that meet the claim's conditions.

    Attributes:
      violations: lanes with slack < −allowance, or not finite.
      rounding: lanes with −allowance <= slack < 0.
      worst: smallest slack, of the violations if any.
      lane: lane of ``worst``; −1 if no lane met the conditions.
      allowance: allowance of ``worst``.
      found: result of the falsifier.
      means: mean by dimension, for claims about means.
    """

    violations: int = 0
    rounding: int = 0
    worst: float = np.inf
    lane: int = -1
    allowance: float = 0.0
    found: SearchResult | None = None
    means: dict[int, Mean] = dataclasses.field(default_factory=dict)

    def add(self, lanes: np.ndarray, margin: Margin) -> None:
        """Adds the margins of more lanes."""
        if not len(lanes):
            return
        broken = ~(margin.slack >= -margin.allowance)
        self.violations += int(broken.sum())
        self.rounding += int(((margin.slack < 0) & ~broken).sum())
        # With violations, the worst of them: a slack within its allowance may be smaller.
        slack = np.where(np.isfinite(margin.slack), margin.slack, -np.inf)
        at = int(np.argmin(np.where(broken, slack, np.inf) if broken.any() else slack))
        first = broken.any() and self.violations == int(broken.sum())
        if first or (bool(broken.any()) == bool(self.violations) and slack[at] < self.worst):
            self.worst, self.lane, self.allowance = float(slack[at]), int(lanes[at]), float(margin.allowance[at])

    @property
    def negative(self) -> bool:
        """Whether the mean at some dimension is below zero by more than three standard errors."""
        return any(mean.negative for mean in self.means.values())

    @property
    def refuted(self) -> bool:
        """Whether the falsifier violated it."""
        return self.found is not None and bool(self.found.margin.slack < -self.found.margin.allowance)


@dataclasses.dataclass
class Verdict:
    """Results of a claim over its lanes.

    Attributes:
      claim: the claim.
      lanes: number of lanes with a penalty that the claim covers.
      met: number of those that meet all conditions.
      unmet: number of lanes that fail each condition.
      rested: number of lanes that meet all conditions, by the rounds of further steps that they took to come to rest.
      restless: number of lanes that meet all conditions but rest.
      margins: conclusions.
    """

    claim: Claim
    lanes: int = 0
    met: int = 0
    unmet: dict[str, int] = dataclasses.field(default_factory=dict)
    rested: Counter[int] = dataclasses.field(default_factory=Counter)
    restless: int = 0
    margins: dict[str, Tally] = dataclasses.field(default_factory=dict)

    def add(self, lanes: np.ndarray, results: ClaimMargins, rounds: int = 0) -> None:
        """Adds more lanes, after ``rounds`` rounds of further steps."""
        covered = concerns(self.claim, lanes)
        met, other = covered.copy(), covered.copy()
        for name, margin in results.conditions.items():
            holds = margin.slack + margin.allowance >= 0
            met &= holds
            other &= holds | name.endswith(AT_REST)
            self.unmet[name] = self.unmet.get(name, 0) + int((covered & ~holds).sum())
        self.lanes += int(covered.sum())
        self.met += int(met.sum())
        if any(name.endswith(AT_REST) for name in results.conditions):
            self.rested[rounds] += int(met.sum())
            self.restless += int((other & ~met).sum())
        for name, margin in results.conclusions.items():
            tally = self.margins.setdefault(name, Tally())
            tally.add(lanes[met], Margin(margin.slack[met], margin.allowance[met]))
            if self.claim.mean:
                self._add_means(tally, lanes[met], np.asarray(margin.slack[met]), np.asarray(margin.allowance[met]))

    def _add_means(self, tally: Tally, lanes: np.ndarray, slack: np.ndarray, allowance: np.ndarray) -> None:
        dimensions = SUBJECTS[self.claim.subject].dimensions
        for i, d in enumerate(dimensions):
            mine = lanes % len(dimensions) == i
            tally.means.setdefault(d, Mean()).add(slack[mine], (slack < -allowance)[mine])

    @property
    def violations(self) -> int:
        """Number of violations over all margins."""
        return sum(tally.violations for tally in self.margins.values())

    @property
    def fails(self) -> bool:
        """Whether the audit or the falsifier violated it; for a claim about a mean, whether a mean did."""
        if self.claim.mean:
            return any(tally.negative for tally in self.margins.values())
        return self.violations > 0 or any(tally.refuted for tally in self.margins.values())

    @property
    def outcome(self) -> str:
        """The verdict: ``stands``, or the kind of the flaw."""
        if not self.fails:
            return STANDS
        flaw = FLAWS.get(self.claim.name)
        return flaw.kind if flaw else "fails"

    def to_json(self) -> Facts:
        """Returns the verdict as JSON values."""
        claim = self.claim
        margins = {}
        for name, tally in self.margins.items():
            margins[name] = {key: value for key, value in vars(tally).items() if key not in ("found", "means")}
            if tally.means:
                margins[name]["means"] = {
                    d: {"mean": m.value, "error": m.error, "draws": m.draws, "broken": m.broken}
                    for d, m in tally.means.items()
                }
            if tally.found is not None:
                margin, lane, raw = tally.found
                vectors, shares = (np.asarray(x).tolist() for x in raw)
                margins[name]["falsifier"] = {
                    "slack": float(margin.slack),
                    "allowance": float(margin.allowance),
                    "from_lane": lane,
                    "raw": {"vectors": vectors, "shares": shares},
                }
        texts = {key: getattr(claim, key) for key in ("where", "statement", "subject", "penalties", "corrects")}
        flaw = FLAWS.get(claim.name)
        return texts | {
            "verdict": self.outcome,
            "refutes": flaw._asdict() if flaw and self.fails else None,
            "lanes": self.lanes,
            "met": self.met,
            "unmet": self.unmet,
            "rested": dict(self.rested),
            "restless": self.restless,
            "fails": self.fails,
            "margins": margins,
        }
