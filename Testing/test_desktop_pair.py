"""A prior study beside the open one in Slicer: chosen, aligned, compared while points are dragged, edited, closed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="needs slicer-core: pip install '.[review]'")
pytest.importorskip("PySide6", reason="needs Qt: pip install '.[test]'")

from desktop_bench import Bench, add_volume, library_kept, make_analysis, make_ct, pixel  # noqa: E402
from harness.drag import press_and_release  # noqa: E402
from VertebralFractureQuantLib.desktop.labels import BREAK  # noqa: E402
from VertebralFractureQuantLib.desktop.layout import LAYOUT_ID, PAIR_ID, SWAPPED_ID  # noqa: E402
from VertebralFractureQuantLib.imaging.ct import CTVolume  # noqa: E402
from VertebralFractureQuantLib.imaging.files import write_ct  # noqa: E402
from VertebralFractureQuantLib.report.matches import MATCHES_NAME  # noqa: E402
from VertebralFractureQuantLib.report.outputs import write_outputs  # noqa: E402
from VertebralFractureQuantLib.scene.pair_keys import PAIR_KEYS  # noqa: E402
from VertebralFractureQuantLib.scene.pair_views import middle_of  # noqa: E402
from VertebralFractureQuantLib.scene.volumes import ROLE, window_of  # noqa: E402
from VertebralFractureQuantLib.spine.curve import SpineCurve  # noqa: E402
from VertebralFractureQuantLib.spine.genant import measure_column  # noqa: E402
from VertebralFractureQuantLib.spine.record import SpineAnalysis, Vertebra  # noqa: E402
from VertebralFractureQuantLib.spine.straightening import Straightening  # noqa: E402

NOW_MM, THEN_MM = 252.0, 283.0  # how high the two scans are
LEVELS = ("T10", "T11", "T12", "L1", "L2")
HEADERS = ("level", "then", "now", "g", "A", "M", "P", "verdict")
UNSAID = "No prior study is open"


def body(s: float, i: int) -> np.ndarray:
    """Return the key points `(3, 2, 3)`, straight mm, of the `i`-th vertebra of one patient, each of its own size."""
    depth, height = 24.0 + 2.5 * i, 20.0 + 1.2 * i
    return np.array([[[0.3, a, s + h] for h in (height / 2, -height / 2)] for a in (depth / 2, 0.0, -depth / 2)])


def of_patient(ct: CTVolume, scale: float = 1.0) -> SpineAnalysis:
    """Return the vertebrae of one patient: T10 to L2 in the higher scan, the prior one, and T11 to L2 in the other."""
    found, first = make_analysis(ct), 0 if len(ct.voxels) > 95 else 1
    bodies = [scale * body((-20.0 - 10 * first - 36.0 * (i - first)) / scale, i) for i in range(first, len(LEVELS))]
    keypoints = Straightening(SpineCurve(found.curve)).to_patient(np.stack(bodies))
    each = zip(keypoints, measure_column(keypoints, [0.03] * len(keypoints)), LEVELS[first:], strict=True)
    return replace(found, vertebrae=tuple(Vertebra(k, m, 0.99, level, spread=0.03) for k, m, level in each))


class Pair:
    """Both studies, and what a user reads and does."""

    def __init__(self, bench: Bench, then: Any):
        self.bench = bench
        self.then = then

    ui = property(lambda self: self.bench.ui)
    desktop = property(lambda self: self.bench.desktop)
    pairing = property(lambda self: self.bench.widget.pairing)
    prior = property(lambda self: self.pairing.prior.review)
    current = property(lambda self: self.bench.review)
    layout = property(lambda self: slicer.app.layoutManager().layout)

    def rows(self) -> dict[str, dict[str, str]]:
        """Return the texts of the comparison by the vertebra's level."""
        table = self.ui.pairTable
        texts = [[table.item(r, c).text() for c in range(table.columnCount)] for r in range(table.rowCount)]
        return {cells[0]: dict(zip(HEADERS, cells, strict=True)) for cells in texts}

    def open(self, wait: bool = True) -> None:
        """Choose the prior's volume, and show it."""
        self.ui.priorSelector.setCurrentNode(self.then)
        self.desktop.press("priorVolumeButton")
        if wait:
            self.desktop.wait(lambda: self.pairing.pair)
            self.bench.rest()

    def of(self, review: Any, level: str) -> Any:
        """Return the markups of a level."""
        return next(v for i, v in review.study.vertebrae.items() if review.study.label(i) == level)

    def level(self, review: Any) -> str:
        return review.study.label(review.selected) if review.selected else ""

    def chosen(self) -> tuple[str, str, str]:
        """Return the level that is selected in the prior study, in the open one and in the table."""
        table = self.ui.pairTable
        row = table.item(table.currentRow(), 0).text() if table.selectedItems() else ""
        return self.level(self.prior), self.level(self.current), row

    def place(self, review: Any, level: str) -> np.ndarray:
        """Return where the middle of a body is in its straightened view, pixels `(2,)`."""
        points = self.of(review, level).straight()
        name = "Prior" if review is self.prior else "Straightened"
        return pixel(name, points.mean((0, 1)))

    def drag(self, review: Any, level: str, **how: Any) -> None:
        """Drag the anterior superior point 9 mm down."""
        node = review.face.straightened
        mm = node.GetFieldOfView()[0] / node.GetDimensions()[0]
        view = "Prior" if review is self.prior else "Straightened"
        self.desktop.drag(view, self.of(review, level).node, 0, (0, -round(9 / mm)), **how)


@pytest.fixture
def ready(empty: Bench, monkeypatch: pytest.MonkeyPatch) -> Pair:
    """A study is open, and the patient's prior CT is in the scene."""
    from VertebralFractureQuantLib.desktop import pair

    real = pair.examination  # a gradient shows no bones
    monkeypatch.setattr(
        pair, "examination", lambda review: (replace(real(review)[0], straightened=None), real(review)[1])
    )
    empty.children.analysis = of_patient
    then = add_volume(make_ct(THEN_MM), "Then")
    empty.add_volume(make_ct(NOW_MM))
    empty.analyze()
    return Pair(empty, then)


@pytest.fixture
def both(ready: Pair) -> Pair:
    """The prior is shown beside the study."""
    ready.open()
    return ready


def refused(pair: Pair, do: Callable[[], object], told: str) -> None:
    """Do something and wait until the panel says why not; no prior is shown then, and the study is unchanged."""
    editor = pair.bench.editor
    do()
    pair.desktop.wait(lambda: told in pair.bench.said)
    pair.bench.rest()
    assert pair.pairing.pair is None and pair.prior.editor is None and pair.bench.editor is editor
    assert pair.layout == LAYOUT_ID and not pair.ui.pairTable.visible and pair.ui.priorVolumeButton.visible


# -- what is shown


def test_a_volume_that_was_not_analysed_is_analysed_and_shown_beside_the_study(ready):
    assert ready.layout == LAYOUT_ID and not ready.ui.pairTable.visible
    ready.open()
    assert [child.wanted.case for child in ready.bench.children.started] == ["CT", "Then"]
    assert ready.layout == PAIR_ID and ready.ui.pairTable.visible and not ready.ui.priorCollapsibleButton.collapsed
    assert ready.current.folder.name == "CT" and ready.prior.folder.name == "Then"
    assert ready.ui.priorLabel.text == "Beside the open study: Then."
    rows = ready.rows()
    assert list(rows) == list(LEVELS) and rows["T10"]["verdict"] == "not in the current scan"
    assert {rows[level]["verdict"] for level in LEVELS[1:]} == {"unchanged"}
    assert ready.ui.pairSummaryLabel.text == "4 unchanged, 1 not comparable"
    assert ready.ui.pairDoubtLabel.text == "" and ready.ui.pairDetailLabel.text.startswith("T11: A ")


def test_the_prior_is_shown_in_its_own_view_alone(both):
    views = {name: slicer.app.layoutManager().sliceWidget(name) for name in ("Prior", "Straightened", "Yellow")}
    shown = {name: view.mrmlSliceCompositeNode().GetBackgroundVolumeID() for name, view in views.items()}
    assert shown["Prior"] == both.prior.study.nodes["straightened"].GetID()
    assert shown["Straightened"] == both.current.study.nodes["straightened"].GetID()
    assert shown["Yellow"] == both.current.study.nodes["ct"].GetID()
    elsewhere = [f"vtkMRMLSliceNode{name}" for name in ("Straightened", "Yellow", "Red", "Green")]
    for review, view, others in (
        (both.prior, "vtkMRMLSliceNodePrior", [*elsewhere, "vtkMRMLViewNode1"]),
        (both.current, "vtkMRMLSliceNodeStraightened", ["vtkMRMLSliceNodePrior"]),
    ):
        displays = [n.GetDisplayNode() for v in review.study.vertebrae.values() for n in (v.node, v.mirror)]
        displays.append(review.study.nodes["outlines-patient"].GetDisplayNode())
        assert sum(display.IsDisplayableInView(view) for display in displays) == len(review.study.vertebrae)
        assert not any(display.IsDisplayableInView(other) for display in displays for other in others)


def test_matched_vertebrae_lie_at_the_same_height_in_the_same_size(both):
    for _ in range(2):
        for level in LEVELS[2:]:
            both.current.select(next(i for i in both.current.order if both.current.study.label(i) == level))
            np.testing.assert_allclose(both.place(both.prior, level), both.place(both.current, level), atol=0.5)
        both.current.act("toggle_close_up")
    both.current.act("fit_views")
    views = [review.face.straightened for review in (both.prior, both.current)]
    before = [middle_of(view)[2] for view in views]
    views[0].JumpSliceByCentering(0.0, 0.0, before[0] - 25.0)  # the prior's view is moved
    assert middle_of(views[1])[2] == pytest.approx(before[1] - 25.0, abs=1.0)
    views[1].SetFieldOfView(60.0, 60.0, 1.0)
    assert views[0].GetFieldOfView()[0] == pytest.approx(60.0)


def test_both_are_selected_together_by_the_table_the_views_and_the_keys(both):
    assert both.chosen() == ("T11",) * 3
    both.ui.pairTable.selectRow(3)
    both.desktop.events()
    assert both.chosen() == ("L1",) * 3
    press_and_release("Prior", both.place(both.prior, "T12"))
    both.desktop.events()
    assert both.chosen() == ("T12",) * 3 and both.ui.sideButton.checked
    both.desktop.key("N")
    assert both.chosen() == ("L1",) * 3
    both.ui.vertebraTable.selectRow(0)
    both.desktop.events()
    assert both.chosen() == ("T11",) * 3 and not both.ui.sideButton.checked
    both.ui.pairTable.selectRow(0)  # a vertebra that is in the prior study alone
    both.desktop.events()
    assert both.chosen() == ("T10", "", "T10")


def test_the_window_and_hidden_points_are_those_of_both(both):
    both.current.act("choose_window", "soft")
    displays = [review.study.nodes["straightened"].GetDisplayNode() for review in (both.prior, both.current)]
    assert [(d.GetWindow(), d.GetLevel()) for d in displays] == [(400.0, 40.0)] * 2
    both.desktop.key("H")
    nodes = [both.of(review, "L1").node.GetDisplayNode() for review in (both.prior, both.current)]
    assert not any(node.GetVisibility() for node in nodes)
    both.desktop.key("H")
    assert all(node.GetVisibility() for node in nodes)


# -- editing


def test_the_change_follows_a_drag_of_the_current_points_and_its_undo(both):
    both.current.select(both.current.order[2])
    before = both.rows()
    both.drag(both.current, "L1", release=False)
    during = both.rows()
    assert during["L1"]["then"] == before["L1"]["then"] and during["L1"]["verdict"] == "new fracture"
    assert float(during["L1"]["now"]) < float(before["L1"]["now"]) - 0.3
    assert during["L1"]["A"].startswith("\N{MINUS SIGN}") and during["L1"]["P"] == before["L1"]["P"]
    assert {k: v for k, v in during.items() if k != "L1"} == {k: v for k, v in before.items() if k != "L1"}
    assert "1 new fracture (L1)" in both.ui.pairSummaryLabel.text
    assert both.ui.pairDetailLabel.text.startswith("L1: A \N{MINUS SIGN}")
    slicer.app.layoutManager().sliceWidget("Straightened").sliceView().interactor().InvokeEvent(
        "LeftButtonReleaseEvent"
    )
    both.desktop.events()
    assert both.current.editor.journal.undoable == "move" and not both.prior.editor.journal.undoable
    both.desktop.key("U")
    assert both.rows() == before and not both.current.editor.journal.undoable


def test_the_prior_is_edited_in_its_own_reading_with_its_own_undo(both):
    both.current.select(both.current.order[2])
    before = both.rows()
    both.drag(both.prior, "L1")
    after = both.rows()
    assert after["L1"]["now"] == before["L1"]["now"] and both.ui.sideButton.checked
    assert float(after["L1"]["then"]) < float(before["L1"]["then"]) - 0.3 and after["L1"]["verdict"] == "better"
    assert both.ui.undoButton.enabled and both.ui.undoButton.toolTip == "Prior: Undo: move"
    both.desktop.press("confirmButton")
    assert both.rows()["L1"]["then"].endswith("\N{CHECK MARK}")
    both.pairing.prior.save_now()
    record = json.loads((both.bench.folder / "Then" / "analysis.json").read_text())
    moved = record["vertebrae"][3]
    assert (moved["origin"], moved["review"], moved["level"]) == ("reader", "confirmed", "L1")
    assert both.bench.saved()["vertebrae"][2]["origin"] == "model"
    both.desktop.key("U")
    both.desktop.press("undoButton")
    assert both.rows() == before and both.current.editor.journal.trail() == []
    both.desktop.press("sideButton")
    assert not both.ui.sideButton.checked and not both.ui.undoButton.enabled
    both.desktop.key("C")
    assert both.of(both.current, "L1").details["review"] == "confirmed"
    assert both.of(both.prior, "L1").details["review"] == "open"


def test_clicks_add_a_vertebra_to_the_study_on_which_the_keys_act(both):
    both.desktop.key("K")
    both.desktop.key("B")
    assert both.ui.hintLabel.text.startswith("Prior: Click A+ upper anterior") and both.current.mode is None
    straight = body(-215.0, 2)
    for point in (*straight[:, 0], *straight[::-1, 1]):
        press_and_release("Prior", pixel("Prior", point))
        both.desktop.events()
    assert both.prior.mode is None and len(both.prior.order) == 6 and len(both.current.order) == 4
    both.desktop.key("B")
    both.desktop.key("Esc")
    assert both.prior.mode is None and not both.ui.leaveButton.visible
    both.desktop.key("U")
    assert len(both.prior.order) == 5


def test_a_prior_that_another_reader_reviewed_is_only_looked_at(ready):
    ready.open()
    ready.desktop.key("K")
    ready.desktop.key("C")
    ready.desktop.press("closePriorButton")
    ready.ui.readerLineEdit.text = "somebody else"
    ready.bench.rest()
    ready.open()
    assert "another reader's reading" in ready.ui.priorLockedLabel.text
    before = ready.rows()
    ready.desktop.key("K")
    ready.desktop.key("X")
    assert "another reader's reading" in ready.bench.said
    ready.drag(ready.prior, "L1")
    assert ready.rows() == before


# -- the keys


def test_all_keys_of_a_pair_have_a_shortcut_and_need_a_prior(ready):
    for key in PAIR_KEYS:
        for name in key.keys:
            ready.desktop.key(name.upper())
            assert UNSAID in ready.bench.said, name
            ready.bench.widget._say("")
    ready.open()
    ready.desktop.key("?")
    told = ready.desktop.messages[-1].text
    assert "match each vertebra with the one above" in told and "while held" not in told


def test_a_key_swaps_the_images_and_back(both):
    both.desktop.key("0")
    assert both.layout == SWAPPED_ID
    both.desktop.press("swapButton")
    assert both.layout == PAIR_ID
    both.desktop.key("0")
    both.desktop.press("closePriorButton")
    assert both.layout == LAYOUT_ID


def test_the_prior_is_laid_over_the_current_image_and_follows_its_points(both):
    composite = slicer.app.layoutManager().sliceWidget("Straightened").mrmlSliceCompositeNode()

    def over() -> Any:
        node = slicer.mrmlScene.GetNodeByID(composite.GetForegroundVolumeID() or "")
        return slicer.util.arrayFromVolume(node).copy() if node else None

    both.desktop.press("overlayButton")
    both.bench.rest()
    faded = over()
    assert faded is not None and composite.GetForegroundOpacity() == 0.5
    assert both.ui.overlayButton.text == "Overlay: faded"
    both.drag(both.prior, "L1")
    both.bench.rest()
    assert not np.array_equal(over(), faded)
    both.desktop.key("Y")
    both.bench.rest()
    assert composite.GetForegroundOpacity() == 1.0 and both.ui.overlayButton.text == "Overlay: checkerboard"
    both.desktop.key("Y")
    assert over() is None and both.ui.overlayButton.text == "Overlay"
    both.desktop.key("Y")
    both.bench.rest()
    both.desktop.press("closePriorButton")
    assert over() is None


def test_a_corrected_match_is_kept_for_the_next_time(both):
    both.desktop.key(">")
    rows = both.rows()
    assert list(rows) == ["T10", "T11", "T11 (was T12)", "T12 (was L1)", "L1 (was L2)", "L2"]
    assert "corrected it" in both.ui.pairDoubtLabel.text and (both.current.folder / MATCHES_NAME).exists()
    both.desktop.press("closePriorButton")
    both.open()
    assert both.rows() == rows
    both.desktop.press("matchHigherButton")
    assert list(both.rows()) == list(LEVELS)
    both.desktop.press("matchLowerButton")
    assert both.rows() == rows
    both.desktop.key("<")
    assert list(both.rows()) == list(LEVELS)
    while not both.bench.said:
        both.desktop.press("matchHigherButton")
    assert "No vertebra would be left" in both.bench.said


# -- what may be the prior


def test_a_volume_that_was_analysed_is_opened_without_another_analysis(both):
    both.desktop.press("closePriorButton")
    both.open()
    assert len(both.bench.children.started) == 2 and both.rows()["L1"]["verdict"] == "unchanged"


def test_a_scan_on_disk_is_analysed_once(ready, tmp_path):
    file = tmp_path / "earlier.nii.gz"
    write_ct(make_ct(THEN_MM), file)
    volumes = len(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"))
    chosen = ready.ui.inputSelector.currentNode()
    for _ in range(2):
        ready.ui.priorPathLineEdit.currentPath = str(file)
        ready.desktop.press("priorPathButton")
        ready.desktop.wait(lambda: ready.pairing.pair)
        ready.bench.rest()
        assert ready.prior.folder == ready.bench.folder / "earlier" and ready.rows()["L1"]["verdict"] == "unchanged"
        assert ready.ui.inputSelector.currentNode() is chosen
        ready.desktop.press("closePriorButton")
        assert len(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")) == volumes
    assert [child.wanted.case for child in ready.bench.children.started] == ["CT", "earlier"]


def test_the_folder_of_a_case_is_opened_with_its_ct_of_the_scene(ready):
    folder = write_outputs(replace(of_patient(make_ct(THEN_MM)), case="old"), None, ready.bench.folder, pictures=False)
    ready.ui.priorPathLineEdit.currentPath = str(folder)
    ready.desktop.press("priorPathButton")
    ready.desktop.wait(lambda: ready.pairing.pair)
    assert ready.prior.folder == folder and ready.prior.study.nodes["ct"] is ready.then
    assert len(ready.bench.children.started) == 1
    ready.desktop.press("closePriorButton")
    slicer.mrmlScene.RemoveNode(ready.then)
    refused(ready, lambda: ready.desktop.press("priorPathButton"), "The scan of the case old is not known.")


def test_a_case_of_the_cohort_is_compared(ready, tmp_path):
    (tmp_path / "scans").mkdir()
    for name, millimetres in (("first", NOW_MM), ("second", THEN_MM)):
        write_ct(make_ct(millimetres), tmp_path / "scans" / f"{name}.nii.gz")
    ready.bench.ui.scansPathLineEdit.currentPath = str(tmp_path / "scans")
    ready.bench.rest()
    ready.ui.cohortTable.selectRow(1)
    refused(ready, lambda: ready.desktop.press("compareCaseButton"), "has not been analysed")
    ready.desktop.press("analyzeAllButton")
    ready.bench.rest()
    ready.bench.widget.cohort.open(0)
    ready.bench.wait_for_study(ready.bench.editor)
    ready.ui.cohortTable.selectRow(1)
    ready.desktop.press("compareCaseButton")
    ready.desktop.wait(lambda: ready.pairing.pair)
    assert ready.prior.folder.name == "second" and ready.current.folder.name == "first"
    assert ready.rows()["L1"]["verdict"] == "unchanged"
    hidden = ready.prior.study.nodes["ct"]
    assert hidden.GetHideFromEditors()
    ready.bench.widget.cohort.open(1)  # the prior itself is opened
    ready.bench.wait_for_study(ready.bench.editor)
    assert ready.current.folder.name == "second" and ready.prior.editor is None and hidden.GetScene() is None


def test_the_newest_earlier_scan_of_the_patient_is_offered(ready, tmp_path, monkeypatch):
    from test_page_state import dicom

    given = {"CT": ("Doe", "20260101"), "Then": ("Doe", "20240101"), "Older": ("Doe", "20200101")}
    given |= {"Later": ("Doe", "20270101"), "Other": ("Roe", "20250101")}
    nodes = {"CT": ready.current.study.nodes["ct"], "Then": ready.then}
    for name, (who, date) in given.items():
        dicom(tmp_path / name / "1.dcm", who, date=date)
        node = nodes.get(name) or add_volume(make_ct(THEN_MM), name)
        node.SetAttribute("DICOM.instanceUIDs", name)

    class Database:
        def fileForInstance(self, uid: str) -> str:  # noqa: N802
            return str(tmp_path / uid / "1.dcm")

        def fileValue(self, path: str, tag: str) -> str:  # noqa: N802
            return "1.2"

    assert not ready.ui.offerPriorButton.visible
    monkeypatch.setattr(slicer, "dicomDatabase", Database(), raising=False)
    ready.bench.widget.prior.look_again()
    ready.bench.rest()
    assert ready.ui.offerPriorButton.visible and "Then" in ready.ui.offerPriorButton.text
    ready.desktop.press("offerPriorButton")
    ready.desktop.wait(lambda: ready.pairing.pair)
    assert ready.prior.folder.name == "Then" and not ready.ui.pairDoubtLabel.text
    ready.desktop.press("closePriorButton")
    ready.ui.priorSelector.setCurrentNode(slicer.util.getNode("Later"))
    ready.desktop.press("priorVolumeButton")
    ready.desktop.wait(lambda: ready.pairing.pair)
    assert "The prior is the later scan" in ready.ui.pairDoubtLabel.text


def test_what_cannot_be_the_prior_is_refused_with_its_code(ready, tmp_path):
    def volume(node: Any) -> Callable[[], None]:
        return lambda: (ready.ui.priorSelector.setCurrentNode(node), ready.desktop.press("priorVolumeButton"))

    def path(path: Path) -> Callable[[], None]:
        def do() -> None:
            ready.ui.priorPathLineEdit.currentPath = str(path)
            ready.desktop.press("priorPathButton")

        return do

    refused(ready, volume(None), "No prior is chosen")
    refused(ready, volume(ready.current.study.nodes["ct"]), "cannot be its own prior")
    refused(ready, volume(add_volume(make_ct(NOW_MM), "Copy")), "same scan twice")
    labels = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
    refused(ready, volume(labels), "No volume is chosen, or it is empty")
    ready.ui.priorPathLineEdit.currentPath = ""
    refused(ready, lambda: ready.desktop.press("priorPathButton"), "No prior is chosen")
    refused(ready, path(tmp_path / "nowhere"), "does not exist")
    (tmp_path / "no.nii").write_bytes(b"no image")
    refused(ready, path(tmp_path / "no.nii"), "no.nii")
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "analysis.json").write_text("{")
    refused(ready, path(damaged), "analysis.json")
    failed = SpineAnalysis("failed", status="not_ct", message="This is an MR.")
    refused(ready, path(write_outputs(failed, None, tmp_path, pictures=False)), "This is an MR.")
    refused(ready, path(ready.current.folder), "own prior")


def test_two_patients_are_not_compared_until_the_reader_matches_them(ready):
    ready.bench.children.analysis = lambda ct: of_patient(ct, scale=1.6 if len(ct.voxels) > 95 else 1.0)
    ready.open()
    assert "unlikely to be those of one patient" in ready.ui.pairSummaryLabel.text and not ready.rows()
    ready.desktop.key("<")
    assert ready.rows() and "unlikely" in ready.ui.pairDoubtLabel.text


def test_no_analysis_of_a_prior_begins_beside_another_one(ready):
    ready.bench.children.at_once = False
    ready.desktop.press("analyzeButton")
    ready.desktop.wait(lambda: len(ready.bench.children.started) == 2)
    ready.open(wait=False)
    ready.desktop.wait(lambda: "another analysis runs" in ready.bench.said)
    ready.desktop.press("cancelButton")
    ready.bench.rest()
    assert ready.pairing.pair is None


def test_a_prior_whose_analysis_fails_is_told_and_one_that_is_cancelled_is_not_shown(ready):
    ready.bench.children.at_once = False
    ready.open(wait=False)
    ready.desktop.wait(lambda: len(ready.bench.children.started) == 2)
    ready.desktop.press("cancelButton")
    ready.bench.rest()
    assert ready.pairing.pair is None and ready.prior.editor is None
    ready.open(wait=False)
    ready.desktop.wait(lambda: len(ready.bench.children.started) == 3)
    ready.bench.children.started[-1].say({"error": "not_ct", "message": "This is no CT."}, end=0)
    ready.desktop.wait(lambda: "This is no CT." in ready.bench.said)
    ready.bench.rest()
    assert ready.pairing.pair is None and ready.layout == LAYOUT_ID


def test_a_study_that_is_opened_during_the_prior_s_analysis_gets_no_prior(ready):
    ready.bench.children.at_once = False
    ready.open(wait=False)
    ready.desktop.wait(lambda: len(ready.bench.children.started) == 2)
    ready.bench.widget.face.close()
    ready.bench.children.started[-1].done()
    ready.bench.rest()
    assert ready.pairing.pair is None and ready.prior.editor is None and ready.bench.editor is None


# -- closing


def test_closing_the_prior_leaves_the_study_as_it_was(ready):
    slicer.app.layoutManager().setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
    before, window = ready.current.study.state(), window_of(ready.then)
    nodes = {slicer.mrmlScene.GetNthNode(i) for i in range(slicer.mrmlScene.GetNumberOfNodes())}
    ready.open()
    ready.desktop.key("K")
    ready.desktop.key("C")
    ready.desktop.press("closePriorButton")
    assert ready.layout == slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView
    assert ready.current.study.state() == before and ready.current.selected and ready.bench.editor
    left = {slicer.mrmlScene.GetNthNode(i) for i in range(slicer.mrmlScene.GetNumberOfNodes())} - nodes
    assert {type(node).__name__ for node in left} <= {
        *("vtkMRMLSliceNode", "vtkMRMLSliceCompositeNode", "vtkMRMLSliceDisplayNode", "vtkMRMLScalarVolumeDisplayNode"),
    }
    assert ready.then.GetScene() and (window is None or window_of(ready.then) == window)
    assert ready.then.GetAttribute(ROLE) is None and ready.then.GetSaveWithScene()
    record = json.loads((ready.bench.folder / "Then" / "analysis.json").read_text())
    assert [v["review"] for v in record["vertebrae"]].count("confirmed") == 1
    folder = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    assert not folder.GetItemByName("Then") or folder.GetItemDataNode(folder.GetItemByName("Then")) is ready.then
    ready.drag(ready.current, "L1") if ready.layout == LAYOUT_ID else ready.desktop.press("layoutButton")
    assert ready.layout == LAYOUT_ID


def test_a_prior_that_cannot_be_saved_stays_open(both, monkeypatch):
    monkeypatch.setattr(type(both.prior.editor.journal), "unsaved", property(lambda self: 1))
    both.prior.editor.journal.problem = "The disk is full."
    both.desktop.press("closePriorButton")
    assert "The disk is full." in both.bench.said and both.pairing.pair and both.layout == PAIR_ID


def test_another_study_closes_the_prior(both):
    before = both.bench.editor
    both.ui.inputSelector.setCurrentNode(both.then)
    both.desktop.press("openButton")
    both.bench.wait_for_study(before)
    assert both.current.folder.name == "Then" and both.pairing.pair is None and both.prior.editor is None
    assert both.layout == LAYOUT_ID


def test_closing_the_scene_saves_both(both):
    both.drag(both.prior, "L1")
    both.drag(both.current, "L2")
    folders = both.prior.folder, both.current.folder
    both.desktop.close_scene()
    both.bench.rest()
    assert both.pairing.pair is None and both.prior.editor is None and both.bench.editor is None
    for folder, level in zip(folders, ("L1", "L2"), strict=True):
        found = json.loads((folder / "analysis.json").read_text())["vertebrae"]
        assert [v["level"] for v in found if v["origin"] == "reader"] == [level]
    assert both.layout != PAIR_ID and not both.ui.pairTable.visible


@pytest.mark.parametrize("of", ["prior", "current"])
def test_a_study_whose_ct_is_removed_ends_the_pair(both, of):
    review = getattr(both, of)
    slicer.mrmlScene.RemoveNode(review.study.nodes["ct"])
    both.desktop.wait(lambda: both.prior.editor is None)
    both.bench.rest()
    assert both.pairing.pair is None and both.layout == LAYOUT_ID and "removed from the scene" in both.bench.said
    assert (both.bench.editor is None) == (of == "current")


def test_a_reload_keeps_the_study_and_closes_the_prior(both):
    both.drag(both.prior, "L1")
    with library_kept():
        both.desktop.reload()
        both.bench.settle_in()
        both.desktop.wait(lambda: both.bench.editor)
        both.bench.rest()
        assert both.current.folder.name == "CT" and len(both.current.order) == 4 and both.prior.editor is None
        record = json.loads((both.bench.folder / "Then" / "analysis.json").read_text())
        assert record["vertebrae"][3]["origin"] == "reader" and both.layout == LAYOUT_ID


def test_a_saved_scene_holds_the_study_alone(both, tmp_path):
    both.drag(both.prior, "L1")
    both.desktop.press("saveSceneButton")
    path = Path(both.bench.said.split("saved as ")[1].rstrip("."))
    levels = sorted(both.current.study.label(i) for i in both.current.order)
    both.desktop.close_scene()
    slicer.util.loadScene(str(path))
    both.desktop.wait(lambda: both.bench.editor)
    assert sorted(both.current.study.label(i) for i in both.current.order) == levels and len(levels) == 4
    assert both.current.folder.name == "CT" and both.current.study.nodes["ct"].GetName() == "CT"


def test_another_reader_gets_the_prior_again(both):
    both.ui.readerLineEdit.text = "somebody else"
    both.bench.rest()
    both.desktop.wait(lambda: both.pairing.pair)
    both.desktop.key("K")
    both.desktop.key("C")
    assert both.prior.editor.journal.trail()[-1].who == "somebody else"


def test_the_data_module_shows_both_studies_in_folders_of_their_own(both):
    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)

    def folder_of(node: Any) -> str:
        return tree.GetItemName(tree.GetItemParent(tree.GetItemByDataNode(node)))

    both.desktop.key("K")
    both.desktop.key("C")
    assert folder_of(both.of(both.prior, "L1").node) == "Then" and folder_of(both.of(both.current, "L1").node) == "CT"


def test_the_texts_of_the_section_need_no_wider_panel(both):
    assert both.ui.pairTable._real.minimumSizeHint().width() <= 300
    assert BREAK not in both.ui.priorLabel.text
