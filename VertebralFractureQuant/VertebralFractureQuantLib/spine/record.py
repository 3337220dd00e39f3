"""The record of one analysed case: vertebrae with six key points, their measurements and their origin.

It is plain data; all coordinates are RAS mm. `record_json` writes and reads it. A record never contains a patient's
name, id, date, UID or a path.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..errors import VFQError
from ..imaging.axes import voxel_size
from .expected import Expectation, column_expectations
from .genant import Measurement, deciding_text, deformity_index, measure_column, severity, worst_grade
from .levels import in_doubt
from .physiologic import physiologic_shapes
from .plausibility import IMPOSSIBLE
from .quality import Flag
from .reading import Reading, Signature, content_digest

ORIGINS = ("model", "reader")
REVIEWS = ("open", "confirmed", "rejected")
SAME_PLACE_MM = 0.05  # file formats round headers differently
SAME_SPACING_MM = 1e-3


@dataclass(frozen=True, eq=False)
class Vertebra:
    """One vertebra: its key points, what was measured on them, and the state of its review.

    Attributes
    ----------
    keypoints : `(3, 2, 3)` = [anterior, middle, posterior] x [superior, inferior] x RAS mm.
    measurement : heights, G, grade and shape of these key points.
    score : the detector's confidence, 0 to 1.
    level : name such as "T7"; None if nothing in view identifies it.
    origin : "model", or "reader" after a reader placed or moved the points.
    review : "open", "confirmed" or "rejected".
    spread : the network's own estimate of the standard deviation of G; None for a reader's points.
    level_probabilities : names with a probability of at least 1 %.
    machine_keypoints : the network's key points `(3, 2, 3)`, kept after a reader moved them; else None.
    pinned : True if a reader set the level.
    reviewer : name of the reader who confirmed or rejected it; None while it is open.
    reviewed_at : when that was, UTC, ISO 8601; None while it is open.
    physiologic : one sentence on why heights that differ are normal at this level or in this patient
        (`physiologic.physiologic_shapes`); None if they need no excuse or have none.
    expected : the heights that its neighbours lead to expect, and what it lacks; None without neighbours, and in older
        records.
    quality : the reasons to doubt this vertebra.
    """

    keypoints: np.ndarray
    measurement: Measurement
    score: float = 1.0
    level: str | None = None
    origin: str = "model"  # of ORIGINS
    review: str = "open"  # of REVIEWS
    spread: float | None = None
    level_probabilities: dict[str, float] = field(default_factory=dict)
    machine_keypoints: np.ndarray | None = None
    pinned: bool = False
    reviewer: str | None = None
    reviewed_at: str | None = None
    physiologic: str | None = None
    expected: Expectation | None = None
    quality: tuple[Flag, ...] = ()

    @property
    def called(self) -> str:
        """The grade that counts for the patient: "normal" for a physiologic shape, else the Genant grade."""
        return "normal" if self.physiologic else self.measurement.grade

    @property
    def impossible(self) -> bool:
        """True if its key points are not those of a vertebral body (`plausibility.impossible`)."""
        return any(flag.code == IMPOSSIBLE for flag in self.quality)

    @property
    def counts(self) -> bool:
        """True if the patient's grade and SDI include it: no reader rejected it, and it is possible or confirmed."""
        return self.review == "confirmed" or (self.review == "open" and not self.impossible)


@dataclass(frozen=True)
class ModelStamp:
    """The network that made a result: its role ("localizer" | "refiner" | "detector"), name and SHA-256 of its weights.

    `backend` is the engine that computed it.
    """

    role: str
    name: str
    sha256: str
    backend: str | None = None  # "torch" | "openvino"; None in older records


@dataclass(frozen=True, eq=False)
class SpineAnalysis:
    """The result of one case: its vertebrae, or the coded reason why there are none.

    Attributes
    ----------
    case : name of the case.
    status : "ok" or a failure code of `errors.CODES`; then `message` says what is wrong and what to do.
    shape, spacing_mm : of the CT, [k, j, i].
    ijk_to_ras : `(4, 4)` of the CT.
    series : fingerprint of the DICOM series (`imaging.dicom_choice.Series.fingerprint`); None for other formats and in
        older records.
    models : the networks.
    curve : `(n, 3)` RAS mm, cranial to caudal.
    limits_mm : the arc lengths on the curve between which the spine was seen.
    vertebrae : from cranial to caudal.
    timing_s : seconds by step.
    quality : the reasons to doubt the study, each with the vertebrae concerned.
    trust_header : True if the user vouched for the header, so that no contradiction of it was refused.
    reading : whose reading it is, and who signed it; None for an automatic analysis.
    """

    case: str
    status: str = "ok"
    message: str = ""
    shape: tuple[int, ...] | None = None  # [k, j, i]
    spacing_mm: tuple[float, ...] | None = None  # [k, j, i]
    ijk_to_ras: np.ndarray | None = None  # None in older records
    models: tuple[ModelStamp, ...] = ()
    curve: np.ndarray = field(default_factory=lambda: np.empty((0, 3)))
    limits_mm: tuple[float, float] | None = None
    vertebrae: tuple[Vertebra, ...] = ()
    timing_s: dict[str, float] = field(default_factory=dict)
    quality: tuple[Flag, ...] = ()
    trust_header: bool = False
    series: str | None = None
    reading: Reading | None = None

    @property
    def digest(self) -> str:
        """The `reading.content_digest` of what a reader signs."""
        return content_digest((v.keypoints, v.level, v.review) for v in self.vertebrae)

    @property
    def signatures(self) -> tuple[Signature, ...]:
        """The signatures that hold for the record as it is."""
        return self.reading.holding(self.digest) if self.reading else ()

    @property
    def assessed(self) -> tuple[Vertebra, ...]:
        """All vertebrae that no reader rejected."""
        return tuple(v for v in self.vertebrae if v.review != "rejected")

    @property
    def graded(self) -> tuple[Vertebra, ...]:
        """The assessed vertebrae that count: without those whose key points are impossible, unless confirmed."""
        return tuple(v for v in self.vertebrae if v.counts)

    @property
    def counted(self) -> tuple[Vertebra, ...]:
        """The graded vertebrae without those whose shape is physiologic: the patient's summary is about these."""
        return tuple(v for v in self.graded if not v.physiologic)

    @property
    def patient_ratio(self) -> float | None:
        """The smallest Genant ratio of the counted vertebrae; None if there are none."""
        return min((v.measurement.genant_ratio for v in self.counted), default=None)

    @property
    def patient_grade(self) -> str | None:
        """The worst grade of the graded vertebrae, a physiologic shape being normal; None if there are none."""
        return worst_grade(v.called for v in self.graded)

    @property
    def spinal_deformity_index(self) -> int | None:
        """The spinal deformity index, a physiologic shape being normal; None if no vertebra is graded."""
        return deformity_index(v.called for v in self.graded) if self.graded else None

    @property
    def physiologic(self) -> tuple[str, ...]:
        """Names of the assessed vertebrae whose shape is physiologic."""
        return tuple(
            vertebra_name(v, i) for i, v in enumerate(self.vertebrae) if v.physiologic and v.review != "rejected"
        )

    @property
    def not_counted(self) -> tuple[str, ...]:
        """Names of the vertebrae that do not count because their key points are impossible."""
        return tuple(
            vertebra_name(v, i) for i, v in enumerate(self.vertebrae) if not v.counts and v.review != "rejected"
        )


def vertebra_name(vertebra: Vertebra, index: int) -> str:
    """Return the name of the level, or "V1", "V2", ... counted from the top if the level is unknown."""
    return vertebra.level or f"V{index + 1}"


def shown_names(vertebrae: Sequence[Vertebra]) -> list[str]:
    """Return the names as `vertebra_name` does, with a question mark after those in doubt."""
    doubts = in_doubt(
        [v.level for v in vertebrae], [v.level_probabilities for v in vertebrae], [v.pinned for v in vertebrae]
    )
    return [
        vertebra_name(v, i) + ("" if doubt is None else "?")
        for i, (v, doubt) in enumerate(zip(vertebrae, doubts, strict=True))
    ]


def with_neighbours(vertebrae: Sequence[Vertebra]) -> tuple[Vertebra, ...]:
    """Return the vertebrae of a column, cranial first, each with what it is compared with its neighbours.

    That is the heights that they lead to expect, and the reason why its shape is physiologic, or None.
    """
    told = physiologic_shapes(
        [v.measurement for v in vertebrae],
        [None if v.impossible else v.level for v in vertebrae],
        [v.level_probabilities for v in vertebrae],
        [v.pinned for v in vertebrae],
    )
    return with_expected([replace(v, physiologic=reason) for v, reason in zip(vertebrae, told, strict=True)])


def with_expected(vertebrae: Sequence[Vertebra]) -> tuple[Vertebra, ...]:
    """Return the vertebrae of a column, cranial first, each with the heights that its neighbours lead to expect."""
    expected = column_expectations(
        [v.keypoints for v in vertebrae],
        [v.level for v in vertebrae],
        [v.impossible for v in vertebrae],
        [v.review == "rejected" for v in vertebrae],
    )
    return tuple(replace(v, expected=e) for v, e in zip(vertebrae, expected, strict=True))


def remeasured(vertebrae: Sequence[Vertebra]) -> tuple[Vertebra, ...]:
    """Measure a column again, cranial first, with no height expected from a vertebra that is impossible."""
    left_out = [i for i, v in enumerate(vertebrae) if v.impossible]
    measured = measure_column([v.keypoints for v in vertebrae], [v.spread for v in vertebrae], left_out=left_out)
    return with_neighbours([replace(v, measurement=m) for v, m in zip(vertebrae, measured, strict=True)])


def not_counted_text(analysis: SpineAnalysis) -> str:
    """Say which vertebrae do not count, "T9 not counted: impossible points"; "" if all do."""
    return f"{', '.join(analysis.not_counted)} not counted: impossible points" if analysis.not_counted else ""


def physiologic_text(analysis: SpineAnalysis) -> str:
    """Say which vertebrae are left out of the patient's grade, "L5 physiologic, counted as normal"; "" if none is."""
    return f"{', '.join(analysis.physiologic)} physiologic, counted as normal" if analysis.physiologic else ""


def worst_text(analysis: SpineAnalysis) -> str | None:
    """Describe the worst of the counted vertebrae, "T9 severe 0.55"; None if there are none."""
    named = zip(shown_names(analysis.vertebrae), analysis.vertebrae, strict=True)
    counted = [(name, v.measurement) for name, v in named if v.counts and not v.physiologic]
    if not counted:
        return None
    name, m = min(counted, key=lambda a: severity(a[1]))
    return f"{name} {m.grade} {deciding_text(m)}"


def check_belongs(analysis: SpineAnalysis, ct_shape: Sequence[int], ct_ijk_to_ras: np.ndarray) -> None:
    """Raise VFQError `other_ct` unless a CT `[k, j, i]` has the shape, spacing and corners of the analysed one.

    For records without a matrix, only shape and spacing are compared.
    """
    spacing = voxel_size(np.asarray(ct_ijk_to_ras))
    same = analysis.shape is not None and tuple(analysis.shape) == tuple(ct_shape)
    same = same and np.allclose(analysis.spacing_mm or np.nan, spacing, rtol=0, atol=SAME_SPACING_MM)
    if same and analysis.ijk_to_ras is not None:
        corners = _corners(ct_shape)
        moved = np.linalg.norm((corners @ (analysis.ijk_to_ras - ct_ijk_to_ras).T)[:, :3], axis=1)
        same = bool(moved.max() <= SAME_PLACE_MM)
    if not same:
        raise VFQError(
            "other_ct",
            "The analysis belongs to another CT: shape, spacing or position differ. Give the CT that was analysed, or "
            "analyse this one into another output folder.",
        )


def _corners(shape: Sequence[int]) -> np.ndarray:
    """Return the corners `(8, 4)` of a volume `[k, j, i]`: homogeneous (i, j, k) of its outermost voxels."""
    last = np.array(shape[::-1]) - 1.0
    corners = np.array(np.meshgrid(*[(0.0, n) for n in last])).reshape(3, -1).T
    return np.c_[corners, np.ones(8)]
