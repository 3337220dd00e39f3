"""Input that cannot be measured is refused with a code and a message that says what to do, never a traceback."""

from __future__ import annotations

import gzip
import re
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from test_ct import SPACING_MM, body, colours, dicom_series, dicom_slice, enhanced, frames, placed
from VertebralFractureQuantLib.errors import VFQError
from VertebralFractureQuantLib.imaging.checks import check_ct, require_memory
from VertebralFractureQuantLib.imaging.ct import CTVolume, from_array
from VertebralFractureQuantLib.imaging.files import read_ct, write_ct


def refused(code: str, path: Path, **options: object) -> str:
    """Return the message of the refusal, after the checks that hold for all."""
    with pytest.raises(VFQError) as info:
        read_ct(path, **options)  # type: ignore[arg-type]
    assert info.value.code == code, info.value.message
    assert str(path.parent) not in info.value.message
    return info.value.message


def written(path: Path, voxels: np.ndarray | None = None) -> Path:
    image = sitk.GetImageFromArray(body() if voxels is None else voxels)
    image.SetSpacing(SPACING_MM.tolist())
    sitk.WriteImage(image, str(path))
    return path


def patched(path: Path, offset: int, form: str, *values: float) -> Path:
    """A NIfTI file with some header fields overwritten."""
    data = bytearray(written(path).read_bytes())
    struct.pack_into("<" + form, data, offset, *values)
    path.write_bytes(data)
    return path


def edited(path: Path, pattern: str, text: str) -> Path:
    """An NRRD or MetaImage file with a line of its header replaced."""
    data = written(path).read_bytes()
    changed = re.sub(pattern.encode(), text.encode(), data, count=1, flags=re.MULTILINE)
    assert changed != data
    path.write_bytes(changed)
    return path


DIM, DATATYPE, PIXDIM, VOX_OFFSET, QFORM_CODE, SROW = 40, 70, 80, 108, 252, 280


# files


def test_a_missing_file(tmp_path: Path) -> None:
    assert "absent.nii.gz" in refused("not_found", tmp_path / "absent.nii.gz")


@pytest.mark.parametrize("name", ["a.txt", "a.nii", "a.nii.gz", "a.mha", "a.nrrd", "a.dcm", "a"])
def test_a_text_that_is_no_image(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("the quick brown fox\n" * 50)
    refused("not_an_image", tmp_path / name)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_an_empty_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    refused("corrupt_file", tmp_path / name)


@pytest.mark.parametrize("kept", [0.02, 0.5, 0.999])
def test_a_truncated_gzip(tmp_path: Path, kept: float) -> None:
    path = written(tmp_path / "a.nii.gz")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    refused("corrupt_file", path)


def test_a_gzip_with_a_flipped_bit(tmp_path: Path) -> None:
    path = written(tmp_path / "a.nii.gz")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    refused("corrupt_file", path)


def test_a_whole_gzip_of_too_few_voxels(tmp_path: Path) -> None:
    data = written(tmp_path / "a.nii").read_bytes()
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(data[:-1000]))
    expected = 2 * body().size
    message = refused("corrupt_file", tmp_path / "b.nii.gz")
    assert str(expected) in message and str(expected - 1000) in message


@pytest.mark.parametrize("name", ["a.nii", "a.mha", "a.nrrd"])
def test_truncated_voxels(tmp_path: Path, name: str) -> None:
    path = written(tmp_path / name)
    path.write_bytes(path.read_bytes()[:-500])
    refused("corrupt_file", path)


@pytest.mark.parametrize("given", ["a.hdr", "a.img"])
def test_truncated_voxels_of_a_pair(tmp_path: Path, given: str) -> None:
    written(tmp_path / "a.hdr")
    voxels = tmp_path / "a.img"
    voxels.write_bytes(voxels.read_bytes()[:-500])
    assert str(2 * body().size - 500) in refused("corrupt_file", tmp_path / given)


def test_half_of_a_pair(tmp_path: Path) -> None:
    (written(tmp_path / "a.hdr").with_suffix(".img")).unlink()
    assert ".img" in refused("corrupt_file", tmp_path / "a.hdr")
    (tmp_path / "a.hdr").rename(tmp_path / "b.img")
    assert ".hdr" in refused("corrupt_file", tmp_path / "b.img")


@pytest.mark.parametrize("offset", [float("nan"), float("inf"), -4.0, 1e30, 1e15, 4000.0])
def test_nifti_voxels_with_an_impossible_offset(tmp_path: Path, offset: float) -> None:
    refused("corrupt_file", patched(tmp_path / "a.nii", VOX_OFFSET, "f", offset))


@pytest.mark.parametrize("name", ["M\udcfcller.nii.gz", "M\udcfcller.nrrd", "M\udcfcller.dcm", "M\udcfcller/a.nii.gz"])
def test_a_name_that_is_not_utf_8_must_be_changed(tmp_path: Path, name: str) -> None:
    suffix = ".nii.gz" if name.endswith(".gz") else Path(name).suffix
    good = dicom_series(tmp_path, body((4, 6, 7)))[0] if suffix == ".dcm" else written(tmp_path / f"good{suffix}")
    path = tmp_path / name
    try:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(good.read_bytes())
    except (OSError, UnicodeError):
        pytest.skip("this file system takes UTF-8 alone")
    assert "Rename it" in refused("not_an_image", path)
    if suffix == ".dcm":
        refused("not_an_image", tmp_path)
    with pytest.raises(VFQError) as info:
        write_ct(CTVolume(body(), placed(np.eye(3)), "a"), path.with_suffix(".mha"))
    assert info.value.code == "output_not_writable"


@pytest.mark.parametrize("name", ["a.mhd", "a.nhdr"])
def test_a_header_without_its_data_file(tmp_path: Path, name: str) -> None:
    path = written(tmp_path / name)
    for other in set(tmp_path.iterdir()) - {path}:
        other.unlink()
    refused("corrupt_file", path)


# sizes


def test_a_header_that_promises_more_than_memory_holds(tmp_path: Path) -> None:
    assert "GiB" in refused("too_large", patched(tmp_path / "a.nii", DIM, "4h", 3, 30000, 30000, 30000))
    refused("too_large", edited(tmp_path / "a.mha", r"^DimSize = .*$", "DimSize = 30000 30000 30000"))
    refused("too_large", edited(tmp_path / "a.nrrd", r"^sizes: .*$", "sizes: 30000 30000 30000"))


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.mha"])
def test_the_caller_may_limit_memory(tmp_path: Path, name: str) -> None:
    refused("too_large", written(tmp_path / name), max_bytes=1000)


def test_memory_is_limited_for_dicom_too(tmp_path: Path) -> None:
    dicom_series(tmp_path, body((4, 6, 7)))
    refused("too_large", tmp_path, max_bytes=100)


def test_available_memory_may_be_used() -> None:
    require_memory(1 << 20)


@pytest.mark.parametrize("sizes", [(3, 11, 0, 9), (3, -4, 14, 9), (0, 1, 1, 1), (9, 1, 1, 1)])
def test_impossible_sizes(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    refused("corrupt_file", patched(tmp_path / "a.nii", DIM, "4h", *sizes))


@pytest.mark.parametrize("name", ["a.nii", "a.mha", "a.png"])
def test_a_picture_of_two_dimensions(tmp_path: Path, name: str) -> None:
    voxels = np.abs(body()[0]).astype(np.uint8 if name.endswith("png") else np.int16)
    assert "2 dimensions" in refused("not_3d", written_2d(tmp_path / name, voxels))


def written_2d(path: Path, voxels: np.ndarray) -> Path:
    sitk.WriteImage(sitk.GetImageFromArray(voxels), str(path))
    return path


@pytest.mark.parametrize("name", ["a.nii.gz", "a.mha", "a.nrrd"])
def test_a_time_series(tmp_path: Path, name: str) -> None:
    image = sitk.GetImageFromArray(body())
    sitk.WriteImage(sitk.JoinSeries([image, image]), str(tmp_path / name))
    refused("not_3d", tmp_path / name)


@pytest.mark.parametrize("name", ["a.nii.gz", "a.mha", "a.nrrd"])
def test_coloured_voxels(tmp_path: Path, name: str) -> None:
    colours = np.zeros((5, 6, 7, 3), np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(colours, isVector=True), str(tmp_path / name))
    refused("not_3d", tmp_path / name)


@pytest.mark.parametrize("name", ["a.nii.gz", "a.mha"])
def test_fewer_than_three_slices(tmp_path: Path, name: str) -> None:
    assert "2 x 14 x 11" in refused("too_few_slices", written(tmp_path / name, body((2, 14, 11))))


# geometry


@pytest.mark.parametrize("spacing", [0.0, -0.7, float("nan"), float("inf"), 500.0, 0.001])
@pytest.mark.parametrize("axis", [0, 2])
def test_a_nifti_spacing_that_no_voxel_has(tmp_path: Path, spacing: float, axis: int) -> None:
    refused("bad_spacing", patched(tmp_path / "a.nii", PIXDIM + 4 * axis, "f", spacing))


@pytest.mark.parametrize("spacing", ["0", "-0.7", "500", "0.001", "nan"])
def test_a_text_header_with_such_a_spacing(tmp_path: Path, spacing: str) -> None:
    refused("bad_spacing", edited(tmp_path / "a.mha", r"^ElementSpacing = .*$", f"ElementSpacing = 0.7 {spacing} 2.5"))
    directions = f"space directions: (0.7,0,0) (0,0.8,0) (0,0,{spacing.strip('-')})"
    if not spacing.startswith("-"):  # a negative vector is a flipped axis, and allowed
        refused("bad_spacing", edited(tmp_path / "a.nrrd", r"^space directions: .*$", directions))


@pytest.mark.parametrize("spacing", [0.01, 21.0])
def test_an_absurd_but_consistent_spacing(tmp_path: Path, spacing: float) -> None:
    matrix = np.diag([0.7, 0.7, spacing, 1.0])
    write_ct(CTVolume(body(), matrix, "a"), tmp_path / "a.nii.gz")
    assert f"{spacing:g}" in refused("bad_spacing", tmp_path / "a.nii.gz")


def test_a_sform_sheared_more_than_by_a_gantry(tmp_path: Path) -> None:
    path = patched(tmp_path / "a.nii", SROW, "12f", 0.7, 0.6, 0, 0, 0, 0.8, 0, 0, 0, 0, 2.5, 0)
    assert "one axis leans by 36.9 degrees" in refused("bad_direction", path)


def test_a_sform_sheared_in_every_plane_is_no_gantry(tmp_path: Path) -> None:
    path = patched(tmp_path / "a.nii", SROW, "12f", 0.7, 0.1, 0.3, 0, 0, 0.8, 0.3, 0, 0, 0, 2.5, 0)
    assert "no two axes are at right angles" in refused("bad_direction", path)


def test_a_sheared_sform_that_contradicts_the_voxel_size(tmp_path: Path) -> None:
    path = patched(tmp_path / "a.nii", SROW, "12f", 0.7, 0, 0, 0, 0, 0.8, 0.6, 0, 0, 0, 3.0, 0)
    assert "contradicts itself" in refused("bad_spacing", path)


def test_text_headers_sheared_more_than_by_a_gantry(tmp_path: Path) -> None:
    shear = "TransformMatrix = 1 0 0 0 1 0 0 0.71 0.7"
    assert "leans by 45" in refused("bad_direction", edited(tmp_path / "a.mha", r"^TransformMatrix = .*$", shear))
    directions = "space directions: (0.7,0,0) (0,0.8,0) (0,2.6,2.5)"
    assert "leans by 46" in refused("bad_direction", edited(tmp_path / "a.nrrd", r"^space directions: .*$", directions))


@pytest.mark.parametrize("matrix", [np.eye(3), np.diag([1.0, 1, 1, 2]), np.full((4, 4), np.nan)])
def test_a_matrix_that_is_no_placement(matrix: np.ndarray) -> None:
    with pytest.raises(VFQError) as info:
        check_ct(body(), matrix)
    assert info.value.code == "bad_direction"


def test_a_tenth_of_a_degree_of_rounding_is_forgiven() -> None:
    matrix = placed(np.eye(3))
    matrix[0, 2] += 2.5 * np.tan(np.radians(0.1))
    check_ct(body(), matrix)


# intensities


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["a.nii.gz", "a.mha"])
def test_voxels_that_are_no_numbers(tmp_path: Path, bad: float, name: str) -> None:
    voxels = body().astype(np.float32)
    voxels[3, 4, 5:7] = bad
    message = refused("bad_voxels", written(tmp_path / name, voxels))
    assert "Slice 3" in message and "2 NaN" in message


def noise(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


SHAPE = (20, 30, 30)
NOT_CT = {
    "mr": noise().gamma(2.0, 150.0, SHAPE),
    "mr with ringing": noise().gamma(2.0, 150.0, SHAPE) - 15,
    "mr padded like ct": np.where(np.indices(SHAPE)[0] < 5, -1024, noise().gamma(2.0, 300.0, SHAPE)),
    "windowed": noise().integers(0, 256, SHAPE),
    "normalised": noise().random(SHAPE),
    "centred": noise().normal(size=SHAPE),
    "hu divided by 1000": noise().uniform(-1, 2, SHAPE),
    "labels": noise().integers(0, 26, SHAPE),
    "mr phase": noise().integers(-4096, 4096, SHAPE),
    "constant": np.zeros(SHAPE),
}


@pytest.mark.parametrize("voxels", NOT_CT.values(), ids=NOT_CT.keys())
def test_intensities_that_are_not_hounsfield_units(voxels: np.ndarray) -> None:
    with pytest.raises(VFQError) as info:
        from_array(voxels, placed(np.eye(3)))
    assert info.value.code == "not_ct"


def soft_tissue(fat: float) -> np.ndarray:
    """A crop without air: marrow, muscle and bone, with a share of fat."""
    tissue = noise(1).normal(80, 40, SHAPE).clip(-15)
    return np.where(noise(2).random(SHAPE) < fat, -90, tissue) + noise(3).normal(0, 3, SHAPE)


IS_CT = {
    "crop with 1 % fat": soft_tissue(0.01),
    "padded with -3024": np.where(np.indices(SHAPE)[0] < 15, -3024, soft_tissue(0.05)),
    "padded with -2000": np.where(np.indices(SHAPE)[0] < 15, -2000, soft_tissue(0.05)),
    "padded with -1024": np.where(np.indices(SHAPE)[0] < 15, -1024, soft_tissue(0.05)),
    "clean phantom": np.where(np.indices(SHAPE)[0] < 5, -1000, np.where(np.indices(SHAPE)[1] < 5, 400, 40)),
    "air only": noise().normal(-1000, 20, SHAPE),
}


@pytest.mark.parametrize("voxels", IS_CT.values(), ids=IS_CT.keys())
def test_crops_and_padded_volumes_are_ct(voxels: np.ndarray) -> None:
    from_array(voxels, placed(np.eye(3)))


@pytest.mark.parametrize("padding", [0, -2000])
def test_the_message_for_ct_without_its_rescale_intercept_says_so(padding: int) -> None:
    stored = np.where(np.indices(SHAPE)[0] < 5, padding, soft_tissue(0.2) + 1024)
    with pytest.raises(VFQError, match="rescale") as info:
        from_array(stored, placed(np.eye(3)))
    assert info.value.code == "not_ct"


def test_complex_voxels() -> None:
    with pytest.raises(VFQError) as info:
        from_array(body().astype(complex), placed(np.eye(3)))
    assert info.value.code == "not_ct"


def test_every_real_label_map_is_refused(data_dir: Path) -> None:
    for path in sorted((data_dir / "masks").glob("*.nii.gz")):
        refused("not_ct", path)


# DICOM folders


def test_a_folder_without_dicom(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("no image")
    assert "1 files" in refused("no_ct_series", tmp_path)


def test_a_folder_of_another_modality(tmp_path: Path) -> None:
    files = dicom_series(tmp_path, body((4, 6, 7)), tags={"0008|0060": "MR"})
    assert "4 of MR" in refused("no_ct_series", tmp_path)
    refused("no_ct_series", files[0])


def test_a_folder_of_scouts(tmp_path: Path) -> None:
    dicom_series(tmp_path, body((4, 6, 7)), tags={"0008|0008": "ORIGINAL\\PRIMARY\\LOCALIZER"})
    assert "4 of CT scout" in refused("no_ct_series", tmp_path)


def test_for_an_unknown_series_the_message_gives_the_sizes_and_no_uid(tmp_path: Path) -> None:
    dicom_series(tmp_path, body((4, 6, 7)), uid="1.2.777")
    message = refused("no_ct_series", tmp_path, series="9.9.9")
    assert "4 slices" in message and "1.2.777" not in message


@pytest.mark.parametrize("write", [frames, enhanced])
def test_files_of_several_frames_alone_must_be_converted(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    path = write(tmp_path / "a.dcm")
    assert "dcm2niix" in refused("not_3d", tmp_path)
    assert "dcm2niix" in refused("not_3d", path)


def test_enhanced_ct_beside_a_series_leaves_the_choice_to_the_user(tmp_path: Path) -> None:
    files = dicom_series(tmp_path, body((4, 6, 7)))
    enhanced(tmp_path / "a.dcm")
    assert "one file of another series" in refused("not_3d", tmp_path)
    assert len(read_ct(tmp_path, series="1.2.3").voxels) == len(read_ct(files[0]).voxels) == 4


def test_colour_pictures_alone_are_no_series(tmp_path: Path) -> None:
    colours(tmp_path / "a.dcm")
    assert "1 of CT colour image" in refused("no_ct_series", tmp_path)


def test_missing_slices_say_how_many_and_where(tmp_path: Path) -> None:
    files = dicom_series(tmp_path, body((12, 6, 7)))
    for k in (4, 5, 9):
        files[k].unlink()
    message = refused("missing_slices", tmp_path)
    assert "3 slices are missing" in message
    assert "2 between 12.5 and 20.0 mm" in message and "1 between 25.0 and 30.0 mm" in message


def test_a_truncated_slice_is_not_ignored(tmp_path: Path) -> None:
    files = dicom_series(tmp_path, body((5, 6, 7)))
    files[-1].write_bytes(files[-1].read_bytes()[:-50])
    assert "1 files" in refused("corrupt_file", tmp_path)


CT, ENHANCED, PLAN, NOTE = (
    b"1.2.840.10008.5.1.4.1.1.2",
    b"1.2.840.10008.5.1.4.1.1.2.1",
    b"1.2.840.10008.5.1.4.1.1.481.3",
    b"1.2.840.10008.5.1.4.1.1.88.59",
)
DIRECTORY = b"1.2.840.10008.1.3.10"


def element(group: int, number: int, vr: bytes, value: bytes, endless: bool = False) -> bytes:
    """One element of little-endian DICOM, of explicit VR or, without `vr`, implicit."""
    length = 0xFFFFFFFF if endless else len(value)
    if vr in (b"SQ", b"UN"):
        vr += b"\0\0"
    form = "<2H2sH" if len(vr) == 2 else f"<2H{len(vr)}sI"
    return struct.pack(form, group, number, vr, length) + value


def uid(group: int, number: int, value: bytes, vr: bytes = b"UI") -> bytes:
    return element(group, number, vr, value + b"\0" * (len(value) % 2))


def sequence(number: int, content: bytes, vr: bytes = b"SQ", endless: bool = True) -> bytes:
    """A sequence of one item in group 8, with lengths or, `endless`, with delimiters."""
    if not endless:
        return element(8, number, vr, element(0xFFFE, 0xE000, b"", content))
    item = element(0xFFFE, 0xE000, b"", content + element(0xFFFE, 0xE00D, b"", b""), True)
    return element(8, number, vr, item + element(0xFFFE, 0xE0DD, b"", b""), True)


def without_image(sop_class: bytes, series: bytes, referred: bytes, vr: bytes = b"UI", endless: bool = True) -> bytes:
    """A DICOM file that ends after its series UID and refers to a CT slice of the series `referred` before it."""
    named = uid(8, 0x1150, CT, vr) + uid(0x20, 0xE, referred, vr)
    sequences = sequence(0x1115, sequence(0x1140, named, vr and b"SQ", endless) + named, vr and b"SQ", endless)
    private = sequence(0x1200, uid(0x20, 0xE, referred, b""), vr and b"UN", endless)
    return bytes(128) + b"DICM" + uid(2, 2, sop_class) + sequences + private + uid(0x20, 0xE, series, vr)


ENCODINGS = {
    "delimiters": (b"UI", True),
    "lengths": (b"UI", False),
    "implicit, delimiters": (b"", True),
    "implicit, lengths": (b"", False),
}


@pytest.mark.parametrize(("vr", "endless"), ENCODINGS.values(), ids=ENCODINGS.keys())
@pytest.mark.parametrize("sop_class", [PLAN, NOTE, DIRECTORY])
def test_a_file_that_refers_to_the_series_is_not_a_damaged_slice(
    tmp_path: Path, sop_class: bytes, vr: bytes, endless: bool
) -> None:
    dicom_series(tmp_path, body((4, 6, 7)))
    whole = without_image(sop_class, b"1.2.8", b"1.2.3", vr, endless)
    for content in (whole, whole[:200], without_image(sop_class, b"1.2.3", b"1.2.8", vr, endless)):
        (tmp_path / "a.dcm").write_bytes(content)
        assert len(read_ct(tmp_path).voxels) == 4


def test_several_studies_are_refused(tmp_path: Path) -> None:
    """Once a folder of three patients became one case: the largest."""
    dicom_series(tmp_path / "anna", body((4, 6, 7)))
    dicom_series(tmp_path / "bob", body((6, 6, 7)), uid="1.2.8", tags={"0020|000d": "1.9"})
    assert "2 studies" in refused("several_studies", tmp_path)
    assert len(read_ct(tmp_path / "anna").voxels) == 4
    assert len(read_ct(tmp_path, series="1.2.8").voxels) == 6


def test_a_dicomdir_is_no_slice(tmp_path: Path) -> None:
    dicom_series(tmp_path, body((4, 6, 7)))
    for content in (without_image(CT, b"1.2.3", b"1.2.3"), b""):
        (tmp_path / "DICOMDIR").write_bytes(content)
        assert len(read_ct(tmp_path).voxels) == 4


@pytest.mark.parametrize(("vr", "endless"), ENCODINGS.values(), ids=ENCODINGS.keys())
@pytest.mark.parametrize("sop_class", [CT, ENHANCED])
def test_a_damaged_file_belongs_to_its_own_series(tmp_path: Path, sop_class: bytes, vr: bytes, endless: bool) -> None:
    dicom_series(tmp_path, body((4, 6, 7)))
    other = tmp_path / "other"
    other.mkdir()
    (other / "a").write_bytes(without_image(sop_class, b"1.2.3", b"1.2.8", vr, endless))
    assert "1 files of the series" in refused("corrupt_file", tmp_path)
    (tmp_path / "a.dcm").write_bytes(without_image(sop_class, b"1.2.8", b"1.2.3", vr, endless))
    (other / "a").unlink()
    assert len(read_ct(tmp_path).voxels) == 4


def test_a_damaged_slice_of_a_series_without_uid(tmp_path: Path) -> None:
    files = dicom_series(tmp_path, body((5, 6, 7)))
    for path in files:
        tag = uid(0x20, 0xE, b"1.2.3", b"")
        assert tag in path.read_bytes()
        path.write_bytes(path.read_bytes().replace(tag, b""))
    assert len(read_ct(tmp_path).voxels) == 5
    files[-1].write_bytes(files[-1].read_bytes()[:-50])
    assert "1 files" in refused("corrupt_file", tmp_path)


def named(files: list[Path], suffix: str) -> list[Path]:
    return [path.rename(path.with_name(f"IM{k}{suffix.format(k)}")) for k, path in enumerate(files)]


INTERRUPTED = {
    "empty": lambda data: b"",
    "a few bytes": lambda data: data[:40],
    "zeros": lambda data: bytes(len(data)),
    "cut": lambda data: data[:300],
    "cut in its UID": lambda data: data[: data.index(element(0x20, 0xE, b"", b"1.2.3\0")[:4]) + 12],
}


@pytest.mark.parametrize("cut", INTERRUPTED.values(), ids=INTERRUPTED.keys())
@pytest.mark.parametrize("suffix", [".dcm", ".IMA", "", ".{}", ".ct"])
def test_an_interrupted_copy_is_not_measured(tmp_path: Path, cut: Callable[[bytes], bytes], suffix: str) -> None:
    files = named(dicom_series(tmp_path / "a", body((6, 6, 7))), suffix)
    for path in files[:2]:
        path.write_bytes(cut(path.read_bytes()))
    message = refused("corrupt_file", tmp_path)
    assert "2 files beside" in message and "take them out" in message
    refused("corrupt_file", files[3])


def test_the_dicom_mark_identifies_a_cut_slice_with_another_name(tmp_path: Path) -> None:
    files = named(dicom_series(tmp_path, body((6, 6, 7))), "")
    (tmp_path / "IM0.part").write_bytes(files[0].read_bytes()[:300])
    files[0].unlink()
    assert "IM0.part" in refused("corrupt_file", tmp_path)


HARMLESS = {
    "README.txt": b"",
    ".DS_Store": bytes(500),
    ".IM7.dcm": b"",
    "._IM7.dcm": b"\0\x05\x16\x07" + bytes(500),
    "Thumbs.db": bytes(500),
    "dicomdir": b"",
    "viewer": b"#!/bin/sh\n",
    "empty.log": b"",
    "b/IM7.dcm": b"",
    "b/IM8": bytes(128) + b"DICM",
}


@pytest.mark.parametrize("suffix", [".dcm", ""])
def test_other_files_beside_a_series_do_no_harm(tmp_path: Path, suffix: str) -> None:
    named(dicom_series(tmp_path, body((4, 6, 7))), suffix)
    (tmp_path / "b").mkdir()
    for name, content in HARMLESS.items():
        (tmp_path / name).write_bytes(content)
    assert len(read_ct(tmp_path).voxels) == 4


def test_two_slices_are_too_few(tmp_path: Path) -> None:
    dicom_series(tmp_path, body((2, 6, 7)))
    refused("too_few_slices", tmp_path)


def test_two_phases_in_one_series(tmp_path: Path) -> None:
    dicom_series(tmp_path / "a", body((4, 6, 7)))
    for k, file in enumerate(sorted((tmp_path / "a").iterdir())):
        tags = {"0020|000e": "1.2.3", "0008|0018": f"1.2.8.{k}"}
        position = np.array([-10, -20, 5 + k * SPACING_MM[2]])
        dicom_slice(tmp_path / f"{file.stem}b.dcm", body((4, 6, 7), seed=1)[k], position, np.eye(3), tags)
    assert "4 of 8 slices" in refused("mixed_series", tmp_path)


ODD_SLICES = {
    "size": ((8, 7), np.eye(3)),
    "orientation": ((6, 7), np.eye(3)[[1, 2, 0]]),
}


@pytest.mark.parametrize(("what", "odd"), ODD_SLICES.items(), ids=ODD_SLICES.keys())
def test_a_slice_of_another_geometry(tmp_path: Path, what: str, odd: tuple) -> None:
    shape, axes = odd
    dicom_series(tmp_path, body((4, 6, 7)))
    tags = {"0020|000e": "1.2.3", "0008|0018": "1.2.9"}
    dicom_slice(tmp_path / "z.dcm", body(shape), np.array([-10, -20, 15.0]), axes, tags)
    assert f"different {what} (1 of 5" in refused("mixed_series", tmp_path)


def test_a_slice_of_the_same_uid_and_position_but_other_orientation_is_no_copy(tmp_path: Path) -> None:
    dicom_series(tmp_path, body((4, 7, 7)))
    tags = {"0020|000e": "1.2.3", "0008|0018": "1.2.3.1"}
    dicom_slice(tmp_path / "0.dcm", body((7, 7)), np.array([-10, -20, 5.0]), np.eye(3)[[1, 2, 0]], tags)
    assert "different orientation" in refused("mixed_series", tmp_path)


def spaced(folder: Path, heights: list[float], thickness: list[float] | None = None, hu_per_mm: float = 0) -> Path:
    """A series with slices at these distances from the first, whose HU grow upwards from -200."""
    for k, height in enumerate(heights):
        tags = {"0020|000e": "1.2.3", "0008|0018": f"1.2.3.{k}"}
        tags |= {"0018|0050": str(thickness[k])} if thickness else {}
        plane = np.full((6, 7), round(hu_per_mm * height) - 200, np.int16)
        plane[0] = body((7,))
        dicom_slice(folder / f"{k:02d}.dcm", plane, np.array([-10, -20, 5 + height]), np.eye(3), tags)
    return folder


def test_two_interleaved_reconstructions(tmp_path: Path) -> None:
    message = refused("mixed_series", spaced(tmp_path, [0, 1.1, 2.5, 3.6, 5, 6.1, 7.5, 8.6]))
    assert "varies from 1.10 to 1.40 mm" in message and "several reconstructions" in message


def test_distances_too_wide_to_be_interpolated(tmp_path: Path) -> None:
    message = refused("mixed_series", spaced(tmp_path, [0, 5, 10, 15, 20, 28, 36, 44]))
    assert "5.00 to 8.00 mm" in message and "more than 7.5 mm cannot be interpolated" in message


def test_a_part_without_every_other_slice_is_no_other_distance(tmp_path: Path) -> None:
    heights = [0, 2, 4, 6, 8, 12, 16, 20]
    assert "3 slices are missing" in refused("missing_slices", spaced(tmp_path, heights, [2.0] * 8))


def test_slices_displaced_more_than_by_a_gantry(tmp_path: Path) -> None:
    tilted = np.eye(3)
    tilted[2] = [0, np.tan(np.radians(36)), 1]
    dicom_series(tmp_path, body((5, 6, 7)), axes=tilted)
    assert "sheared by 36.0 degrees" in refused("bad_direction", tmp_path)


def test_slices_that_are_shifted_sideways(tmp_path: Path) -> None:
    for k, aside in enumerate([0, 0, 4, 0, 0]):
        tags = {"0020|000e": "1.2.3", "0008|0018": f"1.2.3.{k}"}
        position = np.array([-10 + aside, -20, 5 + k * SPACING_MM[2]])
        dicom_slice(tmp_path / f"{k}.dcm", body((5, 6, 7))[k], position, np.eye(3), tags)
    assert "sideways by up to 4.0 mm" in refused("mixed_series", tmp_path)


@pytest.mark.parametrize("axes", [rb"1\0\0\0.1\0.995\0 ", rb"1\0\0\0\1.1\0 "])
def test_rows_and_columns_that_are_no_unit_vectors_at_right_angles(tmp_path: Path, axes: bytes) -> None:
    for path in dicom_series(tmp_path, body((5, 6, 7))):
        data, straight = path.read_bytes(), element(0x20, 0x37, b"", rb"1\0\0\0\1\0 ")
        assert straight in data
        path.write_bytes(data.replace(straight, element(0x20, 0x37, b"", axes)))
    assert "slices' axes" in refused("bad_direction", tmp_path)


# writing


def test_a_missing_folder_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(VFQError) as info:
        write_ct(CTVolume(body(), placed(np.eye(3)), "a"), tmp_path / "absent" / "a.nii.gz")
    assert info.value.code == "output_not_writable"
