"""What the audit saw, claim by claim: counts and worst margins, gathered part by part."""

from __future__ import annotations

import dataclasses

import numpy as np

from ...records.folder import Facts
from .claim import Claim
from .evaluate import Seen, concerns
from .falsifier import Found
from .margins import Margin


@dataclasses.dataclass
class Tally:
    """One margin over the lanes that meet a claim's conditions.

    Attributes:
      violations: lanes where it is < 0 by more than its allowance, or not finite.
      rounding: lanes where it is < 0 within its allowance.
      worst: the least slack.
      lane: where that is; −1 where no lane met the conditions.
      allowance: what it was allowed there.
      found: what the falsifier found.
    """

    violations: int = 0
    rounding: int = 0
    worst: float = np.inf
    lane: int = -1
    allowance: float = 0.0
    found: Found | None = None

    def add(self, lanes: np.ndarray, margin: Margin) -> None:
        """Takes in the margins of more lanes."""
        if not len(lanes):
            return
        broken = ~(margin.slack >= -margin.allowance)
        self.violations += int(broken.sum())
        self.rounding += int(((margin.slack < 0) & ~broken).sum())
        # Among lanes with a violation the worst of those, though another may be lower within its own allowance.
        slack = np.where(np.isfinite(margin.slack), margin.slack, -np.inf)
        at = int(np.argmin(np.where(broken, slack, np.inf) if broken.any() else slack))
        first = broken.any() and self.violations == int(broken.sum())
        if first or (bool(broken.any()) == bool(self.violations) and slack[at] < self.worst):
            self.worst, self.lane, self.allowance = float(slack[at]), int(lanes[at]), float(margin.allowance[at])

    @property
    def refuted(self) -> bool:
        """Whether the falsifier broke it."""
        return self.found is not None and bool(self.found.margin.slack < -self.found.margin.allowance)


@dataclasses.dataclass
class Verdict:
    """A claim over its lanes.

    Attributes:
      claim: the claim.
      lanes: lanes that it is about.
      met: those of them that meet its conditions.
      unmet: how many lanes fail each condition.
      margins: its conclusions.
    """

    claim: Claim
    lanes: int = 0
    met: int = 0
    unmet: dict[str, int] = dataclasses.field(default_factory=dict)
    margins: dict[str, Tally] = dataclasses.field(default_factory=dict)

    def add(self, lanes: np.ndarray, seen: Seen) -> None:
        """Takes in more lanes."""
        about = concerns(self.claim, lanes)
        met = about.copy()
        for name, margin in seen.conditions.items():
            holds = margin.slack + margin.allowance >= 0
            met &= holds
            self.unmet[name] = self.unmet.get(name, 0) + int((about & ~holds).sum())
        self.lanes += int(about.sum())
        self.met += int(met.sum())
        for name, margin in seen.conclusions.items():
            tally = self.margins.setdefault(name, Tally())
            tally.add(lanes[met], Margin(margin.slack[met], margin.allowance[met]))

    @property
    def violations(self) -> int:
        """Violations of its margins, summed."""
        return sum(tally.violations for tally in self.margins.values())

    @property
    def fails(self) -> bool:
        """Whether audit or falsifier broke it."""
        return self.violations > 0 or any(tally.refuted for tally in self.margins.values())

    def to_json(self) -> Facts:
        """Returns it as plain data."""
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
