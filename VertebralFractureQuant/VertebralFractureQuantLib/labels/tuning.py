"""Fine-tuning of a network on a label set: a network for each fold, measured on patients it never saw, and one for use.

A run is a folder: `<role>.safetensors` and its model card of the network to be used, `folds/N/` with the network of
each fold, and `references/`, `before/` and `after/` with what `vfq evaluate predictions` compares: the labels, and the
analyses of every case with the initial weights and with the network of the fold that did not see its patient.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..analysis import Models, analyze, load_models
from ..errors import as_coded
from ..imaging.files import read_ct
from ..spine.record import SpineAnalysis
from ..spine.record_json import to_json
from ..spine.reference import Reference
from ..training.folds import Fold, folds_of, whole
from ..training.real import Lessons, RealCase
from ..training.train import SHIPPED, Recipe, train
from .files import write_json
from .teaching import Lesson, digest_of, read_lesson

BEFORE, AFTER, REFERENCES, FOLDS = "before", "after", "references", "folds"

Report = Callable[[str], None]


@dataclass(frozen=True)
class Tuned:
    """The weights for use, and the folders of analyses to evaluate with the references; none without folds."""

    weights: Path
    analyses: tuple[Path, ...] = ()


def tune(
    recipe: Recipe, lessons: Sequence[Lesson], name: str, folds: int, folder: Path, device: str, report: Report
) -> Tuned:
    """Train on the lessons of the label set `name`, or resume the run in `folder`.

    folds : parts of the cross-validation by patient; 0 for none.
    VFQError as `train`, `read_lesson` and `folds_of`.
    """
    patients = [lesson.patient for lesson in lessons]
    parts = folds_of(patients, folds, recipe.seed) if folds else []
    report(f"Reading {len(lessons)} CTs of {len(set(patients))} patients.")
    cases = {lesson.case.name: read_lesson(lesson) for lesson in lessons}
    for i, fold in enumerate(parts):
        report(f"Fold {i + 1} of {folds}: {len(fold.taught | fold.aside)} patients to learn from.")
        where = folder / FOLDS / str(i + 1)
        _train(recipe, fold, lessons, cases, name, where, device, report)
        models = load_models(device, where)
        for lesson in lessons:
            if lesson.patient in fold.unseen:
                _analysed(lesson, models, folder / AFTER)
    report("The network for use, from all patients.")
    weights = _train(recipe, whole(patients, recipe.seed), lessons, cases, name, folder, device, report)
    if not parts:
        return Tuned(weights)
    start = None if recipe.start in (None, SHIPPED) else Path(recipe.start)
    first = load_models(device, start and start.parent)
    for lesson in lessons:
        _analysed(lesson, first, folder / BEFORE)
        write_json(folder / REFERENCES / f"{lesson.case.name}.json", reference_json(lesson.reference))
    return Tuned(weights, (folder / BEFORE, folder / AFTER))


def _train(
    recipe: Recipe,
    fold: Fold,
    lessons: Sequence[Lesson],
    cases: dict[str, RealCase],
    name: str,
    folder: Path,
    device: str,
    report: Report,
) -> Path:
    """Train the network of one fold; one that is already complete is kept."""
    taught = [lesson for lesson in lessons if lesson.patient in fold.taught]
    aside = [lesson for lesson in lessons if lesson.patient in fold.aside]
    told = f"label set {name}: {len(taught)} CTs of {len(fold.taught)} patients to learn from, {len(aside)} to stop"
    given = Lessons(
        tuple(cases[lesson.case.name] for lesson in taught),
        tuple(cases[lesson.case.name] for lesson in aside),
        told,
        digest_of(taught) + digest_of(aside),
    )
    return train(replace(recipe, patience=recipe.patience if aside else None), folder, device, report, given)


def _analysed(lesson: Lesson, models: Models, output: Path) -> None:
    """Analyse the CT of a lesson into `output/CASE/analysis.json`, unless the same networks did."""
    path, case = output / lesson.case.name / "analysis.json", lesson.case.name
    stamps = [stamp.sha256 for stamp in models.stamps]
    if path.exists() and [m["sha256"] for m in json.loads(path.read_text(encoding="utf-8"))["models"]] == stamps:
        return
    ct = read_ct(lesson.ct_path, trust_header=True)
    try:
        found = replace(analyze(ct, models, trust_header=True), case=case)
    except Exception as error:
        failure = as_coded(error)
        found = SpineAnalysis(
            case, failure.code, failure.message, ct.voxels.shape, ct.spacing_mm, ct.ijk_to_ras, models.stamps
        )
    write_json(path, to_json(found))


def reference_json(reference: Reference) -> dict[str, object]:
    """Return a six-point reference as `spine.reference` reads it."""
    named = zip(reference.levels, reference.keypoints.tolist(), strict=True)
    return {
        "case": reference.case,
        "ct_file": reference.ct_file,
        "space": "RAS_mm",
        "vertebrae": [{"level": level, "level_certain": level is not None, "keypoints": k} for level, k in named],
        "partial": [{"center": center} for center in reference.partial.tolist()],
        "centerline": reference.curve.tolist(),
    }
