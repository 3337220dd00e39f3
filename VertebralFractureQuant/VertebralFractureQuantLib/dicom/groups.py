"""Measurement groups of the structured report: two for each vertebra, and one for the whole spine.

TID 1501 holds the heights, each with its 3D line, and all that is known of a vertebra. TID 1410 is a point in the
middle of the body, which viewers draw. Points are LPS mm in the patient's frame of reference. `back` reads the groups.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import highdicom as hd
import numpy as np
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from .. import __version__
from ..report.findings import Findings, findings
from ..spine.curve import SpineCurve
from ..spine.genant import GRADES, deciding_ratio
from ..spine.quality import Flag
from ..spine.record import SpineAnalysis, Vertebra, shown_names, vertebra_name
from . import codes as c
from .uids import derived_uid

RAS_TO_LPS = np.array([-1.0, -1.0, 1.0])
LINE = hd.sr.GraphicTypeValues3D.POLYLINE
SPINE = "Spine"
REASONS = {"outside": "OUTSIDE", "gap": "GAP", "rejected": "REJECTED", "impossible": "NOTASSESSED"}
NOTICE = "For research use only. Not for diagnosis."


def algorithm(parameters: Sequence[str] = ()) -> hd.sr.AlgorithmIdentification:
    """Return the identification of this program, with the networks as parameters."""
    return hd.sr.AlgorithmIdentification(c.SCHEME_NAME, __version__, parameters=list(parameters) or None)


def spine_group(analysis: SpineAnalysis, frame: str, series: str) -> Any:
    """Return the group of the whole spine: SDI, worst grade, review, doubts, the curve and the voxel grid."""
    models = [f"{m.role}={m.name} sha256:{m.sha256}" + (f" {m.backend}" * bool(m.backend)) for m in analysis.models]
    sdi, worst, ratio = analysis.spinal_deformity_index, analysis.patient_grade, analysis.patient_ratio
    start, end = analysis.limits_mm or (None, None)
    found = findings(analysis)
    measurements = [
        _number(c.own("SDI"), sdi, c.COUNT),
        _number(c.own("GRATIO"), ratio, c.RATIO),
        _number(c.own("COUNTED"), len(analysis.graded), c.COUNT),
        _number(c.own("SDILEVELS"), found.sdi_levels, c.COUNT),
        _number(c.own("CURVE"), SpineCurve(analysis.curve).length, c.MM, [_line(RAS_TO_LPS * analysis.curve, frame)]),
        _number(c.own("CURVESTART"), start, c.MM),
        _number(c.own("CURVEEND"), end, c.MM),
    ]
    evaluations = [
        *([_evaluation("WORSTGRADE", f"G{GRADES.index(worst)}")] if worst else []),
        _evaluation("REVIEW", review_state(analysis)),
        hd.sr.QualitativeEvaluation(c.own("VOUCHED"), c.YES if analysis.trust_header else c.NO),
        *_not_assessed(found),
        *map(_doubt, analysis.quality),
    ]
    group = hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(SPINE, series, SPINE),
        finding_type=c.own("SPINE"),
        finding_category=codes.SCT.AnatomicalStructure,
        finding_sites=[hd.sr.FindingSite(Code("421060004", "SCT", "Vertebral column"))],
        algorithm_id=algorithm(models),
        measurements=_present(measurements),
        qualitative_evaluations=evaluations,
    )
    return _with_texts(group, [(c.COMMENT, NOTICE), (c.own("SCHEMA"), c.SCHEMA), (c.own("GRID"), _grid(analysis))])


def vertebra_groups(analysis: SpineAnalysis, frame: str, series: str) -> list[Any]:
    """Return the groups of all vertebrae, cranial first."""
    shown = shown_names(analysis.vertebrae)
    named = [vertebra_name(v, i) for i, v in enumerate(analysis.vertebrae)]
    groups = []
    for name, label, vertebra in zip(named, shown, analysis.vertebrae, strict=True):
        groups.append(_heights_group(name, label, vertebra, frame, series))
        if vertebra.review != "rejected":
            groups.append(_marker(name, label, vertebra, frame, series))
    return groups


def review_state(analysis: SpineAnalysis) -> str:
    """Return the code value of the state of the review: "REVIEWED", "PARTLY" or "OPEN"."""
    still_open = sum(v.review == "open" for v in analysis.vertebrae)
    if still_open == len(analysis.vertebrae):
        return "OPEN"
    return "PARTLY" if still_open else "REVIEWED"


def _heights_group(name: str, label: str, vertebra: Vertebra, frame: str, series: str) -> Any:
    """Return the TID 1501 group of a vertebra; one that does not count has heights, and neither grade nor loss."""
    location, _ = c.level(name)
    points = RAS_TO_LPS * vertebra.keypoints
    each = zip(c.SIDES, vertebra.measurement.heights_mm, points, strict=True)
    measured = [
        _number(c.HEIGHT, float(mm), c.MM, [_line(line, frame)], hd.sr.FindingSite(location, None, side))
        for side, mm, line in each
    ]
    chances = [
        _number(c.own("LEVELPROB"), float(p) * 100, c.PERCENT, (), _site(candidate))
        for candidate, p in vertebra.level_probabilities.items()
    ]
    measured += [
        *_ratios(vertebra),
        _number(c.own("GRATIOSD"), vertebra.spread, c.RATIO),
        _number(c.own("SCORE"), float(vertebra.score), c.RATIO),
        *chances,
    ]
    group = hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(label, series, name),
        measurements=_present(measured),
        qualitative_evaluations=[
            *_verdict(vertebra),
            _evaluation("LEVELNAME", _identification(label, vertebra)),
            _evaluation("ORIGIN", vertebra.origin.upper()),
            *map(_doubt, vertebra.quality),
        ],
        **_finding(name, vertebra),
    )
    texts = [(c.own("READERNAME"), vertebra.reviewer), (c.own("REVIEWTIME"), vertebra.reviewed_at)]
    return _with_texts(group, [*texts, (c.own("PHYSIOLOGIC"), vertebra.physiologic)])


def _marker(name: str, label: str, vertebra: Vertebra, frame: str, series: str) -> Any:
    """Return the TID 1410 group of a vertebra: a point in the middle of its body, with the label that viewers show."""
    centre = RAS_TO_LPS * vertebra.keypoints.mean((0, 1))
    return hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(marker_label(label, vertebra), series, f"{name} point"),
        referenced_region=hd.sr.ImageRegion3D(hd.sr.GraphicTypeValues3D.POINT, centre[None], frame),
        measurements=_present(_ratios(vertebra)) or None,
        qualitative_evaluations=_marker_verdict(label, vertebra),
        **_finding(name, vertebra),
    )


def _marker_verdict(label: str, vertebra: Vertebra) -> list[Any]:
    """Return the evaluations of a point, the same ones for each: 3D Slicer takes its table's columns from one point."""
    m, counts = vertebra.measurement, vertebra.counts
    return [
        _evaluation("GENANT", f"G{GRADES.index(m.grade)}" if counts else "NOGRADE"),
        hd.sr.QualitativeEvaluation(c.SEVERITY, c.SEVERITIES[vertebra.called] if counts else c.INDETERMINATE),
        _evaluation("TYPE", m.shape.upper() if counts and m.shape else "NOTYPE"),
        hd.sr.QualitativeEvaluation(c.own("PHYSIOLOGIC"), c.YES if vertebra.physiologic else c.NO),
        _evaluation("LEVELNAME", _identification(label, vertebra)),
        _evaluation("REVIEW", vertebra.review.upper()),
    ]


def marker_label(label: str, vertebra: Vertebra) -> str:
    """Describe a vertebra in a few words: "L1? Genant 2 wedge, not reviewed"."""
    m = vertebra.measurement
    if not vertebra.counts:
        words = "not assessable"
    elif vertebra.physiologic:
        words = "physiologic shape"
    else:
        words = f"Genant {GRADES.index(m.grade)}" + (f" {m.shape}" if m.shape else "")
    return f"{label} {words}" + (", not reviewed" if vertebra.review == "open" else "")


def _finding(name: str, vertebra: Vertebra) -> dict[str, Any]:
    if vertebra.review == "rejected":
        kind = "REJECTED"
    elif not vertebra.counts:
        kind = "NOTASSESSED"
    else:
        kind = "NOVFX" if vertebra.called == "normal" else "VFX"
    abnormal = kind == "VFX"
    return {
        "finding_type": c.own(kind),
        "finding_category": codes.SCT.MorphologicallyAbnormalStructure if abnormal else codes.SCT.AnatomicalStructure,
        "finding_sites": [_site(name)],
        "algorithm_id": algorithm(),
    }


def _verdict(vertebra: Vertebra) -> list[Any]:
    """Return grade, type and review of a vertebra; one that does not count has no grade."""
    m = vertebra.measurement
    graded = [
        _evaluation("GENANT", f"G{GRADES.index(m.grade)}"),
        hd.sr.QualitativeEvaluation(c.SEVERITY, c.SEVERITIES[vertebra.called]),
        *([_evaluation("TYPE", m.shape.upper())] if m.shape else []),
        *([hd.sr.QualitativeEvaluation(c.own("PHYSIOLOGIC"), c.YES)] if vertebra.physiologic else []),
        *([hd.sr.QualitativeEvaluation(c.own("BORDERLINE"), c.YES)] if m.borderline else []),
    ]
    return [*(graded if vertebra.counts else []), _evaluation("REVIEW", vertebra.review.upper())]


def _ratios(vertebra: Vertebra) -> list[Any]:
    """Return G, loss, and what the neighbours say; nothing if the vertebra does not count."""
    m, decided = vertebra.measurement, deciding_ratio(vertebra.measurement)
    if not vertebra.counts:
        return []
    return [
        _number(c.own("GRATIO"), m.genant_ratio, c.RATIO),
        _number(c.own("LOSS"), 100 * (1 - m.genant_ratio), c.PERCENT),
        _number(c.own("NEIGHBOURRATIO"), m.crush_ratio, c.RATIO),
        _number(c.own("NEIGHBOURLOSS"), 100 * (1 - decided) if decided < m.genant_ratio else None, c.PERCENT),
    ]


def _identification(label: str, vertebra: Vertebra) -> str:
    if vertebra.pinned:
        return "BYREADER"
    if vertebra.level is None:
        return "UNKNOWN"
    return "DOUBTFUL" if label.endswith("?") else "CERTAIN"


def _site(name: str) -> Any:
    location, modifier = c.level(name)
    return hd.sr.FindingSite(location, topographical_modifier=modifier)


def _number(name: Code, value: float | None, unit: Code, coordinates: Sequence[Any] = (), site: Any = None) -> Any:
    """Return a measurement; None if there is no value."""
    if value is None:
        return None
    return hd.sr.Measurement(
        name, value, unit, finding_sites=[site] if site else None, referenced_coordinates=list(coordinates) or None
    )


def _line(points_lps: np.ndarray, frame: str) -> Any:
    return hd.sr.CoordinatesForMeasurement3D(LINE, points_lps, frame)


def _evaluation(name: str, value: str) -> Any:
    return hd.sr.QualitativeEvaluation(c.own(name), c.own(value))


def _doubt(flag: Flag) -> Any:
    """Return a reason to doubt, with its message and the vertebrae concerned below it."""
    texts = [(c.COMMENT, flag.message), *((c.own("WHERE"), name) for name in flag.where)]
    return _with_properties(hd.sr.QualitativeEvaluation(c.own("DOUBT"), c.doubt(flag.code)), texts)


def _not_assessed(found: Findings) -> list[Any]:
    """Return the reasons why levels from T4 to L4 were not assessed, each with the levels below it."""
    return [
        _with_properties(_evaluation("LACKING", REASONS[reason]), [(c.own("WHERE"), name) for name in names])
        for reason, names in found.not_assessable
    ]


def _with_properties(evaluation: Any, texts: Iterable[tuple[Code, str]]) -> Any:
    properties = hd.sr.RelationshipTypeValues.HAS_PROPERTIES
    evaluation[0].ContentSequence = hd.sr.ContentSequence(
        [hd.sr.TextContentItem(concept, text, properties) for concept, text in texts]
    )
    return evaluation


def _with_texts(group: Any, texts: Iterable[tuple[Code, str | None]]) -> Any:
    """Append texts to a group; those without a text are left out."""
    contains = hd.sr.RelationshipTypeValues.CONTAINS
    for concept, text in texts:
        if text:
            group[0].ContentSequence.append(hd.sr.TextContentItem(concept, text, contains))
    return group


def _tracking(label: str, series: str, key: str) -> Any:
    """Return the identifier of a vertebra: the same in each version of a report."""
    return hd.sr.TrackingIdentifier(uid=derived_uid("tracking", series, key), identifier=label)


def _present(measurements: Iterable[Any]) -> list[Any]:
    return [one for one in measurements if one is not None]


def _grid(analysis: SpineAnalysis) -> str | None:
    """Return shape and matrix of the analysed volume as numbers; None if the record lacks them."""
    if analysis.shape is None or analysis.ijk_to_ras is None:
        return None
    return " ".join(map(repr, [*map(int, analysis.shape), *map(float, analysis.ijk_to_ras[:3].ravel())]))
