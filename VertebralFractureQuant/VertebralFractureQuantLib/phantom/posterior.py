"""The posterior elements of a vertebra: pedicles, lamina, facets, processes, and the ribs near the spine.

They indicate the level where neither the sacrum nor C2 is in view, so their sizes depend on the level: rounded lengths
in mm from published morphometry (Panjabi et al. 1991, 1992; Cropper and Cheung for the ribs), times a factor that is
drawn for each patient. Everything is in the frame of the body (right, anterior, up of its middle); signed distances are
negative inside.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .body import Body
from .morphometry import SACRUM
from .surfaces import capsule, ellipse

# By level: distance from the midline to the tip of a transverse process, how far that tip is behind the body, length of
# the spinous process, and the angle (degrees) by which it points downward.
PROCESSES = {
    "C2": (27, -3, 16, 20),
    "C3": (26, -5, 13, 15),
    "C4": (27, -5, 13, 15),
    "C5": (28, -5, 15, 15),
    "C6": (29, -4, 20, 15),
    "C7": (34, 1, 29, 14),
    "T1": (37, 9, 31, 18),
    "T2": (35, 14, 31, 25),
    "T3": (32, 17, 32, 35),
    "T4": (31, 18, 33, 47),
    "T5": (31, 19, 35, 57),
    "T6": (30, 20, 36, 62),
    "T7": (30, 20, 36, 62),
    "T8": (30, 20, 35, 55),
    "T9": (29, 20, 33, 45),
    "T10": (27, 19, 31, 33),
    "T11": (24, 17, 29, 20),
    "T12": (21, 14, 29, 10),
    "L1": (36, 10, 30, 6),
    "L2": (40, 9, 31, 4),
    "L3": (45, 8, 31, 3),
    "L4": (42, 7, 29, 3),
    "L5": (45, 5, 23, 8),
    "S1": (25, 6, 10, 25),
    "S2": (22, 6, 9, 25),
    "S3": (18, 6, 7, 25),
}
# By region: half width and half depth of the canal; least and greatest half height of a spinous process.
CANAL = {"C": (11.5, 7.5), "T": (8.3, 7.8), "L": (11.5, 8.5), "S": (12.0, 6.5)}
SPINOUS_HALF_HEIGHT = {"C": (3, 5), "T": (3.5, 6), "L": (7, 11), "S": (4, 6)}
# How far (mm) a rib's head is below the disc above the body; at other levels it is at that disc.
HEAD_ON_BODY = {"T1": 4.0, "T10": 2.5, "T11": 6.0, "T12": 7.0}


def draw_posterior(rng: np.random.Generator, body: Body, build: dict[str, float]) -> dict[str, float]:
    """Draw the sizes of the arch of one vertebra, in mm and radians, for a patient of this `build` (`draw_build`)."""
    region = body.level[0]
    span, back, spine, slope = PROCESSES[body.level]
    wide, deep = CANAL[region]
    canal_d = deep * build["canal"] * rng.normal(1, 0.06)
    height = float(np.ptp(body.corners))
    return {
        "canal_a": -(body.depth / 2 + canal_d + rng.uniform(-0.5, 1.5)),
        "canal_d": canal_d,
        "canal_w": wide * build["canal"] * rng.normal(1, 0.06),
        "epidural": rng.uniform(0, 1.2),
        "lamina": rng.uniform(3.5, 7.0),
        "lamina_z": 0.42 * height * rng.uniform(0.75, 1.15),
        "up": height * rng.uniform(0.08, 0.25),
        "pedicle": rng.uniform(3.0, 5.0) * (1.4 if region == "L" else 1.0),
        "facet": 0.6 * height,
        "span": span * build["size"] * build["processes"] * rng.normal(1, 0.06),
        "back": back + rng.normal(0, 2),
        "process": rng.uniform(2.6, 4.2) * (1.4 if body.level in ("T1", "L5") else 1.0),
        "spine": spine * build["size"] * build["spines"] * rng.normal(1, 0.08),
        "slope": np.deg2rad(slope + build["slope"] + rng.normal(0, 5)),
        "spine_r": rng.uniform(*SPINOUS_HALF_HEIGHT[region]),
        "arch": rng.uniform(0.6, 1.3),
        "vein": float(rng.random() < 0.6),
    }


def draw_build(rng: np.random.Generator, size: float) -> dict[str, float]:
    """Draw the properties that all arches and ribs of one patient share.

    `size` is the width of the patient's bodies relative to the mean.
    """
    return {
        "size": float(size),
        "canal": float(rng.normal(1, 0.08)),
        "processes": float(rng.normal(1, 0.08)),
        "spines": float(rng.normal(1, 0.1)),
        "slope": float(rng.normal(0, 7)),
        "rib_fall": float(rng.uniform(0.1, 0.5)),
        "last_rib": float(rng.uniform(5, 90)),  # length; the twelfth rib's varies most
        "rib_r": float(rng.uniform(3.2, 4.6)),
    }


def arch_distance(rel: Tensor, body: Body, p: dict[str, float], build: dict[str, float]) -> Tensor:
    """Return the signed distance `(n,)` from points `rel` `(n, 3)` to pedicles, lamina, processes and near ribs.

    `p` is from `draw_posterior`, `build` from `draw_build`.
    """
    side = torch.stack([rel[:, 0].abs(), rel[:, 1], rel[:, 2]], 1)  # both halves at once
    parts = [_lamina(rel, p), *_lateral(side, body, p), _spinous(rel, p)]
    if body.level[0] == "T":
        parts += _rib(side, body, p, build)
    if body.level in SACRUM:
        parts.append(_ala(side, body))
    arch = parts[0]
    for part in parts[1:]:
        arch = torch.minimum(arch, part)
    return arch


def _lamina(rel: Tensor, p: dict[str, float]) -> Tensor:
    r, a, z = rel.unbind(1)
    canal = ellipse(r, a - p["canal_a"], p["canal_w"], p["canal_d"])
    lean = z + (a - p["canal_a"]) * -0.35  # laminae overlap like shingles
    lamina = torch.maximum((canal - p["lamina"] / 2).abs() - p["lamina"] / 2, lean.abs() - p["lamina_z"])
    return torch.maximum(lamina, a - p["canal_a"] - 1)


def _lateral(side: Tensor, body: Body, p: dict[str, float]) -> list[Tensor]:
    """Return the distances to pedicle, facet column and transverse process."""
    x, wall = p["canal_w"] + 3, -body.depth / 2
    pedicle = capsule(side, (x - 1, wall + 3, p["up"]), (x, p["canal_a"] - 4, p["up"]), p["pedicle"])
    facet = capsule(side, (x + 2, p["canal_a"] - 6, -p["facet"]), (x + 2, p["canal_a"] - 2, p["facet"]), 4.6)
    root = (x, wall - 2 - 0.55 * max(p["back"], -3.0), 1.0)
    transverse = capsule(side, root, (p["span"] - p["process"], wall - p["back"], 2.0), p["process"])
    return [pedicle, facet, transverse]


def _spinous(rel: Tensor, p: dict[str, float]) -> Tensor:
    start = p["canal_a"] - p["canal_d"] - 2
    end = (0.0, start - p["spine"] * float(np.cos(p["slope"])), -3 - p["spine"] * float(np.sin(p["slope"])))
    squeezed = rel / rel.new_tensor([0.55, 1.0, 1.0])
    return capsule(squeezed, (0.0, start, -3.0), end, p["spine_r"]) * 0.7


def _rib(side: Tensor, body: Body, p: dict[str, float], build: dict[str, float]) -> list[Tensor]:
    """Return the distances to the rib's head with its neck, and to the beginning of its shaft.

    The first rib runs flat to the front. The last two do not touch a transverse process and point downward; the twelfth
    may be a stump.
    """
    number, wall, radius = int(body.level[1:]), -body.depth / 2, build["rib_r"]
    head = (body.width / 2 + 1.5, wall + 4, float(body.corners[2, 0]) + 1.5 - HEAD_ON_BODY.get(body.level, 0.0))
    if number >= 11:
        length = build["last_rib"] if number == 12 else 90.0
        along = np.array([0.72, -0.45, -0.25 - build["rib_fall"]])
        end = tuple(float(x) for x in np.array(head) + along / np.linalg.norm(along) * length)
        return [capsule(side, head, end, radius * 0.85)]
    tubercle = (p["span"] + 1.5, wall - p["back"] + 3, 3.0)
    ahead, down = (22.0, 2.0) if number == 1 else (4.0 - 1.5 * number, 22 * build["rib_fall"] + number)
    shaft = (p["span"] + 30, tubercle[1] + ahead, tubercle[2] - down)
    return [capsule(side, head, tubercle, radius * 0.9), capsule(side, tubercle, shaft, radius * 1.1)]


def _ala(side: Tensor, body: Body) -> Tensor:
    """Return the distance to the ala of the sacrum, which makes its first segment twice as wide as L5."""
    half, tall = body.width / 2, float(np.ptp(body.corners)) / 2
    return capsule(side, (half - 6, -5.0, 0.2 * tall), (half + 22, -14.0, -0.4 * tall), 0.75 * tall)
