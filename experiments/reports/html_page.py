"""The page of a record, and of several beside each other: one HTML file that needs nothing else, and no network.

Text and tables come from templates, escaped, and are readable without scripts. Figures are drawn by Vega from the data
of ``figures.json``. A policy in the page's head forbids it to load anything.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..penalties.palette import PALETTE
from ..records import run_info
from ..records.folder import CONFIG, BadInput
from ..records.program import PROGRAMS
from . import vega
from .document import Section, from_data, read_json, to_data, write_json
from .figures import Plain
from .merge import Drawn, Grid, arranged, figures_first, joined
from .vega import FIGURES

if TYPE_CHECKING:
    from markupsafe import Markup

REPORT, PAGE = "report.json", "report.html"
HERE = Path(__file__).parent
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'"
LONG = 36
"""Characters from which on a cell may break."""
SHAPES = {
    "circle": "M9 7a4 4 0 1 0 8 0a4 4 0 1 0 -8 0",
    "square": "M9 3h8v8h-8z",
    "triangle-up": "M13 2.5l4.5 8h-9z",
    "triangle-down": "M13 11.5l4.5-8h-9z",
    "triangle-left": "M8.5 7l8-4.5v9z",
    "triangle-right": "M17.5 7l-8-4.5v9z",
    "diamond": "M13 2l5 5l-5 5l-5-5z",
    "cross": "M9 3l8 8m0-8l-8 8",
}
SHAPES |= {old: SHAPES[new] for old, new in vega.OLD_MARKERS.items()}


@dataclasses.dataclass(frozen=True)
class Record:
    """What a page shows of a record.

    Attributes:
      name: of its folder.
      title: heading of its report.
      facts: its ``config.json``.
      sections: its report.
      figures: its ``figures.json``.
      folder: where its pictures are.
    """

    name: str
    title: str
    facts: dict[str, Any]
    sections: Sequence[Section]
    figures: dict[str, Plain]
    folder: Path

    @property
    def command(self) -> str:
        """The name of the command that made it."""
        command = str(self.facts["command"])
        for program in PROGRAMS:
            command = command.removeprefix(program)
        return command.split()[0]


def write_report(folder: Path, title: str, sections: Sequence[Section], facts: dict[str, Any]) -> None:
    """Writes ``report.json`` and the page of a record that is being filled."""
    write_json(folder / REPORT, {"title": title, "sections": to_data(sections)})
    plain = json.loads(json.dumps(facts, default=str))
    record = Record(Path(facts["config"]["out"]).name, title, plain, sections, read_json(folder / FIGURES, {}), folder)
    (folder / PAGE).write_text(to_html([record]), encoding="utf-8")


def read_record(folder: Path) -> Record:
    """Returns what a page needs of a record.

    Raises:
      BadInput: the folder holds no record with a report as data.
    """
    try:
        report, facts = read_json(folder / REPORT), read_json(folder / CONFIG)
        name = folder.resolve().name
        if not {"command", "config"} <= facts.keys():
            raise ValueError(f"{CONFIG} has no command")
        sections = from_data(report["sections"])
        return Record(name, report["title"], facts, sections, read_json(folder / FIGURES, {}), folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"a record must be a folder with {REPORT} and {CONFIG}, got {folder} ({error})") from None


def to_html(records: Sequence[Record]) -> str:
    """Returns the page of a record, or of several beside each other."""
    import jinja2
    from markupsafe import Markup

    lettered = {chr(ord("A") + i): record for i, record in enumerate(records)}
    parts = figures_first(arranged({letter: record.sections for letter, record in lettered.items()}))
    drawn = [block for part in parts for block in part.blocks if isinstance(block, Drawn)]
    titles = list(dict.fromkeys(record.title for record in records))
    facts = {letter: run_info.groups(record.facts) for letter, record in lettered.items()}
    page = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    page.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "separators": (",", ":")}
    page.filters |= {
        "prose": prose,
        "marked": marked,
        "kinds": kinds,
        "pictures": lambda block: _pictures(block, lettered),
    }
    page.globals |= {"tiles": run_info.tiles, "duration": run_info.duration, "colors": PALETTE, "shapes": SHAPES}
    return page.get_template("page.html").render(
        title=titles[0] if len(titles) == 1 else "Records beside each other",
        policy=POLICY,
        records=lettered,
        several=len(records) > 1,
        sections=[
            {"title": part.title, "blocks": [(type(one).__name__, one) for one in part.blocks]} for part in parts
        ],
        figures={block.name: found for block in drawn if (found := _figure(block, lettered))},
        facts={group: _side_by_side(group, facts) for group in facts["A"]},
        asset=lambda name: Markup((HERE / "assets" / name).read_text(encoding="utf-8")),
        libraries=lambda: Markup(vega.libraries().replace("</script", "<\\/script")),
    )


def _figure(block: Drawn, records: Mapping[str, Record]) -> Plain | None:
    """Returns what the page's script draws; None where a record has no data for it."""
    found = {key: own for key in block.letters if (own := records[key].figures.get(block.name))}
    if not found or not all(any(panel["series"] for panel in own["panels"]) for own in found.values()):
        return None
    whole = joined(found)
    told = ("name", "kind", "entries", "x", "y", "top")
    specs: list[Plain] = []
    panels = []
    for panel in whole["panels"]:
        spec = vega.specification(panel)
        specs += [spec] * (spec not in specs)  # those of a grid of cells are a few
        series = [{key: one[key] for key in told if key in one} for one in panel["series"]]
        panels.append(panel | {"series": series, "spec": specs.index(spec)})
    tags = dict.fromkeys(tag for panel in panels for tag in panel.get("tags", {}))
    choices = {tag: list(dict.fromkeys(panel["tags"][tag] for panel in panels if "tags" in panel)) for tag in tags}
    return {"records": len(found), "panels": panels, "specs": specs, "legend": whole["legend"], "choices": choices}


def _pictures(block: Drawn, records: Mapping[str, Record]) -> list[str]:
    """Returns the pictures of a figure that was not kept as data."""
    paths = [records[letter].folder / f"{block.name}.png" for letter in block.letters]
    return [base64.b64encode(path.read_bytes()).decode() for path in paths if path.is_file()]


def _side_by_side(group: str, facts: Mapping[str, Mapping[str, Mapping[str, str]]]) -> dict[str, list[str]]:
    """Returns by name what each record says of it."""
    names = dict.fromkeys(name for own in facts.values() for name in own[group])
    return {name: [own[group].get(name, "–") for own in facts.values()] for name in names}


def prose(value: str) -> Markup:
    """Returns a paragraph's text; what stands between backticks is code."""
    return _wrapped(r"`([^`]+)`", r"<code>\1</code>", value)


def marked(value: str) -> Markup:
    """Returns the text of a cell: its error and its mark for a miss set apart."""
    shown = _wrapped(r" (±[^✗†]*)", r' <span class="error">\1</span>', prose(value))
    return _wrapped(r" ?([✗†])$", r' <span class="miss">\1</span>', shown)


def _wrapped(pattern: str, tags: str, value: str) -> Markup:
    from markupsafe import Markup, escape

    return Markup(re.sub(pattern, tags, str(escape(value))))


def kinds(grid: Grid) -> list[str]:
    """Returns how each column is set: as labels, as words, or, where it is "", as numbers."""
    found = []
    for place in range(len(grid.columns)):
        values = [value for row in grid.rows if (value := row.cells[place]).strip("– ")]
        long = " long" * any(len(value) >= LONG for value in values)
        numbers = sum(bool(re.match(r"[-−+]?\.?\d", value)) for value in values)
        label, number = place < grid.labels, 2 * numbers >= len(values) and not long
        found.append("label" + long if label else "" if number else "text" + long)
    return found
