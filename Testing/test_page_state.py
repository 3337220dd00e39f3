"""What the review page keeps and lists, without a browser: the user's settings, and the worklist's states."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from VertebralFractureQuantLib.browser import worklist as module
from VertebralFractureQuantLib.browser.kept import MOST_PLACES, Kept, digest
from VertebralFractureQuantLib.browser.worklist import Worklist
from VertebralFractureQuantLib.cohort.patients import Patients, doubts
from VertebralFractureQuantLib.cohort.worklist import Case
from VertebralFractureQuantLib.errors import VFQError
from VertebralFractureQuantLib.report.readings import own_folder
from VertebralFractureQuantLib.spine.record import SpineAnalysis
from VertebralFractureQuantLib.spine.record_json import to_json


def test_reader_and_places_are_kept_without_the_names_of_cases_and_folders(tmp_path):
    kept = Kept(tmp_path / "settings")
    assert kept.reader == "" and kept.place(tmp_path) == ("", None)
    kept.keep_reader("Dr. A")
    kept.keep_place(tmp_path / "Doe-results", "Doe^Jane", "v3")
    kept.keep_place(tmp_path / "others", "scan", None)
    again = Kept(tmp_path / "settings")
    assert again.reader == "Dr. A" and again.place(tmp_path / "others") == (digest("scan"), None)
    assert again.place(tmp_path / "Doe-results") == (digest("Doe^Jane"), "v3")
    assert "Doe" not in (tmp_path / "settings" / "page.json").read_text()


def test_only_the_latest_places_are_kept(tmp_path):
    kept = Kept(tmp_path)
    for i in range(MOST_PLACES + 5):
        kept.keep_place(tmp_path / str(i), "scan", None)
    assert len(json.loads((tmp_path / "page.json").read_text())["places"]) == MOST_PLACES
    assert kept.place(tmp_path / "0") == ("", None) and kept.place(tmp_path / "104")[0] == digest("scan")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"reader": null, "places": 7}', '{"places": {"x": 1}}'])
def test_damaged_settings_are_none_and_can_be_written_again(tmp_path, text):
    (tmp_path / "page.json").write_text(text)
    kept = Kept(tmp_path)
    assert kept.reader == "" and kept.place(tmp_path) == ("", None)
    kept.keep_place(tmp_path, "scan", "v1")
    assert kept.place(tmp_path) == (digest("scan"), "v1")


def test_settings_that_cannot_be_written_stop_nobody(tmp_path):
    (tmp_path / "file").write_text("")
    kept = Kept(tmp_path / "file" / "below")
    kept.keep_reader("A")
    assert kept.reader == ""


class State(SimpleNamespace):
    """The page's state, as far as the worklist uses it."""

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None: ...

    def update(self, values) -> None:
        vars(self).update(values)


def listed(tmp_path: Path, count: int, reader: str = "A") -> Worklist:
    cases = [Case(f"scan{i}", tmp_path / f"{i}.nii", tmp_path / f"scan{i}") for i in range(count)]
    return Worklist(State(worklist=[], worklist_open=True, unsaved=""), cases, False, reader)


def put(folder: Path, status: str = "no_spine_found") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "analysis.json").write_text(json.dumps(to_json(SpineAnalysis("scan", status, "No."))))


def test_a_state_is_read_again_only_when_its_files_changed(tmp_path, monkeypatch):
    worklist, read = listed(tmp_path, 2), []
    status = module.case_status
    monkeypatch.setattr(module, "case_status", lambda case, who: (read.append(case.name), status(case, who))[1])
    assert [worklist.status(0).state for _ in range(3)] == ["waiting"] * 3 and read == ["scan0"]
    put(worklist.cases[0].folder)
    assert worklist.status(0).state == "failed" and read == ["scan0"] * 2
    put(own_folder(worklist.cases[0].folder, "A"), "not_ct")
    assert worklist.status(0).code == "not_ct"
    worklist.reader = "B"
    assert worklist.status(0).code == "no_spine_found"


def test_next_open_passes_what_is_read_or_failed_and_begins_again_at_the_top(tmp_path):
    worklist = listed(tmp_path, 4)
    put(worklist.cases[1].folder)
    assert worklist.next_open() == 0
    worklist.current = worklist.cases[0]
    assert worklist.next_open() == 2
    worklist.current = worklist.cases[3]
    assert worklist.next_open() == 0
    for case in worklist.cases[:3]:
        put(case.folder)
    assert worklist.next_open() is None


def test_the_list_is_sent_only_while_it_is_open_and_holds_no_names(tmp_path):
    worklist = listed(tmp_path, 50)
    asyncio.run(worklist.show())
    assert [e["name"] for e in worklist.state.worklist][::49] == ["Case 1", "Case 50"]
    assert "scan" not in json.dumps(worklist.state.worklist)
    worklist.hide()
    worklist.state.worklist_open = False
    asyncio.run(worklist.show())
    worklist.show_saved(worklist.cases[0], "scan0: the disk is full")
    assert worklist.state.worklist == [] and worklist.state.unsaved == "Case 1: the disk is full"


def dicom(path: Path, patient: str, issuer: str = "", date: str = "") -> None:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid()
    dataset.SOPClassUID, dataset.Modality, dataset.PatientID = CTImageStorage, "CT", patient
    dataset.IssuerOfPatientID, dataset.StudyDate = issuer, date
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)


def test_studies_of_one_patient_stand_together_and_no_patient_is_named(tmp_path):
    for i, (patient, issuer) in enumerate([("Doe7", ""), ("", ""), ("Roe", ""), ("Doe7", ""), ("", ""), ("Roe", "B")]):
        dicom(tmp_path / f"{i}.nii" / "a" / "1.dcm", patient, issuer)
    (tmp_path / "2.nii" / "a" / "0.dcm").write_bytes(b"no DICOM")
    worklist = listed(tmp_path, 6)
    worklist.patients = Patients()
    asyncio.run(worklist.show())
    entries = worklist.state.worklist
    assert [(e["name"], e["patient"]) for e in entries[:3]] == [("Case 1", 1), ("Case 4", 1), ("Case 2", 0)]
    assert not any(e["patient"] for e in entries[2:])
    assert "Doe" not in json.dumps(entries) + repr(vars(worklist.patients))


def test_a_prior_of_another_patient_or_a_later_one_is_doubted_by_its_header(tmp_path):
    given = {"a": ("Doe", "20240101"), "b": ("Doe", "20250101"), "c": ("Roe", "20200101"), "d": ("", "")}
    for name, (patient, date) in given.items():
        dicom(tmp_path / name / "1.dcm", patient, date=date)
    cases = {name: Case(name, tmp_path / name, tmp_path / "out" / name) for name in given}
    assert doubts(cases["a"], cases["b"]) == doubts(cases["d"], cases["b"]) == doubts(cases["a"], cases["a"]) == ""
    assert "later" in doubts(cases["b"], cases["a"]) and "PatientIDs" not in doubts(cases["b"], cases["a"])
    assert "PatientIDs of both scans differ" in doubts(cases["c"], cases["a"])
    assert doubts(Case("e", tmp_path / "none.nii", tmp_path), cases["a"]) == ""


def test_a_key_that_cannot_be_written_is_refused(tmp_path):
    if os.name == "posix" and os.geteuid() == 0:
        (tmp_path / "case-numbers.csv").mkdir()  # root may write everywhere
    else:
        tmp_path.chmod(0o500)
    with pytest.raises(VFQError) as refused:
        listed(tmp_path, 1).write_key()
    assert refused.value.code == "output_not_writable"
