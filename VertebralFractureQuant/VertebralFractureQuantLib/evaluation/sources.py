"""The files behind an evaluation: predictions and references, each read into a `Spine`.

Predictions are analyses. References are six-point references, phantom truths, public annotations, or analyses that a
reader has reviewed. Files that cannot be used are listed as problems.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import VFQError
from ..spine.plausibility import IMPOSSIBLE
from ..spine.record_json import SCHEMA
from ..whole import visible
from .annotations import AnnotatedPatient, parse_patient
from .fields import curve_ends, read_curve, read_grid, read_limits, read_partial, read_vertebrae
from .problems import Problem, named, read_object
from .spines import RAS, VOXELS, Spine, inside

CASE_FILES = ("analysis.json", "machine.json", "truth.json", "evaluation.json")
TRUTH_SCHEMA = "vfq-truth/1"  # as phantom.volume writes it; its import would load torch


def read_predictions(folder: Path, reviewed: bool = False) -> tuple[list[Spine], list[Problem]]:
    """Read the analyses (`vfq-analysis/1`) of a folder: CASE/analysis.json, loose *.json, or one case's own folder.

    A reviewed case counts as the program measured it (CASE/machine.json) or, with `reviewed`, as the reader left it.

    Raises
    ------
    VFQError
        `not_found`: there is no such folder or file.
    """
    return _read(_files(folder, *_prediction_names(reviewed)), partial(_prediction, reviewed))


def read_references(
    folder: Path, predictions: Path | None = None, reviewed: bool = False
) -> tuple[list[Spine], list[Problem]]:
    """Read the references of a folder or file.

    A reference is a six-point reference, a phantom truth (`vfq-truth/1`), a public annotation, or an analysis
    (`vfq-analysis/1`) in which a reader has corrected or confirmed something. The files that `read_predictions` takes
    from `predictions` are not references for themselves.

    Raises
    ------
    VFQError
        `not_found`: there is no such folder or file.
    """
    own = {path.resolve() for path in _files(predictions, *_prediction_names(reviewed))} if predictions else set()
    found = (f for f in _files(folder, "truth.json", "analysis.json") if f.resolve() not in own)
    return _read(list(found), _reference)


def _read(
    paths: Sequence[Path], read: Callable[[Path, list[Problem]], Spine | None]
) -> tuple[list[Spine], list[Problem]]:
    problems: list[Problem] = []
    spines: dict[str, Spine] = {}
    for path in paths:
        spine = read(path, problems)
        if spine and spine.case in spines:
            message = f"Several files are of the case {spine.case}; the first one counts."
            problems.append(Problem("duplicate_case", named(path), None, message))
        elif spine:
            spines[spine.case] = spine
    return list(spines.values()), problems


def _files(place: Path, *names: str) -> list[Path]:
    """List the files to read: `place` itself if it is a file.

    Of a folder and of each folder in it, the first of `names` that exists; also the loose *.json of the folder, except
    for the other files of a case that lies there.
    """
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise VFQError("not_found", f"There is no file or folder {place.name!r}. Check the path.")
    own = _first(place, names)
    inner = [_first(folder, names) for folder in visible(place.iterdir()) if folder.is_dir()]
    loose = [path for path in visible(place.glob("*.json")) if own is None or _is_other_case(path)]
    return sorted({*loose, *(path for path in (own, *inner) if path)})


def _is_other_case(path: Path) -> bool:
    """True if a JSON file in a case's folder is not one of that case's own files."""
    return not (path.name in CASE_FILES or path.name.endswith(".mrk.json"))


def _first(folder: Path, names: Sequence[str]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _prediction_names(reviewed: bool) -> tuple[str, ...]:
    """The names of a case's prediction file, preferred first."""
    return ("analysis.json",) if reviewed else ("machine.json", "analysis.json")


def _prediction(reviewed: bool, path: Path, problems: list[Problem]) -> Spine | None:
    data = read_object(path, problems)
    if data is not None and not reviewed and _is_reviewed(data):
        problems.append(Problem("corrected", named(path), None, ""))
    return None if data is None else _analysis(data, path, problems)


def _analysis(data: dict[str, Any], path: Path, problems: list[Problem]) -> Spine | None:
    """Read an analysis, without vertebrae that a reader rejected, that do not count, or that lie outside the scan."""
    vertebrae, case = data.get("vertebrae"), data.get("case")
    file = named(path)
    if data.get("schema") != SCHEMA or data.get("space", RAS) != RAS or not isinstance(vertebrae, list) or not case:
        problems.append(Problem("wrong_schema", file, None, f"It is not an analysis of schema {SCHEMA}."))
        return None
    kept = [v for v in vertebrae if not (isinstance(v, dict) and _is_left_out(v))]
    curve = read_curve(data.get("curve"), file, problems)
    spine = Spine(
        case=str(case),
        file=file,
        curve=curve,
        limits=read_limits(curve, data.get("limits_mm")),
        status=str(data.get("status")),
        grid=read_grid(data.get("source")),
        **read_vertebrae(kept, file, problems)._asdict(),
    )
    spine, outside = inside(spine, spine.grid, spine.landmark)
    problems += outside
    return spine


def _reference(path: Path, problems: list[Problem]) -> Spine | None:
    data = read_object(path, problems)
    if data is None:
        return None
    if "Annotation" in data:
        noted: list[Problem] = []
        patient = parse_patient(data, path, noted)
        problems += [p for p in noted if p.code != "no_spacing"]  # the scan's own is known
        return None if patient is None else _consensus(patient)
    if data.get("schema") == SCHEMA and not _is_reviewed(data):
        problems.append(Problem("uncorrected", named(path), None, ""))
        return None
    if data.get("schema") == SCHEMA:
        return _analysis(data, path, problems)
    vertebrae, truth = data.get("vertebrae"), data.get("schema") == TRUTH_SCHEMA
    if (data.get("schema") and not truth) or data.get("space") != RAS or not isinstance(vertebrae, list):
        message = "It is neither a reference nor a phantom truth, an annotation or an analysis."
        problems.append(Problem("wrong_schema", named(path), None, message))
        return None
    stem = path.parent.name if path.name == "truth.json" else path.stem
    found = read_vertebrae(vertebrae, named(path), problems)
    curve = read_curve(data.get("curve" if truth else "centerline"), named(path), problems)
    return Spine(
        case=str(data.get("case") or stem),
        file=named(path),
        keypoints=found.keypoints,
        levels=found.levels,
        partial=np.concatenate([read_partial(data.get("partial"), named(path), problems), found.partial]),
        curve=curve,
        limits=read_limits(curve, data.get("limits_mm")) if truth else curve_ends(curve),
    )


def _is_left_out(vertebra: dict[str, Any]) -> bool:
    """True if a reader rejected it, or its points are impossible and no reader confirmed it."""
    review, quality = vertebra.get("review", "open"), vertebra.get("quality")
    flags = quality if isinstance(quality, list) else []
    impossible = any(isinstance(flag, dict) and flag.get("code") == IMPOSSIBLE for flag in flags)
    return bool(review == "rejected" or (impossible and review != "confirmed"))


def _is_reviewed(data: dict[str, Any]) -> bool:
    """True if a reader moved, placed, named, confirmed or rejected any vertebra of an analysis."""
    vertebrae = data.get("vertebrae")
    return any(
        v.get("origin", "model") != "model" or v.get("review", "open") != "open" or v.get("pinned") is True
        for v in (vertebrae if isinstance(vertebrae, list) else [])
        if isinstance(v, dict)
    )


def _consensus(patient: AnnotatedPatient) -> Spine:
    """Average the experts' points of each vertebra, in voxels."""
    names = dict.fromkeys(level for reading in patient.readings.values() for level in reading)
    points = [np.mean([r[level] for r in patient.readings.values() if level in r], axis=0) for level in names]
    return Spine(patient.name, patient.file, np.array(points), tuple(names), patient.left_out, space=VOXELS)
