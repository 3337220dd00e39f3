"""Scans of unusual geometry: tilted gantries, reformats that are not axial, and spines that the border cuts off."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")

from VertebralFractureQuantLib import analysis
from VertebralFractureQuantLib.analysis.curve_finding import Spine, check_canal_in_view
from VertebralFractureQuantLib.analysis.orientation import mirrored
from VertebralFractureQuantLib.errors import VFQError
from VertebralFractureQuantLib.evaluation.matching import match, point_errors
from VertebralFractureQuantLib.imaging.ct import CTVolume, from_array, inside
from VertebralFractureQuantLib.imaging.files import read_ct
from VertebralFractureQuantLib.phantom import PhantomOptions, make_phantom
from VertebralFractureQuantLib.spine.curve import fit_curve

MARGIN_MM = 2.0


@pytest.fixture(scope="module")
def models():
    return analysis.load_models("cpu")


@pytest.fixture(scope="module")
def phantom():
    options = PhantomOptions(field_of_view="spine", spacing_mm=(0.8, 2.0), noise_hu=8.0)
    return make_phantom(21, options)[0]


@pytest.fixture(scope="module")
def upright(models, phantom):
    return analysis.analyze(phantom, models)


def resampled(ct, axes):
    """The same patient on a grid with these axes `(3, 3)` over the whole field of view; air outside."""
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in ct.voxels.shape[::-1]])).reshape(3, -1)
    corners = np.linalg.inv(axes) @ (ct.ijk_to_ras[:3, :3] @ corners + ct.ijk_to_ras[:3, 3:])
    low, size = corners.min(1), (np.ptp(corners, axis=1) + 1).astype(int)
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = axes, axes @ low
    rows, columns = np.mgrid[: size[1], : size[0]]
    planes = (np.stack([columns, rows, np.full_like(rows, k)], -1) for k in range(size[2]))
    voxels = [ct.sample(ijk @ axes.T + matrix[:3, 3]).round().astype(np.int16) for ijk in planes]
    return from_array(np.stack(voxels), matrix, ct.name)


def sheared(ct, degrees, turned_slices):
    """The same patient in a tilted gantry: slices turned about R, or axial ones that are displaced along A."""
    k, j, i = ct.spacing_mm
    t = np.radians(degrees)
    axes = np.diag([-i, -j, k])
    if turned_slices:
        axes[1:, 1:] = [[-j * np.cos(t), 0], [-j * np.sin(t), k / np.cos(t)]]
    else:
        axes[1, 2] = k * np.tan(t)
    return resampled(ct, axes)


def differences(one, other, ct):
    """The difference of G of each vertebra and the mean distance of key points, mm; all vertebrae must match.

    One that the border of `ct` cuts may be found in one scan only.
    """
    whole = [[v for v in a.vertebrae if inside(ct, v.keypoints, -MARGIN_MM).all()] for a in (one, other)]
    points, expected = (np.stack([v.keypoints for v in vertebrae]) for vertebrae in whole)
    pairs = match(points, expected)
    assert not pairs.missed and not pairs.false
    ratios = [np.array([v.measurement.genant_ratio for v in vertebrae]) for vertebrae in whole]
    return ratios[0] - ratios[1], point_errors(points, expected, pairs).mean()


@pytest.mark.parametrize(("degrees", "turned_slices"), [(25, True), (-25, True), (15, False), (-5, False)])
def test_a_tilted_gantry_moves_no_point(models, phantom, upright, degrees, turned_slices):
    tilted = analysis.analyze(sheared(phantom, degrees, turned_slices), models)
    of_ratio, of_points = differences(tilted, upright, phantom)
    assert of_points < 0.3
    # Interpolation between 2 mm slices alone, without tilt, gives .013 in the mean.
    assert np.abs(of_ratio).mean() < 0.014 and abs(of_ratio.mean()) < 0.008
    names = [v.level for v in upright.vertebrae]
    assert [v.level for v in tilted.vertebrae][-len(names) :] == names


def test_a_tilted_scan_is_measured_like_itself_on_an_upright_grid(models, phantom):
    """The upright grid is twice as fine, so that resampling loses little."""
    part = replace(phantom, voxels=phantom.voxels[:80, :, :-60])  # faster than the whole
    tilted = sheared(part, 25, turned_slices=True)
    fine = resampled(tilted, np.diag([-0.4, -0.4, 1.0]))
    of_ratio, of_points = differences(*(analysis.analyze(ct, models) for ct in (tilted, fine)), part)
    assert len(of_ratio) >= 4
    assert np.abs(of_ratio).mean() <= 0.01 and abs(of_ratio.mean()) < 0.005 and of_points < 0.25


@pytest.mark.realct
@pytest.mark.parametrize("degrees", [18, -18])
def test_a_real_chest_in_a_tilted_gantry_is_measured_alike(models, data_dir, degrees):
    ct = read_ct(data_dir / "ct" / "LungFCP-01-0001_ct_spine.nii.gz")
    upright = analysis.analyze(ct, models)
    tilted = analysis.analyze(sheared(ct, degrees, turned_slices=True), models)
    points, expected = (np.stack([v.keypoints for v in a.vertebrae]) for a in (tilted, upright))
    pairs = match(points, expected)
    assert len(pairs.missed) + len(pairs.false) <= 1  # one at the border of the field of view
    assert point_errors(points, expected, pairs).mean() < 0.4


def straight_spine(length=200.0):
    curve = fit_curve(np.array([[0.0, 0.0, -s] for s in np.linspace(0, length, 20)]))
    return Spine(curve, (0.0, curve.length), None, None)


@pytest.mark.parametrize(("behind_mm", "refused"), [(13, True), (15, True), (18, False), (40, False)])
def test_a_spine_without_a_canal_in_view_is_refused(behind_mm, refused):
    matrix = np.diag([1.0, 1.0, 1.0, 1.0])
    matrix[:3, 3] = (-40, -behind_mm + 0.5, -220)
    ct = CTVolume(np.zeros((240, 60, 80), np.int16), matrix, "crop")
    if refused:
        with pytest.raises(VFQError, match="less than 16 mm behind 100 % of what may be the spine") as caught:
            check_canal_in_view(ct, straight_spine())
        assert caught.value.code == "spine_cut_off"
    else:
        check_canal_in_view(ct, straight_spine())


def test_a_spine_that_is_cut_off_over_less_than_half_of_its_length_is_measured():
    turn = np.radians(8)  # 28 mm over the length: 16 mm are left in the upper two thirds
    matrix = np.eye(4)
    matrix[:3, :3] = [[1, 0, 0], [0, np.cos(turn), -np.sin(turn)], [0, np.sin(turn), np.cos(turn)]]
    ct = CTVolume(np.zeros((260, 90, 80), np.int16), matrix, "oblique")
    matrix[:3, 3] = np.array([-40, -25.0, -70]) - matrix[:3, :3] @ [0, 0, 160]
    check_canal_in_view(ct, straight_spine())


@pytest.mark.realct
def test_coronal_planes_without_the_spine_are_refused(models, data_dir):
    with pytest.raises(VFQError) as caught:
        analysis.analyze(read_ct(data_dir / "dicom" / "ACRIN-013_coronal_MPR_nonsquare_pixels"), models)
    assert caught.value.code == "spine_cut_off"


@pytest.mark.realct
def test_sagittal_and_oblique_coronal_images_of_one_spine_agree(models, data_dir):
    names = ("mapconcierge_CC0_LSPINE_sag3mm_ct", "mapconcierge_CC0_LSPINE_cor3mm_ct")
    pair = [analysis.analyze(read_ct(data_dir / "ct" / f"{name}.nii.gz"), models).vertebrae for name in names]
    levels = [[v.level for v in found] for found in pair]
    assert levels == [["T11", "T12", "L1", "L2", "L3", "L4", "L5"]] * 2
    ratios = np.array([[v.measurement.genant_ratio for v in found] for found in pair])
    assert np.abs(ratios[0] - ratios[1]).max() < 0.03
    heights = np.array([[v.measurement.heights_mm for v in found] for found in pair])
    assert np.abs(heights[0] - heights[1]).mean() < 0.6


def turned(ct, axes):
    """The same voxels with a header that reverses these axes of the patient: 0 R, 1 A, 2 S."""
    for axis in axes:
        ct = mirrored(ct, axis)
    return ct


@pytest.mark.parametrize(
    ("axes", "said"),
    [
        pytest.param((1,), "front and back seem", id="rows reversed"),
        pytest.param((2,), "head and feet seem", id="slices reversed"),
        pytest.param((1, 2), "front and back, and head and feet seem", id="both"),
        pytest.param((0, 1), "front and back seem", id="prone called supine"),
    ],
)
def test_a_phantom_that_its_header_turns_is_refused_with_the_axes(models, phantom, axes, said):
    with pytest.raises(VFQError) as caught:
        analysis.analyze(turned(phantom, axes), models)
    assert caught.value.code == "orientation_contradicts_anatomy" and said in caught.value.message


def test_a_mirrored_patient_cannot_be_told_and_is_measured(models, phantom, upright):
    mirror = analysis.analyze(turned(phantom, (0,)), models)
    assert [v.level for v in mirror.vertebrae] == [v.level for v in upright.vertebrae]
    assert not {"orientation_doubtful"} & {flag.code for flag in (*mirror.quality, *upright.quality)}
    assert upright.trust_header is False


def test_a_trusted_header_is_recorded_and_what_speaks_against_it_is_flagged(models, phantom):
    result = analysis.analyze(turned(phantom, (2,)), models, trust_header=True)
    told = [flag for flag in result.quality if flag.code == "orientation_doubtful"]
    assert result.trust_header and len(told) == 1 and "head and feet" in told[0].message
    assert len(result.vertebrae) > 3


def test_slices_too_thick_to_measure_are_refused_before_the_analysis(phantom):
    thick = CTVolume(phantom.voxels[::5], phantom.ijk_to_ras @ np.diag([1.0, 1.0, 5.0, 1.0]), "thick")
    with pytest.raises(VFQError) as caught:
        analysis.analyze(thick, None)
    assert caught.value.code == "slices_too_thick" and "10.0 mm" in caught.value.message
