"""Every form in which DICOM stores a slice gives the same voxels in the same place, or is refused with its reason.

No voxel comes from memory that was not read: what is shorter than promised is refused.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)
from test_ct import DIRECTIONS, SPACING_MM, body, dicom_series
from test_ct_bad_input import refused
from VertebralFractureQuantLib.errors import VFQError
from VertebralFractureQuantLib.imaging.files import read_ct

SHAPE = (5, 16, 24)
STRAIGHT = np.eye(3)


def explicit(dataset: Dataset) -> None:
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian


def implicit(dataset: Dataset) -> None:
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian


def deflated(dataset: Dataset) -> None:
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian


def big_endian(dataset: Dataset) -> None:
    dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()


def run_lengths(dataset: Dataset) -> None:
    """RLE as PS3.5 annex G describes it, written with the longest literal runs."""
    words = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").view(np.uint8).reshape(-1, 2)
    segments = [packed(words[:, n].tobytes()) for n in (0, 1)]
    header = np.zeros(16, "<u4")
    header[:3] = 2, 64, 64 + len(segments[0])
    dataset.PixelData = encapsulate([header.tobytes() + b"".join(segments)])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = RLELossless


def packed(data: bytes) -> bytes:
    """PackBits: literal runs of 100 bytes; the last bytes are one repeated run if they are equal."""
    runs = [data[at : at + 100] for at in range(0, len(data), 100)]
    coded = b"".join(
        bytes([257 - len(run), run[0]]) if len(set(run)) == 1 and len(run) > 1 else bytes([len(run) - 1]) + run
        for run in runs
    )
    return coded + b"\x80" * (len(coded) % 2)


def twelve_bits(dataset: Dataset) -> None:
    """Four bits above the stored ones hold an old overlay."""
    values = np.frombuffer(dataset.PixelData, "<u2") | 0xA000
    dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 12, 11, 0
    dataset.PixelData = values.tobytes()


def twelve_high_bits(dataset: Dataset) -> None:
    """The stored bits are the highest ones, as in old files."""
    values = np.frombuffer(dataset.PixelData, "<u2") << 4
    dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 12, 15, 0
    dataset.PixelData = values.astype("<u2").tobytes()


def wrong_high_bit(dataset: Dataset) -> None:
    """The header says the highest bits, but the stored ones are the lowest."""
    dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 12, 15, 0


def signed(dataset: Dataset) -> None:
    values = np.frombuffer(dataset.PixelData, "<u2").astype(np.int32) - 1024
    dataset.PixelRepresentation, dataset.RescaleIntercept = 1, "0"
    dataset.PixelData = values.astype("<i2").tobytes()


def thirty_two_bits(dataset: Dataset) -> None:
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 32, 32, 31
    dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype("<u4").tobytes()


def padded(dataset: Dataset) -> None:
    dataset.PixelData += b"\0\0"


FORMS: dict[str, Callable[[Dataset], None]] = {
    form.__name__: form
    for form in (
        explicit, implicit, deflated, big_endian, run_lengths, twelve_bits, twelve_high_bits, wrong_high_bit, signed,
        thirty_two_bits, padded,
    )
}  # fmt: skip


def rewritten(path: Path, *forms: Callable[[Dataset], None]) -> None:
    """Write a slice in a form, from unsigned 16-bit explicit little endian."""
    dataset = dcmread(path)
    dataset.PixelData = (np.frombuffer(dataset.PixelData, "<i2")).astype("<u2").tobytes()
    dataset.PixelRepresentation = 0
    for form in (explicit, *forms):
        form(dataset)
    dcmwrite(path, dataset)


def series(folder: Path, *forms: Callable[[Dataset], None], axes: np.ndarray = STRAIGHT) -> list[Path]:
    files = dicom_series(folder, body(SHAPE), axes=axes)
    for path in files:
        rewritten(path, *forms)
    return files


def as_written(folder: Path, axes: np.ndarray = STRAIGHT) -> None:
    """Require the voxels of `series`, in their place."""
    ct = read_ct(folder)
    np.testing.assert_array_equal(ct.voxels, body(SHAPE))
    lps = np.c_[axes.T * SPACING_MM, [-10, -20, 5]]
    np.testing.assert_allclose(ct.ijk_to_ras[:3], np.diag([-1, -1, 1]) @ lps, atol=1e-5)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
@pytest.mark.parametrize("direction", DIRECTIONS.values(), ids=DIRECTIONS.keys())
def test_every_form_gives_the_same_voxels_in_the_same_place(
    tmp_path: Path, form: Callable[[Dataset], None], direction: np.ndarray
) -> None:
    right_handed = direction * np.array([1, 1, np.linalg.det(direction)])
    series(tmp_path, form, axes=direction.T)
    if np.linalg.det(direction) > 0:
        as_written(tmp_path, right_handed.T)
    else:  # slices are stacked along their normal, from the other end
        np.testing.assert_array_equal(read_ct(tmp_path).voxels, body(SHAPE)[::-1])


@pytest.mark.parametrize("compressor", ["JPEG", "JPEG2000"])
@pytest.mark.parametrize("extension", ["", ".gz"])
def test_lossless_compression_by_gdcm_gives_the_same_voxels(
    tmp_path: Path, compressor: str, extension: str, capfd: pytest.CaptureFixture[str]
) -> None:
    for path in series(tmp_path):
        compressed(path, compressor)
        if extension:
            gzipped(path)
    as_written(tmp_path)
    assert "Corrupt" not in capfd.readouterr().err


def compressed(path: Path, compressor: str) -> None:
    image = sitk.ReadImage(str(path), sitk.sitkInt16)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    writer.UseCompressionOn()
    writer.SetCompressor(compressor)
    writer.SetFileName(str(path))
    writer.Execute(image)
    assert dcmread(path).file_meta.TransferSyntaxUID.is_compressed


@pytest.mark.parametrize("compressor", ["JPEG", "JPEG2000"])
@pytest.mark.parametrize("lost", [1, 2, 5, 100])
@pytest.mark.parametrize("end", [b"", b"\xff\xd9"])
def test_a_compressed_image_that_lost_its_last_bytes_is_refused(
    tmp_path: Path, compressor: str, lost: int, end: bytes
) -> None:
    """The decoders fill what is absent, some without an error."""
    path = series(tmp_path)[2]
    compressed(path, compressor)
    dataset = dcmread(path)
    (image,) = generate_frames(dataset.PixelData, number_of_frames=1)
    dataset.PixelData = encapsulate([image[: image.rindex(b"\xff\xd9") - lost] + end])
    dcmwrite(path, dataset)
    assert "1.2.3.2.dcm" in refused("corrupt_file", tmp_path)


def test_an_unknown_compression_is_named(tmp_path: Path) -> None:
    path = series(tmp_path, run_lengths)[2]
    dataset = dcmread(path)
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.201"
    dcmwrite(path, dataset)
    assert "1.2.840.10008.1.2.4.201" in refused("corrupt_file", tmp_path)


def gzipped(path: Path) -> Path:
    packed_file = path.with_name(path.name + ".gz")
    packed_file.write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    return packed_file


def without_preamble(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[132:])
    return path


def without_preamble_and_meta(path: Path) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[144 + int.from_bytes(data[140:144], "little") :])
    return path


WRAPPINGS = {
    "gzip": (gzipped, explicit),
    "gzip of a deflated one": (gzipped, deflated),
    "no preamble": (without_preamble, implicit),
    "no meta, implicit": (without_preamble_and_meta, implicit),
    "no meta, explicit": (without_preamble_and_meta, explicit),
    "no meta, big endian": (without_preamble_and_meta, big_endian),
    "gzip without preamble": (lambda path: gzipped(without_preamble(path)), implicit),
}


@pytest.mark.parametrize("suffix", [".dcm", ""])
@pytest.mark.parametrize(("wrap", "form"), WRAPPINGS.values(), ids=WRAPPINGS.keys())
def test_gzip_and_absent_preambles_whatever_the_name(
    tmp_path: Path, wrap: Callable[[Path], Path], form: Callable[[Dataset], None], suffix: str
) -> None:
    files = [wrap(path.rename(path.with_suffix(suffix))) for path in series(tmp_path, form)]
    as_written(tmp_path)
    if files[0].suffix:
        assert len(read_ct(files[2]).voxels) == SHAPE[0]


def test_each_slice_may_have_its_own_form_and_rescale(tmp_path: Path) -> None:
    for path, form in zip(dicom_series(tmp_path, body(SHAPE)), FORMS.values(), strict=False):
        rewritten(path, form)
    as_written(tmp_path)


# what is shorter than promised


def short(dataset: Dataset) -> None:
    dataset.PixelData = dataset.PixelData[:-48]


def longer_by_a_row(dataset: Dataset) -> None:
    dataset.Rows -= 1


def more_frames(dataset: Dataset) -> None:
    dataset.PixelData, dataset.NumberOfFrames = dataset.PixelData, 2


def empty_fragment(dataset: Dataset) -> None:
    dataset.PixelData = encapsulate([b"\0\0"])


def one_row_more(dataset: Dataset) -> None:
    dataset.Rows += 1


BROKEN = {
    "short": (short,),
    "short and deflated": (short, deflated),
    "a row left over": (longer_by_a_row,),
    "a frame is absent": (more_frames,),
    "no compressed image": (run_lengths, empty_fragment),
    "a short run": (run_lengths, one_row_more),
}


@pytest.mark.parametrize("forms", BROKEN.values(), ids=BROKEN.keys())
def test_pixels_that_are_not_all_there_are_refused_with_the_name_of_the_file(
    tmp_path: Path, forms: tuple[Callable[[Dataset], None], ...]
) -> None:
    series(tmp_path, *forms)
    assert "1.2.3.0.dcm" in refused("corrupt_file", min(tmp_path.iterdir()))
    if forms[-1] is not one_row_more:  # otherwise its size differs too
        assert "1.2.3.0.dcm" in refused("corrupt_file", mended(tmp_path))


def mended(folder: Path) -> Path:
    """Leave one broken slice in the series."""
    for path in sorted(folder.iterdir())[1:]:
        path.unlink()
    whole = folder / "whole"
    for path in series(whole)[1:]:
        path.rename(folder / path.name)
    for path in whole.iterdir():
        path.unlink()
    return folder


# mutated files; validation/fuzz_dicom.py is the long form


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, bytes]]:
    """A series in each form, as the bytes of its files."""
    found = []
    for name, form in FORMS.items():
        files = series(tmp_path_factory.mktemp(name), form)
        found.append({path.name: path.read_bytes() for path in files})
    return found


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    form=st.integers(0, len(FORMS) - 1),
    changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=8),
    cut=st.one_of(st.none(), st.floats(0, 0.999)),
    everywhere=st.booleans(),
)
def test_a_mutated_file_gives_a_coded_failure_or_all_of_its_voxels(
    stored: list[dict[str, bytes]],
    tmp_path: Path,
    form: int,
    changes: list[tuple[float, int]],
    cut: float | None,
    everywhere: bool,
) -> None:
    for n, (name, data) in enumerate(stored[form].items()):
        mutated = bytearray(data)
        if everywhere or n == 2:
            for where, value in changes:
                mutated[int(where * (len(data) - 1))] = value
            if cut is not None:
                del mutated[min(int(cut * len(data)), len(data) - 8) :]
        (tmp_path / name).write_bytes(mutated)
    try:
        ct = read_ct(tmp_path)
    except VFQError:
        return
    assert cut is None and ct.voxels.size > 0
    if not changes:
        np.testing.assert_array_equal(ct.voxels, body(SHAPE))
