"""A report as data: sections of paragraphs, tables and pictures, shown as Markdown, on a terminal, or kept as JSON."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

TERMINAL_COLUMNS = {90: 7, 0: 4}
"""Columns of values beside each other on a terminal at least so wide; wider tables are folded."""


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of text. The first ``labels`` columns say what a row is."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""
    labels: int = 1


@dataclasses.dataclass(frozen=True)
class Picture:
    """An image beside the report."""

    path: str
    caption: str


@dataclasses.dataclass(frozen=True)
class Chart:
    """A figure of ``report.html`` alone, by its name in ``figures.json``."""

    name: str
    caption: str


Block = str | Table | Picture | Chart


@dataclasses.dataclass(frozen=True)
class Section:
    """A heading and what stands under it; ``on_terminal`` and ``on_page`` say whether those show it."""

    title: str
    blocks: Sequence[Block]
    on_terminal: bool = True
    on_page: bool = True


def to_markdown(title: str, sections: Sequence[Section]) -> str:
    """Returns the report as Markdown; a part of one, with smaller headings, where the title is empty."""
    parts = [f"# {title}"] if title else []
    for section in sections:
        parts.append(f"{'##' if title else '###'} {section.title}")
        for block in section.blocks:
            if isinstance(block, Table):
                parts += [f"{'###' if title else '####'} {block.title}"] * bool(block.title) + [_markdown_table(block)]
            elif isinstance(block, Picture):
                parts.append(f"![{block.caption}]({block.path})\n\n{block.caption}")
            elif isinstance(block, str):
                parts.append(block)
    return "\n\n".join(parts) + "\n"


def to_data(sections: Sequence[Section]) -> list[dict[str, Any]]:
    """Returns the sections as JSON has them."""

    def plain(block: Block) -> Any:
        return block if isinstance(block, str) else {"kind": type(block).__name__} | dataclasses.asdict(block)

    return [dataclasses.asdict(part) | {"blocks": [plain(block) for block in part.blocks]} for part in sections]


def from_data(data: Sequence[dict[str, Any]]) -> list[Section]:
    """Returns the sections that ``to_data`` made the data of."""

    def block(plain: Any) -> Block:
        if isinstance(plain, str):
            return plain
        kind = {"Table": Table, "Picture": Picture, "Chart": Chart}[plain["kind"]]
        found: Block = kind(**{name: value for name, value in plain.items() if name != "kind"})
        return found

    return [Section(**part | {"blocks": [block(plain) for plain in part["blocks"]]}) for part in data]


def read_json(path: Path, otherwise: Any = None) -> Any:
    """Returns what a file holds; ``otherwise``, if that is given, where there is no file."""
    if otherwise is not None and not path.exists():
        return otherwise
    return json.loads(path.read_text(encoding="utf-8"))


def write_json(path: Path, data: Any) -> None:
    """Writes a file without spaces."""
    path.write_text(json.dumps(data, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")


def fill(page: Path, marker: str, text: str) -> None:
    """Puts the text between ``<!-- MARKER -->`` and the next ``<!-- end -->`` of a page."""
    marked = re.compile(f"(<!-- {re.escape(marker)} -->).*?(<!-- end -->)", re.DOTALL)
    page.write_text(marked.sub(lambda m: f"{m[1]}\n{text}\n{m[2]}", page.read_text(encoding="utf-8")), encoding="utf-8")


def show(console: Console, sections: Sequence[Section]) -> None:
    """Prints the sections meant for a terminal, tables and all, within 100 columns."""
    width = min(console.width, 100)
    for section in sections:
        if not section.on_terminal:
            continue
        console.print(Text(f"\n{section.title}", style="bold underline"))
        for block in section.blocks:
            if isinstance(block, Table):
                if block.title:
                    console.print(Text(f"\n{block.title}", style="bold"), width=width)
                for part in _folded(block, next(n for least, n in TERMINAL_COLUMNS.items() if width >= least)):
                    console.print(_rich_table(part), width=width)
            elif isinstance(block, str):
                console.print(Text(block), width=width)


def _markdown_table(table: Table) -> str:
    align = [":--" if i < table.labels else "--:" for i in range(len(table.columns))]
    lines = [table.columns, align, *table.rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _folded(table: Table, most: int) -> list[Table]:
    n = table.labels
    starts = range(n, len(table.columns), most)

    def part(line: Sequence[str], start: int) -> list[str]:
        return [*line[:n], *line[start : start + most]]

    return [Table(part(table.columns, s), [part(row, s) for row in table.rows], labels=n) for s in starts]


def _rich_table(table: Table) -> RichTable:
    grid = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
    for i, column in enumerate(table.columns):
        grid.add_column(Text(column), justify="left" if i < table.labels else "right")
    for row in table.rows:
        # An error under its value leaves room for more columns.
        grid.add_row(*(Text(cell.replace(" ± ", "\n± "), style="red" * cell.endswith(("✗", "†"))) for cell in row))
    return grid
