"""Print the figures of real CT whose vertebrae were broken (`breaking_ct`), and of the same scans unbroken.

    python Testing/validation/broken.py SCANS REFERENCES [--case BEGINNING ...] [--count N] [--weights FOLDER]

REFERENCES is a folder of six-point references; SCANS contains their CTs. Patients whose scans the weights learned from
tell little: give the cases that were left out. Pressing bone together makes some endplates invisible; the figures are
also printed without the vertebrae whose lowest height ends at an endplate of less than `FAINT_HU`.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from breaking_ct import broken_ct, draw_presses, rescanned, to_target
from VertebralFractureQuantLib.analysis import Models, analyze, load_models
from VertebralFractureQuantLib.errors import VFQError
from VertebralFractureQuantLib.evaluation.matching import match
from VertebralFractureQuantLib.imaging.ct import CTVolume, inside
from VertebralFractureQuantLib.imaging.files import read_ct
from VertebralFractureQuantLib.spine.genant import Measurement, heights, measure_column
from VertebralFractureQuantLib.spine.keypoints import centers
from VertebralFractureQuantLib.spine.reference import Reference, read_reference

WORSE = ("moderate", "severe")
CLEARLY = 0.72
BORDER_MM = 14.0  # a detection this close to a partial vertebra counts neither way
SHARES = (0.0, 0.3, 0.3)  # of the vertebrae are fractured: each scan is also measured whole
FAINT_HU = 30.0
AROUND_MM, ASIDE_MM, ALONG_MM, STEP_MM = 6.0, 4.0, 2.0, 0.5  # the part of an endplate whose contrast is measured


@dataclass(frozen=True)
class Row:
    """One matched vertebra: what is true, what was measured, errors in mm, and the contrast of its endplates in HU."""

    true: Measurement
    found: Measurement
    pressed: bool
    points_mm: float
    center_mm: float
    contrast_hu: float


def main(arguments: argparse.Namespace) -> None:
    """Analyse every case `count` times, and print a line for each scan and the figures of all."""
    models = load_models("cpu", arguments.weights)
    rows: list[Row] = []
    missed = false = 0
    for path in sorted(p for folder in arguments.references for p in folder.glob("*.json")):
        reference = read_reference(path)
        named = not arguments.case or any(reference.case.startswith(c) for c in arguments.case)
        if not named or len(reference.keypoints) < 2:
            continue
        ct = read_ct(arguments.scans / reference.ct_file)
        for seed in range(arguments.count):
            own, lost, wrong, what = _measured(ct, reference, seed, models)
            missed, false = missed + lost, false + wrong
            rows += own
            print(f"{reference.case} {seed}: {what}; missed {lost}, false {wrong}; {_summary(own)}", flush=True)
            for row in own:
                ratio, seen = row.true.genant_ratio, row.found
                if (row.true.grade in WORSE) != (seen.grade in WORSE) and abs(ratio - 0.745) > 0.02:
                    print(f"    {row.true.grade} {ratio:.2f} measured {seen.grade} {seen.genant_ratio:.2f}, points "
                          f"{row.points_mm:.1f} mm, contrast {row.contrast_hu:.0f} HU")  # fmt: skip
    print(f"all: missed {missed}, false {false}; {_summary(rows)}")
    visible = [row for row in rows if row.contrast_hu >= FAINT_HU or not row.pressed]
    print(f"with visible endplates: {_summary(visible)}")


def _measured(ct: CTVolume, reference: Reference, seed: int, models: Models) -> tuple[list[Row], int, int, str]:
    """Break the vertebrae of a scan and analyse it; return matched vertebrae, missed, false, and what was done."""
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
    middles = centers(reference.keypoints)
    pressed = np.array([any(np.linalg.norm(m - p.center) < 1.0 for p in presses) for m in middles])
    whole = inside(scan, truth).all((1, 2))  # a kyphosis may bend a spine out of the field of view
    lost, truth, pressed = truth[~whole].mean((1, 2)), truth[whole], pressed[whole]
    points = np.reshape([v.keypoints for v in found], (-1, 3, 2, 3))
    m = match(points, truth)
    real = measure_column(truth)
    own = [
        Row(real[j], found[i].measurement, bool(pressed[j]),
            float(np.linalg.norm(points[i] - truth[j], axis=-1).mean()),
            float(np.linalg.norm(centers(points[i]) - centers(truth[j]))), _contrast(scan, truth[j]))
        for i, j in m.pairs
    ]  # fmt: skip
    partial = np.concatenate([moved(reference.partial), lost, np.full((1, 3), 1e6)])
    extra = centers(points[list(m.false)])[:, None] - partial
    wrong = int((np.linalg.norm(extra, axis=-1).min(1) > BORDER_MM).sum())
    return own, len(truth) - len(own), wrong, f"{len(presses)} broken, {slices:.0f} mm"


def _contrast(scan: CTVolume, points: np.ndarray) -> float:
    """Return how much denser the fainter endplate is, where `(3, 2, 3)` is lowest, than what lies beyond it; HU.

    It is the difference of bone and disc, or the height of the bright line between them if that is more.
    """
    lowest = int(np.argmin(heights(points)))
    up = points[lowest, 0] - points[lowest, 1]
    up = up / np.linalg.norm(up)
    ahead = points[0].mean(0) - points[2].mean(0)
    ahead = ahead - up * (ahead @ up)
    ahead = ahead / np.linalg.norm(ahead)
    inward = (-1, 0, 1)[lowest]  # at a wall only the body's side counts
    along = np.arange(-ALONG_MM, ALONG_MM + 1) + 2.5 * inward
    away = np.arange(-AROUND_MM, AROUND_MM + STEP_MM, STEP_MM)
    aside = np.arange(-ASIDE_MM, ASIDE_MM + 1, 2)[:, None] * np.cross(ahead, up)
    found = []
    for end, sign in ((0, 1.0), (1, -1.0)):
        line = points[lowest, end] + sign * away[:, None, None, None] * up
        hu = scan.sample(line + along[:, None, None] * ahead + aside).mean((1, 2))
        step = hu[(away <= -1) & (away >= -4)].mean() - hu[(away >= 1) & (away <= 4)].mean()
        line_hu = hu[np.abs(away) <= 2].max() - max(hu[away <= -3].mean(), hu[away >= 3].mean())
        found.append(float(max(step, line_hu)))
    return min(found)


def _summary(rows: list[Row]) -> str:
    """Return the figures of matched vertebrae as text; a crush counts neither as low nor as whole."""
    if not rows:
        return "none"
    g, seen = (
        np.array([r.genant_ratio for r in each]) for each in zip(*((r.true, r.found) for r in rows), strict=True)
    )
    far, off = (np.array([getattr(r, name) for r in rows]) for name in ("points_mm", "center_mm"))
    worse = np.array([r.found.grade in WORSE for r in rows])
    severe = np.array([r.found.grade == "severe" for r in rows])
    low, flat = g <= CLEARLY, g <= 0.58
    whole = np.array([r.true.genant_ratio > 0.80 and not r.pressed for r in rows])
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
