"""Text and tables of a page as HTML, escaped."""

from __future__ import annotations

import html
import re

from .merge import Grid, Row

FILTERED = 8
"""Rows from which on a table can be filtered."""
LONG = 36
"""Characters from which on a cell may break."""


def text(value: object) -> str:
    """Returns text that means nothing to a browser."""
    return html.escape(str(value))


def tag(name: str, *content: str, **attributes: object) -> str:
    """Returns an element.

    Args:
      name: of the element.
      content: HTML.
      attributes: their values as text, for names that end in ``_`` without it, with ``-`` for other ``_``; False
        leaves one out.
    """
    shown = [
        f" {key.rstrip('_').replace('_', '-')}" + (f'="{text(value)}"' if value is not True else "")
        for key, value in attributes.items()
        if value is not False
    ]
    return f"<{name}{''.join(shown)}>{''.join(content)}</{name}>"


def prose(value: str) -> str:
    """Returns a paragraph's text; what stands between backticks is code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", text(value))


def cell(value: str, kind: str = "") -> str:
    """Returns a cell of a table: its error and its mark for a miss set apart."""
    shown = re.sub(r" (±[^✗†]*)", r' <span class="error">\1</span>', prose(value))
    shown = re.sub(r" ?([✗†])$", r' <span class="miss">\1</span>', shown)
    return tag("td", shown, class_=kind or False)


def scrolled(table: str, name: str) -> str:
    """Returns a table in a box of its own that scrolls, by keys too."""
    return tag("div", table, class_="scroll", tabindex=0, role="region", aria_label=name)


def grid_table(grid: Grid, name: str) -> str:
    """Returns a table that sorts by its head and, if it has many rows, filters.

    Args:
      grid: the table.
      name: what it is called aloud.
    """
    kinds = [_kind(grid, i) for i in range(len(grid.columns))]
    heads = [
        tag(
            "th",
            tag("button", text(column) or tag("span", f"column {i + 1}", class_="unseen"), type="button"),
            scope="col",
            aria_sort="none",
            class_="label" if kind else False,
        )
        for i, (column, kind) in enumerate(zip(grid.columns, kinds, strict=True))
    ]
    rows = "\n".join(_row(row, kinds) for row in grid.rows)
    table = tag("table", tag("thead", tag("tr", *heads)), tag("tbody", "\n", rows, "\n"))
    tools = ""
    if len(grid.rows) >= FILTERED:
        label = f"Filter rows: {name}"
        search = f'<input type="search" placeholder="Filter rows" autocomplete="off" aria-label="{text(label)}">'
        tools = tag("div", search, tag("output", class_="quiet"), class_="tools")
    title = tag("h3", text(grid.title)) if grid.title else ""
    return tag("div", title, tools, scrolled(table, name), class_="table")


def _row(row: Row, kinds: list[str]) -> str:
    filled = [" filled" * (i < row.repeated) for i in range(len(kinds))]
    head = tag("th", prose(row.cells[0]), scope="row", class_=(kinds[0] + filled[0]).strip())
    cells = [
        cell(value, (kind + own).strip()) for value, kind, own in zip(row.cells[1:], kinds[1:], filled[1:], strict=True)
    ]
    return tag("tr", head, *cells, class_="first" if row.first else False)


def _kind(grid: Grid, place: int) -> str:
    """Returns how a column is set: as labels, as words, or, where it is "", as numbers."""
    values = [value for row in grid.rows if (value := row.cells[place]).strip("– ")]
    long = " long" * any(len(value) >= LONG for value in values)
    if place < grid.labels:
        return "label" + long
    numbers = sum(bool(re.match(r"[-−+]?\.?\d", value)) for value in values)
    return "" if 2 * numbers >= len(values) and not long else "text" + long
