"""`evaluation.csv`: one row for each found, missed or false vertebra, for statistics programs and spreadsheets.

Heights and distances are in mm; an unknown value is an empty cell.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..evaluation.scans import Scan
from ..spine.genant import GRADES
from ..spine.keypoints import POSITIONS
from ..spine.levels import NAMES

COLUMNS = (
    "case",
    "reference",
    "outcome",
    "true_level",
    "level",
    "level_in_doubt",
    "true_genant_ratio",
    "genant_ratio",
    "genant_spread",
    "true_grade",
    "grade",
    *(f"{whose}{position}_height_mm" for position in POSITIONS for whose in ("true_", "")),
    "point_mm",
    "center_mm",
)


def write_rows(scans: Sequence[Scan], path: Path) -> None:
    """Write the table (UTF-8, comma, header row). Raises OSError if it cannot be written."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        for scan in scans:
            common = {"case": scan.case, "reference": scan.patient}
            writer.writerows({**common, **row} for row in _rows(scan))


def _rows(scan: Scan) -> Iterator[dict[str, Any]]:
    p = scan.pairs
    for i in range(len(p.ratio)):
        yield {
            "outcome": "found",
            "true_level": _level(p.level[i]),
            "level": _level(p.name[i]),
            "level_in_doubt": int(not p.sure[i]),
            "true_genant_ratio": _number(p.true_ratio[i], 4),
            "genant_ratio": _number(p.ratio[i], 4),
            "genant_spread": _number(p.spread[i], 4),
            "true_grade": GRADES[p.true_grade[i]],
            "grade": GRADES[p.grade[i]],
            **{f"true_{name}_height_mm": _number(h, 2) for name, h in zip(POSITIONS, p.true_heights[i], strict=True)},
            **{f"{name}_height_mm": _number(h, 2) for name, h in zip(POSITIONS, p.heights[i], strict=True)},
            "point_mm": _number(p.points_mm[i].mean(), 3),
            "center_mm": _number(p.centers_mm[i], 3),
        }
    for ratio, grade, level in zip(scan.missed, scan.missed_grades, scan.missed_levels, strict=True):
        true = {"true_level": _level(level), "true_genant_ratio": _number(ratio, 4), "true_grade": GRADES[grade]}
        yield {"outcome": "missed", **true}
    for ratio, grade in zip(scan.false, scan.false_grades, strict=True):
        yield {"outcome": "false", "genant_ratio": _number(ratio, 4), "grade": GRADES[grade]}


def _level(place: int) -> str:
    return NAMES[place] if place >= 0 else ""


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if np.isfinite(value) else ""
