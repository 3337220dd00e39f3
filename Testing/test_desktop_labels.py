"""The module's section Label set: worklists, blinded and assisted readings, drafts after each act, and refusals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="needs slicer-core: pip install '.[review]'")
pytest.importorskip("PySide6", reason="needs Qt: pip install '.[test]'")

from desktop_bench import LEVELS, NO_NETWORKS, Bench, box, library_kept, make_analysis, make_ct, pixel  # noqa: E402
from harness.drag import move  # noqa: E402
from PySide6 import QtTest  # noqa: E402
from VertebralFractureQuantLib.imaging.files import write_ct  # noqa: E402
from VertebralFractureQuantLib.labels.adding import add_cases  # noqa: E402
from VertebralFractureQuantLib.labels.assigning import assign  # noqa: E402
from VertebralFractureQuantLib.labels.dataset import changing, create, load, with_readers  # noqa: E402
from VertebralFractureQuantLib.labels.reading import LabelReading  # noqa: E402
from VertebralFractureQuantLib.labels.store import history, newest, save, work_folder  # noqa: E402
from VertebralFractureQuantLib.scene.annotation_actions import AnnotationActions  # noqa: E402
from VertebralFractureQuantLib.scene.annotation_keys import ANNOTATION_KEYS  # noqa: E402
from VertebralFractureQuantLib.scene.annotation_start import keep_record  # noqa: E402
from VertebralFractureQuantLib.spine.keypoints import outline  # noqa: E402
from vtk.util.numpy_support import vtk_to_numpy  # noqa: E402

READER = "Anna"
S = -40.0  # of the first body that is placed, straight mm


class Labels:
    """A label set with two cases of Anna, and the section of the panel."""

    def __init__(self, bench: Bench, folder: Path, mode: str = "blinded", **protocol: Any):
        self.bench, self.ui, self.folder = bench, bench.ui, folder / "set"
        for name in ("a", "b"):
            write_ct(replace(make_ct(), name=name), folder / f"{name}.nii.gz")
        create(self.folder, "set", {"mode": mode, "text": "Mark the outer edges.", **protocol})
        add_cases(self.folder, sorted(folder.glob("*.nii.gz")))
        with changing(self.folder) as held:
            held[0] = assign(with_readers(held[0], [READER, "Bob"]), [READER])
        self.cases = [a.case for a in self.dataset.assignments[READER]]
        for case in self.cases:  # the curve, and automatic vertebrae, as the networks would find them
            record = make_analysis(make_ct(), case)
            found = record if mode == "assisted" else replace(record, vertebrae=())
            keep_record(work_folder(self.dataset, (READER, case, 1)), found)
        bench.widget.labels._models = lambda: NO_NETWORKS

    dataset = property(lambda self: load(self.folder))
    face = property(lambda self: self.panel.face)
    review = property(lambda self: self.face.review)
    panel = property(lambda self: self.bench.widget.labels)

    def choose(self) -> None:
        """Choose the label set and its reader."""
        self.ui.labelSetPathLineEdit.currentPath = str(self.folder)
        self.bench.desktop.events()
        box = self.ui.labelReaderComboBox
        box.currentText = READER
        box._real.textActivated.emit(READER)
        self.bench.desktop.events()

    def open(self, row: int = 0) -> None:
        """Open a case of the list."""
        self.ui.labelCaseTable.selectRow(row)
        self.bench.desktop.press("labelOpenButton")
        self.opened(row)

    def opened(self, row: int) -> None:
        """Wait until the case of this row is open."""
        case = self.cases[row]
        self.bench.desktop.wait(lambda: self.review.annotation and self.review.annotation.reading.case == case)
        self.bench.desktop.events()

    def place(self, s: float = S, by: str = "labelPlaceButton") -> np.ndarray:
        """Place a body with its middle at S = s; return the clicks `(6, 3)` straight mm."""
        self.bench.desktop.press(by)
        return self.click(s)

    def click(self, s: float) -> np.ndarray:
        """Click the six points of a body in the plane that is shown, in the order A+ M+ P+ P- M- A-."""
        clicks = outline(box(s))
        clicks[:, 0] = self.review.lateral
        for click in clicks:
            self.bench.click("Straightened", click)
        return clicks

    def saved(self, condition: Any, row: int = 0) -> LabelReading:
        """Wait until the reading on disk fulfils a condition, and return it."""

        def found() -> bool:
            reading = self.reading(row)
            return reading is not None and condition(reading)

        self.bench.desktop.wait(found)
        return self.reading(row)

    def reading(self, row: int = 0) -> LabelReading | None:
        return newest(self.dataset, (READER, self.cases[row], 1))

    def listed(self) -> list[tuple[str, str]]:
        table = self.ui.labelTable
        return [(table.item(row, 0).text(), table.item(row, 1).text()) for row in range(table.rowCount)]

    def states(self) -> list[str]:
        table = self.ui.labelCaseTable
        return [table.item(row, 1).text() for row in range(table.rowCount)]


@pytest.fixture
def labels(empty, tmp_path):
    """Return a function that makes a label set and chooses it in the panel."""

    def make(**protocol: Any) -> Labels:
        made = Labels(empty, tmp_path, **protocol)
        made.choose()
        return made

    return make


def test_a_blinded_case_is_labelled_point_by_point_and_saved_after_each_act(labels):
    found = labels()
    ui, desktop = found.ui, found.bench.desktop
    assert found.states() == ["", ""] and "Blinded reading. Mark the outer edges." in ui.labelProtocolLabel.text
    found.open()
    assert found.listed() == [] and not ui.labelProposeButton.visible and not ui.labelAcceptButton.visible
    desktop.key("a")
    assert "blinded" in found.bench.said and found.review.mode is None

    ui.labelLevelComboBox._real.textActivated.emit("T9")  # one act chooses the level, and begins its points
    desktop.events()
    wanted = outline(box(S))
    for name, click in zip(("A+", "M+", "P+", "P-", "M-", "A-"), wanted, strict=True):
        assert ui.labelHintLabel.text.startswith(f"Next: {name} ") and ui.labelHintLabel.text.endswith(" of T9")
        found.bench.click("Straightened", (found.review.lateral, *click[1:]))
    first = found.saved(lambda r: len(r.labels) == 1 and r.labels[0].level == "T9")
    assert (first.state, first.mode, first.version) == ("draft", "blinded", 1)
    straight = outline(found.review.study.straightening.to_straight(first.labels[0].keypoints))
    assert np.abs(straight - wanted)[:, 1:].max() < 0.6  # a pixel is half a millimetre
    assert first.labels[0].source == "reader" and first.labels[0].machine_points_shown is False

    desktop.key("b")
    found.click(S - 32)
    second = found.saved(lambda r: len(r.labels) == 2)
    assert [v.level for v in second.labels] == ["T9", "T10"]  # it follows from its neighbour
    assert found.listed() == [("T9", "reader"), ("T10", "reader")]

    before = second.labels[1].keypoints
    desktop.key("Up")
    desktop.key("Up")
    moved = found.saved(lambda r: np.abs(r.labels[1].keypoints - before).max() > 0.15)
    shift = found.review.study.straightening.to_straight(moved.labels[1].keypoints)
    shift = outline(shift - found.review.study.straightening.to_straight(before))
    assert shift[5] == pytest.approx((0, 0, 0.2), abs=0.01) and np.abs(shift[:5]).max() < 0.01
    assert ui.labelHintLabel.text == "Arrow keys move A- by 0.1 mm."
    desktop.key("Ctrl+z")
    desktop.key("Ctrl+z")
    found.saved(lambda r: np.abs(r.labels[1].keypoints - before).max() < 1e-6)


def test_no_number_of_a_blinded_reading_is_shown_in_the_scene(labels):
    found = labels()
    found.open()
    found.place()
    found.saved(lambda r: len(r.labels) == 1)
    nodes = found.review.study.nodes
    assert nodes["measurements"].GetHideFromEditors() and not nodes["measurements"].GetSaveWithScene()
    assert all(len(label.words) == 1 for label in found.review.study.labels())
    assert found.ui.vertebraTable.rowCount == 0  # the review's table knows nothing of it
    assert not found.ui.confirmButton.enabled


def test_plane_comments_and_reasons_are_kept(labels):
    found = labels(levels=["T9", "T10", "T11"])
    ui, desktop = found.ui, found.bench.desktop
    found.open()
    assert ui.labelNextLevelButton.text == "Six points of T9 (V)"
    for _ in range(4):
        desktop.key("k")
    desktop.key("v")
    found.click(S)
    draft = found.saved(lambda r: len(r.labels) == 1 and r.labels[0].level == "T9")
    straight = found.review.study.straightening.to_straight(draft.labels[0].keypoints)
    assert straight[..., 0] == pytest.approx(-4.0, abs=0.05)
    assert ui.labelTable.item(0, 2).text() == "4.0 mm left"
    edit = ui.labelCommentLineEdit._real
    edit.setFocus()
    QtTest.QTest.keyClicks(edit, "osteophyte")
    QtTest.QTest.keyClick(edit, "\r")
    edit.clearFocus()
    found.saved(lambda r: r.labels[0].comment == "osteophyte")
    assert ui.labelNextLevelButton.text == "Six points of T10 (V)"

    desktop.key("x")
    assert ui.labelReasonRow.visible and ui.labelReasonLevelComboBox.currentText == "T9"
    ui.labelReasonLevelComboBox.currentText = "T10"
    desktop.key("m")
    kept = found.saved(lambda r: r.labels[-1].not_assessable == "metal")
    assert [(v.level, v.not_assessable) for v in kept.labels] == [("T9", None), ("T10", "metal")]
    assert found.listed() == [("T9", "reader"), ("T10", "metal")] and not ui.labelReasonRow.visible
    desktop.key("x")
    desktop.key("c")  # here it is a reason, and accepts nothing
    cut = found.saved(lambda r: all(v.not_assessable for v in r.labels))
    assert sorted((v.level, v.not_assessable) for v in cut.labels) == [("T10", "metal"), ("T9", "cut_off")]
    desktop.key("Ctrl+z")
    found.saved(lambda r: [(v.level, v.comment) for v in r.labels if v.keypoints is not None] == [("T9", "osteophyte")])


def test_an_assisted_case_shows_points_that_wait_and_completes(labels):
    found = labels(mode="assisted")
    ui, desktop = found.ui, found.bench.desktop
    found.open()
    assert [row[0] for row in found.listed()] == list(LEVELS)
    assert all(source == "proposed?" for _, source in found.listed()) and ui.labelAcceptButton.visible
    assert found.reading() is None  # looking saves nothing
    desktop.press("labelCompleteButton")
    assert "Not finished yet" in found.bench.said and "T9" in found.bench.said
    for _ in LEVELS:
        desktop.key("c")
    draft = found.saved(lambda r: len(r.labels) == len(LEVELS))
    assert {v.source for v in draft.labels} == {"automatic"} and all(v.machine_points_shown for v in draft.labels)
    desktop.press("labelCompleteButton")
    found.opened(1)
    assert found.reading().state == "final" and found.states() == ["complete", ""]
    desktop.key(",")
    found.opened(0)
    assert "Version 1 of this reading is final" in found.bench.said
    assert len(history(found.dataset, (READER, found.cases[0], 1))) == 1


def test_each_button_does_what_its_key_does(labels):
    found = labels(mode="assisted", levels=[*LEVELS, "L3"])
    desktop, review = found.bench.desktop, found.review
    found.open()
    desktop.press("labelAcceptButton")
    found.saved(lambda r: [v.level for v in r.labels] == ["T9"])
    assert review.study.label(review.selected) == "T10"
    assert found.states()[0] == "draft" or desktop.wait(lambda: found.states()[0] == "draft")
    desktop.press("labelDeleteButton")
    assert "T10" not in [level for level, _ in found.listed()]
    desktop.press("labelUndoButton")
    assert ("T10", "proposed?") in found.listed()
    for button, mode in (
        ("labelProposeButton", "add"),
        ("labelCurveButton", "rescue"),
        ("labelPlaceButton", "place"),
        ("labelNextLevelButton", "place"),
    ):
        desktop.press(button)
        assert review.mode == mode
        assert found.ui.labelHintLabel.text and found.ui.labelHintLabel.visible
        desktop.key("Escape")
        assert review.mode is None
    review.select(review.study.order[1])
    desktop.press("labelReasonButton")
    found.ui.labelReasonComboBox._real.textActivated.emit("cut off")
    found.saved(lambda r: [(v.level, v.not_assessable) for v in r.labels] == [("T9", None), ("T10", "cut_off")])
    desktop.press("labelProposeButton")
    desktop.press("labelCurveButton")
    desktop.press("labelPlaceButton")
    desktop.press("labelNextLevelButton")
    assert found.review.placing.endswith("of L3")


def test_each_key_of_the_section_has_an_action(labels):
    found = labels()
    for entry in ANNOTATION_KEYS:
        assert entry.action in found.panel._own or hasattr(AnnotationActions, entry.action), entry.action
    assert len(found.panel._keyboards[0]._shortcuts) == sum(len(e.keys) for e in ANNOTATION_KEYS) - 1  # without Space


def test_what_is_in_doubt_is_asked_before_a_reading_is_final(labels):
    found = labels(levels=["T9", "T10"])
    found.open()
    found.bench.desktop.key("v")
    found.click(S)
    found.saved(lambda r: len(r.labels) == 1)
    found.bench.desktop.key("e")
    assert "T10" in found.bench.said and "again" in found.bench.said and found.reading().state == "draft"
    found.bench.desktop.key("e")
    found.opened(1)
    assert found.reading().state == "final"


def test_a_draft_that_was_saved_elsewhere_is_refused_and_kept_in_a_file(labels):
    found = labels()
    found.open()
    found.place()
    draft = found.saved(lambda r: len(r.labels) == 1)
    found.bench.desktop.wait(lambda: found.review.annotation.reading.revision == draft.revision)
    save(found.dataset, replace(draft, comment="from another window"))
    found.review.act("comment", "mine")
    found.bench.desktop.wait(lambda: "saved in another window" in found.ui.labelUnsavedLabel.text)
    found.bench.desktop.press("labelCloseButton")
    assert "vfq dataset import" in found.bench.said and not found.panel.is_open
    assert found.reading().comment == "from another window"
    assert list(work_folder(found.dataset, (READER, found.cases[0], 1)).glob("unsaved-*.json"))


def test_what_cannot_be_opened_is_said(labels, tmp_path, empty):
    found = labels()
    found.ui.labelReaderComboBox._real.setCurrentText("Bob")
    found.ui.labelReaderComboBox._real.textActivated.emit("Bob")
    assert "No case is assigned to Bob" in empty.said and found.states() == []
    found.choose()
    (tmp_path / f"{found.cases[0]}.nii.gz").unlink()
    found.ui.labelCaseTable.selectRow(0)
    empty.desktop.press("labelOpenButton")
    empty.desktop.wait(lambda: "which is missing" in empty.said)
    assert not found.panel.is_open
    found.ui.labelSetPathLineEdit.currentPath = str(tmp_path)
    empty.desktop.events()
    assert "holds no dataset.json" in empty.said and found.ui.labelReaderComboBox.count == 0


def test_review_and_annotation_give_way_to_each_other_and_so_do_their_keys(labels):
    found = labels()
    bench = found.bench
    bench.add_volume(make_ct())
    bench.analyze()
    assert bench.editor is not None and not found.panel.is_open
    found.open()
    assert bench.editor is None and (bench.folder / "CT" / "analysis.json").exists()
    bench.desktop.key("b")
    assert found.review.mode == "place"
    bench.desktop.key("Escape")
    assert found.review.mode is None
    bench.desktop.press("openButton")
    bench.desktop.wait(lambda: bench.editor is not None)
    assert not found.panel.is_open and found.ui.labelTable.rowCount == 0
    bench.desktop.key("b")
    assert bench.review.mode == "place" and found.review.mode is None


def test_closing_the_scene_and_reloading_the_module_keep_the_draft(labels):
    found = labels()
    found.open()
    found.place()
    found.bench.desktop.close_scene()
    assert not found.panel.is_open and len(found.reading().labels) == 1
    found.open()
    assert len(found.listed()) == 1
    found.review.act("comment", "thin")
    with library_kept():
        found.bench.desktop.reload()
        assert found.reading().labels[0].comment == "thin"
        assert not found.bench.widget.labels.is_open and not found.bench.said


def test_the_display_section_acts_on_what_is_open(labels):
    found = labels()
    ui, bench = found.ui, found.bench
    assert not ui.fitButton.enabled and not ui.layoutButton.enabled
    bench.add_volume(make_ct())
    bench.analyze()
    ui.lateralSlider.value = 2.0
    assert bench.review.lateral == 2.0 and ui.paletteComboBox.enabled
    found.open()
    assert ui.lateralSlider.value == 0.0 and bench.review.editor is None
    ui.lateralSlider.value = 4.5
    view = slicer.app.layoutManager().sliceWidget("Straightened").mrmlSliceNode()
    assert found.review.lateral == 4.5 == view.GetSliceToRAS().GetElement(0, 3)
    bench.desktop.key("k")
    assert ui.lateralSlider.value == found.review.lateral == 3.5

    ui.windowComboBox._real.setCurrentText("soft")
    ui.windowComboBox._real.textActivated.emit("soft")
    display = found.review.study.nodes["straightened"].GetDisplayNode()
    assert display.GetWindow() == 400.0 and found.review.preset == "soft"
    assert slicer.util.settingsValue("VertebralFractureQuant/window", "") == "soft"
    bench.desktop.key("w")
    assert ui.windowComboBox.currentText == "auto" == bench.review.preset, "the next study has the same window"

    view.SetFieldOfView(30.0, 30.0, 1.0)
    bench.desktop.press("fitButton")
    assert view.GetFieldOfView()[1] > 100
    layout = slicer.app.layoutManager()
    layout.setLayout(3)
    bench.desktop.press("layoutButton")
    assert layout.layout == 5177  # the module's own
    bench.desktop.press("helpButton")
    assert "proposed points" in bench.desktop.messages[-1].text

    found.place()
    color = found.review.study.vertebrae[found.review.study.order[0]].node.GetDisplayNode().GetSelectedColor()
    assert not ui.paletteComboBox.enabled
    ui.paletteComboBox.currentText = "grades"  # as a scene that is loaded may
    bench.desktop.events()
    after = found.review.study.vertebrae[found.review.study.order[0]].node.GetDisplayNode().GetSelectedColor()
    assert after == color, "grades stay unseen"
    bench.desktop.press("labelCloseButton")
    assert ui.paletteComboBox.enabled and not ui.fitButton.enabled


def test_the_loupe_shows_the_ct_around_the_mouse_eight_times_while_points_are_placed(labels):
    found = labels()
    found.open()
    loupe = found.face.loupe
    view = slicer.app.layoutManager().sliceWidget("Straightened").mrmlSliceNode()
    place = np.array([found.review.lateral, 3.0, S])
    move("Straightened", pixel("Straightened", place))
    assert not loupe.shown
    found.bench.desktop.key("b")
    move("Straightened", pixel("Straightened", place))
    assert loupe.shown and loupe._renderer is found.face.renderer
    size = loupe._image.GetDimensions()[0]
    grey = vtk_to_numpy(loupe._image.GetPointData().GetScalars()).reshape(size, size)
    mouse = np.round(pixel("Straightened", place))
    width, level = found.review.window

    def expected(right: float, up: float) -> float:
        """The grey of the CT this many pixels of the loupe from its middle."""
        x, y = mouse + np.array([right, up]) / 8
        point = np.array(view.GetXYToRAS().MultiplyPoint((x, y, 0, 1))[:3])
        hounsfield = found.review.editor.machine.ct.sample(found.review.study.straightening.to_patient(point))
        return float(np.clip((hounsfield - level) / width * 255 + 127.5, 0, 255))

    middle = size // 2
    for right, up in ((0, 0), (60, 20), (-50, -70), (30, 70)):
        assert grey[middle + up, middle + right] == pytest.approx(expected(right, up), abs=1.5)
    low = np.array(loupe.actor.GetPosition())
    assert ((mouse < low) | (mouse > low + size)).any()  # it does not cover the point
    assert (low >= 0).all() and (low + size <= view.GetDimensions()[:2]).all()
    found.bench.desktop.key("Escape")
    assert not loupe.shown
