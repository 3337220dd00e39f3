"""The folder `DIR/<case>/` of one study: analysis.json, measurements.csv, keypoints.mrk.json, straightened.nrrd
and overview.png; a failed study has analysis.json alone.

A folder is whole or absent: everything is written beside it under a temporary name, which is then renamed.
Once a reader has reviewed it, it also holds machine.json (the analysis as it was before) and the journal review.sqlite;
it is then never replaced, and `write_review` rewrites the edited files in it, each of them whole.
"""

from __future__ import annotations

import glob
import json
import os
import re
import shutil
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from ..errors import VFQError
from ..imaging.checks import itk_name
from ..imaging.ct import CTVolume
from ..spine.curve import fit_curve
from ..spine.record import SpineAnalysis, to_json
from ..spine.straightening import Straightening
from .markups import write_markups
from .tables import write_measurements

# What may stand in a case's folder by our own hand (`vfq demo` adds the last two); only this is ever replaced.
OUTPUT_NAMES = frozenset(
    {
        "analysis.json",
        "measurements.csv",
        "keypoints.mrk.json",
        "straightened.nrrd",
        "overview.png",
        "ct.nii.gz",
        "truth.json",
    }
)
# What a reader's review leaves in the folder: where one of these is, nothing is replaced.
MACHINE_NAME = "machine.json"
NOT_SAVED = (
    "the review cannot be saved ({reason}). Make room or see to the folder's rights; the files there are still whole."
)
REVIEW_NAMES = ("review.sqlite", MACHINE_NAME)
PICTURES = ("overview.png", "straightened.nrrd")
LONGEST_NAME = 100  # bytes; file systems take 255, of which a parent's name and a suffix take some
IMAGE_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")

SLAB_LATERAL_MM = 20
SLAB_ANTERIOR_MM = 64


def case_names(inputs: Sequence[Path]) -> list[str]:
    """A name for each input, safe as a folder's and different from the others: "scan"; "anna_scan" and "bob_scan" where
    the scans of several folders are called so, whichever others are given; "scan-2", ... where that does not help."""
    own = [case_name(path) for path in inputs]
    shared = {name for name, count in Counter(map(str.lower, own)).items() if count > 1}
    names = [
        f"{case_name(path.resolve().parent)}_{name}" if name.lower() in shared else name
        for path, name in zip(inputs, own, strict=True)
    ]
    taken: set[str] = set()
    return [_free_name(name, taken) for name in names]


def free_case_name(case: str, folder: Path) -> str:
    """`case`, or "case-2", "case-3", ... where `folder` holds that already."""
    there = {path.name.lower() for path in folder.iterdir()} if folder.is_dir() else set()
    return _free_name(case, there)


def case_name(path: Path) -> str:
    """The input's own name without its image suffix, with anything a file system may dislike replaced by "_"."""
    name = path.name or path.resolve().name
    suffix = next((s for s in IMAGE_SUFFIXES if name.lower().endswith(s)), "")
    stem = name[: len(name) - len(suffix)]
    safe = re.sub(r"[^\w.+-]+", "_", stem).lstrip(".").rstrip(".")
    return safe.encode()[:LONGEST_NAME].decode(errors="ignore") or "case"


def check_output(folder: Path, case: str, overwrite: bool = False) -> None:
    """Find out before minutes of work whether `folder/case` can be written.

    Raises
    ------
    VFQError
        `output_exists`: it is there and `overwrite` is off, unless it is a failure's; or it holds files that are not
        ours;
        `output_not_writable`: the folder cannot be made or written.
    """
    itk_name(folder, "output_not_writable")
    with _writable(folder):
        folder.mkdir(parents=True, exist_ok=True)
        _check_replaceable(folder / case, overwrite)
    check_writable(folder)


def check_writable(folder: Path) -> None:
    """VFQError `output_not_writable` where nothing can be made in the folder, which is made if it is not there."""
    with _writable(folder):
        folder.mkdir(parents=True, exist_ok=True)
        probe = _temporary(folder / "any", "probe")
        probe.mkdir()
        probe.rmdir()


def write_outputs(
    analysis: SpineAnalysis,
    ct: CTVolume | None,
    folder: Path,
    overwrite: bool = False,
    extras: Mapping[str, Callable[[Path], None]] | None = None,
    pictures: bool = True,
) -> Path:
    """Write `folder/<case>/` whole or not at all, and return it.

    Parameters
    ----------
    analysis : the record; where its status is not "ok", analysis.json alone is written.
    ct : the volume that was analysed, for the pictures; may be None for a failed study.
    overwrite : replace an earlier folder, once the new one is whole.
    extras : further files, each a name with the function that writes it to a path.
    pictures : whether straightened.nrrd and overview.png are made, which takes longer than all else.

    Raises
    ------
    VFQError
        `output_exists` and `output_not_writable`, as for `check_output`.
    """
    target = folder / analysis.case
    check_output(folder, analysis.case, overwrite)
    with _writable(folder), _whole_folder(target) as fresh:
        _write_json(analysis, fresh / "analysis.json")
        if analysis.status == "ok":
            write_measurements(analysis, fresh / "measurements.csv")
            write_markups(analysis, fresh / "keypoints.mrk.json")
            if pictures:
                _draw(analysis, ct, fresh)
        for name, write in (extras or {}).items():
            write(fresh / name)
        _check_replaceable(target, overwrite)  # a review may have begun meanwhile
    return target


def write_review(analysis: SpineAnalysis, folder: Path, machine: SpineAnalysis | None = None) -> None:
    """Rewrite analysis.json, keypoints.mrk.json and measurements.csv of the case in `folder` as a reader edited it.

    Each file is replaced whole, and none before all are safe on the disk. What was there before the first review is
    kept as machine.json for good: `machine` where it is given, else the analysis.json in the folder. The pictures show
    the machine's points, and are called machine-overview.png and machine-straightened.nrrd from then on.

    Raises
    ------
    VFQError
        `output_not_writable` with the reason; the files are then as they were, or some of them new, each of them whole.
    """
    writers: dict[str, Callable[[Path], None]] = {
        "analysis.json": lambda p: _write_json(analysis, p),
        "keypoints.mrk.json": lambda p: write_markups(analysis, p),
        "measurements.csv": lambda p: write_measurements(analysis, p),
    }
    original = _original(folder, machine)
    if original:
        writers = {MACHINE_NAME: original, **writers}
    with _writable(folder, NOT_SAVED):
        _replace_files(folder, writers)
        for name in PICTURES:  # of the machine's points: never beside a reader's numbers under the same name
            if (folder / name).exists():
                os.replace(folder / name, folder / f"machine-{name}")


def _replace_files(folder: Path, writers: Mapping[str, Callable[[Path], None]]) -> None:
    """Write every file under a temporary name, and rename them once all are on the disk. OSError."""
    partials = {name: folder / f".{name}.partial" for name in writers}
    try:
        for name, write in writers.items():
            write(partials[name])
            _sync(partials[name])
        for name, fresh in partials.items():
            os.replace(fresh, folder / name)
        _sync_folder(folder)
    finally:
        for left in partials.values():
            with suppress(OSError):
                left.unlink()


def _original(folder: Path, machine: SpineAnalysis | None) -> Callable[[Path], None] | None:
    """What writes machine.json, where that is not there yet."""
    if (folder / MACHINE_NAME).exists():
        return None
    if machine:
        return lambda p: _write_json(machine, p)
    here = folder / "analysis.json"
    return None if not here.exists() or _is_edited(here) else partial(shutil.copyfile, here)


def _is_edited(file: Path) -> bool:
    """Whether a reader's hand is in an analysis; a damaged one has none."""
    try:
        vertebrae = json.loads(file.read_text(encoding="utf-8"))["vertebrae"]
        return any(v.get("origin", "model") != "model" or v.get("review", "open") != "open" for v in vertebrae)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return False


def restore_replaced(folder: Path, case: str) -> None:
    """Put the earlier folder back where a process was killed after it had set it aside, and before its heir came."""
    for old in _left_over(folder, case, "old"):
        if not (folder / case).exists():
            with suppress(OSError):
                old.rename(folder / case)


def discard_unfinished(folder: Path, case: str) -> None:
    """Clear away what a killed process left beside `folder/case`; the old folder goes back where it has no heir."""
    restore_replaced(folder, case)
    for kind in ("partial", "probe", "old"):
        for left in _left_over(folder, case, kind):
            shutil.rmtree(left, ignore_errors=True)


def _left_over(folder: Path, case: str, kind: str) -> Iterator[Path]:
    return folder.glob(f".{glob.escape(case)}.{'[0-9a-f]' * 8}.{kind}")


def write_straightened(analysis: SpineAnalysis, ct: CTVolume, path: Path) -> None:
    """Write the slab around the straightened spine as int16 HU at 1 mm, in straight space (LPS in the header).

    It reaches +-20 mm to the sides and +-64 mm to front and back of the curve, over the curve's length.
    """
    import SimpleITK as sitk

    curve = fit_curve(analysis.curve)
    laterals = np.arange(-SLAB_LATERAL_MM, SLAB_LATERAL_MM + 1.0)
    slab = Straightening(curve).sample_slab(ct, SLAB_ANTERIOR_MM, laterals)
    # From [R, arc, A] to [S, P, L], the axes of an LPS image whose direction is the identity.
    voxels = np.clip(np.rint(slab.transpose(1, 2, 0)[::-1, ::-1, ::-1]), -32768, 32767).astype(np.int16)
    image = sitk.GetImageFromArray(np.ascontiguousarray(voxels))
    image.SetOrigin((-float(SLAB_LATERAL_MM), -float(SLAB_ANTERIOR_MM), -float(len(voxels) - 1)))
    try:
        sitk.WriteImage(image, str(path), useCompression=True)
    except RuntimeError as error:
        raise OSError(0, "the straightened volume could not be stored") from error


def _draw(analysis: SpineAnalysis, ct: CTVolume | None, folder: Path) -> None:
    if ct is None:
        raise ValueError("a measured study needs its CT to be drawn")
    write_straightened(analysis, ct, folder / "straightened.nrrd")
    if find_spec("matplotlib"):  # absent from desktop Slicer, which draws the study itself
        from .overview import write_overview  # slow to import

        write_overview(analysis, ct, folder / "overview.png")


def _write_json(analysis: SpineAnalysis, path: Path) -> None:
    path.write_text(json.dumps(to_json(analysis), indent=1, allow_nan=False), encoding="utf-8")


def _free_name(name: str, taken: set[str]) -> str:
    """`name`, or `name-2`, `name-3`, ... and a note of it in `taken`; some file systems do not tell A from a."""
    candidate, count = name, 1
    while candidate.lower() in taken:
        count += 1
        candidate = f"{name}-{count}"
    taken.add(candidate.lower())
    return candidate


def _check_replaceable(target: Path, overwrite: bool) -> None:
    if not os.path.lexists(target):
        return
    if any((target / name).exists() for name in REVIEW_NAMES):
        raise VFQError(
            "output_exists",
            f"{target.name}: the folder holds a reader's review, which is never overwritten; choose another output "
            "folder, or move this one away.",
        )
    if not overwrite and not _is_failure(target):
        raise VFQError(
            "output_exists",
            f"{target.name}: the output is there already; choose another output folder (vfq: or --overwrite).",
        )
    if target.is_symlink() or not target.is_dir():
        raise VFQError("output_exists", f"{target.name}: not a folder; choose another output folder.")
    foreign = sorted(p.name for p in target.iterdir() if p.name not in OUTPUT_NAMES)
    if foreign:
        raise VFQError(
            "output_exists",
            f"{target.name}: the folder holds {foreign[0]}, which is not ours; move it away or choose another output "
            "folder.",
        )


def _is_failure(folder: Path) -> bool:
    """Whether a folder holds nothing but the record of a failed analysis, which nobody loses."""
    record = folder / "analysis.json"
    try:
        return os.listdir(folder) == [record.name] and json.loads(record.read_text(encoding="utf-8"))["status"] != "ok"
    except (OSError, ValueError, LookupError, TypeError):
        return False


@contextmanager
def _whole_folder(target: Path) -> Iterator[Path]:
    """A temporary folder that becomes `target` when the block ends well, and vanishes when it does not."""
    fresh = _temporary(target, "partial")
    fresh.mkdir()
    try:
        yield fresh
        _swap_in(fresh, target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _swap_in(fresh: Path, target: Path) -> None:
    """Put `fresh` at `target`; an old folder is deleted only after, and put back if that fails."""
    if not target.exists():
        fresh.rename(target)
        return
    old = _temporary(target, "old")
    target.rename(old)
    try:
        fresh.rename(target)
    except BaseException:
        old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _temporary(target: Path, kind: str) -> Path:
    return target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.{kind}")


@contextmanager
def _writable(
    folder: Path, told: str = "the output folder cannot be written ({reason}); choose another one."
) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise VFQError("output_not_writable", f"{folder.name}: {told.format(reason=reason)}") from error


def _sync(file: Path) -> None:
    """Wait until the file is on the disk itself."""
    with file.open("rb+") as opened:
        os.fsync(opened.fileno())


def _sync_folder(folder: Path) -> None:
    """The same for the names in a folder; Windows has no such call."""
    if os.name == "posix":
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
