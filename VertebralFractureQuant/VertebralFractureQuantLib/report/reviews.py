"""Save a review into the folder of its case: the edited files are rewritten, the original analysis is kept.

Once a review has been saved, the folder also holds machine.json (the analysis before the review).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from ..imaging.ct import CTVolume
from ..spine.record import SpineAnalysis
from ..spine.record_json import read_analysis, to_json
from ..whole import whole_file, whole_files
from .markups import write_markups
from .outputs import MACHINE_NAME, write_record, write_straightened, writing
from .tables import write_measurements

NOT_SAVED = (
    "the review cannot be saved ({reason}). Check the folder's permissions and the free space; its files are intact."
)
PICTURES = ("overview.png", "straightened.nrrd")

Writer = Callable[[SpineAnalysis, CTVolume, Path], None]


def write_review(analysis: SpineAnalysis, folder: Path, machine: SpineAnalysis | None = None) -> None:
    """Rewrite analysis.json, keypoints.mrk.json and measurements.csv of the case in `folder` after a review.

    Each file is replaced as a whole, and none before all new ones are safely on disk. The first save keeps the earlier
    analysis as machine.json for good: `machine` if given, else the analysis.json in the folder. The images show the
    original points; they are renamed to machine-overview.png and machine-straightened.nrrd. Those that `write_pictures`
    drew of an earlier state of the review are removed.

    Raises
    ------
    VFQError
        `output_not_writable` with the reason. Each file is then complete; some may already be new.
    """
    writers: dict[str, Callable[[Path], None]] = {
        "analysis.json": lambda p: write_record(analysis, p),
        "keypoints.mrk.json": lambda p: write_markups(analysis, p),
        "measurements.csv": lambda p: write_measurements(analysis, p),
    }
    original = _original(folder, machine)
    if original:
        writers = {MACHINE_NAME: original, **writers}
    with writing(folder, NOT_SAVED):
        drawn = [name for name in PICTURES if (folder / name).exists() and (folder / f"machine-{name}").exists()]
        if drawn and not _is_saved(analysis, folder):
            for name in drawn:  # of another state of the review
                (folder / name).unlink()
        _replace_files(folder, writers)
        for name in PICTURES:  # they show the original points, so their names must not match the reviewed numbers
            if (folder / name).exists() and name not in drawn:
                os.replace(folder / name, folder / f"machine-{name}")


def write_pictures(analysis: SpineAnalysis, ct: CTVolume, folder: Path) -> tuple[str, ...]:
    """Write overview.png and straightened.nrrd of a review that is complete and saved; return their names.

    The automatic ones stay as machine-overview.png and machine-straightened.nrrd; those that are missing are written
    too. Without matplotlib there is no overview image. VFQError `output_not_writable`.
    """
    drawn: dict[str, Writer] = {"straightened.nrrd": write_straightened}
    if find_spec("matplotlib"):
        from .overview import write_overview

        drawn["overview.png"] = write_overview
    with writing(folder, NOT_SAVED):
        for name, write in drawn.items():
            if not (folder / f"machine-{name}").exists():
                _write_picture(read_analysis(folder / MACHINE_NAME), ct, folder / f"machine-{name}", write)
            _write_picture(analysis, ct, folder / name, write)
    return tuple(drawn)


def _write_picture(analysis: SpineAnalysis, ct: CTVolume, file: Path, write: Writer) -> None:
    """Write one image as a whole; none of a record without a curve."""
    if not len(analysis.curve):
        return
    with whole_file(file) as partial_file:
        write(analysis, ct, partial_file)


def _is_saved(analysis: SpineAnalysis, folder: Path) -> bool:
    """True if the folder's analysis.json is this record."""
    with suppress(OSError, ValueError):
        saved: object = json.loads((folder / "analysis.json").read_text(encoding="utf-8"))
        return saved == json.loads(json.dumps(to_json(analysis)))
    return False


def _replace_files(folder: Path, writers: Mapping[str, Callable[[Path], None]]) -> None:
    """Write every file under a temporary name, and rename them when all are on disk. Raises OSError."""
    with whole_files([folder / name for name in writers], safely=True) as partials:
        for write, partial_file in zip(writers.values(), partials, strict=True):
            write(partial_file)


def _original(folder: Path, machine: SpineAnalysis | None) -> Callable[[Path], None] | None:
    """Return the function that writes machine.json; None if it exists or there is no original."""
    if (folder / MACHINE_NAME).exists():
        return None
    if machine:
        return lambda p: write_record(machine, p)
    here = folder / "analysis.json"
    return None if not here.exists() or _is_edited(here) else partial(shutil.copyfile, here)


def _is_edited(file: Path) -> bool:
    """True if a reader has changed the analysis; False for a damaged file."""
    try:
        vertebrae = json.loads(file.read_text(encoding="utf-8"))["vertebrae"]
        return any(v.get("origin", "model") != "model" or v.get("review", "open") != "open" for v in vertebrae)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return False
