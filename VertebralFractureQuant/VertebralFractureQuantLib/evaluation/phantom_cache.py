"""Phantoms of an evaluation, kept as files: a phantom takes longer to paint than to measure.

A file is used again only if it was painted by the same code. It is `phantom-<seed>.npz` with the voxels `[k, j, i]`
int16 HU and the matrix to RAS mm.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from ..imaging.ct import CTVolume
from ..phantom.options import PhantomOptions
from ..phantom.volume import make_phantom
from ..whole import whole_file


def painted_by() -> str:
    """Return the SHA-256 of the code that paints phantoms."""
    return code_of("phantom")


@lru_cache(maxsize=8)
def code_of(*rooms: str) -> str:
    """Return the SHA-256 of the code of some rooms of the library; what other code computed is not used again."""
    digest = hashlib.sha256()
    library = Path(__file__).parent.parent
    for path in sorted(p for room in rooms for p in (library / room).rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def cached_phantom(seed: int, options: PhantomOptions, folder: Path) -> CTVolume:
    """Return phantom `seed` from its file in `folder`, or paint it and write the file.

    The options are part of neither the name nor the file: a folder holds phantoms of the same options.
    """
    path = folder / f"phantom-{seed}.npz"
    kept = _read(path)
    if kept is not None:
        return kept
    ct, _ = make_phantom(seed, options)
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as part:
        np.savez_compressed(part, voxels=ct.voxels, ijk_to_ras=ct.ijk_to_ras, made_by=painted_by())
    return ct


def _read(path: Path) -> CTVolume | None:
    """Return the phantom in a file; None if there is none, other code painted it, or it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as held:
            if str(held["made_by"]) != painted_by():
                return None
            return CTVolume(held["voxels"], held["ijk_to_ras"], path.stem)
    except (OSError, ValueError, KeyError, BadZipFile):
        return None
