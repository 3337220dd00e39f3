"""The figures of the README: python Testing/validate.py phantoms N FOLDER [FIRST_SEED] | references DATA_FOLDER

Phantoms are of seeds that nothing else draws, one in three with 30 to 60 degrees of scoliosis. Each is written to
FOLDER/CASE as soon as it is analysed, so that an interrupted run goes on where it stood; then come the tables of
`vfq evaluate predictions`, also by kind of patient, and the worst scans. References are our six-point annotations of
real CT. Centre and point errors are RAS mm.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from rich.console import Console
from VertebralFractureQuantLib.analysis import Models, analyze, load_models
from VertebralFractureQuantLib.ct import CTVolume, read_ct
from VertebralFractureQuantLib.curve import SpineCurve
from VertebralFractureQuantLib.errors import VFQError
from VertebralFractureQuantLib.evaluation.matching import is_partial, match, point_errors
from VertebralFractureQuantLib.evaluation.metrics import auc
from VertebralFractureQuantLib.evaluation.tables import Scan, counts, evaluate_predictions, figures, ratios_of
from VertebralFractureQuantLib.genant import MODERATE_METRIC, measure_column
from VertebralFractureQuantLib.keypoints import centers
from VertebralFractureQuantLib.phantom import PhantomOptions, make_phantom, phantom_traits
from VertebralFractureQuantLib.record import SpineAnalysis, to_json
from VertebralFractureQuantLib.report.evaluation_terminal import predictions_tables

FIRST_SEED = 810_000  # 700000 and on were looked at while the networks were made
SCOLIOSIS_DEG, OSTEOPOROTIC_HU, THICK_MM = 30.0, 80.0, 3.0
WORST = 10
LEVEL_CUES = ({"C2"}, {"C7", "T1"}, {"T12", "L1"}, {"S1"})

Case = tuple[str, CTVolume, np.ndarray, np.ndarray, np.ndarray]  # name, CT, true points, partial centres, true curve


def options_of(seed: int) -> PhantomOptions:
    cobb = float(np.random.default_rng(seed).uniform(30, 60)) if seed % 3 == 0 else None
    return PhantomOptions(scoliosis_deg=cobb)


def phantoms(count: int, folder: Path, first: int = FIRST_SEED) -> None:
    """Analyse what `folder` does not hold yet, and print what follows from all of it."""
    models = load_models("cpu")
    for seed in range(first, first + count):
        case = folder / f"phantom-{seed}"
        if not (case / "analysis.json").is_file():
            ct, truth = make_phantom(seed, options_of(seed))
            case.mkdir(parents=True, exist_ok=True)
            (case / "truth.json").write_text(json.dumps(truth.to_json()))
            whole = case / "analysis.part"
            whole.write_text(json.dumps(to_json(analysis_or_failure(ct, models))))
            whole.replace(case / "analysis.json")
            print(case.name, ct.voxels.shape, flush=True)
    evaluation = evaluate_predictions(folder, folder)
    console = Console(width=140)
    console.print(predictions_tables(evaluation))
    for kind, scans in kinds(evaluation.scans, folder).items():
        if scans:
            console.print(f"{kind}: {summary_line(scans)}", highlight=False)
    console.print(f"a level cue in view: {summary_line(with_cue(evaluation.scans, folder))}", highlight=False)
    unhidden = summary_line(without_hidden_crush(evaluation.scans, folder))
    console.print(f"no crush that G cannot see: {unhidden}", highlight=False)
    for line in worst(evaluation.scans):
        console.print(line, highlight=False)


def analysis_or_failure(ct: CTVolume, models: Models) -> SpineAnalysis:
    try:
        return analyze(ct, models)
    except VFQError as error:
        return SpineAnalysis(ct.name, status=error.code, message=error.message)


def kinds(scans: list[Scan], folder: Path) -> dict[str, list[Scan]]:
    """The scans by what makes them hard; one may be of several kinds."""
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
    """The scans that show C2, the sacrum, or both vertebrae between which the ribs begin or end."""
    found = []
    for scan in scans:
        truth = json.loads((folder / scan.patient / "truth.json").read_text())
        levels = {v["level"] for v in [*truth["vertebrae"], *truth["partial"]]}
        if any(cue <= levels for cue in LEVEL_CUES):
            found.append(scan)
    return found


def without_hidden_crush(scans: list[Scan], folder: Path) -> list[Scan]:
    """The scans but those whose lowest G is above the threshold while a body is crushed: by G no patient, by its height
    against its neighbours one, and a millimetre in so low a body is much of its G."""
    found = []
    for scan in scans:
        truth = json.loads((folder / scan.patient / "truth.json").read_text())
        column = measure_column(np.array([v["keypoints"] for v in truth["vertebrae"]]))
        crushed = any(m.grade in ("moderate", "severe") for m in column)
        if scan.true_worst <= MODERATE_METRIC or not crushed:
            found.append(scan)
    return found


def summary_line(scans: list[Scan]) -> str:
    e, n = figures(scans), counts(scans)
    task = "G0-1 vs G2-3"
    return (
        f"{n['scans']} scans, {n['vertebrae']} vertebrae, {n['missed']} missed, {n['false']} false, "
        f"points {e['error', 'point_mm']:.2f} mm, line {e['line', 'mean_mm']:.2f} mm, |dG| {e['error', 'ratio']:.3f}, "
        f"AUC {e['severity', 'vertebra', task, 'auc']:.4f} ({n['moderate_or_worse']} positive), "
        f"sensitivity {e['severity', 'vertebra', task, 'sensitivity']:.3f}, "
        f"patients' AUC {e['severity', 'patient', task, 'auc']:.4f}, named right {e['names', 'right']:.3f}, "
        f"wrong {e['names', 'wrong']:.3f}, scans with a wrong name {e['names', 'scans_any_wrong']:.3f}, with one of no "
        f"doubt {e['names', 'scans_any_surely_wrong']:.3f}"
    )


def worst(scans: list[Scan]) -> list[str]:
    """The scans that went most wrong: by vertebrae missed and false, wrong names, and the largest error of G."""

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
    if len(sys.argv) < {"phantoms": 4, "references": 3}.get((sys.argv + [""])[1], len(sys.argv) + 1):
        sys.exit(__doc__)
    if sys.argv[1] == "phantoms":
        phantoms(int(sys.argv[2]), Path(sys.argv[3]), *(int(seed) for seed in sys.argv[4:5]))
    else:
        main(references(Path(sys.argv[2])))
