"""The figures of the README: python Testing/validate.py phantoms [N] | references DATA_FOLDER

Phantoms are of seeds that no training draws (700000 and up), one in three with 30 to 60 degrees of scoliosis.
References are our six-point annotations of real CT. Centre and point errors are RAS mm.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from VertebralFractureQuantLib.analysis import analyze, load_models
from VertebralFractureQuantLib.ct import CTVolume, read_ct
from VertebralFractureQuantLib.curve import SpineCurve
from VertebralFractureQuantLib.errors import VFQError
from VertebralFractureQuantLib.evaluation.matching import is_partial, match, point_errors
from VertebralFractureQuantLib.evaluation.metrics import auc
from VertebralFractureQuantLib.evaluation.tables import ratios_of
from VertebralFractureQuantLib.genant import MODERATE_METRIC
from VertebralFractureQuantLib.keypoints import centers
from VertebralFractureQuantLib.phantom import PhantomOptions, make_phantom

FIRST_SEED = 700_000

Case = tuple[str, CTVolume, np.ndarray, np.ndarray, np.ndarray]  # name, CT, true points, partial centres, true curve


def phantoms(count: int) -> Iterator[Case]:
    for seed in range(FIRST_SEED, FIRST_SEED + count):
        cobb = float(np.random.default_rng(seed).uniform(30, 60)) if seed % 3 == 0 else None
        ct, truth = make_phantom(seed, PhantomOptions(scoliosis_deg=cobb))
        partial = np.array([center for _, center in truth.partial]).reshape(-1, 3)
        yield f"{ct.name} cobb {truth.cobb_deg:.0f}", ct, truth.keypoints, partial, truth.curve


def references(data: Path) -> Iterator[Case]:
    for path in sorted((data / "reference").glob("*.json")):
        reference = json.loads(path.read_text())
        truth = np.array([v["keypoints"] for v in reference["vertebrae"]])
        if len(truth) < 2:
            continue  # a single vertebra is refused, see the tests
        partial = np.array([p["center"] for p in reference["partial"]]).reshape(-1, 3)
        for file in sorted((data / "ct").glob(f"{reference['case']}_ct*.nii.gz")) or [
            data / "ct" / reference["ct_file"]
        ]:
            yield file.name, read_ct(file), truth, partial, np.array(reference["centerline"])


def main(cases: Iterator[Case]) -> None:
    models = load_models("cpu")
    total: dict[str, list] = {
        k: [] for k in ("points", "centers", "dG", "curve", "true_G", "G", "false", "missed", "n")
    }
    for name, ct, truth, partial, curve in cases:
        try:
            result = analyze(ct, models)
        except VFQError as error:
            print(f"{name}: {error.code}, {len(truth)} vertebrae missed", flush=True)
            total["missed"].append(len(truth))
            total["n"].append(len(truth))
            continue
        found = np.stack([v.keypoints for v in result.vertebrae])
        m = match(found, truth)
        cut = is_partial(found, partial)
        false = [i for i in m.false if not cut[i]]
        rows, columns = [i for i, _ in m.pairs], [j for _, j in m.pairs]
        points = point_errors(found, truth, m).mean((1, 2))
        middle = np.linalg.norm(centers(found[rows]) - centers(truth[columns]), axis=1)
        spine = centers(truth)
        line = SpineCurve(result.curve).distance_to(spine if len(curve) == 0 else _between(curve, spine))
        g, true_g = ratios_of(found[rows]), ratios_of(truth[columns])
        for key, values in (
            ("points", points),
            ("centers", middle),
            ("dG", abs(g - true_g)),
            ("G", g),
            ("true_G", true_g),
        ):
            total[key].extend(values)
        total["curve"].append(line.mean())
        total["false"].append(len(false))
        total["missed"].append(len(m.missed))
        total["n"].append(len(truth))
        print(
            f"{name}: {len(truth)} vertebrae, missed {len(m.missed)}, false {len(false)}, points {points.mean():.2f}, "
            f"centres {middle.mean():.2f}, |dG| {abs(g - true_g).mean():.3f}, "
            f"curve {line.mean():.2f} (max {line.max():.1f})",
            flush=True,
        )
    summary(total)


def _between(curve: np.ndarray, spine: np.ndarray) -> np.ndarray:
    """The part of the true curve beside complete vertebrae."""
    return curve[(curve[:, 2] >= spine[:, 2].min()) & (curve[:, 2] <= spine[:, 2].max())]


def summary(total: dict[str, list]) -> None:
    n, missed, false = sum(total["n"]), sum(total["missed"]), sum(total["false"])
    true_g, g = np.array(total["true_G"]), np.array(total["G"])
    print(
        f"\n{len(total['n'])} scans, {n} vertebrae: recall {1 - missed / n:.4f}, precision "
        f"{(n - missed) / max(1, n - missed + false):.4f} ({missed} missed, {false} false)\n"
        f"point error {np.mean(total['points']):.2f} mm, centre error {np.mean(total['centers']):.2f} mm, "
        f"curve error {np.mean(total['curve']):.2f} mm\n"
        f"mean |dG| {np.mean(total['dG']):.3f}, "
        f"AUC for G <= {MODERATE_METRIC}: {auc(-g, true_g <= MODERATE_METRIC):.4f} "
        f"({(true_g <= MODERATE_METRIC).sum()} positive)"
    )


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in ("phantoms", "references"):
        sys.exit(__doc__)
    if sys.argv[1] == "phantoms":
        main(phantoms(int(sys.argv[2]) if len(sys.argv) > 2 else 20))
    else:
        main(references(Path(sys.argv[2])))
