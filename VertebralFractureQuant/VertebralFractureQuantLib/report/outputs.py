"""The folder `DIR/<case>/` of one case, with its results.

These are analysis.json, measurements.csv, keypoints.mrk.json, straightened.nrrd and overview.png. A failed case has
only analysis.json.

A folder is complete or absent: everything is written beside it under a temporary name, which is then renamed. A folder
with a review (machine.json and the journal review.sqlite, see `reviews`) is never replaced.
"""

from __future__ import annotations

import glob
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from ..errors import VFQError
from ..imaging.checks import itk_name
from ..imaging.ct import CTVolume
from ..spine.curve import fit_curve
from ..spine.record import SpineAnalysis
from ..spine.record_json import to_json
from ..spine.straightening import Straightening
from .markups import write_markups
from .tables import write_measurements

# The files that we write into a case's folder (`vfq demo` adds the last two); nothing else is ever replaced.
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
MACHINE_NAME = "machine.json"
REVIEW_NAMES = ("review.sqlite", MACHINE_NAME, "readings")  # files of a review; a folder that has one is never replaced
NOT_WRITTEN = (
    "the folder cannot be written ({reason}). Check its permissions and the free space, or choose another one."
)

SLAB_LATERAL_MM = 20
SLAB_ANTERIOR_MM = 64


def check_output(folder: Path, case: str, overwrite: bool = False) -> None:
    """Check that `folder/case` can be written, before minutes of work.

    Raises
    ------
    VFQError
        `output_exists`: the case has results and `overwrite` is off (the record of a failure does not count), or its
        folder holds a review or files that we did not write;
        `output_not_writable`: the folder cannot be created or written.
    """
    itk_name(folder, "output_not_writable")
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        _check_replaceable(folder / case, overwrite)
    check_writable(folder)


def check_writable(folder: Path) -> None:
    """Create the folder if needed. Raises VFQError `output_not_writable` if nothing can be created in it."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        probe = _temporary(folder / "any", "probe")
        probe.mkdir()
        probe.rmdir()


def import_writers() -> None:
    """Import what writes the images, half a second the first time; another thread can do it before it is needed."""
    import SimpleITK  # noqa: F401

    if find_spec("matplotlib"):
        from .overview import import_matplotlib

        import_matplotlib()


def write_outputs(
    analysis: SpineAnalysis,
    ct: CTVolume | None,
    folder: Path,
    overwrite: bool = False,
    extras: Mapping[str, Callable[[Path], None]] | None = None,
    pictures: bool = True,
) -> Path:
    """Write `folder/<case>/` completely or not at all, and return it.

    Parameters
    ----------
    analysis : the record; if its status is not "ok", only analysis.json is written.
    ct : the volume that was analysed, for the images; may be None for a failed case.
    overwrite : replace an earlier folder when the new one is complete.
    extras : further files: names, and the functions that write them to a path.
    pictures : also write straightened.nrrd and overview.png, which takes longer than everything else.

    Raises
    ------
    VFQError
        `output_exists` and `output_not_writable`, as for `check_output`.
    """
    target = folder / analysis.case
    check_output(folder, analysis.case, overwrite)
    with writing(folder), _whole_folder(target) as fresh:
        write_record(analysis, fresh / "analysis.json")
        if analysis.status == "ok":
            write_measurements(analysis, fresh / "measurements.csv")
            write_markups(analysis, fresh / "keypoints.mrk.json")
            if pictures:
                _draw(analysis, ct, fresh)
        for name, write in (extras or {}).items():
            write(fresh / name)
        _check_replaceable(target, overwrite)  # a review may have begun in the meantime
    return target


def restore_replaced(folder: Path, case: str) -> None:
    """Move the earlier folder back if a process was killed between moving it away and putting the new one in place."""
    for old in _left_over(folder, case, "old"):
        if not (folder / case).exists():
            with suppress(OSError):
                old.rename(folder / case)


def discard_unfinished(folder: Path, case: str) -> None:
    """Delete what a killed process left beside `folder/case`; the old folder is restored if the new one is missing."""
    restore_replaced(folder, case)
    for kind in ("partial", "probe", "old"):
        for left in _left_over(folder, case, kind):
            shutil.rmtree(left, ignore_errors=True)


def _left_over(folder: Path, case: str, kind: str) -> Iterator[Path]:
    return folder.glob(f".{glob.escape(case)}.{'[0-9a-f]' * 8}.{kind}")


def write_straightened(analysis: SpineAnalysis, ct: CTVolume, path: Path) -> None:
    """Write the straightened volume as int16 HU at 1 mm, in straight space (LPS in the header).

    It reaches 20 mm to either side of the curve, and 64 mm to the front and to the back, over the length of the curve.
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
        raise OSError(0, "the straightened volume could not be written") from error


def read_straightened(path: Path) -> CTVolume:
    """Read what `write_straightened` wrote: HU in straight space. VFQError `corrupt_file` if it is damaged."""
    import SimpleITK as sitk

    try:
        image = sitk.ReadImage(str(path), sitk.sitkInt16)
    except RuntimeError as error:
        message = f"{path.name}: the straightened volume is damaged. Analyse the scan again."
        raise VFQError("corrupt_file", message) from error
    matrix = np.diag([-1.0, -1.0, 1.0, 1.0])
    matrix[:3, 3] = np.array(image.GetOrigin()) * (-1, -1, 1)
    return CTVolume(sitk.GetArrayFromImage(image), matrix, path.name)


def _draw(analysis: SpineAnalysis, ct: CTVolume | None, folder: Path) -> None:
    if ct is None:
        raise ValueError("the images of a measured case need its CT")
    with ThreadPoolExecutor(1) as aside:
        drawn = aside.submit(_draw_overview, analysis, ct, folder / "overview.png")
        write_straightened(analysis, ct, folder / "straightened.nrrd")
    drawn.result()


def _draw_overview(analysis: SpineAnalysis, ct: CTVolume, path: Path) -> None:
    if find_spec("matplotlib"):  # absent in desktop Slicer, which shows the study itself
        from .overview import write_overview  # slow to import

        write_overview(analysis, ct, path)


def write_record(analysis: SpineAnalysis, path: Path) -> None:
    """Write analysis.json. Raises OSError if it cannot be written."""
    path.write_text(json.dumps(to_json(analysis), indent=1, allow_nan=False), encoding="utf-8")


def _check_replaceable(target: Path, overwrite: bool) -> None:
    if not os.path.lexists(target):
        return
    if any((target / name).exists() for name in REVIEW_NAMES):
        raise VFQError(
            "output_exists",
            f"{target.name}: the folder holds a reader's review, which is never overwritten. Choose another output "
            "folder, or move this one away.",
        )
    if not overwrite and not _is_failure(target):
        raise VFQError(
            "output_exists",
            f"{target.name}: the output folder has results already. Choose another one, or use --overwrite with vfq.",
        )
    if target.is_symlink() or not target.is_dir():
        raise VFQError("output_exists", f"{target.name}: this is not a folder. Choose another output folder.")
    foreign = sorted(p.name for p in target.iterdir() if p.name not in OUTPUT_NAMES)
    if foreign:
        raise VFQError(
            "output_exists",
            f"{target.name}: the folder holds {foreign[0]}, which is not a file of this program. Move it away, or "
            "choose another output folder.",
        )


def _is_failure(folder: Path) -> bool:
    """True if a folder holds only the record of a failed analysis, which may be replaced."""
    record = folder / "analysis.json"
    try:
        return os.listdir(folder) == [record.name] and json.loads(record.read_text(encoding="utf-8"))["status"] != "ok"
    except (OSError, ValueError, LookupError, TypeError):
        return False


@contextmanager
def _whole_folder(target: Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes `target` if the block succeeds, and is deleted if it fails."""
    fresh = _temporary(target, "partial")
    fresh.mkdir()
    try:
        yield fresh
        _swap_in(fresh, target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _swap_in(fresh: Path, target: Path) -> None:
    """Rename `fresh` to `target`; an old folder is deleted only afterwards, and moved back if renaming fails."""
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
def writing(folder: Path, message: str = NOT_WRITTEN) -> Iterator[None]:
    """Turn an OSError of the block into VFQError `output_not_writable`; "{reason}" in the message becomes its text."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise VFQError("output_not_writable", f"{folder.name}: {message.format(reason=reason)}") from error
