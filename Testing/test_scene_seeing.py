"""What helps a reader to see, without a program around it: reference lines, windows, labels, the loupe's picture."""

from __future__ import annotations

import numpy as np
import pytest
import test_scene
import vtk
from test_scene import drag, slicer
from VertebralFractureQuantLib.imaging.ct import CTVolume
from VertebralFractureQuantLib.scene.keys import ACTIONS
from VertebralFractureQuantLib.scene.labels import Label, Labels
from VertebralFractureQuantLib.scene.loupe import HALF_MM, PITCH_MM, sampled, shades
from VertebralFractureQuantLib.scene.outlines import PALETTES
from VertebralFractureQuantLib.scene.references import CUTS, MARGIN_MM, STEP_MM, VIEWS_OF, Surface
from VertebralFractureQuantLib.scene.rows import rows
from VertebralFractureQuantLib.scene.straight import ANTERIOR_MM, LATERAL_MM, TUBE_MM, tube
from VertebralFractureQuantLib.scene.volumes import WINDOWS, content_window, voxels_of
from VertebralFractureQuantLib.spine.curve import SpineCurve
from VertebralFractureQuantLib.spine.record import remeasured
from VertebralFractureQuantLib.spine.straightening import Straightening
from vtk.util.numpy_support import vtk_to_numpy

ct, analysis, case, begun = test_scene.ct, test_scene.analysis, test_scene.case, test_scene.begun  # fixtures


# --- reference lines


# The first three columns of SliceToRAS: to the right and up in the view, and along its normal.
AXES = {
    "Sagittal": [[0, 0, 1], [-1, 0, 0], [0, 1, 0]],
    "Coronal": [[-1, 0, 0], [0, 0, 1], [0, 1, 0]],
    "Axial": [[-1, 0, 0], [0, 1, 0], [0, 0, 1]],
}


def turn(node, orientation: str) -> None:
    """Turn a slice node as Slicer's orientation of this name; a scene of tests knows no names."""
    for row in range(3):
        for column in range(3):
            node.GetSliceToRAS().SetElement(row, column, AXES[orientation][row][column])
    node.UpdateMatrices()


def points_of(review, role: str) -> np.ndarray:
    """Return the points that a role's cells use `(n, 3)`."""
    data = review.study.nodes[role].GetPolyData()
    cells = data.GetLines() if role in CUTS else data.GetPolys()
    used = np.unique(vtk_to_numpy(cells.GetConnectivityArray()))
    return vtk_to_numpy(data.GetPoints().GetData())[used]


def normal_and_origin(node) -> tuple[np.ndarray, np.ndarray]:
    matrix = slicer.util.arrayFromVTKMatrix(node.GetSliceToRAS())
    return matrix[:3, 2], matrix[:3, 3]


def test_the_straightened_plane_is_a_surface_in_the_patient_and_follows_its_offset(begun):
    review = begun()
    straightening = review.study.straightening
    for lateral in (0.0, 7.0):
        review.act("move_lateral", lateral)
        straight = straightening.to_straight(points_of(review, "reference-plane"))
        near = np.abs(straight[:, 1]) < 30  # farther away, neighbouring normal planes may cross
        np.testing.assert_allclose(straight[near, 0], lateral, atol=0.05)
        assert np.ptp(straight[near, 2]) > straightening.curve.length - 3 * STEP_MM


@pytest.mark.parametrize("role", CUTS)
def test_a_patients_plane_is_drawn_where_it_cuts_the_straightened_image_but_not_over_bodies(begun, role):
    review = begun()
    node = review.face.patient[CUTS[role]]
    turn(node, ("Sagittal", "Coronal", "Axial")[CUTS[role]])
    review.act("move_lateral", 3.0)
    drawn = []
    for vertebra_id in review.order[1:4]:
        review.select(vertebra_id)
        cut = points_of(review, role)
        normal, origin = normal_and_origin(node)
        away = (review.study.straightening.to_patient(cut) - origin) @ normal
        near = np.abs(cut[:, 1]) < 30
        assert near.sum() >= 4
        np.testing.assert_allclose(away[near], 0, atol=0.3)  # linear between samples that are 4 mm apart
        np.testing.assert_allclose(cut[:, 0], review.lateral)
        for straight in review.study.straight():
            low, high = straight[..., 1:].min((0, 1)), straight[..., 1:].max((0, 1))
            assert not ((cut[:, 1:] > low) & (cut[:, 1:] < high)).all(-1).any()
        drawn.append(cut.mean(0))
    if role == "reference-axial":  # it follows the axial view, which follows the selection
        assert (np.diff([point[2] for point in drawn]) < -10).all()
    before = points_of(review, role)
    node.JumpSliceByOffsetting(*(origin + 9 * normal))  # as the mouse wheel does
    assert len(before) != len(points_of(review, role)) or not np.allclose(before, points_of(review, role))


def test_the_selected_vertebras_level_is_drawn_beside_its_body(begun):
    review = begun()
    for vertebra_id in review.order[:2]:
        review.select(vertebra_id)
        level = review.study.straightening.to_straight(points_of(review, "reference-level"))
        middle = review.study.vertebrae[vertebra_id].straight()[..., 2].mean()
        np.testing.assert_allclose(level[:, 2], middle, atol=0.1)
        assert np.abs(level[:, 0]).min() > 20
    review.select(None)
    assert review.study.nodes["reference-level"].GetPolyData().GetNumberOfPoints() == 0


def test_reference_lines_hide_with_the_overlay_and_can_be_neither_picked_nor_saved(begun):
    review = begun()
    nodes = [review.study.nodes[role] for role in VIEWS_OF]
    assert not any(n.GetSelectable() or n.GetSaveWithScene() or n.GetDisplayNode().GetSaveWithScene() for n in nodes)
    assert all(n.GetHideFromEditors() for n in nodes)
    review.act("toggle_overlay")
    assert not any(n.GetDisplayNode().GetVisibility() for n in nodes)
    scene = review.study.scene
    review.close()
    assert not any(scene.IsNodePresent(n) for n in nodes)
    review.face.patient[2].JumpSliceByCentering(0.0, 0.0, -50.0)  # follows no view any more


def test_a_cut_over_a_body_is_left_out(analysis):
    surface = Surface.of(Straightening(SpineCurve(analysis.curve)), 0.0)
    matrix = np.eye(4)
    matrix[2, 3] = surface.patient[len(surface.s) // 2, len(surface.anterior) // 2, 2]
    whole = surface.cut(matrix, np.empty((0, 2, 2)))
    places = vtk_to_numpy(whole.GetPoints().GetData())[:, 1:]
    box = np.array([[[-12.0, places[:, 1].min() - MARGIN_MM], [12.0, places[:, 1].max() + MARGIN_MM]]])
    left = surface.cut(matrix, box)
    assert 0 < left.GetNumberOfLines() < whole.GetNumberOfLines() * 0.9
    outside = np.eye(4)
    outside[2, 3] = 1e4
    assert surface.cut(outside, box).GetNumberOfLines() == 0


# --- windows


def test_the_window_of_the_content_shows_bone_and_leaves_out_air_and_metal():
    tissue = np.linspace(0, 400, 10000)
    width, level = content_window(np.concatenate([tissue, np.full(5000, -1000.0), np.full(30, 3000.0)]))
    assert (level - width / 2, level + width / 2) == (pytest.approx(4, abs=3), pytest.approx(399, abs=4))
    assert content_window(np.full(10, -1000.0)) == WINDOWS["bone"]
    assert content_window(np.full(10, 55.0)) == (200.0, 55.0)


def test_the_tube_is_the_middle_of_the_straightened_image():
    voxels = np.zeros((3, round(2 * ANTERIOR_MM / 0.75) + 1, round(2 * LATERAL_MM) + 1))
    middle = tuple(n // 2 for n in voxels.shape[1:])
    voxels[(slice(None), *middle)] = 1.0
    found = tube(voxels)
    assert found.shape == (3, 2 * int(TUBE_MM / 0.75) + 1, 2 * int(TUBE_MM) + 1)
    assert found[0, found.shape[1] // 2, found.shape[2] // 2] == 1.0


def test_windows_cycle_and_the_last_one_stays_for_the_next_study(begun):
    review = begun()
    shown = [review.study.nodes[role].GetDisplayNode() for role in ("ct", "straightened")]
    expected = content_window(tube(voxels_of(review.study.nodes["straightened"])))
    for preset, window in (("soft", WINDOWS["soft"]), ("auto", expected), ("bone", WINDOWS["bone"])):
        review.act("toggle_window")
        assert (review.preset, review.window) == (preset, window)
        assert [(d.GetWindow(), d.GetLevel()) for d in shown] == [window] * 2
    review.act("choose_window", "auto")
    review.close()
    again = begun()
    again.restore_window("auto")
    assert again.preset == "auto" and again.study.nodes["ct"].GetDisplayNode().GetWindow() == expected[0]


def test_a_window_is_restored_before_a_study_is_open_and_a_broken_one_changes_nothing(begun, case):
    from VertebralFractureQuantLib.errors import VFQError
    from VertebralFractureQuantLib.scene.opening import read_study
    from VertebralFractureQuantLib.scene.review import Review
    from VertebralFractureQuantLib.scene.study import StudyScene
    from VertebralFractureQuantLib.scene.views import Views

    scene = slicer.vtkMRMLScene()
    review = Review(StudyScene(scene, Views()), test_scene.Listening(scene), "reader")
    review.restore_window("own", 640.0, 120.0)
    for broken in (("own", float("nan"), 0.0), ("own", -5.0, 0.0), ("lung",)):
        review.restore_window(*broken)
    review.open(read_study(case.source, case.folder, case.name), case.folder, VFQError("bad_weights", "-"))
    display = review.study.nodes["ct"].GetDisplayNode()
    assert (
        (review.preset, review.window) == ("own", (640.0, 120.0)) == ("own", (display.GetWindow(), display.GetLevel()))
    )
    review.close()
    assert review.preset == "own"


# --- expected heights


def ends_of(review) -> np.ndarray:
    """Return the drawn points with the expected heights `(n, 3, 2, 3)`, straight RAS mm."""
    data = review.study.nodes["expected"].GetPolyData()
    return vtk_to_numpy(data.GetPoints().GetData()).reshape(-1, 3, 2, 3)


def test_a_key_shows_the_expected_heights_and_they_follow_a_drag(begun):
    review = begun()
    study, node = review.study, review.study.nodes["expected"]
    assert not node.GetDisplayNode().GetVisibility() and not node.GetSaveWithScene()
    review.act(ACTIONS["l"])
    assert node.GetDisplayNode().GetVisibility() and "expect" in review.note
    moved = study.order[2]
    before = study.vertebra(moved).expected
    drag(study, moved, (0, 0, -9.0))
    e = study.vertebra(moved).expected
    assert e.heights_mm == pytest.approx(before.heights_mm, rel=0.01) and e.loss[1] > before.loss[1] + 0.3
    drawn, straight = ends_of(review), study.straight()
    heights = np.linalg.norm(drawn[:, :, 0] - drawn[:, :, 1], axis=-1)
    np.testing.assert_allclose(drawn.mean(2), straight.mean(2), atol=1e-6)
    np.testing.assert_allclose(heights[2], e.heights_mm, rtol=0.05)
    assert set(study.followed) >= {moved, study.order[3]}
    assert rows(study, study.order)[2]["against"].startswith("Height loss A")
    review.act("toggle_overlay")
    assert not node.GetDisplayNode().GetVisibility()
    review.act("toggle_overlay")
    review.act(ACTIONS["l"])
    assert not node.GetDisplayNode().GetVisibility()


def test_what_is_expected_is_written_into_the_record_and_a_rejected_vertebra_has_nothing(begun):
    review = begun()
    study = review.study
    drag(study, study.order[2], (0, 0, -9.0))
    found = study.analysis().vertebrae
    assert [v.expected for v in found] == [v.expected for v in remeasured(found)]
    review.act("select", study.order[2])
    review.act("reject")
    assert study.vertebra(study.order[2]).expected is None
    assert rows(study, study.order)[2]["against"] == ""


def test_a_single_vertebra_says_that_it_has_nothing_to_be_compared_with(begun):
    review = begun()
    for vertebra_id in review.study.order[1:]:
        review.act("select", vertebra_id)
        review.act("reject")
    assert rows(review.study, review.study.order)[0]["against"].startswith("No expected heights: no vertebra within")


# --- labels


@pytest.fixture
def drawn():
    """A view of 400 x 800 pixels with 100 x 200 mm around the middle of a straight spine, and its renderer."""
    node = slicer.vtkMRMLSliceNode()
    turn(node, "Sagittal")
    node.SetDimensions(400, 800, 1)
    node.SetFieldOfView(100.0, 200.0, 1.0)
    node.JumpSliceByCentering(0.0, 0.0, -100.0)
    renderer, window = vtk.vtkRenderer(), vtk.vtkRenderWindow()
    window.SetOffScreenRendering(1)
    window.SetSize(400, 800)
    window.AddRenderer(renderer)
    yield node, renderer
    window.Finalize()


def label(s: float, words=("T9", "0.71", "moderate"), back: float = -15.0, height: float = 18.0) -> Label:
    return Label(words, (1.0, 0.5, 0.0), np.array([[back, s - height / 2], [15.0, s + height / 2]]), False)


def texts_of(renderer) -> list[vtk.vtkTextActor]:
    props = renderer.GetViewProps()
    actors = [props.GetItemAsObject(i) for i in range(props.GetNumberOfItems())]
    return [a for a in actors if isinstance(a, vtk.vtkTextActor) and a.GetVisibility()]


def boxes(renderer) -> np.ndarray:
    """Return left, right, bottom and top `(n, 4)` of the texts, in pixels."""
    found = []
    for actor in texts_of(renderer):
        size = [0.0, 0.0]
        actor.GetSize(renderer, size)
        x, y = actor.GetPosition()
        found.append((x, x + size[0], y - size[1] / 2, y + size[1] / 2))
    return np.array(found)


def test_labels_stand_beside_the_spine_in_the_view_and_never_over_a_body_or_each_other(drawn):
    node, renderer = drawn
    shown = [label(s, height=5.0) for s in range(-10, -190, -6)]
    labels = Labels(lambda: shown)
    labels.attach(renderer, node)
    labels.place()
    found = boxes(renderer)
    assert len(found) == len(shown)
    back = 200 + 15 * 4  # pixels; posterior is to the right, four pixels are a millimetre
    assert (found[:, 0] > back).all() and (found[:, 1] <= 400).all()
    assert (found[:, 2:] >= 0).all() and (found[:, 2:] <= 800).all()
    order = np.argsort(-found[:, 3])
    assert (np.diff(order) == 1).all() and (found[order[:-1], 2] >= found[order[1:], 3] - 1).all()


def test_labels_grow_with_the_view_and_those_out_of_sight_are_not_shown(drawn):
    node, renderer = drawn
    labels = Labels(lambda: [label(-50.0), label(-150.0), label(-400.0)])
    labels.attach(renderer, node)
    labels.place()
    assert [t.GetInput() for t in texts_of(renderer)] == ["T9 0.71 moderate"] * 2
    small = texts_of(renderer)[0].GetTextProperty().GetFontSize()
    node.SetDimensions(800, 2000, 1)
    node.SetFieldOfView(100.0, 250.0, 1.0)
    labels.place()
    assert texts_of(renderer)[0].GetTextProperty().GetFontSize() >= 2 * small >= 26


def test_in_a_close_up_labels_are_narrow_and_without_room_they_are_left_out(drawn):
    node, renderer = drawn
    labels = Labels(lambda: [label(-100.0)])
    labels.attach(renderer, node)
    node.SetFieldOfView(50.0, 100.0, 1.0)
    labels.place()
    assert [t.GetInput() for t in texts_of(renderer)] == ["T9\n0.71\nmoderate"]
    node.SetFieldOfView(31.0, 62.0, 1.0)
    labels.place()
    assert texts_of(renderer) == []
    labels.detach()
    assert renderer.GetViewProps().GetNumberOfItems() == 0


def test_a_label_tells_level_ratio_and_grade_and_follows_a_drag(begun):
    review = begun()
    study, third = review.study, review.order[2]

    def words() -> tuple[str, ...]:
        return study.labels()[2].words

    assert study.labels()[0].selected and words()[0].startswith("T11") and "normal" not in words()
    drag(study, third, (0, 0, -9))
    grade = study.measurements[third].grade
    assert words()[1:] == (f"{study.measurements[third].genant_ratio:.2f}", grade) and grade != "normal"
    study.show_colors("plain")
    assert grade not in words() and study.labels()[2].color == PALETTES["plain"][grade]
    study.show_colors("grades")
    review.select(third)
    review.act("reject")
    assert words()[-1] == "rejected"
    review.act("toggle_overlay")
    assert study.labels() == []


# --- the loupe


def test_the_loupe_shows_the_ct_at_the_points_place(ct: CTVolume, analysis):
    straightening = Straightening(SpineCurve(analysis.curve))
    sagittal = np.eye(4)
    sagittal[:3, :3] = AXES["Sagittal"]  # anterior is to the left
    center = np.array([2.0, -5.0, -110.0])
    picture = sampled(ct, sagittal, center, straightening.to_patient)
    middle, step = len(picture) // 2, 20
    assert picture.shape == (2 * middle + 1,) * 2 and middle == round(HALF_MM / PITCH_MM)
    for row, column in ((0, 0), (-step, 0), (0, step), (step, -step)):
        place = center + [0.0, -column * PITCH_MM, -row * PITCH_MM]
        expected = ct.sample(straightening.to_patient(place))
        assert picture[middle + row, middle + column] == pytest.approx(expected, abs=0.05)
    patient = sampled(ct, sagittal, straightening.to_patient(center), None)
    assert patient[middle, middle] == pytest.approx(picture[middle, middle], abs=1e-3)


def test_the_loupes_shades_are_those_of_the_window():
    grey = shades(np.array([-451.0, -450.0, 300.0, 1050.0, 2000.0]), (1500.0, 300.0))
    assert grey.tolist() == [0, 0, 128, 255, 255]


def test_outside_the_scan_the_loupe_is_black(ct: CTVolume):
    assert shades(sampled(ct, np.eye(4), np.array([0, 0, 5000.0]), None), (1500.0, 300.0)).max() == 0


def test_a_study_with_another_ct_keeps_no_reference_to_the_first(begun):
    review = begun()
    first = review.study.nodes["reference-plane"]
    review.close()
    again = begun()
    assert again.study.nodes["reference-plane"] is not first
    assert again.study.nodes["reference-plane"].GetPolyData().GetNumberOfPoints() > 0
