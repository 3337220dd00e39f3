"""A study in Slicer's scene: saved, loaded, closed, and kept when the module is reloaded."""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

slicer = pytest.importorskip("slicer", reason="needs slicer-core: pip install '.[review]'")
pytest.importorskip("PySide6", reason="needs Qt: pip install '.[test]'")

from desktop_bench import MODULE, NO_NETWORKS, Bench, Desktop, library_kept, make_ct  # noqa: E402
from VertebralFractureQuantLib.scene.journal import Journal  # noqa: E402


def lowered(bench: Bench, row: int = 3) -> float:
    """Drag the upper middle point of a row down, and return its G."""
    bench.desktop.drag("Straightened", bench.markups(row).node, 1, (0, -8))
    return bench.shown_ratios()[row]


def load(bench: Bench, path: Path) -> None:
    """Close the scene, open a file and wait for its study."""
    bench.desktop.close_scene()
    slicer.util.loadScene(str(path))
    bench.wait_for_study()


# -- saved and loaded


def test_a_saved_scene_is_resumed_where_it_was(opened):
    opened.ui.deviceComboBox.currentText = "cpu"
    lowered(opened)
    opened.review.act("confirm")
    ratios, acts = opened.shown_ratios(), len(opened.editor.journal.trail())
    opened.desktop.press("saveSceneButton")
    path = opened.folder / "CT" / "review.mrb"
    assert str(path) in opened.said and path.stat().st_size > 10000
    load(opened, path)
    assert opened.shown_ratios() == pytest.approx(ratios, abs=1e-9)
    assert opened.ui.inputSelector.currentNode().GetName() == "CT" and opened.ui.deviceComboBox.currentText == "cpu"
    assert opened.study.nodes["ct"] is opened.ui.inputSelector.currentNode()
    assert "1 of 6 reviewed" in opened.ui.summaryLabel.text and opened.review.folder == opened.folder / "CT"
    assert len(opened.editor.journal.trail()) == acts  # rounding in the file is not an action
    background = slicer.app.layoutManager().sliceWidget("Straightened").mrmlSliceCompositeNode()
    assert background.GetBackgroundVolumeID() == opened.study.nodes["straightened"].GetID()
    for _ in range(2):
        opened.desktop.press("undoButton")
    assert not opened.ui.undoButton.enabled and "0 of 6 reviewed" in opened.ui.summaryLabel.text
    opened.desktop.drag("Straightened", opened.markups(0).node, 1, (0, -8))
    assert opened.ui.undoButton.toolTip == "Undo: move"


def test_a_scene_newer_than_the_journal_wins_and_can_be_undone(opened, tmp_path):
    before = opened.shown_ratios()[3]
    ratio = lowered(opened)
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    opened.desktop.press("undoButton")
    load(opened, tmp_path / "scene.mrb")
    assert opened.shown_ratios()[3] == pytest.approx(ratio, abs=1e-9)
    assert opened.ui.undoButton.toolTip == "Undo: load"
    opened.desktop.press("undoButton")
    assert opened.shown_ratios()[3] == pytest.approx(before, abs=1e-9)


def test_a_scene_from_another_computer_gets_a_new_folder(opened, tmp_path):
    ratio = lowered(opened)
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    opened.desktop.close_scene()
    opened.ui.resultsPathLineEdit.currentPath = str(tmp_path / "here")
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    opened.wait_for_study()
    assert opened.review.folder == tmp_path / "here" / "CT" and opened.shown_ratios()[3] == pytest.approx(
        ratio, abs=1e-9
    )
    opened.review.select(opened.study.order[0])
    opened.review.act("confirm")
    assert opened.saved()["vertebrae"][0]["review"] == "confirmed"


def test_a_scene_whose_case_is_open_elsewhere_is_shown_but_cannot_be_edited(opened, tmp_path):
    lowered(opened)
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    opened.desktop.close_scene()
    other = Journal(opened.folder / "CT" / "review.sqlite", {}, {})
    try:
        slicer.util.loadScene(str(tmp_path / "scene.mrb"))
        opened.rest()
        assert "open in another window" in opened.said and opened.editor is None
        assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLMarkupsClosedCurveNode") == 12
        assert not opened.ui.confirmButton.enabled and not opened.study.vertebrae
    finally:
        other.close()


def test_a_scene_without_a_study_opens_none(bench, tmp_path):
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    bench.desktop.close_scene()
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    bench.rest()
    assert bench.editor is None and not bench.said
    assert bench.ui.inputSelector.currentNode().GetName() == "CT" and bench.ui.analyzeButton.enabled


def test_an_added_scene_replaces_the_open_study_which_is_saved(opened, tmp_path):
    ratio = lowered(opened)
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    opened.desktop.close_scene()
    opened.add_volume(make_ct(), "Other")
    opened.analyze()
    opened.review.select(opened.study.order[0])
    opened.review.act("confirm")
    before = opened.editor
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    opened.wait_for_study(before)
    assert opened.review.folder.name == "CT" and opened.shown_ratios()[3] == pytest.approx(ratio, abs=1e-9)
    assert opened.ui.vertebraTable.rowCount == 6
    saved = json.loads((opened.folder / "Other" / "analysis.json").read_text(encoding="utf-8"))
    assert saved["vertebrae"][0]["review"] == "confirmed"


# -- closed


def test_closing_the_scene_saves_everything_first_and_leaves_a_usable_panel(opened):
    ratio = lowered(opened)
    opened.desktop.key("a")  # a click mode is active
    opened.desktop.close_scene()
    saved = json.loads((opened.folder / "CT" / "analysis.json").read_text(encoding="utf-8"))
    assert saved["vertebrae"][3]["genant_ratio"] == pytest.approx(ratio, abs=1e-9)
    assert opened.editor is None and opened.ui.vertebraTable.rowCount == 0
    assert opened.ui.summaryLabel.text == "No vertebrae yet." and not opened.ui.hintLabel.visible
    for name in ("confirmButton", "undoButton", "exportButton", "saveSceneButton", "openButton"):
        assert not getattr(opened.ui, name).enabled, name
    opened.add_volume(make_ct())
    opened.desktop.press("openButton")
    opened.wait_for_study()
    assert opened.shown_ratios()[3] == pytest.approx(ratio, abs=1e-9)


def test_closing_the_scene_during_a_drag_keeps_the_moved_point(opened):
    before = opened.shown_ratios()[3]
    opened.desktop.drag("Straightened", opened.markups(3).node, 1, (0, -8), release=False)
    opened.desktop.close_scene()
    saved = json.loads((opened.folder / "CT" / "analysis.json").read_text(encoding="utf-8"))
    assert saved["vertebrae"][3]["genant_ratio"] < before - 0.05


def test_an_analysis_continues_when_the_scene_is_closed_and_reports_its_folder(bench):
    bench.children.at_once = False
    bench.desktop.press("analyzeButton")
    child = bench.desktop.wait(lambda: bench.children.started)[0]
    bench.desktop.close_scene()
    child.done()
    bench.rest()
    assert "no longer in the scene" in bench.said and str(bench.folder / "CT") in bench.said
    assert (bench.folder / "CT" / "analysis.json").exists() and bench.editor is None
    bench.add_volume(make_ct())
    bench.desktop.press("openButton")
    bench.wait_for_study()
    assert bench.ui.vertebraTable.rowCount == 6


@pytest.fixture
def gate(bench) -> threading.Event:
    """An event: no study finishes loading before it is set."""
    gate = threading.Event()
    bench.widget.analyst.models = lambda: gate.wait(120) and NO_NETWORKS
    return gate


def test_a_study_does_not_appear_if_the_scene_is_closed_while_it_opens(bench, gate):
    bench.desktop.press("analyzeButton")
    bench.desktop.wait(lambda: bench.children.started and not bench.widget.analyst.busy)
    bench.desktop.close_scene()
    gate.set()
    bench.rest()
    assert bench.editor is None and not bench.study.nodes
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLMarkupsClosedCurveNode") == 0


def test_a_loaded_study_does_not_appear_if_its_scene_is_closed_at_once(bench, gate, tmp_path):
    gate.set()
    bench.analyze()
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    bench.desktop.close_scene()
    gate.clear()
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    bench.desktop.close_scene()
    gate.set()
    bench.rest()
    assert bench.editor is None and not bench.study.nodes and not bench.said


# -- the module is reloaded or left


@pytest.fixture
def reloaded(opened) -> Iterator[tuple[Bench, float]]:
    """The module reloaded after one drag, and the G of the dragged vertebra."""
    with library_kept():
        ratio = lowered(opened)
        opened.desktop.reload()
        opened.settle_in()
        opened.wait_for_study()
        yield opened, ratio


def test_a_reloaded_module_keeps_the_study_and_its_undo_history(reloaded):
    bench, ratio = reloaded
    assert bench.shown_ratios()[3] == pytest.approx(ratio, abs=1e-12) and bench.cell(3, 0) == "T12"
    assert bench.ui.inputSelector.currentNode() is bench.study.nodes["ct"]
    bench.desktop.press("undoButton")
    assert bench.shown_ratios()[3] > ratio + 0.05 and not bench.ui.undoButton.enabled
    bench.desktop.key("c")
    assert [act.kind for act in bench.editor.journal.trail()] == ["move", "undo", "confirmed"]


def test_a_reloaded_module_moves_each_point_once(reloaded):
    bench, _ = reloaded
    lowered(bench, 1)
    assert [act.kind for act in bench.editor.journal.trail()] == ["move", "move"]


def test_a_reload_leaves_nothing_of_the_old_module_behind(opened):
    scene, old = slicer.mrmlScene, opened.widget
    study_nodes = [*opened.study.nodes.values(), opened.markups(0).node, opened.markups(0).mirror]
    left = [getattr(each, "__name__", each) for each in opened.desktop.left_connections()]
    with library_kept():
        opened.desktop.reload()
        opened.settle_in()
        opened.wait_for_study()
        assert [getattr(each, "__name__", each) for each in opened.desktop.left_connections()] == left
        assert not old.keyboard._shortcuts and not old.Observations
        assert not old.face.review.study._observer._observations and not old.face.review._guard._observations
        assert all(node.GetScene() is scene for node in study_nodes)
        heard: list[Any] = []
        old.face.views._pressed = old.face.views._scrolled = lambda *what: heard.append(what)
        opened.click("Straightened", opened.markups(4).straight().mean((0, 1)))
        opened.desktop.key("Right")
        assert not heard and opened.review.selected == opened.study.order[4]
        opened.desktop.key("c")
        assert [act.kind for act in opened.editor.journal.trail()] == ["confirmed"]


def test_leaving_the_module_keeps_the_study_and_drags_still_work(opened):
    opened.desktop.select("Data")
    ratio = lowered(opened)
    opened.desktop.select()
    assert opened.cell(3, 4).lstrip("~").startswith(f"{ratio:.2f}")
    assert opened.ui.inputSelector.currentNode() is opened.study.nodes["ct"] and opened.ui.undoButton.enabled


def test_when_slicer_ends_everything_is_saved_and_the_case_is_released(tmp_path):
    with Desktop(MODULE) as desktop:
        bench = Bench(desktop, tmp_path)
        bench.add_volume(make_ct())
        bench.analyze()
        ratio = lowered(bench)
        original = bench.study.state()
    saved = json.loads((tmp_path / "CT" / "analysis.json").read_text(encoding="utf-8"))
    assert saved["vertebrae"][3]["genant_ratio"] == pytest.approx(ratio, abs=1e-9)
    journal = Journal(tmp_path / "CT" / "review.sqlite", {}, {})
    assert journal.state == original
    journal.close()


@pytest.fixture
def full_disk(opened, tmp_path, monkeypatch) -> Bench:
    """A study with one action that cannot be saved: T9 is confirmed."""
    opened.widget.face.save_now()

    def refused(journal: Journal) -> None:
        if journal._pending:
            journal.problem = f"Acts that cannot be written: {len(journal._pending)} (database or disk is full)."

    monkeypatch.setenv("HOME", str(tmp_path / "nowhere"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(Journal, "flush", refused)
    opened.review.act("confirm")
    return opened


def left_acts(folder: Path) -> tuple[str, list[str]]:
    (left,) = folder.glob("vfq-unsaved-*.json")
    return left.name, [act["kind"] for act in json.loads(left.read_text(encoding="utf-8"))]


def test_actions_that_cannot_be_saved_when_the_scene_is_closed_are_saved_elsewhere_with_a_message(full_disk, tmp_path):
    full_disk.desktop.close_scene()
    name, acts = left_acts(tmp_path)
    assert acts == ["confirmed"] and name in full_disk.said and full_disk.editor is None


def test_actions_that_cannot_be_saved_when_slicer_ends_are_saved_elsewhere_with_a_dialog(full_disk, tmp_path):
    full_disk.desktop.app.manager.moduleAboutToBeUnloaded.emit(full_disk.desktop.name)
    name, acts = left_acts(tmp_path)
    assert acts == ["confirmed"] and name in full_disk.desktop.messages[-1].text
