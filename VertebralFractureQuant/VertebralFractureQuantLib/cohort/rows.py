"""The rows that a case has in the tables of a cohort: its vertebrae and its patient, from the records in its folder.

The numbers are those of analysis.json, which a reader may have changed. Where machine.json, the automatic original,
differs, its numbers stand beside them with the prefix `auto_`. Lengths are mm; G is the Genant ratio.
"""

from __future__ import annotations

import json
import os
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from ..methods.registry import method_of
from ..report.outputs import MACHINE_NAME
from ..report.tables import EXPECTED, EXPECTED_DECIMALS, expected_values
from ..spine.levels import in_doubt
from ..spine.quality import codes_text
from ..spine.record import SpineAnalysis, Vertebra, vertebra_name
from ..spine.record_json import read_analysis

LAYOUT = "2"  # another one makes every record be read again, as when a column is new
NUMBERS = ("level", "ha_mm", "hm_mm", "hp_mm", "g", "g_sd", "grade", "shape")
DELETED = "deleted"


def case_rows(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the patient's values and the rows of the vertebrae of the case in `folder`, cranial first.

    A vertebra that a reader deleted has a row with the automatic numbers only. VFQError as in `read_analysis`.
    """
    record = read_analysis(folder / "analysis.json")
    machine = read_analysis(folder / MACHINE_NAME) if (folder / MACHINE_NAME).exists() else None
    return _patient(record, machine or record), _vertebrae(record, machine)


def stamp(folder: Path) -> str:
    """Return a text that changes when a record in `folder` is written again; "" if there is none."""
    told: list[os.stat_result] = []
    for name in ("analysis.json", MACHINE_NAME):
        with suppress(OSError):
            told.append(os.stat(os.path.join(folder, name)))
    return " ".join([LAYOUT, *(f"{status.st_size}-{status.st_mtime_ns}" for status in told)]) if told else ""


def packed(rows: list[dict[str, Any]]) -> bytes:
    """Return rows as compressed lines of JSON, for the state."""
    return zlib.compress("".join(json.dumps(row) + "\n" for row in rows).encode(), 1)


def _patient(record: SpineAnalysis, machine: SpineAnalysis) -> dict[str, Any]:
    names = [vertebra_name(v, i) for i, v in enumerate(record.vertebrae) if v.counts]
    settled = [v for v in record.vertebrae if v.review != "open"]
    readers = dict.fromkeys(v.reviewer for v in settled if v.reviewer)
    whole = len(settled) == len(record.vertebrae) > 0
    return {
        "method": method_of(stamp.role for stamp in record.models),
        "worst_grade": record.patient_grade,
        "auto_worst_grade": machine.patient_grade,
        "sdi": record.spinal_deformity_index,
        "auto_sdi": machine.spinal_deformity_index,
        "levels_assessed": len(names),
        "first_level": names[0] if names else None,
        "last_level": names[-1] if names else None,
        "doubts": codes_text(record.quality),
        "reviewed": "yes" if whole else "part" if settled else "no",
        "reader": ", ".join(readers) or None,
    }


def _vertebrae(record: SpineAnalysis, machine: SpineAnalysis | None) -> list[dict[str, Any]]:
    method = method_of(stamp.role for stamp in record.models)
    return [row | {"method": method} for row in _compared(record, machine)]


def _compared(record: SpineAnalysis, machine: SpineAnalysis | None) -> list[dict[str, Any]]:
    """Return the rows of the vertebrae with the automatic numbers that a reader changed."""
    rows = [_row(record.case, i, v, certain) for i, v, certain in _with_certainty(record)]
    if machine is None:
        return [row | {f"auto_{key}": None for key in NUMBERS} for row in rows]
    originals = list(machine.vertebrae)
    for row, vertebra in zip(rows, record.vertebrae, strict=True):
        original = next((one for one in originals if _is_original(one, vertebra)), None)
        if original is not None:
            originals = [one for one in originals if one is not original]
        row.update(_automatic(original, row))
    return rows + [_deleted(record.case, one) for one in originals]


def _with_certainty(record: SpineAnalysis) -> list[tuple[int, Vertebra, bool]]:
    held = record.vertebrae
    doubts = in_doubt([v.level for v in held], [v.level_probabilities for v in held], [v.pinned for v in held])
    return [(i, v, v.level is not None and d is None) for i, (v, d) in enumerate(zip(held, doubts, strict=True), 1)]


def _is_original(original: Vertebra, vertebra: Vertebra) -> bool:
    """True if the reader's vertebra came from the automatic `original`: it keeps those key points."""
    points = vertebra.keypoints if vertebra.machine_keypoints is None else vertebra.machine_keypoints
    return bool(np.allclose(original.keypoints, points, rtol=0, atol=1e-6))


def _automatic(original: Vertebra | None, row: dict[str, Any]) -> dict[str, Any]:
    """Return the automatic numbers if they differ from those of the row, else none."""
    numbers = None if original is None else _numbers(original)
    changed = numbers is not None and any(numbers[key] != row[key] for key in NUMBERS if key != "g_sd")
    return {f"auto_{key}": numbers[key] if numbers and changed else None for key in NUMBERS}


def _deleted(case: str, original: Vertebra) -> dict[str, Any]:
    lacking = ("level_certain", "score", "physiologic", "borderline", "reviewer", "reviewed_at", "loss_grade")
    empty = dict.fromkeys((*NUMBERS, *lacking, *EXPECTED))
    row = {"case": case, "index": 0, **empty, "doubts": "", "counted": False, "review": DELETED, "origin": "model"}
    return row | {f"auto_{key}": value for key, value in _numbers(original).items()}


def _numbers(vertebra: Vertebra) -> dict[str, Any]:
    m = vertebra.measurement
    ha, hm, hp = (round(float(h), 3) for h in m.heights_mm)
    spread = None if vertebra.spread is None else round(float(vertebra.spread), 5)
    values = (vertebra.level, ha, hm, hp, round(float(m.genant_ratio), 5), spread, m.grade, m.shape)
    return dict(zip(NUMBERS, values, strict=True))


def _row(case: str, index: int, vertebra: Vertebra, certain: bool) -> dict[str, Any]:
    return {
        "case": case,
        "index": index,
        **_numbers(vertebra),
        "level_certain": certain,
        "doubts": codes_text(vertebra.quality),
        "score": round(float(vertebra.score), 4),
        "counted": vertebra.counts,
        "review": vertebra.review,
        "reviewer": vertebra.reviewer,
        "reviewed_at": vertebra.reviewed_at,
        "origin": vertebra.origin,
        "physiologic": vertebra.physiologic is not None,
        "borderline": bool(vertebra.measurement.borderline),
        **_expected(vertebra),
    }


def _expected(vertebra: Vertebra) -> dict[str, Any]:
    """Return the expected heights and the losses, rounded as in measurements.csv."""
    numbers = expected_values(vertebra.expected).items()
    rounded = {name: None if n is None else round(n, EXPECTED_DECIMALS[name]) for name, n in numbers}
    return {**rounded, "loss_grade": vertebra.expected.grade if vertebra.expected else None}
