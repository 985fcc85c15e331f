"""The page of a record, and of several beside each other: one HTML file that needs nothing else, and no network.

Text and tables are written here, escaped, and readable without scripts. Figures are drawn by Chart.js with its zoom
plugin from the data of ``figures.json``: 225 kB that a page carries (``assets/README.md``), where Plotly's smallest
bundle takes 1 MB, Bokeh and Vega-Lite nearly as much, and uPlot, 50 kB, has neither clouds nor lines that turn back. A
policy in the page's head forbids it to load anything.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..records.folder import CONFIG, BadInput
from .document import Section, from_data, to_data
from .html_body import Body, Record
from .html_tags import text

REPORT, FIGURES, PAGE = "report.json", "figures.json", "report.html"
ASSETS = Path(__file__).parent / "assets"
LIBRARIES = ("chart.umd.min.js", "chartjs-plugin-zoom.min.js")
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'"


def write_report(folder: Path, title: str, sections: Sequence[Section], facts: dict[str, Any]) -> None:
    """Writes ``report.json`` and the page of a record that is being filled."""
    _write(folder / REPORT, {"title": title, "sections": to_data(sections)})
    figures = _read(folder / FIGURES) if (folder / FIGURES).exists() else {}
    plain = json.loads(json.dumps(facts, default=str))
    record = Record(Path(facts["config"]["out"]).name, title, plain, sections, figures, folder)
    (folder / PAGE).write_text(to_html([record]), encoding="utf-8")


def add_figure(folder: Path, name: str, figure: dict[str, Any]) -> None:
    """Adds a figure to ``figures.json``."""
    path = folder / FIGURES
    _write(path, (_read(path) if path.exists() else {}) | {name: figure})


def read_record(folder: Path) -> Record:
    """Returns what a page needs of a record.

    Raises:
      BadInput: the folder holds no record with a report as data.
    """
    try:
        report, facts = _read(folder / REPORT), _read(folder / CONFIG)
        figures = _read(folder / FIGURES) if (folder / FIGURES).exists() else {}
        name = folder.resolve().name
        if not {"command", "config"} <= facts.keys():
            raise ValueError(f"{CONFIG} has no command")
        return Record(name, report["title"], facts, from_data(report["sections"]), figures, folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"a record must be a folder with {REPORT} and {CONFIG}, got {folder} ({error})") from None


def to_html(records: Sequence[Record]) -> str:
    """Returns the page of a record, or of several beside each other."""
    titles = list(dict.fromkeys(record.title for record in records))
    title = titles[0] if len(titles) == 1 else "Records beside each other"
    page = Body(records, title)
    body = page.html()
    figures = json.dumps(page.figures, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    drawing = [f"<!--\n{_asset('LICENSE')}-->", *map(_script, LIBRARIES), _script("figures.js")] if page.figures else []
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<link rel="icon" href="data:,">',
            f"<title>{text(title)}</title>",
            f"<style>\n{_asset('page.css')}</style>",
            "</head>",
            "<body>",
            body,
            f'<script type="application/json" id="figures">{figures}</script>',
            _script("tables.js"),
            *drawing,
            "</body>",
            "</html>\n",
        ]
    )


def _script(name: str) -> str:
    source = re.sub(r"//# sourceMappingURL=.*", "", _asset(name))
    return f"<script>\n{source}</script>"


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _write(path: Path, data: Any) -> None:
    path.write_text(json.dumps(data, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")
