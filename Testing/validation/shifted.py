"""A domain that is shifted on purpose: what fine-tuning on 20 labelled phantoms of it gains there, and costs elsewhere.

    python Testing/validation/shifted.py make FOLDER [--count 20]
    vfq train detector --dataset FOLDER/labels --output FOLDER/run --folds 0
    python Testing/validation/shifted.py compare FOLDER FOLDER/run

The shifted domain has another law of intensities (bone is raised towards a power of 0.7 of its HU, as in images that
were stored on another scale), another resolution (a point spreads over a Gaussian of 2.5 mm in every direction), and
slices of 3 mm. `make` paints the patients and writes the label set; `compare` measures unseen patients of both domains
with the shipped and with the new networks, each through the whole pipeline.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter
from VertebralFractureQuantLib.analysis import Models, analyze, load_models
from VertebralFractureQuantLib.errors import VFQError
from VertebralFractureQuantLib.evaluation.predictions import evaluate_predictions
from VertebralFractureQuantLib.evaluation.scans import pool
from VertebralFractureQuantLib.imaging.ct import CTVolume, from_array
from VertebralFractureQuantLib.imaging.files import read_ct, write_ct
from VertebralFractureQuantLib.labels.dataset import case_of, changing, create, load, with_cases, with_readers
from VertebralFractureQuantLib.labels.reading import Label, LabelReading
from VertebralFractureQuantLib.labels.store import save
from VertebralFractureQuantLib.phantom import PhantomOptions, make_phantom
from VertebralFractureQuantLib.spine.record import SpineAnalysis
from VertebralFractureQuantLib.spine.record_json import to_json

FIRST_SEED = 800_000  # no training used it
SPACING_MM, SLICES = (1.0, 1.5), 2  # pixel and slice of the phantoms; slices that are averaged
BLUR_MM, POWER, DENSEST_HU = 2.5, 0.7, 1200.0
READER = "truth"


def shifted(ct: CTVolume) -> CTVolume:
    """Return the scan as the other domain shows it: blurred, in thicker slices, with another law of intensities."""
    voxels = gaussian_filter(ct.voxels.astype(np.float32), [BLUR_MM / mm for mm in ct.spacing_mm])
    count = len(voxels) // SLICES
    thick = voxels[: count * SLICES].reshape(count, SLICES, *voxels.shape[1:]).mean(1)
    raised = DENSEST_HU * (np.clip(thick, 0, None) / DENSEST_HU) ** POWER
    matrix = ct.ijk_to_ras.copy()
    matrix[:3, 3] += matrix[:3, 2] * (SLICES - 1) / 2
    matrix[:3, 2] *= SLICES
    hu = np.where(thick > 0, raised, thick).round().clip(-1024, 3071).astype(np.int16)
    return from_array(hu, matrix, ct.name)


def make(folder: Path, count: int) -> None:
    """Paint `count` patients to learn from and `count` unseen ones; write their scans, truths and the label set."""
    options = PhantomOptions(field_of_view="spine", spacing_mm=SPACING_MM)
    for n in range(2 * count):
        part, name = ("train" if n < count else "test"), f"phantom-{FIRST_SEED + n}"
        truth_file = folder / part / "truth" / f"{name}.json"
        if truth_file.exists():
            continue
        ct, truth = make_phantom(FIRST_SEED + n, options)
        for kind, scan in (("shifted", shifted(ct)), ("usual", ct)):
            (folder / part / kind).mkdir(parents=True, exist_ok=True)
            write_ct(scan, folder / part / kind / f"{name}.nii.gz")
        truth_file.parent.mkdir(exist_ok=True)
        truth_file.write_text(json.dumps({"case": name, **truth.to_json()}))
        print(name, flush=True)
    _label(folder)


def _label(folder: Path) -> None:
    """Make the label set: the true points of the patients to learn from, as those of one reader."""
    labels = folder / "labels"
    if labels.exists():
        return
    create(labels, "shifted", {"text": "Truth of phantoms."})
    scans = sorted((folder / "train" / "shifted").glob("*.nii.gz"))
    with changing(labels) as held:
        cases = [case_of(path, path.name.removesuffix(".nii.gz"), path.name, labels) for path in scans]
        held[0] = with_cases(with_readers(held[0], [READER]), cases)
    for case in cases:
        truth = json.loads((folder / "train" / "truth" / f"{case.name}.json").read_text())
        marks = tuple(Label(v["level"], np.array(v["keypoints"])) for v in truth["vertebrae"])
        save(load(labels), LabelReading(case.name, READER, state="final", labels=marks, ct_sha256=case.sha256))


def compare(folder: Path, weights: Path) -> None:
    """Measure the unseen patients of both domains with both networks, and write the analyses for `vfq evaluate`."""
    for name, models in (("shipped", load_models("cpu")), ("tuned", load_models("cpu", weights))):
        for kind in ("shifted", "usual"):
            for path in sorted((folder / "test" / kind).glob("*.nii.gz")):
                _measure(path, models, folder / "results" / name / kind)
            print(name, kind, _said(folder / "results" / name / kind, folder / "test" / "truth"), flush=True)


def _measure(path: Path, models: Models, output: Path) -> None:
    case = path.name.removesuffix(".nii.gz")
    ct = read_ct(path)
    try:
        found = analyze(ct, models)
    except VFQError as error:
        found = SpineAnalysis(
            case, error.code, error.message, shape=ct.voxels.shape, spacing_mm=ct.spacing_mm, ijk_to_ras=ct.ijk_to_ras
        )
    (output / case).mkdir(parents=True, exist_ok=True)
    (output / case / "analysis.json").write_text(json.dumps(to_json(replace(found, case=case))))


def _said(results: Path, truth: Path) -> str:
    scans = evaluate_predictions(results, truth, repeats=0).scans
    pairs = pool(scans)
    off = np.abs(pairs.ratio - pairs.true_ratio).mean()
    found, false, missed = np.sum([scan.by_overlap for scan in scans], 0)
    failed = sum(scan.status != "ok" for scan in scans)
    return (
        f"key points {pairs.points_mm.mean():.3f} mm, |dG| {off:.4f}, found {found}, missed {missed}, false {false}, "
        f"failed {failed} of {len(scans)}"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("make", "compare"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("weights", type=Path, nargs="?")
    parser.add_argument("--count", type=int, default=20)
    wanted = parser.parse_args()
    if wanted.command == "make":
        make(wanted.folder, wanted.count)
    else:
        compare(wanted.folder, wanted.weights)
