"""Errors around the module: volumes that are no CT, nodes changed by other modules, failing disks."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import vtk

slicer = pytest.importorskip("slicer", reason="needs slicer-core: pip install '.[review]'")
pytest.importorskip("PySide6", reason="needs Qt: pip install '.[test]'")

from desktop_bench import Bench, make_ct  # noqa: E402
from VertebralFractureQuantLib.scene.journal import Journal  # noqa: E402
from VertebralFractureQuantLib.scene.nodes import ROLES  # noqa: E402
from VertebralFractureQuantLib.scene.straight import straightening_transform  # noqa: E402
from VertebralFractureQuantLib.spine.curve import fit_curve  # noqa: E402
from VertebralFractureQuantLib.spine.genant import measure_column  # noqa: E402
from VertebralFractureQuantLib.spine.straightening import Straightening  # noqa: E402


def refused(bench: Bench) -> str:
    """Press Analyse on a volume that cannot be analysed, and return the message. The panel stays usable."""
    bench.desktop.press("analyzeButton")
    bench.rest()
    assert not bench.children.started and not list(bench.folder.glob("*"))
    assert bench.editor is None and bench.ui.analyzeButton.enabled and not bench.ui.cancelButton.enabled
    assert not bench.ui.progressBar.visible
    return bench.said


# -- volumes that are no CT


def test_without_a_volume_the_message_says_what_to_do(empty):
    assert "Load a CT and choose it" in refused(empty)


def test_an_empty_volume_is_refused(empty):
    empty.ui.inputSelector.setCurrentNode(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Empty"))
    assert "it is empty" in refused(empty)


def test_a_label_map_cannot_be_chosen_and_is_refused(empty):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "Labels")
    slicer.util.updateVolumeFromArray(node, np.zeros((40, 40, 40), np.int16))
    empty.ui.inputSelector.setCurrentNode(node)
    assert empty.ui.inputSelector.currentNode() is None
    empty.widget._parameterNode.inputVolume = node
    assert "is a label map" in refused(empty)


def test_labels_in_an_ordinary_volume_are_refused(empty):
    empty.add_volume(replace(make_ct(), voxels=(make_ct().voxels > 0).astype(np.int16)))
    assert refused(empty)


def test_an_mr_volume_is_refused(empty):
    empty.add_volume(replace(make_ct(), voxels=np.abs(make_ct().voxels) + 100))
    assert "HU" in refused(empty)


def test_a_volume_of_colours_is_refused(empty):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "Colours")
    slicer.util.updateVolumeFromArray(node, np.zeros((40, 40, 40, 3), np.uint8))
    empty.widget._parameterNode.inputVolume = node
    assert "several values per voxel" in refused(empty)


def test_a_volume_that_is_too_small_is_refused(empty):
    empty.add_volume(replace(make_ct(), voxels=make_ct().voxels[:1]))
    assert refused(empty)


def test_a_ct_is_analysed_after_a_refused_volume(empty):
    empty.add_volume(replace(make_ct(), voxels=np.abs(make_ct().voxels) + 100), "MR")
    refused(empty)
    empty.add_volume(make_ct())
    empty.analyze()
    assert empty.ui.vertebraTable.rowCount == 6


# -- volumes that move


def linear(node: Any) -> Any:
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = vtk.vtkMatrix4x4()
    matrix.SetElement(0, 3, 50.0)
    transform.SetMatrixTransformToParent(matrix)
    node.SetAndObserveTransformNodeID(transform.GetID())
    return transform


def bent(node: Any) -> Any:
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLGridTransformNode")
    s = np.linspace(0, -200, 40)
    curve = fit_curve(np.stack([5 * np.sin(s / 40), 0 * s, s], 1))
    transform.SetAndObserveTransformFromParent(straightening_transform(Straightening(curve)))
    node.SetAndObserveTransformNodeID(transform.GetID())
    return transform


@pytest.mark.parametrize("move", [linear, bent])
def test_a_volume_under_a_transform_is_hardened_in_a_copy_with_a_message(bench, move):
    node = bench.ui.inputSelector.currentNode()
    voxels = slicer.util.arrayFromVolume(node).copy()
    transform = move(node)
    bench.children.at_once = False
    bench.desktop.press("analyzeButton")
    assert "'CT' is under a transform: a copy was hardened and is used." in bench.said
    bench.desktop.wait(lambda: bench.children.started)[0].done()
    bench.wait_for_study()
    copy = bench.study.nodes["ct"]
    assert copy is not node and copy.GetParentTransformNode() is None and "hardened" in copy.GetName()
    assert node.GetParentTransformNode() is transform
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(node), voxels)
    at, moved = np.array([5.0, 10.0, -100.0]), np.zeros(3)
    to_world = vtk.vtkGeneralTransform()
    transform.GetTransformToWorld(to_world)
    to_world.TransformPoint(at, moved)
    assert bench.editor.machine.ct.sample(moved) == pytest.approx(make_ct().sample(at), abs=1.5)


def test_the_message_about_a_copy_stays_when_the_study_is_open(bench):
    linear(bench.ui.inputSelector.currentNode())
    bench.analyze()
    assert "a copy was hardened" in bench.said


def test_points_on_a_moved_volume_are_in_its_moved_position(bench):
    linear(bench.ui.inputSelector.currentNode())
    bench.analyze()
    matrix = vtk.vtkMatrix4x4()
    bench.study.nodes["ct"].GetIJKToRASMatrix(matrix)
    moved = slicer.util.arrayFromVTKMatrix(matrix)
    np.testing.assert_allclose(moved[:3, 3], make_ct().ijk_to_ras[:3, 3] + [50, 0, 0], atol=1e-6)
    np.testing.assert_allclose(bench.editor.machine.ct.ijk_to_ras, moved, atol=1e-6)


def test_an_earlier_review_of_a_moved_volume_is_found(bench):
    linear(bench.ui.inputSelector.currentNode())
    bench.analyze()
    bench.review.select(bench.study.order[0])
    bench.review.act("confirm")
    bench.desktop.close_scene()
    node = bench.add_volume(make_ct())
    linear(node)
    bench.desktop.select("Data")
    bench.desktop.select()
    bench.desktop.press("openButton")
    bench.wait_for_study()
    assert bench.markups(0).details["review"] == "confirmed"


def test_the_shown_frame_of_a_sequence_is_copied(bench):
    node = bench.ui.inputSelector.currentNode()
    slicer.mrmlScene.RegisterNodeClass(slicer.vtkMRMLSequenceBrowserNode())
    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode")
    browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode")
    sequence.SetDataNodeAtValue(node, "0")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    browser.AddProxyNode(node, sequence, False)
    bench.children.at_once = False
    bench.desktop.press("analyzeButton")
    assert "a copy of the frame" in bench.said
    bench.desktop.wait(lambda: bench.children.started)[0].done()
    bench.wait_for_study()
    assert bench.study.nodes["ct"] is not node
    assert slicer.util.arrayFromVolume(bench.study.nodes["ct"]).tolist() == slicer.util.arrayFromVolume(node).tolist()


# -- nodes that other modules delete or change


def test_deleting_a_vertebras_node_is_an_action_that_undo_reverts(opened):
    for gone in ("node", "mirror"):
        before = opened.study.state()
        slicer.mrmlScene.RemoveNode(getattr(opened.markups(2), gone))
        opened.rest()
        opened.desktop.events()
        assert "T11" in opened.said and "eleted in another module" in opened.said
        assert opened.ui.vertebraTable.rowCount == 5
        assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLMarkupsClosedCurveNode") == 10
        opened.desktop.press("undoButton")
        assert opened.study.state() == before and opened.cell(2, 0) == "T11"
        opened.desktop.drag("Straightened", opened.markups(2).node, 0, (0, 4))
        opened.desktop.press("undoButton")


def test_deleting_the_ct_saves_and_closes_its_review(opened):
    opened.review.act("confirm")
    slicer.mrmlScene.RemoveNode(opened.study.nodes["ct"])
    opened.desktop.wait(lambda: opened.editor is None)
    assert "The CT was removed" in opened.said and opened.ui.vertebraTable.rowCount == 0
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLMarkupsClosedCurveNode") == 0
    opened.add_volume(make_ct())
    opened.desktop.press("openButton")
    opened.wait_for_study()
    assert opened.markups(0).details["review"] == "confirmed"


def test_another_deleted_node_of_the_study_is_rebuilt(opened):
    opened.desktop.drag("Straightened", opened.markups(3).node, 1, (0, -8))
    before, ratios = opened.study.state(), opened.shown_ratios()
    for role in [role for role in ROLES if role != "ct"]:
        opened.review.face.tell("")
        slicer.mrmlScene.RemoveNode(opened.study.nodes[role])
        opened.desktop.wait(lambda: opened.study.intact)
        assert "have been rebuilt" in opened.said, role
        assert opened.study.state() == before and opened.shown_ratios() == pytest.approx(ratios, abs=1e-12), role
        shown = slicer.app.layoutManager().sliceWidget("Straightened").mrmlSliceCompositeNode().GetBackgroundVolumeID()
        assert shown == opened.study.nodes["straightened"].GetID(), role
        opened.desktop.drag("Straightened", opened.markups(1).node, 1, (0, -8))
        assert opened.study.state() != before, role
        opened.desktop.press("undoButton")
        assert opened.study.state() == before, role


def test_many_nodes_deleted_at_once_are_rebuilt(opened):
    before = opened.study.state()
    for role in ("straightened", "straightening", "measurements"):
        slicer.mrmlScene.RemoveNode(opened.study.nodes[role])
    opened.desktop.wait(lambda: opened.study.intact)
    assert opened.study.state() == before and opened.ui.vertebraTable.rowCount == 6


def test_a_point_unset_in_the_markups_module_is_restored(opened):
    before = opened.study.state()
    opened.markups(1).node.UnsetNthControlPointPosition(2)
    opened.desktop.events()
    assert "A key point was unset" in opened.said and opened.study.state() == before
    status = [opened.markups(1).node.GetNthControlPointPositionStatus(i) for i in range(6)]
    assert status == [slicer.vtkMRMLMarkupsNode.PositionDefined] * 6
    agree_with_library(opened)


def test_a_vertebra_renamed_in_another_module_gets_its_name_back(opened):
    title = opened.markups(1).node.GetName()
    opened.markups(1).node.SetName("my favourite")
    opened.desktop.events()
    assert "named by their level" in opened.said and opened.markups(1).node.GetName() == title
    assert opened.cell(1, 0) == "T10"


def test_points_moved_by_a_program_are_an_action(opened):
    node = opened.markups(1).node
    slicer.util.updateMarkupsControlPointsFromArray(node, slicer.util.arrayFromMarkupsControlPoints(node) + [0, 0, 2.0])
    opened.desktop.events()
    assert opened.editor.journal.trail()
    agree_with_library(opened)


def agree_with_library(bench: Bench) -> None:
    keypoints = np.stack([bench.study.vertebrae[i].keypoints() for i in bench.study.order])
    expected = [m.genant_ratio for m in measure_column(keypoints, [None] * len(keypoints))]
    assert bench.shown_ratios() == pytest.approx(expected, abs=1e-9)


def test_a_ct_replaced_after_its_analysis_is_reported(opened):
    slicer.util.updateVolumeFromArray(opened.study.nodes["ct"], make_ct().voxels[::-1].copy())
    opened.desktop.events()
    assert "was changed after it was analysed" in opened.said and opened.review.outdated


def test_a_ct_moved_after_its_analysis_is_reported(opened):
    linear(opened.study.nodes["ct"])
    opened.desktop.events()
    assert "was changed after it was analysed" in opened.said


def test_a_new_window_of_the_ct_is_no_change_of_the_ct(opened):
    opened.study.nodes["ct"].GetDisplayNode().SetWindowLevel(123, 45)
    opened.desktop.events()
    assert not opened.said and not opened.review.outdated


def test_another_volume_of_the_same_name_gets_a_separate_case(opened):
    opened.review.act("confirm")
    opened.desktop.close_scene()
    opened.add_volume(replace(make_ct(), ijk_to_ras=make_ct().ijk_to_ras @ np.diag([1.1, 1, 1, 1])))
    assert not opened.ui.openButton.enabled
    opened.analyze()
    assert opened.review.folder.name == "CT-2"


# -- folders that cannot be written, full disks


@pytest.mark.parametrize("button", ["analyzeButton", "beginButton"])
def test_a_results_folder_that_cannot_be_written_is_reported_before_the_analysis(bench, tmp_path, button):
    (tmp_path / "file").write_text("in the way")
    bench.ui.resultsPathLineEdit.currentPath = str(tmp_path / "file" / "results")
    bench.desktop.press(button)
    bench.rest()
    assert "cannot be written" in bench.said and not bench.children.started
    assert bench.ui.analyzeButton.enabled and bench.editor is None
    bench.ui.resultsPathLineEdit.currentPath = str(bench.folder)
    bench.analyze()


def test_an_export_folder_that_cannot_be_written_is_reported(opened, tmp_path):
    (tmp_path / "file").write_text("in the way")
    opened.ui.exportPathLineEdit.currentPath = str(tmp_path / "file")
    opened.desktop.press("exportButton")
    opened.rest()
    assert "cannot be written" in opened.said and opened.editor


def test_a_case_that_is_open_in_another_process_is_not_opened(opened):
    opened.review.act("confirm")
    opened.desktop.close_scene()
    opened.add_volume(make_ct())
    other = Journal(opened.folder / "CT" / "review.sqlite", {}, {})
    try:
        opened.desktop.press("openButton")
        opened.rest()
        assert "open in another window" in opened.said and opened.editor is None
        assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLMarkupsClosedCurveNode") == 0
    finally:
        other.close()
    opened.desktop.press("openButton")
    opened.wait_for_study()
    assert opened.markups(0).details["review"] == "confirmed"


def test_a_damaged_analysis_is_not_offered_as_an_earlier_review(opened):
    opened.desktop.close_scene()
    (opened.folder / "CT" / "analysis.json").write_text("{")
    opened.add_volume(make_ct())
    assert not opened.ui.openButton.enabled


class FullDisk:
    """The database connection of a journal on a full disk."""

    def __init__(self, connection: Any):
        self._connection = connection

    def __enter__(self) -> Any:
        raise sqlite3.OperationalError("database or disk is full")

    def __exit__(self, *_: Any) -> None:
        """Never called, because `__enter__` raises."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


def test_actions_that_cannot_be_saved_are_kept_and_reported_until_they_can(opened):
    journal = opened.editor.journal
    real, journal._file = journal._file, FullDisk(journal._file)
    opened.desktop.drag("Straightened", opened.markups(3).node, 1, (0, -8))
    opened.widget.face.save_now()
    assert opened.ui.unsavedLabel.visible and "disk is full" in opened.ui.unsavedLabel.text
    assert "Not saved yet" in opened.ui.unsavedLabel.text and journal.unsaved == 1
    opened.desktop.key("c")
    opened.desktop.press("undoButton")
    assert opened.editor is not None and journal.unsaved == 3
    opened.desktop.press("analyzeButton")
    opened.rest()
    assert "stays open" in opened.said and opened.editor.journal is journal
    journal._file = real
    opened.widget.face.save_now()
    assert not opened.ui.unsavedLabel.visible and journal.unsaved == 0
    assert [act.kind for act in journal.trail()] == ["move", "confirmed", "undo"]
