"""Choosing what to read in a folder of DICOM files: the fittest series, without copies, odd images and other phases.

Whatever is passed over is named, with its reason, in a note or in the failure.
"""

from __future__ import annotations

import os
import re
import shutil
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from test_ct import SPACING_MM, body, dicom_series, dicom_slice
from test_ct_bad_input import refused
from VertebralFractureQuantLib.cohort.worklist import expanded, find_cases, passed_over
from VertebralFractureQuantLib.errors import VFQError
from VertebralFractureQuantLib.imaging.files import read_ct
from VertebralFractureQuantLib.report.outputs import write_record
from VertebralFractureQuantLib.scene.opening import read_study
from VertebralFractureQuantLib.spine.curve import fit_curve
from VertebralFractureQuantLib.spine.record import SpineAnalysis

GOOD, OTHER = "1.2.5", "1.2.6"
SHAPE = (8, 6, 7)


def pass_over_time(folder: Path, n: int, uid: str = OTHER, tags: dict[str, str] | None = None, seed: int = 1) -> None:
    """Four slices at the same places as others; pass `n` has its own voxels and UIDs."""
    for k in range(4):
        position = np.array([-10, -20, 5 + k * SPACING_MM[2]])
        own = {"0020|000e": uid, "0008|0018": f"{uid}.{n}.{k}", **(tags or {})}
        dicom_slice(folder / f"{uid}.{n}.{k}.dcm", body((4, 6, 7), seed=seed + n)[k], position, np.eye(3), own)


def failure(path: Path, **options: object) -> VFQError:
    with pytest.raises(VFQError) as info:
        read_ct(path, **options)
    return info.value


def same(folder: Path, voxels: np.ndarray) -> tuple[str, ...]:
    """Require these voxels, and return the notes."""
    ct = read_ct(folder)
    np.testing.assert_array_equal(ct.voxels, voxels)
    return ct.notes


# the fittest series


def test_a_time_series_with_more_slices_is_passed_over(tmp_path: Path) -> None:
    dicom_series(tmp_path, body(SHAPE), uid=GOOD)
    for n in range(5):
        pass_over_time(tmp_path, n)
    note = same(tmp_path, body(SHAPE))[0]
    assert f"chosen: 8 slices 2.5 mm apart, UID {GOOD}. Passed over: 20 slices 2.5 mm apart, UID {OTHER} " in note
    assert "(perfusion, cine or another time series)" in note and "--series" in note


def test_a_requested_series_has_no_alternative(tmp_path: Path) -> None:
    dicom_series(tmp_path, body(SHAPE), uid=GOOD)
    pass_over_time(tmp_path, 0)
    pass_over_time(tmp_path, 1)
    assert "4 of 8 slices" in refused("mixed_series", tmp_path, series=OTHER)
    assert len(read_ct(tmp_path, series=GOOD).voxels) == 8


def twins(folder: Path) -> None:
    """Two series with the same grid and other voxels; GOOD is the fitter one, as its UID sorts first."""
    dicom_series(folder, body(SHAPE), uid=GOOD)
    dicom_series(folder, body(SHAPE, seed=5), uid=OTHER)


def test_the_fingerprint_of_a_series_finds_it_again_and_does_not_tell_its_uid(tmp_path: Path) -> None:
    twins(tmp_path)
    for uid, seed in ((GOOD, 0), (OTHER, 5)):
        ct = read_ct(tmp_path, series=uid)
        assert re.fullmatch("sha256:[0-9a-f]{8}", ct.series) and uid not in ct.series
        assert ct.series == f"sha256:{sha256(uid.encode()).hexdigest()[:8]}"
        again = read_ct(tmp_path, series=ct.series)
        np.testing.assert_array_equal(again.voxels, body(SHAPE, seed=seed))
        assert again.series == ct.series
    assert failure(tmp_path, series="sha256:00000000").code == "no_ct_series"


def test_a_review_opens_the_series_that_was_analysed(tmp_path: Path) -> None:
    scans, case = tmp_path / "scans", tmp_path / "out" / "case"
    twins(scans)
    case.mkdir(parents=True)

    def opened(fingerprint: str | None) -> np.ndarray:
        analysed = read_ct(scans, series=OTHER)
        grid = {"shape": analysed.voxels.shape, "spacing_mm": analysed.spacing_mm, "ijk_to_ras": analysed.ijk_to_ras}
        curve = fit_curve(np.array([[0.0, 0, 20], [0, 0, 10], [0, 0, 0]])).points
        write_record(SpineAnalysis("case", curve=curve, series=fingerprint, **grid), case / "analysis.json")
        return read_study(scans, case, "case").ct.voxels

    np.testing.assert_array_equal(opened(read_ct(scans, series=OTHER).series), body(SHAPE, seed=5))
    np.testing.assert_array_equal(opened(None), body(SHAPE))  # an older record: the fittest series
    np.testing.assert_array_equal(opened("sha256:00000000"), body(SHAPE))  # with new UIDs: the grid alone is checked


def test_if_the_fittest_series_cannot_be_stacked_the_next_is_read(tmp_path: Path) -> None:
    longer = dicom_series(tmp_path, body((12, 6, 7)), uid=OTHER)
    longer[5].unlink()
    dicom_series(tmp_path, body(SHAPE), uid=GOOD)
    note = same(tmp_path, body(SHAPE))[0]
    assert f"11 slices 2.5 mm apart, UID {OTHER} (missing_slices: 1 slices are missing" in note


def test_if_the_voxels_of_the_fittest_series_are_no_ct_the_next_is_read(tmp_path: Path) -> None:
    dicom_series(tmp_path, np.abs(body((12, 6, 7))), uid=OTHER)
    dicom_series(tmp_path, body(SHAPE), uid=GOOD)
    assert f"UID {OTHER} (not_ct: " in same(tmp_path, body(SHAPE))[0]


def test_a_damaged_fittest_series_is_not_replaced_by_another(tmp_path: Path) -> None:
    longer = dicom_series(tmp_path / "a", body((12, 6, 7)), uid=OTHER)
    dicom_series(tmp_path / "b", body(SHAPE), uid=GOOD)
    longer[5].write_bytes(longer[5].read_bytes()[:-20])
    refused("corrupt_file", tmp_path)


def test_if_no_series_can_be_read_the_failure_says_why_and_its_notes_give_the_uids(tmp_path: Path) -> None:
    longer = dicom_series(tmp_path, body((12, 6, 7)), uid=OTHER)
    longer[5].unlink()
    dicom_series(tmp_path, body((2, 6, 7)), uid=GOOD)
    error = failure(tmp_path)
    assert error.code == "missing_slices" and "None of the 2 CT series can be read" in error.message
    assert "2 slices 2.5 mm apart (too_few_slices)" in error.message
    assert OTHER not in error.message and GOOD not in error.message  # a record of the failure names no identifier
    assert [note.split(" (")[0] for note in error.notes] == [
        f"Not read: 11 slices 2.5 mm apart, UID {OTHER}",
        f"Not read: 2 slices 2.5 mm apart, UID {GOOD}",
    ]


def test_the_uids_are_also_told_when_the_requested_one_is_absent(tmp_path: Path) -> None:
    dicom_series(tmp_path, body(SHAPE), uid=GOOD)
    assert failure(tmp_path, series="9.9").notes == (f"The folder contains 8 slices 2.5 mm apart, UID {GOOD}.",)


UNFIT = {
    "a map": {"0008|0008": "DERIVED\\SECONDARY\\AXIAL\\CBF"},
    "a map by its description": {"0008|103e": "DE Iodine 1.0"},
    "a reformat": {"0008|0008": "DERIVED\\SECONDARY\\MPR"},
    "a cine": {"0008|103e": "CINE"},
    "thick slices": {"0020|0032": None},
    "lung kernel": {"0018|1210": "LUNG"},
}


@pytest.mark.parametrize("tags", UNFIT.values(), ids=UNFIT.keys())
def test_an_unfit_series_is_passed_over(tmp_path: Path, tags: dict[str, str | None]) -> None:
    if None in tags.values():  # as long, with slices 5 mm apart
        for k in range(4):
            own = {"0020|000e": "1.2.1", "0008|0018": f"1.2.1.{k}"}
            dicom_slice(tmp_path / f"t{k}.dcm", body(SHAPE)[k], np.array([-10, -20, 5.0 + 5 * k]), np.eye(3), own)
    else:
        dicom_series(tmp_path, body(SHAPE, seed=3), uid="1.2.1", tags=tags)
    dicom_series(tmp_path, body(SHAPE), uid=GOOD)
    assert "UID 1.2.1 (" in same(tmp_path, body(SHAPE))[0]


def test_a_description_that_may_name_the_patient_is_not_shown_but_number_and_kernel_are(tmp_path: Path) -> None:
    tags = {"0008|103e": "Miller Anna", "0018|1210": "B30f", "0020|0011": "7"}
    dicom_series(tmp_path, body(SHAPE), uid=GOOD, tags=tags)
    dicom_series(tmp_path, body((4, 6, 7)), uid=OTHER)
    note = same(tmp_path, body(SHAPE))[0]
    assert f"series 7: 8 slices 2.5 mm apart, kernel B30f, UID {GOOD}" in note and "Miller" not in note


# a series UID for each slice


def anonymised(folder: Path, tags: dict[str, str] | None = None, skip: int | None = None) -> None:
    for k in range(8):
        position = np.array([-10, -20, 5 + k * SPACING_MM[2]])
        own = {"0020|000e": f"1.2.7.{k}", "0008|0018": f"1.2.8.{k}", **(tags or {})}
        if k != skip:
            dicom_slice(folder / f"{k}.dcm", body(SHAPE)[k], position, np.eye(3), own)


def test_slices_with_series_uids_of_their_own_are_stacked_with_a_note(tmp_path: Path) -> None:
    anonymised(tmp_path)
    assert "8 series of one slice each were stacked as one" in same(tmp_path, body(SHAPE))[0]
    assert len(read_ct(tmp_path / "3.dcm").voxels) == 8


def test_two_reconstructions_with_a_uid_for_each_slice_are_not_mixed(tmp_path: Path) -> None:
    anonymised(tmp_path, {"0018|1210": "B30f"})
    for k in range(4):
        tags = {"0020|000e": f"1.2.9.{k}", "0008|0018": f"1.2.10.{k}", "0018|1210": "B60f"}
        position = np.array([-10, -20, 5 + k * SPACING_MM[2]])
        dicom_slice(tmp_path / f"b{k}.dcm", body(SHAPE, seed=2)[k], position, np.eye(3), tags)
    assert len(same(tmp_path, body(SHAPE))) == 2


def test_a_missing_slice_of_such_a_series_is_named_as_missing(tmp_path: Path) -> None:
    anonymised(tmp_path, skip=3)
    assert "1 slices are missing" in refused("missing_slices", tmp_path)


def test_such_slices_that_were_sent_twice_count_once(tmp_path: Path) -> None:
    anonymised(tmp_path)
    for k in range(8):
        position = np.array([-10, -20, 5 + k * SPACING_MM[2]])
        tags = {"0020|000e": f"1.2.17.{k}", "0008|0018": f"1.2.18.{k}"}
        dicom_slice(tmp_path / f"z{k}.dcm", body(SHAPE)[k], position, np.eye(3), tags)
    assert "16 series of one slice each" in same(tmp_path, body(SHAPE))[0]


def test_single_slices_of_different_kinds_make_no_stack(tmp_path: Path) -> None:
    for k in range(4):
        tags = {"0020|000e": f"1.2.7.{k}", "0018|1210": f"B{k}0f"}
        dicom_slice(tmp_path / f"{k}.dcm", body(SHAPE)[k], np.array([-10, -20, 5.0 * k]), np.eye(3), tags)
    assert "4 CT series of one slice each" in refused("too_few_slices", tmp_path)


def test_single_images_of_one_place_are_no_series(tmp_path: Path) -> None:
    """As bolus tracking makes them beside the scan."""
    dicom_series(tmp_path, body(SHAPE), uid=GOOD)
    for k in range(4):
        tags = {"0020|000e": f"1.2.7.{k}", "0008|0018": f"1.2.8.{k}"}
        dicom_slice(tmp_path / f"{k}.dcm", body(SHAPE, seed=2)[k], np.array([-10, -20, 5.0]), np.eye(3), tags)
    assert "fittest of 5 CT series" in same(tmp_path, body(SHAPE))[0]


def test_a_study_uid_for_each_slice_is_told_too(tmp_path: Path) -> None:
    anonymised(tmp_path)
    for k in range(8):
        path = tmp_path / f"{k}.dcm"
        tags = {"0020|000e": f"1.2.7.{k}", "0008|0018": f"1.2.8.{k}", "0020|000d": f"1.3.{k}"}
        dicom_slice(path, body(SHAPE)[k], np.array([-10, -20, 5 + k * SPACING_MM[2]]), np.eye(3), tags)
    message = refused("several_studies", tmp_path)
    assert "8 studies" in message and "one slice" in message and "anonymise" in message


def test_a_truncated_slice_with_a_series_uid_of_its_own_is_not_ignored(tmp_path: Path) -> None:
    anonymised(tmp_path)
    last = tmp_path / "7.dcm"
    last.write_bytes(last.read_bytes()[:-20])
    refused("corrupt_file", tmp_path)


# odd images, copies, phases


@pytest.mark.parametrize("shape", [(6, 7), (9, 5)])
@pytest.mark.parametrize("name", ["a_scout.dcm", "z_scout.dcm"])
def test_an_odd_image_is_left_out_whether_it_is_the_first_file_or_the_last(
    tmp_path: Path, name: str, shape: tuple[int, int]
) -> None:
    dicom_series(tmp_path, body((12, 6, 7)))
    tags = {"0020|000e": "1.2.3", "0008|0018": "1.2.9"}
    dicom_slice(tmp_path / name, body(shape), np.array([-10, -20, 15.0]), np.eye(3)[[0, 2, 1]], tags)
    (note,) = same(tmp_path, body((12, 6, 7)))
    assert "different" in note and "orientation (1 of 13 slices differ from the others)" in note


def test_an_odd_image_does_not_hide_a_missing_slice(tmp_path: Path) -> None:
    files = dicom_series(tmp_path, body((12, 6, 7)))
    tags = {"0020|000e": "1.2.3", "0008|0018": "1.2.9"}
    files[5].unlink()
    dicom_slice(tmp_path / "odd.dcm", body((9, 5)), np.array([-10, -20, 5 + 5 * SPACING_MM[2]]), np.eye(3), tags)
    assert "1 slices are missing" in refused("missing_slices", tmp_path)


def test_images_that_cannot_be_placed_are_left_out_if_few_and_refused_if_many(tmp_path: Path) -> None:
    dicom_series(tmp_path, body((12, 6, 7)))
    edited(tmp_path / "odd", ImagePositionPatient=None)
    one, two, *_ = (tmp_path / "odd").iterdir()
    one.rename(tmp_path / "a.dcm")
    two.rename(tmp_path.parent / "b.dcm")
    shutil.rmtree(tmp_path / "odd")
    assert "1 images of the series without ImagePositionPatient" in same(tmp_path, body((12, 6, 7)))[0]
    (tmp_path.parent / "b.dcm").rename(tmp_path / "b.dcm")
    assert "2 CT slices have no ImagePositionPatient" in refused("bad_direction", tmp_path)


@pytest.mark.parametrize("aside", [0.0, 0.01, 0.1])
def test_a_slice_sent_twice_counts_once_whatever_its_uid(tmp_path: Path, aside: float) -> None:
    """The second copy has another UID, and its position is rounded by up to a twentieth of the distance of slices."""
    dicom_series(tmp_path, body(SHAPE))
    for k in (2, 5):
        tags = {"0020|000e": "1.2.3", "0008|0018": f"1.2.9.{k}", "0020|0012": "2"}
        position = np.array([-10, -20, 5 + k * SPACING_MM[2] + aside])
        dicom_slice(tmp_path / f"z{k}.dcm", body(SHAPE)[k], position, np.eye(3), tags)
    assert same(tmp_path, body(SHAPE)) == ("2 files that repeat a slice of the series were left out.",)


PHASES = {
    "acquisition": ("0020|0012", "1", "2"),
    "temporal position": ("0020|0100", "1", "2"),
    "kernel": ("0018|1210", "B30f", "B60f"),
    "echo": ("0018|0086", "1", "2"),
    "phase of the heart": ("0020|9241", "10", "60"),
    "phase of breathing": ("0020|9245", "0", "50"),
    "trigger": ("0018|1060", "75", "530"),
    "time": ("0008|0033", "101500", "101530"),
}


@pytest.mark.parametrize(("tag", "one", "two"), PHASES.values(), ids=PHASES.keys())
def test_the_phases_of_a_series_are_told_apart_by_its_headers(tmp_path: Path, tag: str, one: str, two: str) -> None:
    pass_over_time(tmp_path, 0, tags={tag: one})
    pass_over_time(tmp_path, 1, tags={tag: two})
    (note,) = same(tmp_path, body((4, 6, 7), seed=1))
    assert "several phases or reconstructions" in note and "Left out: " in note and "(4 slices)" in note
    assert "101500" not in note and "101530" not in note and note.isprintable()


def test_phases_with_two_kernels_each_are_told_apart_by_both(tmp_path: Path) -> None:
    for n, (acquisition, kernel) in enumerate([("1", "A"), ("1", "B"), ("2", "A"), ("2", "B")]):
        pass_over_time(tmp_path, n, tags={"0020|0012": acquisition, "0018|1210": kernel})
    (note,) = same(tmp_path, body((4, 6, 7), seed=1))
    assert "AcquisitionNumber 1, ConvolutionKernel A" in note and note.count("(4 slices)") == 3


def test_slices_that_lie_between_those_of_another_reconstruction_are_told_apart(tmp_path: Path) -> None:
    dicom_series(tmp_path, body(SHAPE), tags={"0018|1210": "B30f"})
    for k in range(4):
        tags = {"0020|000e": "1.2.3", "0008|0018": f"1.2.9.{k}", "0018|1210": "B60f"}
        dicom_slice(tmp_path / f"b{k}.dcm", body(SHAPE)[k], np.array([-10, -20, 6.1 + 5 * k]), np.eye(3), tags)
    (note,) = same(tmp_path, body(SHAPE))
    assert "ConvolutionKernel B30f were read" in note and "ConvolutionKernel B60f (4 slices)" in note


@pytest.mark.parametrize(("decimals", "apart"), [(0, 2.5), (1, 0.625), (1, 0.7), (2, 0.3)])
def test_positions_that_are_rounded_in_the_header_are_those_of_a_constant_distance(
    tmp_path: Path, decimals: int, apart: float
) -> None:
    dicom_series(tmp_path, body((11, 6, 7)))
    for path in tmp_path.iterdir():
        dataset = dcmread(path)
        k = int(path.suffixes[-2][1:])
        dataset.ImagePositionPatient = ["-10", "-20.125", f"{5 + k * apart:.{decimals}f}"]
        dataset.save_as(path)
    ct = read_ct(tmp_path)
    assert ct.spacing_mm[0] == pytest.approx(apart, abs=10.0**-decimals / 10) and ct.notes == ()
    np.testing.assert_array_equal(ct.voxels, body((11, 6, 7)))


def test_a_missing_slice_is_noticed_in_rounded_positions(tmp_path: Path) -> None:
    for k in (0, 1, 2, 3, 5, 6, 7):
        tags = {"0020|000e": "1.2.3", "0008|0018": f"1.2.9.{k}"}
        dicom_slice(tmp_path / f"{k}.dcm", body(SHAPE)[k], np.array([-10, -20, round(0.625 * k, 1)]), np.eye(3), tags)
    assert "1 slices are missing" in refused("missing_slices", tmp_path)


def test_the_longest_phase_is_read(tmp_path: Path) -> None:
    dicom_series(tmp_path, body(SHAPE), uid=OTHER, tags={"0020|0012": "5"})
    pass_over_time(tmp_path, 0, tags={"0020|0012": "2"})
    assert "the slices of AcquisitionNumber 5 were read" in same(tmp_path, body(SHAPE))[0]


def test_phases_that_no_header_tells_apart_get_advice_that_can_be_followed(tmp_path: Path) -> None:
    pass_over_time(tmp_path, 0)
    pass_over_time(tmp_path, 1)
    message = refused("mixed_series", tmp_path)
    assert "4 of 8 slices" in message and "do not tell them apart" in message and "into a folder" in message


# geometry that cannot be read


def edited(folder: Path, **values: object) -> None:
    """Write these attributes into every file of a series; None deletes one."""
    from pydicom.dataelem import RawDataElement
    from pydicom.tag import Tag

    dicom_series(folder, body(SHAPE))
    for path in folder.iterdir():
        dataset = dcmread(path)
        for keyword, value in values.items():
            tag = dataset.data_element(keyword).tag
            if value is None:
                del dataset[tag]
                continue
            text = str(value(dataset[tag].value) if callable(value) else value)
            raw = (text + " " * (len(text) % 2)).encode()
            dataset[tag] = RawDataElement(Tag(tag), "DS", len(raw), raw, 0, True, True)
        dataset.save_as(path, enforce_file_format=False)


def comma(value: object) -> str:
    values = value if hasattr(value, "__iter__") else [value]
    return "\\".join(f"{float(v):.3f}" for v in values).replace(".", ",")


def test_decimal_commas_are_read_with_a_note(tmp_path: Path) -> None:
    edited(
        tmp_path, ImagePositionPatient=comma, PixelSpacing=comma, RescaleSlope=comma, RescaleIntercept=comma,
    )  # fmt: skip
    ct = read_ct(tmp_path)
    np.testing.assert_array_equal(ct.voxels, body(SHAPE))
    assert ct.spacing_mm == pytest.approx(SPACING_MM[::-1])
    assert "8 slices have decimal commas" in ct.notes[0]


@pytest.mark.parametrize(
    ("keyword", "value", "code", "words"),
    [
        ("PixelSpacing", None, "bad_spacing", "8 CT slices have no PixelSpacing"),
        ("PixelSpacing", "a\\b", "bad_spacing", "8 CT slices have an unreadable PixelSpacing"),
        ("PixelSpacing", "0.7", "bad_spacing", "8 CT slices have an unreadable PixelSpacing"),
        ("ImagePositionPatient", None, "bad_direction", "8 CT slices have no ImagePositionPatient"),
        ("ImagePositionPatient", "1e60\\0\\0", "bad_direction", "unreadable ImagePositionPatient"),
        ("PixelSpacing", "0\\0", "bad_spacing", "8 CT slices have an unreadable PixelSpacing"),
        ("PixelSpacing", "1e300\\1e300", "bad_spacing", "8 CT slices have an unreadable PixelSpacing"),
        ("ImageOrientationPatient", "1e300\\0\\0\\0\\1\\0", "bad_direction", "unreadable ImageOrientationPatient"),
        ("ImageOrientationPatient", "nan\\0\\0\\0\\1\\0", "bad_direction", "unreadable ImageOrientationPatient"),
    ],
)
def test_an_attribute_that_is_absent_or_unreadable_is_named(
    tmp_path: Path, keyword: str, value: str | None, code: str, words: str
) -> None:
    edited(tmp_path, **{keyword: value})
    assert words in refused(code, tmp_path)
    assert words in refused(code, tmp_path, series="1.2.3")
    refused(code, next(tmp_path.iterdir()))


def test_a_series_without_geometry_beside_another_is_named(tmp_path: Path) -> None:
    edited(tmp_path / "a", PixelSpacing=None)
    dicom_series(tmp_path / "b", body((4, 6, 7)), uid=GOOD)
    assert same(tmp_path, body((4, 6, 7))) == (
        "Passed over: 8 CT slices whose PixelSpacing is absent or unreadable, UID 1.2.3.",
    )
    assert read_ct(tmp_path, series=GOOD).notes == ()


def test_a_scout_as_the_input_is_named(tmp_path: Path) -> None:
    dicom_series(tmp_path, body(SHAPE))
    tags = {"0020|000e": "1.2.9", "0008|0008": "ORIGINAL\\PRIMARY\\LOCALIZER"}
    scout = dicom_slice(tmp_path / "scout.dcm", body((9, 9)), np.zeros(3), np.eye(3)[[0, 2, 1]], tags)
    assert "CT scout" in refused("no_ct_series", scout)


def test_an_absent_rescale_is_told(tmp_path: Path) -> None:
    edited(tmp_path, RescaleSlope=None, RescaleIntercept=None)
    with pytest.raises(VFQError, match="rescale intercept"):
        read_ct(tmp_path)
    edited(tmp_path, RescaleSlope=None)
    assert "8 slices have no rescale to HU" in same(tmp_path, body(SHAPE))[0]


@pytest.mark.parametrize("lost", [("RescaleSlope", "RescaleIntercept"), ("RescaleIntercept",)])
def test_a_rescale_that_some_slices_lost_is_not_taken_for_another(tmp_path: Path, lost: tuple[str, ...]) -> None:
    dicom_series(tmp_path, body(SHAPE))
    paths = sorted(tmp_path.iterdir())
    for path in paths[3:5]:
        dataset = dcmread(path)
        for name in lost:
            delattr(dataset, name)
        dataset.save_as(path)
    assert "2 of 8 slices have no rescale" in refused("not_ct", tmp_path)
    for path in paths[:3] + paths[5:]:  # none of them changes values
        dataset = dcmread(path)
        values = np.frombuffer(dataset.PixelData, "<i2") - 1024
        dataset.PixelData, dataset.RescaleIntercept = values.astype("<i2").tobytes(), "0"
        dataset.PixelRepresentation = 1
        dataset.save_as(path)
    for path in paths[3:5]:
        dataset = dcmread(path)
        dataset.PixelData = (np.frombuffer(dataset.PixelData, "<i2") - 1024).astype("<i2").tobytes()
        dataset.PixelRepresentation = 1
        dataset.save_as(path)
    assert "2 slices have no rescale to HU" in same(tmp_path, body(SHAPE))[0]


def test_an_absent_modality_is_that_of_the_class_of_the_file(tmp_path: Path) -> None:
    dicom_series(tmp_path, body(SHAPE))
    for path in tmp_path.iterdir():
        dataset = dcmread(path)
        del dataset.Modality
        dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
        dataset.save_as(path)
    assert not same(tmp_path, body(SHAPE))
    np.testing.assert_array_equal(read_ct(min(tmp_path.iterdir())).voxels, body(SHAPE))


def test_a_dose_report_with_the_uid_of_the_series_is_no_damaged_slice(tmp_path: Path) -> None:
    dicom_series(tmp_path, body(SHAPE))
    dataset = dcmread(min(tmp_path.iterdir()))
    del dataset.PixelData
    dataset.SOPClassUID, dataset.Modality = "1.2.840.10008.5.1.4.1.1.88.67", "SR"
    dataset.save_as(tmp_path / "dose.dcm")  # its meta header still names the class of CT
    same(tmp_path, body(SHAPE))


@pytest.mark.parametrize(
    ("heights", "gap"), [([0, 2.5, 5, 7.5, 10], 2.5), ([0, 4, 8, 12, 16, 17.1, 24.1, 31.1, 38.1], 7.0)]
)
def test_the_widest_gap_between_slices_is_known_after_interpolation(
    tmp_path: Path, heights: list[float], gap: float
) -> None:
    for k, height in enumerate(heights):
        tags = {"0020|000e": "1.2.3", "0008|0018": f"1.2.3.{k}"}
        dicom_slice(tmp_path / f"{k}.dcm", body((9, 6, 7))[k], np.array([-10, -20, height]), np.eye(3), tags)
    assert read_ct(tmp_path).widest_gap_mm == pytest.approx(gap, abs=1e-6)


# files without slices


def without_pixels(path: Path, modality: str) -> Path:
    dicom_series(path.parent, body((1, 6, 7)))
    source = path.parent / "1.2.3.0.dcm"
    dataset = dcmread(source)
    dataset.Modality = modality
    del dataset.PixelData
    source.unlink()
    dataset.save_as(path)
    return path


def test_a_plan_is_named_as_one_and_not_called_damaged(tmp_path: Path) -> None:
    plan = without_pixels(tmp_path / "plan.dcm", "RTSTRUCT")
    assert "1 of RTSTRUCT" in refused("no_ct_series", tmp_path)
    assert "modality RTSTRUCT" in refused("no_ct_series", plan)
    refused("corrupt_file", without_pixels(tmp_path / "ct.dcm", "CT"))


def test_a_dicomdir_stands_for_its_folder(tmp_path: Path) -> None:
    dicom_series(tmp_path / "a", body(SHAPE))
    without_pixels(tmp_path / "DICOMDIR", "")
    np.testing.assert_array_equal(read_ct(tmp_path / "DICOMDIR").voxels, body(SHAPE))


# links, and files beside


def test_linked_folders_and_files_are_followed_once_and_loops_end(tmp_path: Path) -> None:
    dicom_series(tmp_path / "store", body(SHAPE))
    case = tmp_path / "case"
    case.mkdir()
    os.symlink(tmp_path / "store", case / "series", target_is_directory=True)
    os.symlink(tmp_path / "store", case / "again", target_is_directory=True)
    os.symlink(case, tmp_path / "store" / "loop", target_is_directory=True)
    assert same(case, body(SHAPE)) == ()
    single = tmp_path / "files"
    single.mkdir()
    for path in (tmp_path / "store").glob("*.dcm"):
        os.symlink(path, single / path.name)
        os.symlink(path, single / f"b{path.name}")
    assert same(single, body(SHAPE)) == ()


def test_links_whose_files_are_absent_are_missing_slices(tmp_path: Path) -> None:
    """As in an archive whose files were not fetched."""
    last = dicom_series(tmp_path, body(SHAPE))[-1]
    last.unlink()
    os.symlink(tmp_path / "nowhere", last)
    assert "1 files" in refused("corrupt_file", tmp_path)
    empty = tmp_path / "b"
    empty.mkdir()
    os.symlink(tmp_path / "nowhere", empty / "IM1")
    assert "lead nowhere" in refused("no_ct_series", empty)


def beside(folder: Path) -> Path:
    dicom_series(folder, body(SHAPE))
    (folder / "other.nii.gz").write_bytes(b"")
    return folder


def test_an_image_beside_dicom_slices_is_named(tmp_path: Path) -> None:
    (note,) = same(beside(tmp_path), body(SHAPE))
    assert "separate scans: 'other.nii.gz'" in note


def test_a_folder_with_an_image_and_no_dicom_names_the_image(tmp_path: Path) -> None:
    (tmp_path / "other.nii.gz").write_bytes(b"")
    assert "'other.nii.gz'" in refused("no_ct_series", tmp_path)


def test_an_image_and_the_dicom_slices_beside_it_are_two_cases(tmp_path: Path) -> None:
    folder = beside(tmp_path / "case")
    (folder / "sub").mkdir()
    assert [case.name for case in find_cases([folder], tmp_path)] == ["other", "case"]
    assert [case.source for case in find_cases([folder], tmp_path)] == [folder / "other.nii.gz", folder]
    assert passed_over([folder]) == []  # its sub-folders are searched for DICOM
    assert expanded([folder], series=True) == [folder]
    for path in folder.glob("*.dcm"):
        path.unlink()
    assert expanded([folder], series=True) == [folder / "other.nii.gz"]
    assert passed_over([folder]) == [folder / "sub"]


def study(folder: Path, uid: str, series: str = GOOD) -> Path:
    dicom_series(folder, body(SHAPE), series, tags={"0020|000d": uid})
    return folder


def test_a_parent_of_several_studies_is_several_cases(tmp_path: Path) -> None:
    first, second = study(tmp_path / "in" / "anna" / "ct", "1.1"), study(tmp_path / "in" / "bob" / "2019" / "ct", "1.2")
    third = study(tmp_path / "in" / "bob" / "2021" / "ct", "1.3")
    assert expanded([tmp_path / "in"]) == [tmp_path / "in" / "anna", second.parent, third.parent]
    assert expanded([tmp_path / "in"], series=True) == [tmp_path / "in"]
    for folder in (tmp_path / "in" / "bob" / "2019", tmp_path / "in" / "anna", first):
        assert expanded([folder]) == [folder]


def test_the_series_of_one_study_in_folders_of_their_own_are_one_case(tmp_path: Path) -> None:
    study(tmp_path / "in" / "thin", "1.1", GOOD)
    study(tmp_path / "in" / "lung", "1.1", OTHER)
    assert expanded([tmp_path / "in"]) == [tmp_path / "in"]
    (tmp_path / "empty").mkdir()
    assert expanded([tmp_path / "empty"]) == [tmp_path / "empty"]  # reading it says what is wrong


def test_dicom_folders_beside_files_are_cases_and_other_folders_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    study(folder / "b", "1.2")
    (folder / "a.nii.gz").write_bytes(b"")
    (folder / "notes").mkdir()
    (folder / "results" / "a").mkdir(parents=True)
    (folder / "results" / "a" / "analysis.json").write_text("{}")
    assert expanded([folder]) == [folder / "a.nii.gz", folder / "b"]
    assert passed_over([folder]) == [folder / "notes"]
