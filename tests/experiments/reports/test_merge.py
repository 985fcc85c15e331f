"""Reports laid beside each other: order, shared tables, what is told apart."""

from experiments.reports.document import Chart, Picture, Section, Table, from_data, to_data
from experiments.reports.merge import Drawn, Grid, Text, arranged, figures_first, grid, joined, merged


def cells(found):
    return [list(row.cells) for row in found.rows]


def test_labels_that_are_left_out_are_repeated():
    table = Table(["", "", "x"], [["a", "ours", "1"], ["", "paper", "2"], ["b", "ours", "3"]], labels=2)
    found = grid(table)
    assert cells(found) == [["a", "ours", "1"], ["a", "paper", "2"], ["b", "ours", "3"]]
    assert [row.repeated for row in found.rows] == [0, 1, 0]
    assert [row.first for row in found.rows] == [True, False, True]


def test_a_label_that_is_empty_on_purpose_stays():
    assert cells(grid(Table(["", "", "x"], [["a", "b", "1"], ["c", "", "2"]], labels=2))) == [
        ["a", "b", "1"],
        ["c", "", "2"],
    ]


def test_rows_of_one_table_stand_under_each_other():
    first = Table(["", "d = 1", "d = 2"], [["a", "1", "2"], ["b", "3", "4"]], "T")
    second = Table(["", "d = 1", "d = 3"], [["b", "3", "9"], ["c", "7", "8"]], "T")
    (found,) = merged({"A": first, "B": second}, 2)
    assert list(found.columns) == ["", "record", "d = 1", "d = 2", "d = 3"]
    assert cells(found) == [
        ["a", "A", "1", "2", ""],
        ["b", "A", "3", "4", ""],
        ["b", "B", "3", "", "9"],
        ["c", "B", "7", "", "8"],
    ]
    assert found.labels == 2


def test_what_all_say_is_said_once():
    table = Table(["", "x", "x"], [["a", "1", "2"]])
    (found,) = merged({"A": table, "B": table}, 2)
    assert cells(found) == [["a", "all", "1", "2"]]
    (found,) = merged({"A": table, "B": table}, 3)
    assert cells(found) == [["a", "A B", "1", "2"]]


def test_tables_of_other_kinds_stay_apart():
    found = merged({"A": Table(["a", "x"], [], "T"), "B": Table(["b", "x"], [], "T")}, 2)
    assert [own.title for own in found] == ["A: T", "B: T"]


def test_sections_and_texts_that_differ_are_marked():
    first = [Section("Same: 3", ["one", "two"]), Section("Only A", ["x"])]
    second = [Section("New", ["y"]), Section("Same: 4", ["one", "other"])]
    found = arranged({"A": first, "B": second})
    assert [part.title for part in found] == ["New", "Same: 3", "Only A"]
    assert [block.of for block in found[1].blocks] == [{"": "one"}, {"A": "two", "B": "other"}]
    assert found[2].blocks == [Text({"A": "x"})]


def test_sections_that_are_not_for_pages_are_left_out():
    assert arranged({"A": [Section("No", ["x"], on_page=False)]}) == []


def test_figures_stand_after_the_words_before_the_first_table_unless_they_belong_to_one():
    table = Table(["", "x"], [["a", "1"]])
    parts = arranged(
        {
            "A": [
                Section("Words", ["text"]),
                Section("With", [table, Picture("own.png", "own")]),
                Section("Setting", ["more", Picture("a.png", "a"), Chart("b", "b")]),
                Section("Figures", [Picture("c.png", "c")]),
            ]
        }
    )
    found = figures_first(parts)
    assert [part.title for part in found] == ["Words", "Figures", "With", "Setting"]
    assert [block.name for block in found[1].blocks] == ["a", "b", "c"]
    assert isinstance(found[2].blocks[0], Grid)
    assert found[2].blocks[1] == Drawn("own", "own", ["A"])


def test_figures_are_joined_over_the_same_ranges():
    def one(limits, names):
        axis = {"label": "x", "limits": limits}
        series = [{"kind": "line", "name": name, "entries": [i], "x": [], "y": []} for i, name in enumerate(names)]
        return {
            "panels": [{"title": "t", "x": axis, "y": axis, "series": series}],
            "legend": [{"name": n} for n in names],
        }

    found = joined({"A": one([5, 1], ["a", "b"]), "B": one([4, 0], ["b", "c"])})
    assert [panel["title"] for panel in found["panels"]] == ["A: t", "B: t"]
    assert [panel["x"]["limits"] for panel in found["panels"]] == [[5, 0], [5, 0]]
    assert [entry["name"] for entry in found["legend"]] == ["a", "b", "c"]
    assert [series["entries"] for series in found["panels"][1]["series"]] == [[1], [2]]


def test_sections_survive_json():
    sections = [
        Section("S", ["text", Table(["a"], [["1"]], "T", 1), Picture("p.png", "c"), Chart("n", "c")], False, False)
    ]
    assert from_data(to_data(sections)) == sections
