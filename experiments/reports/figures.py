"""What figures are made of: panels of lines, bands, points and words, as plain data.

``vega`` makes Vega-Lite of it, for the page and for pictures. Nothing in this module needs a drawing library.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from ..penalties.palette import INK

DASHES = {"solid": [], "dashed": [6, 4], "dotted": [2, 3], "dashdot": [6, 3, 2, 3]}
LINE = 160
"""Points of a line, at most; of a longer one, the lowest and the highest of each part."""
CORNER = 0.3
"""Angle of a level line's corners, in radians."""
ROOM = 0.04
"""Empty share of an axis at either end, where its ends are not given."""
WORDS = ("text", "corner")
"""Kinds of series that have no say in where an axis ends."""
Scale = Literal["linear", "log", "symlog"]
Plain = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Look:
    """How a series is drawn and what the legend calls it; one without a name is not in the legend."""

    name: str = ""
    color: str = INK
    marker: str = ""
    dash: str = "solid"
    hollow: bool = False
    line: bool = True

    def plain(self) -> Plain:
        """Returns the look as JSON has it."""
        return dataclasses.asdict(self) | {"dash": DASHES[self.dash]}


PRINTED = Look("printed in the paper", marker="diamond", hollow=True, line=False)
"""Of values that a paper prints."""


@dataclasses.dataclass(frozen=True)
class Axis:
    """An axis: title with its unit in brackets, ends, scale, and texts of its ticks by their place.

    An end that is None is found from the data. ``linear`` is where a symlog axis turns linear; ``whole`` axes have no
    ticks between whole numbers.
    """

    label: str
    limits: tuple[float | None, float | None] = (None, None)
    scale: Scale = "linear"
    ticks: Mapping[float, str] | Mapping[int, str] | None = None
    linear: float = 1.0
    whole: bool = False

    def plain(self, values: Iterable[np.ndarray]) -> Plain:
        """Returns the axis as JSON has it, with ends that hold the values."""
        own: Plain = {"label": self.label, "limits": plain_numbers(self._ends(values), 6)}
        own |= {} if self.scale == "linear" else {"scale": self.scale}
        own |= {"linear": self.linear} if self.scale == "symlog" else {}
        own |= {"whole": True} if self.whole else {}
        return own | ({"ticks": [list(pair) for pair in self.ticks.items()]} if self.ticks else {})

    def seen(self, values: ArrayLike) -> np.ndarray:
        """Returns the values, NaN where the axis has no place for them."""
        found = np.ravel(np.asarray(values, float))
        return np.where(np.isfinite(found) & ((found > 0) | (self.scale != "log")), found, np.nan)

    def _ends(self, values: Iterable[np.ndarray]) -> tuple[float, float]:
        low, high = self.limits
        if low is not None and high is not None:
            return low, high
        found = np.concatenate([[], *map(self.seen, values)])
        found = found[~np.isnan(found)]
        if not len(found):
            found = np.array([1.0] if self.scale == "log" else [0.0, 1.0])
        least, most = (float(found.min()) if low is None else low), (float(found.max()) if high is None else high)
        if self.scale == "log":
            room = max(most / least, 1.05) ** ROOM
            least, most = least / room, most * room
        else:
            room = ROOM * (most - least) or 0.5
            least, most = least - room, most + room
        return (least if low is None else low), (most if high is None else high)


@dataclasses.dataclass
class Panel:
    """A panel of a figure. The first look of a series gives its colour, all of them name it in the legend."""

    figure: Figure
    title: str
    x: Axis
    y: Axis
    tags: Mapping[str, str]
    square: bool
    series: list[tuple[list[Look], Plain]] = dataclasses.field(default_factory=list)

    def line(
        self, x: ArrayLike, y: ArrayLike, *looks: Look, width: float = 1.8, steps: bool = False, opacity: float = 1
    ) -> None:
        """Draws a line with markers if its look has them; it is broken where a value is missing."""
        x, y = self.x.seen(x), self.y.seen(y)
        kept = _fewer(np.log(x) if self.x.scale == "log" else x, y)
        self._add("line", looks, x=x[kept], y=y[kept], width=width, steps=steps, opacity=opacity)

    def points(self, x: ArrayLike, y: ArrayLike, *looks: Look, size: float = 4.5, opacity: float = 1) -> None:
        """Draws markers, their radius in pixels."""
        marker = {} if looks[0].marker else {"marker": "circle"}
        self._add("points", looks, x=self.x.seen(x), y=self.y.seen(y), size=size, opacity=opacity, **marker)

    def band(self, x: ArrayLike, low: ArrayLike, high: ArrayLike, *looks: Look, opacity: float = 0.2) -> None:
        """Shades what is between two lines."""
        found = {"x": self.x.seen(x), "y": self.y.seen(low), "top": self.y.seen(high)}
        self._add("band", looks, **found, opacity=opacity, marker="")

    def segments(self, lines: Iterable[tuple[ArrayLike, ArrayLike]], *looks: Look, width: float = 1.4) -> None:
        """Draws lines of any form that tell no values of their own: error bars, level lines."""
        parts = [np.stack([np.ravel(x), np.ravel(y)]).astype(float) for x, y in lines]
        gap = np.full((2, 1), np.nan)
        x, y = np.concatenate([whole for part in parts for whole in (part, gap)], axis=1) if parts else gap
        self._add("segments", looks, x=self.x.seen(x), y=self.y.seen(y), width=width, marker="")

    def errors(self, x: ArrayLike, y: ArrayLike, half: ArrayLike, *looks: Look, across: ArrayLike = ()) -> None:
        """Draws error bars of ``half`` up and down, and of ``across`` to either side."""
        x, y, half = np.broadcast_arrays(*(np.asarray(values, float) for values in (x, y, half)))
        bars = [((a, a), (b - h, b + h)) for a, b, h in zip(x, y, half, strict=True)]
        bars += [((a - h, a + h), (b, b)) for a, b, h in zip(x, y, np.asarray(across, float), strict=False)]
        self.segments(bars, *(dataclasses.replace(look, dash="solid") for look in looks))

    def text(self, x: float, y: float, words: str, right: bool = True, above: bool = True) -> None:
        """Writes words beside a place."""
        style = {"align": "left" if right else "right", "baseline": "bottom" if above else "top"}
        self._add("text", (Look(),), x=np.array([x]), y=np.array([y]), name=words, **style)

    def corner(self, words: str) -> None:
        """Writes words into the lower right corner."""
        self._add("corner", (Look(),), x=np.zeros(1), y=np.zeros(1), name=words)

    def ecdf(self, values: ArrayLike, *looks: Look) -> None:
        """Draws the cumulative distribution of the finite values, in % of all of them."""
        found = np.sort(np.ravel(np.asarray(values, float)))
        share = 100 * np.arange(1, len(found) + 1) / max(len(found), 1)
        finite = int(np.isfinite(found).sum())
        if finite:
            places = np.unique(np.linspace(0, finite - 1, min(finite, LINE)).astype(int))
            x, y = found[places], share[places]
            end = max(x[-1], self.x.limits[1] or 0)
            plain = [dataclasses.replace(look, marker="") for look in looks]
            self.line([x[0], *x, end], [0, *y, y[-1]], *plain, steps=True)

    def _add(self, kind: str, looks: Sequence[Look], **drawn: Any) -> None:
        first = looks[0]
        named = [look for look in looks if look.name]
        there = bool(np.any(~np.isnan(drawn["x"]) & ~np.isnan(drawn["y"])))
        for look in named if there else [look for look in named if look is first]:
            book = self.figure.legend if look is first else self.figure.meanings
            if look.name not in book or (look.marker and not book[look.name].marker):
                book[look.name] = look
        dash = next((look.dash for look in reversed(looks) if look.dash != "solid"), "solid")
        style = {"marker": first.marker, "hollow": any(look.hollow for look in looks), "dash": DASHES[dash]}
        name = {"name": ", ".join(look.name for look in named)}
        self.series.append((named, {"kind": kind, "color": first.color} | name | style | drawn))

    def plain(self, entries: Sequence[str]) -> Plain:
        """Returns the panel as JSON has it; ``entries`` are the names in the legend."""
        own: Plain = {"title": self.title} | ({"tags": self.tags} if self.tags else {})
        own |= {"square": True} if self.square else {}
        drawn = [series for _, series in self.series if series["kind"] not in WORDS]
        own["x"] = self.x.plain([one["x"] for one in drawn])
        own["y"] = self.y.plain([one[edge] for one in drawn for edge in ("y", "top") if edge in one])
        own["series"] = []
        for looks, one in self.series:
            if one["kind"] in WORDS or np.any(~np.isnan(one["x"]) & ~np.isnan(one["y"])):
                plain = {key: plain_numbers(value) if key in ("x", "y", "top") else value for key, value in one.items()}
                said = {key: value for key, value in plain.items() if value != _USUAL.get(key)}
                own["series"].append(said | {"entries": [entries.index(look.name) for look in looks]})
        return own


_USUAL = {"marker": "", "hollow": False, "steps": False, "dash": [], "opacity": 1}


@dataclasses.dataclass
class Figure:
    """Panels under one legend, which has the looks of series in their order, then what kinds of markers or lines mean.

    Attributes:
      columns: panels beside each other in the picture.
      width: of a panel of the picture, in pixels.
      height: likewise.
      share: "x", "y", "xy" or "": axes with the same ends in all panels, named once.
    """

    columns: int = 1
    width: int = 250
    height: int = 270
    share: str = ""
    panels: list[Panel] = dataclasses.field(default_factory=list)
    legend: dict[str, Look] = dataclasses.field(default_factory=dict)
    meanings: dict[str, Look] = dataclasses.field(default_factory=dict)

    def panel(self, title: str, x: Axis, y: Axis, tags: Mapping[str, str] | None = None, square: bool = False) -> Panel:
        """Returns a new panel.

        Args:
          title: over it.
          x: axis to the right.
          y: axis upwards.
          tags: what a reader of the page chooses it by.
          square: whether it is as wide as high.
        """
        self.panels.append(Panel(self, title, x, y, tags or {}, square))
        return self.panels[-1]

    def plain(self) -> Plain:
        """Returns the figure as JSON has it."""
        looks = self.legend | self.meanings
        panels = [panel.plain(list(looks)) for panel in self.panels]
        for axis in self.share:
            ends = np.array([panel[axis]["limits"] for panel in panels if panel["series"]] or [[0, 1]])
            for panel in panels:
                backwards = ends[0, 0] > ends[0, 1]
                panel[axis]["limits"] = plain_numbers([ends.min(), ends.max()][:: -1 if backwards else 1], 6)
        legend = [look.plain() for look in looks.values()]
        layout = {"columns": self.columns, "size": [self.width, self.height], "share": self.share}
        return {"panels": panels, "legend": legend, "layout": layout}


def plain_numbers(values: Iterable[float], digits: int = 5) -> list[float | int | None]:
    """Returns numbers as JSON has them, rounded; None for what is not finite."""
    rounded = (float(f"{value:.{digits}g}") if math.isfinite(value) else None for value in map(float, values))
    return [int(value) if value is not None and value.is_integer() else value for value in rounded]


def pale(color: str, share: float) -> str:
    """Returns a colour mixed with this share of white."""
    return "#" + "".join(f"{round(int(color[i : i + 2], 16) * (1 - share) + 255 * share):02X}" for i in (1, 3, 5))


def spread(values: ArrayLike, width: float, low: float, high: float) -> np.ndarray:
    """Returns the values moved at random by at most half the width, and back where they would leave the range."""
    found = np.asarray(values, float)
    moved = found + np.random.default_rng(0).uniform(-width / 2, width / 2, found.shape)
    return high - np.abs(high - (low + np.abs(moved - low)))


def level_lines(axis: np.ndarray, surface: np.ndarray, level: float) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns the lines on which a surface over a square has a value: every third point, and the corners."""
    import contourpy

    found = []
    for line in contourpy.contour_generator(axis, axis, surface).lines(level):
        assert isinstance(line, np.ndarray)
        turn = np.abs(np.diff(np.unwrap(np.arctan2(*np.diff(line, axis=0).T))))
        kept = np.arange(len(line)) % 3 == 0
        kept[[0, -1]] = True
        kept[1:-1] |= turn > CORNER
        found.append((line[kept, 0], line[kept, 1]))
    return found


def _fewer(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Returns the places of at most ``LINE`` points: of each part of the line its lowest and highest, and gaps."""
    if len(x) <= LINE or np.isnan(x).all():
        return np.arange(len(x))
    inner = np.nanmin(x) + (np.nanmax(x) - np.nanmin(x)) * np.linspace(0, 1, LINE // 2)[1:-1]
    parts = np.split(np.arange(len(x)), np.searchsorted(np.maximum.accumulate(np.nan_to_num(x, nan=-np.inf)), inner))
    edges = np.flatnonzero(np.diff(np.isnan(y)))
    kept = [0, len(x) - 1, *edges, *(edges + 1)]
    for part in parts:
        own = part[~np.isnan(y[part])]
        kept += [own[y[own].argmin()], own[y[own].argmax()]] if len(own) else part[:1].tolist()
    return np.unique(kept)
