"""Every form in which NIfTI, NRRD and MetaImage are found gives the same voxels at the same place, or is refused.

No byte that a header promises may be missing, in any form: voxels of unread memory once were those of another patient.
"""

from __future__ import annotations

import gzip
import os
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
from ct_writers import FORMS, META_FORMS, NRRD_FORMS, Writer, data_files, metaimage, nifti, nrrd
from test_ct import DIRECTIONS, SPACING_MM, body, placed
from test_ct_bad_input import refused
from VertebralFractureQuantLib.imaging.ct import CTVolume
from VertebralFractureQuantLib.imaging.files import read_ct, write_ct

ORIENTATIONS = {
    **DIRECTIONS,
    "sagittal": np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]]),
    "coronal": np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),
    "feet first": np.diag([-1.0, 1.0, -1.0]),
}
forms = pytest.mark.parametrize("write", FORMS.values(), ids=FORMS.keys())


@forms
@pytest.mark.parametrize("direction", ORIENTATIONS.values(), ids=ORIENTATIONS.keys())
def test_every_form_gives_the_same_voxels_at_the_same_place(
    tmp_path: Path, write: Writer, direction: np.ndarray
) -> None:
    ct = read_ct(write(tmp_path, body(), placed(direction)))
    np.testing.assert_array_equal(ct.voxels, body())
    np.testing.assert_allclose(ct.ijk_to_ras, placed(direction), atol=1e-4)  # float32 at 800 mm
    assert ct.voxels.dtype == np.int16 and ct.name.startswith("a")


@forms
def test_no_form_is_read_if_its_end_is_missing(tmp_path: Path, write: Writer) -> None:
    path = write(tmp_path, body(), placed(np.eye(3)))
    last = data_files(path)[-1]
    data = last.read_bytes()
    for kept in (len(data) - 8, len(data) - len(data) // 20, *([] if last == path else [0])):
        last.write_bytes(data[:kept])
        refused("corrupt_file", path)


@forms
def test_no_form_is_read_if_a_file_is_missing(tmp_path: Path, write: Writer) -> None:
    path = write(tmp_path, body(), placed(np.eye(3)))
    for part in data_files(path):
        if part != path:
            data = part.read_bytes()
            part.unlink()
            assert "missing" in refused("corrupt_file", path)
            part.write_bytes(data)


COMPRESSED = {name: write for name, write in FORMS.items() if any(word in name for word in (".gz", "zip", "zlib"))}
COMPRESSED.pop("NIfTI-1 plain called .nii.gz")


@pytest.mark.parametrize("write", COMPRESSED.values(), ids=COMPRESSED.keys())
def test_no_bit_of_compressed_voxels_may_be_wrong(tmp_path: Path, write: Writer) -> None:
    """Adler-32, CRC-32 and the checksums of bzip2: also where the voxels decode without an error."""
    path = write(tmp_path, body(), placed(np.eye(3)))
    part = data_files(path)[-1]
    data = part.read_bytes()
    for at in (len(data) - 3, len(data) - 6, len(data) // 2):
        damaged = bytearray(data)
        damaged[at] ^= 0x10
        part.write_bytes(damaged)
        assert "is truncated or damaged" in refused("corrupt_file", path)


def test_a_short_scan_does_not_show_the_scan_before(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    voxels = body((30, 40, 50))
    for write in (META_FORMS["MetaImage zlib"], NRRD_FORMS["NRRD gzip"]):
        whole = read_ct(write(tmp_path, voxels, placed(np.eye(3))))
        np.testing.assert_array_equal(whole.voxels, voxels)
        path = write(tmp_path / "b", voxels[:20], placed(np.eye(3)))
        path.write_bytes(path.read_bytes().replace(b"50 40 20", b"50 40 30"))
        message = refused("corrupt_file", path)
        assert str(20 * 40 * 50 * 2) in message and str(30 * 40 * 50 * 2) in message


@pytest.mark.parametrize("write", [metaimage, nrrd])
def test_a_list_of_too_few_files(tmp_path: Path, write: Writer) -> None:
    path = write(tmp_path, body(), placed(np.eye(3)), files="list")  # type: ignore[call-arg]
    path.write_bytes(path.read_bytes().replace(b"\na08.dat", b""))
    assert "lists 8 files, but its sizes need 9" in refused("corrupt_file", path)


@pytest.mark.parametrize("write", [nifti, partial(nifti, name="a.nii.gz"), nrrd, NRRD_FORMS["NRRD gzip"], metaimage])
def test_more_voxels_than_the_header_promises_are_told(tmp_path: Path, write: Writer) -> None:
    path = write(tmp_path, body(), placed(np.eye(3)))
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    if b"gzip" in data[:500]:
        path.write_bytes(data + gzip.compress(bytes(5000)))
    else:
        path.write_bytes(gzip.compress(data + bytes(5000)) if path.suffix == ".gz" else data + bytes(5000))
    ct = read_ct(path)
    np.testing.assert_array_equal(ct.voxels, body())
    assert "5000 bytes more" in ct.notes[0]


# geometry


@pytest.mark.parametrize("skew", [1e-5, 1e-4, 1e-3, 3e-3])
def test_an_sform_skewed_by_rounding_is_measured_as_it_is(tmp_path: Path, skew: float) -> None:
    matrix = placed(np.eye(3))
    matrix[0, 1] = skew * matrix[1, 1]
    ct = read_ct(nifti(tmp_path, body(), matrix, codes=(0, 1)))
    np.testing.assert_allclose(ct.ijk_to_ras, matrix, atol=1e-4)
    assert ct.ijk_to_ras[0, 1] == pytest.approx(matrix[0, 1], rel=1e-6)


@pytest.mark.parametrize("extension", ["nii", "nii.gz", "nrrd", "mha"])
@pytest.mark.parametrize("direction", [DIRECTIONS["supine head first"], DIRECTIONS["oblique"]])
@pytest.mark.parametrize("skew", [1e-7, 1e-5, 1e-3, 4e-3])
def test_a_volume_skewed_by_rounding_is_written_as_it_is(
    tmp_path: Path, extension: str, direction: np.ndarray, skew: float
) -> None:
    matrix = placed(direction)
    matrix[:3, 1] += skew * matrix[:3, 0]
    write_ct(CTVolume(body(), matrix, "a"), tmp_path / f"a.{extension}")
    np.testing.assert_allclose(read_ct(tmp_path / f"a.{extension}").ijk_to_ras[:3, :3], matrix[:3, :3], atol=1e-6)


def turned(degrees: float) -> np.ndarray:
    t = np.radians(degrees)
    return placed(np.array([[np.cos(t), -np.sin(t), 0], [np.sin(t), np.cos(t), 0], [0, 0, 1]]))


def shifted(mm: float) -> np.ndarray:
    return placed(np.eye(3), (-12.5 + mm, 33.0, -804.5))


DISAGREEING = {
    "2 degrees": turned(2),
    "1.5 degrees": turned(1.5),
    "mirrored": placed(np.diag([-1.0, 1, 1])),
    "half a voxel": shifted(0.4),
}
AGREEING = {"equal": placed(np.eye(3)), "0.5 degrees": turned(0.5), "a third of a voxel": shifted(0.23)}


@pytest.mark.parametrize("qform", DISAGREEING.values(), ids=DISAGREEING.keys())
def test_sform_and_qform_that_disagree_are_told_and_the_sform_is_used(tmp_path: Path, qform: np.ndarray) -> None:
    ct = read_ct(nifti(tmp_path, body(), placed(np.eye(3)), qform=qform))
    np.testing.assert_allclose(ct.ijk_to_ras, placed(np.eye(3)), atol=1e-4)
    assert "two orientations that disagree" in ct.notes[0] and "sform was used" in ct.notes[0]
    ct = read_ct(nifti(tmp_path, body(), placed(np.eye(3)), qform=qform, codes=(0, 1)))
    assert not ct.notes


@pytest.mark.parametrize("qform", AGREEING.values(), ids=AGREEING.keys())
def test_sform_and_qform_that_agree_are_not_mentioned(tmp_path: Path, qform: np.ndarray) -> None:
    assert not read_ct(nifti(tmp_path, body(), placed(np.eye(3)), qform=qform)).notes


def without(path: Path, *beginnings: str, replaced: tuple[str, str] = ("", "")) -> Path:
    """The file without the lines of its header that begin so, or with one text replaced by another."""
    lines = path.read_bytes().replace(*(text.encode() for text in replaced)).split(b"\n")
    path.write_bytes(b"\n".join(line for line in lines if not line.startswith(tuple(b.encode() for b in beginnings))))
    return path


SPACINGS = "space: left-posterior-superior\nspacings: 0.7 0.8 2.5"
NO_ORIENTATION: dict[str, Callable[[Path], Path]] = {
    "NIfTI-1": lambda folder: nifti(folder, body(), placed(np.eye(3)), codes=(0, 0)),
    "NIfTI-2": lambda folder: nifti(folder, body(), placed(np.eye(3)), codes=(0, 0), version=2, name="a.nii.gz"),
    "NRRD of another space": lambda folder: nrrd(folder, body(), shifted(12.5), space="3D-right-handed"),
    "NRRD of the scanner": lambda folder: nrrd(folder, body(), shifted(12.5), space="scanner-xyz"),
    "NRRD without space": lambda folder: without(
        nrrd(folder, body(), shifted(12.5)), replaced=("space: left-posterior-superior", "space dimension: 3")
    ),
    "NRRD with spacings": lambda folder: without(
        nrrd(folder, body(), shifted(0)), "space directions", "space origin",
        replaced=("space: left-posterior-superior", SPACINGS),
    ),
    "MetaImage": lambda folder: without(metaimage(folder, body(), placed(np.eye(3))), "TransformMatrix"),
}  # fmt: skip


@pytest.mark.parametrize("write", NO_ORIENTATION.values(), ids=NO_ORIENTATION.keys())
def test_without_an_orientation_nothing_is_guessed_unless_the_header_is_trusted(
    tmp_path: Path, write: Callable[[Path], Path]
) -> None:
    path = write(tmp_path)
    message = refused("orientation_unknown", path)
    assert "DICOM" in message and "--trust-header" in message
    ct = read_ct(path, trust_header=True)
    np.testing.assert_array_equal(ct.voxels, body())
    axes = np.abs(ct.ijk_to_ras[:3, :3])
    np.testing.assert_allclose(axes, np.diag(SPACING_MM), atol=1e-6)
    if not path.name.endswith("nrrd") or "spacings" in path.read_bytes()[:300].decode("latin-1"):
        assert (np.diag(ct.ijk_to_ras)[:3] > 0).tolist() == [False, False, True]


def test_a_trusted_header_changes_nothing_where_there_is_an_orientation(tmp_path: Path) -> None:
    for write in (nifti, nrrd, metaimage):
        path = write(tmp_path, body(), turned(3))
        np.testing.assert_array_equal(read_ct(path).ijk_to_ras, read_ct(path, trust_header=True).ijk_to_ras)


def test_a_lost_spacing_is_not_taken_as_1_mm(tmp_path: Path) -> None:
    path = without(metaimage(tmp_path, body(), placed(np.eye(3))), "ElementSpacing")
    assert "no voxel spacing" in refused("bad_spacing", path)
    path = without(nrrd(tmp_path, body(), placed(np.eye(3))), "space directions", "space origin")
    assert "no voxel spacing" in refused("bad_spacing", path, trust_header=True)


def test_metaimage_fields_are_read_in_small_letters_too(tmp_path: Path) -> None:
    path = metaimage(tmp_path, body(), placed(np.eye(3)))
    path.write_bytes(path.read_bytes().replace(b"ElementSpacing", b"elementspacing").replace(b"Offset =", b"offset:"))
    np.testing.assert_allclose(read_ct(path).ijk_to_ras, placed(np.eye(3)))


def test_a_transform_that_also_scales_leaves_the_spacing_unclear(tmp_path: Path) -> None:
    path = metaimage(tmp_path, body(), placed(np.eye(3)))
    old = b"TransformMatrix = -1.0 0.0 0.0 0.0 -1.0 0.0 0.0 0.0 1.0"
    assert old in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(old, b"TransformMatrix = -2 0 0 0 -2 0 0 0 2"))
    assert "lengths 2 x 2 x 2" in refused("bad_direction", path)


def test_a_scaling_of_metaimage_is_applied_and_told(tmp_path: Path) -> None:
    ct = read_ct(metaimage(tmp_path, body(), placed(np.eye(3)), scaling=(0.5, 3.0)))
    assert "multiplied by 0.5, and 3 was added" in ct.notes[0]


def test_units_that_are_no_lengths(tmp_path: Path) -> None:
    assert "'pixel'" in refused("bad_spacing", nrrd(tmp_path, body(), placed(np.eye(3)), unit_mm=("pixel", 1.0)))


# true reasons


REASONS: dict[str, tuple[str, str, Callable[[Path], Path]]] = {
    "an encoding of NRRD": ("not_an_image", "'zrl'", lambda d: nrrd_with(d, "encoding: raw", "encoding: zrl")),
    "no byte order": ("corrupt_file", "byte order", lambda d: without(nrrd(d, body(), placed(np.eye(3))), "endian")),
    "a type of NRRD": ("not_3d", "'block'", lambda d: nrrd_with(d, "type: short", "type: block")),
    "a type of MetaImage": ("not_3d", "'MET_STRING'", lambda d: meta_with(d, "MET_SHORT", "MET_STRING")),
    "channels": ("not_3d", "several values", lambda d: meta_with(d, "DimSize", "ElementNumberOfChannels = 3\nDimSize")),
    "a time series": ("not_3d", "11 x 14 x 9 x 1", lambda d: nrrd_list(d)),
    "numbers of text": ("corrupt_file", "no int16", lambda d: too_large_a_number(d)),
    "a name with two numbers": ("corrupt_file", "one number", lambda d: meta_with(d, "LOCAL", "a%d%d 0 8 1")),
    "other pictures": ("not_3d", "PNG", lambda d: picture(d)),
    "an archive": ("not_an_image", "Unpack", lambda d: archive(d)),
    "a quaternion": (
        "bad_direction", "no rotation", lambda d: patched(nifti(d, body(), placed(np.eye(3)), codes=(1, 0)), 256, 0.9)
    ),
    "a file of another computer": (
        "corrupt_file", "The file 'a.raw'", lambda d: meta_with(d, "LOCAL", "C:\\Users\\Ann\\a.raw")
    ),
    "Analyze 7.5": ("not_an_image", "Analyze 7.5", lambda d: analyze(d)),
}  # fmt: skip


def nrrd_with(folder: Path, old: str, new: str) -> Path:
    return without(nrrd(folder, body(), placed(np.eye(3))), replaced=(old, new))


def meta_with(folder: Path, old: str, new: str) -> Path:
    return without(metaimage(folder, body(), placed(np.eye(3))), replaced=(old, new))


def nrrd_list(folder: Path) -> Path:
    path = nrrd(folder, body(), placed(np.eye(3)), sizes="{} {} {} 1", vectors="{} {} {} none")
    return without(path, replaced=("sizes: 11 14 9 1", "sizes: 11 14 9 12"))


def too_large_a_number(folder: Path) -> Path:
    path = nrrd(folder, body(), placed(np.eye(3)), encoding="ascii")
    path.write_bytes(path.read_bytes()[:-8] + b" 70000\n")
    return path


def picture(folder: Path) -> Path:
    (folder / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    return folder / "a.png"


def archive(folder: Path) -> Path:
    with ZipFile(folder / "a.zip", "w") as file:
        file.write(nifti(folder, body(), placed(np.eye(3))))
    return folder / "a.zip"


def patched(path: Path, at: int, value: float) -> Path:
    """A NIfTI file with three equal numbers from byte `at` on."""
    data = bytearray(path.read_bytes())
    struct.pack_into("<3f", data, at, value, value, value)
    path.write_bytes(data)
    return path


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.nii")
    assert "neither a file nor a folder" in refused("not_an_image", tmp_path / "a.nii")


def analyze(folder: Path) -> Path:
    path = nifti(folder, body(), placed(np.eye(3)), name="a.hdr")
    path.write_bytes(path.read_bytes()[:344] + bytes(4))
    return path


@pytest.mark.parametrize(("code", "words", "write"), REASONS.values(), ids=REASONS.keys())
def test_a_refusal_names_the_true_reason(tmp_path: Path, code: str, words: str, write: Callable[[Path], Path]) -> None:
    assert words in refused(code, write(tmp_path))


def test_a_file_is_known_by_its_content_whatever_its_name(tmp_path: Path) -> None:
    for write in (nifti, nrrd, metaimage):
        path = write(tmp_path, body(), placed(np.eye(3)))
        other = path.rename(tmp_path / "scan.img.nii" if write is nrrd else tmp_path / "scan.dat")
        np.testing.assert_array_equal(read_ct(other).voxels, body())
