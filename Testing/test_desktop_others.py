"""The panel beside others: changes by other modules, late threads, quick openings, reloads, focus."""

from __future__ import annotations

import json
import logging
import threading
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("slicer", reason="needs slicer-core: pip install '.[review]'")
pytest.importorskip("PySide6", reason="needs Qt: pip install '.[test]'")

import slicer
import vtk
from desktop_bench import library_kept, make_ct
from VertebralFractureQuantLib.cohort.worklist import Case
from VertebralFractureQuantLib.desktop.folder import FOLDER
from VertebralFractureQuantLib.errors import VFQError
from VertebralFractureQuantLib.scene import case_files
from VertebralFractureQuantLib.scene.volumes import WINDOWS, window_of


def levels(record: dict[str, Any]) -> list[str]:
    return [v["level"] for v in record["vertebrae"]]


def test_vertebrae_deleted_together_are_one_action(opened):
    gone = [opened.markups(row).node for row in (1, 3)]
    for node in gone:
        slicer.mrmlScene.RemoveNode(node)
    opened.desktop.wait(lambda: len(opened.study.order) == 4)
    assert levels(opened.saved()) == ["T9", "T11", "L1", "L2"] and "T10, T12" in opened.said
    opened.desktop.key("Ctrl+Z")
    assert levels(opened.saved()) == ["T9", "T10", "T11", "T12", "L1", "L2"]


def test_all_vertebrae_and_the_ct_deleted_together_leave_the_review_as_it_was(opened):
    opened.review.act("confirm")
    folder = opened.review.folder
    for node in [*(opened.markups(row).node for row in range(6)), opened.study.nodes["ct"]]:
        slicer.mrmlScene.RemoveNode(node)
    opened.desktop.wait(lambda: opened.editor is None)
    record = json.loads((folder / "analysis.json").read_text(encoding="utf-8"))
    assert len(record["vertebrae"]) == 6 and record["vertebrae"][0]["review"] == "confirmed"


def test_a_deleted_display_node_is_rebuilt_and_no_action_is_lost(opened):
    slicer.mrmlScene.RemoveNode(opened.markups(2).node.GetDisplayNode())
    opened.review.act("confirm")
    opened.desktop.wait(lambda: opened.study.intact)
    assert opened.saved()["vertebrae"][0]["review"] == "confirmed"


def test_a_transform_hardened_into_a_vertebra_is_reverted(opened):
    markups, before = opened.markups(2), opened.study.state()
    markups.node.HardenTransform()
    opened.desktop.wait(lambda: "own transform" in opened.said)
    assert opened.study.state() == before and opened.markups(2).node.GetTransformNodeID()


def test_a_transform_removed_from_a_vertebra_is_restored(opened):
    before = opened.markups(2).straight()
    opened.markups(2).node.SetAndObserveTransformNodeID(None)
    opened.desktop.wait(lambda: "own transform" in opened.said)
    assert opened.markups(2).straight() == pytest.approx(before, abs=0.01)


@pytest.mark.parametrize("change", ["spacing", "voxels"])
def test_a_ct_changed_in_place_is_reported_while_it_is_open(opened, change):
    ct = opened.study.nodes["ct"]
    if change == "spacing":
        ct.SetSpacing(1.0, 1.0, 1.0)
    else:
        slicer.util.arrayFromVolume(ct)[:] = 0
        slicer.util.arrayFromVolumeModified(ct)
    opened.desktop.key("n")
    assert opened.ui.outdatedLabel.visible


def test_closing_the_study_restores_the_window_of_the_users_volume(bench):
    node = bench.ui.inputSelector.currentNode()
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().SetAutoWindowLevel(False)
    node.GetDisplayNode().SetWindowLevel(123.0, 45.0)
    bench.analyze()
    assert window_of(node)[1:] == WINDOWS["bone"]
    bench.review.settle()
    bench.review.close()
    assert window_of(node) == (False, 123.0, 45.0) and not node.GetAttribute("VertebralFractureQuant.role")


def test_the_straightened_image_cannot_be_analysed(opened):
    opened.widget._parameterNode.inputVolume = opened.study.nodes["straightened"]
    opened.desktop.press("analyzeButton")
    assert "made by this module" in opened.said and not opened.widget.analyst.busy


def test_the_newest_record_stays_if_an_older_write_is_late(opened, monkeypatch):
    write, slow = case_files.write_review, []

    def late(*args: Any) -> None:
        slow.append(1)
        if len(slow) == 1:
            time.sleep(0.3)
        write(*args)

    monkeypatch.setattr(case_files, "write_review", late)
    folder = opened.review.folder
    opened.review.act("confirm")
    opened.widget.face._save()  # writes late, in another thread
    opened.desktop.wait(lambda: slow)
    (late_one,) = [work.thread for work in opened.widget.face._works if work.saves]
    opened.review.act("confirm")
    opened.desktop.close_scene()
    late_one.join()
    assert len(slow) == 2
    reviews = [v["review"] for v in json.loads((folder / "analysis.json").read_text(encoding="utf-8"))["vertebrae"]]
    assert reviews.count("confirmed") == 2


def test_saving_continues_after_an_unexpected_error(opened, monkeypatch):
    def broken(*args: Any) -> None:
        raise RuntimeError("odd")

    with monkeypatch.context() as patch:
        patch.setattr(case_files, "write_review", broken)
        opened.review.act("confirm")
        opened.desktop.wait(lambda: opened.ui.unsavedLabel.visible)
    opened.review.act("confirm")
    assert [v["review"] for v in opened.saved()["vertebrae"]].count("confirmed") == 2
    assert not opened.ui.unsavedLabel.visible


def test_after_a_failed_opening_nothing_of_the_previous_study_is_left(opened, monkeypatch):
    def refused(*args: Any) -> None:
        raise VFQError("study_in_use", "This case is open in another window.")

    opened.add_volume(make_ct(), "other")
    monkeypatch.setattr(case_files, "Journal", refused)
    opened.desktop.press("analyzeButton")
    opened.desktop.wait(lambda: "another window" in opened.said)
    assert opened.editor is None and opened.ui.vertebraTable.rowCount == 0 and not opened.ui.exportButton.enabled


def test_a_study_that_cannot_be_opened_is_named(opened):
    def fail() -> Any:
        raise VFQError("corrupt_file", "The file ends early.")

    opened.widget.analyst.opening("reading", Case("second", Path(), opened.folder / "second"), fail, lambda _: None)
    opened.rest()
    assert opened.said == "second: The file ends early."


def test_what_another_thread_logs_is_shown_by_the_main_thread(opened):
    threads = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            threads.append((record.getMessage(), threading.current_thread() is threading.main_thread()))

    handler = Handler()
    logging.getLogger().addHandler(handler)
    try:
        opened.widget.face.work(
            "logging", lambda: logging.getLogger("some.library").warning("odd slices"), lambda _: None
        )
        opened.rest()
        assert threads == [("odd slices", True)]
        logging.getLogger().warning("here")
        assert threads[1:] == [("here", True)]
    finally:
        logging.getLogger().removeHandler(handler)


def in_folder() -> list[str]:
    """Return the names of the items in the study's folder of the Data module."""
    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    items = vtk.vtkIdList()
    tree.GetItemChildren(tree.GetSceneItemID(), items)
    folders = [items.GetId(i) for i in range(items.GetNumberOfIds()) if tree.HasItemAttribute(items.GetId(i), FOLDER)]
    assert len(folders) <= 1
    if not folders:
        return []
    tree.GetItemChildren(folders[0], items)
    nodes = [tree.GetItemDataNode(items.GetId(i)) for i in range(items.GetNumberOfIds())]
    return [tree.GetItemName(folders[0]), *(node.GetName() for node in nodes if node)]


def test_vertebrae_stand_once_in_the_folder_of_their_case(opened):
    titles = [opened.markups(row).node.GetName() for row in range(6)]
    assert in_folder()[:7] == ["CT", *titles]
    listed = [n for n in slicer.util.getNodesByClass("vtkMRMLMarkupsClosedCurveNode") if not n.GetHideFromEditors()]
    assert sorted(n.GetName() for n in listed) == sorted(titles)
    opened.review.act("delete")
    assert in_folder()[1:6] == titles[1:]
    opened.desktop.press("undoButton")
    assert [in_folder().count(title) for title in titles] == [1] * 6
    before = opened.editor
    opened.desktop.press("analyzeButton")
    opened.wait_for_study(before)
    assert in_folder()[0] == "CT-2" and in_folder().count(titles[3]) == 1
    opened.widget.face.close()
    assert in_folder() == []


def test_of_two_studies_opened_at_once_the_later_is_shown(opened):
    shown: list[str] = []
    analyst = opened.widget.analyst
    case = Case("CT", Path(), opened.folder / "CT")
    analyst.opening("slow", case, lambda: time.sleep(0.1) or "first", shown.append)
    analyst.opening("quick", case, lambda: "second", shown.append)
    opened.rest()
    assert shown == ["second"]


def test_without_a_results_folder_nothing_is_written(bench):
    bench.ui.resultsPathLineEdit.currentPath = ""
    bench.desktop.press("analyzeButton")
    assert bench.said == "No results folder is chosen. Choose one first." and not bench.children.started


def test_the_copy_of_a_cancelled_analysis_is_removed(bench):
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    node = bench.ui.inputSelector.currentNode()
    node.SetAndObserveTransformNodeID(transform.GetID())
    bench.children.at_once = False
    bench.desktop.press("analyzeButton")
    bench.desktop.wait(lambda: bench.children.started)
    bench.desktop.press("cancelButton")
    assert slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") == [node]


def test_keys_work_at_once_after_a_reload(opened):
    with library_kept():
        opened.desktop.reload()
        opened.settle_in()
        opened.wait_for_study()
        before = opened.review.selected
        opened.desktop.key("n")
        assert opened.review.selected != before


def test_a_reload_resumes_in_the_studys_folder_despite_a_new_results_folder(opened, tmp_path):
    opened.review.act("confirm")
    folder = opened.review.folder
    opened.ui.resultsPathLineEdit.currentPath = str(tmp_path / "elsewhere")
    with library_kept():
        opened.desktop.reload()
        opened.settle_in()
        opened.wait_for_study()
        assert opened.review.folder == folder and opened.editor.journal.undoable == "confirmed"


def test_space_presses_the_focused_next_button(opened):
    opened.ui.nextButton.setFocus()
    opened.desktop.key("Space")
    assert {v.details["review"] for v in opened.study.vertebrae.values()} == {"open"}


def test_arrow_keys_belong_to_a_focused_combo_box(opened):
    opened.desktop.app.window.activateWindow()
    opened.ui.levelComboBox.setFocus()
    opened.desktop.events()
    before = opened.review.selected
    opened.desktop.key("Down")
    assert opened.review.selected == before


def test_a_click_in_a_vertebra_selects_it(opened):
    opened.click("Straightened", opened.markups(4).straight().mean((0, 1)))
    assert opened.review.selected == opened.study.order[4]
