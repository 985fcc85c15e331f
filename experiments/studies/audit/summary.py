"""Counts and worst margins of each claim, accumulated over batches of lanes."""

from __future__ import annotations

import dataclasses

import numpy as np

from ...records.folder import Facts
from .claim import Claim
from .evaluate import ClaimMargins, concerns
from .falsifier import SearchResult
from .margins import Margin


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
    """

    violations: int = 0
    rounding: int = 0
    worst: float = np.inf
    lane: int = -1
    allowance: float = 0.0
    found: SearchResult | None = None

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
      margins: conclusions.
    """

    claim: Claim
    lanes: int = 0
    met: int = 0
    unmet: dict[str, int] = dataclasses.field(default_factory=dict)
    margins: dict[str, Tally] = dataclasses.field(default_factory=dict)

    def add(self, lanes: np.ndarray, results: ClaimMargins) -> None:
        """Adds more lanes."""
        covered = concerns(self.claim, lanes)
        met = covered.copy()
        for name, margin in results.conditions.items():
            holds = margin.slack + margin.allowance >= 0
            met &= holds
            self.unmet[name] = self.unmet.get(name, 0) + int((covered & ~holds).sum())
        self.lanes += int(covered.sum())
        self.met += int(met.sum())
        for name, margin in results.conclusions.items():
            tally = self.margins.setdefault(name, Tally())
            tally.add(lanes[met], Margin(margin.slack[met], margin.allowance[met]))

    @property
    def violations(self) -> int:
        """Number of violations over all margins."""
        return sum(tally.violations for tally in self.margins.values())

    @property
    def fails(self) -> bool:
        """Whether the audit or the falsifier violated it."""
        return self.violations > 0 or any(tally.refuted for tally in self.margins.values())

    def to_json(self) -> Facts:
        """Returns the verdict as JSON values."""
        claim = self.claim
        margins = {}
        for name, tally in self.margins.items():
            margins[name] = {key: value for key, value in vars(tally).items() if key != "found"}
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
        return texts | {
            "lanes": self.lanes,
            "met": self.met,
            "unmet": self.unmet,
            "fails": self.fails,
            "margins": margins,
        }
