"""Predictions and references as one plain noun: the `Spine` of a scan, from any of the schemas that hold one.

RAS mm; the public annotations alone are in voxels [row, column, slice], and need the scan's geometry to be compared.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import compress, permutations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import VFQError
from ..spine.curve import SpineCurve, fit_curve
from ..spine.genant import GRADES
from ..spine.keypoints import centers
from ..spine.levels import in_doubt
from ..spine.record import SCHEMA
from .annotations import AnnotatedPatient, parse_patient, to_ras
from .problems import PROBLEMS, Problem, as_points, fault, known_level, named, read_object, rough_center

CASE_FILES = ("analysis.json", "machine.json", "truth.json", "evaluation.json")
TRUTH_SCHEMA = "vfq-truth/1"  # as phantom.volume writes it; its import would load torch
RAS, VOXELS = "RAS_mm", "voxels"
BORDER_MM = 5.0  # key points may lie a little beyond the outermost voxels
LONGEST_CURVE_MM = 3000.0  # along an axis; no scanner's table is as long


@dataclass(frozen=True, eq=False)
class Grid:
    """A scan's voxels [k, j, i]: how many, how large, and where (`ijk_to_ras` 4 x 4; None where it is not known)."""

    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    ijk_to_ras: np.ndarray | None = None

    @property
    def diagonal_mm(self) -> float:
        """No two points of the scan are farther apart."""
        return float(np.linalg.norm(np.array(self.shape) * self.spacing_mm))


@dataclass(frozen=True, eq=False)
class Spine:
    """What one file says of one scan.

    Attributes
    ----------
    case, file : names.
    keypoints : `(n, 3, 2, 3)` in `space`.
    levels : names, None where unknown.
    sure : which names a prediction gives without doubt (`levels.SURE`); empty where it does not tell.
    spreads : the standard deviations of G that a prediction gives, nan where it gives none; empty as above.
    grades : the grades that a prediction gives (of `genant.GRADES`); empty as above.
    partial : `(p, 3)` approximate centres of vertebrae that are there and not to be compared: cut by the border, or
        left out as faulty.
    curve : the spine's line, None where the file has none.
    limits : `(2, 3)` where the spine begins and ends, or `(0, 3)`.
    status : "ok", or the code of a failed analysis.
    grid : the scan's, where known.
    """

    case: str
    file: str
    keypoints: np.ndarray
    levels: tuple[str | None, ...]
    partial: np.ndarray = field(default_factory=lambda: np.empty((0, 3)))
    curve: SpineCurve | None = None
    limits: np.ndarray = field(default_factory=lambda: np.empty((0, 3)))
    status: str = "ok"
    space: str = RAS
    grid: Grid | None = None
    sure: tuple[bool, ...] = ()
    spreads: tuple[float, ...] = ()
    grades: tuple[str, ...] = ()


PairedCases = tuple[list[tuple[Spine, Spine]], list[Problem]]


def read_predictions(folder: Path, reviewed: bool = False) -> tuple[list[Spine], list[Problem]]:
    """Analyses (`vfq-analysis/1`) of a folder: CASE/analysis.json, loose *.json, or one case's own folder.

    Of a case that a person has reviewed it is the machine's own, CASE/machine.json, unless the `reviewed` ones are
    wanted. VFQError `not_found` where there is no such folder or file.
    """
    return _read(_files(folder, *_predicted(reviewed)), partial(_prediction, reviewed))


def read_references(
    folder: Path, predictions: Path | None = None, reviewed: bool = False
) -> tuple[list[Spine], list[Problem]]:
    """References of a folder or file: six-point references, phantom truths (`vfq-truth/1`), public annotations, and
    analyses in which a person has corrected or accepted something (`vfq-analysis/1`).

    The analyses of `predictions`, as `read_predictions` takes them, are no references for themselves.
    VFQError `not_found` where there is no such folder or file.
    """
    own = {path.resolve() for path in _files(predictions, *_predicted(reviewed))} if predictions else set()
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
            problems.append(Problem("duplicate_case", named(path), None, f"{spine.case}: the first one counts."))
        elif spine:
            spines[spine.case] = spine
    return list(spines.values()), problems


def pair_cases(predictions: Sequence[Spine], references: Sequence[Spine]) -> PairedCases:
    """Which reference belongs to each prediction: that of the same case, else the longest name that begins its name.

    Several predictions of one reference are as many scans of one patient. Returns the pairs and the problems.
    """
    pairs: list[tuple[Spine, Spine]] = []
    problems: list[Problem] = []
    for prediction in predictions:
        fitting = [r for r in references if r.case == prediction.case or _begins(r.case, prediction.case)]
        if fitting:
            pairs.append((prediction, max(fitting, key=lambda r: len(r.case))))
        else:
            problems.append(Problem("no_reference", prediction.file, None, f"{prediction.case}: not evaluated"))
    paired = {id(reference) for _, reference in pairs}
    problems += [
        Problem("no_prediction", r.file, None, f"{r.case}: not evaluated") for r in references if id(r) not in paired
    ]
    return pairs, problems


def in_common_space(prediction: Spine, reference: Spine) -> tuple[Spine | None, list[Problem]]:
    """`reference` in the space of `prediction`, without what lies outside its scan; None where it cannot be brought in.

    The public annotations need `source.ijk_to_ras` (4 x 4, and `source.shape`) in the prediction's analysis.json.
    """
    if reference.space == VOXELS:
        if prediction.grid is None or prediction.grid.ijk_to_ras is None:
            message = "The annotation is in voxels, and the analysis does not tell the scan's source.ijk_to_ras."
            if len(prediction.keypoints):
                return None, [Problem("no_common_space", reference.file, None, f"{prediction.case}: {message}")]
            message += " As nothing was measured, all are missed; their G is that in voxels."
            upright = replace(reference, keypoints=to_ras(reference.keypoints, (1, 1)), space=RAS)
            return upright, [Problem("no_common_space", reference.file, None, f"{prediction.case}: {message}")]
        reference = _from_voxels(reference, prediction.grid)
    return _inside(reference, prediction.grid, _middle(prediction))


def _files(place: Path, *names: str) -> list[Path]:
    """The file `place`; of a folder, the file of the first of `names` that each of its folders has, and its own, or
    else its loose *.json."""
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise VFQError("not_found", f"There is no {place.name}.")
    own = _first(place, names)
    inner = [_first(folder, names) for folder in place.iterdir() if folder.is_dir()]
    loose = [path for path in place.glob("*.json") if own is None or _is_other_case(path)]
    return sorted({*loose, *(path for path in (own, *inner) if path)})


def _is_other_case(path: Path) -> bool:
    """Whether a file beside a case's own one is of another case, not one of those that a case's folder holds."""
    return not (path.name in CASE_FILES or path.name.endswith(".mrk.json"))


def _first(folder: Path, names: Sequence[str]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _predicted(reviewed: bool) -> tuple[str, ...]:
    """The files of a case that may be its prediction, the first that is there."""
    return ("analysis.json",) if reviewed else ("machine.json", "analysis.json")


def _prediction(reviewed: bool, path: Path, problems: list[Problem]) -> Spine | None:
    data = read_object(path, problems)
    if data is not None and not reviewed and _is_reviewed(data):
        problems.append(Problem("corrected", named(path), None, ""))
    return None if data is None else _analysis(data, path, problems)


def _analysis(data: dict[str, Any], path: Path, problems: list[Problem]) -> Spine | None:
    """Of an analysis, without what a person rejected and what lies outside its scan."""
    vertebrae, case = data.get("vertebrae"), data.get("case")
    file = named(path)
    if data.get("schema") != SCHEMA or data.get("space", RAS) != RAS or not isinstance(vertebrae, list) or not case:
        problems.append(Problem("wrong_schema", file, None, f"An analysis of schema {SCHEMA} is expected."))
        return None
    kept = [v for v in vertebrae if not (isinstance(v, dict) and v.get("review") == "rejected")]
    curve = _curve(data.get("curve"), file, problems)
    spine = Spine(
        case=str(case),
        file=file,
        curve=curve,
        limits=_limits(curve, data.get("limits_mm")),
        status=str(data.get("status")),
        grid=_grid(data.get("source")),
        **_vertebrae(kept, file, problems)._asdict(),
    )
    spine, outside = _inside(spine, spine.grid, _middle(spine))
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
        problems.append(Problem("wrong_schema", named(path), None, "No reference, truth, annotation or analysis."))
        return None
    stem = path.parent.name if path.name == "truth.json" else path.stem
    found = _vertebrae(vertebrae, named(path), problems)
    curve = _curve(data.get("curve" if truth else "centerline"), named(path), problems)
    return Spine(
        case=str(data.get("case") or stem),
        file=named(path),
        keypoints=found.keypoints,
        levels=found.levels,
        partial=np.concatenate([_partial(data.get("partial"), named(path), problems), found.partial]),
        curve=curve,
        limits=_limits(curve, data.get("limits_mm")) if truth else _ends(curve),
    )


def _is_reviewed(data: dict[str, Any]) -> bool:
    """Whether a person moved, set, named, accepted or rejected any vertebra of an analysis."""
    vertebrae = data.get("vertebrae")
    return any(
        v.get("origin", "model") != "model" or v.get("review", "open") != "open" or v.get("pinned") is True
        for v in (vertebrae if isinstance(vertebrae, list) else [])
        if isinstance(v, dict)
    )


def _consensus(patient: AnnotatedPatient) -> Spine:
    """The mean of the experts' points of each vertebra, in voxels."""
    names = dict.fromkeys(level for reading in patient.readings.values() for level in reading)
    points = [np.mean([r[level] for r in patient.readings.values() if level in r], axis=0) for level in names]
    return Spine(patient.name, patient.file, np.array(points), tuple(names), patient.left_out, space=VOXELS)


class _Vertebrae(NamedTuple):
    """As in `Spine`."""

    keypoints: np.ndarray
    levels: tuple[str | None, ...]
    sure: tuple[bool, ...]
    spreads: tuple[float, ...]
    grades: tuple[str, ...]
    partial: np.ndarray


def _vertebrae(raw: list[Any], file: str, problems: list[Problem]) -> _Vertebrae:
    """The sound ones. A level without meaning is noted and taken for unknown, as is one that is not certain."""
    kept, levels, shares, pinned, spreads, grades, left_out = [], [], [], [], [], [], []
    for i, entry in enumerate(raw):
        entry = entry if isinstance(entry, dict) else {}
        name = None if entry.get("level_certain") is False else entry.get("level")
        level = None if name is None else known_level(name)
        if name is not None and level is None:
            problems.append(Problem("unknown_level", file, f"V{i + 1}", f"{name!r} is taken for unknown."))
        points, code = as_points(entry.get("keypoints"), (3, 2, 3))
        wrong = (code, "") if points is None else fault(points)
        if wrong:
            problems.append(Problem(wrong[0], file, level or f"V{i + 1}", wrong[1]))
            left_out += rough_center(entry.get("keypoints"))
        else:
            kept.append(points)
            levels.append(level)
            shares.append(_shares(entry.get("level_probabilities")))
            pinned.append(entry.get("pinned") is True)
            spreads.append(_spread(entry.get("genant_spread")))
            grades.append(entry.get("grade"))
    sure = tuple(doubt is None for doubt in in_doubt(levels, shares, pinned))
    keypoints, partial = np.array(kept, float).reshape(-1, 3, 2, 3), np.reshape(left_out, (-1, 3))
    told = tuple(str(g) for g in grades) if all(g in GRADES for g in grades) else ()
    return _Vertebrae(keypoints, tuple(levels), sure, tuple(spreads), told, partial)


def _spread(raw: Any) -> float:
    spread, _ = as_points(raw, ())
    return float("nan") if spread is None else float(spread)


def _shares(raw: Any) -> dict[str, float]:
    return {name: p for name, p in raw.items() if isinstance(p, (int, float))} if isinstance(raw, dict) else {}


def _partial(raw: Any, file: str, problems: list[Problem]) -> np.ndarray:
    found = []
    for entry in raw if isinstance(raw, list) else []:
        entry = entry if isinstance(entry, dict) else {}
        center, code = as_points(entry.get("center"), (3,))
        if center is None:
            problems.append(Problem(code, file, str(entry.get("level")), "of the partial vertebrae"))
        else:
            found.append(center)
    return np.reshape(found, (-1, 3))


def _curve(raw: Any, file: str, problems: list[Problem]) -> SpineCurve | None:
    if raw is None or raw == []:
        return None
    points, code = as_points(raw, (-1, 3))
    try:
        if points is None or not len(points) or np.ptp(points, axis=0).max() > LONGEST_CURVE_MM:
            raise ValueError(f"{PROBLEMS[code]}" if code else "its points lie farther apart than in any scan")
        return fit_curve(points)
    except ValueError as error:
        problems.append(Problem("bad_curve", file, None, str(error)))
        return None


def _limits(curve: SpineCurve | None, raw: Any) -> np.ndarray:
    arc, _ = as_points(raw, (2,))
    return np.empty((0, 3)) if curve is None or arc is None else curve.at(arc)[0]


def _ends(curve: SpineCurve | None) -> np.ndarray:
    return np.empty((0, 3)) if curve is None else curve.points[[0, -1]]


def _grid(raw: Any) -> Grid | None:
    raw = raw if isinstance(raw, dict) else {}
    shape, _ = as_points(raw.get("shape"), (3,))
    spacing, _ = as_points(raw.get("spacing_mm"), (3,))
    matrix, _ = as_points(raw.get("ijk_to_ras"), (4, 4))
    if shape is None or spacing is None:
        return None
    if matrix is not None and abs(np.linalg.det(matrix)) < 1e-9:
        matrix = None
    return Grid(tuple(int(n) for n in shape), tuple(float(mm) for mm in spacing), matrix)


def _begins(reference: str, prediction: str) -> bool:
    """Whether a prediction's name goes on from the reference's at the end of a word: "X_ct" from "X", but not "X2", nor
    "X-2", which is what we call another scan whose file is named X, too."""
    rest = prediction[len(reference) :]
    return prediction.startswith(reference) and not rest[:1].isalnum() and not re.fullmatch(r"-\d+", rest)


def _middle(spine: Spine) -> np.ndarray | None:
    """A point that is surely in the spine's scan; None where the spine has nothing."""
    points = spine.curve.points if spine.curve is not None else centers(spine.keypoints)
    return np.median(points, axis=0) if len(points) else None


def _inside(spine: Spine, grid: Grid | None, landmark: np.ndarray | None) -> tuple[Spine, list[Problem]]:
    """Without the vertebrae outside the scan: exactly where its place is known, else by its size around `landmark`,
    else all; those outside are `partial`, as one that the border cuts may be among them."""
    points = spine.keypoints.reshape(-1, 6, 3)
    if grid is None or (grid.ijk_to_ras is None and landmark is None):
        return spine, []
    if grid.ijk_to_ras is None:
        outside = (np.linalg.norm(points - landmark, axis=-1) > grid.diagonal_mm).any(1)
    else:
        inverse = np.linalg.inv(grid.ijk_to_ras)
        kji = (points @ inverse[:3, :3].T + inverse[:3, 3])[..., ::-1]
        margin = BORDER_MM / np.array(grid.spacing_mm)
        outside = ((kji < -margin) | (kji > np.array(grid.shape) - 1 + margin)).any((1, 2))
    problems = [
        Problem("outside_volume", spine.file, spine.levels[i] or f"V{i + 1}", "not in the scan that was analysed")
        for i in np.flatnonzero(outside)
    ]
    kept = replace(
        spine,
        keypoints=spine.keypoints[~outside],
        levels=tuple(compress(spine.levels, ~outside)),
        sure=tuple(compress(spine.sure, ~outside)),
        spreads=tuple(compress(spine.spreads, ~outside)),
        grades=tuple(compress(spine.grades, ~outside)),
        partial=np.concatenate([spine.partial, centers(spine.keypoints[outside])]),
    )
    return kept, problems


def _from_voxels(spine: Spine, grid: Grid) -> Spine:
    """[row, column, slice] to RAS mm: the annotations' columns grow leftwards, rows posteriorly and slices caudally,
    those of the scan perhaps the other way, or in another order."""
    assert grid.ijk_to_ras is not None
    matrix = grid.ijk_to_ras
    voxel_axes = max(permutations(range(3)), key=lambda order: abs(matrix[range(3), order]).sum())

    def to_patient(voxels: np.ndarray) -> np.ndarray:
        ijk = np.empty_like(voxels)
        for patient_axis, axis in enumerate(voxel_axes):
            along, size = voxels[..., (1, 0, 2)[patient_axis]], grid.shape[::-1][axis]
            ijk[..., axis] = size - 1 - along if matrix[patient_axis, axis] > 0 else along
        ras: np.ndarray = ijk @ matrix[:3, :3].T + matrix[:3, 3]
        return ras

    return replace(spine, keypoints=to_patient(spine.keypoints), partial=to_patient(spine.partial), space=RAS)
