"""The module's panel in Slicer: widgets, an analysis in a child process, a cohort, export, missing packages."""

from __future__ import annotations

import ast
import csv
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="needs slicer-core: pip install '.[review]'")
pytest.importorskip("PySide6", reason="needs Qt: pip install '.[test]'")

from desktop_bench import LEVELS, MODULE, Bench, Desktop, add_volume, library_kept, make_analysis, make_ct  # noqa: E402
from harness import installing, pythonqt  # noqa: E402
from pace import processor_ms, slowness  # noqa: E402
from PySide6 import QtCore, QtTest  # noqa: E402
from VertebralFractureQuantLib.errors import VFQError, meaning  # noqa: E402
from VertebralFractureQuantLib.imaging.ct import CTVolume  # noqa: E402
from VertebralFractureQuantLib.imaging.files import write_ct  # noqa: E402
from VertebralFractureQuantLib.spine.record import SpineAnalysis  # noqa: E402
from VertebralFractureQuantLib.spine.record_json import read_analysis  # noqa: E402

ROOM = MODULE.parent / "VertebralFractureQuantLib" / "desktop"
UI = ET.parse(MODULE.parent / "Resources" / "UI" / "VertebralFractureQuant.ui")
FILES = ("analysis.json", "keypoints.mrk.json", "measurements.csv", "overview.png", "straightened.nrrd")


def widgets(kind: str | None = None) -> set[str]:
    """Return the names of the widgets in the .ui file, of one class or of all."""
    return {w.get("name") for w in UI.iter("widget") if kind in (None, w.get("class"))}


# -- the panel


def test_every_widget_that_the_code_names_is_in_the_ui_file():
    text = "\n".join(p.read_text(encoding="utf-8") for p in (MODULE, *ROOM.glob("*.py")))
    named = set(re.findall(r"\bui\.(\w+)", text)) | set(re.findall(r'"(\w+(?:Button|[a-z]ComboBox))"', text))
    assert named - {"py"} <= widgets()


def test_every_push_button_of_the_ui_file_is_connected(empty):
    for name in widgets("QPushButton"):
        signals = [signal for signal, *_ in pythonqt._kept(getattr(empty.ui, name)._real)]
        assert any(signal.startswith("clicked") for signal in signals), name


def test_every_push_button_of_the_ui_file_is_pressed_by_a_test():
    from test_desktop_review import BUTTONS_OF_DEEDS

    text = "".join(p.read_text(encoding="utf-8") for p in Path(__file__).parent.glob("test_desktop*.py"))
    assert set(re.findall(r'press\("(\w+)"\)', text)) | set(BUTTONS_OF_DEEDS) == widgets("QPushButton")


def test_the_key_in_a_buttons_tooltip_calls_the_same_action(empty):
    from test_desktop_review import BUTTONS_OF_DEEDS, QT_KEYS
    from VertebralFractureQuantLib.scene.keys import ACTIONS

    of_key = {name.lower(): action for key, action in ACTIONS.items() for name in (key, QT_KEYS.get(key, key))}
    for name, action in BUTTONS_OF_DEEDS.items():
        key = re.search(r"\((\S+?)\)$", getattr(empty.ui, name).toolTip)
        assert not key or of_key[key[1].lower()] == action, name


def test_the_empty_panel_shows_nothing_and_disables_its_buttons(empty):
    assert empty.ui.summaryLabel.text == "No vertebrae yet." and empty.ui.vertebraTable.rowCount == 0
    for name in ("confirmButton", "undoButton", "exportButton", "openButton", "cancelButton", "openCaseButton"):
        assert not getattr(empty.ui, name).enabled, name
    assert not empty.ui.installButton.visible and not empty.ui.progressBar.visible


def test_the_first_ct_of_the_scene_is_chosen_when_the_module_is_opened(tmp_path):
    with Desktop(MODULE, open=False) as desktop:
        add_volume(make_ct(), "Chest")
        desktop.select()
        assert desktop.ui.inputSelector.currentNode().GetName() == "Chest"


def test_of_several_cts_the_shown_one_is_chosen(tmp_path):
    with Desktop(MODULE, open=False) as desktop:
        add_volume(make_ct(), "First")
        shown = add_volume(make_ct(), "Shown")
        slicer.mrmlScene.GetNodeByID("vtkMRMLSelectionNodeSingleton").SetActiveVolumeID(shown.GetID())
        desktop.select()
        assert desktop.ui.inputSelector.currentNode() is shown and desktop.ui.analyzeButton.text == "Analyse Shown"


def test_a_ct_that_is_loaded_while_the_module_is_open_is_chosen(opened):
    assert opened.ui.analyzeButton.text == "Analyse CT" and opened.ui.beginButton.text == "Begin CT by hand"
    assert opened.ui.openButton.text == "Open review of CT"
    new = add_volume(make_ct(), "Thorax with contrast, 1 mm, follow-up")
    opened.desktop.events()
    assert opened.ui.inputSelector.currentNode() is new
    assert opened.ui.analyzeButton.text == "Analyse Thorax\N{HORIZONTAL ELLIPSIS}low-up"
    assert "\N{LEFT DOUBLE QUOTATION MARK}CT\N{RIGHT DOUBLE QUOTATION MARK}" in opened.ui.caseLabel.text
    assert "act on another CT" in opened.ui.caseLabel.text and "follow-up" in opened.ui.caseLabel.text
    labels = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "Labels")
    slicer.util.updateVolumeFromArray(labels, np.zeros((9, 9, 9), np.int16))
    opened.desktop.events()
    assert opened.ui.inputSelector.currentNode() is new


def test_a_volume_loaded_while_another_module_is_shown_is_not_chosen(opened):
    opened.desktop.select("Data")
    add_volume(make_ct(), "Other")
    opened.desktop.events()
    opened.desktop.select()
    assert opened.ui.inputSelector.currentNode().GetName() == "CT"


def test_the_shown_case_is_named_in_the_panel_and_in_the_straightened_view(opened):
    assert opened.ui.caseLabel.visible and opened.ui.caseLabel.text.startswith("Shown: CT,")
    before = opened.editor
    opened.desktop.press("analyzeButton")
    opened.wait_for_study(before)
    assert opened.ui.caseLabel.text.startswith("Shown: CT-2,") and "another CT" not in opened.ui.caseLabel.text
    background = slicer.app.layoutManager().sliceWidget("Straightened").mrmlSliceCompositeNode().GetBackgroundVolumeID()
    assert slicer.mrmlScene.GetNodeByID(background).GetName() == "CT-2 straightened"
    opened.desktop.close_scene()
    assert not opened.ui.caseLabel.visible and opened.ui.analyzeButton.text == "Analyse"


def test_the_widget_class_is_thin_and_measures_nothing():
    tree = ast.parse(MODULE.read_text(encoding="utf-8"))
    widget = next(n for n in tree.body if isinstance(n, ast.ClassDef) and n.name.endswith("Widget"))
    assert widget.end_lineno - widget.lineno < 400
    imported = {
        name
        for n in ast.walk(widget)
        if isinstance(n, (ast.Import, ast.ImportFrom))
        for name in (getattr(n, "module", None) or "", *(alias.name for alias in n.names))
    }
    assert not [n for n in imported if "numpy" in n or "genant" in n or n.startswith("measure")]


def test_the_module_opens_within_half_a_second():
    with Desktop(MODULE):
        pass  # the library is imported once
    with Desktop(MODULE, open=False) as desktop:
        assert processor_ms(desktop.select) / slowness() < 500


def test_the_readers_name_is_kept_as_it_is_typed(empty):
    edit = empty.ui.readerLineEdit._real
    edit.clear()
    QtTest.QTest.keyClicks(edit, "Grace")
    assert empty.review.who == "Grace"
    assert slicer.util.settingsValue("VertebralFractureQuant/reader", "") == "Grace"


def test_results_folder_and_reader_are_remembered(empty, tmp_path):
    empty.ui.resultsPathLineEdit.currentPath = str(tmp_path / "elsewhere")
    empty.ui.readerLineEdit.text = "Ada"
    empty.ui.readerLineEdit._real.editingFinished.emit()
    with library_kept():
        empty.desktop.reload()
    assert empty.ui.resultsPathLineEdit.currentPath == str(tmp_path / "elsewhere")
    assert empty.ui.readerLineEdit.text == empty.review.who == "Ada"


# -- an analysis


def test_an_analysis_shows_its_progress_and_then_the_study(bench):
    bench.children.at_once = False
    bench.desktop.press("analyzeButton")
    child = bench.desktop.wait(lambda: bench.children.started)[0]
    assert not bench.ui.analyzeButton.enabled and bench.ui.cancelButton.enabled
    child.say({"stage": "detect", "share": 0.6})
    bench.desktop.wait(lambda: bench.ui.progressBar.value == 60)
    assert bench.ui.progressLabel.text == "detect" and bench.ui.progressBar.visible
    child.done()
    bench.wait_for_study()
    assert not bench.ui.progressBar.visible and bench.ui.analyzeButton.enabled
    assert (bench.ui.vertebraTable.rowCount, bench.cell(0, 0), bench.cell(2, 0)) == (6, "T9", "T11")
    heights = make_analysis(make_ct()).vertebrae[2].measurement.heights_mm
    assert [bench.cell(2, column) for column in (1, 2, 3)] == [f"{h:.1f}" for h in heights]
    assert bench.cell(2, 4) == "~0.77 ±0.05" and bench.cell(2, 5) == "mild biconcave"
    assert "T11" in bench.ui.summaryLabel.text and "0 of 6 reviewed" in bench.ui.summaryLabel.text


def test_the_study_is_shown_in_the_modules_own_layout(opened):
    from VertebralFractureQuantLib.desktop.layout import LAYOUT_ID

    manager, nodes = slicer.app.layoutManager(), opened.study.nodes

    def shown(view):
        return manager.sliceWidget(view).mrmlSliceCompositeNode().GetBackgroundVolumeID()

    assert manager.layout == LAYOUT_ID and manager.threeDViewCount == 1
    assert shown("Straightened") == nodes["straightened"].GetID()
    assert {shown(view) for view in ("Red", "Yellow", "Green")} == {nodes["ct"].GetID()}
    assert nodes["ct"] is opened.ui.inputSelector.currentNode()
    assert manager.tableViewCount == 0  # the panel has the table


def test_two_columns_of_views_stand_beside_the_panel():
    from VertebralFractureQuantLib.desktop.layout import LAYOUT_ID, LAYOUTS

    columns = ET.fromstring(LAYOUTS[LAYOUT_ID]).findall("item")
    views = [[view.get("singletontag") for view in column.iter("view")] for column in columns]
    assert views == [["Straightened"], ["Yellow", "Red", "Green", "1"]]
    tabs = columns[1].find("layout/item/layout[@type='tab']")
    assert [tab.get("name") for tab in tabs] == ["Axial", "Coronal", "3D"]


def test_no_long_word_widens_the_panel_and_no_line_lies_over_the_table(bench):
    bench.desktop.app.window.resize(420, 700)
    bench.desktop.events()
    narrowest = bench.ui.sections._real.minimumSizeHint().width()
    word = "/home/reader/" + "a" * 300 + "_" + "b" * 300
    bench.widget._say(f"The scene was saved as {word}.")
    assert bench.said == f"The scene was saved as {word}."
    assert bench.ui.messageLabel._real.minimumSizeHint().width() <= 300
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "c" * 300)
    bench.ui.inputSelector.setCurrentNode(node)
    assert bench.ui.caseLabel._real.minimumSizeHint().width() <= 400
    assert bench.ui.sections._real.minimumSizeHint().width() <= narrowest + 60


def test_hints_stand_above_what_scrolls(opened):
    opened.desktop.key("s")
    for name in ("hintLabel", "finishButton", "leaveButton"):
        real = getattr(opened.ui, name)._real
        assert not real.isHidden() and not opened.ui.sectionsScrollArea._real.isAncestorOf(real), name
    hint, table = opened.ui.hintLabel._real, opened.ui.summaryLabel._real
    for label in (hint, table):
        assert label.minimumHeight() >= label.heightForWidth(label.width()) > 0


def test_the_show_layout_button_restores_the_layout(opened):
    manager = slicer.app.layoutManager()
    ours = manager.layout
    manager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutConventionalView)
    opened.desktop.press("layoutButton")
    assert manager.layout == ours


def test_the_child_process_gets_the_ct_the_device_and_the_folder(bench):
    seen = []
    bench.children.analysis = lambda ct: seen.append(ct) or make_analysis(ct)
    bench.ui.deviceComboBox.currentText = "cpu"
    bench.analyze()
    wanted = bench.children.started[0].wanted
    assert (wanted.case, wanted.output, wanted.device) == ("CT", bench.folder, "cpu") and not wanted.trust_header
    np.testing.assert_array_equal(seen[0].voxels, make_ct().voxels)
    np.testing.assert_allclose(seen[0].ijk_to_ras, make_ct().ijk_to_ras, atol=1e-6)
    assert not wanted.input.exists()  # the copy for the child process was deleted


def test_a_trusted_header_is_passed_on(bench):
    bench.ui.trustHeaderCheckBox.checked = True
    bench.analyze()
    assert bench.children.started[0].wanted.trust_header


def test_message_progress_and_cancel_stay_in_view_wherever_the_sections_are_scrolled(bench):
    window, area = bench.desktop.app.window, bench.ui.sectionsScrollArea._real
    window.resize(480, 600)
    bench.desktop.events()
    area.verticalScrollBar().setValue(area.verticalScrollBar().maximum())
    bench.children.at_once = False
    bench.ui.analyzeButton._real.setFocus()
    bench.desktop.press("analyzeButton")
    bench.desktop.wait(lambda: bench.children.started)
    bench.widget._say("A message.")
    bench.desktop.events()
    for name in ("messageLabel", "progressBar", "cancelButton"):
        shown = getattr(bench.ui, name)._real
        assert not shown.visibleRegion().isEmpty() and not area.isAncestorOf(shown), name
    bench.desktop.press("cancelButton")
    assert area.verticalScrollBar().value() > 0 and not bench.ui.cancelButton.visible


def test_cancelling_kills_the_child_and_a_second_analysis_works(bench):
    bench.children.at_once = False
    bench.desktop.press("analyzeButton")
    child = bench.desktop.wait(lambda: bench.children.started)[0]
    bench.desktop.press("cancelButton")
    assert child.killed and bench.said == "CT: The analysis was cancelled."
    assert not bench.ui.cancelButton.enabled and not bench.ui.progressBar.visible
    assert not (bench.folder / "CT").exists() and not child.wanted.input.exists()
    bench.children.at_once = True
    bench.analyze()
    assert bench.ui.vertebraTable.rowCount == 6


def test_cancelling_before_the_child_is_started_starts_none(bench):
    bench.ui.analyzeButton._real.click()
    bench.widget.face._works[0].thread.join()  # the volume has been prepared
    bench.ui.cancelButton._real.click()
    bench.rest()
    assert bench.said == "CT: The analysis was cancelled." and not bench.children.started
    bench.analyze()
    assert bench.ui.vertebraTable.rowCount == 6


def test_a_crashed_child_is_reported_and_a_second_analysis_works(bench):
    bench.children.at_once = False
    bench.desktop.press("analyzeButton")
    child = bench.desktop.wait(lambda: bench.children.started)[0]
    child.words = "Segmentation fault"
    child.say({"stage": "detect", "share": 0.5}, end=-11)
    bench.rest()
    assert "SIGSEGV" in bench.said and "Segmentation fault" in bench.said and bench.editor is None
    bench.children.at_once = True
    bench.analyze()
    assert bench.ui.vertebraTable.rowCount == 6


def test_the_message_of_a_failed_child_is_shown(bench):
    bench.children.analysis = lambda ct: SpineAnalysis("CT", status="not_ct", message="These are no HU.")
    bench.desktop.press("analyzeButton")
    bench.rest()
    assert bench.said == "CT: These are no HU." and bench.editor is None


def test_a_scan_without_a_spine_is_opened_for_clicks(bench):
    bench.children.analysis = lambda ct: SpineAnalysis("CT", status="no_spine_found", message="No spine found.")
    bench.analyze()
    assert bench.said.startswith("No spine found.") and "click the spine" in bench.said
    assert bench.ui.rescueButton.enabled and bench.ui.vertebraTable.rowCount == 0


def test_notes_of_the_child_are_shown(bench):
    bench.children.at_once = False
    bench.desktop.press("analyzeButton")
    child = bench.desktop.wait(lambda: bench.children.started)[0]
    child.say({"note": "The GPU has too little memory: the CPU is used."})
    child.done()
    bench.wait_for_study()
    assert "the CPU is used" in bench.said


def test_a_second_analysis_of_the_same_volume_overwrites_nothing(opened):
    opened.review.act("confirm")
    first = opened.saved()
    opened.analyze()
    assert sorted(p.name for p in opened.folder.iterdir()) == ["CT", "CT-2"]
    assert opened.review.folder.name == "CT-2" and opened.ui.summaryLabel.text.endswith("0 of 6 reviewed.")
    assert json.loads((opened.folder / "CT" / "analysis.json").read_text(encoding="utf-8")) == first


def test_an_earlier_review_is_resumed_with_its_undo_history(opened, tmp_path):
    opened.review.act("confirm")
    opened.desktop.drag("Straightened", opened.markups(1).node, 1, (0, -8))
    expected = opened.study.state()
    opened.ui.resultsPathLineEdit.currentPath = str(tmp_path / "other")
    assert not opened.ui.openButton.enabled
    opened.analyze()
    opened.ui.resultsPathLineEdit.currentPath = str(opened.folder)
    before = opened.editor
    opened.desktop.press("openButton")
    opened.wait_for_study(before)
    assert opened.review.folder == opened.folder / "CT" and opened.study.state() == expected
    opened.desktop.press("undoButton")
    assert opened.markups(1).details["origin"] == "model" and opened.markups(0).details["review"] == "confirmed"


def test_another_study_is_saved_before_the_next_is_opened(opened):
    opened.review.act("confirm")
    opened.analyze()
    assert read_analysis(opened.folder / "CT" / "analysis.json").vertebrae[0].review == "confirmed"


def test_a_study_by_hand_begins_without_networks(bench):
    bench.desktop.press("beginButton")
    bench.wait_for_study()
    assert bench.ui.vertebraTable.rowCount == 0 and not bench.children.started
    assert bench.ui.annotateButton.enabled and bench.review.folder == bench.folder / "CT"


def test_without_a_curve_three_clicks_are_needed(bench):
    bench.desktop.press("beginButton")
    bench.wait_for_study()
    middle = bench.study.straightening.curve.points.mean(0)
    bench.desktop.press("drawCurveButton")
    assert "three or more vertebral bodies" in bench.ui.hintLabel.text
    for s in (40.0, 0.0):
        bench.click("Yellow", middle + [0.0, 0.0, s])
    bench.desktop.press("finishButton")
    assert "2 points were clicked, but a curve needs at least 3" in bench.said
    bench.click("Yellow", middle - [0.0, 0.0, 40.0])
    bench.desktop.press("finishButton")
    bench.rest()
    assert bench.study.straightening.curve.length == pytest.approx(80.0, abs=2.0)


def test_a_phantom_is_analysed_by_the_real_child(empty, painted):

    empty.add_volume(painted(3, field_of_view="spine", spacing_mm=(1.5, 2.5))[0], "Phantom")
    empty.widget.analyst._start = None
    empty.desktop.press("analyzeButton")
    empty.desktop.wait(lambda: empty.editor or empty.said, 300)
    assert empty.editor and empty.ui.vertebraTable.rowCount >= 8, empty.said
    logic, node = empty.widget.logic, empty.ui.inputSelector.currentNode()
    alone = logic.analyze(node, "cpu")  # without a panel and a child process
    assert [v.measurement.genant_ratio for v in alone.vertebrae] == pytest.approx(empty.shown_ratios(), abs=1e-6)


# -- the cohort


@pytest.fixture
def cohort(empty, tmp_path) -> Bench:
    """A cohort of two scans."""
    (tmp_path / "scans").mkdir()
    for name in ("first", "second"):
        write_ct(replace(make_ct(), name=name), tmp_path / "scans" / f"{name}.nii.gz")
    empty.ui.scansPathLineEdit.currentPath = str(tmp_path / "scans")
    empty.rest()
    return empty


@pytest.fixture
def analysed(cohort) -> Bench:
    """The cohort, analysed."""
    cohort.desktop.press("analyzeAllButton")
    cohort.rest()
    return cohort


def listed(bench: Bench) -> list[tuple[str, ...]]:
    table = bench.ui.cohortTable
    return [tuple(table.item(row, column).text() for column in range(4)) for row in range(table.rowCount)]


def only_second(ct: CTVolume) -> SpineAnalysis:
    """Fail for the first scan."""
    return SpineAnalysis("x", status="not_ct", message="These are no HU.") if ct.name == "first" else make_analysis(ct)


def test_a_cohort_is_analysed_in_the_background_as_vfq_cohort_does(cohort):
    assert listed(cohort) == [("first", "waiting", "", ""), ("second", "waiting", "", "")]
    assert cohort.ui.cohortLabel.text == "2 scans: 2 waiting." and not cohort.ui.stopButton.enabled
    cohort.children.at_once = False
    cohort.children.analysis = only_second
    cohort.desktop.press("analyzeAllButton")
    (child,) = cohort.children.started
    assert child.wanted.output == cohort.folder / "scans-cohort" and cohort.ui.cancelButton.visible
    assert not cohort.ui.analyzeAllButton.enabled and cohort.ui.stopButton.enabled
    child.say({"stage": "1 of 2 scans", "share": 0.5})
    cohort.desktop.wait(lambda: cohort.ui.progressBar.value == 50)
    child.done()
    cohort.rest()
    assert listed(cohort)[1] == ("second", "ready", "mild", "6 of 6")
    assert listed(cohort)[0][:2] == ("first", meaning("not_ct"))
    assert cohort.ui.cohortLabel.text == "2 scans: 1 analysed, 1 failed."
    folder = cohort.folder / "scans-cohort"
    assert read_analysis(folder / "cases" / "second" / "analysis.json").status == "ok"
    with (folder / "failures.csv").open(encoding="utf-8") as file:
        assert [(row["case"], row["code"]) for row in csv.DictReader(file)] == [("first", "not_ct")]
    assert (folder / "index.html").exists() and (folder / "vertebrae.parquet").exists()


def test_a_cohort_is_analysed_by_the_method_that_was_chosen(cohort):
    from VertebralFractureQuantLib.cohort.background import cohort_command, options_of

    box = cohort.ui.cohortMethodComboBox
    assert [box.itemText(i) for i in range(box.count)] == ["anchor-free", "anchor-boxes", "m-scn"]
    assert box.currentText == "anchor-free"
    cohort.children.at_once = False
    box.currentText = "m-scn"
    cohort.desktop.press("analyzeAllButton")
    (child,) = cohort.children.started
    assert child.wanted.method == "m-scn"
    child.done()
    cohort.rest()
    command = cohort_command(Path("scans"), Path("out"), "cpu", "python")
    assert options_of(command[3:]).method == "anchor-free"


def test_a_stopped_cohort_is_continued_and_what_is_finished_is_kept(analysed, tmp_path):
    first = analysed.folder / "scans-cohort" / "cases" / "first" / "analysis.json"
    before = first.read_bytes(), first.stat().st_mtime_ns
    write_ct(replace(make_ct(), name="third"), tmp_path / "scans" / "third.nii.gz")
    analysed.widget.onListCohort()
    analysed.rest()
    assert [row[:2] for row in listed(analysed)] == [("first", "ready"), ("second", "ready"), ("third", "waiting")]
    analysed.children.at_once = False
    analysed.desktop.press("analyzeAllButton")
    analysed.desktop.press("stopButton")
    assert analysed.children.started[1].killed and "Analyse all continues" in analysed.said
    assert not analysed.widget.analyst.busy and listed(analysed)[2][1] == "waiting"
    analysed.children.at_once = True
    analysed.desktop.press("analyzeAllButton")
    analysed.rest()
    assert [row[1] for row in listed(analysed)] == ["ready"] * 3
    assert (first.read_bytes(), first.stat().st_mtime_ns) == before


def test_the_cohorts_of_the_panel_and_of_the_command_are_the_same(analysed, tmp_path):
    from VertebralFractureQuantLib.cohort.runs import Options, list_cohort

    folder = analysed.folder / "scans-cohort"
    listed_there = list_cohort(Options(tmp_path / "scans", folder))
    assert [(case.name, status) for case, status in listed_there] == [("first", "ok"), ("second", "ok")]
    assert listed_there[0][0].folder == folder / "cases" / "first"


def test_the_real_child_of_a_cohort_speaks_and_writes_as_the_panel_expects(tmp_path):
    from VertebralFractureQuantLib.cohort.background import CohortJob, cohort_command

    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "broken.nii.gz").write_bytes(b"no image")
    job = CohortJob(cohort_command(tmp_path / "scans", tmp_path / "out", "cpu", sys.executable))
    while job.update().status == "running":
        time.sleep(0.05)
    assert (job.update().status, job.update().message) == ("done", "") and len(job.results) == 1
    assert job.results[0][0] == "broken" and job.results[0][1] not in ("ok", "internal_error")
    assert "broken" in (tmp_path / "out" / "failures.csv").read_text(encoding="utf-8")


def test_the_gallery_has_the_reviews_and_is_shown_in_the_browser(analysed, monkeypatch):
    seen = []
    monkeypatch.setattr(sys.modules["qt"].QDesktopServices, "openUrl", lambda url: seen.append(url.toLocalFile()))
    analysed.widget.cohort.open(0)
    analysed.wait_for_study()
    analysed.review.act("reject")
    analysed.widget.face.save_now()
    analysed.desktop.press("galleryButton")
    analysed.rest()
    assert seen == [str(analysed.folder / "scans-cohort" / "index.html")]
    with (analysed.folder / "scans-cohort" / "vertebrae.csv").open(encoding="utf-8") as file:
        reviews = [row["review"] for row in csv.DictReader(file) if row["case"] == "first"]
    assert reviews.count("rejected") == 1


def test_while_the_cohort_runs_elsewhere_it_is_said(cohort, tmp_path):
    from VertebralFractureQuantLib.cohort.state import CohortState

    with CohortState(cohort.folder / "scans-cohort"):
        cohort.widget.onListCohort()
        cohort.rest()
    assert "cohort" in cohort.said.lower() and not listed(cohort)


def test_the_next_open_case_is_opened(analysed):
    analysed.widget.cohort.open(0)
    analysed.wait_for_study()
    before = analysed.editor
    analysed.desktop.key("g")
    analysed.wait_for_study(before)
    assert analysed.review.folder.name == "second"
    before = analysed.editor
    analysed.desktop.press("nextOpenButton")
    analysed.wait_for_study(before)
    assert analysed.review.folder.name == "first"


def test_cases_are_opened_from_the_list_and_by_their_keys(analysed):
    cohort = analysed
    cohort.ui.cohortTable.selectRow(0)
    cohort.desktop.press("openCaseButton")
    cohort.wait_for_study()
    assert cohort.review.folder.name == "first" and cohort.ui.vertebraTable.rowCount == 6
    cohort.review.select(cohort.study.order[0])
    cohort.review.act("confirm")
    before = cohort.editor
    cohort.desktop.key("PgDown")
    cohort.wait_for_study(before)
    assert cohort.review.folder.name == "second" and cohort.ui.cohortTable.currentRow() == 1
    assert listed(cohort)[0][1:] == ("in review", "mild", "5 of 6")
    cohort.desktop.key("PgDown")
    assert cohort.said == "There is no further case in this direction. Choose another one in the worklist."
    before = cohort.editor
    cohort.desktop.key("PgUp")
    cohort.wait_for_study(before)
    assert cohort.markups(0).details["review"] == "confirmed"


def test_the_buttons_act_on_the_case_that_was_opened_from_the_list(analysed):
    cohort = analysed
    add_volume(make_ct(), "Loaded before")
    cohort.ui.cohortTable.selectRow(1)
    cohort.desktop.press("openCaseButton")
    cohort.wait_for_study()
    name = cohort.ui.cohortTable.item(1, 0).text()
    assert cohort.ui.inputSelector.currentNode() is cohort.study.nodes["ct"]
    assert cohort.ui.analyzeButton.text == f"Analyse {name}" and f"Shown: {name}," in cohort.ui.caseLabel.text


def test_a_double_click_opens_a_case(analysed):
    cohort = analysed
    table = cohort.ui.cohortTable._real
    table.cellDoubleClicked.emit(1, 3)
    cohort.wait_for_study()
    assert cohort.review.folder.name == "second"


def test_a_folder_is_read_when_its_path_is_finished_and_not_at_each_letter(empty, tmp_path, monkeypatch):
    write_folder = tmp_path / "scans"
    write_folder.mkdir()
    write_ct(make_ct(), write_folder / "scan.nii.gz")
    for field, read in (("scansPathLineEdit", "onListCohort"), ("resultsPathLineEdit", "_onResults")):
        calls = []
        monkeypatch.setattr(empty.widget, read, lambda calls=calls: calls.append(1))
        edit = getattr(empty.ui, field)._real.comboBox().lineEdit()
        section = "cohortCollapsibleButton" if field.startswith("scans") else "inputsCollapsibleButton"
        getattr(empty.ui, section).collapsed = False
        empty.desktop.app.window.activateWindow()
        edit.setFocus()
        empty.desktop.events()
        assert edit.hasFocus()
        edit.clear()
        QtTest.QTest.keyClicks(edit, str(write_folder))
        empty.desktop.events()
        assert not calls and not empty.said, field
        QtTest.QTest.keyClick(edit, QtCore.Qt.Key.Key_Return)
        assert calls == [1], field
        edit.clearFocus()
        empty.desktop.events()
        assert calls == [1], field  # the same path is not read again
        getattr(empty.ui, field).currentPath = str(tmp_path)  # as the file dialog does
        assert calls == [1, 1], field


def test_opening_a_case_without_analysis_says_what_to_do(cohort):
    cohort.ui.cohortTable.selectRow(1)
    cohort.desktop.press("openCaseButton")
    assert "Press Analyse all first" in cohort.said


def test_opening_a_case_whose_analysis_failed_says_why(cohort):
    cohort.children.analysis = lambda ct: SpineAnalysis("x", status="not_ct", message="These are no HU.")
    cohort.desktop.press("analyzeAllButton")
    cohort.rest()
    cohort.review.face.tell("")
    cohort.ui.cohortTable.selectRow(0)
    cohort.desktop.press("openCaseButton")
    cohort.rest()
    assert cohort.said == "first: These are no HU." and cohort.editor is None


def test_a_missing_or_empty_cohort_folder_is_reported(empty, tmp_path):
    empty.ui.scansPathLineEdit.currentPath = str(tmp_path / "nowhere")
    assert "is not a folder" in empty.said and not listed(empty)
    (tmp_path / "scans").mkdir()
    empty.ui.scansPathLineEdit.currentPath = str(tmp_path / "scans")
    empty.rest()
    assert "contains no scan" in empty.said and not empty.ui.analyzeAllButton.enabled


# -- export


def test_the_current_study_is_exported(opened, tmp_path):
    opened.desktop.drag("Straightened", opened.markups(3).node, 1, (0, -10))
    opened.ui.exportPathLineEdit.currentPath = str(tmp_path / "export")
    opened.desktop.press("exportButton")
    opened.rest()
    folder = tmp_path / "export" / "CT"
    assert opened.said == f"The study was exported to {folder}."
    assert tuple(sorted(p.name for p in folder.iterdir())) == FILES
    ratio = opened.study.measurements[opened.markups(3).id].genant_ratio
    assert read_analysis(folder / "analysis.json").vertebrae[3].measurement.genant_ratio == ratio
    with (folder / "measurements.csv").open(encoding="utf-8") as file:
        assert float(list(csv.DictReader(file))[3]["genant_ratio"]) == pytest.approx(ratio, abs=1e-3)
    opened.desktop.press("exportButton")
    opened.rest()
    assert opened.said == f"The study was exported to {folder}-2."
    assert read_analysis(folder / "analysis.json").case == "CT"


def test_the_cases_folder_is_shown(opened, monkeypatch):
    seen = []
    monkeypatch.setattr(sys.modules["qt"].QDesktopServices, "openUrl", lambda url: seen.append(url.toLocalFile()))
    opened.desktop.press("folderButton")
    assert seen == [str(opened.folder / "CT")]


# -- missing packages


@pytest.fixture
def lacking(monkeypatch) -> set[str]:
    """Packages that appear to be missing; a test may change the set."""
    gone = {"openvino", "shapely", "torch", "safetensors", "matplotlib"}
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name in gone:
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setattr(installing, "version", version)
    return gone


def test_missing_packages_are_reported_and_nothing_is_downloaded(lacking, bench):
    assert "openvino (analysis on CPU)" in bench.ui.missingLabel.text and bench.ui.installButton.visible
    bench.desktop.press("analyzeButton")
    assert "openvino" in bench.said and "63 MB" in bench.said and "Install missing packages" in bench.said
    assert not bench.children.started and not bench.desktop.installed and not bench.widget.analyst.busy


def test_the_missing_packages_depend_on_the_device(lacking, bench):
    lacking.difference_update({"openvino", "shapely", "matplotlib"})
    bench.ui.deviceComboBox.currentText = "cpu"
    assert not bench.ui.installButton.visible
    bench.ui.deviceComboBox.currentText = "cuda"
    assert "torch (analysis on GPU)" in bench.ui.missingLabel.text and "3 GB" in bench.ui.missingLabel.text
    assert bench.ui.installButton.visible


def test_a_missing_package_for_pictures_is_offered_and_does_not_block_an_analysis(lacking, bench):
    lacking.difference_update({"openvino", "shapely"})
    bench.ui.deviceComboBox.currentText = "cpu"
    assert "matplotlib (pictures)" in bench.ui.missingLabel.text and bench.ui.installButton.visible
    bench.analyze()
    assert bench.ui.vertebraTable.rowCount == 6


def test_nothing_is_installed_if_the_user_declines(lacking, bench):
    bench.desktop.answers["confirm"] = False
    bench.desktop.press("installButton")
    assert "88 MB" in bench.desktop.messages[0].text and bench.desktop.messages[0].kind == "question"
    assert not bench.desktop.installed and bench.ui.installButton.visible


def test_the_missing_packages_are_installed_if_the_user_agrees(lacking, bench):
    bench.desktop.answers["confirm"] = True
    bench.desktop.answers["pip_ensure"] = lambda requirements: lacking.clear()
    bench.desktop.press("installButton")
    ((how, what),) = bench.desktop.installed
    assert how == "pip_ensure" and [r.split(">")[0] for r in what] == ["openvino", "shapely", "matplotlib"]
    assert not bench.ui.missingLabel.visible and not bench.ui.installButton.visible
    bench.analyze()
    assert bench.ui.vertebraTable.rowCount == 6


def test_an_older_slicer_installs_with_pip_install(lacking, tmp_path):
    with Desktop(MODULE, with_packaging=False) as desktop:
        desktop.answers["confirm"] = True
        desktop.answers["pip_install"] = lambda requirements: lacking.clear()
        desktop.press("installButton")
        ((how, what),) = desktop.installed
        assert how == "pip_install" and [r.split(">")[0] for r in what] == ["openvino", "shapely", "matplotlib"]


def test_an_installation_that_fails_says_what_to_do(lacking, bench):
    bench.desktop.answers["confirm"] = True
    bench.desktop.answers["pip_ensure"] = lambda requirements: (_ for _ in ()).throw(RuntimeError("no route to host"))
    bench.desktop.press("installButton")
    assert "no route to host" in bench.said and "Without internet" in bench.said
    assert bench.ui.installButton.visible


BARE = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("openvino", "torch", "safetensors", "matplotlib", "shapely", "typer", "rich"):
            raise ModuleNotFoundError("No module named " + name, name=name)
sys.meta_path.insert(0, Absent())
import importlib.metadata
real = importlib.metadata.version
def version(name):
    if name in ("openvino", "shapely", "torch", "safetensors", "matplotlib"):
        raise importlib.metadata.PackageNotFoundError(name)
    return real(name)
importlib.metadata.version = version
from pathlib import Path
from desktop_bench import MODULE, Bench, Desktop, make_ct
with Desktop(MODULE) as desktop:
    bench = Bench(desktop, Path(sys.argv[1]))
    bench.add_volume(make_ct())
    desktop.press("analyzeButton")
    print("SAID", bench.said)
    print("GOT", desktop.installed, bench.children.started)
"""


def test_without_the_packages_the_module_opens_and_reports_them(tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(MODULE.parent), str(Path(__file__).parent)])}
    command = [sys.executable, "-c", BARE, str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert run.returncode == 0, run.stderr
    assert re.search("SAID .*openvino.*shapely", run.stdout) and "GOT [] []" in run.stdout


def test_the_modules_file_imports_only_what_slicer_bundles():
    bundled = {*sys.stdlib_module_names, "qt", "slicer", "vtk", "ctk", "numpy"}
    tree = ast.parse(MODULE.read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Import):
            assert {alias.name.split(".")[0] for alias in node.names} <= bundled
        elif isinstance(node, ast.ImportFrom):
            assert node.module.split(".")[0] in bundled and node.level == 0


# -- without a panel


@pytest.fixture
def logic(empty):
    return sys.modules["VertebralFractureQuant"].VertebralFractureQuantLogic()


def test_logic_takes_a_ct_from_a_node_and_shows_and_exports_its_analysis(logic, empty, tmp_path):
    node = empty.add_volume(make_ct())
    ct = logic.ctFromNode(node)
    np.testing.assert_array_equal(ct.voxels, make_ct().voxels)
    analysis = make_analysis(ct)
    study = logic.show(analysis, node)
    assert [study.label(i) for i in study.order] == list(LEVELS) and study.nodes["ct"] is node
    assert study.measurements[study.order[2]].genant_ratio == analysis.vertebrae[2].measurement.genant_ratio
    folder = logic.export(analysis, node, tmp_path)
    assert tuple(sorted(p.name for p in folder.iterdir())) == FILES


def test_logic_falls_back_to_the_cpu_if_the_gpu_is_too_small(logic, empty, monkeypatch):
    from VertebralFractureQuantLib import analysis as room
    from VertebralFractureQuantLib.networks.devices import DeviceMemoryError

    def analyze(ct: CTVolume, models: str) -> SpineAnalysis:
        if models != "cpu":
            raise DeviceMemoryError("The GPU ran out of memory.")
        return make_analysis(ct)

    monkeypatch.setattr(room, "load_models", lambda device: device)
    monkeypatch.setattr(room, "analyze", analyze)
    assert len(logic.analyze(empty.add_volume(make_ct()), "cuda").vertebrae) == 6


def test_logic_says_what_is_wrong_with_a_volume(logic, empty):
    labels = replace(make_ct(), voxels=(make_ct().voxels > 0).astype(np.int16))
    with pytest.raises(VFQError):
        logic.analyze(empty.add_volume(labels))


def test_logic_works_without_a_main_window(tmp_path):
    with Desktop(MODULE, main_window=False, open=False):
        module = sys.modules["VertebralFractureQuant"]
        node = add_volume(make_ct())
        study = module.VertebralFractureQuantLogic().show(make_analysis(make_ct()), node)
        assert len(study.order) == 6


def test_the_modules_own_test_passes(empty):
    slicer.selfTests["VertebralFractureQuant"]()


def test_a_chest_ct_is_offered_as_sample_data(empty):
    (sample,) = empty.desktop.samples
    assert sample["category"] == empty.desktop.module.title == "Vertebral Fracture Quantification"
    assert sample["nodeNames"] == "CTChest" and sample["checksums"].startswith("SHA256:")
    assert Path(sample["thumbnailFileName"]).exists()
