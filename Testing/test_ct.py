"""Reading a CT: every usual format is read, voxels lie where the file says (RAS mm), and sampling is exact."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from VertebralFractureQuantLib.imaging.checks import check_ct
from VertebralFractureQuantLib.imaging.ct import CTVolume, from_array
from VertebralFractureQuantLib.imaging.files import read_ct, write_ct

FORMATS = ("nii", "nii.gz", "nrrd", "nhdr", "mha", "mhd")
SUPINE = np.eye(3)
SPACING_MM = np.array([0.7, 0.8, 2.5])  # i, j, k


def body(shape: tuple[int, ...] = (9, 14, 11), seed: int = 0) -> np.ndarray:
    """Random HU between fat and bone, so that a voxel in a wrong place is noticed."""
    return np.random.default_rng(seed).integers(-150, 900, shape).astype(np.int16)


def rotation(degrees: float, axis: np.ndarray) -> np.ndarray:
    x, y, z = np.asarray(axis, float) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.radians(degrees)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def placed(direction: np.ndarray, origin: tuple[float, ...] = (-12.5, 33.0, -804.5)) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = direction * SPACING_MM
    matrix[:3, 3] = origin
    return matrix


DIRECTIONS = {
    "supine head first": np.eye(3),
    "prone": np.diag([-1.0, -1.0, 1.0]),
    "upside down": np.diag([1.0, -1.0, -1.0]),
    "left-handed": np.diag([1.0, 1.0, -1.0]),
    "axes swapped": np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]]),
    "oblique": rotation(23, np.array([1.0, 2, 3])),
}


@pytest.fixture(params=list(DIRECTIONS.values()), ids=list(DIRECTIONS))
def volume(request: pytest.FixtureRequest) -> CTVolume:
    return CTVolume(body(), placed(request.param), "case")


@pytest.mark.parametrize("extension", FORMATS)
def test_what_was_written_is_read_back_in_every_orientation(volume: CTVolume, tmp_path: Path, extension: str) -> None:
    write_ct(volume, tmp_path / f"case.{extension}")
    again = read_ct(tmp_path / f"case.{extension}")
    np.testing.assert_array_equal(again.voxels, volume.voxels)
    np.testing.assert_allclose(again.ijk_to_ras, volume.ijk_to_ras, atol=2e-4)
    assert again.voxels.dtype == np.int16
    assert again.name == "case"


def test_files_are_lps_and_volumes_are_ras(tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(body())
    image.SetOrigin((10.0, 20.0, 30.0))
    sitk.WriteImage(image, str(tmp_path / "a.mha"))
    np.testing.assert_allclose(read_ct(tmp_path / "a.mha").ijk_to_ras[:3, 3], [-10, -20, 30])


@pytest.mark.parametrize("extension", FORMATS)
def test_a_name_with_spaces_dots_and_umlauts_loses_its_extension_only(tmp_path: Path, extension: str) -> None:
    path = tmp_path / f"Fall 7.1 \u00fc\u4e2d.{extension}"
    write_ct(CTVolume(body(), placed(np.eye(3)), "x"), path)
    assert read_ct(str(path)).name == "Fall 7.1 \u00fc\u4e2d"


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.float32, np.float64])
@pytest.mark.parametrize("extension", ["nii.gz", "nrrd"])
def test_other_voxel_types_become_int16_hu(tmp_path: Path, dtype: type, extension: str) -> None:
    voxels: np.ndarray = body().astype(dtype)
    voxels[0, 0, :2] = [100_000, -100_000]
    sitk.WriteImage(sitk.GetImageFromArray(voxels), str(tmp_path / f"a.{extension}"))
    read = read_ct(tmp_path / f"a.{extension}").voxels
    assert read.dtype == np.int16
    np.testing.assert_array_equal(read[0, 0, :2], [32767, -32768])
    np.testing.assert_array_equal(read[1:], body()[1:])


def test_nifti_scaling_is_honoured(tmp_path: Path) -> None:
    image = sitk.GetImageFromArray((body() + 1024).astype(np.int16))
    sitk.WriteImage(image, str(tmp_path / "a.nii"))
    data = bytearray((tmp_path / "a.nii").read_bytes())
    data[112:120] = np.array([1, -1024], "<f4").tobytes()
    (tmp_path / "a.nii").write_bytes(data)
    np.testing.assert_array_equal(read_ct(tmp_path / "a.nii").voxels, body())


@pytest.mark.parametrize("offset", [0, 348, 352])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_nifti_voxels_begin_after_the_header_whatever_it_says(tmp_path: Path, offset: int, name: str) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(body()), str(tmp_path / "a.nii"))
    data = bytearray((tmp_path / "a.nii").read_bytes())
    struct.pack_into("<f", data, 108, offset)
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    np.testing.assert_array_equal(read_ct(tmp_path / name).voxels, body())


@pytest.mark.parametrize("offset", [0, 544, 560])
def test_nifti_2_voxels_begin_after_the_header_too(tmp_path: Path, offset: int) -> None:
    header = bytearray(max(offset, 544))
    struct.pack_into("<i8s2h8q", header, 0, 540, b"n+2\0\r\n\x1a\n", 4, 16, 3, 11, 14, 9, 1, 1, 1, 1)
    struct.pack_into("<4d", header, 104, 1, *SPACING_MM)
    struct.pack_into("<q", header, 168, offset)
    struct.pack_into("<2i", header, 344, 0, 1)
    struct.pack_into("<12d", header, 400, *placed(SUPINE)[:3].ravel())
    (tmp_path / "a.nii").write_bytes(header + body().tobytes())
    ct = read_ct(tmp_path / "a.nii")
    np.testing.assert_array_equal(ct.voxels, body())
    np.testing.assert_array_equal(ct.ijk_to_ras, placed(SUPINE))


@pytest.mark.parametrize(("header", "voxels"), [("a.hdr", "a.img"), ("a.HDR", "a.IMG"), ("a.hdr.gz", "a.img.gz")])
def test_a_pair_of_header_and_voxels_is_read_by_either_name(tmp_path: Path, header: str, voxels: str) -> None:
    image = sitk.GetImageFromArray(body())
    image.SetSpacing(SPACING_MM.tolist())
    sitk.WriteImage(image, str(tmp_path / "b.hdr"))
    for source, name in (("b.hdr", header), ("b.img", voxels)):
        data = (tmp_path / source).read_bytes()
        (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    for name in (header, voxels):
        ct = read_ct(tmp_path / name)
        np.testing.assert_array_equal(ct.voxels, body())
        np.testing.assert_allclose(ct.spacing_mm, SPACING_MM[::-1], rtol=1e-6)


def test_four_dimensions_with_one_volume_are_one_volume(tmp_path: Path) -> None:
    image = sitk.JoinSeries([sitk.GetImageFromArray(body())])
    for extension in ("nii.gz", "mha"):
        sitk.WriteImage(image, str(tmp_path / f"a.{extension}"))
        np.testing.assert_array_equal(read_ct(tmp_path / f"a.{extension}").voxels, body())


def test_spacing_is_in_the_order_of_the_voxels(volume: CTVolume) -> None:
    np.testing.assert_allclose(volume.spacing_mm, SPACING_MM[::-1])


def test_the_two_matrices_are_inverse(volume: CTVolume) -> None:
    np.testing.assert_allclose(volume.ras_to_ijk @ volume.ijk_to_ras, np.eye(4), atol=1e-9)


def ras_of(volume: CTVolume, ijk: np.ndarray) -> np.ndarray:
    return ijk @ volume.ijk_to_ras[:3, :3].T + volume.ijk_to_ras[:3, 3]


def test_a_sample_at_a_voxel_is_the_voxel_up_to_the_border(volume: CTVolume) -> None:
    k, j, i = np.indices(volume.voxels.shape)
    sampled = volume.sample(ras_of(volume, np.stack([i, j, k], axis=-1)))
    assert sampled.dtype == np.float32
    np.testing.assert_allclose(sampled, volume.voxels, atol=0.05)


def test_sampling_a_linear_field_between_voxels_is_exact(volume: CTVolume) -> None:
    k, j, i = np.indices(volume.voxels.shape)
    linear = CTVolume(np.asarray(7 * i - 5 * j + 30 * k, np.int16), volume.ijk_to_ras, "linear")
    ijk = np.random.default_rng(1).uniform(0, [10, 13, 8], (4, 50, 3))
    np.testing.assert_allclose(linear.sample(ras_of(volume, ijk)), ijk @ [7, -5, 30], atol=1e-3)


def test_outside_the_volume_lies_the_fill_value(volume: CTVolume) -> None:
    outside = np.array([[-0.01, 5, 5], [10.01, 5, 5], [5, -3, 5], [5, 5, 8.5], [1e9, 0, 0], [np.nan, 0, 0]])
    np.testing.assert_array_equal(volume.sample(ras_of(volume, outside), fill=-7), np.full(6, -7))


def test_sampling_neither_copies_nor_converts_the_volume() -> None:
    import tracemalloc

    ct = CTVolume(np.zeros((200, 200, 200), np.int16), placed(np.eye(3)), "zeros")
    points = ras_of(ct, np.random.default_rng(2).uniform(0, 199, (1000, 3)))
    tracemalloc.start()
    ct.sample(points)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < ct.voxels.nbytes / 10


def test_an_int16_array_is_taken_without_a_copy() -> None:
    voxels = body()
    assert from_array(voxels, placed(np.eye(3)), "memory").voxels is voxels


def dicom_series(
    folder: Path,
    voxels: np.ndarray,
    uid: str = "1.2.3",
    axes: np.ndarray = SUPINE,
    origin: tuple[float, ...] = (-10.0, -20.0, 5.0),
    order: list[int] | None = None,
    tags: dict[str, str] | None = None,
) -> list[Path]:
    """Write `voxels` slice by slice along `axes[2]`, LPS. `order` gives the instance numbers and file names."""
    folder.mkdir(parents=True, exist_ok=True)
    return [
        dicom_slice(
            folder / f"{uid}.{n}.dcm",
            voxels[k],
            np.array(origin) + k * SPACING_MM[2] * axes[2],
            axes,
            {"0020|000e": uid, "0008|0018": f"{uid}.{k + 1}", "0020|0013": str(n), **(tags or {})},
        )
        for k, n in enumerate(order or range(len(voxels)))
    ]


def dicom_slice(path: Path, pixels: np.ndarray, position: np.ndarray, axes: np.ndarray, tags: dict[str, str]) -> Path:
    """A slice `[j, i]`, or an image of several frames `[k, j, i]` or of colours `[1, j, i, 3]`."""
    image = sitk.GetImageFromArray(pixels[None] if pixels.ndim == 2 else pixels, isVector=pixels.ndim == 4)
    image.SetSpacing(SPACING_MM.tolist())
    standard = {
        "0008|0016": "1.2.840.10008.5.1.4.1.1.2",
        "0008|0060": "CT",
        "0008|0008": "ORIGINAL\\PRIMARY\\AXIAL",
        "0020|000d": "1.2",
        "0020|0032": "\\".join(f"{v:.6f}" for v in position),
        "0020|0037": "\\".join(f"{v:.9f}" for v in axes[:2].ravel()),
        **({"0028|1052": "-1024", "0028|1053": "1"} if pixels.ndim < 4 else {}),
    }
    for tag, value in {**standard, **tags}.items():
        image.SetMetaData(tag, value)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    writer.SetFileName(str(path))
    writer.Execute(image)
    return path


def test_dicom_slices_are_ordered_by_position_not_by_number(tmp_path: Path) -> None:
    dicom_series(tmp_path / "Fall \u00fc", body((5, 6, 7)), order=[3, 0, 4, 1, 2])
    ct = read_ct(tmp_path / "Fall \u00fc")
    np.testing.assert_array_equal(ct.voxels, body((5, 6, 7)))
    np.testing.assert_allclose(ct.ijk_to_ras, np.diag([-1, -1, 1, 1]) @ placed(np.eye(3), (-10, -20, 5)))
    assert ct.name == "Fall \u00fc"
    assert ct.notes == ()


@pytest.mark.parametrize("direction", DIRECTIONS.values(), ids=DIRECTIONS.keys())
def test_a_dicom_voxel_lies_where_its_slice_says(tmp_path: Path, direction: np.ndarray) -> None:
    axes = direction.T
    dicom_series(tmp_path / "case", body((5, 6, 7)), axes=axes)
    ct = read_ct(tmp_path / "case")
    lps = (
        np.array([-10, -20, 5])
        + 2 * SPACING_MM[0] * axes[0]
        + 3 * SPACING_MM[1] * axes[1]
        + 4 * SPACING_MM[2] * axes[2]
    )
    assert ct.sample(lps * [-1, -1, 1]) == pytest.approx(body((5, 6, 7))[4, 3, 2], abs=0.1)


def test_every_slice_keeps_its_own_rescale(tmp_path: Path) -> None:
    voxels = body((4, 6, 7))
    dicom_series(tmp_path / "case", voxels)
    dicom_series(tmp_path / "case", voxels[:2], tags={"0028|1052": "-2000"})
    np.testing.assert_array_equal(read_ct(tmp_path / "case").voxels, voxels)


def test_a_fractional_rescale_slope_is_rounded_not_truncated(tmp_path: Path) -> None:
    voxels = body((4, 6, 7))
    for path in dicom_series(tmp_path, voxels)[2:]:
        slope = b"\x28\x00\x53\x10\x02\x00\x00\x00"  # tag (0028,1053), two bytes
        path.write_bytes(path.read_bytes().replace(slope + b"1 ", slope + b".5"))
    read = read_ct(tmp_path).voxels
    np.testing.assert_array_equal(read[:2], voxels[:2])
    np.testing.assert_array_equal(read[2:], np.rint((voxels[2:] + 1024.0) * 0.5 - 1024))


def test_the_fittest_series_of_all_sub_folders_is_chosen_with_a_note(tmp_path: Path) -> None:
    dicom_series(tmp_path / "a" / "thick", body((4, 6, 7)), uid="1.2.4")
    dicom_series(tmp_path / "a" / "thin", body((6, 6, 7), seed=5), uid="1.2.5")
    (tmp_path / "a" / "notes.txt").write_text("no image")
    ct = read_ct(tmp_path / "a")
    np.testing.assert_array_equal(ct.voxels, body((6, 6, 7), seed=5))
    assert "fittest of 2 CT series was chosen: 6 slices 2.5 mm apart, UID 1.2.5. " in ct.notes[0]
    assert "4 slices 2.5 mm apart, UID 1.2.4 (less fit)" in ct.notes[0]


def test_a_series_can_be_chosen_by_its_uid_or_by_one_of_its_files(tmp_path: Path) -> None:
    files = dicom_series(tmp_path, body((4, 6, 7)), uid="1.2.4")
    dicom_series(tmp_path, body((6, 6, 7)), uid="1.2.5")
    assert len(read_ct(tmp_path, series="1.2.4").voxels) == 4
    assert len(read_ct(files[2]).voxels) == 4
    assert read_ct(files[2]).name == tmp_path.name


def test_scouts_and_copies_of_slices_are_left_out(tmp_path: Path) -> None:
    files = dicom_series(tmp_path, body((4, 6, 7)))
    dicom_slice(
        tmp_path / "scout.dcm", body((30, 40)), np.zeros(3), np.eye(3)[[1, 2, 0]],
        {"0020|000e": "1.2.3", "0008|0018": "1.2.99", "0008|0008": "ORIGINAL\\PRIMARY\\LOCALIZER"},
    )  # fmt: skip
    (tmp_path / "copy.dcm").write_bytes(files[1].read_bytes())
    ct = read_ct(tmp_path)
    np.testing.assert_array_equal(ct.voxels, body((4, 6, 7)))
    assert "1 files that repeat" in ct.notes[0]


@pytest.mark.parametrize("uid", ["1.2.3.4", ""])
def test_slices_that_share_a_uid_are_not_copies(tmp_path: Path, uid: str) -> None:
    dicom_series(tmp_path, body((6, 6, 7)), tags={"0008|0018": uid})
    ct = read_ct(tmp_path)
    np.testing.assert_array_equal(ct.voxels, body((6, 6, 7)))
    assert ct.spacing_mm[0] == pytest.approx(SPACING_MM[2])
    assert ct.notes == ()


def enhanced(path: Path, uid: str = "1.2.8") -> Path:
    """A CT of five frames in one file."""
    tags = {"0020|000e": uid, "0008|0018": "1.2.99"}
    return dicom_slice(path, body((5, 6, 7)), np.array([-10, -20, 15.0]), np.eye(3), tags)


def frames(path: Path, uid: str = "1.2.8") -> Path:
    """A multi-frame secondary capture."""
    data = enhanced(path, uid).read_bytes()
    assert data.count(b"1.2.840.10008.5.1.4.1.1.2.1") == 2
    path.write_bytes(data.replace(b"1.2.840.10008.5.1.4.1.1.2.1", b"1.2.840.10008.5.1.4.1.1.7.3"))
    return path


def colours(path: Path, uid: str = "1.2.8") -> Path:
    """A slice drawn in colours."""
    tags = {"0020|000e": uid, "0008|0018": "1.2.99"}
    return dicom_slice(path, np.zeros((1, 6, 7, 3), np.uint8), np.array([-10, -20, 15.0]), np.eye(3), tags)


@pytest.mark.parametrize("picture", [frames, colours])
@pytest.mark.parametrize("uid", ["1.2.3", "1.2.8"])
def test_pictures_beside_a_series_are_left_out(tmp_path: Path, picture: Callable[..., Path], uid: str) -> None:
    dicom_series(tmp_path, body((4, 6, 7)))
    picture(tmp_path / "picture.dcm", uid)
    ct = read_ct(tmp_path)
    np.testing.assert_array_equal(ct.voxels, body((4, 6, 7)))
    assert ct.notes == ()


def test_the_spacing_is_that_of_the_whole_length(tmp_path: Path) -> None:
    heights = [0, 2.5, 5.1, 7.7, 10.3, 12.9, 15.4]
    for k, height in enumerate(heights):
        tags = {"0020|000e": "1.2.3", "0008|0018": f"1.2.3.{k}"}
        dicom_slice(tmp_path / f"{k}.dcm", body((7, 6, 7))[k], np.array([-10, -20, height]), np.eye(3), tags)
    assert read_ct(tmp_path).spacing_mm[0] == pytest.approx(15.4 / 6, abs=1e-9)


def test_every_real_ct_is_accepted(data_dir: Path) -> None:
    for path in sorted((data_dir / "ct").glob("*.nii.gz")):
        ct = read_ct(path)
        check_ct(ct.voxels, ct.ijk_to_ras)
        assert ct.name == path.name[: -len(".nii.gz")]


def test_a_crop_of_a_real_spine_without_air_is_still_ct(data_dir: Path) -> None:
    ct = read_ct(data_dir / "ct" / "TPTBox_label22_ct.nii.gz")
    check_ct(np.maximum(ct.voxels, -200)[20:50, 10:35, 20:50], ct.ijk_to_ras)


def test_a_real_dicom_series_agrees_with_itk(data_dir: Path) -> None:
    folder = data_dir / "dicom" / "TS_example_ct_dicom"
    ct = read_ct(folder)
    files = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
    image = sitk.ReadImage(files)
    np.testing.assert_array_equal(ct.voxels, sitk.GetArrayFromImage(image))
    np.testing.assert_allclose(ct.spacing_mm, image.GetSpacing()[::-1], atol=1e-4)
    lps = np.array(image.TransformIndexToPhysicalPoint((7, 11, 3)))
    np.testing.assert_allclose(ct.ijk_to_ras @ [7, 11, 3, 1], [*(lps * [-1, -1, 1]), 1], atol=1e-3)
