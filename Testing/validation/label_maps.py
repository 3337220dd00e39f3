"""Print the figures of CT painted from label maps of real spines, severe fractures among them.

    python Testing/validation/label_maps.py [N]

A label map gives the surfaces of the bones; tissue is laid over them with the density, blur, slices and noise of a
scan. More fractures are made by compressing real bodies. No code is shared with the phantoms that the networks learn
from. Points, axes and distances are in RAS mm; arrays are `[k, j, i]`; the rows of frames are right, anterior, up.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
from label_painting import Look, paint
from label_shapes import Fractures, Warp, read_map, six_points
from VertebralFractureQuantLib.analysis import analyze, load_models
from VertebralFractureQuantLib.errors import VFQError
from VertebralFractureQuantLib.evaluation.matching import HALF_A_VERTEBRA_MM, match
from VertebralFractureQuantLib.imaging.ct import CTVolume
from VertebralFractureQuantLib.spine.genant import Measurement, measure_column
from VertebralFractureQuantLib.spine.keypoints import centers

MASKS = Path(os.environ.get("VFQ_DATA") or Path(__file__).parents[3] / "shared/data") / "masks"
WORSE = ("moderate", "severe")


def measured(path: Path, fractures: Fractures | None = None, span: slice = slice(None)) -> tuple[list[str], np.ndarray]:
    """Return levels and key points `(n, 3, 2, 3)` RAS mm of the whole vertebrae in a map's `span`, with `fractures`."""
    shapes = read_map(path)[0][span]
    warp = Warp(shapes, fractures)
    whole = [s for s in shapes[1:-1] if not s.cut and s.level != "S1"]
    return [s.level for s in whole], np.stack([warp.to_target(six_points(s)) for s in whole])


def painted_ct(
    path: Path, seed: int, look: Look, fractures: Fractures | None = None, span: slice = slice(None)
) -> CTVolume:
    """Paint a CT of a map's `span` of vertebrae; the border cuts the first and the last."""
    shapes, organs = read_map(path)
    shapes = shapes[span]
    return paint(seed, shapes, organs, Warp(shapes, fractures), look, f"{path.name.split('_')[0]}-{seed}")


MAPS = (  # label map, vertebrae that the scan shows, intact ones that may be compressed
    ("HealthiVert_0007_vert_msk", slice(None), ("T11", "T12", "L5")),
    ("LIDC-IDRI-0001_totalseg_full", slice(5, 15), ("T7", "T8", "T9", "T11", "T12", "L1")),
    ("TS_example_ct_totalseg", slice(None), ("L1", "L2", "L3", "L5")),
)
KINDS = np.array([(0.5, 0.65, 0.97), (0.95, 0.5, 0.95), (0.5, 0.48, 0.55)])  # wedge, biconcave, crush


def drawn_case(seed: int) -> tuple[Path, Look, Fractures, slice]:
    """Draw a case: a map as it is (every sixth) or with one or two intact vertebrae compressed, and its CT's look."""
    rng = np.random.default_rng(seed)
    name, span, intact = MAPS[seed % len(MAPS)]
    density = rng.uniform(40, 200)
    look = Look(
        spongiosa_hu=density,
        cortex_hu=250 + 2.2 * density + rng.normal(0, 40),
        slice_mm=(1.0, 2.0, 3.0, 1.5)[seed % 4],
        noise_hu=rng.uniform(8, 30),
        blur_mm=rng.uniform(0.4, 0.8),
        half_width_mm=(80.0, 175.0)[seed // 2 % 2],
        blood_hu=rng.choice([45.0, 180.0]),
    )
    pressed = rng.permutation(intact)[: 1 + seed % 2] if seed % 6 else []
    fractures = {level: tuple(np.clip(KINDS[rng.integers(3)] + rng.normal(0, 0.05), 0.4, 1)) for level in pressed}
    return MASKS / f"{name}.nii.gz", look, fractures, span


def main(count: int) -> None:
    """Analyse the cases, print every vertebra, then how many of the moderate or severe ones were graded as such."""
    models = load_models("cpu")
    rows: list[tuple[Measurement, Measurement | None]] = []
    false = 0
    for seed in range(count):
        path, look, fractures, span = drawn_case(seed)
        ct = painted_ct(path, seed, look, fractures, span)
        print(
            f"\n{ct.name}: compressed {', '.join(fractures) or 'none'}; {look.slice_mm} mm, noise {look.noise_hu:.0f}, "
            f"spongiosa {look.spongiosa_hu:.0f} HU, field {2 * look.half_width_mm:.0f} mm",
            flush=True,
        )
        levels, truth = measured(path, fractures, span)
        try:
            found = np.stack([v.keypoints for v in analyze(ct, models).vertebrae])
        except VFQError as error:
            print(error.code)
            found = np.zeros((0, 3, 2, 3))
        m, calls = match(found, truth), measure_column(found)
        partner = {j: i for i, j in m.pairs}
        for j, real in enumerate(measure_column(truth)):
            i = partner.get(j)
            rows.append((real, None if i is None else calls[i]))
            print(_line(levels[j], *rows[-1], None if i is None else found[i] - truth[j]))
        # A detection of a vertebra that the border cuts counts neither as right nor as false.
        shapes = read_map(path)[0][span]
        cut = np.stack([s.center for s in shapes if s.level not in levels])
        away = centers(found[list(m.false)])[:, None] - Warp(shapes, fractures).to_target(cut)
        false += int((np.linalg.norm(away, axis=-1).min(1) > HALF_A_VERTEBRA_MM).sum())
    groups = {
        "moderate or severe": lambda t: t.grade in WORSE,
        "moderate or severe, clearly": lambda t: t.grade in WORSE and (t.genant_ratio < 0.72 or t.crush_ratio < 0.75),
        "normal": lambda t: t.grade == "normal",
        "normal, clearly (G > .85)": lambda t: t.grade == "normal" and t.genant_ratio > 0.85,
    }
    for name, belongs in groups.items():
        calls = [call for real, call in rows if belongs(real)]
        called = sum(call is not None and call.grade in WORSE for call in calls)
        print(f"{name}: {called} of {len(calls)} graded moderate or worse")
    print(f"missed {sum(c is None for _, c in rows)} of {len(rows)}, false {false}")


def _line(level: str, real: Measurement, call: Measurement | None, error: np.ndarray | None) -> str:
    """Return one vertebra's line: true and measured ratio and grade, point error and its part along R (mm).

    An arrow marks a wrong grade.
    """
    text = f"  {level:3s} G {real.genant_ratio:.2f} {real.grade:8s} {real.shape or '':9s} -> "
    if call is None or error is None:
        return text + "missed"
    text += f"{call.genant_ratio:.2f} {call.grade:8s} points {np.linalg.norm(error, axis=-1).mean():.1f} mm"
    wrong = (call.grade in WORSE) != (real.grade in WORSE)
    return text + f" (R {error[..., 0].mean():+.1f})" + " <--" * wrong


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
