"""The engine of `vfq cohort run`: every scan is accounted for, and a run that ends in any way is continued exactly.

The work is replaced by a stub where the point is the state, see `cohort_bench`; workers are processes of dask where the
point is how they die.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import cohort_bench as bench
import polars as pl
import pytest
from jsonschema import Draft202012Validator, FormatChecker
from test_ct import body, dicom_series
from typer.testing import CliRunner
from VertebralFractureQuantLib.cli.app import app
from VertebralFractureQuantLib.cohort import dask_crew, rows, running, runs
from VertebralFractureQuantLib.cohort.crew import Ended, ThreadCrew
from VertebralFractureQuantLib.cohort.engine import Library
from VertebralFractureQuantLib.cohort.planning import plan
from VertebralFractureQuantLib.cohort.runs import Options, refresh_cohort, run_cohort
from VertebralFractureQuantLib.cohort.state import CohortState
from VertebralFractureQuantLib.cohort.tables import FILES, guarded
from VertebralFractureQuantLib.cohort.work import Finished, Settings, Task, work_on
from VertebralFractureQuantLib.errors import VFQError
from VertebralFractureQuantLib.networks import weights
from VertebralFractureQuantLib.report import tables as report_tables
from VertebralFractureQuantLib.report.schemas import schema

SCANS = {
    "anna": {"lowered_mm": 9.0},
    "bob": {},
    "cut": {"code": "corrupt_file"},
    "deep/er/dora": {"lowered_mm": 5.0},
}


@pytest.fixture(autouse=True)
def without_gallery(monkeypatch):
    monkeypatch.setattr(runs, "_gallery", lambda folder: folder)


@pytest.fixture
def source(tmp_path) -> Path:
    return bench.write_scans(tmp_path / "source", SCANS)


@pytest.fixture
def run(tmp_path, source):
    """Run the cohort of `source` into `tmp_path / "out"`, in this process, with the stub."""

    def ran(crew=bench.stub_threads, **options) -> dict[str, int]:
        return run_cohort(Options(options.pop("source", source), tmp_path / "out", **options), make_crew=crew).statuses

    return ran


def measured(tmp_path) -> Counter:
    """How often each case was measured."""
    log = tmp_path / bench.LOG
    return Counter(log.read_text(encoding="utf-8").split()) if log.exists() else Counter()


def table(tmp_path, name="patients") -> pl.DataFrame:
    return pl.read_parquet(tmp_path / "out" / f"{name}.parquet")


def tables(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES if name.endswith(".csv")}


def refused(code: str, call, *arguments, **options) -> VFQError:
    with pytest.raises(VFQError) as caught:
        call(*arguments, **options)
    assert caught.value.code == code, caught.value
    return caught.value


# What comes of a run


def test_every_scan_has_a_row_with_its_grade_or_the_code_of_its_failure(run, tmp_path):
    assert run() == {"ok": 3, "corrupt_file": 1}
    rows = {row["case"]: row for row in table(tmp_path).to_dicts()}
    assert {name: row["status"] for name, row in rows.items()} == {
        "anna": "ok", "bob": "ok", "cut": "corrupt_file", "dora": "ok",
    }  # fmt: skip
    assert rows["anna"]["worst_grade"] == rows["anna"]["auto_worst_grade"] == "severe" and rows["anna"]["sdi"] == 3
    assert (rows["bob"]["worst_grade"], rows["bob"]["levels_assessed"], rows["bob"]["first_level"]) == (
        "normal",
        4,
        "T9",
    )
    assert rows["cut"]["worst_grade"] is None
    failures = pl.read_csv(tmp_path / "out" / "failures.csv").to_dicts()
    assert [(f["case"], f["code"]) for f in failures] == [("cut", "corrupt_file")]
    assert failures[0]["what_to_do"].startswith("Copy or export the scan again")


def test_the_table_of_vertebrae_holds_what_the_record_of_each_case_holds(run, tmp_path):
    run()
    rows = table(tmp_path, "vertebrae").filter(pl.col("case") == "anna").to_dicts()
    record = json.loads((tmp_path / "out" / "cases" / "anna" / "analysis.json").read_text())
    assert [row["level"] for row in rows] == ["T9", "T10", "T11", "T12"]
    for row, vertebra in zip(rows, record["vertebrae"], strict=True):
        assert [row["ha_mm"], row["hm_mm"], row["hp_mm"]] == pytest.approx(vertebra["heights_mm"], abs=1e-3)
        assert row["g"] == pytest.approx(vertebra["genant_ratio"], abs=1e-5) and row["grade"] == vertebra["grade"]
        assert row["level_certain"] and row["counted"] and row["auto_g"] is None
    csv = pl.read_csv(tmp_path / "out" / "vertebrae.csv", infer_schema_length=None)
    assert csv["g"].to_list() == table(tmp_path, "vertebrae")["g"].to_list()


def test_expected_heights_and_losses_are_those_of_measurements_csv(run, tmp_path):
    run()
    names = [*report_tables.EXPECTED, "loss_grade"]
    assert set(names) < set(report_tables.COLUMNS) and len(names) == 13
    for suffix, read in (("parquet", pl.read_parquet), ("csv", pl.read_csv)):
        held = read(tmp_path / "out" / f"vertebrae.{suffix}").filter(pl.col("case") == "anna")
        one = pl.read_csv(tmp_path / "out" / "cases" / "anna" / "measurements.csv")
        for name in names[:-1]:
            assert held[name].to_list() == pytest.approx(one[name].to_list(), abs=1e-6), name
        assert held["loss_grade"].to_list() == one["loss_grade"].to_list()
    assert held["ha_loss"][0] > 0.3 and held["loss_grade"][0] != "normal"


def test_the_tables_name_the_method_that_measured_each_case(run, tmp_path):
    run()
    for name, roles in (("anna", ("localizer", "refiner", "detector")), ("bob", ("localizer", "m-scn-centres"))):
        file = tmp_path / "out" / "cases" / name / "analysis.json"
        record = json.loads(file.read_text())
        stamps = [{"role": role, "name": role, "sha256": "0" * 64} for role in roles]
        file.write_text(json.dumps({**record, "models": stamps}))
    refresh_cohort(tmp_path / "out")
    wanted = {"anna": "anchor-free", "bob": "m-scn", "dora": None}
    assert {r["case"]: r["method"] for r in table(tmp_path).to_dicts() if r["status"] == "ok"} == wanted
    assert {r["case"]: r["method"] for r in table(tmp_path, "vertebrae").to_dicts()} == wanted


def test_run_json_says_with_what_the_results_were_made_and_names_no_path(run, tmp_path):
    run()
    text = (tmp_path / "out" / "run.json").read_text()
    told = json.loads(text)
    assert set(told["weights"]) == {"localizer", "refiner", "detector"} and told["statuses"] == {
        "ok": 3, "corrupt_file": 1,
    }  # fmt: skip
    assert str(tmp_path) not in text and "source" not in told["options"]


def test_run_json_fits_its_schema_which_describes_every_key(run, tmp_path):
    run()
    told = json.loads((tmp_path / "out" / "run.json").read_text())
    found = schema("vfq-cohort-run/1")
    closed = {**found, "additionalProperties": False}
    for part in ("options", "machine"):
        closed["properties"][part]["additionalProperties"] = False
    Draft202012Validator(closed, format_checker=FormatChecker()).validate(told)
    for wrong in ({"statuses": {"Not a code": 1}}, {"weights": {"refiner": "short"}}, {"passed_over": {".txt": -1}}):
        assert not Draft202012Validator(found).is_valid({**told, **wrong})


def test_text_in_csv_that_a_spreadsheet_would_compute_gets_an_apostrophe_and_numbers_do_not():
    table = pl.DataFrame({"=a": ["=1+1", "+x", "-x", "@x", "\tx", "x=1", None], "n": [-1.5, 0, 1, 2, 3, 4, 5]})
    safe = guarded(table)
    assert safe["'=a"].to_list() == ["'=1+1", "'+x", "'-x", "'@x", "'\tx", "x=1", None]
    assert safe["n"].to_list() == table["n"].to_list()


# Going on


def test_a_finished_case_is_not_measured_again(run, tmp_path):
    run()
    before = tables(tmp_path / "out")
    run()
    assert set(measured(tmp_path).values()) == {1} and tables(tmp_path / "out") == before


def test_only_what_is_new_or_changed_is_measured_and_a_touched_file_is_not(run, tmp_path, source):
    run()
    os.utime(source / "bob.nii.gz", (1, 1))
    bench.write_scans(source, {"anna": {"lowered_mm": 0.0}, "emil": {}})
    assert run() == {"ok": 4, "corrupt_file": 1}
    assert measured(tmp_path) == {"anna": 2, "bob": 1, "cut": 1, "dora": 1, "emil": 1}
    assert table(tmp_path).filter(pl.col("case") == "anna")["worst_grade"].item() == "normal"
    run()
    assert measured(tmp_path)["bob"] == 1


def test_other_options_or_networks_measure_all_again(run, tmp_path):
    run()
    run(trust_header=True)
    assert set(measured(tmp_path).values()) == {2}


def test_another_method_measures_all_again_except_what_was_reviewed(run, tmp_path):
    run()
    confirm(tmp_path / "out" / "cases" / "bob")
    refresh_cohort(tmp_path / "out")
    run(method="anchor-boxes")
    assert measured(tmp_path) == {"anna": 2, "bob": 1, "cut": 2, "dora": 2}
    told = json.loads((tmp_path / "out" / "run.json").read_text())
    assert told["options"]["method"] == "anchor-boxes"
    assert set(told["weights"]) == {"localizer", "refiner", "anchor-boxes"}
    run(method="anchor-boxes")
    assert measured(tmp_path)["anna"] == 2
    run()
    assert measured(tmp_path)["anna"] == 3
    assert json.loads((tmp_path / "out" / "run.json").read_text())["options"]["method"] == "anchor-free"


def test_a_method_that_cannot_run_is_refused_before_anything_is_measured(run, tmp_path, monkeypatch):
    with monkeypatch.context() as without:
        without.setattr(weights, "weights_folder", lambda: tmp_path)
        assert "m-scn" in refused("no_method_weights", run, method="m-scn").message
    assert "anchor-boxes" in refused("unknown_method", run, method="boxes").message
    assert not measured(tmp_path)


def test_results_of_before_there_were_other_methods_stay_valid():
    ours = Settings("x", None, identity=(("detector", "1"),))
    assert ours.key == hashlib.sha256(b'[[["detector", "1"]], false]').hexdigest()[:32]
    assert len({ours.key, replace(ours, method="m-scn").key, replace(ours, method="anchor-boxes").key}) == 3


def test_records_are_read_again_when_the_tables_have_new_columns(run, tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "LAYOUT", "1")
    monkeypatch.setattr(rows, "_expected", lambda vertebra: {})
    run()
    assert table(tmp_path, "vertebrae")["ha_loss"].null_count() == 12
    monkeypatch.undo()
    monkeypatch.setattr(runs, "_gallery", lambda folder: folder)
    run()
    assert set(measured(tmp_path).values()) == {1}
    assert table(tmp_path, "vertebrae")["ha_loss"].null_count() == 0


def test_a_case_whose_folder_was_deleted_is_measured_again(run, tmp_path):
    run()
    shutil.rmtree(tmp_path / "out" / "cases" / "bob")
    run()
    assert measured(tmp_path) == {"anna": 1, "bob": 2, "cut": 1, "dora": 1}


def test_a_failure_that_says_nothing_about_the_scan_is_tried_again_and_one_of_the_scan_is_not(run, tmp_path, source):
    bench.write_scans(source, {"late": {"code": "not_found"}})
    assert run() == {"ok": 3, "corrupt_file": 1, "not_found": 1}
    bench.write_scans(source, {"late": {}})
    assert run() == {"ok": 4, "corrupt_file": 1} and measured(tmp_path)["cut"] == 1


def test_a_scan_that_is_taken_out_of_the_source_leaves_the_tables_but_keeps_its_folder(run, tmp_path, source):
    run()
    (source / "bob.nii.gz").unlink()
    assert run() == {"ok": 2, "corrupt_file": 1} and "bob" not in table(tmp_path)["case"]
    assert (tmp_path / "out" / "cases" / "bob" / "analysis.json").exists()


def test_a_case_keeps_its_name_when_another_scan_of_that_name_comes(run, tmp_path, source):
    run()
    bench.write_scans(source, {"other/anna": {}})
    run()
    assert measured(tmp_path) == {"anna": 1, "bob": 1, "cut": 1, "dora": 1, "anna-2": 1}


def test_what_killed_workers_left_is_cleared_away_and_a_moved_folder_is_moved_back(run, tmp_path):
    run()
    cases = tmp_path / "out" / "cases"
    (cases / ".bob.0123abcd.partial").mkdir()
    (cases / "anna").rename(cases / ".anna.0123abcd.old")
    run()
    assert sorted(path.name for path in cases.iterdir()) == ["anna", "bob", "dora"]
    assert measured(tmp_path)["anna"] == 1


# The review


def confirm(folder: Path) -> None:
    """Save a review as the page does: the first vertebra has other numbers, the second one is deleted."""
    shutil.copy(folder / "analysis.json", folder / "machine.json")
    record = json.loads((folder / "analysis.json").read_text())
    first, _, *rest = record["vertebrae"]
    first |= {"machine_keypoints": first["keypoints"], "heights_mm": [22.0, 22.0, 22.0], "genant_ratio": 1.0}
    first |= {"grade": "normal", "shape": None, "origin": "reader"}
    record["vertebrae"] = [first, *rest]
    for vertebra in record["vertebrae"]:
        vertebra |= {"review": "confirmed", "reviewer": "Dr A", "reviewed_at": "2026-01-01T00:00:00+00:00"}
    (folder / "analysis.json").write_text(json.dumps(record))


def test_refresh_puts_the_readers_numbers_beside_the_automatic_ones(run, tmp_path):
    run()
    confirm(tmp_path / "out" / "cases" / "anna")
    assert refresh_cohort(tmp_path / "out") == 1
    patient = table(tmp_path).filter(pl.col("case") == "anna").to_dicts()[0]
    assert (patient["worst_grade"], patient["auto_worst_grade"]) == ("normal", "severe")
    assert (patient["reviewed"], patient["reader"]) == ("yes", "Dr A")
    rows = table(tmp_path, "vertebrae").filter(pl.col("case") == "anna").to_dicts()
    assert [(r["level"], r["g"], r["auto_level"], r["review"]) for r in (rows[0], rows[-1])] == [
        ("T9", 1.0, "T9", "confirmed"), (None, None, "T10", "deleted"),
    ]  # fmt: skip
    assert rows[0]["auto_g"] == pytest.approx(13 / 22, abs=0.01) and not rows[-1]["counted"]
    assert [r["auto_g"] for r in rows[1:-1]] == [None, None]
    assert refresh_cohort(tmp_path / "out") == 0


def test_a_review_is_never_overwritten_not_even_when_all_is_measured_again(run, tmp_path):
    run()
    folder = tmp_path / "out" / "cases" / "anna"
    confirm(folder)
    before = (folder / "analysis.json").read_bytes()
    assert run(overwrite=True) == {"ok": 3, "corrupt_file": 1}
    assert (folder / "analysis.json").read_bytes() == before and measured(tmp_path) == {
        "anna": 1, "bob": 2, "cut": 2, "dora": 2,
    }  # fmt: skip
    bench.write_scans(tmp_path / "source", {"anna": {"lowered_mm": 1.0}})
    assert run() == {"ok": 2, "corrupt_file": 1, "output_exists": 1}
    assert (folder / "analysis.json").read_bytes() == before


def test_a_case_is_found_for_its_review_with_the_scan_of_the_plan(run, tmp_path, source):
    run()
    (case,) = runs.cases_of(tmp_path / "out", ["dora"])
    assert (case.source, case.folder) == (source / "deep/er/dora.nii.gz", tmp_path / "out" / "cases" / "dora")
    refused("not_found", runs.cases_of, tmp_path / "out", ["nobody"])


def test_refresh_of_a_folder_without_a_cohort_is_refused(tmp_path):
    refused("not_a_cohort", refresh_cohort, tmp_path)


def test_the_commands_end_with_a_code_and_a_sentence(tmp_path):
    for command in (["refresh", str(tmp_path)], ["review", str(tmp_path), "anna"]):
        ended = CliRunner().invoke(app, ["cohort", *command])
        assert ended.exit_code == 3 and "not_a_cohort: The folder" in ended.output
    ended = CliRunner().invoke(app, ["cohort", "run", str(tmp_path / "none"), "-o", str(tmp_path / "out")])
    assert ended.exit_code == 3 and "not_found: There is no file or folder 'none'" in ended.output


# Bad input


def test_a_manifest_carries_its_covariates_through_and_a_missing_file_is_a_failure(run, tmp_path, source):
    manifest = tmp_path / "m.csv"
    manifest.write_text(
        'case,path,age,id,=risk\nA,source/anna.nii.gz,61,007,-1.5\n"B, c",source/none.nii.gz,70,008,=2\n'
    )
    crew = lambda *given: ThreadCrew(given[0])  # noqa: E731 (the real work: a missing file is not read by the stub)
    assert run(crew, source=manifest)["not_found"] == 1
    rows = table(tmp_path).sort("case").to_dicts()
    assert [(r["case"], r["age"], r["id"], r["=risk"], r["case_given"]) for r in rows] == [
        ("A", 61, "007", "-1.5", "A"), ("B_c", 70, "008", "=2", "B, c"),
    ]  # fmt: skip
    assert "'=risk" in (tmp_path / "out" / "patients.csv").read_text().splitlines()[0]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name,path\na,b\n", "no column case"),
        ("case,path\na,x\nA,y\n", "lines 2 and 3"),
        ("case,path\na,\n", "Lines without case or path: 2"),
        ("case,path\n", "empty"),
        ("", "cannot be read"),
    ],
)
def test_a_manifest_that_is_incomplete_is_refused_before_anything_runs(run, tmp_path, text, told):
    (tmp_path / "m.csv").write_text(text)
    assert told in refused("bad_manifest", run, source=tmp_path / "m.csv").message
    assert not measured(tmp_path)


def test_odd_names_circular_links_and_unreadable_folders_are_all_accounted_for(run, tmp_path, source, monkeypatch):
    bench.write_scans(source, {"=1+1, 'x' \"y\" ü": {}, "+a b": {}})
    (source / "loop").symlink_to(source)
    (source / "note.txt").write_text("no scan")
    (source / "closed").mkdir()
    scandir = os.scandir

    def closed(path):
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)  # root reads every folder
    assert run() == {"ok": 5, "corrupt_file": 1, "folder_not_readable": 1}
    assert json.loads((tmp_path / "out" / "run.json").read_text())["passed_over"] == {".txt": 1}
    assert {"+a_b", "_1+1_x_y_ü"} <= set(table(tmp_path)["case"])


def test_dicom_files_are_sorted_into_studies_whose_names_tell_nobody_who_it_is(tmp_path):
    source = tmp_path / "source"
    for folder, patient, study in (("a", "Doe^Jane", "1.7"), ("b", "Doe^Jane", "1.8"), ("c/1", "Roe", "1.9")):
        dicom_series(source / folder, body((5, 6, 7)), f"{study}.1", tags={"0010|0020": patient, "0020|000d": study})
    dicom_series(source / "c/2", body((4, 6, 7)), "1.9.2", tags={"0010|0020": "Roe", "0020|000d": "1.9"})
    (source / "a" / "cut.dcm").write_bytes(b"")
    planned = plan(source, tmp_path / "out", b"salt")
    files = {Path(one.path).name: len(one.files) for one in planned.scans}
    assert files == {"a": 5 + 1, "b": 5, "c": 5 + 4}
    names = {Path(one.path).name: one.name for one in planned.scans}
    assert names["a"][:12] == names["b"][:12] != names["c"][:12] and len(set(names.values())) == 3
    assert all(re.fullmatch("[0-9a-f]{12}-[0-9a-f]{6}", name) for name in names.values())
    assert {planned.patients[name] for name in names.values()} == {"Doe^Jane", "Roe"}
    again = {Path(one.path).name: one.name for one in plan(source, tmp_path / "out", b"other").scans}
    assert not set(again.values()) & set(names.values())
    assert [one.name for one in plan(source, tmp_path / "out", b"", "file").scans] == ["a", "b", "c"]


def test_the_key_file_is_written_on_request_and_for_the_user_alone(run, tmp_path):
    run(key_file=tmp_path / "key.csv")
    assert (tmp_path / "key.csv").stat().st_mode & 0o077 == 0
    keys = pl.read_csv(tmp_path / "key.csv")
    assert keys["path"].to_list()[0].endswith("anna.nii.gz") and keys["case"].to_list()[0] == "anna"


def test_names_of_image_files_are_hashed_on_request(run, tmp_path):
    run(names="hash")
    names = table(tmp_path)["case"].to_list()
    assert len(names) == 4 and all(re.fullmatch("i-[0-9a-f]{16}", name) for name in names)


def test_a_folder_without_a_scan_is_refused(run, tmp_path):
    (tmp_path / "none").mkdir()
    refused("nothing_to_analyze", run, source=tmp_path / "none")
    refused("not_found", run, source=tmp_path / "absent")


def test_results_that_lie_in_the_source_are_no_scans(tmp_path, source):
    for _ in range(2):
        done = run_cohort(Options(source, source / "out"), make_crew=bench.stub_threads)
        assert done.statuses == {"ok": 3, "corrupt_file": 1}


@pytest.mark.parametrize("place", ["cases", "cases/anna", "cases/new/deeper"])
def test_an_output_folder_among_the_cases_of_another_cohort_is_refused(run, tmp_path, source, place):
    run()
    before = sorted((tmp_path / "out").rglob("*"))
    (tmp_path / "linked").symlink_to(tmp_path / "out")
    for output in (tmp_path / "out" / place, tmp_path / "linked" / place):
        told = refused("output_in_cohort", run_cohort, Options(source, output), make_crew=bench.stub_threads)
        assert "the cohort 'out'" in told.message
    assert sorted((tmp_path / "out").rglob("*")) == before
    beside = Options(source, tmp_path / "cases" / "out")  # only a name: no cohort lies there
    assert run_cohort(beside, make_crew=bench.stub_threads).statuses == {"ok": 3, "corrupt_file": 1}


def test_files_that_are_empty_or_cannot_be_read_are_scans_only_if_they_are_named_like_one(tmp_path, monkeypatch):
    folder = tmp_path / "source"
    dicom_series(folder / "study", body())
    (slices,) = {path.suffix for path in (folder / "study").iterdir()}
    for place in ("study", "other"):
        (folder / place).mkdir(exist_ok=True)
        for name in ("notes.txt", "list.csv", "zeros.json"):
            (folder / place / name).write_bytes(b"\0" * 300 if name == "zeros.json" else b"")
    assert [len(one.files or ()) for one in plan(folder, tmp_path / "out", b"s").scans] == [len(body())]
    assert plan(folder, tmp_path / "out", b"s").passed_over == {".txt": 2, ".csv": 2, ".json": 2}
    for name in ("cut.dcm", "cut.IMA", "IM0001", "1.2.840.7", "cut.dcm.gz"):
        path = folder / "alone" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
        assert {len(one.files or ()) for one in plan(folder, tmp_path / "out", b"s").scans} == {len(body()), 1}, name
        path.unlink()
    for path in (folder / "study").glob(f"*{slices}"):
        path.rename(path.with_suffix(".slice"))
    (folder / "study" / "cut.slice").write_bytes(b"")  # named like those beside it
    (folder / "other" / "cut.slice").write_bytes(b"")
    (study,) = plan(folder, tmp_path / "out", b"s").scans
    assert len(study.files or ()) == len(body()) + 1
    (folder / "empty.nii").write_bytes(b"")  # an image by its name, whatever is in it
    assert {one.name for one in plan(folder, tmp_path / "out", b"s").scans} > {"empty"}


def test_two_runs_into_one_folder_are_refused(run, tmp_path):
    run()
    with CohortState(tmp_path / "out"):
        refused("cohort_in_use", run)
        refused("cohort_in_use", refresh_cohort, tmp_path / "out")
    run()


def test_a_damaged_or_newer_state_is_refused(run, tmp_path):
    run()
    path = tmp_path / "out" / "cohort.sqlite"
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    refused("newer_schema", run)
    path.write_bytes(b"no database" * 1000)
    refused("not_a_cohort", run)


def test_a_full_disk_ends_the_run_and_loses_nothing(run, tmp_path, source, monkeypatch):
    bench.write_scans(source, {"full": {"code": "output_not_writable"}, **{f"z{n}": {} for n in range(20)}})
    monkeypatch.setattr(running, "LEAST_FREE", 1 << 62)
    assert "disk is full" in refused("output_not_writable", run).message
    monkeypatch.undo()
    before = measured(tmp_path)
    bench.write_scans(source, {"full": {}})
    monkeypatch.setattr(runs, "_gallery", lambda folder: folder)
    assert run() == {"ok": 24, "corrupt_file": 1}
    with CohortState(tmp_path / "out") as state:
        assert all(known.status != "waiting" for known in state.planned())
    assert before["anna"] == measured(tmp_path)["anna"] == 1


def test_other_versions_on_a_worker_end_the_run(run, source):
    bench.write_scans(source, {"other": {"code": "versions_differ"}})
    refused("versions_differ", run)


# The real work


@pytest.mark.thorough
def test_a_case_of_a_cohort_equals_that_of_a_single_run_file_by_file(tmp_path, painted):
    from VertebralFractureQuantLib.cohort.studies import Study, measure_study

    ct, _ = painted(3, field_of_view="spine", spacing_mm=(1.5, 2.5))
    (tmp_path / "source").mkdir()
    Library().write_ct(ct, tmp_path / "source" / "p.nii.gz")
    crew = lambda *given: ThreadCrew(given[0])  # noqa: E731
    options = Options(tmp_path / "source", tmp_path / "out", device="cpu")
    assert run_cohort(options, make_crew=crew).statuses == {"ok": 1}
    library = Library()
    single = Study(tmp_path / "source" / "p.nii.gz", "p", tmp_path / "single")
    assert measure_study(single, library, lambda: library.load_models("cpu")).record.status == "ok"
    one, other = tmp_path / "out" / "cases" / "p", tmp_path / "single" / "p"
    assert sorted(path.name for path in one.iterdir()) == sorted(path.name for path in other.iterdir())
    for path in one.iterdir():
        if path.name == "analysis.json":
            records = [json.loads((folder / path.name).read_text()) for folder in (one, other)]
            assert all(record.pop("timing_s") for record in records) and records[0] == records[1]
        else:
            assert path.read_bytes() == (other / path.name).read_bytes(), path.name
    seconds = json.loads((tmp_path / "out" / "run.json").read_text())["seconds_by_step"]
    assert {"hash", "read", "load", "localize", "detect", "write", "thumbnail"} <= set(seconds)


@pytest.mark.thorough
def test_a_cohort_with_another_method_names_its_networks_in_record_and_tables(tmp_path, painted):
    ct, _ = painted(3, field_of_view="spine", spacing_mm=(1.5, 2.5))
    (tmp_path / "source").mkdir()
    Library().write_ct(ct, tmp_path / "source" / "p.nii.gz")
    crew = lambda *given: ThreadCrew(given[0])  # noqa: E731
    options = Options(tmp_path / "source", tmp_path / "out", device="cpu", method="anchor-boxes")
    assert run_cohort(options, make_crew=crew).statuses == {"ok": 1}
    record = json.loads((tmp_path / "out" / "cases" / "p" / "analysis.json").read_text())
    told = {stamp["role"]: stamp["sha256"] for stamp in record["models"]}
    assert told == json.loads((tmp_path / "out" / "run.json").read_text())["weights"] and "anchor-boxes" in told
    assert table(tmp_path)["method"].to_list() == ["anchor-boxes"]
    assert set(table(tmp_path, "vertebrae")["method"]) == {"anchor-boxes"}


# Workers that die, told from scans that kill them


class PlayedCrew:
    """Workers that are played: `deaths` says how often each case loses its worker. One task is under way at a time."""

    window = 3

    def __init__(self, deaths: dict[str, list[str]]):
        self.deaths, self.given, self.flying = deaths, [], []

    def submit(self, task) -> None:
        self.given.append((task.case, task.alone))
        self.flying.append(task)

    def wait(self, timeout_s: float) -> list[Ended]:
        task = self.flying.pop(0)
        losses = self.deaths.get(task.case)
        if losses:
            return [Ended(task, loss=losses.pop(0))]
        return [Ended(task, Finished(task.case, "no_spine_found", "None."))]

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("losses", "status"),
    [(["died"], "no_spine_found"), (["died", "died"], "worker_died"), (["died", "memory"], "out_of_memory"),
     (["lost", "lost", "lost", "died"], "no_spine_found")],
)  # fmt: skip
def test_a_scan_whose_worker_died_is_tried_once_more_alone(run, tmp_path, losses, status):
    crew = PlayedCrew({"bob": list(losses)})
    run(lambda *_: crew)
    assert dict(table(tmp_path)["case", "status"].iter_rows())["bob"] == status
    tries = [alone for case, alone in crew.given if case == "bob"]
    assert tries == [False] * (losses.index("died") + 1) + [True]
    assert all(not alone for case, alone in crew.given if case != "bob")


def test_no_more_tasks_are_under_way_than_the_window_has_and_one_alone(run, source):
    bench.write_scans(source, {f"z{n}": {} for n in range(30)})
    crew, most = PlayedCrew({f"z{n}": ["died"] for n in range(5)}), []
    submit = crew.submit
    crew.submit = lambda task: (submit(task), most.append((len(crew.flying), sum(t.alone for t in crew.flying))))
    run(lambda *_: crew)
    assert max(flying for flying, _ in most) <= crew.window + 1 and max(alone for _, alone in most) == 1


def test_a_scan_under_way_at_two_kills_of_everything_is_tried_alone(run, tmp_path):
    for _ in range(2):

        class Killed(PlayedCrew):
            def wait(self, timeout_s):
                raise SystemExit  # as little is stored as at a kill

        with pytest.raises(SystemExit):
            run(lambda *_: Killed({}))
    crew = PlayedCrew({})
    run(lambda *_: crew)
    assert dict(crew.given)["anna"] is True


# With dask


def bench_process(*arguments, **environment) -> subprocess.Popen:
    here = Path(__file__).resolve().parent
    path = os.pathsep.join([str(here), str(here.parent / "VertebralFractureQuant")])
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip


def cohort_process(source: Path, output: Path, where: str) -> subprocess.Popen:
    return bench_process(Path(bench.__file__), source, output, where)


def until(condition, within_s: float = 60.0) -> None:
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, "it never came about"
        time.sleep(0.02)


@pytest.mark.thorough
def test_workers_of_dask_measure_and_one_that_dies_is_told_from_the_scan_that_kills_it(tmp_path, source):
    killing = {f"k{n}": {"takes": 0.05} for n in range(6)} | {"killer": {"dies": True}}
    bench.write_scans(source, killing)
    ended = cohort_process(source, tmp_path / "out", "1")
    text, _ = ended.communicate(timeout=120)
    assert ended.returncode == 0, text
    statuses = dict(table(tmp_path)["case", "status"].iter_rows())
    assert statuses.pop("killer") == "worker_died" and statuses.pop("cut") == "corrupt_file"
    assert set(statuses.values()) == {"ok"} and len(statuses) == 9


@pytest.mark.thorough
def test_a_run_that_is_killed_goes_on_with_the_same_tables_and_measures_nothing_twice(tmp_path):
    scans = {f"s{n:02}": {"lowered_mm": float(n % 10), "takes": 0.15} for n in range(12)}
    source = bench.write_scans(tmp_path / "source", scans | {"cut": {"code": "corrupt_file"}})
    undisturbed = tmp_path / "quiet"
    run_cohort(Options(source, undisturbed / "out"), make_crew=bench.stub_threads)
    for kill in (2, 6):
        ended = cohort_process(source, tmp_path / "out", "1")
        until(lambda n=kill: len(measured(tmp_path)) >= n)
        os.kill(ended.pid, signal.SIGKILL)
        ended.wait()
    ended = cohort_process(source, tmp_path / "out", "1")
    text, _ = ended.communicate(timeout=120)
    assert ended.returncode == 0, text
    assert tables(tmp_path / "out") == tables(undisturbed / "out")
    assert sum(measured(tmp_path).values()) <= 13 + 2 * 4  # those under way when all was killed


def dask_process(kind: str, file: Path, *options: str) -> subprocess.Popen:
    """A scheduler or a worker as on a cluster, on the loopback address."""
    started = bench_process(
        "-m", f"distributed.cli.dask_{kind}", "--scheduler-file", file, "--interface", "lo", "--no-dashboard", *options,
        DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="0",
    )  # fmt: skip
    return started


def end(process: subprocess.Popen) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.thorough
def test_a_run_waits_for_a_scheduler_that_is_killed_and_goes_on_when_it_is_back(tmp_path):
    scans = {f"s{n:02}": {"takes": 0.2} for n in range(12)} | {"hold": {"waits": str(tmp_path / "go")}}
    source, file = bench.write_scans(tmp_path / "source", scans), tmp_path / "s.json"
    started = [dask_process("scheduler", file, "--port", "0")]
    try:
        until(file.exists)
        started.append(dask_process("worker", file, "--nthreads", "2"))
        run = cohort_process(source, tmp_path / "out", str(file))
        started.append(run)
        until(lambda: len(measured(tmp_path)) >= 3)
        end(started[0])
        file.unlink()
        started.append(dask_process("scheduler", file, "--port", "0"))
        until(file.exists)
        started.append(dask_process("worker", file, "--nthreads", "2"))
        (tmp_path / "go").touch()
        text, _ = run.communicate(timeout=120)
        assert run.returncode == 0, text
        assert "The scheduler is gone" in text and json.loads(text.splitlines()[-1]) == {"ok": 13}
    finally:
        for process in started:
            end(process)


@pytest.mark.thorough
def test_ctrl_c_ends_a_run_at_once_and_the_next_one_goes_on(tmp_path):
    scans = {f"s{n:02}": {"takes": 0.1} for n in range(6)} | {"hold": {"waits": str(tmp_path / "go")}}
    source = bench.write_scans(tmp_path / "source", scans)
    run = cohort_process(source, tmp_path / "out", "1")
    until(lambda: len(measured(tmp_path)) >= 6)
    os.killpg(run.pid, signal.SIGINT)  # as a terminal does: the workers get it too
    text, _ = run.communicate(timeout=30)
    assert "KeyboardInterrupt" in text and run.returncode
    (tmp_path / "go").touch()
    assert run_cohort(Options(source, tmp_path / "out"), make_crew=bench.stub_threads).statuses == {"ok": 7}
    assert sum(measured(tmp_path).values()) <= 7 + 1  # the last one may have ended while the run did


@pytest.mark.thorough
def test_a_scan_that_takes_all_memory_is_coded_so_and_the_others_are_measured(tmp_path, monkeypatch):
    source = bench.write_scans(tmp_path / "source", {"big": {"eats": 700_000_000}, "small": {}})
    monkeypatch.setattr(dask_crew, "local_size", lambda workers, gpus=0: (1, 600_000_000))
    crew = lambda *given: stub_crew(dask_crew.local_crew(given[0], 1, lambda text: None))  # noqa: E731
    assert run_cohort(Options(source, tmp_path / "out"), make_crew=crew).statuses == {"ok": 1, "out_of_memory": 1}


def stub_crew(crew):
    crew.work = bench.stub_work
    return crew


def test_a_scheduler_that_does_not_answer_is_refused(run, monkeypatch):
    monkeypatch.setattr(dask_crew, "CONNECT_S", 0.2)
    refused("no_scheduler", run, crew=None, scheduler="tcp://127.0.0.1:9")
    refused("no_scheduler", run, crew=None, scheduler="nowhere.json")


@pytest.mark.parametrize(
    "other", [{"version": "0.0.0"}, {"identity": (("localizer", "0"), ("refiner", "0"), ("detector", "0"))}]
)
def test_a_worker_of_another_version_or_with_other_weights_refuses_to_measure(tmp_path, source, other):
    settings = Settings(str(tmp_path / "out"), Library(), **other)
    done = work_on(Task("bob", str(source / "bob.nii.gz")), settings)
    assert done.status == "versions_differ" and "same" in done.message
