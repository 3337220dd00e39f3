"""What the tests of label sets share: vertebrae with known errors, label sets with and without CTs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from VertebralFractureQuantLib.imaging.ct import CTVolume
from VertebralFractureQuantLib.imaging.files import write_ct
from VertebralFractureQuantLib.labels.adding import add_cases
from VertebralFractureQuantLib.labels.dataset import Case, Dataset, changing, create, load, with_cases, with_readers
from VertebralFractureQuantLib.labels.reading import Label

MATRIX = np.diag([-2.0, -2.0, 2.5, 1.0])
MATRIX[:3, 3] = (80.0, 80.0, -200.0)
SHAPE = (90, 80, 85)
STEP_MM = 30.0


def body(s: float, front: float = 22.0, middle: float = 22.0, back: float = 22.0, r: float = 0.0) -> np.ndarray:
    """Key points `(3, 2, 3)` of a body 30 mm deep with these heights, whose middle is at S = s, in the plane R = r."""
    heights = zip((15.0, 0.0, -15.0), (front, middle, back), strict=True)
    return np.array([[[r, a, s + h / 2], [r, a, s - h / 2]] for a, h in heights])


def column(levels: Sequence[str | None], at: float = 0.0, **keys: float) -> tuple[Label, ...]:
    """Labels of one level below the other, the first one at S = `at`."""
    return tuple(Label(level, body(at - STEP_MM * i, **keys)) for i, level in enumerate(levels))


def dataset_with(folder: Path, cases: Sequence[str], readers: Sequence[str]) -> Dataset:
    """A label set whose cases have no CT, each of its own patient."""
    create(folder, folder.name, {})
    with changing(folder) as held:
        held[0] = with_readers(with_cases(held[0], [Case(name, name) for name in cases]), readers)
    return load(folder)


def saved_ct(path: Path, value: int = 40) -> Path:
    """Write a CT of air with a block of tissue of this HU, and return its path."""
    voxels = np.full(SHAPE, -1000, np.int16)
    voxels[10:80, 10:70, 10:75] = -90  # fat
    voxels[20:70, 25:55, 25:60] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    write_ct(CTVolume(voxels, MATRIX, path.name), path)
    return path


def made(folder: Path, readers: Sequence[str], value: int = 40) -> Dataset:
    """A label set with the case "scan", which has a CT."""
    scan = saved_ct(folder / "scan.nii.gz", value)
    create(folder / "set", "set", {})
    add_cases(folder / "set", [scan])
    with changing(folder / "set") as held:
        held[0] = with_readers(held[0], readers)
    return load(folder / "set")
