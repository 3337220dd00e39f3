"""The anatomy of one synthetic patient: a column of vertebrae C2..L5 and the sacrum on a curve, and the body around.

Plain numbers drawn from a seeded generator; lengths in mm, angles in radians, positions in patient RAS mm,
vertebrae from cranial to caudal. Nothing is painted here, see `painting`.

Heights, depths, wedging and discs from C4 to L3 are the means of the experts' annotations published with Zakharov et
al. 2023; the rest is rounded from published morphometry (Panjabi et al. 1991, 1992). Endplates above a disc are
thicker than those below it (Palepu et al. 2019). The spread of shapes is wider than in any population: networks learn
from it, and real spines shall be the easy middle. The column's sagittal curves are not drawn but follow from the wedges
of its bodies and discs.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.interpolate import CubicSpline

from ..spine.curve import SpineCurve, fit_curve
from ..spine.levels import LEVELS

SACRUM = ("S1", "S2", "S3")
COLUMN = LEVELS + SACRUM

# Posterior height, anterior over posterior height, depth, width, anterior and posterior height of the disc below; mm.
SIZES = {
    "C2": (17.0, 1.00, 13.5, 18, 3.2, 1.8),
    "C3": (13.6, 0.99, 13.3, 18, 3.2, 1.8),
    "C4": (13.1, 0.98, 13.5, 19, 3.2, 1.8),
    "C5": (12.7, 0.99, 13.5, 20, 3.2, 2.0),
    "C6": (13.2, 0.97, 14.2, 22, 3.2, 1.9),
    "C7": (14.9, 0.98, 14.4, 25, 2.9, 2.3),
    "T1": (17.2, 0.96, 15.0, 28, 2.9, 2.2),
    "T2": (18.2, 0.97, 16.5, 28, 2.2, 2.0),
    "T3": (18.9, 0.95, 18.4, 27, 1.8, 1.9),
    "T4": (19.6, 0.935, 20.2, 27, 1.7, 1.8),
    "T5": (20.4, 0.92, 21.8, 27, 1.8, 2.0),
    "T6": (20.9, 0.89, 23.4, 28, 2.1, 2.2),
    "T7": (21.3, 0.88, 24.6, 29, 2.7, 2.4),
    "T8": (21.8, 0.895, 26.0, 30, 3.0, 2.4),
    "T9": (22.2, 0.925, 26.6, 31, 3.3, 2.4),
    "T10": (23.5, 0.94, 27.2, 33, 3.7, 2.5),
    "T11": (25.3, 0.92, 27.5, 36, 4.6, 3.0),
    "T12": (26.7, 0.93, 28.0, 40, 5.4, 3.3),
    "L1": (28.0, 0.94, 29.2, 42, 7.3, 4.0),
    "L2": (28.6, 0.98, 30.3, 44, 9.3, 5.5),
    "L3": (28.4, 1.02, 31.5, 46, 10.5, 6.2),
    "L4": (27.8, 1.06, 32.5, 48, 11.8, 6.2),
    "L5": (26.8, 1.15, 33.0, 50, 12.0, 5.0),
}
HEIGHT, WEDGE, DEPTH, WIDTH, DISC_FRONT, DISC_BACK = zip(*SIZES.values(), strict=True)
# Bodies of the chest are heart-shaped, seen from above.
TAPER = {"T2": 0.1, "T3": 0.22, "T4": 0.3, "T5": 0.32, "T6": 0.3, "T7": 0.27, "T8": 0.22, "T9": 0.17, "T10": 0.12}
SACRUM_HEIGHT, SACRUM_DEPTH, SACRUM_WIDTH = (28, 22, 19), (32, 22, 15), (50, 38, 28)
SACRUM_WEDGE = (1.15, 1.0, 0.9)
SEEN_OUTSIDE_MM = 0.35  # the annotators' points lie so far outside of the bone, see `scanner.visible_shift`
LEAN_AT_T8_DEG = -4.0  # how far "up" leans forward
MOST_LEAN_DEG = 65.0, 50.0  # forward, backward
NARROWEST_DISC_MM = 0.7
ROUND_CORNER = 1 - 0.5**0.5  # a corner of unit radius is nearest to where its sides would meet at this inset


@dataclass(frozen=True)
class PhantomOptions:
    """What may be asked of a phantom; None draws it at random.

    scoliosis_deg : Cobb angle of the largest curve. fracture_rate : share of T4..L5 vertebrae that are fractured;
    of the others one in six is a little wedged or hollow all the same (G <= 0.8).
    field_of_view : "whole" | "chest" | "abdomen" | "spine" (a tight crop). spacing_mm : in-plane, slice.
    noise_hu : standard deviation, roughly. pathology : rate of cement, metal, Schmorl nodes and the like.
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
    taper: float  # how much narrower the front is than the middle
    rounding: float  # radius of the edge between endplate and wall
    notch: float  # depth of the posterior concavity
    plateau: float  # exponent of the endplate's concavity: 2 round, 4 flat-bottomed
    lateral_tilt: tuple[float, float]
    ripple: np.ndarray  # (2, 4): amplitude, wave numbers in a and r, phase
    fracture: str | None
    spongiosa: float  # HU
    texture: float  # of the spongiosa, as a share of its HU
    cortex: float  # HU
    endplates: tuple[float, float]  # the endplates' share of it
    shell: tuple[float, float]  # thickness of endplates and of walls
    walls: tuple[float, float]  # the posterior and the anterior wall's share of the cortex, far from the endplates
    collar: float  # how far from the endplates the walls are dense, mm
    ring: float  # how much brighter than its middle an endplate's periphery is, the ring apophysis
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
    lean = _lean(rng, shapes)
    list_ = _draw_list(rng, options)
    twist = _axial_rotation(rng, list_)
    frames = _upright_frames(lean, list_)
    centers = _stack(shapes, frames)
    curve = _curve_through(centers, frames)
    arcs = np.array([np.linalg.norm(curve.points - c, axis=1).argmin() * curve.step for c in centers])
    turned = np.stack([rotation(0.0, 0.0, t) @ f for t, f in zip(twist, frames, strict=True)])
    tilt = _coronal_wedges(rng, list_)
    look = _draw_look(rng, options)
    bodies = tuple(
        _body(rng, name, centers[i], turned[i], twist[i], shapes[i], tilt[i], look, options)
        for i, name in enumerate(COLUMN)
    )
    return Anatomy(bodies, curve, arcs, _draw_soft(rng, options.pathology), int(rng.integers(2**31)))


def _draw_shapes(rng: np.random.Generator, options: PhantomOptions) -> list[dict]:
    size = rng.normal(1.0, 0.09)
    depth = size * rng.normal(1.05, 0.09)
    disc = float(np.clip(rng.normal(1.05, 0.3), 0.4, 1.9))
    sag = float(np.clip(rng.normal(0.105, 0.05), -0.02, 0.25))  # endplate concavity of this patient
    wedge = rng.normal(-0.012, 0.015)
    lordosis = rng.normal(1.0, 0.2)
    shapes = []
    for i, name in enumerate(LEVELS):
        h = HEIGHT[i] * size * rng.normal(1, 0.03) - 2 * SEEN_OUTSIDE_MM
        ratio = WEDGE[i] + wedge + rng.normal(0, 0.03)
        slant = (DISC_FRONT[i] - DISC_BACK[i]) * (lordosis if name[0] == "L" else 1.0)
        gap = (DISC_FRONT[i] + DISC_BACK[i]) * np.clip(rng.normal(1, 0.22), 0.3, 1.7)
        shape = {
            "ha": h * min(ratio, 1.25),
            "hp": h,
            "hm": h * (1 + ratio) / 2 * (1 - np.clip(sag + rng.normal(0, 0.03), -0.04, 0.3)),
            "depth": DEPTH[i] * depth * rng.normal(1, 0.03),
            "width": WIDTH[i] * size * rng.normal(1.02, 0.04),
            "disc": size * disc * np.array([gap + slant, gap - slant]) / 2
            + 2 * SEEN_OUTSIDE_MM
            + rng.normal(0, 0.35, 2),
            "bias": rng.uniform(-0.5, 0.5),
            "split": rng.uniform(0.15, 0.8),
            "fracture": None,
        }
        if name[0] in "TL" and name not in ("T1", "T2", "T3") and rng.random() < options.fracture_rate:
            _fracture(rng, shape)
        shapes.append(shape)
    for h, d, w, ratio in zip(SACRUM_HEIGHT, SACRUM_DEPTH, SACRUM_WIDTH, SACRUM_WEDGE, strict=True):
        shapes.append(
            {
                "ha": h * size * ratio * rng.normal(0.9, 0.03),
                "hp": h * size * 0.9,
                "hm": h * size * 0.9 * (1 + ratio) / 2 * rng.normal(0.98, 0.02),
                "depth": d * depth,
                "width": w * size,
                "disc": np.full(2, rng.uniform(0.0, 3.0)),
                "bias": 0.0,
                "split": 0.5,
                "fracture": None,
            }
        )
    for above, below in zip(shapes, shapes[1:], strict=False):
        above["disc"] = above["disc"] + max(0.0, NARROWEST_DISC_MM - _narrowest(above, below))
    return shapes


def _narrowest(above: dict, below: dict) -> float:
    """The smallest height of the disc between two bodies, at its front, middle or back."""
    middle = above["disc"].mean() + _sag(corner_heights(above)[:, 1]) - _sag(corner_heights(below)[:, 0])
    return float(min(*above["disc"], middle))


def _sag(endplate: np.ndarray) -> float:
    return float(endplate[1] - (endplate[0] + endplate[2]) / 2)


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


def _lean(rng: np.random.Generator, shapes: list[dict]) -> np.ndarray:
    """How far "up" of every body leans forward, radians: bodies and discs are wedges, put one upon the other."""
    slopes = np.array([(c[0] - c[2]) / s["depth"] for s in shapes for c in [corner_heights(s)]])  # (n, 2)
    discs = np.array([(s["disc"][0] - s["disc"][1]) / s["depth"] for s in shapes])
    steps = np.arctan(slopes[1:, 0]) - np.arctan(slopes[:-1, 1]) + np.arctan(discs[:-1])
    lean = np.r_[0.0, np.cumsum(steps)]
    lean += np.deg2rad(rng.normal(LEAN_AT_T8_DEG, 8)) - lean[LEVELS.index("T8")]
    # Where many wedges lean too far, each gives a little, so that no disc has to make up for it.
    forward, backward = np.deg2rad(MOST_LEAN_DEG)
    return lean / max(1.0, lean.max() / forward, -lean.min() / backward)


def _draw_list(rng: np.random.Generator, options: PhantomOptions) -> np.ndarray:
    """How far "up" of every body leans to the right, radians."""
    cobb = options.scoliosis_deg if options.scoliosis_deg is not None else _random_cobb(rng)
    apex, reach = rng.uniform(8, 19), rng.uniform(3.0, 5.0)
    x = (np.arange(len(COLUMN)) - apex) / reach
    bump = -x * np.exp(0.5 - 0.5 * x**2)  # tangent angle of a lateral bow: peaks of +-1 on both sides of the apex
    jitter = rng.normal(0, np.deg2rad(1.0), len(COLUMN))
    list_: np.ndarray = np.deg2rad(cobb) / 2 * bump * rng.choice([-1, 1]) + np.deg2rad(rng.normal(0, 2)) + jitter
    return list_


def _random_cobb(rng: np.random.Generator) -> float:
    return float(abs(rng.normal(0, 8)) if rng.random() < 0.7 else rng.uniform(10, 65))


def _axial_rotation(rng: np.random.Generator, list_: np.ndarray) -> np.ndarray:
    """Scoliotic vertebrae turn with the lateral bend, up to about 20 degrees."""
    bend = np.gradient(list_)
    return np.clip(bend * rng.uniform(0.5, 2.0), -0.35, 0.35) + rng.normal(0, np.deg2rad(2), len(list_))


def _upright_frames(lean: np.ndarray, list_: np.ndarray) -> np.ndarray:
    """Rows right, anterior, up `(n, 3, 3)`; anterior stays in the sagittal plane."""
    up = np.stack([np.sin(list_), np.cos(list_) * np.sin(lean), np.cos(list_) * np.cos(lean)], 1)
    ahead = np.stack([np.zeros_like(lean), np.cos(lean), -np.sin(lean)], 1)
    return np.stack([np.cross(ahead, up), ahead, up], 1)


def _stack(shapes: list[dict], frames: np.ndarray) -> np.ndarray:
    """Centres of the bodies `(n, 3)` mm, the column's middle at the origin."""
    centers = [np.zeros(3)]
    for i, (above, below) in enumerate(zip(shapes, shapes[1:], strict=False)):
        bottom, top = corner_heights(above)[[0, 2], 1].mean(), corner_heights(below)[[0, 2], 0].mean()
        down = -_unit(frames[i, 2] + frames[i + 1, 2]) * above["disc"].mean()
        centers.append(centers[-1] + bottom * frames[i, 2] + down - top * frames[i + 1, 2])
    return np.array(centers) - centers[len(centers) // 2]


def _curve_through(centers: np.ndarray, frames: np.ndarray) -> SpineCurve:
    """The smooth curve through the centres, going on for 20 mm at both ends."""
    through = np.vstack([centers[0] + 20 * frames[0, 2], centers, centers[-1] - 20 * frames[-1, 2]])
    place = np.r_[0, np.cumsum(np.linalg.norm(np.diff(through, axis=0), axis=1))]
    return fit_curve(CubicSpline(place, through)(np.arange(0, place[-1], 0.5)))


def _coronal_wedges(rng: np.random.Generator, list_: np.ndarray) -> np.ndarray:
    """Lateral slopes `(n, 2)` of the endplates: in a scoliosis bodies and discs share the wedge between them."""
    share = 0.35 * np.diff(list_)
    tilt: np.ndarray = rng.normal(0, 0.03, (len(list_), 2))
    tilt[:-1, 1] -= share
    tilt[1:, 0] += share
    return tilt


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


def _unit(v: np.ndarray) -> np.ndarray:
    return v / np.linalg.norm(v)


def _draw_look(rng: np.random.Generator, options: PhantomOptions) -> dict:
    """What all bones of a patient share: density, cortex, degeneration."""
    density = rng.choice([rng.normal(60, 25), rng.normal(140, 40), rng.normal(230, 60)], p=[0.35, 0.45, 0.2])
    inferior = float(rng.uniform(0.25, 1.1))
    return {
        "spongiosa": float(np.clip(density, 5, 450)),
        "cortex": float(rng.uniform(250, 1100)),
        "rounding": float(abs(rng.normal(0, 2.0))),
        "endplates": (inferior * float(rng.uniform(0.35, 1.05)), inferior),
        "texture": float(rng.uniform(0.05, 0.4)),
        "shell": (float(rng.uniform(0.25, 1.3)), float(rng.uniform(0.4, 1.8))),
        "walls": (float(rng.uniform(0.1, 0.55)), float(rng.uniform(0.3, 1.1))),
        "collar": float(rng.uniform(1.5, 4.0)),
        "subchondral": (float(rng.uniform(1.0, 4.0)), float(max(0.0, rng.normal(10, 80)))),
        "ring": float(max(0.0, rng.normal(0.3, 0.5))),
        "lips": float(rng.choice([0, 0.35, 0.8], p=[0.35, 0.35, 0.3]) * options.pathology),
        "dense_corners": float(rng.choice([0, 0.3, 0.7], p=[0.5, 0.3, 0.2]) * options.pathology),
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
    tilt: np.ndarray,
    look: dict,
    options: PhantomOptions,
) -> Body:
    rounding = look["rounding"] * float(rng.uniform(0.6, 1.4))
    inset = ROUND_CORNER * rounding  # the sizes are those between the key points, which lie on the rounded corners
    corners = corner_heights(shape) + inset * np.array([[1, -1], [0, 0], [1, -1]])
    ripple = np.stack(
        [rng.normal(0, 0.35, 2), rng.uniform(0.1, 0.5, 2), rng.uniform(0.1, 0.4, 2), rng.uniform(0, 6, 2)]
    )
    dense = rng.random() < 0.08
    return Body(
        level=level,
        center=center,
        frame=frame,
        twist=float(twist),
        depth=float(shape["depth"]) + 2 * inset,
        width=float(shape["width"]),
        corners=corners,
        scale_ends=_end_scales(rng, level),
        waist=float(np.clip(rng.normal(0.08, 0.04), 0, 0.2)),
        exponent=float(rng.uniform(2.0, 2.9)),
        taper=TAPER.get(level, 0.0) + float(rng.normal(0, 0.05)),
        rounding=rounding,
        notch=float(rng.uniform(0.0, 2.0)),
        plateau=float(rng.uniform(1.8, 4.0)),
        lateral_tilt=(float(tilt[0]), float(tilt[1])),
        ripple=ripple.T,
        fracture=shape["fracture"],
        spongiosa=look["spongiosa"] * rng.normal(1, 0.12) + (rng.uniform(80, 300) if dense else 0),
        texture=look["texture"],
        cortex=look["cortex"] * rng.normal(1, 0.1),
        endplates=(
            look["endplates"][0] * float(rng.normal(1, 0.15)),
            look["endplates"][1] * float(rng.normal(1, 0.15)),
        ),
        shell=look["shell"],
        walls=(look["walls"][0] * float(rng.normal(1, 0.2)), look["walls"][1] * float(rng.normal(1, 0.2))),
        collar=look["collar"] * float(rng.uniform(0.7, 1.3)),
        ring=look["ring"] * float(rng.uniform(0.3, 1.7)),
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
            corner = (front * half, corners[0 if front > 0 else 2, end], side)
            if rng.random() < look["lips"]:
                out.append(_lip(rng, *corner))
            if rng.random() < look["dense_corners"]:
                out.append(_dense_corner(rng, *corner))
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


def _lip(rng: np.random.Generator, a: float, z: float, side: int) -> tuple[float, ...]:
    """A rim drawn out along the wall towards the next body: with its fellow it may close the disc's edge."""
    tall = rng.uniform(0.8, 2.0)
    inward = np.sign(a) * rng.uniform(-1.0, 1.2)
    return (0.0, a - inward, z + side * rng.uniform(0.0, tall), rng.uniform(0.7, 2.0), tall, rng.uniform(200, 700), 0)


def _dense_corner(rng: np.random.Generator, a: float, z: float, side: int) -> tuple[float, ...]:
    """Sclerosis in the corner between endplate and wall."""
    size = rng.uniform(2.0, 6.0)
    return (0.0, a, z - side * rng.uniform(0, 2), size, size * rng.uniform(0.5, 1.1), rng.uniform(250, 800), 1)


def _draw_soft(rng: np.random.Generator, pathology: float) -> dict[str, float]:
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
        "disc_hu": float(rng.uniform(55, 140)),
        "annulus_hu": float(rng.uniform(0, 90)),
        "vacuum": float(rng.choice([0, 0.2], p=[0.7, 0.3])),
        "disc_calcified": float(rng.choice([0, 0.15], p=[0.7, 0.3])),
        "bridging": float(rng.choice([0, 0.5, 1.0], p=[0.25, 0.4, 0.35])),  # share of discs with bright outer fibres
        "bridge_hu": float(rng.uniform(80, 600)),
        "bridge_mm": float(rng.uniform(0.8, 3.0)),
        "canal_hu": float(rng.uniform(5, 45)),
        "aorta_r": float(rng.uniform(8, 18)),
        "aorta_left": float(rng.uniform(0.3, 1.4)),  # angle from anterior to the left
        "aorta_front": float(rng.uniform(-0.3, 0.6)),
        "aorta_gap": float(abs(rng.normal(0, 3))),
        "calcified": float(rng.choice([0, 1], p=[0.5, 0.5])),
        "rib_hu": float(rng.uniform(150, 600)),
        "arms_up": float(rng.random() < 0.75),
        "screws": float(rng.random() < 0.04 * pathology),
        "muscle_fat": float(rng.uniform(0, 0.6)),
        "trachea_gap": float(rng.uniform(12, 26)),
    }
