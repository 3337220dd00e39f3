"""The record of one analysed study: vertebrae with six key points, what was measured on them, and their origin.

Plain data and its JSON (schema `vfq-analysis/1`); RAS millimetres throughout.
No patient name, id, date, UID or path is ever in it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .genant import GRADES, Measurement, worst_grade

SCHEMA = "vfq-analysis/1"


@dataclass(frozen=True, eq=False)
class Vertebra:
    """One vertebra: key points `(3, 2, 3)` = [anterior, middle, posterior] x [superior, inferior] x RAS mm.

    `spread` is the standard deviation of G that the network expects of itself, None for a reader's points;
    `level` is None where nothing in view tells it, `level_probabilities` holds the names above 1 %.
    """

    keypoints: np.ndarray
    measurement: Measurement
    score: float = 1.0
    level: str | None = None
    origin: str = "model"  # "model" | "reader"
    review: str = "open"  # "open" | "confirmed" | "rejected"
    spread: float | None = None
    level_probabilities: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelStamp:
    """Which network made a result: role ("localizer" | "detector"), name, SHA-256 of its weights, and the engine."""

    role: str
    name: str
    sha256: str
    backend: str | None = None  # "torch" | "openvino"; None where an older record does not tell


@dataclass(frozen=True, eq=False)
class SpineAnalysis:
    """Everything that is known about one study after the analysis, or the coded reason why nothing is.

    `curve` is `(n, 3)` RAS mm, cranial to caudal; `limits_mm` are the arc lengths on it between which
    the spine was looked for; vertebrae run from cranial to caudal.
    """

    case: str
    status: str = "ok"
    message: str = ""
    shape: tuple[int, ...] | None = None  # [k, j, i]
    spacing_mm: tuple[float, ...] | None = None  # [k, j, i]
    models: tuple[ModelStamp, ...] = ()
    curve: np.ndarray = field(default_factory=lambda: np.empty((0, 3)))
    limits_mm: tuple[float, float] | None = None
    vertebrae: tuple[Vertebra, ...] = ()
    timing_s: dict[str, float] = field(default_factory=dict)

    @property
    def assessed(self) -> tuple[Vertebra, ...]:
        """The vertebrae that no reader rejected."""
        return tuple(v for v in self.vertebrae if v.review != "rejected")

    @property
    def patient_ratio(self) -> float | None:
        """The smallest Genant ratio of the assessed vertebrae; None without any."""
        return min((v.measurement.genant_ratio for v in self.assessed), default=None)

    @property
    def patient_grade(self) -> str | None:
        """The worst grade of the assessed vertebrae; None without any."""
        return worst_grade(v.measurement.grade for v in self.assessed)

    @property
    def spinal_deformity_index(self) -> int:
        """SDI: the sum of grades 0 to 3 over the assessed vertebrae (Genant; Crans et al. 2005)."""
        return sum(GRADES.index(v.measurement.grade) for v in self.assessed)


def vertebra_name(vertebra: Vertebra, index: int) -> str:
    """The level's name, or "V1", "V2", ... counted from the top where the level is unknown."""
    return vertebra.level or f"V{index + 1}"


def to_json(analysis: SpineAnalysis) -> dict[str, Any]:
    """`analysis` as the JSON object of schema `vfq-analysis/1`."""
    return {
        "schema": SCHEMA,
        "case": analysis.case,
        "status": analysis.status,
        "message": analysis.message,
        "space": "RAS_mm",
        "source": {"shape": _list(analysis.shape), "spacing_mm": _list(analysis.spacing_mm)},
        "models": [vars(m) for m in analysis.models],
        "curve": np.round(analysis.curve, 3).tolist(),
        "limits_mm": _list(analysis.limits_mm),
        "vertebrae": [_vertebra_to_json(v) for v in analysis.vertebrae],
        "patient": {
            "genant_ratio": _rounded(analysis.patient_ratio),
            "grade": analysis.patient_grade,
            "sdi": analysis.spinal_deformity_index,
            "assessed": [vertebra_name(v, i) for i, v in enumerate(analysis.vertebrae) if v.review != "rejected"],
        },
        "timing_s": {k: _rounded(v) for k, v in analysis.timing_s.items()},
    }


def from_json(data: dict[str, Any]) -> SpineAnalysis:
    """Inverse of `to_json`; unknown keys are ignored. ValueError for another schema."""
    if data.get("schema") != SCHEMA:
        raise ValueError(f"expected schema {SCHEMA}, got {data.get('schema')!r}")
    source = data.get("source") or {}
    return SpineAnalysis(
        case=data["case"],
        status=data["status"],
        message=data.get("message", ""),
        shape=_tuple(source.get("shape")),
        spacing_mm=_tuple(source.get("spacing_mm")),
        models=tuple(ModelStamp(m["role"], m["name"], m["sha256"], m.get("backend")) for m in data.get("models", ())),
        curve=np.asarray(data.get("curve") or np.empty((0, 3)), float),
        limits_mm=_tuple(data.get("limits_mm")),
        vertebrae=tuple(_vertebra_from_json(v) for v in data.get("vertebrae", ())),
        timing_s=dict(data.get("timing_s", {})),
    )


def _vertebra_to_json(vertebra: Vertebra) -> dict[str, Any]:
    m = vertebra.measurement
    return {
        "level": vertebra.level,
        "level_probabilities": {name: _rounded(p) for name, p in vertebra.level_probabilities.items()},
        "score": _rounded(vertebra.score),
        "keypoints": np.round(vertebra.keypoints, 3).tolist(),
        "heights_mm": [round(float(h), 3) for h in m.heights_mm],
        "genant_ratio": _rounded(m.genant_ratio),
        "genant_spread": _rounded(vertebra.spread),
        "grade": m.grade,
        "shape": m.shape,
        "borderline": bool(m.borderline),
        "crush_ratio": _rounded(m.crush_ratio),
        "origin": vertebra.origin,
        "review": vertebra.review,
    }


def _vertebra_from_json(data: dict[str, Any]) -> Vertebra:
    measurement = Measurement(
        heights_mm=tuple(data["heights_mm"]),
        genant_ratio=data["genant_ratio"],
        grade=data["grade"],
        shape=data["shape"],
        borderline=data["borderline"],
        crush_ratio=data.get("crush_ratio"),
    )
    return Vertebra(
        keypoints=np.asarray(data["keypoints"], float),
        measurement=measurement,
        score=data["score"],
        spread=data.get("genant_spread"),
        level=data["level"],
        level_probabilities=data.get("level_probabilities") or {},
        origin=data.get("origin", "model"),
        review=data.get("review", "open"),
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), 4)


def _list(value: tuple[float, ...] | None) -> list[float] | None:
    return None if value is None else np.asarray(value).tolist()


def _tuple(value: Any) -> Any:
    return None if value is None else tuple(value)
