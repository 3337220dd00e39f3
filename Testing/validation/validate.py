"""Print the figures of the validation page, from phantoms or from our references.

    python Testing/validation/validate.py phantoms N FOLDER [FIRST_SEED]
    python Testing/validation/validate.py references DATA_FOLDER FOLDER

The phantoms have seeds that no training uses; one in three has 30 to 60 degrees of scoliosis. The references are our
six-point annotations of real CT. Each analysis is written to FOLDER/CASE as soon as it is finished, so that an
interrupted run can be resumed. Then the tables of `vfq evaluate predictions` are printed; for phantoms also the figures
by kind of patient, and the worst scans.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from VertebralFractureQuantLib.analysis import Models, analyze, load_models
from VertebralFractureQuantLib.errors import VFQError
from VertebralFractureQuantLib.evaluation.figures import counts, figures
from VertebralFractureQuantLib.evaluation.predictions import Evaluation, evaluate_predictions
from VertebralFractureQuantLib.evaluation.scans import Scan
from VertebralFractureQuantLib.imaging.ct import CTVolume
from VertebralFractureQuantLib.imaging.files import read_ct
from VertebralFractureQuantLib.phantom import PhantomOptions, make_phantom, phantom_traits
from VertebralFractureQuantLib.report.evaluation_terminal import predictions_tables
from VertebralFractureQuantLib.spine.genant import MODERATE_METRIC, measure_column
from VertebralFractureQuantLib.spine.record import SpineAnalysis
from VertebralFractureQuantLib.spine.record_json import to_json

FIRST_SEED = 810_000  # seeds from 700000 on were looked at during the development of the networks
SCOLIOSIS_DEG, OSTEOPOROTIC_HU, THICK_MM = 30.0, 80.0, 3.0
WORST = 10
LEVEL_CUES = ({"C2"}, {"C7", "T1"}, {"T12", "L1"}, {"S1"})


class Case(NamedTuple):
    """A real CT and our reference of it.

    `truth` are the key points `(n, 3, 2, 3)` RAS mm of the vertebrae; `levels` are their names, None if uncertain;
    `partial` `(m, 3)` are the centres of vertebrae that the border cuts.
    """

    name: str
    ct: CTVolume
    truth: np.ndarray
    levels: list[str | None]
    partial: np.ndarray


def options_of(seed: int) -> PhantomOptions:
    """Return the options of phantom `seed`."""
    cobb = float(np.random.default_rng(seed).uniform(30, 60)) if seed % 3 == 0 else None
    return PhantomOptions(scoliosis_deg=cobb)


def phantoms(count: int, folder: Path, first: int = FIRST_SEED) -> None:
    """Analyse the phantoms that `folder` does not contain yet, and print the figures of all."""
    models = load_models("cpu")
    for seed in range(first, first + count):
        case = folder / f"phantom-{seed}"
        if not is_analysed(case, models):
            ct, truth = make_phantom(seed, options_of(seed))
            case.mkdir(parents=True, exist_ok=True)
            (case / "truth.json").write_text(json.dumps(truth.to_json()))
            write_analysis(case, ct, models)
    evaluation = evaluate_predictions(folder, folder)
    console = show(evaluation)
    for kind, scans in kinds(evaluation.scans, folder).items():
        if scans:
            console.print(f"{kind}: {summary_line(scans)}", highlight=False)
    console.print(f"a level cue in view: {summary_line(with_cue(evaluation.scans, folder))}", highlight=False)
    unhidden = summary_line(without_hidden_crush(evaluation.scans, folder))
    console.print(f"no crush that G cannot see: {unhidden}", highlight=False)
    for line in worst(evaluation.scans):
        console.print(line, highlight=False)


def real_scans(data: Path, folder: Path) -> None:
    """Do the same for the CTs of our references."""
    models = load_models("cpu")
    for case in references(data):
        if not is_analysed(folder / case.name, models):
            (folder / case.name).mkdir(parents=True, exist_ok=True)
            write_analysis(folder / case.name, case.ct, models)
    evaluation = evaluate_predictions(folder, data / "reference")
    console = show(evaluation)
    for scan in evaluation.scans:
        console.print(f"{scan.case}: {summary_line([scan])}", highlight=False)


def is_analysed(case: Path, models: Models) -> bool:
    """True if the folder contains an analysis by these networks.

    A failed analysis names no networks; it is repeated.
    """
    path = case / "analysis.json"
    return path.is_file() and json.loads(path.read_text())["models"] == [vars(m) for m in models.stamps]


def write_analysis(case: Path, ct: CTVolume, models: Models) -> None:
    """Analyse `ct` and write the result to the folder `case`."""
    whole = case / "analysis.part"
    whole.write_text(json.dumps(to_json(replace(analysis_or_failure(ct, models), case=case.name))))
    whole.replace(case / "analysis.json")
    print(case.name, ct.voxels.shape, flush=True)


def analysis_or_failure(ct: CTVolume, models: Models) -> SpineAnalysis:
    """Return the analysis of `ct`, or one that has only the code of the error."""
    try:
        return analyze(ct, models)
    except VFQError as error:
        return SpineAnalysis(ct.name, status=error.code, message=error.message)


def show(evaluation: Evaluation) -> Console:
    """Print the tables of an evaluation, and return the console."""
    console = Console(width=140)
    console.print(predictions_tables(evaluation))
    return console


def kinds(scans: list[Scan], folder: Path) -> dict[str, list[Scan]]:
    """Return the scans by what makes them difficult; a scan may be of several kinds."""
    found: dict[str, list[Scan]] = {
        name: [] for name in ("scoliosis", "osteoporotic", "cement or screws", "thick slices", "none of these")
    }
    for scan in scans:
        truth = json.loads((folder / scan.patient / "truth.json").read_text())
        traits = phantom_traits(truth["seed"], options_of(truth["seed"]))
        levels = {v["level"] for v in truth["vertebrae"]}
        hard = {
            "scoliosis": truth["cobb_deg"] > SCOLIOSIS_DEG,
            "osteoporotic": traits["spongiosa_hu"] < OSTEOPOROTIC_HU,
            "cement or screws": traits["screws"] or bool(levels & set(traits["cement"])),
            "thick slices": traits["slice_mm"] >= THICK_MM,
        }
        for name in [name for name, is_so in hard.items() if is_so] or ["none of these"]:
            found[name].append(scan)
    return found


def with_cue(scans: list[Scan], folder: Path) -> list[Scan]:
    """Return the scans that show C2, the sacrum, or both vertebrae between which the ribs begin or end."""
    found = []
    for scan in scans:
        truth = json.loads((folder / scan.patient / "truth.json").read_text())
        levels = {v["level"] for v in [*truth["vertebrae"], *truth["partial"]]}
        if any(cue <= levels for cue in LEVEL_CUES):
            found.append(scan)
    return found


def without_hidden_crush(scans: list[Scan], folder: Path) -> list[Scan]:
    """Return the scans except those in which a body is crushed although the lowest G is above the threshold.

    By G such a scan is negative, by the height relative to the neighbours it is positive; and in so low a body an error
    of one mm changes G much.
    """
    found = []
    for scan in scans:
        truth = json.loads((folder / scan.patient / "truth.json").read_text())
        column = measure_column(np.array([v["keypoints"] for v in truth["vertebrae"]]))
        crushed = any(m.grade in ("moderate", "severe") for m in column)
        if scan.true_worst <= MODERATE_METRIC or not crushed:
            found.append(scan)
    return found


def summary_line(scans: list[Scan]) -> str:
    """Return the figures of some scans in one line."""
    e, n = defaultdict(lambda: float("nan"), figures(scans)), counts(scans)
    task = "G0-1 vs G2-3"
    return (
        f"{n['scans']} scans, {n['vertebrae']} vertebrae, {n['missed']} missed, {n['false']} false, "
        f"points {e['error', 'point_mm']:.2f} mm, line {e['line', 'mean_mm']:.2f} mm, |dG| {e['error', 'ratio']:.3f}, "
        f"AUC {e['severity', 'vertebra', task, 'auc']:.4f} ({n['moderate_or_worse']} positive), "
        f"sensitivity {e['severity', 'vertebra', task, 'sensitivity']:.3f}, "
        f"patients' AUC {e['severity', 'patient', task, 'auc']:.4f}, named right {e['names', 'right']:.3f}, "
        f"wrong {e['names', 'wrong']:.3f}, scans with a wrong name {e['names', 'scans_any_wrong']:.3f}, with a "
        f"wrong name without doubt {e['names', 'scans_any_surely_wrong']:.3f}"
    )


def worst(scans: list[Scan]) -> list[str]:
    """Return lines on the worst scans, by vertebrae missed and false, wrong names, and the largest error of G."""

    def wrongs(scan: Scan) -> tuple[float, ...]:
        _, false, missed = scan.by_overlap
        wrong = int(((scan.pairs.name >= 0) & (scan.pairs.name != scan.pairs.level)).sum())
        off = np.abs(scan.pairs.ratio - scan.pairs.true_ratio).max(initial=0.0)
        return false + missed + (wrong > 0) + off, false, missed, wrong, off

    ranked = sorted(scans, key=wrongs, reverse=True)[:WORST]
    return [
        "{}: {} false, {} missed, {} named wrong, largest |dG| {:.2f}".format(s.case, *wrongs(s)[1:]) for s in ranked
    ]


def references(data: Path) -> Iterator[Case]:
    """Yield the CTs in `data` that have a reference with at least two vertebrae."""
    for path in sorted((data / "reference").glob("*.json")):
        reference = json.loads(path.read_text())
        truth = np.array([v["keypoints"] for v in reference["vertebrae"]])
        if len(truth) < 2:
            continue  # a scan with a single vertebra is refused, see the tests
        levels = [v["level"] if v["level_certain"] else None for v in reference["vertebrae"]]
        partial = np.array([p["center"] for p in reference["partial"]]).reshape(-1, 3)
        for file in sorted((data / "ct").glob(f"{reference['case']}_ct*.nii.gz")) or [
            data / "ct" / reference["ct_file"]
        ]:
            yield Case(file.name.removesuffix(".nii.gz"), read_ct(file), truth, levels, partial)


if __name__ == "__main__":
    if len(sys.argv) < 4 or sys.argv[1] not in ("phantoms", "references"):
        sys.exit(__doc__)
    if sys.argv[1] == "phantoms":
        phantoms(int(sys.argv[2]), Path(sys.argv[3]), *(int(seed) for seed in sys.argv[4:5]))
    else:
        real_scans(Path(sys.argv[2]), Path(sys.argv[3]))
