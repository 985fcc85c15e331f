"""A page without a browser: whole, escaped, self-contained; the report command; the command that is copied."""

import dataclasses
import html.parser
import json
import re
import shlex
import time

import pytest

from experiments.cli import main as cli
from experiments.cli.flags import HOW, command_line
from experiments.reports import html_page as page
from experiments.reports import vega
from experiments.reports.document import from_data

VOID = {"meta", "link", "input", "img"}


class Reader(html.parser.HTMLParser):
    """Reads a page: its elements with their attributes and text, and whether they are well nested."""

    def __init__(self, text):
        super().__init__()
        self.open, self.found, self.wrong = [], [], []
        self.feed(text)
        self.wrong += self.open

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes), []))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if self.open[-1] == tag:
            self.open.pop()
        else:
            self.wrong.append(tag)

    def handle_data(self, data):
        if self.found:
            self.found[-1][2].append(data)

    def attributes(self, *names):
        return [own[name] for _, own, _ in self.found for name in names if name in own]

    def texts(self, tag):
        return ["".join(text).strip() for name, _, text in self.found if name == tag]


@pytest.fixture(scope="module")
def read(made_up):
    return Reader((made_up / "report.html").read_text(encoding="utf-8"))


def test_page_is_well_formed_and_every_anchor_leads_somewhere(read):
    assert read.wrong == []
    places = read.attributes("id")
    assert len(places) == len(set(places))
    assert {link.removeprefix("#") for link in read.attributes("href") if link != "data:,"} <= set(places)


def test_page_loads_nothing(read):
    assert all(re.match("#|data:", value) for value in read.attributes("src", "href", "action", "poster", "srcset"))
    policy = next(own["content"] for _, own, _ in read.found if own.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none';")
    assert "http" not in policy


def test_page_holds_every_cell_of_the_report(read, made_up):
    text = (made_up / "report.html").read_text(encoding="utf-8")
    report = json.loads((made_up / "report.json").read_text(encoding="utf-8"))
    cells = {
        cell for part in from_data(report["sections"]) if part.on_page for b in part.blocks for cell in cells_of(b)
    }
    assert len(cells) > 150
    shown = {re.sub("<.*?>", "", own) for own in re.findall(r"<t[hd][ >].*?</t[hd]>", text)}
    assert {html.unescape(own) for own in shown} >= cells


def cells_of(block):
    return [cell for row in getattr(block, "rows", ()) for cell in row]


def test_text_is_escaped(read, made_up):
    text = (made_up / "report.html").read_text(encoding="utf-8")
    assert "A made-up <sweep>" in read.texts("h1")
    assert "<sweep>" not in text
    assert "A & <b>" in read.texts("h2")
    assert "</script>" in read.texts("h3")
    assert "<i>" not in text
    assert read.texts("script")[0].startswith("{")
    json.loads(read.texts("script")[0])


def test_page_tells_command_commit_devices_times_and_waste(read):
    facts = " ".join("".join(text) for _, _, text in read.found)
    for word in ("--seeds 40", "0123456789", "with changes", "2 × cpu", "6.0 s", "10.5 s", "1.10", "2.00 GB", "0.10.2"):
        assert word in facts


def test_pages_are_small_and_quick(made_up):
    record = page.read_record(made_up)
    page.to_html([record])  # the library is read once
    start = time.perf_counter()
    size = len(page.to_html([record]).encode())
    assert time.perf_counter() - start < 1
    assert 900_000 < size < 1_200_000


def test_figures_of_the_sweep_are_on_the_page(read):
    drawn = read.attributes("data-chart")
    assert drawn == ["tradeoff", "distributions", "against_d", "against_k", "cells"]
    assert set(json.loads(read.texts("script")[0])) == set(drawn)


def test_report_writes_the_same_page_again(made_up, tmp_path):
    before = (made_up / "report.html").read_bytes()
    assert cli.main(["report", str(made_up), "--out", str(tmp_path / "page.html"), "--quiet"]) == 0
    assert (tmp_path / "page.html").read_bytes() == before
    (made_up / "report.html").write_text("old")
    assert cli.main(["report", str(made_up)]) == 0
    assert (made_up / "report.html").read_bytes() == before


def test_report_lays_records_beside_each_other_and_marks_what_differs(made_up, make_record, tmp_path):
    other = make_record("other", seeds=30)
    out = tmp_path / "new" / "page.html"
    assert cli.main(["report", str(made_up), str(other), "--out", str(out), "--quiet"]) == 0
    text = out.read_text(encoding="utf-8")
    read = Reader(text)
    assert read.wrong == []
    rows = {re.sub("<.*?>", " ", row).split()[0]: row for row in re.findall(r"<tr[^>]*>.*?</tr>", text)}
    assert 'class="differs"' in rows["seeds"]
    assert 'class="differs"' not in rows["tol"]
    table = text[text.index("Table 1: ℓ0") :]
    first = [re.sub("<.*?>", "|", row) for row in re.findall(r"<tr.*?</tr>", table)[1:4]]
    assert [row.split("|")[6] for row in first] == ["A", "B", "all"]  # ours, ours, the paper's once
    titles = [panel["title"] for panel in json.loads(read.texts("script")[0])["against_k"]["panels"]]
    assert titles[:2] == ["A: θ(w̄, w*)  [rad]", "B: θ(w̄, w*)  [rad]"]


@pytest.mark.parametrize("case", ["none", "missing", "twice", "other command", "exists", "old"])
def test_report_refuses_in_one_line(case, made_up, tmp_path, capsys):
    folder, out = tmp_path / "record", tmp_path / "page.html"
    folder.mkdir()
    for name in ("report.json", "config.json"):
        (folder / name).write_bytes((made_up / name).read_bytes())
    facts = json.loads((folder / "config.json").read_text())
    if case == "other command":
        (folder / "config.json").write_text(json.dumps(facts | {"command": "python -m experiments aht"}))
    if case == "old":
        (folder / "config.json").write_text(json.dumps({"config": facts["config"]}))
    if case == "exists":
        out.write_text("mine")
    folders = {
        "none": [],
        "missing": [tmp_path],
        "twice": [folder, folder],
        "exists": [folder, made_up],
        "other command": [folder, made_up],
        "old": [folder],
    }[case]
    assert cli.main(["report", *map(str, folders), "--out", str(out)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not out.exists() or out.read_text() == "mine"


FLAGS = [
    "sweep --quick --d 7 --normalize False True --penalty l1 tl1 --lam 1e-5 0.1 --a 0.5 --tol 1e-7 --key 3",
    "sweep --learning-rate 0.1 0.2 --precision float64",
    "binary --k 3 --figure-runs 2",
    "admm --beta 0.001 --normalize True",
    "aht --s 2",
    "audit --claims A-5.2.2 --restarts 0",
    "cifar --net slim --preset short --sparsity 0.9 0.95 --finished",
    "lenet-binary --best",
    "lenet5-compress --quick",
    "seeds --network conv",
    "stopping --time 3.5",
    "tune --quick",
    "figures",
]


@pytest.mark.parametrize("flags", FLAGS)
def test_the_copied_command_asks_for_the_same(flags, tmp_path):
    config = cli.parse([*flags.split(), "--out", str(tmp_path), "--quiet"])
    config = config.resolved() if hasattr(config, "resolved") else config
    line = command_line(flags.split()[0], config)
    assert line.startswith("python -m experiments ")
    assert str(tmp_path) not in line
    again = cli.parse(shlex.split(line)[3:])
    again = again.resolved() if hasattr(again, "resolved") else again
    for field in dataclasses.fields(config):
        if field.name not in HOW - {"quick"}:
            assert getattr(again, field.name) == getattr(config, field.name), field.name


def test_a_figure_without_data_is_shown_as_its_picture(made_up, tmp_path):
    for path in made_up.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "figures.json").unlink()
    read = Reader(page.to_html([page.read_record(tmp_path)]))
    assert read.wrong == []
    assert read.attributes("data-chart") == []
    assert len([own for own in read.attributes("src") if own.startswith("data:image/png;base64,")]) == 4
    assert len(page.to_html([page.read_record(tmp_path)])) > 300_000


def test_the_page_carries_the_points_of_the_figures(read, made_up):
    there = json.loads((made_up / "figures.json").read_text(encoding="utf-8"))
    for name, drawn in json.loads(read.texts("script")[0]).items():
        for panel, shown in zip(there[name]["panels"], drawn["panels"], strict=True):
            assert [one["y"] for one in panel["series"]] == [one["y"] for one in shown["series"]]
        assert "url" not in json.dumps(drawn["specs"])
        assert len(drawn["specs"]) <= len(drawn["panels"])
    assert len(drawn["specs"]) == 6  # of the cells, one for each quantity


def test_the_page_carries_its_library_and_whose_it_is(read, made_up):
    text = (made_up / "report.html").read_text(encoding="utf-8")
    assert vega.libraries().replace("</script", "<\\/script") in text
    assert "BSD-3-Clause" in text
    assert len(read.texts("script")) == 4  # data, tables, library, figures: none ends another


def test_the_library_is_kept_where_there_is_a_cache(tmp_path, monkeypatch):
    whole = vega.libraries()
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: tmp_path / name)
    assert vega.libraries.__wrapped__() == whole
    (kept,) = (tmp_path / "rvsmjax").iterdir()
    monkeypatch.setattr("vl_convert.javascript_bundle", lambda: pytest.fail("put together again"))
    assert vega.libraries.__wrapped__() == whole == kept.read_text(encoding="utf-8")
    monkeypatch.setattr("vl_convert.javascript_bundle", lambda: "new")
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: kept / name)  # a file, no folder
    assert vega.libraries.__wrapped__() == "new"
