"""Reports of several records laid into one: the same sections, tables and figures beside each other.

A report of one record goes the same way, so that a page knows one form alone.
"""

from __future__ import annotations

import collections
import dataclasses
import re
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from .document import Block, Chart, Picture, Section, Table

Of = Mapping[str, Any]
"""Something of each record that has it, by the record's letter; in the records' order."""


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of a grid: its cells, how many labels were repeated from above, and whether a group begins."""

    cells: Sequence[str]
    repeated: int = 0
    first: bool = False


@dataclasses.dataclass(frozen=True)
class Grid:
    """A table as a page shows it; its first ``labels`` columns say what a row is."""

    columns: Sequence[str]
    rows: Sequence[Row]
    title: str
    labels: int


@dataclasses.dataclass(frozen=True)
class Text:
    """A paragraph: what the records say, by letters; one text where all say the same."""

    of: Of


@dataclasses.dataclass(frozen=True)
class Drawn:
    """A figure and the records that have it."""

    name: str
    caption: str
    letters: Sequence[str]


@dataclasses.dataclass(frozen=True)
class Part:
    """A section of the page."""

    title: str
    blocks: Sequence[Text | Grid | Drawn]


def arranged(reports: Mapping[str, Sequence[Section]]) -> list[Part]:
    """Returns the sections of all reports in one order, what they share side by side.

    Args:
      reports: sections by the letter of their record.
    """
    titled = {letter: {_key(part.title): part for part in parts if part.on_page} for letter, parts in reports.items()}
    found = []
    for key in _union([list(parts) for parts in titled.values()]):
        own = {letter: parts[key] for letter, parts in titled.items() if key in parts}
        blocks = {letter: _by_place(part.blocks) for letter, part in own.items()}
        shown: list[Text | Grid | Drawn] = []
        for place in _union([list(of) for of in blocks.values()]):
            shown += _block({letter: of[place] for letter, of in blocks.items() if place in of}, len(reports))
        found.append(Part(next(iter(own.values())).title, shown))
    return found


def figures_first(parts: Sequence[Part]) -> list[Part]:
    """Returns the sections as a page shows them: words that introduce, figures that belong to no table, the rest."""
    with_table = [any(isinstance(block, Grid) for block in part.blocks) for part in parts]
    figures, rest = [], []
    for part, keeps in zip(parts, with_table, strict=True):
        moved = [block for block in part.blocks if isinstance(block, Drawn) and not keeps]
        figures += moved
        left = [block for block in part.blocks if block not in moved]
        rest += [dataclasses.replace(part, blocks=left)] if left else []
    first = next((i for i, part in enumerate(rest) if any(isinstance(block, Grid) for block in part.blocks)), len(rest))
    return [*rest[:first], *([Part("Figures", figures)] if figures else []), *rest[first:]]


def joined(figures: Of) -> dict[str, Any]:
    """Returns the figures of several records as one: panels beside each other, over the same ranges, with letters."""
    if len(figures) == 1:
        return dict(next(iter(figures.values())))
    legend = list({entry["name"]: entry for figure in figures.values() for entry in figure["legend"]}.values())
    places = {entry["name"]: place for place, entry in enumerate(legend)}
    panels = []
    for number in range(max(len(figure["panels"]) for figure in figures.values())):
        row = {key: own["panels"][number] for key, own in figures.items() if number < len(own["panels"])}
        limits = {axis: _limits([panel[axis] for panel in row.values()]) for axis in ("x", "y")}
        for letter, panel in row.items():
            names = [entry["name"] for entry in figures[letter]["legend"]]
            series = [
                one | {"entries": [places[names[i]] for i in one["entries"]]} if "entries" in one else one
                for one in panel["series"]
            ]
            title = ": ".join(part for part in (letter, panel["title"] or panel["y"]["label"]) if part)
            axes = {axis: panel[axis] | {"limits": limits[axis]} for axis in limits}
            panels.append(panel | {"title": title, "series": series} | axes)
    return {"panels": panels, "legend": legend}


def grid(table: Table) -> Grid:
    """Returns a table with its labels repeated in every row, so that rows can be sorted and filtered."""
    rows = [Row(cells, repeated, not repeated and _grouped(table)) for cells, repeated in _labelled(table)]
    return Grid(table.columns, rows, table.title, table.labels)


def merged(tables: Mapping[str, Table], count: int) -> list[Grid]:
    """Returns the tables of several records as one, each row followed by the same row of the others.

    Tables whose labels differ in kind stay apart.

    Args:
      tables: by the letter of their record.
      count: how many records there are, with those that have no such table.
    """
    heads = {tuple(table.columns[: table.labels]) for table in tables.values()}
    if len(heads) > 1:
        return [dataclasses.replace(grid(own), title=f"{letter}: {own.title}") for letter, own in tables.items()]
    labels = next(iter(tables.values())).labels
    columns = {letter: _numbered(table.columns[labels:]) for letter, table in tables.items()}
    every = _union(list(columns.values()))
    rows: dict[str, dict[Hashable, tuple[list[str], ...]]] = {}
    for letter, table in tables.items():
        filled = [cells for cells, _ in _labelled(table)]
        keys = _numbered([tuple(cells[:labels]) for cells in filled])
        values = [dict(zip(columns[letter], cells[labels:], strict=True)) for cells in filled]
        rows[letter] = {
            key: (cells[:labels], [own.get(column, "") for column in every])
            for key, cells, own in zip(keys, filled, values, strict=True)
        }
    found = []
    for key in _union([list(there) for there in rows.values()]):
        here = {letter: there[key] for letter, there in rows.items() if key in there}
        said: dict[tuple[str, ...], list[str]] = {}
        for letter, (_, own) in here.items():
            said.setdefault(tuple(own), []).append(letter)
        head = next(iter(here.values()))[0]
        for number, (row, letters) in enumerate(said.items()):
            who = "all" if len(letters) == count else " ".join(letters)
            found.append(Row([*head, who, *row], labels * (number > 0), number == 0))
    names = [str(name) for name, _ in every]
    head = list(next(iter(tables.values())).columns[:labels])
    return [Grid([*head, "record", *names], found, next(iter(tables.values())).title, labels + 1)]


def _block(of: Mapping[str, Block], count: int) -> list[Text | Grid | Drawn]:
    first = next(iter(of.values()))
    if isinstance(first, Table):
        tables = {letter: block for letter, block in of.items() if isinstance(block, Table)}
        return [grid(first)] if count == 1 else [*merged(tables, count)]
    if isinstance(first, (Picture, Chart)):
        name = first.name if isinstance(first, Chart) else first.path.rpartition(".")[0]
        return [Drawn(name, first.caption, list(of))]
    said: dict[str, list[str]] = {}
    for letter, text in of.items():
        said.setdefault(str(text), []).append(letter)
    alone = len(said) == 1 and len(of) == count
    return [Text({"" if alone else " ".join(letters): text for text, letters in said.items()})]


def _by_place(blocks: Sequence[Block]) -> dict[Hashable, Block]:
    """Returns the blocks by what they are called; by their number where they are not."""
    seen: collections.Counter[Hashable] = collections.Counter()
    found: dict[Hashable, Block] = {}
    for block in blocks:
        name = block.title if isinstance(block, Table) else block.caption if isinstance(block, Picture) else ""
        name = block.name if isinstance(block, Chart) else block.path if isinstance(block, Picture) else name
        kind = (type(block), name)
        found[kind, seen[kind]] = block
        seen[kind] += 1
    return found


def _labelled(table: Table) -> list[tuple[list[str], int]]:
    """Returns each row with the labels at its start that it leaves out, and their number."""
    found: list[tuple[list[str], int]] = []
    for row in table.rows:
        missing = next((i for i, cell in enumerate(row[: table.labels]) if cell), 0) if found else 0
        found.append(([*found[-1][0][:missing], *row[missing:]] if missing else list(row), missing))
    return found


def _grouped(table: Table) -> bool:
    return any(missing for _, missing in _labelled(table))


def _limits(axes: Sequence[dict[str, Any]]) -> list[float]:
    """Returns limits that hold all axes, in the direction of the first."""
    ends = [end for axis in axes for end in axis["limits"]]
    low, high = axes[0]["limits"]
    return [min(ends), max(ends)] if low < high else [max(ends), min(ends)]


def _numbered(items: Sequence[Hashable]) -> list[tuple[Hashable, int]]:
    """Returns each item with how often it came before."""
    seen: collections.Counter[Hashable] = collections.Counter()
    found = []
    for item in items:
        found.append((item, seen[item]))
        seen[item] += 1
    return found


def _union(orders: Sequence[Sequence[Any]]) -> list[Any]:
    """Returns all items once, a new one before what it precedes, else at the end."""
    found: list[Any] = []
    for order in orders:
        at = len(found)
        for item in reversed(order):
            if item in found:
                at = found.index(item)
            else:
                found.insert(at, item)
    return found


def _key(title: str) -> str:
    """Returns a title without the number at its end: "Claims that stand: 80"."""
    return re.sub(r": \d+$", "", title)
