"""A CT as a DICOM series with a patient, and a case that was analysed from it, for the tests of DICOM objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from VertebralFractureQuantLib.imaging.ct import CTVolume
from VertebralFractureQuantLib.imaging.files import read_ct
from VertebralFractureQuantLib.report.outputs import write_outputs
from VertebralFractureQuantLib.spine.curve import fit_curve
from VertebralFractureQuantLib.spine.quality import Flag
from VertebralFractureQuantLib.spine.record import ModelStamp, SpineAnalysis, Vertebra, remeasured

STUDY, SERIES, FRAME = "1.2.826.0.1.1", "1.2.826.0.1.2", "1.2.826.0.1.3"
PATIENT = {
    "PatientName": "Muster^Erika",
    "PatientID": "PAT-4711",
    "PatientBirthDate": "19500102",
    "PatientSex": "F",
    "PatientAge": "075Y",
    "StudyDate": "20250203",
    "StudyTime": "101112",
    "AccessionNumber": "ACC-0815",
    "StudyID": "S1",
    "StudyDescription": "CT trunk",
    "ReferringPhysicianName": "Haus^Arzt",
    "InstitutionName": "Klinikum",
}
SPACING_MM = (5.0, 3.0, 3.0)  # [k, j, i]
SHAPE = (36, 34, 30)


def write_series(
    folder: Path, ct: CTVolume, patient: dict[str, Any] | None = None, charset: str | Sequence[str] = "ISO_IR 100"
) -> list[Path]:
    """Write a CT as one file for each slice; `patient` overrides attributes of every slice, None removes one."""
    folder.mkdir(parents=True, exist_ok=True)
    lps = np.diag([-1.0, -1, 1, 1]) @ ct.ijk_to_ras
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    files = []
    for k, plane in enumerate(ct.voxels):
        one = Dataset()
        one.SpecificCharacterSet = charset
        one.SOPClassUID, one.SOPInstanceUID = CTImageStorage, f"1.2.826.0.1.4.{k + 1}"
        one.StudyInstanceUID, one.SeriesInstanceUID, one.FrameOfReferenceUID = STUDY, SERIES, FRAME
        one.Modality, one.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
        one.Manufacturer, one.SeriesNumber, one.InstanceNumber = "Maker", 3, k + 1
        one.ImagePositionPatient = [round(float(v), 6) for v in (lps @ [0, 0, k, 1])[:3]]
        one.ImageOrientationPatient = [round(float(v), 9) for v in (lps[:3, :2] / spacing[:2]).T.ravel()]
        one.PixelSpacing, one.SliceThickness = [float(spacing[1]), float(spacing[0])], float(spacing[2])
        one.Rows, one.Columns = plane.shape
        one.SamplesPerPixel, one.PhotometricInterpretation, one.PixelRepresentation = 1, "MONOCHROME2", 1
        one.BitsAllocated, one.BitsStored, one.HighBit = 16, 16, 15
        one.RescaleIntercept, one.RescaleSlope = 0, 1
        one.PixelData = np.ascontiguousarray(plane, "<i2").tobytes()
        for keyword, value in {**PATIENT, **(patient or {})}.items():
            if value is not None:
                setattr(one, keyword, value)
            elif keyword in one:
                delattr(one, keyword)
        one.file_meta = FileMetaDataset()
        one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        files.append(folder / f"{k:04d}.dcm")
        one.save_as(files[-1], enforce_file_format=True)
    return files


def trunk() -> CTVolume:
    """A body of soft tissue, in which values differ from voxel to voxel."""
    voxels = np.random.default_rng(0).integers(-50, 150, SHAPE).astype(np.int16)
    matrix = np.diag([-SPACING_MM[2], -SPACING_MM[1], SPACING_MM[0], 1.0])
    matrix[:3, 3] = (44.37, 51.91, -473.123)
    return CTVolume(voxels, matrix, "ct")


def body_points(centre: Sequence[float], heights_mm: Sequence[float], depth_mm: float = 30.0) -> np.ndarray:
    """Six key points `(3, 2, 3)` RAS mm around a centre, a little tilted, with these heights."""
    points = np.zeros((3, 2, 3))
    for n, (height, a) in enumerate(zip(heights_mm, (depth_mm / 2, 0, -depth_mm / 2), strict=True)):
        points[n] = np.array([[0.3 * n, a, height / 2], [0.3 * n, a, -height / 2]])
    return points + np.asarray(centre, float)


LEVELS = ("T12", "L1", None, "L6")
HEIGHTS = ((24.0, 23.5, 25.0), (17.3, 19.9, 25.1), (26.0, 15.0, 26.5), (27.0, 27.0, 20.0))


def record(
    ct: CTVolume, reviews: Sequence[str] = ("open",) * 4, readers: Sequence[str] = ("anna",) * 4
) -> SpineAnalysis:
    """Four vertebrae: normal, wedge, biconcave without a level, and one that is not assessable until confirmed."""
    vertebrae = [
        Vertebra(
            keypoints=body_points((1.234567, 3.21, -330.0 - 33.3 * n), heights),
            measurement=None,  # type: ignore[arg-type]
            score=0.9 - n / 100,
            level=level,
            origin="reader" if n == 1 else "model",
            review=review,
            spread=None if n == 1 else 0.021234567,
            level_probabilities={level: 0.95, "L2": 0.04} if level else {"L2": 0.5, "L3": 0.5},
            reviewer=None if review == "open" else reader,
            reviewed_at=None if review == "open" else f"2026-11-30T01:0{n}:00+00:00",
        )
        for n, (level, heights, review, reader) in enumerate(zip(LEVELS, HEIGHTS, reviews, readers, strict=True))
    ]
    doubt = Flag("impossible_points", "The front is lower than it can be. It is not counted. Put its points right.")
    vertebrae[3] = replace(vertebrae[3], quality=(doubt, Flag("low_score", "The network is less certain.")))
    vertebrae[0] = replace(vertebrae[0], level_probabilities={"T12": 0.7, "T13": 0.2, "L1": 0.1})
    curve = fit_curve(np.array([[0.1, -5, -310], [2, -4, -380], [0, -6, -460]]))
    return SpineAnalysis(
        case="case",
        shape=tuple(int(n) for n in ct.voxels.shape),
        spacing_mm=tuple(float(mm) for mm in ct.spacing_mm),
        ijk_to_ras=ct.ijk_to_ras,
        series=ct.series,
        models=(
            ModelStamp("detector", "detector of 2026", "ab" * 32, "openvino"),
            ModelStamp("refiner", "r", "cd" * 32),
        ),
        curve=curve.points,
        limits_mm=(3.25, 140.125),
        vertebrae=remeasured(vertebrae),
        quality=(
            Flag("metal", "There is metal: L1 to L2. Check the points.", ("L1", "L2")),
            Flag("thick_slices", "Thick."),
        ),
    )


@dataclass(frozen=True)
class Case:
    """A case on disk: the folder of its series, and of its results."""

    series: Path
    folder: Path
    ct: CTVolume


def make_case(folder: Path, reviews: Sequence[str] = ("open",) * 4, **options: Any) -> Case:
    """Write a series and the record of its analysis."""
    series = folder / "series"
    if not series.exists():
        write_series(series, trunk(), **options)
    ct = read_ct(series)
    made = record(ct, reviews)
    return Case(series, write_outputs(made, ct, folder / "out", overwrite=True, pictures=False), ct)
