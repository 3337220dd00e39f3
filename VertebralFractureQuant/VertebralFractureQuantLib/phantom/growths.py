"""Degenerative and surgical findings of a vertebral body: ellipsoids of bone or cement in the body's frame.

The frame's axes are right, anterior, up; its origin is the middle of the body; lengths are in mm.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Growth(NamedTuple):
    """An ellipsoid with its centre (r, a, z), its radii and its HU.

    `radius` is along A (along R it is 1.4 times as large), `tall` is along the body's axis. `confined` is 1 if the
    ellipsoid ends at the body's surface, else 0.
    """

    r: float
    a: float
    z: float
    radius: float
    tall: float
    hu: float
    confined: float


def draw_growths(rng: np.random.Generator, shape: dict, corners: np.ndarray, look: dict) -> tuple[Growth, ...]:
    """Draw osteophytes at the rims, sclerotic bands, Schmorl nodes and cement of one body.

    `shape` is from `shapes`, `corners` as in `Body`; `look` holds how frequent each finding is (`body.draw_look`).
    """
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
    return tuple(Growth(*(float(x) for x in g)) for g in out)


def _lip(rng: np.random.Generator, a: float, z: float, side: int) -> tuple[float, ...]:
    """Extend the rim along the wall towards the next body; with the lip of that body it may close the disc's edge."""
    tall = rng.uniform(0.8, 2.0)
    inward = np.sign(a) * rng.uniform(-1.0, 1.2)
    return (0.0, a - inward, z + side * rng.uniform(0.0, tall), rng.uniform(0.7, 2.0), tall, rng.uniform(200, 700), 0)


def _dense_corner(rng: np.random.Generator, a: float, z: float, side: int) -> tuple[float, ...]:
    """Return a sclerosis in the corner between endplate and wall."""
    size = rng.uniform(2.0, 6.0)
    return (0.0, a, z - side * rng.uniform(0, 2), size, size * rng.uniform(0.5, 1.1), rng.uniform(250, 800), 1)
