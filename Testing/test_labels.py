"""Label sets on disk: who reads what, readings that never get lost or change in silence, merging, and bad input."""

from __future__ import annotations

import json
import multiprocessing
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from label_bench import body, column, dataset_with, made, saved_ct
from test_formats import validated
from typer.testing import CliRunner
from VertebralFractureQuantLib.cli.app import app
from VertebralFractureQuantLib.errors import VFQError
from VertebralFractureQuantLib.imaging.files import read_ct
from VertebralFractureQuantLib.labels import files, store
from VertebralFractureQuantLib.labels.adding import add_cases
from VertebralFractureQuantLib.labels.assigning import assign
from VertebralFractureQuantLib.labels.consensus import DOUBTS, METHODS
from VertebralFractureQuantLib.labels.dataset import (
    Case,
    changing,
    check_ct,
    checked_reader,
    create,
    load,
    reader_folder,
    to_json,
    with_cases,
    with_readers,
)
from VertebralFractureQuantLib.labels.merging import MARKER, merge
from VertebralFractureQuantLib.labels.reading import (
    MODES,
    REASONS,
    SOURCES,
    STATES,
    Label,
    LabelReading,
    correction,
    now,
)
from VertebralFractureQuantLib.labels.status import next_assignment, status
from VertebralFractureQuantLib.labels.store import final_readings, newest, path_of, save
from VertebralFractureQuantLib.report.schemas import schema
from VertebralFractureQuantLib.spine.levels import NAMES


def refused(code: str, call, *args, **keys) -> str:
    with pytest.raises(VFQError) as caught:
        call(*args, **keys)
    assert caught.value.code == code, caught.value
    return caught.value.message


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# --- who reads what


@pytest.fixture
def ten(tmp_path):
    """Ten cases without CTs, readers Anna and Bob."""
    return dataset_with(tmp_path / "set", [f"c{i}" for i in range(10)], ("Anna", "Bob"))


def test_a_label_set_is_the_same_after_it_was_written_and_read(ten):
    given = assign(ten, ["Anna", "Bob"], overlap=0.3, second=0.2)
    with changing(ten.folder) as held:
        held[0] = given
    found = load(ten.folder)
    assert to_json(found) == to_json(given)
    validated(json.loads((ten.folder / "dataset.json").read_text()), "vfq-dataset/1")


def test_the_overlap_is_read_by_all_and_the_rest_by_one_reader_each(ten):
    given = assign(ten, ["Anna", "Bob"], overlap=0.35).assignments
    shared = {a.case for a in given["Anna"] if a.overlap}
    assert len(shared) == 4 and shared == {a.case for a in given["Bob"] if a.overlap}
    alone = [[a.case for a in own if not a.overlap] for own in given.values()]
    assert [len(cases) for cases in alone] == [3, 3]
    assert {*alone[0], *alone[1], *shared} == set(ten.cases)


def test_each_reader_has_another_order_that_is_the_same_each_time(ten):
    first, again = (assign(ten, ["Anna", "Bob"]).assignments for _ in range(2))
    orders = [[a.case for a in own] for own in first.values()]
    assert first == again and orders[0] != orders[1] and sorted(orders[0]) == sorted(orders[1]) == sorted(ten.cases)
    other = assign(replace(ten, seed=1), ["Anna", "Bob"]).assignments
    assert [a.case for a in other["Anna"]] != orders[0]


def test_second_readings_come_last_and_not_before_their_time(ten):
    own = assign(ten, ["Anna"], second=0.25, after_days=21).assignments["Anna"]
    assert [a.session for a in own] == [1] * 10 + [2] * 3
    assert {a.after_days for a in own[10:]} == {21} and {a.case for a in own[10:]} < set(ten.cases)


def test_a_second_reading_is_due_when_its_days_have_passed(ten):
    given = assign(ten, ["Anna"], second=0.1, after_days=14)
    *first, second = given.assignments["Anna"]
    done = [LabelReading(a.case, "Anna", state="final", finished_at="2026-01-31T12:00:00+01:00") for a in first]
    assert next_assignment(given, "Anna", done[:3]) == first[3]
    assert next_assignment(given, "Anna", done) == second
    today = [replace(r, finished_at=now()) for r in done]
    assert next_assignment(given, "Anna", today) is None
    assert next_assignment(given, "Anna", [*done, replace(done[0], case=second.case, session=2)]) is None


def test_earlier_assignments_stay_when_cases_and_readers_are_added(ten):
    before = assign(ten, ["Anna", "Bob"], overlap=0.3)
    grown = with_readers(with_cases(before, [Case("new", "new")]), ["Cleo"])
    after = assign(grown, ["Anna", "Bob", "Cleo"], overlap=1.0).assignments
    for reader in ("Anna", "Bob"):
        old = before.assignments[reader]
        assert after[reader][: len(old)] == old and [a.case for a in after[reader][len(old) :]] == ["new"]
    shared = {a.case for a in before.assignments["Anna"] if a.overlap}
    assert {a.case for a in after["Cleo"]} == {*shared, "new"}


@pytest.mark.parametrize("name", ["", "  ", "x" * 81, "a\nb", "\x00"])
def test_a_name_that_no_reader_has_is_refused(name):
    refused("no_reader", checked_reader, name)


def test_names_with_odd_characters_get_folders_of_their_own():
    names = ["../../etc", "A/B", "A B", "A_B", "anna", "Anna", "\N{SNOWMAN}", "李雷", ".", "CON"]
    folders = {reader_folder(name) for name in names}
    assert len({f.lower() for f in folders}) == len(names)
    assert all(Path(f).name == f and not f.startswith(".") and len(f.encode()) < 80 for f in folders)


# --- saving


def reading_of(case="c0", reader="Anna", **keys) -> LabelReading:
    return LabelReading(case, reader, labels=column(("T9", "T10", "T11")), **keys)


def test_a_reading_is_the_same_after_it_was_saved_and_fits_its_schema(ten):
    extra = Label("T12", not_assessable="metal", comment="a screw", seconds=3.5, machine_points_shown=False)
    plane = np.array([[1.5, 2.0, -3.0], [0.6, 0.8, 0.0]])
    labels = (*column(("T9", "T10")), replace(column(("T11",), at=-90.0)[0], plane=plane, seconds=12.25), extra)
    given = LabelReading("c0", "Anna", mode="blinded", state="final", started_at="2026-01-31T12:00:00+01:00",
                         comment="\N{SNOWMAN}", labels=labels)  # fmt: skip
    path = path_of(ten, save(ten, given))
    data = validated(json.loads(path.read_text(encoding="utf-8")), "vfq-reading/1")
    (found,) = final_readings(ten).values()
    for one, other in zip(found.labels, labels, strict=True):
        assert vars(one).keys() == vars(other).keys()
        for key, value in vars(other).items():
            np.testing.assert_equal(getattr(one, key), value)
    assert (found.comment, found.mode, found.started_at) == (given.comment, "blinded", given.started_at)
    assert found.finished_at and found.revision == data["revision"] == 1


def test_a_draft_is_saved_again_and_a_final_reading_never_changes(ten):
    draft = save(ten, reading_of())
    final = save(ten, replace(draft, state="final"))
    assert (final.version, final.revision) == (1, 2)
    path = path_of(ten, final)
    before = path.read_bytes()
    assert "version 1 is final" in refused("labels_exist", save, ten, replace(final, comment="changed"))
    second = save(ten, replace(correction(final), comment="corrected", state="final"))
    assert path.read_bytes() == before and second.version == 2
    assert path_of(ten, second).name == "c0@v2.json"
    assert newest(ten, ("Anna", "c0", 1)).comment == "corrected"
    assert [r.version for r in store.history(ten, ("Anna", "c0", 1))] == [1, 2]
    assert final_readings(ten)[("Anna", "c0", 1)].comment == "corrected"


def test_a_correction_that_is_a_draft_leaves_the_final_reading_in_force(ten):
    final = save(ten, reading_of(state="final"))
    save(ten, replace(correction(final), comment="not yet"))
    assert final_readings(ten)[("Anna", "c0", 1)].comment == ""


def test_a_draft_that_was_saved_in_another_window_is_not_overwritten(ten):
    mine = theirs = save(ten, reading_of())
    save(ten, replace(theirs, comment="theirs"))
    assert "another window" in refused("labels_changed", save, ten, replace(mine, comment="mine"))
    assert newest(ten, ("Anna", "c0", 1)).comment == "theirs"


def test_a_second_reading_is_a_file_of_its_own(ten):
    save(ten, reading_of(state="final"))
    second = save(ten, reading_of(state="final", session=2))
    assert path_of(ten, second).name == "c0@session2.json" and len(final_readings(ten)) == 2


def _saves(folder: Path, reader: str, count: int) -> None:
    dataset = load(folder)
    reading = LabelReading("c0", reader, labels=column(("T9",)))
    for _ in range(count):
        reading = save(dataset, reading)


def test_two_readers_who_save_at_once_lose_nothing(ten):
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_saves, args=(ten.folder, name, 15)) for name in ("Anna", "Bob")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
    assert [w.exitcode for w in writers] == [0, 0]
    assert [newest(ten, (name, "c0", 1)).revision for name in ("Anna", "Bob")] == [15, 15]


def test_a_writer_that_holds_the_lock_is_named_and_an_error_releases_it(ten):
    with pytest.raises(ZeroDivisionError), files.locked(ten.folder):
        assert "another program" in refused("dataset_in_use", files.locked(ten.folder, 0.01).__enter__)
        raise ZeroDivisionError
    save(ten, reading_of())


@pytest.mark.parametrize("step", ["sync", "replace"])
def test_an_interrupted_save_leaves_the_earlier_file(ten, monkeypatch, step):
    draft = save(ten, reading_of())
    before = snapshot(ten.folder)

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*(os, "fsync" if step == "sync" else "replace"), full)
    assert "No space left" in refused("output_not_writable", save, ten, replace(draft, comment="lost"))
    assert snapshot(ten.folder) == before


# --- labels that are wrong


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (column(("T9", "T9")), "T9: this level is given 2 times"),
        (column(("T14",)), "no vertebra has this name"),
        ((Label("T9"),), "it has no key points"),
        ((Label(None, not_assessable="metal"),), "needs a level"),
        ((replace(column(("T9",))[0], not_assessable="fused"),), "is not assessable"),
        ((Label("T9", body(0.0)[:, ::-1]),), "superior points lie below"),
        ((Label("T9", body(0.0)[::-1]),), "anterior points lie behind"),
        ((Label("T9", body(0.0) * 10),), "farther apart than in any vertebra"),
    ],
)
def test_faulty_labels_are_refused_and_nothing_is_written(ten, labels, words):
    before = snapshot(ten.folder)
    assert words in refused("bad_labels", save, ten, LabelReading("c0", "Anna", state="final", labels=labels))
    assert {k: v for k, v in snapshot(ten.folder).items() if k != ".lock"} == {
        k: v for k, v in before.items() if k != ".lock"
    }


def test_readers_and_cases_that_the_set_does_not_have_are_refused(ten):
    refused("unknown_reader", save, ten, reading_of(reader="Nobody"))
    refused("unknown_case", save, ten, reading_of(case="none"))


def test_labels_outside_the_scan_are_refused(tmp_path):
    dataset = made(tmp_path, ["Anna"])
    inside = LabelReading("scan", "Anna", labels=column(("T9", "T10"), at=-30.0))
    save(dataset, inside)
    outside = replace(inside, reader="Anna", session=2, labels=column(("T9",), at=500.0))
    assert "outside the CT" in refused("bad_labels", save, dataset, outside)


def test_a_damaged_a_newer_and_a_renamed_reading_are_named(ten):
    good = path_of(ten, save(ten, reading_of(state="final")))
    text = good.read_text(encoding="utf-8")
    for broken, code in (
        (text[:200], "not_a_dataset"),
        (text.replace("vfq-reading/1", "vfq-reading/2"), "newer_schema"),
        (text.replace("RAS_mm", "LPS_mm"), "not_a_dataset"),
        (text.replace('"state": "final"', '"state": "done"'), "not_a_dataset"),
        (text.replace('"T9"', "7"), "not_a_dataset"),
    ):
        good.write_text(broken, encoding="utf-8")
        refused(code, final_readings, ten)
        assert [problem[0] for problem in status(ten).problems] == [code]
    good.write_text(text, encoding="utf-8")
    good.rename(good.with_name("c1.json"))
    assert "belongs into c0.json" in refused("not_a_dataset", final_readings, ten)


def test_a_time_without_a_zone_is_refused(ten):
    path = path_of(ten, save(ten, reading_of()))
    data = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**data, "saved_at": "2026-01-31T12:00:00"}), encoding="utf-8")
    assert "has no zone" in refused("not_a_dataset", final_readings, ten)


def test_a_label_set_of_a_newer_version_or_no_label_set_is_refused(ten, tmp_path):
    file = ten.folder / "dataset.json"
    text = file.read_text()
    file.write_text(text.replace("vfq-dataset/1", "vfq-dataset/2"))
    refused("newer_schema", load, ten.folder)
    file.write_text("{")
    refused("not_a_dataset", load, ten.folder)
    file.write_text(text.replace('"c1"', '"../c1"', 1))
    refused("not_a_dataset", load, ten.folder)
    refused("not_found", load, tmp_path / "nowhere")
    (tmp_path / "other").mkdir()
    refused("not_a_dataset", load, tmp_path / "other")
    (tmp_path / "other" / "mine.txt").write_text("mine")
    refused("output_exists", create, tmp_path / "other", "x", {})
    refused("bad_labels", create, tmp_path / "x", "x", {"levels": ["T4", "Q1"]})


# --- CTs


def test_a_ct_that_is_missing_or_replaced_under_its_labels_is_noticed(tmp_path):
    dataset = made(tmp_path, ["Anna"])
    save(dataset, LabelReading("scan", "Anna", labels=column(("T9",), at=-30.0)))
    assert status(dataset, verify=True).problems == ()
    path = dataset.ct_path(dataset.cases["scan"])
    saved_ct(path, value=41)
    assert [code for code, _ in status(dataset, verify=True).problems] == ["other_ct"]
    refused("other_ct", check_ct, dataset.cases["scan"], read_ct(path))
    path.unlink()
    assert [code for code, _ in status(dataset).problems] == ["not_found"]


def test_another_ct_of_the_same_name_is_refused(tmp_path):
    dataset = made(tmp_path, ["Anna"])
    before = snapshot(dataset.folder)
    other = saved_ct(tmp_path / "other" / "scan.nii.gz", value=41)
    refused("other_ct", add_cases, dataset.folder, [other])
    add_cases(dataset.folder, [dataset.ct_path(dataset.cases["scan"])])  # the same one is known
    assert snapshot(dataset.folder) == before


def test_labels_of_another_ct_are_refused(tmp_path):
    dataset = made(tmp_path, ["Anna"])
    reading = LabelReading("scan", "Anna", ct_sha256="0" * 64, labels=column(("T9",), at=-30.0))
    refused("other_ct", save, dataset, reading)


def test_cases_of_one_patient_are_named_in_a_table(tmp_path):
    dataset = made(tmp_path, ["Anna"])
    more = saved_ct(tmp_path / "scan2.nii.gz", value=41)
    table = tmp_path / "patients.csv"
    table.write_text("case,patient\nscan2,P1\n")
    add_cases(dataset.folder, [more], table)
    assert load(dataset.folder).cases["scan2"].patient == "P1"
    table.write_text("case,patient\nnone,P1\n")
    refused("bad_import", add_cases, dataset.folder, [more], table)
    table.write_text("name\nscan2\n")
    refused("bad_import", add_cases, dataset.folder, [more], table)


# --- merging


@pytest.fixture
def copies(tmp_path):
    """Two copies of a label set: Anna read c0 and c1 in the first one, Bob c0 in the second one."""
    first, second = (dataset_with(tmp_path / name, ["c0", "c1"], ("Anna", "Bob")) for name in ("one", "two"))
    for case in ("c0", "c1"):
        save(first, reading_of(case, state="final"))
    save(second, reading_of("c0", "Bob", state="final"))
    return first, second


def test_a_merge_brings_all_readings_together_and_can_be_repeated(copies):
    first, second = copies
    found = merge(first.folder, second.folder)
    assert (found.added, found.known, found.versions) == (1, 0, 0)
    assert set(final_readings(load(first.folder))) == {("Anna", "c0", 1), ("Anna", "c1", 1), ("Bob", "c0", 1)}
    before = snapshot(first.folder)
    assert merge(first.folder, second.folder).known == 1 and snapshot(first.folder) == before
    assert status(load(first.folder)).problems == ()


def test_readings_that_differ_are_refused_or_kept_beside_ours(copies):
    first, second = copies
    save(second, replace(reading_of("c1"), comment="another opinion", state="final"))
    before = snapshot(first.folder)
    message = refused("labels_exist", merge, first.folder, second.folder)
    assert "c1 by Anna" in message and snapshot(first.folder) == before
    assert merge(first.folder, second.folder, keep_both=True).versions == 1
    versions = store.history(first, ("Anna", "c1", 1))
    assert [v.comment for v in versions] == ["", "another opinion"]
    assert merge(first.folder, second.folder).known == 2  # both are known now


def test_a_correction_of_a_reading_that_differs_stays_the_one_that_counts(copies):
    first, second = copies
    saved = save(second, replace(reading_of("c1"), comment="another opinion", state="final"))
    save(second, replace(correction(saved), comment="corrected", state="final"))
    assert merge(first.folder, second.folder, keep_both=True).versions == 2
    versions = store.history(first, ("Anna", "c1", 1))
    assert [v.comment for v in versions] == ["", "another opinion", "corrected"]
    assert final_readings(first)["Anna", "c1", 1].comment == "corrected"
    before = snapshot(first.folder)
    assert merge(first.folder, second.folder).known == 3 and snapshot(first.folder) == before


def test_an_interrupted_merge_is_said_and_completed_by_the_next(copies, monkeypatch):
    first, second = copies
    save(second, reading_of("c1", "Bob", state="final"))
    written = []

    def dies(path, data):
        if len(written) == 2 and path.name != "dataset.json":
            raise KeyboardInterrupt
        written.append(path.name)
        files.write_json(path, data)

    monkeypatch.setattr("VertebralFractureQuantLib.labels.merging.write_json", dies)
    with pytest.raises(KeyboardInterrupt):
        merge(first.folder, second.folder)
    monkeypatch.undo()
    assert (first.folder / MARKER).exists()
    assert any("A merge was interrupted" in sentence for _, sentence in status(load(first.folder)).problems)
    assert merge(first.folder, second.folder).added == 1
    assert len(final_readings(load(first.folder))) == 4 and status(load(first.folder)).problems == ()


def test_copies_with_another_ct_of_the_same_case_are_not_merged(tmp_path):
    first = made(tmp_path / "a", ["Anna"])
    second = made(tmp_path / "b", ["Anna"], value=41)
    before = snapshot(first.folder)
    refused("other_ct", merge, first.folder, second.folder)
    assert snapshot(first.folder) == before


# --- the command


def run(*args) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(a) for a in args])
    return result.exit_code, result.output


def test_the_command_makes_assigns_and_shows_a_label_set(tmp_path):
    scan = saved_ct(tmp_path / "scan.nii.gz")
    folder = tmp_path / "set"
    code, text = run("dataset", "create", folder, scan, "--reader", "Anna", "--level", "T9", "--level", "T10")
    assert code == 0, text
    assert load(folder).protocol == {"text": "", "mode": "blinded", "levels": ["T9", "T10"]}
    assert run("dataset", "assign", folder, "--reader", "Anna", "--reader", "Bob")[0] == 0
    save(load(folder), LabelReading("scan", "Anna", state="final", labels=column(("T9",), at=-30.0)))
    code, text = run("dataset", "status", folder, "--verify", "--json")
    assert code == 0, text
    anna, bob = json.loads(text)["progress"]
    assert (anna["assigned"], anna["final"], anna["next_case"]) == (1, 1, None)
    assert (bob["reader"], bob["final"], bob["next_case"]) == ("Bob", 0, "scan")
    damaged = tmp_path / "damaged.nii.gz"
    damaged.write_bytes(scan.read_bytes()[:900])
    assert run("dataset", "create", tmp_path / "other", scan, damaged)[0] == 3
    assert not (tmp_path / "other").exists()
    assert run("dataset", "add", folder, damaged)[0] == 3
    assert run("dataset", "add", folder, saved_ct(tmp_path / "more.nii.gz", value=41))[0] == 0
    assert list(load(folder).cases) == ["scan", "more"]
    scan.unlink()
    code, text = run("dataset", "status", folder)
    assert code == 3 and "not_found: scan" in text
    assert run("dataset", "create", folder, scan)[0] == 3


def test_a_set_without_readers_cannot_be_assigned(tmp_path):
    create(tmp_path / "set", "x", {})
    code, text = run("dataset", "assign", tmp_path / "set")
    assert code == 3 and "no_reader" in text


def test_closed_lists_of_the_schemas_are_those_of_the_library():
    reading, consensus = schema("vfq-reading/1"), schema("vfq-consensus/1")
    label = reading["$defs"]["label"]["properties"]
    assert tuple(reading["properties"]["state"]["enum"]) == STATES
    assert tuple(reading["properties"]["mode"]["enum"]) == MODES
    assert tuple(label["not_assessable"]["enum"]) == (*REASONS, None)
    assert tuple(label["source"]["enum"]) == SOURCES and label["level"]["enum"] == [*NAMES, None]
    assert tuple(consensus["properties"]["method"]["enum"]) == METHODS
    assert tuple(consensus["properties"]["vertebrae"]["items"]["properties"]["doubts"]["items"]["enum"]) == DOUBTS


def test_a_reader_is_added_without_cases(tmp_path):
    folder = tmp_path / "set"
    assert run("dataset", "create", folder, saved_ct(tmp_path / "a.nii.gz"), "--reader", "Anna")[0] == 0
    assert run("dataset", "assign", folder)[0] == 0
    code, text = run("dataset", "add", folder, "--reader", " Cleo ", "--reader", "Anna")
    assert code == 0 and "The readers are Anna, Cleo." in text
    dataset = load(folder)
    assert dataset.readers == ("Anna", "Cleo") and list(dataset.cases) == ["a"]
    assert list(dataset.assignments) == ["Anna"] and dataset.reader("Cleo") == "Cleo"
    assert [(p.reader, p.assigned) for p in status(dataset).progress] == [("Anna", 1), ("Cleo", 0)]
    assert run("dataset", "assign", folder, "--reader", "Cleo")[0] == 0
    assert [a.case for a in load(folder).assignments["Cleo"]] == ["a"]


def test_adding_nothing_or_a_reader_without_a_name_is_refused(tmp_path):
    folder = tmp_path / "set"
    assert run("dataset", "create", folder)[0] == 0
    assert run("dataset", "add", folder)[0] == 2
    code, text = run("dataset", "add", folder, saved_ct(tmp_path / "a.nii.gz"), "--reader", " ")
    assert code == 3 and "no_reader" in text and not load(folder).cases and not load(folder).readers
