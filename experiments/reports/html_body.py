"""What a reader sees of a page: head, contents, report, configuration."""

from __future__ import annotations

import base64
import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..records import run_info as facts
from ..records.program import PROGRAMS
from . import merge as beside
from .document import Section
from .html_tags import cell, grid_table, prose, scrolled, tag, text
from .merge import Drawn, Grid, Part, Text

COLORS = ("#4477AA", "#EE6677", "#228833", "#CCBB44", "#66CCEE", "#AA3377", "#999999")
"""Paul Tol's bright scheme."""
HINT = (
    '<p class="hint"><span class="mouse">Values: hover, or Tab and arrow keys. Zoom: drag, or + and −; 0 or a '
    'double-click resets.</span><span class="touch">Tap a figure for its values.</span></p>'
)
NO_SCRIPT = "<noscript><p>Drawn by JavaScript; the record's folder has it as a picture.</p></noscript>"


@dataclasses.dataclass(frozen=True)
class Record:
    """What a page shows of a record.

    Attributes:
      name: of its folder.
      title: heading of its report.
      facts: its ``config.json``.
      sections: its report.
      figures: by name, those drawn from data, as ``drawn.chart`` has them.
      folder: where its pictures are.
    """

    name: str
    title: str
    facts: dict[str, Any]
    sections: Sequence[Section]
    figures: dict[str, Any]
    folder: Path

    @property
    def command(self) -> str:
        """The name of the command that made it."""
        command = str(self.facts["command"])
        for program in PROGRAMS:
            command = command.removeprefix(program)
        return command.split()[0]


class Body:
    """A page while it is written: what stands in its contents, and what it draws."""

    def __init__(self, records: Sequence[Record], title: str) -> None:
        self.records = {chr(ord("A") + i): record for i, record in enumerate(records)}
        self.title = title
        self.several = len(records) > 1
        self.contents: list[tuple[str, str]] = []
        self.figures: dict[str, Any] = {}

    def html(self) -> str:
        """Returns all that a reader sees."""
        parts = beside.arranged({letter: record.sections for letter, record in self.records.items()})
        report = [self.section(part) for part in beside.figures_first(parts)]
        report.append(self.surroundings())
        links = [tag("li", tag("a", text(name), href=f"#{anchor}")) for anchor, name in self.contents]
        contents = tag("details", tag("summary", "Contents"), tag("ol", *links), open=True)
        main = tag("main", "\n", *report, id="report")
        frame = [self.head(), tag("nav", contents, aria_label="Contents"), main]
        skip = tag("a", "To the report", class_="skip", href="#report")
        said = tag("div", id="said", class_="unseen", role="status")
        return "\n".join([skip, tag("div", "\n", "\n".join(frame), class_="frame"), said])

    def head(self) -> str:
        """Returns title, commands, and where the time went."""
        parts = [tag("h1", text(self.title))]
        for letter, record in self.records.items():
            name = (tag("span", letter, class_="letter") + " ") * self.several + text(record.name)
            parts.append(tag("p", name, class_="quiet"))
            place = f"command-{letter}"
            button = tag("button", "Copy", type="button", class_="plain", data_copy=place, title="Copy the command")
            parts.append(tag("div", tag("code", text(record.facts["command"]), id=place), button, class_="again"))
            if not self.several:
                tiles = [
                    tag("div", tag("dt", text(what)), tag("dd", text(value), tag("small", text(remark))))
                    for what, value, remark in facts.tiles(record.facts)
                ]
                parts.append(tag("dl", *tiles, class_="tiles"))
            parts.append(_time(record.facts.get("seconds", {})))
        return tag("header", *parts)

    def section(self, part: Part) -> str:
        """Returns a section of the report."""
        anchor = f"part-{len(self.contents) + 1}"
        self.contents.append((anchor, part.title))
        blocks = [self.block(block, part.title) for block in part.blocks]
        title = tag("h2", text(part.title), id=f"{anchor}-title")
        return tag("section", "\n".join([title, *blocks, ""]), id=anchor, aria_labelledby=f"{anchor}-title") + "\n"

    def block(self, block: Text | Grid | Drawn, title: str) -> str:
        """Returns a block of a section with this title."""
        if isinstance(block, Grid):
            return grid_table(block, block.title or title)
        if isinstance(block, Drawn):
            return self.figure(block)
        said = [(tag("span", who, class_="letter") + " ") * bool(who) + prose(what) for who, what in block.of.items()]
        return "\n".join(tag("p", one) for one in said)

    def figure(self, drawn: Drawn) -> str:
        """Returns a figure to be drawn from its data; else its picture; nothing where there is neither."""
        caption = tag("figcaption", prose(drawn.caption))
        found = {key: own for key in drawn.letters if (own := self.records[key].figures.get(drawn.name))}
        if found and all(any(panel["series"] for panel in own["panels"]) for own in found.values()):
            hint = "" if self.figures else HINT
            self.figures[drawn.name] = beside.joined(found)
            return tag("figure", caption, hint, NO_SCRIPT, data_chart=drawn.name)
        paths = [self.records[key].folder / f"{drawn.name}.png" for key in drawn.letters]
        data = [base64.b64encode(path.read_bytes()).decode() for path in paths if path.is_file()]
        pictures = [f'<img alt="{text(drawn.caption)}" src="data:image/png;base64,{own}">' for own in data]
        return tag("figure", caption, *pictures) if pictures else ""

    def surroundings(self) -> str:
        """Returns configuration, run, times and versions; of several records with what differs marked."""
        self.contents.append(("facts", "Configuration"))
        of = {letter: facts.groups(record.facts) for letter, record in self.records.items()}
        boxes = []
        for group in next(iter(of.values())):
            rows = []
            for name in dict.fromkeys(name for own in of.values() for name in own[group]):
                values = [own[group].get(name, "–") for own in of.values()]
                differs = "differs" if len(set(values)) > 1 else False
                head = tag("th", text(name), scope="row", class_="label")
                rows.append(tag("tr", head, *(cell(value, "fact") for value in values), class_=differs))
            heads = [tag("th", letter, scope="col") for letter in of]
            head = tag("thead", tag("tr", tag("td"), *heads)) if self.several else ""
            table = scrolled(tag("table", head, tag("tbody", *rows)), group)
            boxes.append(tag("details", tag("summary", tag("h3", group)), table, open=True))
        only = '<p><label><input type="checkbox" data-only> only what differs</label></p>' * self.several
        grid = tag("div", *boxes, class_="facts" + " beside" * self.several)
        return tag("section", tag("h2", "Configuration and surroundings"), only, grid, id="facts")


def _time(seconds: dict[str, float]) -> str:
    """Returns the phases of a run as a bar of their shares."""
    whole = sum(seconds.values())
    if not whole:
        return ""
    bar, names = [], []
    for (name, value), color in zip(seconds.items(), itertools.cycle(COLORS)):
        bar.append(tag("span", style=f"--c:{color};width:{100 * value / whole:.2f}%"))
        names.append(tag("li", text(f"{name} {facts.duration(value)}"), style=f"--c:{color}"))
    shown = tag("div", *bar, class_="bar", aria_hidden="true")
    return tag("div", shown, tag("ul", *names, aria_label="Time by phase"), class_="time")
