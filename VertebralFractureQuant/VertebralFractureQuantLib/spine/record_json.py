"""The record as JSON of schema `vfq-analysis/1`, which keeps every digit of coordinates and measurements.

Keys that came later may be absent, and unknown keys are ignored. All coordinates are RAS mm.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import VFQError
from .expected import Expectation
from .genant import GRADES, SHAPES, Measurement
from .quality import Flag
from .reading import ROLES, STARTS, Reading, Signature
from .record import ORIGINS, REVIEWS, ModelStamp, SpineAnalysis, Vertebra, vertebra_name

SCHEMA = "vfq-analysis/1"
SPACE = "RAS_mm"
EXPECTED = ("expected_heights_mm", "expected_heights_sd_mm", "height_loss", "height_loss_sd")
EXPECTED_KEYS = (*EXPECTED, "loss_grade", "expected_from")


def to_json(analysis: SpineAnalysis) -> dict[str, Any]:
    """Return `analysis` as a JSON object of schema `vfq-analysis/1`."""
    return {
        "schema": SCHEMA,
        "case": analysis.case,
        "status": analysis.status,
        "message": analysis.message,
        "space": SPACE,
        "source": {
            "shape": _list(analysis.shape),
            "spacing_mm": _list(analysis.spacing_mm),
            "ijk_to_ras": _list(analysis.ijk_to_ras),
            "trust_header": bool(analysis.trust_header),
            "series": analysis.series,
        },
        "models": [vars(m) for m in analysis.models],
        "curve": np.asarray(analysis.curve, float).tolist(),
        "limits_mm": _list(analysis.limits_mm),
        "vertebrae": [vertebra_to_json(v) for v in analysis.vertebrae],
        "patient": {
            "genant_ratio": analysis.patient_ratio,
            "grade": analysis.patient_grade,
            "sdi": analysis.spinal_deformity_index,
            "assessed": [vertebra_name(v, i) for i, v in enumerate(analysis.vertebrae) if v.counts],
            "physiologic": list(analysis.physiologic),
            "not_counted": list(analysis.not_counted),
        },
        "quality": [{"code": f.code, "where": list(f.where), "message": f.message} for f in analysis.quality],
        "timing_s": {k: round(float(v), 4) for k, v in analysis.timing_s.items()},
        "reading": _reading_to_json(analysis),
    }


def _reading_to_json(analysis: SpineAnalysis) -> dict[str, Any] | None:
    reading, holding = analysis.reading, analysis.signatures
    if reading is None:
        return None
    return {**vars(reading), "signatures": [{**vars(s), "holds": s in holding} for s in reading.signatures]}


def from_json(data: Any) -> SpineAnalysis:
    """Return the record of a JSON object: the inverse of `to_json`; unknown keys are ignored.

    VFQError `newer_schema`; `not_an_analysis` for anything else that cannot be read.
    """
    schema = data.get("schema") if isinstance(data, dict) else None
    if schema != SCHEMA:
        raise _other_schema(schema)
    try:
        return _from_json(data)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise VFQError(
            "not_an_analysis", f"The analysis is damaged ({type(error).__name__}: {error}). Analyse the scan again."
        ) from error


def read_analysis(path: Path) -> SpineAnalysis:
    """Read the record in a file. VFQError `not_found`, `newer_schema`, `not_an_analysis`."""
    try:
        return from_json(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise VFQError("not_found", f"There is no file {path.name!r}. Check the path.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise VFQError(
            "not_an_analysis", f"{path.name!r} cannot be read as an analysis. Give an analysis.json from vfq analyze."
        ) from error


def _other_schema(schema: Any) -> VFQError:
    newer = re.fullmatch(r"vfq-analysis/(\d+)", str(schema))
    if newer and int(newer.group(1)) > 1:
        return VFQError("newer_schema", f"The analysis ({schema}) was written by a newer version. Update this program.")
    return VFQError(
        "not_an_analysis",
        f"The file is not an analysis: its schema is {schema!r}, not {SCHEMA}. Give an analysis.json from vfq analyze.",
    )


def _from_json(data: dict[str, Any]) -> SpineAnalysis:
    source = _typed(dict, data.get("source") or {})
    _one_of((SPACE,), data.get("space", SPACE))
    return SpineAnalysis(
        case=_text(data["case"]),
        status=_text(data["status"]),
        message=_text(data.get("message", "")),
        shape=_optional(_counts, source.get("shape")),
        spacing_mm=_optional(lambda v: _numbers(v, 3), source.get("spacing_mm")),
        ijk_to_ras=_optional(lambda v: _array(v, (4, 4)), source.get("ijk_to_ras")),
        models=tuple(_stamp(m) for m in _typed(list, data.get("models", []))),
        curve=_curve(data.get("curve")),
        limits_mm=_optional(lambda v: _numbers(v, 2), data.get("limits_mm")),
        vertebrae=tuple(vertebra_from_json(v) for v in _typed(list, data.get("vertebrae", []))),
        timing_s=_shares(data.get("timing_s")),
        quality=_flags(data.get("quality")),
        trust_header=_typed(bool, source.get("trust_header", False)),
        series=_optional(_text, source.get("series")),
        reading=_optional(_reading, data.get("reading")),
    )


def _reading(data: Any) -> Reading:
    signatures = [
        Signature(_text(s["reader"]), _text(s["at"]), _one_of(ROLES, s["role"]), _text(s["digest"]))
        for s in _typed(list, _typed(dict, data).get("signatures", []))
    ]
    return Reading(
        _text(data["reader"]),
        _text(data["begun_at"]),
        _one_of(STARTS, data.get("begun_from", "automatic")),
        _optional(_text, data.get("begun_from_reader")),
        tuple(signatures),
    )


def _stamp(data: Any) -> ModelStamp:
    role, name, sha256 = (_text(_typed(dict, data)[key]) for key in ("role", "name", "sha256"))
    return ModelStamp(role, name, sha256, _optional(_text, data.get("backend")))


def vertebra_to_json(vertebra: Vertebra) -> dict[str, Any]:
    """Return one entry of "vertebrae"."""
    m = vertebra.measurement
    return {
        "level": vertebra.level,
        "level_probabilities": {name: round(float(p), 4) for name, p in vertebra.level_probabilities.items()},
        "score": float(vertebra.score),
        "keypoints": np.asarray(vertebra.keypoints, float).tolist(),
        "heights_mm": [float(h) for h in m.heights_mm],
        "genant_ratio": float(m.genant_ratio),
        "genant_spread": _float(vertebra.spread),
        "grade": m.grade,
        "shape": m.shape,
        "borderline": bool(m.borderline),
        "crush_ratio": _float(m.crush_ratio),
        "origin": vertebra.origin,
        "machine_keypoints": _list(vertebra.machine_keypoints),
        "pinned": bool(vertebra.pinned),
        "review": vertebra.review,
        "reviewer": vertebra.reviewer,
        "reviewed_at": vertebra.reviewed_at,
        "physiologic": {"reason": vertebra.physiologic} if vertebra.physiologic else None,
        **_expected_to_json(vertebra.expected),
        "quality": [{"code": f.code, "message": f.message} for f in vertebra.quality],
    }


def _expected_to_json(e: Expectation | None) -> dict[str, Any]:
    return {
        "expected_heights_mm": e and list(e.heights_mm),
        "expected_heights_sd_mm": e and list(e.sd_mm),
        "height_loss": e and list(e.loss),
        "height_loss_sd": e and list(e.loss_sd),
        "loss_grade": e and e.grade,
        "expected_from": e and {"neighbours": e.neighbours, "model": e.model},
    }


def _expected_from_json(data: dict[str, Any]) -> Expectation | None:
    """Return None for a record that is older than the expected heights, or of a vertebra without neighbours."""
    if data.get("expected_heights_mm") is None:
        return None
    source = _typed(dict, data["expected_from"])
    expected, sd, loss, loss_sd = (_numbers(data[key], 3) for key in EXPECTED)
    return Expectation(
        *(expected, sd, loss, loss_sd),
        _one_of(GRADES, data["loss_grade"]),
        _typed(int, source["neighbours"]),
        _text(source["model"]),
    )


def vertebra_from_json(data: dict[str, Any]) -> Vertebra:
    """Return the vertebra of one entry: the inverse of `vertebra_to_json`.

    KeyError, TypeError, ValueError or OverflowError if the entry is damaged.
    """
    _typed(dict, data)
    measurement = Measurement(
        heights_mm=_numbers(data["heights_mm"], 3),
        genant_ratio=_number(data["genant_ratio"]),
        grade=_one_of(GRADES, data["grade"]),
        shape=_one_of((None, *SHAPES), data["shape"]),
        borderline=_typed(bool, data["borderline"]),
        crush_ratio=_optional(_number, data.get("crush_ratio")),
    )
    return Vertebra(
        keypoints=_keypoints(data["keypoints"]),
        measurement=measurement,
        score=_number(data["score"]),
        spread=_optional(_number, data.get("genant_spread")),
        level=_optional(_text, data["level"]),
        level_probabilities=_shares(data.get("level_probabilities")),
        origin=_one_of(ORIGINS, data.get("origin", "model")),
        review=_one_of(REVIEWS, data.get("review", "open")),
        machine_keypoints=_optional(_keypoints, data.get("machine_keypoints")),
        pinned=_typed(bool, data.get("pinned", False)),
        reviewer=_optional(_text, data.get("reviewer")),
        reviewed_at=_optional(_text, data.get("reviewed_at")),
        physiologic=_optional(lambda v: _text(_typed(dict, v)["reason"]), data.get("physiologic")),
        expected=_expected_from_json(data),
        quality=_flags(data.get("quality")),
    )


def _flags(data: Any) -> tuple[Flag, ...]:
    each = [_typed(dict, flag) for flag in _typed(list, data or [])]
    return tuple(
        Flag(_text(f["code"]), _text(f["message"]), tuple(_text(n) for n in _typed(list, f.get("where", []))))
        for f in each
    )


def _typed(kind: type, value: Any) -> Any:
    """Return `value`; TypeError unless it is a `kind`."""
    if not isinstance(value, kind):
        raise TypeError(f"expected {kind.__name__}, got {value!r:.40}")
    return value


def _text(value: Any) -> str:
    return str(_typed(str, value))


def _number(value: Any) -> float:
    if isinstance(value, bool) or not math.isfinite(_typed(Real, value)):
        raise ValueError(f"expected a finite number, got {value!r}")
    return float(value)


def _numbers(values: Any, count: int) -> Any:
    if len(values) != count:
        raise ValueError(f"expected {count} numbers, got {len(values)}")
    return tuple(_number(v) for v in values)


def _counts(values: Any) -> tuple[int, ...]:
    _numbers(values, 3)
    return tuple(_typed(int, v) for v in values)


def _shares(value: Any) -> dict[str, float]:
    return {_text(name): _number(v) for name, v in _typed(dict, value or {}).items()}


def _one_of(options: Sequence[Any], value: Any) -> Any:
    if value not in options:
        raise ValueError(f"expected one of {options}, got {value!r:.40}")
    return value


def _optional(read: Callable[[Any], Any], value: Any) -> Any:
    return None if value is None else read(value)


def _array(value: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Return an array of finite numbers of this shape, where -1 is any length; text and booleans are no numbers."""
    array = np.asarray(value)
    fits = len(shape) == array.ndim and all(n in (-1, m) for n, m in zip(shape, array.shape, strict=True))
    if array.dtype.kind not in "iuf" or not fits or not np.isfinite(array).all():
        raise ValueError(f"expected finite numbers of shape {shape}")
    return array.astype(float)


def _curve(value: Any) -> np.ndarray:
    return _array(value, (-1, 3)) if value else np.empty((0, 3))


def _keypoints(value: Any) -> np.ndarray:
    return _array(value, (3, 2, 3))


def _float(value: float | None) -> float | None:
    return None if value is None else float(value)


def _list(value: Any) -> Any:
    return None if value is None else np.asarray(value).tolist()
