"""The study as MRML nodes, its live measurement, the editor's actions with undo, and the review of a case on disk."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pace import processor_ms, slowness

slicer = pytest.importorskip("slicer", reason="needs slicer-core: pip install '.[review]'")

from VertebralFractureQuantLib.analysis import Models  # noqa: E402
from VertebralFractureQuantLib.cohort.worklist import Case  # noqa: E402
from VertebralFractureQuantLib.errors import VFQError  # noqa: E402
from VertebralFractureQuantLib.imaging.ct import CTVolume  # noqa: E402
from VertebralFractureQuantLib.imaging.files import write_ct  # noqa: E402
from VertebralFractureQuantLib.report import tables  # noqa: E402
from VertebralFractureQuantLib.scene.editor import Editor  # noqa: E402
from VertebralFractureQuantLib.scene.journal import Journal  # noqa: E402
from VertebralFractureQuantLib.scene.machine import Machine, Rescued  # noqa: E402
from VertebralFractureQuantLib.scene.opening import read_study  # noqa: E402
from VertebralFractureQuantLib.scene.outlines import COLORS  # noqa: E402
from VertebralFractureQuantLib.scene.review import Review  # noqa: E402
from VertebralFractureQuantLib.scene.rows import first_row, rows, summary  # noqa: E402
from VertebralFractureQuantLib.scene.state import CURVE  # noqa: E402
from VertebralFractureQuantLib.scene.straight import reformat  # noqa: E402
from VertebralFractureQuantLib.scene.study import StudyScene  # noqa: E402
from VertebralFractureQuantLib.scene.views import Views  # noqa: E402
from VertebralFractureQuantLib.scene.volumes import ct_of  # noqa: E402
from VertebralFractureQuantLib.spine.curve import SpineCurve, fit_curve  # noqa: E402
from VertebralFractureQuantLib.spine.genant import measure_column, ratio_text  # noqa: E402
from VertebralFractureQuantLib.spine.keypoints import outline  # noqa: E402
from VertebralFractureQuantLib.spine.levels import NAMES  # noqa: E402
from VertebralFractureQuantLib.spine.quality import Flag  # noqa: E402
from VertebralFractureQuantLib.spine.record import ModelStamp, SpineAnalysis, Vertebra, with_neighbours  # noqa: E402
from VertebralFractureQuantLib.spine.record_json import from_json, read_analysis, to_json  # noqa: E402
from VertebralFractureQuantLib.spine.straightening import Straightening  # noqa: E402

LEVELS = ("T9", "T10", "T11", "T12", "L1", "L2")
EVENTS = slicer.vtkMRMLMarkupsNode
PITCH_MM = 32.0


@pytest.fixture(scope="module")
def ct() -> CTVolume:
    """A dim gradient around a scoliotic spine, oblique and anisotropic."""
    voxels = np.add.outer(np.add.outer(np.arange(90), np.arange(80)), np.arange(85)).astype(np.int16) - 200
    turn = np.deg2rad(7)
    axes = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1.0]])
    matrix = np.eye(4)
    matrix[:3, :3] = axes * [2.0, 2.0, 2.8]
    matrix[:3, 3] = (-80.0, -70.0, -250.0)
    return CTVolume(voxels, matrix, "gradient")


@pytest.fixture(scope="module")
def analysis(ct: CTVolume) -> SpineAnalysis:
    s = np.linspace(0, -240, 40)
    curve = fit_curve(np.stack([18 * np.sin(s / 60), 12 * np.cos(s / 90), s], 1))
    middles = -20 - PITCH_MM * np.arange(len(LEVELS))
    keypoints = np.stack([Straightening(curve).to_patient(_box(s)) for s in middles])
    spreads = [0.05] * len(LEVELS)
    measured = measure_column(keypoints, spreads)
    vertebrae = tuple(
        Vertebra(k, m, 0.99, level, spread=0.05) for k, m, level in zip(keypoints, measured, LEVELS, strict=True)
    )
    return SpineAnalysis(
        "gradient",
        shape=ct.voxels.shape,
        spacing_mm=ct.spacing_mm,
        ijk_to_ras=ct.ijk_to_ras,
        curve=curve.points,
        limits_mm=(0.0, curve.length),
        vertebrae=with_neighbours(vertebrae),
    )


def _box(s: float, height: float = 22.0) -> np.ndarray:
    """Key points `(3, 2, 3)` straight mm of a square body whose middle is at S = s."""
    return np.array([[[0.5 * a / 15, a, s + h] for h in (height / 2, -height / 2)] for a in (15.0, 0.0, -15.0)])


class FakeMachine(Machine):
    """Detects, without networks, a box at the click."""

    def propose(self, curve: SpineCurve, straight: np.ndarray) -> Vertebra:
        keypoints = Straightening(curve).to_patient(_box(float(straight[2])) + [0, float(straight[1]), 0])
        return Vertebra(keypoints, measure_column(keypoints[None])[0], 0.8, spread=0.04)


@pytest.fixture
def study(ct: CTVolume, analysis: SpineAnalysis) -> StudyScene:
    study = StudyScene(slicer.vtkMRMLScene(), Views())
    study.open(ct, reformat(ct, SpineCurve(analysis.curve)), analysis)
    return study


@pytest.fixture
def editor(study: StudyScene, ct: CTVolume, tmp_path) -> Editor:
    journal = Journal(tmp_path / "review.sqlite", study.state(), {})
    yield Editor(study, journal, FakeMachine(ct, None), "reader")
    journal.close()


def drag(study: StudyScene, vertebra_id: str, shift, point: int | None = 1, mirror: bool = False) -> None:
    """Drag a point, or with None all points, as the markups widget does: start, moves of world points, end."""
    markups = study.vertebrae[vertebra_id]
    node = markups.mirror if mirror else markups.node
    node.InvokeEvent(EVENTS.PointStartInteractionEvent)
    for i in range(6) if point is None else [point]:
        position = np.zeros(3)
        node.GetNthControlPointPositionWorld(i, position)
        for step in np.linspace(0, 1, 4)[1:]:
            node.SetNthControlPointPositionWorld(i, *(position + step * np.asarray(shift, float)))
    node.InvokeEvent(EVENTS.PointEndInteractionEvent)


def library(study: StudyScene):
    """Return the library's measurements of the points in the nodes, by id."""
    keypoints = np.stack([study.vertebrae[i].keypoints() for i in study.order])
    return dict(
        zip(study.order, measure_column(keypoints, [study.vertebra(i).spread for i in study.order]), strict=True)
    )


def assert_numbers_are_the_librarys(study: StudyScene) -> None:
    for vertebra_id, expected in library(study).items():
        got = study.measurements[vertebra_id]
        np.testing.assert_allclose(got.heights_mm, expected.heights_mm, atol=1e-9)
        assert got.genant_ratio == pytest.approx(expected.genant_ratio, abs=1e-9)
        assert (got.grade, got.shape, got.borderline) == (expected.grade, expected.shape, expected.borderline)


def test_local_points_are_the_patients_and_world_points_are_straight(study, analysis):
    straightening = Straightening(SpineCurve(analysis.curve))
    for vertebra_id, v in zip(study.order, analysis.vertebrae, strict=True):
        markups = study.vertebrae[vertebra_id]
        np.testing.assert_array_equal(markups.keypoints(), v.keypoints)
        np.testing.assert_allclose(markups.straight(), straightening.to_straight(v.keypoints), atol=0.005)


def test_a_study_reads_back_as_the_record_that_was_opened(study, analysis):
    assert to_json(study.analysis()) == to_json(analysis)
    assert [study.label(i) for i in study.order] == list(LEVELS)


def test_the_straightened_volume_holds_what_the_ct_holds_there(study, ct):
    node = study.nodes["straightened"]
    voxels = slicer.util.arrayFromVolume(node)
    k, j, i = 120, 90, 25
    matrix = slicer.vtkMatrix4x4() if hasattr(slicer, "vtkMatrix4x4") else __import__("vtk").vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    straight = np.array(matrix.MultiplyPoint((i, j, k, 1))[:3])
    assert voxels[k, j, i] == pytest.approx(ct.sample(study.straightening.to_patient(straight)), abs=0.51)


def test_a_ct_node_gives_back_the_ct(study, ct):
    back = ct_of(study.nodes["ct"])
    np.testing.assert_array_equal(back.voxels, ct.voxels)
    np.testing.assert_allclose(back.ijk_to_ras, ct.ijk_to_ras, atol=1e-9)


def test_a_dragged_point_lies_in_the_patient_where_the_straightened_view_shows_it(study, editor):
    for vertebra_id in study.order:
        before = study.vertebrae[vertebra_id].straight()
        drag(study, vertebra_id, (0, 1.5, -6.0))
        wanted = before[1, 0] + (0, 1.5, -6.0)
        got = study.vertebrae[vertebra_id].keypoints()[1, 0]
        assert np.linalg.norm(study.straightening.to_patient(wanted) - got) < 0.05


def test_measurements_and_colour_follow_during_a_drag(study, editor):
    seen = []
    editor.moved = lambda i: seen.append((study.measurements[i].genant_ratio, study.vertebrae[i].node.GetName()))
    vertebra_id = study.order[2]
    assert study.vertebrae[vertebra_id].node.GetDisplayNode().GetSelectedColor() == pytest.approx(COLORS["normal"])
    drag(study, vertebra_id, (0, 0, -9.0))
    ratios = [ratio for ratio, _ in seen]
    assert len(ratios) >= 3 and ratios == sorted(ratios, reverse=True) and ratios[-1] < 0.6
    assert all(ratio_text(ratio) in name for ratio, name in seen)
    assert study.vertebrae[vertebra_id].node.GetDisplayNode().GetSelectedColor() == pytest.approx(COLORS["severe"])
    assert_numbers_are_the_librarys(study)


def test_the_crush_test_of_neighbours_follows_as_well(study, editor):
    vertebra_id, neighbour = study.order[2], study.order[3]
    before = study.measurements[neighbour].crush_ratio
    drag(study, vertebra_id, (0, 0, -9.0), point=0)
    assert study.measurements[neighbour].crush_ratio != before
    assert_numbers_are_the_librarys(study)


def test_a_drag_of_either_node_moves_the_other(study, editor):
    markups = study.vertebrae[study.order[1]]
    drag(study, markups.id, (0, 2, 3))
    np.testing.assert_array_equal(_local(markups.mirror), outline(markups.keypoints()))
    drag(study, markups.id, (0.5, 1, 1), point=4, mirror=True)
    np.testing.assert_array_equal(_local(markups.mirror), outline(markups.keypoints()))
    assert_numbers_are_the_librarys(study)


def _local(node) -> np.ndarray:
    points = np.empty((6, 3))
    for i, row in enumerate(points):
        node.GetNthControlPointPosition(i, row)
    return points


def test_the_results_table_holds_the_same_numbers(study, editor):
    drag(study, study.order[0], (0, 0, -4))
    table = study.nodes["measurements"].GetTable()
    ratios = [table.GetColumnByName("G").GetValue(row) for row in range(table.GetNumberOfRows())]
    assert ratios == [study.measurements[i].genant_ratio for i in study.order]
    assert table.GetColumnByName("level").GetValue(0) == LEVELS[0]


def test_the_results_table_holds_expected_heights_by_the_names_of_measurements_csv(study, editor):
    table = study.nodes["measurements"].GetTable()

    def told() -> list[list[float]]:
        rows = range(table.GetNumberOfRows())
        return [[table.GetColumnByName(name).GetValue(row) for name in tables.EXPECTED] for row in rows]

    def wanted() -> list[list[float]]:
        found = [study.vertebra(i).expected for i in study.order]
        return [[*e.heights_mm, *e.sd_mm, *e.loss, *e.loss_sd] for e in found]

    np.testing.assert_allclose(told(), wanted())
    before = told()[1][tables.EXPECTED.index("hm_loss")]
    drag(study, study.order[1], (0.0, 0.0, -10.0))
    np.testing.assert_allclose(told(), wanted())
    assert told()[1][tables.EXPECTED.index("hm_loss")] > before + 0.1
    grades = [table.GetColumnByName("loss_grade").GetValue(row) for row in range(table.GetNumberOfRows())]
    assert grades == [study.vertebra(i).expected.grade for i in study.order] and grades[1] != "normal"


def test_every_action_can_be_undone_and_redone(study, editor):
    first, second = study.order[:2]
    states = [study.state()]
    acts = (
        lambda: drag(study, first, (0, 1, -3)),
        lambda: drag(study, second, (0, 4, 2), point=None),
        lambda: editor.reset(first),
        lambda: editor.name(second, "T9"),
        lambda: editor.pin(second, False),
        lambda: editor.review(first, "confirmed"),
        lambda: editor.delete(second),
        lambda: editor.place(outline(_box(-212.0))),
        lambda: editor.review(first, "open"),
    )
    for act in acts:
        act()
        states.append(study.state())
    for expected in reversed(states[:-1]):
        assert editor.undo()
        assert study.state() == expected
        assert_numbers_are_the_librarys(study)
    assert editor.undo() is None
    for expected in states[1:]:
        assert editor.redo()
        assert study.state() == expected
    assert editor.redo() is None


def test_a_drag_of_all_points_is_one_action(study, editor):
    vertebra_id = study.order[0]
    before = study.vertebrae[vertebra_id].keypoints()
    drag(study, vertebra_id, (0, 5, -2), point=None)
    assert [act.kind for act in editor.journal.trail()] == ["move"]
    editor.undo()
    np.testing.assert_array_equal(study.vertebrae[vertebra_id].keypoints(), before)


def test_a_click_that_moves_nothing_is_no_action(study, editor):
    drag(study, study.order[0], (0, 0, 0))
    assert editor.journal.trail() == []


def test_a_drag_whose_end_never_comes_is_kept(study, editor):
    vertebra_id = study.order[0]
    node = study.vertebrae[vertebra_id].node
    node.InvokeEvent(EVENTS.PointStartInteractionEvent)
    position = np.zeros(3)
    node.GetNthControlPointPositionWorld(1, position)
    node.SetNthControlPointPositionWorld(1, *(position - [0, 0, 5]))
    editor.finish_drag()
    assert [act.kind for act in editor.journal.trail()] == ["move"]


def take(study: StudyScene, vertebra_id: str, shift=(0.0, 0.0, -5.0)):
    """Start a drag of the upper middle point; return a function that moves it further, and one that ends the drag."""
    node = study.vertebrae[vertebra_id].node

    def move(by) -> None:
        position = np.zeros(3)
        node.GetNthControlPointPositionWorld(1, position)
        node.SetNthControlPointPositionWorld(1, *(position + by))

    node.InvokeEvent(EVENTS.PointStartInteractionEvent)
    move(shift)
    return move, lambda: node.InvokeEvent(EVENTS.PointEndInteractionEvent)


ACTS = {
    "confirmed": lambda editor, ids: editor.review(ids[0], "confirmed"),
    "rejected": lambda editor, ids: editor.review(ids[1], "rejected"),
    "name": lambda editor, ids: editor.shift_level(ids[1], 1),
    "pin": lambda editor, ids: editor.pin(ids[0], True),
    "reset": lambda editor, ids: editor.reset(ids[0]),
    "delete": lambda editor, ids: editor.delete(ids[1]),
    "place": lambda editor, ids: editor.place(outline(_box(-212.0))),
}


@pytest.mark.parametrize("kind", ACTS)
def test_an_action_during_a_drag_comes_after_the_drag_which_is_the_readers(study, editor, analysis, kind):
    """Once, a key pressed during a drag marked the dragged points as detected, and the detected ones were lost."""
    ids = study.order
    _, release = take(study, ids[0])
    ACTS[kind](editor, ids)
    release()
    assert [act.kind for act in editor.journal.trail()] == ["move", kind]
    dragged = editor.journal.trail()[0].changes[ids[0]][1]
    assert dragged["origin"] == "reader"
    np.testing.assert_array_equal(dragged["machine_keypoints"], analysis.vertebrae[0].keypoints)


@pytest.mark.parametrize("act", [lambda editor, _: editor.undo(), ACTS["confirmed"]])
def test_moves_after_an_action_during_a_drag_are_put_back(study, editor, act):
    first = study.order[0]
    move, release = take(study, first)
    act(editor, study.order)
    kinds = [each.kind for each in editor.journal.trail()]
    for _ in range(3):
        move((0.0, 0.0, -1.0))
        assert study.vertebrae[first].state() == editor.journal.state[first]
    release()
    assert [each.kind for each in editor.journal.trail()] == kinds
    assert_numbers_are_the_librarys(study)
    drag(study, first, (0, 0, -3))
    assert [each.kind for each in editor.journal.trail()] == [*kinds, "move"]


def test_the_start_of_a_drag_is_reported_before_any_move(study, editor):
    told = []
    editor.moved = told.append
    study.vertebrae[study.order[1]].node.InvokeEvent(EVENTS.PointStartInteractionEvent)
    assert told == [study.order[1]]


def test_points_moved_by_a_program_are_an_action(study, editor):
    node = study.vertebrae[study.order[0]].node
    position = np.zeros(3)
    node.GetNthControlPointPosition(0, position)
    node.SetNthControlPointPosition(0, *(position + 1))
    assert [act.kind for act in editor.journal.trail()] == ["move"]


def test_an_edited_vertebra_has_origin_reader_and_keeps_its_detected_points(study, editor, analysis):
    vertebra_id = study.order[0]
    editor.review(vertebra_id, "confirmed")
    assert study.vertebra(vertebra_id).reviewer == "reader"
    drag(study, vertebra_id, (0, 0, -3))
    edited = study.vertebra(vertebra_id)
    assert (edited.origin, edited.review, edited.spread) == ("reader", "open", None)
    np.testing.assert_array_equal(edited.machine_keypoints, analysis.vertebrae[0].keypoints)
    drag(study, vertebra_id, (0, 0, -3))
    np.testing.assert_array_equal(study.vertebra(vertebra_id).machine_keypoints, analysis.vertebrae[0].keypoints)
    editor.reset(vertebra_id)
    again = study.vertebra(vertebra_id)
    np.testing.assert_array_equal(again.keypoints, analysis.vertebrae[0].keypoints)
    assert (again.origin, again.spread, again.machine_keypoints) == ("model", 0.05, None)


def test_reset_is_refused_if_there_are_no_detected_points_to_restore(study, editor):
    with pytest.raises(VFQError, match="still has its detected key points") as caught:
        editor.reset(study.order[0])
    assert caught.value.code == "no_machine_points"
    placed = editor.place(outline(_box(-212.0)))
    with pytest.raises(VFQError, match="was placed by a reader"):
        editor.reset(placed)


def test_one_click_adds_a_vertebra_with_the_missing_name(study, editor):
    gone = study.order[2]
    middle = study.vertebrae[gone].straight().mean((0, 1))
    editor.delete(gone)
    added = editor.add(middle)
    assert study.order.index(added) == 2
    assert study.vertebra(added).level == "T11"
    assert study.vertebra(added).origin == "model"
    assert added != gone


def of_detector(letter: str) -> Models:
    """Networks that are only named: a detector with weights of this hash, beside the shipped localizer."""
    stamps = ModelStamp("localizer", "localizer", 64 * "0"), ModelStamp("detector", "detector", 64 * letter)
    return Models(None, None, None, stamps, "cpu")  # type: ignore[arg-type]


def test_a_click_names_the_detector_that_proposed_if_the_case_was_measured_with_another(study, editor):
    middle = study.vertebrae[study.order[2]].straight().mean((0, 1))
    editor.delete(study.order[2])
    before, count = study.analysis().models, len(study.order)
    editor.machine.models = of_detector("2")
    editor.add(middle)
    detectors = [stamp.sha256 for stamp in study.analysis().models if stamp.role == "detector"]
    assert detectors == [stamp.sha256 for stamp in before if stamp.role == "detector"] + [64 * "2"]
    assert [stamp.role for stamp in study.analysis().models].count("localizer") == len(
        [stamp for stamp in before if stamp.role == "localizer"]
    )
    editor.undo()
    assert study.analysis().models == before and len(study.order) == count
    editor.redo()
    assert [stamp.sha256 for stamp in study.analysis().models][-1] == 64 * "2" and len(study.order) == count + 1
    editor.delete(study.order[2])
    kinds = len(editor.journal.trail())
    editor.add(middle)
    assert [stamp.sha256 for stamp in study.analysis().models].count(64 * "2") == 1
    assert CURVE not in editor.journal.trail()[kinds].changes


def test_the_detector_that_measured_the_case_is_named_once(study, editor):
    editor.machine.models = of_detector("1")
    gone = study.order[2]
    study.nodes["study"].SetText(
        json.dumps(to_json(replace(study.analysis(), vertebrae=(), models=editor.machine.models.stamps)))
    )
    middle = study.vertebrae[gone].straight().mean((0, 1))
    editor.delete(gone)
    editor.add(middle)
    assert study.analysis().models == editor.machine.models.stamps


def test_a_click_on_an_existing_vertebra_adds_none(study, editor):
    with pytest.raises(VFQError) as caught:
        editor.add(study.vertebrae[study.order[1]].straight().mean((0, 1)))
    assert caught.value.code == "vertebra_there"
    assert len(study.order) == len(LEVELS)


def test_a_click_where_the_network_sees_nothing_adds_none(study, editor):
    editor.machine.propose = lambda curve, straight: replace(study.vertebra(study.order[0]), score=0.001)
    with pytest.raises(VFQError) as caught:
        editor.add(np.array([0.0, 50.0, -225.0]))
    assert caught.value.code == "no_vertebra_here"


def test_a_rejected_vertebra_cannot_be_dragged_by_mistake(study, editor):
    vertebra_id = study.order[1]
    editor.review(vertebra_id, "rejected")
    assert study.vertebrae[vertebra_id].node.GetLocked() and study.vertebrae[vertebra_id].mirror.GetLocked()
    editor.undo()
    assert not study.vertebrae[vertebra_id].node.GetLocked()


def test_six_clicks_place_a_vertebra_by_hand(study, editor):
    clicks = outline(_box(-212.0))
    placed = editor.place(clicks)
    np.testing.assert_allclose(outline(study.vertebrae[placed].straight()), clicks, atol=0.01)
    assert study.vertebra(placed).origin == "reader"
    assert study.vertebra(placed).level == "L3"


def test_naming_one_vertebra_names_the_others_and_a_pin_holds(study, editor):
    editor.name(study.order[0], "T10")
    assert [study.vertebra(i).level for i in study.order] == ["T10", "T11", "T12", "L1", "L2", "L3"]
    assert study.vertebra(study.order[0]).pinned
    editor.shift_level(study.order[-1], 1)
    assert study.vertebra(study.order[-1]).level == "L4"
    assert study.vertebra(study.order[0]).level == "T10"


def test_a_doubtful_name_is_marked_until_a_reader_names_one(study, editor):
    first, second = study.order[:2]
    study.put(
        {i: {**study.vertebrae[i].state(), "level_probabilities": {"T9": 0.7, "T10": 0.7}} for i in (first, second)}
    )
    assert "70%" in rows(study, study.order)[0]["doubt"]
    assert study.vertebrae[second].node.GetName().startswith("T10?  ")
    editor.name(first, "T9")
    assert not any(row["doubt"] for row in rows(study, study.order))
    assert study.vertebrae[second].node.GetName().startswith("T10  ")


def test_swapped_points_are_drawn_as_faulty_and_asked_for_before_they_are_confirmed(study, editor):
    vertebra_id = study.order[0]
    drag(study, vertebra_id, (0, 0, -30.0))
    assert study.faults[vertebra_id]
    assert study.vertebrae[vertebra_id].node.GetDisplayNode().GetSelectedColor() == pytest.approx(COLORS["faulty"])
    with pytest.raises(VFQError) as caught:
        editor.review(vertebra_id, "confirmed")
    assert caught.value.code == "impossible_vertebra" and "lower point lies above" in caught.value.message
    assert editor.by_doubt()[0] == vertebra_id and not study.counts(vertebra_id)
    assert vertebra_id not in editor.certain()
    editor.review(vertebra_id, "confirmed", anyway=True)
    assert editor.journal.trail()[-1].kind == "confirmed anyway" and study.counts(vertebra_id)
    editor.review(vertebra_id, "rejected")
    assert editor.by_doubt()[-1] == vertebra_id


def test_the_review_opens_at_the_worst_vertebra_and_the_patients_views_follow(begun):
    review = begun()
    drag(review.study, review.order[4], (0, 0, -6.0))
    drag(review.study, review.order[3], (0, 0, -9.0))
    worst = review.order[3]
    review.close()
    review = begun()
    assert review.selected == worst
    others = review.face.patient

    def centres() -> list[np.ndarray]:
        return [np.array([n.GetSliceToRAS().GetElement(i, 3) for i in range(3)]) for n in others]

    for vertebra_id in (worst, review.order[0]):
        review.select(vertebra_id)
        for centre in centres():
            np.testing.assert_allclose(centre, review.study.vertebrae[vertebra_id].keypoints().mean((0, 1)), atol=1e-6)
    node = review.study.vertebrae[review.order[5]].node
    node.InvokeEvent(EVENTS.PointStartInteractionEvent)  # a drag selects too
    assert review.selected == review.order[5]
    for centre in centres():
        np.testing.assert_allclose(centre, review.study.vertebrae[review.order[5]].keypoints().mean((0, 1)), atol=1e-6)
    node.InvokeEvent(EVENTS.PointEndInteractionEvent)
    review.act("fit_views")
    np.testing.assert_allclose(
        centres()[0], review.study.vertebrae[review.order[5]].keypoints().mean((0, 1)), atol=1e-6
    )


def test_first_row_takes_impossible_then_worst_then_doubtful_then_open(study, editor):
    assert first_row(study) == study.order[0]
    editor.review(study.order[0], "confirmed")
    assert first_row(study) == study.order[1]
    drag(study, study.order[4], (0, 0, -5.5))
    drag(study, study.order[3], (0, 0, -9.0))
    assert first_row(study) == study.order[3]
    drag(study, study.order[5], (0, 0, 30.0), point=0)
    assert first_row(study) == study.order[5]
    for each in study.order:
        editor.review(each, "rejected")
    assert first_row(study) == study.order[0]


def test_a_close_up_is_filled_by_each_body_that_is_walked_to(begun):
    review = begun()
    node = review.face.straightened
    node.SetDimensions(400, 800, 1)
    review.act("fit_views")
    whole = node.GetFieldOfView()[1]
    review.act("finish_clicks")  # Enter outside a click mode
    assert review.close_up
    for action, at in (("next_vertebra", 1), ("confirm", 2), ("previous_vertebra", 1)):
        review.act(action)
        assert review.selected == review.order[at]
        body = review.study.vertebrae[review.selected].straight()
        assert node.GetSliceToRAS().GetElement(1, 3) == pytest.approx(body[..., 1].mean(), abs=0.5)
        assert node.GetSliceToRAS().GetElement(2, 3) == pytest.approx(body[..., 2].mean(), abs=0.5)
        wide, high, _ = node.GetFieldOfView()
        assert 1.4 < min(wide / np.ptp(body[..., 1]), high / np.ptp(body[..., 2])) < 1.6
        assert review.lateral == pytest.approx(body[..., 0].mean())
    review.act("finish_clicks")
    assert not review.close_up and node.GetFieldOfView()[1] == pytest.approx(whole)


def test_beside_their_plane_points_are_faint_and_locked_until_a_key_goes_there(begun):
    review = begun()
    markups = review.study.vertebrae[review.selected]
    own = review.study.plane_of(review.selected)
    assert (review.note, markups.node.GetLocked()) == ("", 0)
    review.act("move_lateral", own + 6.0)
    assert "6.0 mm right of the points of T9" in review.note and "j goes" in review.note
    assert markups.node.GetLocked() and markups.node.GetDisplayNode().GetOpacity() < 0.5
    assert not markups.mirror.GetLocked()  # the patient's views are on the points
    review.act("confirm")
    review.act("undo")
    assert markups.node.GetLocked()
    review.act("own_plane")
    assert (review.note, markups.node.GetLocked(), markups.node.GetDisplayNode().GetOpacity()) == ("", 0, 1.0)


def test_the_overlay_is_hidden_everywhere_and_for_new_vertebrae_as_well(begun):
    review = begun()

    def visible() -> set[int]:
        nodes = [n for v in review.study.vertebrae.values() for n in (v.node, v.mirror)]
        nodes += [review.study.nodes[role] for role in ("outlines", "outlines-patient")]
        return {n.GetDisplayNode().GetVisibility() for n in nodes}

    review.act("delete")
    review.act("toggle_overlay")
    review.act("undo")
    assert visible() == {0} and "hidden" in review.note
    review.act("toggle_overlay")
    assert visible() == {1} and review.note == ""


def test_the_window_is_adjusted_and_a_preset_restores_it(begun):
    review = begun()
    shown = [review.study.nodes[role].GetDisplayNode() for role in ("ct", "straightened")]
    review.act("adjust_window", -200.0, 50.0)
    assert [(d.GetWindow(), d.GetLevel()) for d in shown] == [(1300.0, 350.0)] * 2 == [review.window] * 2
    review.act("adjust_window", -1e6, 0.0)
    assert review.window[0] > 0
    review.act("toggle_window")
    assert (review.preset, review.window) == ("bone", (1500.0, 300.0))


def test_the_place_under_the_mouse_has_hu_and_the_patients_coordinates(begun, ct):
    review = begun()
    straight = np.array([0.0, 0.0, -100.0])
    patient = review.study.straightening.to_patient(straight)
    text = review.place_text(review.face.straightened, straight)
    assert text.startswith(f"{float(ct.sample(patient)):.0f} HU") and f"I {abs(patient[2]):.1f}" in text
    assert review.place_text(review.face.patient[0], patient) == text
    assert review.place_text(review.face.patient[0], np.array([0.0, 0.0, 5000.0])) == ""


def test_a_complete_review_has_a_text_and_images_beside_the_automatic_ones(begun, case):
    review = begun()
    with pytest.raises(VFQError) as refused:
        review.completed()
    assert refused.value.code == "study_open" and "T9" in refused.value.message
    (case.folder / "overview.png").write_bytes(b"automatic")
    drag(review.study, review.order[3], (0, 0, -9.0))
    with pytest.raises(VFQError) as unnamed:
        review.sign_as("  ")
    assert unnamed.value.code == "no_reader"
    review.sign_as(" Dr.  Other ")
    for each in review.order:
        review.editor.review(each, "confirmed")
    review.editor.review(review.order[0], "rejected")
    assert review.study.vertebra(review.order[1]).reviewer == "Dr. Other"
    text, write = review.completed()
    assert "5 vertebral bodies from T10 to L2" in text and "Vertebral fracture of T12, severe (Genant 3), bicon" in text
    assert "Spinal deformity index 3;" in text and "T9 (rejected by the reader as not measurable)." in text
    assert "Reviewed by Dr. Other, last on" in text and "Signed by Dr. Other on" in text
    assert review.saving()() == ""
    assert "straightened.nrrd" in write()
    drawn = (case.folder / "overview.png").read_bytes()
    assert drawn.startswith(b"\x89PNG") and (case.folder / "machine-overview.png").read_bytes() == b"automatic"
    assert (case.folder / "machine-straightened.nrrd").exists()
    assert review.saving()() == ""  # nothing changed, so the images still belong to the numbers
    assert (case.folder / "overview.png").read_bytes() == drawn
    review.act("undo")
    assert review.saving()() == ""
    assert not (case.folder / "overview.png").exists() and not (case.folder / "straightened.nrrd").exists()
    assert (case.folder / "machine-overview.png").read_bytes() == b"automatic"


def impossible_ids(study: StudyScene) -> list[str]:
    return [row["id"] for row in rows(study, study.order) if not row["counts"]]


def test_a_point_dragged_far_away_changes_neither_the_neighbours_nor_the_patients_grade(study, editor):
    before, moved = dict(study.measurements), study.order[1]
    drag(study, study.order[4], (0, 0, -6.0))  # a moderate fracture, for a patient with a grade
    known = summary(study)
    shown = {r["id"]: r for r in rows(study, study.order)}
    seen = []

    def follow(_):
        seen.append(impossible_ids(study))
        shown.update({i: rows(study, [i])[0] for i in study.followed})

    editor.moved = follow
    drag(study, moved, (0, 0, 30.0))  # M+
    assert seen[-1] == [moved]
    assert [r for i, r in shown.items() if i != moved] == [r for r in rows(study, study.order) if r["id"] != moved]
    row = rows(study, study.order)[1]
    assert "hardly possible" in row["fault"] and float(row["hm"]) > 50
    for other in (*study.order[:1], *study.order[2:4]):
        assert study.measurements[other].grade == before[other].grade == "normal"
    now = summary(study)
    assert (now["worst"], now["sdi"], now["grade"]) == (known["worst"], known["sdi"], known["grade"])
    assert now["assessed"] == len(LEVELS) - 1 and f"{LEVELS[1]} is not counted" in now["quality"][0]
    assert editor.by_doubt()[0] == moved
    record = study.analysis()
    assert record.not_counted == (LEVELS[1],) and record.vertebrae[1].impossible
    assert (record.patient_grade, record.spinal_deformity_index) == (now["grade"], now["sdi"])
    editor.undo()
    assert impossible_ids(study) == [] and study.analysis().not_counted == ()


def test_an_overlap_and_points_outside_the_scan_are_named_at_once_and_a_crush_is_not(study, editor):
    third = study.order[2]
    drag(study, third, (0, 0, 13.5), point=0)
    assert "overlaps the vertebra above" in study.impossible[third] and len(study.impossible) == 1
    editor.undo()
    drag(study, third, (0, 0, -17.0), point=None)  # all points, into the vertebra below
    assert set(study.impossible) == set(study.order[2:4])
    editor.review(third, "rejected")
    assert study.impossible == {}
    for _ in range(2):
        editor.undo()
    for point, drop in ((0, -15.0), (1, -15.0), (2, -15.0)):
        drag(study, third, (0, 0, drop), point=point)
    assert study.impossible == {} and study.measurements[third].grade == "severe"
    assert rows(study, study.order)[2]["neighbours"].endswith(" of neighbours")
    drag(study, study.order[0], (0, 40.0, 0), point=0)
    assert study.order[0] in study.impossible


def test_points_outside_the_scan_are_named(study, editor):
    first = study.order[0]
    state = study.vertebrae[first].state()
    far = (np.asarray(state["keypoints"]) + [300.0, 0, 0]).tolist()
    study.put({first: {**state, "keypoints": far}})
    assert study.impossible[first]


def test_a_second_press_confirms_what_is_impossible_and_the_journal_records_it(begun, case):
    review = begun()
    third = review.order[2]
    drag(review.study, third, (0, 0, 13.5), point=0)
    review.select(third)
    review.act("confirm")
    assert "overlaps" in review.face.said[-1] and "once more" in review.face.said[-1]
    review.select(review.order[1])
    review.select(third)
    review.act("confirm")  # something came in between, so the question is asked again
    assert reviews_of(review)[2] == "open"
    review.act("confirm")
    assert reviews_of(review)[2] == "confirmed"
    assert review.editor.journal.trail()[-1].kind == "confirmed anyway"
    assert review.study.counts(third) and third in review.study.impossible
    assert review.saving()() == ""
    saved = read_analysis(case.folder / "analysis.json")
    assert saved.vertebrae[2].impossible and saved.not_counted == ()
    review.act("undo")
    assert reviews_of(review)[2] == "open" and not review.study.counts(third)


def test_a_drag_under_way_to_an_impossible_place_is_not_in_the_record(begun, case):
    review = begun()
    before = review.study.analysis()
    node = review.study.vertebrae[review.order[2]].node
    node.InvokeEvent(EVENTS.PointStartInteractionEvent)
    position = np.zeros(3)
    node.GetNthControlPointPositionWorld(1, position)
    node.SetNthControlPointPositionWorld(1, *(position + [0, 0, 60.0]))
    assert review.study.impossible
    review.act("level_up")  # an action during the drag
    review.act("undo")
    review.act("undo")
    held = {review.order[2]: before.vertebrae[2].keypoints}
    assert review.study.analysis(held).not_counted == ()
    node.InvokeEvent(EVENTS.PointEndInteractionEvent)


def test_a_new_curve_keeps_edited_vertebrae_and_can_be_undone(study, editor, analysis, ct):
    moved, named = study.order[1], study.order[4]
    drag(study, moved, (0, 2, -3))
    editor.name(named, "L1")
    before, record = study.state(), to_json(study.analysis())
    kept = study.vertebrae[moved].keypoints()
    points = analysis.curve[::40] + [2.0, 1.0, 0.0]
    curve = fit_curve(points)
    found = replace(
        analysis,
        models=(ModelStamp("detector", "another", "ab" * 32),),
        curve=curve.points,
        vertebrae=analysis.vertebrae[:3],
        timing_s={"total": 7.0},
    )
    editor.rescue(Rescued.of(editor.known(), found, reformat(ct, curve)))
    assert len(study.order) == 4  # two edited ones, and two of the three found: one of them is where an edited one is
    np.testing.assert_array_equal(study.vertebrae[moved].keypoints(), kept)
    np.testing.assert_allclose(study.straightening.curve.points, curve.points)
    np.testing.assert_allclose(study.vertebrae[moved].straight(), Straightening(curve).to_straight(kept), atol=0.005)
    levels = [study.vertebra(i).level for i in study.order]
    assert levels[study.order.index(named)] == "L1"
    assert levels == sorted(levels, key=NAMES.index)  # the new ones are named to match the reader's name
    assert (study.analysis().models, study.analysis().timing_s) == (found.models, found.timing_s)
    editor.undo()
    assert study.state() == before and to_json(study.analysis()) == record
    np.testing.assert_allclose(study.straightening.curve.points, analysis.curve)


@pytest.mark.parametrize("scene_first", [False, True])
def test_a_journal_from_before_the_curve_had_networks_and_timing_is_continued(study, ct, tmp_path, scene_first):
    older = study.state()
    older["curve"] = {key: older["curve"][key] for key in ("curve", "limits_mm", "status", "message")}
    journal = Journal(tmp_path / "older.sqlite", older, {})
    editor = Editor(study, journal, FakeMachine(ct, None), "reader", scene_first)
    assert journal.trail() == []
    editor.delete(study.order[0])
    editor.undo()
    assert len(study.order) == len(LEVELS)
    journal.close()


def test_after_a_restart_everything_is_as_before_and_undo_still_works(study, editor, analysis, ct, tmp_path):
    drag(study, study.order[0], (0, 1, -4))
    editor.delete(study.order[3])
    editor.review(study.order[1], "rejected")
    expected = study.state()
    editor.journal.close()
    again = StudyScene(slicer.vtkMRMLScene(), Views())
    again.open(ct, reformat(ct, SpineCurve(analysis.curve)), analysis)
    journal = Journal(tmp_path / "review.sqlite", again.state(), {})
    restarted = Editor(again, journal, FakeMachine(ct, None), "reader")
    assert again.state() == expected
    assert_numbers_are_the_librarys(again)
    for _ in range(3):
        restarted.undo()
    assert to_json(again.analysis()) == to_json(analysis)
    journal.close()


def test_the_record_of_an_edited_study_survives_its_json(study, editor):
    drag(study, study.order[0], (0, 1.2345678, -4.1))
    record = study.analysis()
    back = from_json(to_json(record))
    for v, w in zip(record.vertebrae, back.vertebrae, strict=True):
        np.testing.assert_array_equal(v.keypoints, w.keypoints)
        assert v.measurement == w.measurement


def test_a_saved_slicer_scene_opens_again_with_live_measurement(study, editor, tmp_path):
    app_core = pytest.importorskip("trame_slicer.core")
    drag(study, study.order[0], (0, 1, -4.5))
    expected = study.analysis()
    writer = app_core.SlicerApp()
    writer_study = StudyScene(writer.scene, Views())
    writer_study.open(editor.machine.ct, reformat(editor.machine.ct, study.straightening.curve), expected)
    assert writer.io_manager.save_scene(tmp_path / "study.mrb")

    reader = app_core.SlicerApp()
    assert reader.io_manager.load_scene(tmp_path / "study.mrb")
    back = StudyScene(reader.scene, Views())
    back.reopen()
    assert [back.label(i) for i in back.order] == list(LEVELS)
    for v, w in zip(expected.vertebrae, back.analysis().vertebrae, strict=True):
        assert w.measurement.genant_ratio == pytest.approx(v.measurement.genant_ratio, abs=1e-9)
        np.testing.assert_allclose(w.keypoints, v.keypoints, atol=1e-9)
    drag(back, back.order[2], (0, 0, -5))
    assert_numbers_are_the_librarys(back)
    np.testing.assert_array_equal(
        _local(back.vertebrae[back.order[2]].mirror), outline(back.analysis().vertebrae[2].keypoints)
    )


def test_a_scene_without_a_study_is_refused():
    with pytest.raises(VFQError, match="contains no reviewed study") as caught:
        StudyScene(slicer.vtkMRMLScene(), Views()).reopen()
    assert caught.value.code == "empty_scene"


def test_closing_a_study_leaves_nothing_in_the_scene(study):
    study.close()
    assert study.scene.GetNumberOfNodesByClass("vtkMRMLMarkupsNode") == 0
    assert study.scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 0
    assert study.scene.GetNumberOfNodesByClass("vtkMRMLModelNode") == 0


def test_a_move_is_measured_within_a_few_milliseconds(study, editor):
    node = study.vertebrae[study.order[2]].node
    position, times = np.zeros(3), []
    node.GetNthControlPointPositionWorld(1, position)
    node.InvokeEvent(EVENTS.PointStartInteractionEvent)
    for i in range(40):
        lower = position - [0, 0, 0.1 * i]
        times.append(processor_ms(lambda lower=lower: node.SetNthControlPointPositionWorld(1, *lower)))
    assert np.median(times) / slowness() < 10


def test_without_weights_a_reader_can_place_points_by_hand_and_sees_why(study, tmp_path, ct):
    why = VFQError("bad_weights", "The weights of the detector are damaged. Install the package again.")
    journal = Journal(tmp_path / "review.sqlite", study.state(), {})
    editor = Editor(study, journal, Machine(ct, None, why), "reader")
    with pytest.raises(VFQError, match="weights of the detector are damaged"):
        editor.add(np.array([0.0, 0.0, -212.0]))
    assert study.vertebra(editor.place(outline(_box(-212.0)))).origin == "reader"
    journal.close()


@pytest.fixture
def case(analysis, ct, tmp_path) -> Case:
    """A case on disk, analysed."""
    write_ct(ct, tmp_path / "scan.nii.gz")
    case = Case("scan", tmp_path / "scan.nii.gz", tmp_path / "out" / "scan")
    case.folder.mkdir(parents=True)
    (case.folder / "analysis.json").write_text(json.dumps(to_json(analysis)))
    return case


def _rewrite(case: Case, **changes) -> None:
    path = case.folder / "analysis.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_case_is_prepared_with_the_straightened_image_of_its_curve(case, analysis):
    prepared = read_study(case.source, case.folder, case.name)
    assert len(prepared.analysis.vertebrae) == len(LEVELS)
    np.testing.assert_array_equal(prepared.made.straightening.curve.points, analysis.curve)


def test_an_analysis_of_a_newer_version_is_refused(case):
    _rewrite(case, schema="vfq-analysis/2")
    with pytest.raises(VFQError, match="newer version") as caught:
        read_study(case.source, case.folder, case.name)
    assert caught.value.code == "newer_schema"


def test_an_analysis_of_another_ct_is_refused(case, ct):
    write_ct(replace(ct, ijk_to_ras=ct.ijk_to_ras @ np.diag([1, 1, 1.01, 1])), case.source)
    with pytest.raises(VFQError) as caught:
        read_study(case.source, case.folder, case.name)
    assert caught.value.code == "other_ct"


def test_a_scan_in_which_nothing_was_found_is_shown_along_its_middle(case, ct):
    nothing = {"shape": None, "spacing_mm": None, "ijk_to_ras": None}
    _rewrite(case, status="no_spine_found", message="No spine found.", curve=[], vertebrae=[], source=nothing)
    prepared = read_study(case.source, case.folder, case.name)
    assert prepared.analysis.status == "no_spine_found"
    middle = prepared.made.straightening.curve.points.mean(0)
    corners = np.array([[0, 0, 0, 1], [84, 79, 89, 1]]) @ ct.ijk_to_ras.T
    np.testing.assert_allclose(middle, corners[:, :3].mean(0), atol=1.5)


def test_a_scan_that_is_no_ct_stays_a_failure(case):
    _rewrite(case, status="not_ct", message="These are labels.", vertebrae=[])
    with pytest.raises(VFQError, match="These are labels") as caught:
        read_study(case.source, case.folder, case.name)
    assert caught.value.code == "not_ct"


# --- a review, with a face that only records


class Listening:
    """A `Face` with slice nodes, and no program around it."""

    def __init__(self, scene):
        self.straightened, *self.patient = (scene.AddNewNodeByClass("vtkMRMLSliceNode", name) for name in "SXYZ")
        for node, name in zip((self.straightened, *self.patient), "SXYZ", strict=True):
            node.SetLayoutName(name)
        self.cameras, self.said, self.renderer = (), [], None

    def tell(self, what) -> None:
        self.said.append(str(what))

    def later(self, do) -> None:
        do()

    def opened(self) -> None: ...

    changed = render = acted = opened

    def followed(self, vertebra_ids) -> None: ...


@pytest.fixture
def begun(case) -> Iterator[Callable[[], Review]]:
    """Return a function that opens the review of `case`; `close()` the review before the next call."""
    opened: list[Review] = []

    def begin(given: Path | None = None) -> Review:
        scene = slicer.vtkMRMLScene()
        opened.append(Review(StudyScene(scene, Views()), Listening(scene), "reader"))
        opened[-1].open(
            read_study(case.source, case.folder, case.name, given), case.folder, VFQError("bad_weights", "-")
        )
        return opened[-1]

    yield begin
    if opened:
        opened[-1].close()


def reviews_of(review: Review) -> list[str]:
    return [review.study.vertebra(i).review for i in review.order]


@pytest.mark.parametrize("loss", [Path.unlink, lambda file: file.write_bytes(b"")])
def test_a_review_without_its_journal_is_restored_from_its_files(begun, case, loss):
    review = begun()
    review.act("confirm")
    review.act("delete")
    drag(review.study, review.order[2], (0, 0, -4))
    left = review.study.analysis()
    assert review.saving()() == ""
    review.close()
    loss(case.folder / "review.sqlite")
    again = begun()
    assert "journal" in again.face.said[-1]
    assert reviews_of(again) == [v.review for v in left.vertebrae]
    assert [v.measurement for v in again.study.analysis().vertebrae] == [v.measurement for v in left.vertebrae]
    again.act("undo")
    assert reviews_of(again) == ["open"] * len(LEVELS)


def test_a_drag_under_way_is_not_saved_as_detected_points(begun, case):
    review = begun()
    review.act("confirm")
    before = review.study.analysis()
    take(review.study, review.order[3])
    assert review.saving()() == ""
    for saved, known in zip(read_analysis(case.folder / "analysis.json").vertebrae, before.vertebrae, strict=True):
        np.testing.assert_array_equal(saved.keypoints, known.keypoints)
        assert (saved.measurement, saved.origin) == (known.measurement, known.origin)


def test_actions_that_the_disk_refused_are_recovered_from_another_folder(begun, case, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    review = begun()
    review.act("confirm")
    with monkeypatch.context() as full:
        full.setattr(Journal, "flush", lambda journal: setattr(journal, "problem", "The disk is full."))
        review.act("reject")
        review.act("confirm")
        with pytest.raises(VFQError, match=r"2 actions could not be written.*review-unsaved\.json"):
            review.abandon()
    review = begun()
    assert reviews_of(review)[:3] == ["confirmed", "open", "open"]
    review.close()
    (kept,) = tmp_path.glob("vfq-unsaved-*.json")
    kept.rename(case.folder / "review-unsaved.json")
    review = begun()
    assert reviews_of(review)[:3] == ["confirmed", "rejected", "confirmed"] and "2 actions" in review.face.said[-1]
    assert not (case.folder / "review-unsaved.json").exists()
    review.act("undo")
    assert reviews_of(review)[2] == "open"


@pytest.mark.parametrize("text", ["{", "[{}]", '[{"number": 7, "at": "", "who": "", "kind": "pin", "changes": {}}]'])
def test_a_file_of_unsaved_actions_that_does_not_fit_is_left_as_it_is(begun, case, text):
    file = case.folder / "review-unsaved.json"
    file.write_text(text)
    review = begun()
    assert "left as it is" in review.face.said[-1] and file.read_text() == text
    assert reviews_of(review) == ["open"] * len(LEVELS)


def test_a_case_opened_with_an_analysis_from_elsewhere_opens_later_without_it(begun, case, tmp_path):
    given = (case.folder / "analysis.json").rename(tmp_path / "given.json")
    case.folder.rmdir()
    begun(given).close()
    begun(given).close()
    assert len(begun().order) == len(LEVELS)


def test_another_analysis_is_not_mixed_with_the_reviewed_one(begun, case, tmp_path):
    other = json.loads((case.folder / "analysis.json").read_text())
    other["vertebrae"] = other["vertebrae"][1:]
    (tmp_path / "other.json").write_text(json.dumps(other))
    begun().close()
    with pytest.raises(VFQError, match="another analysis") as refused:
        read_study(case.source, case.folder, case.name, tmp_path / "other.json")
    assert refused.value.code == "output_exists"


def test_six_clicks_are_refused_on_an_existing_vertebra_and_if_they_coincide(study, editor):
    there = study.vertebrae[study.order[1]].straight()
    with pytest.raises(VFQError) as refused:
        editor.place(outline(there))
    assert refused.value.code == "vertebra_there"
    with pytest.raises(VFQError) as refused:
        editor.place(np.zeros((6, 3)) + [0.0, 0.0, -212.0])
    assert refused.value.code == "faulty_vertebra"
    assert len(study.order) == len(LEVELS) and editor.journal.trail() == []


def test_without_an_assessed_vertebra_there_is_no_sdi(study, editor):
    for vertebra_id in study.order:
        editor.review(vertebra_id, "rejected")
    assert (summary(study)["sdi"], summary(study)["assessed"]) == (None, 0)


def test_doubts_follow_the_points_the_review_and_the_curve(study, editor, analysis):
    assert study.quality() == ()
    third = study.order[2]
    editor.delete(third)
    [gap] = study.quality()
    assert gap.code == "column_gap" and len(gap.where) == 2
    assert editor.by_doubt()[0] in study.order[1:3]
    assert study.analysis().quality == (gap,)
    for each in study.order[1:3]:
        editor.review(each, "confirmed")
    assert study.quality() == () and study.flags[study.order[1]]
    for _ in range(3):
        editor.undo()
    assert study.quality() == ()


def test_flags_of_the_detection_end_where_a_reader_set_the_points(ct, analysis, tmp_path):
    kinds = [Flag("curve_off_bone", "Off."), Flag("metal", "Metal.")]
    first = replace(analysis.vertebrae[0], quality=tuple(kinds))
    of_study = (Flag("thick_slices", "Thick."), *(replace(flag, where=(LEVELS[0],)) for flag in kinds))
    doubted = replace(analysis, vertebrae=(first, *analysis.vertebrae[1:]), quality=of_study)
    study = StudyScene(slicer.vtkMRMLScene(), Views())
    study.open(ct, reformat(ct, SpineCurve(analysis.curve)), doubted)
    journal = Journal(tmp_path / "doubts.sqlite", study.state(), {})
    editor = Editor(study, journal, FakeMachine(ct, None), "reader")
    assert [f.code for f in study.quality()] == ["curve_off_bone", "metal", "thick_slices"]
    assert study.quality()[0].where == (LEVELS[0],)
    drag(study, study.order[0], (0, 0, 0.5))
    assert [f.code for f in study.quality()] == ["metal", "thick_slices"]
    editor.undo()
    assert len(study.quality()) == 3
    journal.close()


def test_a_physiologic_shape_follows_the_level_and_the_points(study, editor):
    last = study.order[-1]
    editor.name(last, "L5")
    low = study.vertebrae[last].straight()[2]
    shift = (0.0, 0.0, -0.24 * float(np.ptp(low[:, 2])))
    drag(study, last, shift, point=2)  # P+
    assert study.measurements[last].grade in ("mild", "moderate")
    assert study.physiologic == {last: "Lower behind, as usual for L5."}
    told = summary(study)
    assert (told["grade"], told["sdi"], told["physiologic"]) == ("normal", 0, "L5")
    assert study.analysis().vertebrae[-1].physiologic == "Lower behind, as usual for L5."
    assert rows(study, study.order)[-1]["physiologic"] and rows(study, study.order)[-1]["grade"] != "normal"
    editor.name(last, "L1")
    assert study.physiologic == {} and summary(study)["grade"] in ("mild", "moderate")
    editor.undo()
    assert study.physiologic
