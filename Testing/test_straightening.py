"""Patient and straight space correspond exactly, and straightened images have the stated axes, for any CT geometry."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from VertebralFractureQuantLib.imaging.ct import CTVolume
from VertebralFractureQuantLib.spine.curve import fit_curve
from VertebralFractureQuantLib.spine.genant import heights
from VertebralFractureQuantLib.spine.straightening import AIR, Straightening

UPRIGHT = Straightening(fit_curve(np.array([[0, 0, 100], [0, 0, 50], [0, 0, 0]], float)))


def spine(cobb_deg=0.0, kyphosis_deg=0.0, length=400.0):
    """Straightening along an S of the given Cobb angle to the side and a bow of the given angle forwards."""
    arc = np.arange(0, length + 0.5, 1.0)
    sideways = np.deg2rad(cobb_deg / 2) * np.sin(2 * np.pi * arc / length)
    forwards = np.deg2rad(kyphosis_deg / 2) * np.cos(np.pi * arc / length)
    down = -np.cos(sideways) * np.cos(forwards)
    tangents = np.stack([np.sin(sideways), np.cos(sideways) * np.sin(forwards), down], axis=1)
    return Straightening(fit_curve(np.cumsum(tangents, axis=0)[::8] + (12, -30, 700)))


SPINES = {"straight": (0, 0), "scoliotic": (60, 0), "kyphotic": (0, 80), "both": (60, 60)}
spines = pytest.mark.parametrize("cobb, kyphosis", SPINES.values(), ids=SPINES)


def straight_points(straightening, radius=40.0, beyond=0.0, count=3000):
    """Random points in straight space within `radius` mm of the curve, up to `beyond` mm past its ends."""
    rng = np.random.default_rng(0)
    angle, distance = rng.uniform(0, 2 * np.pi, count), radius * np.sqrt(rng.random(count))
    arc = rng.uniform(-beyond, straightening.curve.length + beyond, count)
    return np.column_stack([distance * np.cos(angle), distance * np.sin(angle), -arc])


# Points


@spines
def test_patient_to_straight_to_patient_is_exact_within_40_mm(cobb, kyphosis):
    straightening = spine(cobb, kyphosis)
    rng = np.random.default_rng(1)
    on_curve = straightening.curve.points[rng.integers(0, len(straightening.curve.points), 2000)]
    directions = rng.normal(size=(2000, 3))
    offsets = directions / np.linalg.norm(directions, axis=1, keepdims=True) * rng.uniform(0, 40, (2000, 1))
    patient = on_curve + offsets
    there_and_back = straightening.to_patient(straightening.to_straight(patient))
    assert np.linalg.norm(there_and_back - patient, axis=1).max() <= 0.01


@spines
def test_straight_to_patient_to_straight_is_exact_within_40_mm_and_past_the_ends(cobb, kyphosis):
    straightening = spine(cobb, kyphosis)
    straight = straight_points(straightening, beyond=20)
    there_and_back = straightening.to_straight(straightening.to_patient(straight))
    assert np.linalg.norm(there_and_back - straight, axis=1).max() <= 0.01


@settings(deadline=None, max_examples=40)
@given(
    cobb=st.floats(-65, 65),
    kyphosis=st.floats(-60, 80),
    r=st.floats(-25, 25),
    a=st.floats(-25, 25),
    share=st.floats(0, 1),
)
def test_any_spine_can_be_straightened_and_bent_again(cobb, kyphosis, r, a, share):
    straightening = spine(cobb, kyphosis)
    straight = np.array([r, a, -share * straightening.curve.length])
    np.testing.assert_allclose(straightening.to_straight(straightening.to_patient(straight)), straight, atol=0.01)


def test_straight_axes_are_right_anterior_and_up():
    straight = UPRIGHT.to_straight(np.array([[0, 0, 100], [7, 0, 100], [0, 5, 100], [0, 0, 88], [-3, -4, 20]]))
    np.testing.assert_allclose(straight, [[0, 0, 0], [7, 0, 0], [0, 5, 0], [0, 0, -12], [-3, -4, -80]], atol=1e-9)


def test_the_curve_itself_becomes_the_axis():
    straightening = spine(60, 60)
    straight = straightening.to_straight(straightening.curve.points)
    np.testing.assert_allclose(straight[:, :2], 0, atol=1e-6)
    np.testing.assert_allclose(-straight[:, 2], np.arange(len(straight)), atol=1e-3)


def test_points_keep_their_arrangement():
    straightening = spine(60)
    keypoints = straightening.to_patient(straight_points(straightening, count=60).reshape(10, 3, 2, 3))
    straight = straightening.to_straight(keypoints)
    assert straight.shape == (10, 3, 2, 3)
    np.testing.assert_allclose(straight[4, 2, 1], straightening.to_straight(keypoints[4, 2, 1]))
    assert straightening.to_straight(np.empty((0, 3, 2, 3))).shape == (0, 3, 2, 3)


def test_many_points_at_once_give_the_same_as_one_by_one():
    straightening = spine(60, 40, length=100)
    patient = straightening.to_patient(straight_points(straightening, radius=20, count=45_000))
    some = slice(19_990, 20_010)  # around the seam of two blocks
    np.testing.assert_allclose(straightening.to_straight(patient)[some], straightening.to_straight(patient[some]))


def test_heights_are_measured_in_the_patient_as_the_straightened_image_is_stretched():
    """On a 200 mm arc, 20 mm before its axis on the outer side, 20 straight mm are 22 in the patient (r + 20) / r."""
    angle = np.linspace(0, 0.8, 60)
    bowed = np.column_stack([np.zeros(60), 200 * np.cos(angle), -200 * np.sin(angle)])
    straightening = Straightening(fit_curve(bowed))
    across = (20, 0, -20)
    straight = np.array([[[0, a, -70], [0, a, -90]] for a in across], float)
    np.testing.assert_allclose(heights(straight), 20)
    chord = 2 * np.sin(20 / 200 / 2)  # heights are chords, not arcs
    np.testing.assert_allclose(
        heights(straightening.to_patient(straight)), [220 * chord, 200 * chord, 180 * chord], atol=0.02
    )


# Images


def axes(degrees=(0, 0, 0), flips=(1, 1, 1), spacing=(0.7, 0.8, 2.0), center=(0, 0, 50), shape=(70, 90, 110)):
    """ijk_to_ras of a volume `[k, j, i]` with the given pose whose middle is at `center`; spacing of i, j, k."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix() * flips * spacing
    matrix[:3, 3] = center - matrix[:3, :3] @ ((np.array(shape[::-1]) - 1) / 2)
    return matrix


POSES = {
    "as scanned": axes(),
    "flipped to LPS": axes(flips=(-1, -1, 1)),
    "feet first": axes(flips=(1, -1, -1)),
    "tilted gantry and oblique": axes(degrees=(12, -20, 35)),
    "sagittal slices": axes(degrees=(90, 0, 90), spacing=(0.8, 1.7, 1.1)),
}
poses = pytest.mark.parametrize("matrix", POSES.values(), ids=POSES)


def ramp(points):
    """HU that rise differently along R, A and S: trilinear sampling reproduces them except for rounding to integers."""
    return 40 + 7 * points[..., 0] - 3 * points[..., 1] + 5 * points[..., 2]


def ramp_volume(matrix, shape=(70, 90, 110)):
    ijk = np.stack(np.indices(shape)[::-1], axis=-1)
    return CTVolume(np.rint(ramp(ijk @ matrix[:3, :3].T + matrix[:3, 3])).astype(np.int16), matrix, "ramp")


def one_bright_voxel(ras):
    voxels = np.zeros((121, 61, 41), np.int16)  # 1 mm, R -20..20, A -30..30, S -10..110: no two axes alike
    r, a, s = ras
    voxels[s + 10, a + 30, r + 20] = 1000
    matrix = np.eye(4)
    matrix[:3, 3] = (-20, -30, -10)
    return CTVolume(voxels, matrix, "bright")


def test_rows_run_down_the_spine_and_columns_from_back_to_front():
    """Pins the order of axes (a meshgrid's default swaps them): 101 rows, 31 columns, 12 mm down, 9 in front."""
    picture = UPRIGHT.sample_sagittal(one_bright_voxel((0, 9, 88)), half_width_mm=15)
    assert picture.shape == (101, 31)
    assert np.argwhere(picture > 500).tolist() == [[12, 15 + 9]]


def test_spacing_scales_rows_and_columns_alike():
    picture = UPRIGHT.sample_sagittal(one_bright_voxel((0, 9, 88)), half_width_mm=15, spacing_mm=0.5)
    assert picture.shape == (201, 61)
    assert np.unravel_index(picture.argmax(), picture.shape) == (24, 30 + 18)


def test_a_slab_is_the_stack_of_its_planes_by_their_offset_to_the_right():
    slab = UPRIGHT.sample_slab(one_bright_voxel((-4, 9, 88)), 15, np.arange(-6, 7, 2))
    assert slab.shape == (7, 101, 31)
    assert np.argwhere(slab > 500).tolist() == [[1, 12, 24]]


@pytest.mark.parametrize("half_width, spacing", [(15, 1.0), (20, 0.5), (21.3, 0.7)])
def test_a_pixel_lies_at_its_place_in_straight_space(half_width, spacing):
    straightening = spine(60, 60)
    grid = straightening.sagittal_grid(half_width, spacing, lateral_mm=6)
    row, column = 130, 17
    straight = straightening.to_straight(grid[row, column])
    np.testing.assert_allclose(straight, [6, column * spacing - half_width, -row * spacing], atol=1e-6)


def test_a_grid_of_planes_is_where_each_of_its_points_is_in_the_patient():
    straightening = spine(60, 60)
    arcs, anterior, right = np.array([90.0, 41.5, -3.0]), np.arange(-12.0, 9.0, 2.3), np.array([-7.0, 0.0, 4.4])
    points = np.stack(np.meshgrid(-arcs, anterior, right, indexing="ij"), -1)[..., ::-1]
    np.testing.assert_array_equal(straightening.grid(arcs, anterior, right), straightening.to_patient(points))


@poses
@pytest.mark.parametrize("bend", [0, 40], ids=["upright", "scoliotic"])
def test_images_show_the_patient_for_any_geometry_of_the_volume(matrix, bend):
    arc = np.linspace(-20, 20, 9)
    curve = fit_curve(np.column_stack([bend * (arc / 20) ** 2 / 8, np.zeros(9), 50 - arc]))
    straightening, ct = Straightening(curve), ramp_volume(matrix)
    for lateral in (-4.0, 0.0, 5.5):
        picture = straightening.sample_sagittal(ct, 12, 0.6, lateral)
        np.testing.assert_allclose(picture, ramp(straightening.sagittal_grid(12, 0.6, lateral)), atol=0.6)


def test_outside_the_volume_is_air():
    picture = UPRIGHT.sample_sagittal(one_bright_voxel((0, 0, 50)), half_width_mm=40)
    assert (picture[:, :10] == AIR).all()
    assert (picture[:, 10:71] != AIR).all()
