"""A structured report of this program as a record again: key points, levels, reviews, doubts, the curve.

Coordinates are stored as 32-bit numbers, so they come back within 0.001 mm. The points before a review do not: they are
not in the report. Only pydicom is needed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import VFQError
from ..imaging.axes import voxel_size
from ..imaging.dicom_choice import fingerprint_of
from ..imaging.dicom_header import is_dicom
from ..spine.genant import GRADES, SHAPES, Measurement, measure
from ..spine.levels import NAMES
from ..spine.quality import Flag
from ..spine.record import ORIGINS, REVIEWS, ModelStamp, SpineAnalysis, Vertebra, with_expected
from ..spine.record_json import read_analysis
from . import codes as c

if TYPE_CHECKING:
    from pydicom import Dataset

LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])
FINDING_SITE, TOPOGRAPHY, PARAMETERS = "363698007", "106233006", "111002"
STAMP = re.compile(r"(\w+)=(.*) sha256:([0-9a-f]{64})(?: (\w+))?")


def read_record(path: Path) -> SpineAnalysis:
    """Return the record in an analysis.json, or in a structured report of this program. VFQError as both readers."""
    return read_report(path) if path.is_file() and is_dicom(path) else read_analysis(path)


def read_report(path: Path) -> SpineAnalysis:
    """Return the record of a structured report; its case is called as the file is.

    VFQError `not_an_analysis` for a DICOM file that is no structured report of this program, or a damaged one;
    `newer_schema`.
    """
    from pydicom import dcmread

    from .source import silenced

    try:
        with silenced():
            return _record(dcmread(path), path.stem)
    except VFQError:
        raise
    except Exception as error:  # a damaged file can make pydicom raise anything
        raise VFQError(
            "not_an_analysis",
            f"{path.name!r} is no complete DICOM file ({type(error).__name__}). Give a structured report from vfq "
            "dicom, or an analysis.json.",
        ) from error


def _record(report: Dataset, case: str) -> SpineAnalysis:
    groups = [_Group(one) for one in _groups(report)]
    spine = next((one for one in groups if one.text("SCHEMA")), None)
    if spine is None:
        raise VFQError(
            "not_an_analysis",
            f"The DICOM file is not a structured report of {c.SCHEME_NAME}: it has no measurements with its private "
            "format. Give one from vfq dicom, or an analysis.json.",
        )
    if spine.text("SCHEMA") != c.SCHEMA:
        raise VFQError(
            "newer_schema",
            f"The structured report ({spine.text('SCHEMA')!r:.20}) is of another version. Update this program.",
        )
    shape, matrix = _grid(spine.text("GRID"))
    start, end = spine.number("CURVESTART"), spine.number("CURVEEND")
    return SpineAnalysis(
        case=case,
        shape=shape,
        spacing_mm=None if matrix is None else voxel_size(matrix),
        ijk_to_ras=matrix,
        series=_fingerprint(report),
        models=tuple(ModelStamp(*found.groups()) for found in map(STAMP.fullmatch, spine.parameters) if found),
        curve=spine.points("CURVE")[0],
        limits_mm=None if start is None or end is None else (start, end),
        vertebrae=with_expected([_vertebra(one) for one in groups if one.points(c.HEIGHT.value)]),
        quality=spine.doubts,
        trust_header=spine.value("VOUCHED") == c.YES.value,
    )


def _groups(report: Dataset) -> Iterator[Dataset]:
    """Yield the measurement groups of a report, in order; none of a document of another kind."""
    for item in report.get("ContentSequence", ()):
        if _name(item) == "126010":  # Imaging Measurements
            yield from (one for one in item.ContentSequence if _name(one) == "125007")


class _Group:
    """The content items of one measurement group, by the code values of their names."""

    def __init__(self, group: Dataset):
        self._items = list(group.ContentSequence)

    def _named(self, name: str) -> list[Dataset]:
        return [item for item in self._items if _name(item) == name]

    def number(self, name: str) -> float | None:
        """Return a measurement; None if it is absent."""
        return next((_number(item) for item in self._named(name)), None)

    @property
    def heights(self) -> tuple[float, float, float]:
        """The anterior, middle and posterior height, mm."""
        anterior, middle, posterior = (_number(item) for item in self._named(c.HEIGHT.value))
        return anterior, middle, posterior

    def value(self, name: str) -> str | None:
        """Return the code value of an evaluation; None if it is absent."""
        return next((_value(item) for item in self._named(name) if item.ValueType == "CODE"), None)

    def text(self, name: str) -> str | None:
        """Return a text; None if it is absent."""
        return next((str(item.TextValue) for item in self._named(name) if item.ValueType == "TEXT"), None)

    def points(self, name: str) -> list[np.ndarray]:
        """Return the lines `(n, 3)` RAS mm of the measurements with this name."""
        below = [one for item in self._named(name) for one in item.get("ContentSequence", ())]
        return [
            np.reshape(np.asarray(one.GraphicData, float), (-1, 3)) * LPS_TO_RAS
            for one in below
            if one.ValueType == "SCOORD3D"
        ]

    @property
    def parameters(self) -> list[str]:
        """The parameters of the algorithm."""
        return [str(item.TextValue) for item in self._named(PARAMETERS)]

    @property
    def level(self) -> str | None:
        """The name of the level."""
        return _level(self._named(FINDING_SITE)[0])

    @property
    def probabilities(self) -> dict[str, float]:
        """The probabilities of levels, from 0 to 1, by name."""
        each = [(_below(item, FINDING_SITE)[0], _number(item)) for item in self._named("LEVELPROB")]
        return {name: share / 100 for site, share in each if (name := _level(site))}

    @property
    def doubts(self) -> tuple[Flag, ...]:
        """The reasons to doubt."""
        return tuple(
            Flag(
                _value(item),
                " ".join(str(one.TextValue) for one in _below(item, c.COMMENT.value)),
                tuple(str(one.TextValue) for one in _below(item, "WHERE")),
            )
            for item in self._named("DOUBT")
        )


def _vertebra(group: _Group) -> Vertebra:
    keypoints = np.stack(group.points(c.HEIGHT.value))
    if keypoints.shape != (3, 2, 3) or not np.isfinite(keypoints).all():
        raise ValueError("a vertebra without six points")
    return Vertebra(
        keypoints=keypoints,
        measurement=_measurement(group, keypoints),
        score=_required(group.number("SCORE")),
        level=_one_of((None, *NAMES), group.level),
        origin=_one_of(ORIGINS, str(group.value("ORIGIN")).lower()),
        review=_one_of(REVIEWS, str(group.value("REVIEW")).lower()),
        spread=group.number("GRATIOSD"),
        level_probabilities=group.probabilities,
        pinned=group.value("LEVELNAME") == "BYREADER",
        reviewer=group.text("READERNAME"),
        reviewed_at=group.text("REVIEWTIME"),
        physiologic=group.text("PHYSIOLOGIC"),
        quality=group.doubts,
    )


def _measurement(group: _Group, keypoints: np.ndarray) -> Measurement:
    """Return the numbers of the report; those of a vertebra that does not count are measured again."""
    grade, shape = group.value("GENANT"), group.value("TYPE")
    if grade is None:
        return measure(keypoints)
    return Measurement(
        heights_mm=group.heights,
        genant_ratio=_required(group.number("GRATIO")),
        grade=GRADES[int(grade[1:])],
        shape=None if shape is None else SHAPES[[one.upper() for one in SHAPES].index(shape)],
        borderline=group.value("BORDERLINE") is not None,
        crush_ratio=group.number("NEIGHBOURRATIO"),
    )


def _required(value: Any) -> Any:
    if value is None:
        raise ValueError("a content item is absent")
    return value


def _one_of(options: Sequence[Any], value: Any) -> Any:
    if value not in options:
        raise ValueError("a content item has an unknown value")
    return value


def _name(item: Dataset) -> str:
    return _code(item.ConceptNameCodeSequence[0]) if item.get("ConceptNameCodeSequence") else ""


def _value(item: Dataset) -> str:
    return _code(item.ConceptCodeSequence[0])


def _code(coded: Dataset) -> str:
    return str(coded.get("CodeValue") or coded.get("LongCodeValue") or "")


def _number(item: Dataset) -> float:
    measured = item.MeasuredValueSequence[0]
    return float(measured.get("FloatingPointValue", measured.NumericValue))


def _below(item: Dataset, name: str) -> list[Dataset]:
    return [one for one in item.get("ContentSequence", ()) if _name(one) == name]


def _level(site: Dataset) -> str | None:
    return c.level_name(_value(site), next((_value(one) for one in _below(site, TOPOGRAPHY)), None))


def _grid(text: str | None) -> tuple[tuple[int, ...] | None, np.ndarray | None]:
    """Return shape [k, j, i] and ijk_to_ras of the analysed volume; None if the record did not know them."""
    if text is None:
        return None, None
    numbers = [float(part) for part in text.split()]
    return tuple(map(int, numbers[:3])), np.vstack([np.reshape(numbers[3:], (3, 4)), [0, 0, 0, 1]])


def _fingerprint(report: Dataset) -> str:
    """Return the fingerprint of the series that the report refers to."""
    studies = report.CurrentRequestedProcedureEvidenceSequence
    return fingerprint_of({str(one.SeriesInstanceUID) for study in studies for one in study.ReferencedSeriesSequence})
