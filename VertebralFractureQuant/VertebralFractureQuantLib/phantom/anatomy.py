"""The anatomy of one synthetic patient: a column of vertebrae C2..L5 and the sacrum on a curve, and the body around.

Plain numbers drawn from a seeded generator; lengths in mm, angles in radians, positions in patient RAS mm,
vertebrae from cranial to caudal. Nothing is painted here, see `painting`.

Posterior heights from C4 to L3 and their ratios are the means of the experts' annotations published with Zakharov et
al. 2023; the rest is rounded from published morphometry (Panjabi et al. 1991, 1992). The spread of shapes and angles
is wider than in any population: networks learn from it, and real spines shall be the easy middle.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..curve import SpineCurve, fit_curve

LEVELS = ("C2", "C3", "C4", "C5", "C6", "C7", *(f"T{i}" for i in range(1, 13)), *(f"L{i}" for i in range(1, 6)))
SACRUM = ("S1", "S2", "S3")
COLUMN = LEVELS + SACRUM

# Posterior height, depth, width, height of the disc below (mm); how far "up" leans forward (degrees): cervical
# lordosis, thoracic kyphosis, lumbar lordosis.
SIZES = {
    "C2": (18, 16, 18, 5, -2),
    "C3": (13.8, 16, 18, 5, 0),
    "C4": (13.1, 16, 19, 5, 4),
    "C5": (12.7, 16, 20, 5, 10),
    "C6": (13.3, 17, 22, 5, 18),
    "C7": (14.9, 17, 25, 4.5, 27),
    "T1": (17.2, 17.5, 28, 4, 34),
    "T2": (18.2, 18.5, 28, 3.5, 33),
    "T3": (18.9, 20, 27, 3.5, 29),
    "T4": (19.6, 22, 27, 3.5, 23),
    "T5": (20.3, 24, 27, 4, 16),
    "T6": (20.8, 25, 28, 4, 9),
    "T7": (21.4, 26, 29, 4.5, 3),
    "T8": (21.7, 27, 30, 4.5, -3),
    "T9": (22.2, 28, 31, 5, -8),
    "T10": (23.5, 29, 33, 5.5, -12),
    "T11": (25.1, 29, 36, 6, -15),
    "T12": (26.6, 30, 40, 7, -17),
    "L1": (27.9, 31, 42, 8, -17),
    "L2": (28.6, 32, 44, 9, -14),
    "L3": (28.6, 33, 46, 10, -6),
    "L4": (28.2, 34, 48, 11, 6),
    "L5": (27.4, 34, 50, 10, 24),
}
HEIGHT, DEPTH, WIDTH, DISC, LEAN = zip(*SIZES.values(), strict=True)
SACRUM_HEIGHT, SACRUM_DEPTH, SACRUM_WIDTH = (28, 22, 19), (32, 22, 15), (50, 38, 28)
SACRUM_LEAN = (48, 52, 40)


@dataclass(frozen=True)
class PhantomOptions:
    """What may be asked of a phantom; None draws it at random.

    scoliosis_deg : Cobb angle of the largest curve. fracture_rate : share of T4..L5 vertebrae that are fractured.
    field_of_view : "whole" | "chest" | "abdomen" | "spine" (a tight crop). spacing_mm : in-plane, slice.
    noise_hu : standard deviation. pathology : rate of cement, metal, Schmorl nodes and the like.
    """

    scoliosis_deg: float | None = None
    fracture_rate: float = 0.2
    field_of_view: str | None = None
    spacing_mm: tuple[float, float] | None = None
    noise_hu: float | None = None
    pathology: float = 1.0


@dataclass(frozen=True)
class Body:
    """One vertebral body in its own frame (right, anterior, up; origin in the middle), and what grows on it.

    `corners` `(3, 2)`: heights above the origin of the key points [A, M, P] x [sup, inf], before ripple and rotation.
    """

    level: str
    center: np.ndarray
    frame: np.ndarray  # rows right, anterior, up in RAS
    twist: float  # axial rotation against the curve's frame
    depth: float
    width: float
    corners: np.ndarray
    scale_ends: tuple[float, float]  # size of the superior and inferior endplate against the mean
    waist: float
    exponent: float  # of the superellipse outline
    notch: float  # depth of the posterior concavity
    plateau: float  # exponent of the endplate's concavity: 2 round, 4 flat-bottomed
    lateral_tilt: tuple[float, float]
    ripple: np.ndarray  # (2, 4): amplitude, wave numbers in a and r, phase
    fracture: str | None
    spongiosa: float  # HU
    cortex: float  # HU
    shell: tuple[float, float]  # thickness of endplates and of walls
    subchondral: tuple[float, float]  # thickness of the denser zone under the endplates, and its extra HU
    growths: tuple[tuple[float, ...], ...] = ()  # r, a, z, radius_in_plane, radius_z, HU, 1 if confined to the body


@dataclass(frozen=True)
class Anatomy:
    """A patient: vertebrae, the curve through them, and dice for the soft tissue."""

    bodies: tuple[Body, ...]
    curve: SpineCurve
    arcs: np.ndarray  # arc length of every body's centre on `curve`
    soft: dict[str, float] = field(default_factory=dict)
    seed: int = 0


def draw_anatomy(rng: np.random.Generator, options: PhantomOptions | None = None) -> Anatomy:
    """A patient drawn from `rng`."""
    options = options or PhantomOptions()
    shapes = _draw_shapes(rng, options)
    lean, list_ = _draw_angles(rng, options, shapes)
    twist = _axial_rotation(rng, list_)
    jitter = rng.normal(0, np.deg2rad(2.0), (len(COLUMN), 2))
    gaps = np.array([s["disc"] for s in shapes])
    for _ in range(4):
        arcs, curve = _stack(shapes, gaps, lean, list_)
        frames = _body_frames(curve, arcs, twist, jitter)
        gaps = gaps + np.append(np.maximum(0, 1.3 - _free_gaps(curve, arcs, frames, shapes)), 0)
    centers, _ = curve.at(arcs)
    look = _draw_look(rng, options)
    bodies = tuple(
        _body(rng, name, centers[i], frames[i], twist[i], shapes[i], look, options) for i, name in enumerate(COLUMN)
    )
    return Anatomy(bodies, curve, arcs, _draw_soft(rng), int(rng.integers(2**31)))


def _draw_shapes(rng: np.random.Generator, options: PhantomOptions) -> list[dict]:
    size = rng.normal(1.0, 0.09)
    depth = size * rng.normal(1.04, 0.09)
    disc = float(np.clip(rng.normal(0.85, 0.25), 0.35, 1.4))
    sag = float(np.clip(rng.normal(0.07, 0.045), -0.02, 0.22))  # endplate concavity of this patient
    wedge = rng.normal(0.0, 0.03)
    shapes = []
    for i, name in enumerate(LEVELS):
        h = HEIGHT[i] * size * rng.normal(1, 0.03)
        ratio = _normal_wedge(name) + wedge + rng.normal(0, 0.03)
        shape = {
            "ha": h * min(ratio, 1.25),
            "hp": h,
            "hm": h * (1 + ratio) / 2 * (1 - np.clip(sag + rng.normal(0, 0.03), -0.04, 0.3)),
            "depth": DEPTH[i] * depth * rng.normal(1, 0.03),
            "width": WIDTH[i] * size * rng.normal(1.02, 0.04),
            "disc": DISC[i] * size * disc * np.clip(rng.normal(1, 0.25), 0.2, 1.6),
            "bias": rng.uniform(-0.5, 0.5),
            "split": rng.uniform(0.2, 0.8),
            "fracture": None,
        }
        if name[0] in "TL" and name not in ("T1", "T2", "T3") and rng.random() < options.fracture_rate:
            _fracture(rng, shape)
        shapes.append(shape)
    for h, d, w in zip(SACRUM_HEIGHT, SACRUM_DEPTH, SACRUM_WIDTH, strict=True):
        shapes.append(
            {
                "ha": h * size * rng.normal(1.06, 0.04),
                "hp": h * size * 0.9,
                "hm": h * size * rng.normal(0.95, 0.02),
                "depth": d * depth,
                "width": w * size,
                "disc": float(rng.uniform(0.0, 3.0)),
                "bias": 0.0,
                "split": 0.5,
                "fracture": None,
            }
        )
    return shapes


def _normal_wedge(level: str) -> float:
    """Usual ha / hp of a healthy vertebra."""
    if level[0] == "T":
        return 0.90 if level in ("T5", "T6", "T7", "T8", "T11", "T12") else 0.94
    return {"L1": 0.95, "L2": 0.99, "L3": 1.02, "L4": 1.06, "L5": 1.16}.get(level, 0.97)


def _fracture(rng: np.random.Generator, shape: dict) -> None:
    """Deform a healthy shape: wedge, biconcave or crush of any severity."""
    kind = str(rng.choice(["wedge", "biconcave", "crush"], p=[0.5, 0.33, 0.17]))
    left = rng.uniform(0.35, 0.88)
    if kind == "wedge":
        shape["ha"] *= left
        shape["hm"] *= min(1.0, (left + rng.uniform(0.35, 1.0)) / (1 + rng.uniform(0, 0.4)))
        shape["bias"] = rng.uniform(-1, 0.4)
    elif kind == "biconcave":
        shape["hm"] *= left
        shape["ha"] *= rng.uniform(0.85, 1.0)
        shape["split"] = rng.uniform(0, 1)
    else:
        for key in ("ha", "hm", "hp"):
            shape[key] *= np.clip(left * rng.normal(1, 0.06), 0.3, 1)
    shape["hm"] = min(shape["hm"], max(shape["ha"], shape["hp"]))
    shape["depth"] *= rng.uniform(1.0, 1.1)
    shape["fracture"] = kind


def _draw_angles(
    rng: np.random.Generator, options: PhantomOptions, shapes: list[dict]
) -> tuple[np.ndarray, np.ndarray]:
    """Sagittal lean and coronal list of "up" at every level, radians."""
    n = len(COLUMN)
    lean = np.deg2rad(np.array(LEAN + SACRUM_LEAN, float)) * np.clip(rng.normal(1, 0.3), 0.2, 1.6)
    lean += np.deg2rad(rng.normal(0, 6)) + _wave(rng, n, np.deg2rad(5))
    for i, s in enumerate(shapes):  # a wedge fracture bends the column above it forward
        if s["fracture"]:
            lean[: i + 1] += 0.5 * rng.random() * np.arctan2(max(0.0, s["hp"] - s["ha"]), s["depth"])
    lean = np.clip(lean, np.deg2rad(-45), np.deg2rad(62))
    cobb = options.scoliosis_deg if options.scoliosis_deg is not None else _random_cobb(rng)
    apex, reach = rng.uniform(8, 19), rng.uniform(3.0, 5.0)
    x = (np.arange(n) - apex) / reach
    bump = -x * np.exp(0.5 - 0.5 * x**2)  # tangent angle of a lateral bow: peaks of +-1 on both sides of the apex
    list_ = np.deg2rad(cobb) / 2 * bump * rng.choice([-1, 1])
    return lean, list_ + np.deg2rad(rng.normal(0, 2))


def _random_cobb(rng: np.random.Generator) -> float:
    return float(abs(rng.normal(0, 8)) if rng.random() < 0.7 else rng.uniform(10, 65))


def _wave(rng: np.random.Generator, n: int, amplitude: float) -> np.ndarray:
    x = np.arange(n) / n
    waves = [amplitude * rng.normal() / k * np.sin(np.pi * k * x + rng.uniform(0, 6.28)) for k in (1, 2, 3)]
    return np.sum(waves, axis=0)


def _axial_rotation(rng: np.random.Generator, list_: np.ndarray) -> np.ndarray:
    """Scoliotic vertebrae turn with the lateral bend, up to about 20 degrees."""
    bend = np.gradient(list_)
    return np.clip(bend * rng.uniform(0.5, 2.0), -0.35, 0.35) + rng.normal(0, np.deg2rad(2), len(list_))


def _stack(shapes: list[dict], gaps: np.ndarray, lean: np.ndarray, list_: np.ndarray) -> tuple[np.ndarray, SpineCurve]:
    """Arc lengths of the centres and the curve through them, T8 near the origin."""
    heights = np.array([(s["ha"] + s["hm"] + s["hp"]) / 3 for s in shapes])
    centers = np.cumsum(heights + gaps) - gaps - heights / 2
    s = np.arange(-12.0, centers[-1] + 12.0, 0.5)
    lean_s = _smooth(np.interp(s, centers, lean), 12)
    list_s = _smooth(np.interp(s, centers, list_), 12)
    up = np.stack([np.sin(list_s), np.cos(list_s) * np.sin(lean_s), np.cos(list_s) * np.cos(lean_s)], 1)
    points = -np.cumsum(up, 0) * 0.5
    curve = fit_curve(points - points[len(points) // 2])
    return centers + 12.0, curve


def _smooth(values: np.ndarray, half: int) -> np.ndarray:
    kernel = np.hanning(2 * half * 2 + 1)
    padded = np.pad(values, 2 * half, mode="edge")
    return np.convolve(padded, kernel / kernel.sum(), "valid")


def _body_frames(curve: SpineCurve, arcs: np.ndarray, twist: np.ndarray, jitter: np.ndarray) -> np.ndarray:
    _, frames = curve.at(arcs)
    return np.stack([rotation(jitter[i, 0], jitter[i, 1], twist[i]) @ frames[i] for i in range(len(arcs))])


def rotation(pitch: float, roll: float, twist: float) -> np.ndarray:
    """Rotates frame rows (right, anterior, up): twist about up, then roll about anterior, then pitch about right."""
    cp, sp, cr, sr, ct, st = np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll), np.cos(twist), np.sin(twist)
    about_right = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    about_anterior = np.array([[cr, 0, -sr], [0, 1, 0], [sr, 0, cr]])
    about_up = np.array([[ct, st, 0], [-st, ct, 0], [0, 0, 1]])
    return about_right @ about_anterior @ about_up


def corner_heights(shape: dict) -> np.ndarray:
    """`(3, 2)` heights above the body's origin of [A, M, P] x [sup, inf]."""
    shift = shape["bias"] * (shape["ha"] - shape["hp"]) / 2
    front = np.array([shape["ha"] / 2 + shift, -shape["ha"] / 2 + shift])
    back = np.array([shape["hp"] / 2, -shape["hp"] / 2])
    line = (front + back) / 2
    sag = line[0] - line[1] - shape["hm"]
    middle = np.array([line[0] - sag * shape["split"], line[1] + sag * (1 - shape["split"])])
    corners = np.stack([front, middle, back])
    return corners - corners.mean()


def _free_gaps(curve: SpineCurve, arcs: np.ndarray, frames: np.ndarray, shapes: list[dict]) -> np.ndarray:
    """Smallest distance along the column between each vertebra's lower and the next one's upper endplate."""
    centers, _ = curve.at(arcs)
    sides = np.array([0.5, 0.0, -0.5])
    tops, bottoms = [], []
    for c, f, s in zip(centers, frames, shapes, strict=True):
        h = corner_heights(s)
        plane = c + sides[:, None] * s["depth"] * f[1]
        tops.append(plane + h[:, :1] * f[2])
        bottoms.append(plane + h[:, 1:] * f[2])
    up = frames[:, 2]
    return np.array([((bottoms[i] - tops[i + 1]) @ _unit(up[i] + up[i + 1])).min() for i in range(len(shapes) - 1)])


def _unit(v: np.ndarray) -> np.ndarray:
    return v / np.linalg.norm(v)


def _draw_look(rng: np.random.Generator, options: PhantomOptions) -> dict:
    """What all bones of a patient share: density, cortex, degeneration."""
    density = rng.choice([rng.normal(60, 25), rng.normal(140, 40), rng.normal(230, 60)], p=[0.35, 0.45, 0.2])
    return {
        "spongiosa": float(np.clip(density, 5, 450)),
        "cortex": float(rng.uniform(250, 1100)),
        "shell": (float(rng.uniform(0.5, 2.2)), float(rng.uniform(0.4, 1.8))),
        "subchondral": (float(rng.uniform(1.0, 5.5)), float(max(0.0, rng.normal(110, 120)))),
        "osteophytes": float(rng.choice([0, 0.15, 0.6], p=[0.4, 0.35, 0.25]) * options.pathology),
        "schmorl": float(rng.choice([0, 0.2], p=[0.7, 0.3]) * options.pathology),
        "cement": float(rng.choice([0, 0.15], p=[0.92, 0.08]) * options.pathology),
        "sclerosis": float(rng.choice([0, 0.2, 0.6], p=[0.5, 0.3, 0.2]) * options.pathology),
    }


def _body(
    rng: np.random.Generator,
    level: str,
    center: np.ndarray,
    frame: np.ndarray,
    twist: float,
    shape: dict,
    look: dict,
    options: PhantomOptions,
) -> Body:
    corners = corner_heights(shape)
    ripple = np.stack(
        [rng.normal(0, 0.35, 2), rng.uniform(0.1, 0.5, 2), rng.uniform(0.1, 0.4, 2), rng.uniform(0, 6, 2)]
    )
    dense = rng.random() < 0.08
    return Body(
        level=level,
        center=center,
        frame=frame,
        twist=float(twist),
        depth=float(shape["depth"]),
        width=float(shape["width"]),
        corners=corners,
        scale_ends=_end_scales(rng, level),
        waist=float(np.clip(rng.normal(0.08, 0.04), 0, 0.2)),
        exponent=float(rng.uniform(2.2, 3.2)),
        notch=float(rng.uniform(0.0, 2.0)),
        plateau=float(rng.uniform(1.8, 4.0)),
        lateral_tilt=(float(rng.normal(0, 0.03)), float(rng.normal(0, 0.03))),
        ripple=ripple.T,
        fracture=shape["fracture"],
        spongiosa=look["spongiosa"] * rng.normal(1, 0.12) + (rng.uniform(80, 300) if dense else 0),
        cortex=look["cortex"] * rng.normal(1, 0.1),
        shell=look["shell"],
        subchondral=(look["subchondral"][0] * rng.uniform(0.7, 1.3), look["subchondral"][1] * rng.uniform(0.6, 1.4)),
        growths=_growths(rng, shape, corners, look),
    )


def _end_scales(rng: np.random.Generator, level: str) -> tuple[float, float]:
    if level in SACRUM:  # a sacral body narrows downward
        return float(rng.uniform(1.0, 1.15)), float(rng.uniform(0.7, 0.85))
    return float(rng.normal(0.99, 0.025)), float(rng.normal(1.01, 0.025))


def _growths(rng: np.random.Generator, shape: dict, corners: np.ndarray, look: dict) -> tuple[tuple[float, ...], ...]:
    """Osteophytes at the rims, sclerotic bands, Schmorl nodes, cement: ellipsoids in the body's frame."""
    out: list[tuple[float, ...]] = []
    half, wide = shape["depth"] / 2, shape["width"] / 2
    for end in (0, 1):
        side = 1 - 2 * end
        for front in (1, -1):
            if rng.random() < look["osteophytes"] * (1.0 if front > 0 else 0.5):
                z = corners[0 if front > 0 else 2, end] - side * rng.uniform(-1.5, 2.5)
                size = rng.uniform(1.2, 4.5)
                a = front * (half + size * rng.uniform(0.0, 0.8))
                out.append((rng.normal(0, 4), a, z, size, size * rng.uniform(0.5, 1.6), rng.uniform(250, 1000), 0))
        if rng.random() < look["sclerosis"] or (shape["fracture"] and rng.random() < 0.4):
            a = rng.uniform(-0.6, 0.6) * half
            z = np.interp(a, [-half, 0, half], corners[::-1, end]) - side * rng.uniform(1.5, 4)
            out.append((0.0, a, z, rng.uniform(0.4, 1.2) * half, rng.uniform(1.2, 3), rng.uniform(200, 600), 1))
        if rng.random() < look["schmorl"]:
            a, r = rng.uniform(-0.6, 0.6) * half, rng.uniform(-0.4, 0.4) * wide
            z = np.interp(a, [-half, 0, half], corners[::-1, end])
            size = rng.uniform(1.5, 4.0)
            out.append((r, a, z, size + 1.3, size + 1.0, rng.uniform(300, 700), 1))
            out.append((r, a, z + side, size, size, rng.uniform(40, 120), 1))
    if rng.random() < look["cement"]:
        out.append(
            (rng.normal(0, 4), rng.normal(0, 4), 0.0, rng.uniform(4, 9), rng.uniform(3, 7), rng.uniform(1200, 2800), 1)
        )
    return tuple(tuple(float(x) for x in g) for g in out)


def _draw_soft(rng: np.random.Generator) -> dict[str, float]:
    """Dice for everything that is not spine."""
    contrast = float(rng.choice([0, 1], p=[0.5, 0.5]))
    return {
        "trunk_wide": float(rng.uniform(130, 200)),
        "trunk_deep": float(rng.uniform(90, 150)),
        "behind_spine": float(rng.uniform(55, 85)),
        "fat": float(rng.uniform(4, 40)),
        "muscle_hu": float(rng.uniform(25, 75)),
        "fat_hu": float(rng.uniform(-125, -80)),
        "organ_hu": float(rng.uniform(20, 60) + contrast * rng.uniform(20, 80)),
        "blood_hu": float(rng.uniform(30, 55) + contrast * rng.uniform(50, 420)),
        "heart_hu": float(rng.uniform(30, 55) + contrast * rng.uniform(30, 420)),
        "lung_hu": float(rng.uniform(-920, -650)),
        "disc_hu": float(rng.uniform(50, 120)),
        "vacuum": float(rng.choice([0, 0.2], p=[0.7, 0.3])),
        "disc_calcified": float(rng.choice([0, 0.15], p=[0.7, 0.3])),
        "canal_hu": float(rng.uniform(5, 45)),
        "aorta_r": float(rng.uniform(8, 17)),
        "aorta_side": float(rng.uniform(-26, 0)),
        "calcified": float(rng.choice([0, 1], p=[0.5, 0.5])),
        "rib_hu": float(rng.uniform(150, 600)),
        "arms_up": float(rng.random() < 0.75),
        "screws": float(rng.random() < 0.04),
        "muscle_fat": float(rng.uniform(0, 0.6)),
    }
