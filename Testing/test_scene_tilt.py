"""A CT from a tilted gantry in a scene: placed by an acquisition transform, shown where its bones are, and kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="needs slicer-core: pip install '.[review]'")

import vtk  # noqa: E402
from test_scene import _box  # noqa: E402
from VertebralFractureQuantLib.errors import VFQError  # noqa: E402
from VertebralFractureQuantLib.imaging.axes import is_sheared, tilt_deg  # noqa: E402
from VertebralFractureQuantLib.imaging.ct import CTVolume  # noqa: E402
from VertebralFractureQuantLib.scene.guard import Guard, Reports  # noqa: E402
from VertebralFractureQuantLib.scene.straight import reformat  # noqa: E402
from VertebralFractureQuantLib.scene.study import StudyScene  # noqa: E402
from VertebralFractureQuantLib.scene.views import Views  # noqa: E402
from VertebralFractureQuantLib.scene.volumes import acquisition_of, ct_of, discard_copy, reviewable  # noqa: E402
from VertebralFractureQuantLib.spine.curve import SpineCurve, fit_curve  # noqa: E402
from VertebralFractureQuantLib.spine.genant import measure_column  # noqa: E402
from VertebralFractureQuantLib.spine.record import SpineAnalysis, Vertebra  # noqa: E402
from VertebralFractureQuantLib.spine.straightening import Straightening  # noqa: E402
from vtk.util.numpy_support import vtk_to_numpy  # noqa: E402

TILT_DEG = 20.0
# Columns R, A, S of slice views as Slicer orients them: horizontal, vertical, normal.
VIEWS = {
    "axial": [[-1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "sagittal": [[0, 0, 1], [-1, 0, 0], [0, 1, 0]],
    "coronal": [[-1, 0, 0], [0, 0, 1], [0, 1, 0]],
}


def tilted_matrix(deg: float = TILT_DEG) -> np.ndarray:
    """Slices turned about R by a tilted gantry, while the table moves along S."""
    t = np.deg2rad(deg)
    matrix = np.eye(4)
    matrix[:3, :3] = np.array([[-1.5, 0, 0], [0, -1.5 * np.cos(t), 0], [0, -1.5 * np.sin(t), 2.5 / np.cos(t)]])
    matrix[:3, 3] = (60.0, 60.0, -150.0)
    return matrix


@pytest.fixture(scope="module")
def ct() -> CTVolume:
    """HU that are linear in RAS, so that interpolation anywhere is exact: R + 2 A + 3 S + 500."""
    matrix = tilted_matrix()
    k, j, i = np.indices((80, 80, 80))
    ras = np.stack([i, j, k], -1) @ matrix[:3, :3].T + matrix[:3, 3]
    return CTVolume(np.rint(ras @ [1, 2, 3] + 500).astype(np.int16), matrix, "tilted")


def expected(points: np.ndarray) -> np.ndarray:
    hu: np.ndarray = points @ [1, 2, 3] + 500
    return hu


@pytest.fixture(scope="module")
def analysis(ct: CTVolume) -> SpineAnalysis:
    curve = fit_curve(np.array([[0.0, 0, s] for s in np.linspace(20, -130, 12)]))
    keypoints = np.stack([Straightening(curve).to_patient(_box(s)) for s in (-40.0, -72.0)])
    found = zip(keypoints, measure_column(keypoints), ("L1", "L2"), strict=True)
    vertebrae = tuple(Vertebra(k, m, 0.9, level) for k, m, level in found)
    return SpineAnalysis(
        "tilted",
        shape=ct.voxels.shape,
        spacing_mm=ct.spacing_mm,
        ijk_to_ras=ct.ijk_to_ras,
        curve=curve.points,
        limits_mm=(0.0, curve.length),
        vertebrae=vertebrae,
    )


@pytest.fixture
def study(ct: CTVolume, analysis: SpineAnalysis) -> StudyScene:
    study = StudyScene(slicer.vtkMRMLScene(), Views())
    study.open(ct, reformat(ct, SpineCurve(analysis.curve)), analysis)
    return study


def own_matrix(node) -> np.ndarray:
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def shown(scene, node, view: str, center: np.ndarray, size: int = 41) -> tuple[np.ndarray, np.ndarray]:
    """Return what Slicer's slice logic shows of a volume, and the RAS mm of each pixel, in a view around a point."""
    slice_node = scene.AddNode(slicer.vtkMRMLSliceNode())
    slice_node.SetLayoutName(view)
    to_ras = np.eye(4)
    to_ras[:3, :3] = np.array(VIEWS[view], float).T
    to_ras[:3, 3] = center
    slice_node.GetSliceToRAS().DeepCopy(slicer.util.vtkMatrixFromArray(to_ras))
    slice_node.SetDimensions(size, size, 1)
    slice_node.SetFieldOfView(size, size, 1)
    slice_node.UpdateMatrices()
    logic = slicer.vtkMRMLSliceLayerLogic()
    logic.SetMRMLScene(scene)
    logic.SetSliceNode(slice_node)
    logic.SetVolumeNode(node)
    logic.UpdateTransforms()
    logic.GetReslice().Update()
    values = vtk_to_numpy(logic.GetReslice().GetOutput().GetPointData().GetScalars()).reshape(size, size)
    y, x = np.mgrid[:size, :size]
    pixels = np.stack([x, y, 0 * x, 1 + 0 * x], -1) @ slicer.util.arrayFromVTKMatrix(slice_node.GetXYToRAS()).T
    return values, pixels[..., :3]


def test_the_node_is_upright_and_a_linear_transform_shears_it(study, ct):
    node = study.nodes["ct"]
    assert not is_sheared(own_matrix(node))
    assert np.allclose(own_matrix(node)[:3, :2], ct.ijk_to_ras[:3, :2])
    assert node.GetSpacing() == pytest.approx((1.5, 1.5, 2.5))
    transform = acquisition_of(node)
    assert transform.IsA("vtkMRMLLinearTransformNode") and transform.GetName() == "CT acquisition"


def test_a_sheared_ct_comes_back_from_its_node(study, ct):
    back = ct_of(study.nodes["ct"])
    np.testing.assert_array_equal(back.voxels, ct.voxels)
    np.testing.assert_allclose(back.ijk_to_ras, ct.ijk_to_ras, atol=1e-9)
    assert tilt_deg(back.ijk_to_ras) == pytest.approx(TILT_DEG)


@pytest.mark.parametrize("view", VIEWS)
def test_slice_views_show_the_bone_at_the_key_points(study, analysis, view):
    for point in (analysis.vertebrae[0].keypoints[0, 0], analysis.vertebrae[1].keypoints[2, 1]):
        values, pixels = shown(study.scene, study.nodes["ct"], view, point)
        assert np.linalg.norm(pixels - point, axis=-1).min() < 1
        np.testing.assert_allclose(values, expected(pixels), atol=1.1)  # HU are whole numbers


def test_the_straightened_volume_follows_the_shear(study, ct):
    node = study.nodes["straightened"]
    straight = np.array([(own_matrix(node) @ (i, j, k, 1))[:3] for i, j, k in ((20, 85, 60), (10, 70, 100))])
    values = [slicer.util.arrayFromVolume(node)[k, j, i] for i, j, k in ((20, 85, 60), (10, 70, 100))]
    np.testing.assert_allclose(values, expected(study.straightening.to_patient(straight)), atol=1.1)


def test_closing_removes_the_transform_too(study):
    study.close()
    assert study.scene.GetNumberOfNodesByClass("vtkMRMLTransformNode") == 0
    assert study.scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 0


def test_a_saved_scene_keeps_the_shear(study, ct, analysis, tmp_path):
    app_core = pytest.importorskip("trame_slicer.core")
    writer = app_core.SlicerApp()
    StudyScene(writer.scene, Views()).open(ct, reformat(ct, SpineCurve(analysis.curve)), analysis)
    assert writer.io_manager.save_scene(tmp_path / "study.mrb")
    reader = app_core.SlicerApp()
    assert reader.io_manager.load_scene(tmp_path / "study.mrb")
    back = StudyScene(reader.scene, Views())
    back.reopen()
    np.testing.assert_allclose(ct_of(back.nodes["ct"]).ijk_to_ras, ct.ijk_to_ras, atol=1e-4)
    assert acquisition_of(back.nodes["ct"])


def sheared_input(scene) -> tuple[object, np.ndarray]:
    """A user's volume under a transform of their own that shears it."""
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "scan")
    slicer.util.updateVolumeFromArray(node, np.zeros((5, 6, 7), np.int16))
    upright = np.diag([-1.0, -1.0, 3.0, 1.0])
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(upright))
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "acquisition")
    shear = np.eye(4)
    shear[1, 2], shear[0, 3] = np.tan(np.deg2rad(12)), 40.0
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(shear))
    node.SetAndObserveTransformNodeID(transform.GetID())
    return node, shear @ upright


def test_a_volume_under_a_shearing_transform_arrives_with_its_sheared_matrix():
    scene = slicer.vtkMRMLScene()
    node, matrix = sheared_input(scene)
    copy, message = reviewable(node)
    assert copy is not node and "hardened" in message
    assert not is_sheared(own_matrix(copy)) and acquisition_of(copy)
    for each in (node, copy):
        np.testing.assert_allclose(ct_matrix(each), matrix, atol=1e-9)
    assert reviewable(copy) == (copy, "")
    discard_copy(copy)
    assert scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 1
    assert scene.GetNumberOfNodesByClass("vtkMRMLLinearTransformNode") == 1


def test_a_volume_flattened_by_a_transform_is_refused_with_a_code():
    scene = slicer.vtkMRMLScene()
    node, _ = sheared_input(scene)
    flat = vtk.vtkMatrix4x4()
    flat.SetElement(2, 2, 1e-9)
    node.GetParentTransformNode().SetMatrixTransformToParent(flat)
    copy, _ = reviewable(node)
    with pytest.raises(VFQError) as caught:
        ct_of(copy)
    assert caught.value.code == "bad_spacing"


def test_a_moved_acquisition_transform_is_a_transform_like_others(study):
    node = study.nodes["ct"]
    assert reviewable(node) == (node, "")
    above = study.scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    acquisition_of(node).SetAndObserveTransformNodeID(above.GetID())
    copy, message = reviewable(node)
    assert copy is not node and "hardened" in message


def ct_matrix(node) -> np.ndarray:
    from VertebralFractureQuantLib.scene.volumes import taken

    return taken(node)[1]


def test_moving_the_acquisition_transform_outdates_the_study(study):
    told: list[str] = []
    reports = Reports(*[lambda *_: None] * 7)
    guard = Guard(study, replace(reports, ct_changed=lambda: told.append("changed")))
    guard.watch()
    acquisition_of(study.nodes["ct"]).SetMatrixTransformToParent(vtk.vtkMatrix4x4())
    assert told == ["changed"]
    guard.leave()
