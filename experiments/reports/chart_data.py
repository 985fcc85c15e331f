"""A matplotlib figure as data: panels of lines, points and bands, which ``report.html`` draws to be hovered and zoomed.

What is read is what the figures of this project are made of. Any other artist is left out: the picture has it.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, TypeGuard

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import Collection, LineCollection, PathCollection, PolyCollection
from matplotlib.colors import to_hex, to_rgba
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator

from .thin import corners, thinned

LINES, LINE = 3000, (24, 160)
"""Points of the lines of a panel together, and of one line, at least and at most."""
CLOUDS, CLOUD = 900, 100
"""Points of the clouds of a panel together, and from how many on a series is a cloud."""
PIXELS = 4 / 3
"""Of a point, at 96 pixels an inch."""
DASHES = {"--": [6, 4], ":": [2, 3], "-.": [6, 3, 2, 3]}
MARKERS = {"o": "circle", "s": "rect", "^": "triangle", "D": "rectRot", "x": "crossRot"}
SCALES = {"log": "log", "symlog": "symlog"}
GREY = 0.55
"""Entries of a legend that are grey and at most so bright say what a kind of line or marker means."""

Kind = Literal["line", "points", "segments", "band"]


@dataclasses.dataclass(frozen=True)
class Series:
    """What one artist draws; of a band, ``y`` is its lower and ``top`` its upper edge.

    ``entries`` are the places in the legend of what it is called by.
    """

    kind: Kind
    x: np.ndarray
    y: np.ndarray
    color: str
    top: np.ndarray | None = None
    name: str = ""
    dash: str = "-"
    marker: str = ""
    hollow: bool = False
    steps: bool = False
    size: float = 3
    width: float = 1.5
    opacity: float = 1
    entries: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class Entry:
    """An entry of a legend."""

    name: str
    color: str
    dash: str
    marker: str
    hollow: bool

    def plain(self) -> dict[str, Any]:
        """Returns the entry as JSON has it."""
        return dataclasses.asdict(self) | {"line": bool(self.dash), "dash": DASHES.get(self.dash, [])}

    def explains(self, series: Series) -> bool:
        """Tells whether a grey entry says what the kind of marker or line of a series means."""
        level = to_rgba(self.color)[0]
        if to_hex((level,) * 3) != self.color or level > GREY:
            return False
        if self.hollow:
            return series.hollow and series.kind == "points"
        return not self.marker and series.kind == "line" and self.dash == series.dash


def chart(figure: Figure) -> dict[str, Any]:
    """Returns the figure as plain data: ``panels``, each with axes and series, and ``legend``, which names them."""
    entries = list(dict.fromkeys(_entries(figure)))
    found = [(axes, _series(axes)) for axes in figure.axes]
    own = {series.color for _, part in found for series in part}
    telling = [entry for entry in entries if entry.color not in own]
    panels = []
    for axes, part in found:
        named = [_named(series, entries, telling) for series in part]
        look = _titles(axes) | _square(axes) | {name: _axis(axes, name) for name in ("x", "y")}
        panels.append(look | {"series": _plain(axes, named)})
    return {"panels": panels, "legend": [entry.plain() for entry in entries]}


def plain_numbers(values: Iterable[float], digits: int = 5) -> list[float | int | None]:
    """Returns numbers as JSON has them, rounded; None for what is not finite."""
    rounded = (float(f"{value:.{digits}g}") if math.isfinite(value) else None for value in map(float, values))
    return [int(value) if value is not None and value.is_integer() else value for value in rounded]


def _entries(figure: Figure) -> Iterable[Entry]:
    legends = [*figure.legends, *(legend for axes in figure.axes if (legend := axes.get_legend()) is not None)]
    for legend in legends:
        for handle, text in _pairs(legend):
            if isinstance(handle, Line2D):
                hollow = _is_hollow(handle)
                color = to_hex(handle.get_markeredgecolor() if hollow else handle.get_color())
                yield Entry(text, color, _style(handle), MARKERS.get(str(handle.get_marker()), ""), hollow)


def _pairs(legend: Legend) -> Iterable[tuple[Any, str]]:
    return zip(legend.legend_handles, (text.get_text() for text in legend.get_texts()), strict=True)


def _series(axes: Axes) -> list[Series]:
    found = [series for line in axes.lines if (series := _line(axes, line)) is not None]
    collections = [series for collection in axes.collections for series in _collection(axes, collection)]
    spans = [_span(axes, patch) for patch in axes.patches if _is_span(axes, patch)]
    behind = [series for series in (*spans, *collections) if series.kind != "segments"]
    return [*behind, *(series for series in collections if series.kind == "segments"), *found]


def _line(axes: Axes, line: Line2D) -> Series | None:
    x, y = (np.asarray(values, float) for values in line.get_data(orig=False))
    in_data = line.get_transform().contains_branch_seperately(axes.transData)
    x, y = (
        values if own else _from_axes(values, limits)
        for values, own, limits in zip((x, y), in_data, (axes.get_xlim(), axes.get_ylim()), strict=True)
    )
    style, marker = _style(line), MARKERS.get(str(line.get_marker()), "")
    if not np.any(np.isfinite(x) & np.isfinite(y)) or not (style or marker):
        return None
    hollow = bool(marker) and _is_hollow(line)
    return Series(
        kind="line" if style else "points",
        x=x,
        y=y,
        color=to_hex(line.get_markeredgecolor() if hollow else line.get_color()),
        name=_name(line),
        dash=style,
        marker=marker,
        hollow=hollow,
        steps=line.get_drawstyle() == "steps-post",
        size=PIXELS * line.get_markersize() / 2,
        width=line.get_linewidth(),
        opacity=1 if line.get_alpha() is None else line.get_alpha(),
    )


def _collection(axes: Axes, collection: Collection) -> Iterable[Series]:
    filled = len(collection.get_facecolor()) > 0
    if isinstance(collection, PathCollection) and filled:
        x, y = np.ma.filled(collection.get_offsets(), np.nan).T
        *_, opacity = to_rgba(collection.get_facecolor()[0])
        size = PIXELS * math.sqrt(collection.get_sizes()[0]) / 2
        yield Series("points", x, y, to_hex(collection.get_facecolor()[0]), marker="circle", size=size, opacity=opacity)
    elif isinstance(collection, PolyCollection) and filled:
        color = collection.get_facecolor()[0]
        for path in collection.get_paths():
            # The outline goes along the lower edge, back along the upper, with a corner between them at either end.
            half = (len(path.vertices) - 1) // 2
            x, low = path.vertices[1:half].T
            high = path.vertices[half + 1 : 2 * half, 1][::-1]
            yield Series(
                "band", x, np.minimum(low, high), to_hex(color), np.maximum(low, high), opacity=to_rgba(color)[3]
            )
    elif isinstance(collection, (LineCollection, ContourSet)):
        colors, widths = collection.get_edgecolor(), collection.get_linewidth()
        lines: dict[str, list[np.ndarray]] = {}
        span = np.ptp([axes.get_xlim(), axes.get_ylim()], axis=1)
        for i, path in enumerate(collection.get_paths()):
            parts = lines.setdefault(to_hex(colors[i % len(colors)]), [])
            whole = path.deepcopy()
            whole.should_simplify = False  # by pixels, where these are data
            for polygon in whole.to_polygons(closed_only=False):
                parts += [polygon[corners(polygon / span)], np.full((1, 2), np.nan)]
        for color, parts in lines.items():
            if parts:
                x, y = np.concatenate(parts).T
                yield Series("segments", x, y, color, width=float(widths[0]))


def _is_span(axes: Axes, patch: Artist) -> TypeGuard[Rectangle]:
    """Tells whether a patch is a rectangle from one side of the panel to the other."""
    in_data = patch.get_transform().contains_branch_seperately(axes.transData)
    return isinstance(patch, Rectangle) and tuple(in_data) == (False, True)


def _span(axes: Axes, patch: Rectangle) -> Series:
    low, high = patch.get_y(), patch.get_y() + patch.get_height()
    color = patch.get_facecolor()
    x = np.array(axes.get_xlim())
    return Series("band", x, np.full(2, low), to_hex(color), np.full(2, high), opacity=to_rgba(color)[3])


def _named(series: Series, entries: Sequence[Entry], telling: Sequence[Entry]) -> Series:
    """Returns the series with what the legend says of it: by its own label, or by its colour and kind."""
    same = [entry for entry in entries if entry.name == series.name]
    if not same:
        same = [entry for entry in entries if entry.color == series.color and entry not in telling]
        same = [entry for entry in same if entry.dash == series.dash] or same
        same = [*same[:1], *(entry for entry in telling if entry.explains(series))]
    name = series.name or ", ".join(entry.name for entry in same)
    return dataclasses.replace(series, name=name, entries=tuple(map(entries.index, same)))


def _plain(axes: Axes, found: Sequence[Series]) -> list[dict[str, Any]]:
    lines = sum(series.kind == "line" for series in found)
    clouds = sum(series.kind == "points" and len(series.x) > CLOUD for series in found)
    plain = []
    for series in found:
        if series.kind == "line":
            kept = thinned(*_on_paper(axes, series), int(np.clip(LINES // lines, *LINE)))
            series = dataclasses.replace(series, x=series.x[kept], y=series.y[kept])
        elif series.kind == "points" and len(series.x) > CLOUD:
            # Seeds are random: the first are as good as any.
            most = CLOUDS // clouds
            series = dataclasses.replace(series, x=series.x[:most], y=series.y[:most])
        own = {"kind": series.kind, "name": series.name, "color": series.color}
        own |= {"x": plain_numbers(series.x), "y": plain_numbers(series.y)}
        if series.top is not None:
            own["top"] = plain_numbers(series.top)
        looks = {"marker": "", "hollow": False, "steps": False, "size": 3, "width": 1.5, "opacity": 1, "entries": ()}
        own |= {name: getattr(series, name) for name, usual in looks.items() if getattr(series, name) != usual}
        plain.append(own | ({"dash": DASHES[series.dash]} if series.dash in DASHES else {}))
    return plain


def _on_paper(axes: Axes, series: Series) -> Iterator[np.ndarray]:
    """Yields x and y as shares of the panel."""
    for axis, values, limits in ((axes.xaxis, series.x, axes.get_xlim()), (axes.yaxis, series.y, axes.get_ylim())):
        with np.errstate(all="ignore"):
            start, end = axis.get_transform().transform(limits)
            yield (axis.get_transform().transform(values) - start) / (end - start)


def _square(axes: Axes) -> dict[str, Any]:
    return {"square": True} if axes.get_aspect() == 1 else {}


def _titles(axes: Axes) -> dict[str, Any]:
    """Returns the panel's title: its own, that of its column, or what stands at its side where the figure has more."""
    beside = axes.get_ylabel() if axes.figure.get_supylabel() else ""
    return {"title": axes.get_title() or beside or _first(axes, "get_title", rows=False)}


def _axis(axes: Axes, name: Literal["x", "y"]) -> dict[str, Any]:
    limits, axis = getattr(axes, f"get_{name}lim")(), getattr(axes, f"{name}axis")
    over = getattr(axes.figure, f"get_sup{name}label")()
    label = over or getattr(axes, f"get_{name}label")() or _first(axes, f"get_{name}label", rows=name == "y")
    # In a column the last panel has the label of x, in a row the first that of y.
    own: dict[str, Any] = {"label": label, "limits": plain_numbers(limits, 6)}
    scale = axis.get_scale()
    if scale in SCALES:
        own["scale"] = SCALES[scale]
    if scale == "symlog":
        own["linear"] = axis.get_transform().linthresh
    if isinstance(axis.get_major_locator(), FixedLocator):
        places = axis.get_majorticklocs()
        texts = axis.get_major_formatter().format_ticks(places)
        if not any("$" in text for text in texts):
            own["ticks"] = [list(pair) for pair in zip(plain_numbers(places), texts, strict=True)]
    return own


def _first(axes: Axes, getter: str, rows: bool) -> str:
    """Returns the first text that a panel in the same row, or in the same column, has."""
    spec = axes.get_subplotspec()
    if spec is None:
        return ""
    for other in axes.figure.axes:
        there = other.get_subplotspec()
        same = there is not None and (there.rowspan == spec.rowspan if rows else there.colspan == spec.colspan)
        if same and getattr(other, getter)():
            return str(getattr(other, getter)())
    return ""


def _from_axes(values: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    low, high = limits
    return low + values * (high - low)


def _is_hollow(line: Line2D) -> bool:
    return to_rgba(line.get_markerfacecolor())[:3] == (1, 1, 1) and str(line.get_marker()) in MARKERS


def _name(line: Line2D) -> str:
    """Returns the line's own label, one that a legend leaves out too; "" where it has none."""
    label = str(line.get_label())
    return "" if re.fullmatch(r"_child\d+|_nolegend_", label) else label.removeprefix("_")


def _style(line: Line2D) -> str:
    style = str(line.get_linestyle())
    return "" if style in ("None", "none", " ", "") else style
