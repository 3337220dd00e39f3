"""Signing, several readers, the report and DICOM objects in the module's panel."""

from __future__ import annotations

import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="needs slicer-core: pip install '.[review]'")
pytest.importorskip("PySide6", reason="needs Qt: pip install '.[test]'")

from desktop_bench import Bench, library_kept, make_ct  # noqa: E402
from PySide6 import QtGui, QtTest  # noqa: E402
from VertebralFractureQuantLib.imaging.files import write_ct  # noqa: E402
from VertebralFractureQuantLib.report.readings import own_folder, readings  # noqa: E402
from VertebralFractureQuantLib.spine.record_json import read_analysis  # noqa: E402


def clipboard() -> str:
    return QtGui.QGuiApplication.clipboard().text()


def judge(bench: Bench) -> None:
    """Confirm all vertebrae of the open study."""
    for vertebra_id in list(bench.study.order):
        bench.review.select(vertebra_id)
        bench.review.act("confirm")


def sign(bench: Bench) -> None:
    judge(bench)
    bench.desktop.press("completeButton")
    bench.rest()


def become(bench: Bench, name: str) -> None:
    """Type another reader's name and press Return."""
    edit = bench.ui.readerLineEdit._real
    bench.desktop.app.window.activateWindow()
    edit.setFocus()
    bench.desktop.events()
    edit.selectAll()
    QtTest.QTest.keyClicks(edit, name)
    QtTest.QTest.keyClick(edit, "\r")
    edit.clearFocus()
    bench.desktop.events()
    bench.rest()


def asked(bench: Bench) -> list[str]:
    """Return the buttons of the question that is shown."""
    names = ("firstButton", "automaticButton", "copyButton")
    return [name for name in names if getattr(bench.ui, name).visible] if bench.ui.askLabel.visible else []


def levels_and_reviews(folder: Path) -> list[tuple[Any, str]]:
    return [(v.level, v.review) for v in read_analysis(folder / "analysis.json").vertebrae]


@pytest.fixture
def ada(bench) -> Bench:
    """The opened study, read by Ada, who moved one vertebra's points."""
    bench.ui.readerLineEdit.text = "Ada"
    bench.analyze()
    bench.desktop.drag("Straightened", bench.markups(1).node, 1, (0, -8))
    return bench


# -- study complete


def test_a_study_with_open_vertebrae_is_not_signed(ada):
    ada.desktop.press("completeButton")
    assert ada.said.startswith("The study is not complete: 6 of 6 vertebrae") and "T9" in ada.said
    assert not ada.saved()["reading"]["signatures"]


def test_a_complete_study_is_signed_with_its_images_and_its_report(ada):
    judge(ada)
    ada.desktop.key("e")
    ada.rest()
    folder = ada.folder / "CT"
    record = read_analysis(folder / "analysis.json")
    assert [(s.reader, s.role) for s in record.signatures] == [("Ada", "reader")]
    assert (folder / "overview.png").exists() and (folder / "straightened.nrrd").exists()
    assert (folder / "machine-straightened.nrrd").exists()
    assert clipboard().startswith("CONCLUSION\nVertebral fracture of T10, mild (Genant 1), biconcave;")
    assert "6 vertebral bodies from T9 to L2" in clipboard() and "Signed by Ada on " in clipboard()
    assert ada.said.startswith("CT is complete and signed. Its report is on the clipboard.")
    assert "overview.png" in ada.said and "straightened.nrrd" in ada.said
    assert ada.ui.standingLabel.text.startswith("Your reading: signed by Ada")


def test_a_refused_clipboard_is_said_and_the_report_is_shown(ada, monkeypatch):
    from VertebralFractureQuantLib.desktop import signing_panel

    monkeypatch.setattr(signing_panel, "copied", lambda text: False)
    sign(ada)
    assert "clipboard" not in ada.said and "Its report: CONCLUSION\nVertebral fracture of T10, mild" in ada.said


def test_a_change_after_signing_is_said(ada):
    sign(ada)
    ada.desktop.drag("Straightened", ada.markups(3).node, 1, (0, -8))
    ada.widget.face.save_now()
    assert "changed after it was signed" in ada.ui.standingLabel.text
    assert not (ada.folder / "CT" / "overview.png").exists()  # it showed other points


def test_images_that_are_written_while_the_study_is_changed_again_are_removed(ada, monkeypatch):
    from VertebralFractureQuantLib.scene import open_case

    real, folder = open_case.write_pictures, ada.folder / "CT"
    begin, go_on = threading.Event(), threading.Event()

    def slow(*arguments: Any) -> Any:
        begin.set()
        assert go_on.wait(120)
        return real(*arguments)

    monkeypatch.setattr(open_case, "write_pictures", slow)
    judge(ada)
    ada.desktop.press("completeButton")
    ada.desktop.wait(begin.is_set)
    ada.review.act("reopen")
    ada.widget.face._save()  # it waits for the images
    go_on.set()
    ada.rest()
    assert not (folder / "overview.png").exists() and not (folder / "straightened.nrrd").exists()
    assert "changed again meanwhile" in ada.said


def test_the_next_open_case_of_the_cohort_follows_a_signed_one(empty, tmp_path):
    (tmp_path / "scans").mkdir()
    for name in ("first", "second"):
        write_ct(replace(make_ct(), name=name), tmp_path / "scans" / f"{name}.nii.gz")
    empty.ui.scansPathLineEdit.currentPath = str(tmp_path / "scans")
    empty.rest()
    empty.desktop.press("analyzeAllButton")
    empty.rest()
    empty.widget.cohort.open(0)
    empty.wait_for_study()
    judge(empty)
    before = empty.editor
    empty.desktop.press("completeButton")
    empty.wait_for_study(before)
    assert empty.review.folder.name == "second"
    assert empty.ui.cohortTable.item(0, 1).text() == "reviewed"


# -- two readers


def test_another_reader_is_asked_and_sees_nothing_of_the_reading(ada):
    become(ada, "Bob")
    assert asked(ada) == ["firstButton", "automaticButton", "copyButton"] and ada.editor is None
    assert "0 of 6 vertebrae are judged" in ada.ui.askLabel.text and "Ada" in ada.ui.firstButton.text
    assert ada.ui.vertebraTable.rowCount == 0


def test_a_blind_own_reading_begins_with_the_automatic_points(ada):
    judge(ada)
    become(ada, "Bob")
    first = levels_and_reviews(ada.folder / "CT")
    ada.desktop.press("automaticButton")
    ada.wait_for_study()
    folder = own_folder(ada.folder / "CT", "Bob")
    assert ada.review.folder == folder and not asked(ada)
    assert {v.details["origin"] for v in ada.study.vertebrae.values()} == {"model"}
    assert {v.details["review"] for v in ada.study.vertebrae.values()} == {"open"}
    ada.review.act("reject")
    ada.widget.face.save_now()
    assert [r for _, r in levels_and_reviews(folder)].count("rejected") == 1
    assert levels_and_reviews(ada.folder / "CT") == first and "CT," in ada.ui.caseLabel.text


def test_an_own_reading_begins_with_the_others_points(ada):
    become(ada, "Bob")
    ada.desktop.press("copyButton")
    ada.wait_for_study()
    assert ada.markups(1).details["origin"] == "reader" and ada.markups(1).details["review"] == "open"
    assert "begun from the points of Ada" in ada.ui.standingLabel.text


def test_a_reading_is_continued_under_the_second_readers_name(ada):
    become(ada, "Bob")
    ada.desktop.press("firstButton")
    ada.wait_for_study()
    ada.review.act("confirm")
    record = read_analysis(ada.folder / "CT" / "analysis.json") if ada.saved() else None
    assert ada.review.folder == ada.folder / "CT" and record.vertebrae[0].reviewer == "Bob"
    assert record.reading.reader == "Ada"


def test_a_signed_reading_is_locked_and_counter_signed(ada):
    sign(ada)
    become(ada, "Bob")
    assert ada.ui.firstButton.text == "Open the signed reading"
    ada.desktop.press("firstButton")
    ada.wait_for_study()
    before = ada.study.state()
    ada.review.act("reject")
    assert ada.study.state() == before and "cannot be changed" in ada.said
    assert ada.ui.completeButton.text == "Counter-sign"
    ada.desktop.press("completeButton")
    ada.rest()
    signatures = read_analysis(ada.folder / "CT" / "analysis.json").signatures
    assert [(s.reader, s.role) for s in signatures] == [("Ada", "reader"), ("Bob", "countersigner")]


def test_the_same_volume_opened_by_another_reader_is_asked_for(ada):
    ada.widget.face.close()
    ada.ui.readerLineEdit.text = "Bob"
    ada.desktop.press("openButton")
    ada.rest()
    assert ada.editor is None and asked(ada)
    ada.desktop.press("laterButton")
    assert not asked(ada) and len(readings(ada.folder / "CT")) == 1
    ada.ui.readerLineEdit.text = "Ada"
    ada.desktop.press("openButton")
    ada.wait_for_study()
    assert ada.review.folder == ada.folder / "CT"


def test_the_readings_of_a_case_are_listed_with_what_else_can_be_opened(ada):
    sign(ada)
    become(ada, "Bob")
    ada.desktop.press("automaticButton")
    ada.wait_for_study()
    sign(ada)
    ada.desktop.press("readingsButton")
    assert "Reading of Ada: signed" in ada.ui.askLabel.text and "Your reading: signed by Bob" in ada.ui.askLabel.text
    assert asked(ada) == ["firstButton"]
    ada.desktop.key("i")
    assert not ada.ui.askLabel.visible
    ada.desktop.key("i")
    before = ada.editor
    ada.desktop.press("firstButton")
    ada.wait_for_study(before)
    assert ada.review.folder == ada.folder / "CT"


def test_a_case_that_is_open_elsewhere_can_be_read_on_ones_own(ada):
    from VertebralFractureQuantLib.errors import VFQError
    from VertebralFractureQuantLib.scene import review

    real, folder = review.open_journal, ada.folder / "CT"
    ada.widget.face.close()

    def in_use(at: Path, *arguments: Any) -> Any:
        if at == folder:
            raise VFQError("study_in_use", "This case is open in another window.")
        return real(at, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(review, "open_journal", in_use)
        ada.desktop.press("openButton")
        ada.rest()
        assert "another window" in ada.said and ada.ui.firstButton.text == "Try again to open it"
    ada.desktop.press("firstButton")
    ada.wait_for_study()
    assert ada.review.folder == folder


def test_a_name_is_not_taken_over_while_it_is_typed_into_an_open_study(ada):
    edit = ada.ui.readerLineEdit._real
    ada.desktop.app.window.activateWindow()
    edit.setFocus()
    ada.desktop.events()
    QtTest.QTest.keyClicks(edit, " B")
    assert ada.review.who == "Ada" and ada.editor is not None and not asked(ada)


def test_after_a_reload_the_own_reading_is_continued_and_not_the_first_one(ada):
    become(ada, "Bob")
    ada.desktop.press("automaticButton")
    ada.wait_for_study()
    ada.review.act("confirm")
    folder = ada.review.folder
    with library_kept():
        ada.desktop.reload()
        ada.settle_in()
        ada.wait_for_study()
        assert ada.review.folder == folder and ada.review.who == "Bob"


def test_a_scene_with_an_own_reading_is_resumed_in_its_own_folder(ada):
    become(ada, "Bob")
    ada.desktop.press("copyButton")
    ada.wait_for_study()
    ada.review.act("confirm")
    folder, first = ada.review.folder, (ada.folder / "CT" / "review.sqlite").read_bytes()
    path = ada.widget.face.save_scene()
    assert path.parent == folder
    ada.desktop.close_scene()
    slicer.util.loadScene(str(path))
    ada.wait_for_study()
    assert ada.review.folder == folder and (ada.folder / "CT" / "review.sqlite").read_bytes() == first


def test_a_scene_with_the_reading_of_another_is_not_mixed_into_it(ada):
    path = ada.widget.face.save_scene()
    ada.desktop.close_scene()
    ada.ui.readerLineEdit.text = "Bob"
    slicer.util.loadScene(str(path))
    ada.rest()
    assert ada.editor is None and "reading of another reader" in ada.said


# -- the report


def test_the_report_is_shown_in_the_chosen_language(ada):
    ada.desktop.press("reportButton")
    ada.rest()
    shown = ada.ui.reportBrowser._real.toPlainText()
    assert ada.ui.reportBrowser.visible and "T11" in shown and "Vertebral fracture of" in shown
    ada.ui.languageComboBox.currentText = "de"
    assert not ada.ui.reportBrowser.visible
    ada.desktop.press("reportButton")
    ada.rest()
    assert "BWK 11" in ada.ui.reportBrowser._real.toPlainText()


def test_the_language_is_remembered(empty):
    empty.ui.languageComboBox.currentText = "de"
    with library_kept():
        empty.desktop.reload()
    assert empty.ui.languageComboBox.currentText == "de"


def test_the_text_of_the_report_is_copied_and_is_that_of_the_command(ada):
    from VertebralFractureQuantLib.report.document import make_report, report_text
    from VertebralFractureQuantLib.report.wording import Wording

    ada.desktop.press("copyReportButton")
    ada.rest()
    record = read_analysis(ada.folder / "CT" / "analysis.json")
    assert clipboard() == report_text(make_report(record, Wording("en"))) and "clipboard" in ada.said


@pytest.mark.parametrize(("button", "kind", "begins"), [("pdf", "pdf", b"%PDF"), ("html", "html", b"<!DOCTYPE html>")])
def test_the_report_is_saved(ada, tmp_path, button, kind, begins):
    path = tmp_path / f"r.{kind}"
    ada.desktop.answers["getSaveFileName"] = lambda *_: str(path)
    ada.desktop.press({"pdf": "pdfButton", "html": "htmlButton"}[button])
    ada.rest()
    assert path.read_bytes().startswith(begins) and ada.said == f"The report was saved as {path}."
    ((_, arguments),) = ada.desktop.asked
    assert Path(arguments[2]).name == f"CT-report.{kind}"


def test_a_report_that_is_not_saved_leaves_nothing(ada, tmp_path):
    for name in ("pdfButton", "htmlButton"):
        ada.desktop.answers["getSaveFileName"] = ""
        ada.desktop.press(name)
        ada.rest()
    ada.desktop.answers["getSaveFileName"] = lambda *_: str(tmp_path / "nowhere" / "r.html")
    ada.desktop.press("htmlButton")
    ada.rest()
    assert not list(tmp_path.glob("**/r.html*")) and "nowhere" in ada.said


def test_a_study_without_results_has_no_report(bench):
    bench.desktop.press("beginButton")
    bench.wait_for_study()
    bench.desktop.press("reportButton")
    bench.rest()
    assert "no results yet" in bench.said and not bench.ui.reportBrowser.visible


def test_no_report_is_made_of_files_that_are_not_those_of_the_study(ada, monkeypatch):
    from VertebralFractureQuantLib.errors import VFQError
    from VertebralFractureQuantLib.scene import case_files

    def full(*_: Any) -> None:
        raise VFQError("output_not_writable", "The disk is full.")

    monkeypatch.setattr(case_files, "write_review", full)
    ada.review.act("reject")
    ada.desktop.press("reportButton")
    ada.rest()
    assert "could not be saved" in ada.said and not ada.ui.reportBrowser.visible


def test_a_package_that_the_report_needs_is_offered(ada, monkeypatch):
    from VertebralFractureQuantLib.desktop import dependencies

    real = dependencies.is_installed
    monkeypatch.setattr(dependencies, "is_installed", lambda r: r.name != "reportlab" and real(r))
    ada.desktop.answers["confirm"] = False
    ada.desktop.press("pdfButton")
    assert "reportlab (report as PDF)" in ada.desktop.messages[-1].text
    assert not ada.desktop.asked[1:] and not ada.desktop.installed


# -- DICOM objects


class Database:
    """Slicer's DICOM database, with one series."""

    def __init__(self, files: list[Path]):
        self.files = files
        self.imported: list[str] = []

    def fileForInstance(self, uid: str) -> str:  # noqa: N802
        return str(self.files[0]) if uid == "1.2.3" else ""

    def fileValue(self, path: str, tag: str) -> str:  # noqa: N802
        from pydicom import dcmread

        return str(dcmread(path).SeriesInstanceUID)


@pytest.fixture
def from_dicom(empty, tmp_path, monkeypatch) -> tuple[Bench, Database]:
    """A study of a series, loaded from the DICOM database."""
    from dicom_cases import write_series
    from VertebralFractureQuantLib.imaging.files import read_ct

    folder = tmp_path / "series"
    write_series(folder, make_ct())
    database = Database(sorted(folder.glob("*")))
    monkeypatch.setattr(slicer, "dicomDatabase", database, raising=False)
    utils = ModuleType("DICOMLib")
    utils.DICOMUtils = SimpleNamespace(importDicom=lambda path, _: database.imported.append(path))
    monkeypatch.setitem(sys.modules, "DICOMLib", utils)
    node = empty.add_volume(read_ct(folder))
    node.SetAttribute("DICOM.instanceUIDs", "1.2.3")
    empty.analyze()
    return empty, database


def test_dicom_objects_go_into_the_database_of_slicer(from_dicom):
    bench, database = from_dicom
    bench.desktop.press("dicomDatabaseButton")
    bench.rest()
    folder = bench.folder / "CT" / "dicom"
    assert database.imported == [str(folder)], bench.said
    names = sorted(path.name.split("-")[0] for path in folder.glob("*.dcm"))
    assert names == ["measurements", "overview", "report"] and bench.said.startswith("3 objects were added")


def test_dicom_files_are_written_into_a_folder(from_dicom, tmp_path):
    bench, database = from_dicom
    bench.desktop.answers["getExistingDirectory"] = lambda *_: str(tmp_path / "objects")
    bench.desktop.press("dicomFilesButton")
    bench.rest()
    assert len(list((tmp_path / "objects").glob("*.dcm"))) == 3 and not database.imported
    assert bench.said == f"3 DICOM files were written to {tmp_path / 'objects'}."


def test_a_ct_from_elsewhere_cannot_go_into_the_database_and_its_series_is_asked_for(ada):
    assert not ada.ui.dicomDatabaseButton.enabled
    ada.desktop.answers["getExistingDirectory"] = ""
    ada.desktop.press("dicomFilesButton")
    assert ada.desktop.asked[-1][1][1] == "The folder of the DICOM series that was analysed"


# -- what is made ready


def test_the_undo_of_a_rebuilt_curve_samples_the_ct_only_once_for_each_curve(opened, monkeypatch):
    from VertebralFractureQuantLib.scene import machine
    from VertebralFractureQuantLib.scene.straight import reformat
    from VertebralFractureQuantLib.spine.curve import SpineCurve

    sampled: list[int] = []
    monkeypatch.setattr(machine, "reformat", lambda ct, curve: sampled.append(1) or reformat(ct, curve))
    first = machine.Machine(make_ct(), None)
    curves = [SpineCurve(opened.study.straightening.curve.points + [shift, 0, 0]) for shift in (0.0, 3.0)]
    made = [first.reformat(curve) for curve in curves]
    assert [first.reformat(curve) for curve in curves] == made and sum(sampled) == 2
    assert not np.array_equal(made[0].voxels, made[1].voxels)
    for shift in (6.0, 9.0):  # only the latest are kept
        first.reformat(SpineCurve(curves[0].points + [shift, 0, 0]))
    assert first.reformat(curves[0]) is not made[0]


def test_opening_makes_the_networks_ready_for_the_first_click(bench, monkeypatch):
    from VertebralFractureQuantLib.scene.machine import Machine

    warmed: list[float] = []
    monkeypatch.setattr(Machine, "warm_up", lambda self, curve: warmed.append(curve.length))
    bench.analyze()
    bench.rest()
    assert warmed == [bench.study.straightening.curve.length]
