"""The comparison of examinations as files: `comparison.json` (schema `vfq-comparison/1`) and `comparison.csv`.

Heights are in mm, differences are now minus before. Examinations are called by their cases; there is no date, only days
between them.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..followup.change import VERDICTS, Change
from ..followup.comparison import Comparison, Examination
from ..followup.course import Step, interval
from ..followup.reader_match import scan_digest
from ..imaging.ct import CTVolume
from ..spine.record import SpineAnalysis, Vertebra
from ..spine.record_json import read_analysis
from .matches import read_matches
from .outputs import MACHINE_NAME, read_straightened
from .readings import case_folder_of

SCHEMA = "vfq-comparison/1"
HEIGHTS = ("ha", "hm", "hp")
COLUMNS = (
    "prior_case", "current_case", "interval_days", "vertebra", "prior_level", "current_level", "verdict", "reason",
    *(f"prior_{h}_mm" for h in HEIGHTS), *(f"current_{h}_mm" for h in HEIGHTS),
    *(f"{h}_difference_mm" for h in HEIGHTS), *(f"{h}_error_mm" for h in HEIGHTS),
    "prior_g", "current_g", "g_difference", "g_error", "prior_grade", "current_grade", "prior_rhlv", "current_rhlv",
    "certainty", "matched_by",
)  # fmt: skip


def read_examination(folder: Path) -> Examination:
    """Return the examination in the folder of a case or of a reading, with what is stored of its image and matches.

    VFQError as `read_analysis` and `read_straightened`.
    """
    analysis = read_analysis(folder / "analysis.json")
    if analysis.status != "ok":
        return Examination(analysis)
    scan = scan_digest(_automatic(folder))
    image, along = stored_image(folder) or (None, None)
    return Examination(analysis, image, along, scan, read_matches(folder, scan))


def stored_image(folder: Path) -> tuple[CTVolume, np.ndarray] | None:
    """Return the straightened volume that is stored for a case or a reading of it, and its curve `(n, 3)` RAS mm.

    A reader may have changed the curve since. VFQError as `read_analysis` and `read_straightened`.
    """
    for place in dict.fromkeys((folder, case_folder_of(folder))):
        if (place / "straightened.nrrd").exists():
            return read_straightened(place / "straightened.nrrd"), read_analysis(place / "analysis.json").curve
        if (place / "machine-straightened.nrrd").exists() and (place / MACHINE_NAME).exists():
            return read_straightened(place / "machine-straightened.nrrd"), _automatic(place).curve
    return None


def _automatic(folder: Path) -> SpineAnalysis:
    machine = folder / MACHINE_NAME
    return read_analysis(machine if machine.exists() else folder / "analysis.json")


def comparison_json(
    examinations: Sequence[Examination], days: Sequence[int | None], steps: Sequence[Step]
) -> dict[str, Any]:
    """Return the JSON object; `days` are those since the first examination, None where no date is known."""
    return {
        "schema": SCHEMA,
        "examinations": [
            {"case": e.analysis.case, "status": e.analysis.status, "message": e.analysis.message, "days": since}
            for e, since in zip(examinations, days, strict=True)
        ],
        "comparisons": [_step(examinations, step, interval(days, step)) for step in steps],
    }


def _step(examinations: Sequence[Examination], step: Step, days: int | None) -> dict[str, Any]:
    told: dict[str, Any] = {
        "prior": step.prior,
        "current": step.current,
        "interval_days": days,
        "status": step.status,
        "message": step.message,
        "alignment": None,
        "summary": None,
        "vertebrae": [],
    }
    if step.comparison is None:
        return told
    alignment = step.comparison.alignment
    told["alignment"] = {
        "certainty": round(alignment.certainty, 4),
        "shift": alignment.shift,
        "likeness": round(alignment.likeness, 4),
        "scale": round(step.comparison.scale, 4),
        "scale_doubtful": step.comparison.scale_doubtful,
        "reader": alignment.reader or None,
        "other_match": step.comparison.other_match,
        "other_weights": list(step.comparison.other_weights),
    }
    told["summary"] = {v.replace(" ", "_"): names_of(step.comparison, v) for v in VERDICTS}
    before, now = (examinations[i].analysis.vertebrae for i in (step.prior, step.current))
    named = zip(step.comparison.names, step.comparison.changes, strict=True)
    told["vertebrae"] = [_change(name, change, before, now) for name, change in named]
    return told


def names_of(comparison: Comparison, verdict: str) -> list[str]:
    """Return the names of the vertebrae with a verdict, cranial first."""
    return [n for n, c in zip(comparison.names, comparison.changes, strict=True) if c.verdict == verdict]


def _change(name: str, change: Change, before: Sequence[Vertebra], now: Sequence[Vertebra]) -> dict[str, Any]:
    difference = None if change.ratios is None else change.ratios[1] - change.ratios[0]
    return {
        "name": name,
        "prior": _seen(change.prior, before, change.losses[0]),
        "current": _seen(change.current, now, change.losses[1]),
        "difference_mm": _rounded(change.difference_mm, 3),
        "error_mm": _rounded(change.error_mm, 3),
        "genant_ratio_difference": _rounded(difference, 5),
        "genant_ratio_error": _rounded(change.ratio_error, 5),
        "verdict": change.verdict,
        "reason": change.reason,
    }


def _seen(index: int | None, vertebrae: Sequence[Vertebra], loss: float | None) -> dict[str, Any] | None:
    """Return what one examination says of a vertebra; `index` counts from 1 at the cranial end, as in its tables."""
    if index is None:
        return None
    vertebra = vertebrae[index]
    return {
        "index": index + 1,
        "level": vertebra.level,
        "heights_mm": _rounded(vertebra.measurement.heights_mm, 3),
        "genant_ratio": _rounded(vertebra.measurement.genant_ratio, 5),
        "grade": vertebra.called,
        "height_loss": _rounded(loss, 5),
    }


def _rounded(value: Any, digits: int) -> Any:
    if isinstance(value, tuple):
        return [_rounded(each, digits) for each in value]
    return None if value is None else round(float(value), digits)


def write_comparison_rows(record: dict[str, Any], path: Path) -> None:
    """Write `comparison.csv`: a row for each vertebra of each comparison in the JSON object; OSError if it fails."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        cases = [e["case"] for e in record["examinations"]]
        for step in record["comparisons"]:
            writer.writerows(_row(cases, step, vertebra) for vertebra in step["vertebrae"])


def _row(cases: Sequence[str], step: dict[str, Any], vertebra: dict[str, Any]) -> dict[str, Any]:
    prior, current = vertebra["prior"] or {}, vertebra["current"] or {}
    told = {
        "prior_case": cases[step["prior"]],
        "current_case": cases[step["current"]],
        "interval_days": step["interval_days"],
        "vertebra": vertebra["name"],
        "verdict": vertebra["verdict"],
        "reason": vertebra["reason"],
        "g_difference": vertebra["genant_ratio_difference"],
        "g_error": vertebra["genant_ratio_error"],
        "certainty": step["alignment"]["certainty"],
        "matched_by": step["alignment"]["reader"],
    }
    for when, seen in (("prior", prior), ("current", current)):
        told |= {f"{when}_level": seen.get("level"), f"{when}_g": seen.get("genant_ratio")}
        told |= {f"{when}_grade": seen.get("grade"), f"{when}_rhlv": seen.get("height_loss")}
        told |= _by_height(f"{when}_{{}}_mm", seen.get("heights_mm"))
    return (
        told
        | _by_height("{}_difference_mm", vertebra["difference_mm"])
        | _by_height("{}_error_mm", vertebra["error_mm"])
    )


def _by_height(name: str, values: Sequence[float] | None) -> dict[str, float | None]:
    return {name.format(h): v for h, v in zip(HEIGHTS, values or (None,) * 3, strict=True)}
