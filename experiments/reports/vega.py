"""Figures in Vega-Lite: specifications for the page, PNG and SVG files for the record.

A specification is plain JSON (https://vega.github.io/vega-lite/docs/spec.html), and is written as such: a wrapper that
copies and checks each of hundreds of panels takes a second for every ten of them.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

from ..penalties.palette import GREY, INK
from .document import read_json, write_json
from .figures import WORDS, Figure, Plain

FIGURES = "figures.json"
"""The figures of a record, by name."""
OLD_MARKERS = {"rect": "square", "triangle": "triangle-up", "rectRot": "diamond", "crossRot": "cross"}
"""Names in records of earlier versions."""
CROSS = "M-0.7,-0.7L0.7,0.7M-0.7,0.7L0.7,-0.7"
PIXELS_PER_INCH = 144
LETTER, ROW = 6.8, 20
"""Width of a letter and height of a row in the legend of a picture, in pixels."""
CONFIG: Plain = {
    "font": "DejaVu Sans, sans-serif",
    "background": "white",
    "aria": False,
    "view": {"stroke": None},
    "axis": {"gridColor": "#e6e6e6", "domainColor": GREY, "tickColor": GREY, "labelFontSize": 11, "labelOverlap": True}
    | {"titleFontSize": 12, "titleFontWeight": "normal", "titlePadding": 8},
    "title": {"fontSize": 12, "fontWeight": "normal"},
}
NUMBER = (
    "datum.value == 0 ? '0' : abs(datum.value) >= 1e-3 && abs(datum.value) < 1e5 ? format(datum.value, '.4~g')"
    " : format(datum.value, '.3~e')"
)
"""An expression of Vega: the text of a tick."""
DIGIT = "round(datum.value / pow(10, floor(log(datum.value) / LN10 + 1e-9)))"


def save(figures: Mapping[str, Figure], folder: Path) -> None:
    """Writes NAME.png and NAME.svg, and the figures as data for the page; the same figure gives the same bytes."""
    import vl_convert

    plain = {name: figure.plain() for name, figure in figures.items()}
    add_figures(folder, plain)
    for name, figure in plain.items():
        drawn = _svg(figure)
        (folder / f"{name}.svg").write_text(drawn, encoding="utf-8")
        (folder / f"{name}.png").write_bytes(vl_convert.svg_to_png(drawn, ppi=PIXELS_PER_INCH))


def _svg(figure: Plain) -> str:
    import vl_convert

    numbers: dict[str, str] = {}  # Vega counts on from figure to figure
    drawn = vl_convert.vegalite_to_svg(picture(figure))
    return re.sub(r"\bclip\d+\b", lambda found: numbers.setdefault(found[0], f"clip{len(numbers)}"), drawn)


def add_figures(folder: Path, figures: Mapping[str, Plain]) -> None:
    """Adds figures to ``figures.json``."""
    write_json(folder / FIGURES, read_json(folder / FIGURES, {}) | figures)


@functools.cache
def libraries() -> str:
    """Returns Vega, Vega-Lite and Vega-Embed as one script: the versions that draw the pictures too.

    It takes more than a second to put together, so it is kept in the user's cache.
    """
    import platformdirs
    import vl_convert

    version = importlib.metadata.version("vl-convert-python")
    kept = platformdirs.user_cache_path("rvsmjax") / f"vega-{version}.js"
    with contextlib.suppress(OSError):
        return kept.read_text(encoding="utf-8")
    bundle: str = vl_convert.javascript_bundle()  # type: ignore[call-arg] # its annotation forgets the default
    with contextlib.suppress(OSError):
        kept.parent.mkdir(parents=True, exist_ok=True)
        part = kept.with_suffix(f".{os.getpid()}")
        part.write_text(bundle, encoding="utf-8")
        part.replace(kept)
    return bundle


def picture(figure: Plain) -> Plain:
    """Returns the specification of a whole figure as it is printed: legend, then panels in rows."""
    layout = {"columns": 3, "size": [250, 270], "share": ""} | figure.get("layout", {})
    columns, (width, height), count = layout["columns"], layout["size"], len(figure["panels"])
    views = []
    for number, panel in enumerate(figure["panels"]):
        titled = {"x": "x" not in layout["share"] or number + columns >= count}
        titled["y"] = "y" not in layout["share"] or number % columns == 0
        bare = {axis: panel[axis] | ({} if titled[axis] else {"label": ""}) for axis in ("x", "y")}
        size = {"width": height if panel.get("square") else width, "height": height}
        views.append(_view(panel | bare, live=False) | size | ({"title": panel["title"]} if panel["title"] else {}))
    whole: Plain = {"concat": views, "columns": columns, "spacing": 18}
    if figure["legend"]:
        signs = _legend(figure["legend"], min(columns, count) * (width + 40))
        whole = {"vconcat": [signs, whole], "center": True, "spacing": 6}
    return {"$schema": "https://vega.github.io/schema/vega-lite/v6.json", "config": CONFIG} | whole


def specification(panel: Plain) -> Plain:
    """Returns what the page draws of a panel, in the room there is; points, ends and what is hidden its script sets."""
    return _view(panel, live=True) | {"width": "container", "height": "container"}


def _view(panel: Plain, live: bool) -> Plain:
    series = panel["series"]
    data: Plain = {"name": "rows"} if live else {"values": _rows(series)}
    transform: list[Plain] = [{"window": [{"op": "row_number", "as": "i"}]}]
    transform.append({"calculate": f"{json.dumps([one['color'] for one in series])}[datum.s]", "as": "color"})
    if any(one["kind"] in WORDS for one in series):
        names = json.dumps([one["name"] for one in series], ensure_ascii=False)
        transform.append({"calculate": f"{names}[datum.s]", "as": "words"})
    if live:
        transform.append({"filter": "indexof(hidden, datum.s) < 0"})
    encoding = {name: _axis(panel[name], f"{name}Ends" if live else None) | {"field": name} for name in ("x", "y")}
    encoding |= {"color": {"field": "color", "scale": None}, "detail": {"field": "s"}}
    return {"data": data, "transform": transform, "encoding": encoding, "layer": _layers(series)}


def _rows(series: list[Plain]) -> list[Plain]:
    """Returns the points of all series; the page's script does the same."""
    return [
        {"s": number, "x": x, "y": y, "top": top}
        for number, one in enumerate(series)
        for x, y, top in zip(one["x"], one["y"], one.get("top") or one["y"], strict=True)
    ]


def _axis(axis: Plain, ends: str | None) -> Plain:
    """Returns the channel of an axis; ``ends`` names the parameter that has its ends, where the reader may zoom."""
    kind, limits = axis.get("scale", "linear"), axis["limits"]
    scale = {"type": kind, "domain": {"expr": ends} if ends else limits, "nice": False}
    scale |= {} if kind == "log" else {"zero": False}
    scale |= {"constant": axis["linear"]} if kind == "symlog" else {}
    look: Plain = {"title": axis["label"] or None, "labelExpr": NUMBER}
    if "ticks" in axis:
        values, texts = (list(part) for part in zip(*axis["ticks"], strict=True))
        named = f"{json.dumps(texts, ensure_ascii=False)}[indexof({json.dumps(values)}, datum.value)]"
        look |= {"values": values, "labelExpr": named, "labelOverlap": False}
        look |= {"labelAngle": -40} if max(map(len, texts)) > 6 else {}
    elif kind == "log":
        ratio = f"{ends}[1] / {ends}[0]" if ends else str(limits[1] / limits[0])
        digits = f"{ratio} > 300 ? [1] : {ratio} > 3 ? [1, 2, 5] : [1, 2, 3, 4, 5, 6, 7, 8, 9]"
        named = f"indexof({digits}, {DIGIT}) >= 0"
        look["tickCount"] = {"expr": f"{ratio} > 3 ? 20 : 4"}
        look["labelExpr"] = f"{named} ? {NUMBER} : ''"
        look["gridOpacity"] = {"condition": {"test": named, "value": 1}, "value": 0}
        look["tickOpacity"] = {"condition": {"test": named, "value": 1}, "value": 0.4}
    else:
        look |= {"tickCount": 5} | ({"tickMinStep": 1} if axis.get("whole") else {})
    return {"type": "quantitative", "scale": scale, "axis": look}


def _layers(series: list[Plain]) -> list[Plain]:
    """Returns the marks, those of one kind and look together; bands lie lowest, words highest."""
    styles: dict[str, list[int]] = {}
    for number, one in enumerate(series):
        style = {key: value for key, value in one.items() if key not in ("x", "y", "top", "name", "color", "entries")}
        styles.setdefault(json.dumps(style), []).append(number)
    layers = []
    for kind in ("band", "segments", "line", "points", *WORDS):
        for looks, members in styles.items():
            if layer := _layer(json.loads(looks), kind):
                layers.append(layer | {"transform": [{"filter": f"indexof({members}, datum.s) >= 0"}]})
    return layers or [{"mark": "point"}]


def _layer(style: Plain, drawn: str) -> Plain:
    """Returns what a style draws of a kind; a line with markers draws lines and points."""
    kind, marker = style["kind"], style.get("marker")
    mark: Plain = {"clip": True, "opacity": style.get("opacity", 1)}
    if drawn == "points" and marker and kind in ("line", "points"):
        return {"mark": mark | _point(marker, style)}
    if drawn != kind:
        return {}
    if kind == "band":
        return {"mark": mark | {"type": "area"}, "encoding": {"y2": {"field": "top"}}}
    if kind in ("line", "segments"):
        mark |= {"type": "line", "strokeWidth": style.get("width", 1.5), "strokeDash": style.get("dash", [])}
        mark |= {"interpolate": "step-after"} if style.get("steps") else {}
        return {"mark": mark, "encoding": {"order": {"field": "i", "type": "quantitative"}}}
    words: Plain = {"type": "text", "fontSize": 11}
    if kind == "text":
        side = {"align": style["align"], "baseline": style["baseline"], "dx": 7 if style["align"] == "left" else -7}
        return {"mark": words | side, "encoding": {"text": {"field": "words"}}}
    corner = {"x": {"value": "width"}, "y": {"value": "height"}, "text": {"field": "words"}}
    return {
        "mark": words | {"align": "right", "baseline": "bottom", "dx": -8, "dy": -6, "fontStyle": "italic"},
        "encoding": corner,
    }


def _point(marker: str, style: Plain) -> Plain:
    size = style.get("size", 4)
    mark = {"type": "point", "shape": OLD_MARKERS.get(marker, marker), "size": (2 * size) ** 2}
    if mark["shape"] == "cross":
        return mark | {"shape": CROSS, "filled": False, "strokeWidth": 2}
    if style.get("hollow"):
        return mark | {"filled": False, "fill": "white", "strokeWidth": 1.8}
    edge = {"stroke": "white", "strokeWidth": 0.8} if size >= 3 and style.get("opacity", 1) == 1 else {}
    return mark | {"filled": True} | edge


def _legend(entries: list[Plain], room: float) -> Plain:
    """Returns the legend of a picture: signs and names in rows."""
    layers: list[Plain] = []
    x, row, end = 0.0, 0, 0.0
    for entry in entries:
        width = 50 + LETTER * len(entry["name"])
        if x and x + width > room:
            x, row = 0, row + 1
        place = {"x": {"datum": x}, "y": {"datum": row}}
        if entry["line"]:
            mark = {"type": "rule", "color": entry["color"], "strokeWidth": 2, "strokeDash": entry["dash"]}
            layers.append({"mark": mark, "encoding": place | {"x2": {"datum": x + 26}}})
        if entry["marker"]:
            mark = _point(entry["marker"], entry)
            color = {"fill" if mark["filled"] else "stroke": entry["color"], "opacity": 1, "xOffset": 13}
            layers.append({"mark": mark | color, "encoding": place})
        text = {"type": "text", "text": entry["name"], "align": "left", "dx": 32, "fontSize": 12, "color": INK}
        layers.append({"mark": text, "encoding": place})
        x += width
        end = max(end, x)
    usual = {"type": "quantitative", "axis": None}
    across = usual | {"scale": {"domain": [0, end], "nice": False}}
    down = usual | {"scale": {"domain": [-0.5, row + 0.5], "reverse": True, "nice": False}}
    size = {"width": end, "height": ROW * (row + 1)}
    return size | {"data": {"values": [{}]}, "encoding": {"x": across, "y": down}, "layer": layers}
