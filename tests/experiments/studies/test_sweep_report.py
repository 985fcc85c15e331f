"""Tables of a report on made-up sweeps."""

import numpy as np
import pytest
from rich.console import Console

from experiments.one_layer import paper_comparison as compare
from experiments.one_layer import tables
from experiments.one_layer.summary import summarize
from experiments.reports.document import Section, Table, show, to_markdown
from experiments.studies.sweep import report, verdict

RUN = {"config": {"tol": 1e-6}}


def test_convergence_counts_endings_broken_bounds_and_empty_u(make_lanes):
    lanes = make_lanes(penalty=("l1", "l0"), d=(10,), seeds=8)
    lanes.status[0, ..., 5:] = [1, 1, 2]
    lanes.slack_13[0, ..., :3] = [-1.0, -4e-6, -9e-6]  # 4k·tol is 8e-6
    lanes.slack_13[0, ..., 6] = -1.0  # not converged
    lanes.slack_14[1, ..., 0] = -1.0  # stated for l1 alone
    lanes.zeros[1, ..., :2] = 10
    lanes.attrs["tol"] = RUN["config"]["tol"]
    section = report.convergence(summarize(lanes), RUN)
    table = next(block for block in section.blocks if isinstance(block, Table))
    first, second = ([row[i] for i in (1, 2, 3, 5, 6)] for row in table.rows)
    assert first == ["5", "2", "1", "2", "0"]
    assert second == ["8", "0", "0", "0", "–"]
    assert "ℓ0 d = 10: 2 of 8 (25 %)" in section.blocks[-1]


def test_everything_beside_the_papers_setting_has_a_table_without_paper(make_lanes):
    lanes = make_lanes(penalty=("l1", "tl1(a=1)", "tl1(a=2)"), a=(np.nan, 1.0, 2.0), k=(2, 5))
    summary = summarize(lanes)
    (section,) = tables.further_tables(summary, compare.at_paper_setting(summary))
    titles = [block.title.split(", λ")[0] for block in section.blocks]
    assert titles == ["Tℓ1, a = 2; k = 2", "ℓ1; k = 5", "Tℓ1, a = 1; k = 5", "Tℓ1, a = 2; k = 5"]


def test_no_section_is_left_empty(make_lanes):
    summary = summarize(make_lanes())
    assert tables.further_tables(summary, compare.at_paper_setting(summary)) == []


def test_verdict_lists_each_value_outside(make_lanes):
    lanes = make_lanes(d=(10,))  # all random rows lie around 0.5
    lanes["zeros"] = lanes.zeros * 0 + 3
    cells = compare.at_paper_setting(summarize(lanes))
    rows = compare.limit_rows(cells)
    summary, outside = (b for b in verdict.agreement(cells).blocks if isinstance(b, Table))
    assert summary.rows[-1][1] == f"{rows.inside.sum()} of 12"
    assert len(outside.rows) == (~rows.inside).sum() > 3


@pytest.mark.parametrize("width", [60, 100, 200])
def test_both_renderings_hold_every_cell(width):
    columns = ["", *(f"d = {d}" for d in range(12))]
    rows = [[name, *(f"{name}{d} ± 0.{d}" for d in range(12))] for name in "xyz"]
    sections = [
        Section("Shown", ["many words " * 20, Table(columns, rows, "Title")]),
        Section("Hidden", ["secret"], False),
    ]
    markdown = to_markdown("Report", sections)
    console = Console(width=width, record=True, quiet=False, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        show(console, sections)
    text = console.export_text()
    for row in rows:
        for cell in row[1:]:
            assert f"| {cell} |" in markdown
            assert cell.split(" ± ")[0] in text
    assert "secret" in markdown
    assert "secret" not in text
    assert max(map(len, text.splitlines())) <= min(width, 100)
