"""Records are written atomically."""

import os
import shutil

import pytest

from experiments.records.folder import DONE, SETTINGS, BadInput, record, write_config


def tree(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def write(out, text, error=None, **kwargs):
    with record(out, **kwargs) as folder:
        (folder / "data").write_text(text)
        (folder / DONE).mkdir(exist_ok=True)
        if error:
            raise error
        write_config(folder, {"text": text})


def test_appears_only_at_the_end_with_missing_parents(tmp_path):
    out = tmp_path / "a" / "b" / "record"
    with record(out) as folder:
        (folder / "data").write_text("x")
        assert not out.exists()
        assert folder.name.startswith(".")
        assert folder.parent == out.parent
    assert tree(tmp_path) == ["a", "a/b", "a/b/record", "a/b/record/data"]
    plain = tmp_path / "plain"
    plain.mkdir()
    assert out.stat().st_mode == plain.stat().st_mode


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_failure_in_the_middle_leaves_nothing(tmp_path, error):
    with pytest.raises(error):
        write(tmp_path / "a" / "record", "x", error=error)
    assert tree(tmp_path) == []


def test_existing_record_is_refused_before_the_body_runs(tmp_path):
    write(tmp_path / "record", "old")
    with pytest.raises(BadInput, match="overwrite"), record(tmp_path / "record"):
        pytest.fail("the body ran")
    assert (tmp_path / "record" / "data").read_text() == "old"


def test_existing_empty_folder_is_refused(tmp_path):
    with pytest.raises(BadInput, match="overwrite"):
        write(tmp_path, "x")


def test_overwrite_replaces_a_record_and_leaves_no_trace_of_it(tmp_path):
    write(tmp_path / "record", "old")
    (tmp_path / "record" / "more").write_text("old")
    write(tmp_path / "record", "new", overwrite=True)
    assert tree(tmp_path) == ["record", "record/config.json", "record/data"]
    assert (tmp_path / "record" / "data").read_text() == "new"


def test_failed_overwrite_keeps_the_old_record(tmp_path):
    write(tmp_path / "record", "old")
    with pytest.raises(RuntimeError):
        write(tmp_path / "record", "new", error=RuntimeError, overwrite=True)
    assert tree(tmp_path) == ["record", "record/config.json", "record/data"]
    assert (tmp_path / "record" / "data").read_text() == "old"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_failure_keeps_finished_parts_for_the_same_settings(tmp_path, error):
    with pytest.raises(error):
        write(tmp_path / "a" / "record", "x", error=error, settings={"key": 1})
    left = [f"a/.record.unfinished/{name}" for name in ("data", DONE, SETTINGS)]
    assert tree(tmp_path) == ["a", "a/.record.unfinished", *left]
    with pytest.raises(BadInput, match=r"^key must be 1 .*, got 2$"):
        write(tmp_path / "a" / "record", "y", settings={"key": 2})
    assert tree(tmp_path) == ["a", "a/.record.unfinished", *left]
    with record(tmp_path / "a" / "record", settings={"key": 1}) as folder:
        assert (folder / "data").read_text() == "x"
    assert tree(tmp_path) == ["a", "a/record", "a/record/data"]


def test_a_record_killed_before_its_markers_are_removed_can_be_replaced(tmp_path, monkeypatch):
    def die(*args, **kwargs):
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", die)
        with pytest.raises(SystemExit):
            write(tmp_path / "record", "old", settings={"key": 1})
    assert {f"record/{DONE}", f"record/{SETTINGS}", "record/config.json"} < set(tree(tmp_path))
    write(tmp_path / "record", "new", settings={"key": 2}, overwrite=True)
    assert tree(tmp_path) == ["record", "record/config.json", "record/data"]
    assert (tmp_path / "record" / "data").read_text() == "new"


def test_a_record_that_appears_during_the_run_is_not_overwritten(tmp_path):
    with pytest.raises(BadInput, match="overwrite"), record(tmp_path / "record"):
        write(tmp_path / "record", "other")
    assert (tmp_path / "record" / "data").read_text() == "other"
    assert tree(tmp_path) == ["record", "record/config.json", "record/data"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_only_records_are_replaced(tmp_path, overwrite):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter").write_text("dear")
    (tmp_path / "file").write_text("x")
    write(tmp_path / "record", "old")
    os.symlink(tmp_path / "record", tmp_path / "link")
    before = tree(tmp_path)
    for name in ("home", "file", "link"):
        with pytest.raises(BadInput, match="neither"):
            write(tmp_path / name, "x", overwrite=overwrite)
    assert tree(tmp_path) == before


def test_an_unwritable_folder_is_refused_before_the_body_runs(tmp_path):
    (tmp_path / "file").write_text("x")
    for out in (tmp_path / "file" / "record", tmp_path / "file" / "a" / "record", tmp_path / ("long" * 100)):
        with pytest.raises(BadInput, match="writable folder"), record(out):
            pytest.fail("the body ran")
    assert tree(tmp_path) == ["file"]
