"""`measurements.csv`: one row for each vertebra, cranial to caudal, for statistics programs and spreadsheets.

Heights are in mm, key points in RAS mm of the patient; an unknown value is an empty cell.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from ..spine.expected import Expectation
from ..spine.keypoints import ENDPLATES, POSITIONS
from ..spine.quality import codes_text
from ..spine.record import SpineAnalysis, Vertebra

COORDINATES = tuple(
    f"{position}_{endplate}_{axis}" for position in POSITIONS for endplate in ENDPLATES for axis in "ras"
)
EXPECTED = tuple(
    pattern.format(height)
    for pattern in ("expected_{}_mm", "expected_{}_sd_mm", "{}_loss", "{}_loss_sd")
    for height in ("ha", "hm", "hp")
)
EXPECTED_DECIMALS = {name: 2 if name.endswith("_mm") else 4 for name in EXPECTED}
COLUMNS = (
    "case",
    "index",
    "level",
    "level_probability",
    "ha_mm",
    "hm_mm",
    "hp_mm",
    "genant_ratio",
    "genant_spread",
    "grade",
    "shape",
    "borderline",
    "crush_ratio",
    "physiologic",
    *EXPECTED,
    "loss_grade",
    "quality",
    "score",
    "origin",
    "review",
    "counted",
    "reviewer",
    "reviewed_at",
    "reader",
    "signed_by",
    "signed_at",
    *COORDINATES,
)


def measurement_rows(analysis: SpineAnalysis) -> list[dict[str, Any]]:
    """Return a dictionary with the keys `COLUMNS` for each vertebra; `index` counts from 1 at the cranial end."""
    signed = _signed(analysis)
    return [_row(analysis.case, i, v, signed) for i, v in enumerate(analysis.vertebrae, start=1)]


def _signed(analysis: SpineAnalysis) -> dict[str, str]:
    """Return whose reading it is and the signatures that hold; several are separated by "; "."""
    return {
        "reader": analysis.reading.reader if analysis.reading else "",
        "signed_by": "; ".join(s.reader for s in analysis.signatures),
        "signed_at": "; ".join(s.at for s in analysis.signatures),
    }


def write_measurements(analysis: SpineAnalysis, path: Path) -> None:
    """Write `measurements.csv` (UTF-8, comma, header row). Raises OSError if it cannot be written."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(measurement_rows(analysis))


def _row(case: str, index: int, vertebra: Vertebra, signed: dict[str, str]) -> dict[str, Any]:
    m = vertebra.measurement
    ha, hm, hp = (f"{h:.2f}" for h in m.heights_mm)
    coordinates = zip(COORDINATES, vertebra.keypoints.reshape(-1), strict=True)
    return {
        "case": case,
        "index": index,
        "level": vertebra.level or "",
        "level_probability": _number(vertebra.level_probabilities.get(vertebra.level or "")),
        "ha_mm": ha,
        "hm_mm": hm,
        "hp_mm": hp,
        "genant_ratio": f"{m.genant_ratio:.4f}",
        "genant_spread": _number(vertebra.spread),
        "grade": m.grade,
        "shape": m.shape or "",
        "borderline": int(m.borderline),
        "crush_ratio": _number(m.crush_ratio),
        "physiologic": vertebra.physiologic or "",
        **_expected(vertebra.expected),
        "quality": codes_text(vertebra.quality),
        "score": f"{vertebra.score:.4f}",
        "origin": vertebra.origin,
        "review": vertebra.review,
        "counted": int(vertebra.counts),
        "reviewer": vertebra.reviewer or "",
        "reviewed_at": vertebra.reviewed_at or "",
        **signed,
        **{name: f"{value:.3f}" for name, value in coordinates},
    }


def expected_values(e: Expectation | None) -> dict[str, float | None]:
    """Return the numbers of `EXPECTED`, mm and shares; all are None without neighbours."""
    if e is None:
        return dict.fromkeys(EXPECTED)
    numbers = (*e.heights_mm, *e.sd_mm, *e.loss, *e.loss_sd)
    return {name: float(number) for name, number in zip(EXPECTED, numbers, strict=True)}


def _expected(e: Expectation | None) -> dict[str, str]:
    """Return the cells of `EXPECTED` and the grade by height loss; all are empty without neighbours."""
    numbers = expected_values(e).items()
    cells = {name: "" if n is None else f"{n:.{EXPECTED_DECIMALS[name]}f}" for name, n in numbers}
    return {**cells, "loss_grade": e.grade if e else ""}


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
