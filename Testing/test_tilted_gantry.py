"""CT from a tilted gantry, and slices at varying distances: read with their true geometry, and measured like others."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from test_ct import SPACING_MM, body, dicom_series, dicom_slice
from test_ct_bad_input import QFORM_CODE, SROW, edited, patched, refused, spaced
from VertebralFractureQuantLib.errors import VFQError
from VertebralFractureQuantLib.imaging.axes import plane_distances, tilt_deg, upright, voxel_size
from VertebralFractureQuantLib.imaging.ct import CTVolume, from_array, inside, without_padding
from VertebralFractureQuantLib.imaging.files import read_ct, write_ct
from VertebralFractureQuantLib.networks.localizer import coarsen
from VertebralFractureQuantLib.spine.record import SpineAnalysis, check_belongs

LPS = np.diag([-1.0, -1.0, 1.0])


def tilted(deg: float, spacing: tuple[float, float, float] = (0.7, 0.8, 2.5)) -> np.ndarray:
    """The matrix of slices turned about R by the gantry, while the table moves along S; `spacing` is i, j, k."""
    t, (i, j, k) = np.radians(deg), spacing
    matrix = np.eye(4)
    matrix[:3, :3] = [[-i, 0, 0], [0, -j * np.cos(t), 0], [0, -j * np.sin(t), k / np.cos(t)]]
    matrix[:3, 3] = (30, 40, -20)
    return matrix


def displaced(deg: float, spacing: tuple[float, float, float] = (0.7, 0.8, 2.5)) -> np.ndarray:
    """The matrix of axial slices, each displaced along A against the one below."""
    i, j, k = spacing
    matrix = np.diag([-i, -j, k, 1.0])
    matrix[1, 2] = k * np.tan(np.radians(deg))
    return matrix


def linear(matrix: np.ndarray, shape: tuple[int, int, int] = (30, 40, 50)) -> CTVolume:
    """HU that are linear in RAS: R + 2 A + 3 S + 100, so that interpolation is exact."""
    k, j, i = np.indices(shape)
    ras = np.stack([i, j, k], -1) @ matrix[:3, :3].T + matrix[:3, 3]
    return CTVolume(np.rint(ras @ [1, 2, 3] + 100).astype(np.int16), matrix, "linear")


# -- axes


@pytest.mark.parametrize("deg", [5, -5, 18.5, 30, -34.9])
@pytest.mark.parametrize("make", [tilted, displaced])
def test_the_tilt_and_the_voxel_size_of_sheared_slices(make, deg: float) -> None:
    matrix = make(deg)
    assert tilt_deg(matrix) == pytest.approx(abs(deg))
    assert voxel_size(matrix) == pytest.approx((2.5, 0.8, 0.7))
    assert from_array(body(), matrix).spacing_mm == pytest.approx((2.5, 0.8, 0.7))
    straight = upright(matrix)
    assert tilt_deg(straight) == pytest.approx(0, abs=1e-5)
    assert np.linalg.det(straight) == pytest.approx(np.linalg.det(matrix))
    np.testing.assert_array_equal(straight[:, [0, 1, 3]], matrix[:, [0, 1, 3]])


@pytest.mark.parametrize("matrix", [tilted(35.5), displaced(-36)])
def test_no_gantry_tilts_that_far(matrix: np.ndarray) -> None:
    with pytest.raises(VFQError) as info:
        from_array(body(), matrix)
    assert info.value.code == "bad_direction"


def test_axes_in_one_plane_are_refused() -> None:
    matrix = np.eye(4)
    matrix[:3, 2] = (0.6, 0.8, 0)
    with pytest.raises(VFQError, match="all lie in one plane") as info:
        from_array(body(), matrix)
    assert info.value.code == "bad_direction"


def test_a_margin_is_a_distance_from_the_outer_planes() -> None:
    ct = linear(displaced(30))
    last = np.array([25.0, 20, 29])
    top = ct.ijk_to_ras[:3, :3] @ last + ct.ijk_to_ras[:3, 3]
    np.testing.assert_allclose(plane_distances(ct.ijk_to_ras)[2], 2.5)
    for beyond, within in ((1.24, True), (1.26, False)):
        assert inside(ct, top + [0, 0, beyond]) == within
        assert inside(ct, top + [0, 0, beyond + 3], margin_mm=3) == within


@pytest.mark.parametrize("make", [tilted, displaced])
def test_sampling_and_the_coarse_volume_go_through_the_shear(make) -> None:
    ct = linear(make(25))
    points = ct.ijk_to_ras[:3, :3] @ np.random.default_rng(0).uniform(1, 28, (3, 200)) + ct.ijk_to_ras[:3, 3:]
    np.testing.assert_allclose(ct.sample(points.T), points.T @ [1, 2, 3] + 100, atol=0.6)
    coarse = coarsen(ct)
    s, a, r = np.indices(coarse.voxels.shape)
    ras = coarse.origin + np.stack([r, a, s], -1) * coarse.spacing
    deep = inside(ct, ras, margin_mm=-6)
    assert deep.sum() > 100
    np.testing.assert_allclose(coarse.voxels[deep], (ras @ [1, 2, 3] + 100)[deep], atol=1.0)


def test_padding_is_cut_without_moving_a_voxel() -> None:
    ct = linear(tilted(20))
    padded = np.full((34, 40, 50), -1000, np.int16)
    padded[3:33] = ct.voxels
    padded[:, :5] = -1000
    matrix = ct.ijk_to_ras.copy()
    matrix[:3, 3] -= 3 * matrix[:3, 2]
    cut = without_padding(CTVolume(padded, matrix, "padded"))
    assert cut.voxels.shape == (30, 35, 50)
    at = ct.ijk_to_ras[:3, :3] @ [20, 20, 10] + ct.ijk_to_ras[:3, 3]
    assert cut.sample(at) == pytest.approx(ct.sample(at))


def test_an_analysis_belongs_to_its_sheared_ct_and_not_to_the_upright_one() -> None:
    ct = from_array(body(), tilted(10))
    analysis = SpineAnalysis("a", shape=ct.voxels.shape, spacing_mm=ct.spacing_mm, ijk_to_ras=ct.ijk_to_ras)
    check_belongs(analysis, ct.voxels.shape, ct.ijk_to_ras)
    with pytest.raises(VFQError) as info:
        check_belongs(analysis, ct.voxels.shape, upright(ct.ijk_to_ras))
    assert info.value.code == "other_ct"


# -- files


@pytest.mark.parametrize("extension", ["nii", "nii.gz", "nrrd", "mha"])
@pytest.mark.parametrize("deg", [12, -25])
def test_a_sheared_volume_survives_every_format(tmp_path: Path, extension: str, deg: float) -> None:
    ct = from_array(body(), tilted(deg))
    write_ct(ct, tmp_path / f"a.{extension}")
    again = read_ct(tmp_path / f"a.{extension}")
    np.testing.assert_array_equal(again.voxels, ct.voxels)
    np.testing.assert_allclose(again.ijk_to_ras, ct.ijk_to_ras, atol=1e-5)


def test_a_sheared_nifti_is_written_by_the_standard(tmp_path: Path) -> None:
    ct = from_array(body(), tilted(12))
    write_ct(ct, tmp_path / "a.nii")
    data = (tmp_path / "a.nii").read_bytes()
    assert struct.unpack_from("<i", data)[0] == 348 and data[344:352] == b"n+1\0" + bytes(4)
    assert struct.unpack_from("<4h", data, 40) == (3, 11, 14, 9)
    assert struct.unpack_from("<2h", data, 70) == (4, 16) and data[123] == 2
    assert struct.unpack_from("<3f", data, 80) == pytest.approx(np.linalg.norm(ct.ijk_to_ras[:3, :3], axis=0))
    assert struct.unpack_from("<2h", data, QFORM_CODE) == (0, 1)
    np.testing.assert_allclose(struct.unpack_from("<12f", data, SROW), ct.ijk_to_ras[:3].ravel(), rtol=1e-6)
    assert data[352:] == ct.voxels.astype("<i2").tobytes()


def test_a_sheared_nifti_in_a_missing_folder_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(VFQError) as info:
        write_ct(from_array(body(), tilted(12)), tmp_path / "absent" / "a.nii")
    assert info.value.code == "output_not_writable"


@pytest.mark.parametrize("qform_code", [0, 1])
@pytest.mark.parametrize("third_mm", [2.5, float(np.hypot(2.5, 0.6))])
def test_a_sheared_sform_even_where_itk_would_use_the_qform(tmp_path: Path, qform_code: int, third_mm: float) -> None:
    path = patched(tmp_path / "a.nii", SROW, "12f", 0.7, 0, 0, 5, 0, 0.8, 0.6, 6, 0, 0, 2.5, 7)
    data = bytearray(path.read_bytes())
    struct.pack_into("<2h", data, QFORM_CODE, qform_code, 1)
    struct.pack_into("<f", data, 76 + 12, third_mm)
    path.write_bytes(data)
    expected = [[0.7, 0, 0, 5], [0, 0.8, 0.6, 6], [0, 0, 2.5, 7], [0, 0, 0, 1]]
    np.testing.assert_allclose(read_ct(path).ijk_to_ras, expected, atol=1e-6)


def test_a_sheared_nifti_in_metres(tmp_path: Path) -> None:
    path = patched(tmp_path / "a.nii", SROW, "12f", *(np.array([0.7, 0, 0, 5, 0, 0.8, 0.6, 6, 0, 0, 2.5, 7]) / 1000))
    data = bytearray(path.read_bytes())
    struct.pack_into("<3f", data, 80, *(SPACING_MM / 1000))
    data[123] = 1
    path.write_bytes(data)
    np.testing.assert_allclose(read_ct(path).ijk_to_ras[:3, 3], [5, 6, 7], rtol=1e-5)
    assert read_ct(path).spacing_mm == pytest.approx((2.5, 0.8, 0.7), rel=1e-4)


def test_sheared_text_headers(tmp_path: Path) -> None:
    directions = "space directions: (0.7,0,0) (0,0.8,0) (0,0.9,2.5)"
    ct = read_ct(edited(tmp_path / "a.nrrd", r"^space directions: .*$", directions))
    np.testing.assert_allclose(ct.ijk_to_ras[:3, 2], [0, -0.9, 2.5], atol=1e-9)
    t = np.radians(15)
    matrix = f"TransformMatrix = 1 0 0 0 1 0 0 {np.sin(t):.12f} {np.cos(t):.12f}"
    ct = read_ct(edited(tmp_path / "a.mha", r"^TransformMatrix = .*$", matrix))
    assert tilt_deg(ct.ijk_to_ras) == pytest.approx(15)


# -- DICOM


@pytest.mark.parametrize("deg", [12, -18.5, 30])
@pytest.mark.parametrize("order", [None, [4, 3, 2, 1, 0]])
def test_a_dicom_series_of_a_tilted_gantry(tmp_path: Path, deg: float, order: list[int] | None) -> None:
    """Rows and columns turned in Image Orientation, positions along the table: as scanners write it."""
    t = np.radians(deg)
    axes = np.array([[1, 0, 0], [0, np.cos(t), -np.sin(t)], [0, 0, 1]])
    dicom_series(tmp_path, body((5, 6, 7)), axes=axes, order=order)
    ct = read_ct(tmp_path)
    i, j, k = SPACING_MM
    lps = np.array([[i, 0, 0], [0, j * np.cos(t), 0], [0, -j * np.sin(t), k]])
    np.testing.assert_allclose(ct.ijk_to_ras[:3, :3], LPS @ lps, atol=1e-5)
    np.testing.assert_allclose(ct.ijk_to_ras[:3, 3], [10, 20, 5], atol=1e-5)
    np.testing.assert_array_equal(ct.voxels, body((5, 6, 7)))
    assert ct.spacing_mm == pytest.approx((k * np.cos(t), j, i), abs=1e-5)


def test_axial_slices_displaced_along_a(tmp_path: Path) -> None:
    axes = np.eye(3)
    axes[2] = [0, np.tan(np.radians(12)), 1]
    dicom_series(tmp_path, body((5, 6, 7)), axes=axes)
    assert tilt_deg(read_ct(tmp_path).ijk_to_ras) == pytest.approx(12, abs=1e-3)


def test_a_slice_beside_the_line_of_a_tilted_series(tmp_path: Path) -> None:
    for k, aside in enumerate([0, 1, 6, 3, 4]):
        tags = {"0020|000e": "1.2.3", "0008|0018": f"1.2.3.{k}"}
        position = np.array([-10 + aside, -20, 5 + k * SPACING_MM[2]])
        dicom_slice(tmp_path / f"{k}.dcm", body((5, 6, 7))[k], position, np.eye(3), tags)
    assert "sideways by up to 4.0 mm" in refused("mixed_series", tmp_path)


@pytest.mark.parametrize(
    ("heights", "thickness"),
    [
        ([0, 4, 8, 12, 16, 17.1, 24.1, 31.1, 38.1], None),
        ([0, 2, 4, 6, 8, 12, 16, 20], [2.0, 2, 2, 2, 4, 4, 4, 4]),
        ([0, 2.5, 5, 7.5, 9.75], None),
    ],
    ids=["as in a head", "twice as thick below", "one nearer"],
)
def test_varying_distances_are_interpolated_between_true_positions(tmp_path: Path, heights, thickness) -> None:
    ct = read_ct(spaced(tmp_path, heights, thickness, hu_per_mm=10))
    step = np.median(np.diff(heights)) / 2
    assert ct.spacing_mm[0] == pytest.approx(step, abs=1e-5)
    assert len(ct.voxels) == int(heights[-1] / step + 1e-6) + 1
    place = ct.ijk_to_ras[2, 3] + step * np.arange(len(ct.voxels)) - 5
    np.testing.assert_allclose(ct.voxels[:, 3, 3], 10 * place - 200, atol=0.51)
    low, high = np.diff(heights).min(), np.diff(heights).max()
    assert any(f"varies from {low:.2f} to {high:.2f} mm" in note and "interpolated" in note for note in ct.notes)


def test_equal_distances_are_not_interpolated(tmp_path: Path) -> None:
    assert read_ct(spaced(tmp_path, [0, 2.5, 5, 7.6, 10])).notes == ()


def test_the_real_tilted_head_is_read_with_its_tilt_and_varying_slices(data_dir: Path) -> None:
    folder = data_dir / "dicom" / "dcm_qa_ct_GE_tilt18_variable_spacing"
    ct = read_ct(folder)
    assert tilt_deg(ct.ijk_to_ras) == pytest.approx(18.5, abs=0.1)
    assert "varies from 1.08 to 7.00 mm" in ct.notes[-1]
    files = [sitk.ReadImage(str(p)) for p in sorted(folder.rglob("*")) if p.suffix.lower() == ".dcm"]
    for image in files[:: max(1, len(files) // 5)]:
        position = np.array([float(v) for v in image.GetMetaData("0020|0032").split("\\")])
        orientation = np.array([float(v) for v in image.GetMetaData("0020|0037").split("\\")]).reshape(2, 3)
        pixels = sitk.GetArrayFromImage(image)[0]
        rows = np.arange(100, 400, 5)
        spacing = image.GetSpacing()[:2]
        lps = position + 200 * spacing[0] * orientation[0] + rows[:, None] * spacing[1] * orientation[1]
        assert np.median(np.abs(ct.sample(lps @ LPS) - pixels[rows, 200])) < 10
