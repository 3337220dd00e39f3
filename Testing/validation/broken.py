"""Print the figures of real CT whose vertebrae were broken (`breaking_ct`), and of the same scans unbroken.

    python Testing/validation/broken.py SCANS REFERENCES [--case BEGINNING ...] [--count N] [--weights FOLDER]

REFERENCES is a folder of six-point references; SCANS contains their CTs. Patients whose scans the weights learned from
tell little: give the cases that were left out.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from breaking_ct import broken_ct, draw_presses, rescanned, to_target
from VertebralFractureQuantLib.analysis import analyze, load_models
from VertebralFractureQuantLib.errors import VFQError
from VertebralFractureQuantLib.evaluation.matching import match
from VertebralFractureQuantLib.imaging.ct import inside
from VertebralFractureQuantLib.imaging.files import read_ct
from VertebralFractureQuantLib.spine.genant import measure_column
from VertebralFractureQuantLib.spine.keypoints import centers
from VertebralFractureQuantLib.spine.reference import read_reference

WORSE = ("moderate", "severe")
CLEARLY = 0.72
BORDER_MM = 14.0  # a detection this close to a partial vertebra counts neither way
SHARES = (0.0, 0.3, 0.3)  # of the vertebrae are fractured: each scan is also measured whole


def main(arguments: argparse.Namespace) -> None:
    """Analyse every case `count` times, and print a line for each scan and the figures of all."""
    models = load_models("cpu", arguments.weights)
    rows: list[tuple[float, float, str, float, float]] = []  # true G, G, grade, error of points, of the centre
    missed = false = 0
    for path in sorted(p for folder in arguments.references for p in folder.glob("*.json")):
        reference = read_reference(path)
        named = not arguments.case or any(reference.case.startswith(c) for c in arguments.case)
        if not named or len(reference.keypoints) < 2:
            continue
        ct = read_ct(arguments.scans / reference.ct_file)
        for seed in range(arguments.count):
            rng = np.random.default_rng([seed, len(reference.case)])
            presses = draw_presses(rng, reference.keypoints, SHARES[seed % len(SHARES)])
            moved = to_target(presses)
            scan, truth = broken_ct(ct, reference.curve, reference.keypoints, presses, rng.uniform(0, 0.6), ct.name)
            slices = float(rng.choice([0, 0, 3, 4, 5])) if seed >= len(SHARES) else 0.0
            if slices:
                scan = rescanned(scan, rng, slices, float(rng.uniform(0, 25)))
            try:
                found = analyze(scan, models).vertebrae
            except VFQError as error:
                print(reference.case, seed, error.code)
                found = ()
            whole = inside(scan, truth).all((1, 2))  # a kyphosis may bend a spine out of the field of view
            lost, truth = truth[~whole].mean((1, 2)), truth[whole]
            points = np.reshape([v.keypoints for v in found], (-1, 3, 2, 3))
            m = match(points, truth)
            real = measure_column(truth)
            own = [
                (real[j].genant_ratio, found[i].measurement.genant_ratio, found[i].measurement.grade,
                 float(np.linalg.norm(points[i] - truth[j], axis=-1).mean()),
                 float(np.linalg.norm(centers(points[i]) - centers(truth[j]))))
                for i, j in m.pairs
            ]  # fmt: skip
            partial = np.concatenate([moved(reference.partial), lost, np.full((1, 3), 1e6)])
            extra = centers(points[list(m.false)])[:, None] - partial
            wrong = int((np.linalg.norm(extra, axis=-1).min(1) > BORDER_MM).sum())
            missed, false = missed + len(truth) - len(m.pairs), false + wrong
            rows += own
            print(f"{reference.case} {seed}: {len(presses)} broken, {slices:.0f} mm; missed {len(truth) - len(own)}, "
                  f"false {wrong}; {_summary(own)}", flush=True)  # fmt: skip
            for g, seen, grade, far, _ in own:
                if (g <= CLEARLY) != (grade in WORSE) and abs(g - 0.745) > 0.02:
                    print(f"    G {g:.2f} measured {seen:.2f} {grade}, points {far:.1f} mm")
    print(f"all: missed {missed}, false {false}; {_summary(rows)}")


def _summary(rows: list[tuple[float, float, str, float, float]]) -> str:
    """Return the figures of matched vertebrae as text."""
    if not rows:
        return "none"
    g, seen, far, off = (np.array([r[n] for r in rows]) for n in (0, 1, 3, 4))
    worse = np.array([r[2] in WORSE for r in rows])
    severe = np.array([r[2] == "severe" for r in rows])
    low, whole, flat = g <= CLEARLY, g > 0.80, g <= 0.58
    part = [f"{len(rows)} matched, points {far.mean():.2f} mm, centres {off.mean():.2f} mm"]
    part += [f"|dG| {np.abs(g - seen).mean():.3f}"]
    part += [f"broken {low.sum()}: called {worse[low].mean():.2f}, |dG| {np.abs(g - seen)[low].mean():.3f}, "
             f"bias {(seen - g)[low].mean():+.3f}"] if low.any() else []  # fmt: skip
    part += [f"severe {flat.sum()}: {severe[flat].mean():.2f}"] if flat.any() else []
    part += [f"whole {whole.sum()}: called {worse[whole].mean():.3f}"] if whole.any() else []
    return "; ".join(part)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scans", type=Path)
    parser.add_argument("references", type=Path, nargs="+")
    parser.add_argument("--case", nargs="*")
    parser.add_argument("--count", type=int, default=3)
    parser.add_argument("--weights", type=Path)
    main(parser.parse_args())
