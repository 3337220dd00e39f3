"""CT series in a folder of DICOM files: found, one chosen, its slices put in order along their common normal.

Positions are DICOM's (LPS mm) until the last step, which returns voxels `[k, j, i]` in HU and `ijk_to_ras`.
Order and spacing come from the slices' positions, never from instance numbers or the nominal thickness.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .checks import LPS_TO_RAS, MIN_SLICES, ORTHONORMAL_TOLERANCE, require_memory, to_int16
from .errors import VFQError

DICOM_MARK = b"DICM"
CT_STORAGE = b"1.2.840.10008.5.1.4.1.1.2\0"
SERIES_UID, SOP_UID, MODALITY, IMAGE_TYPE = "0020|000e", "0008|0018", "0008|0060", "0008|0008"
POSITION, ORIENTATION, PIXEL_SPACING = "0020|0032", "0020|0037", "0028|0030"
# Positions in headers are rounded, some to 0.01 mm; thin slices are 0.3 mm apart.
SAME_PLACE_MM = 0.02
SAME_AXES = 1e-3


@dataclass(frozen=True)
class Slice:
    """The header of one image file. Positions LPS mm, `pixel_spacing` along rows' and columns' direction (i, j)."""

    path: Path
    series_uid: str
    sop_uid: str
    size: tuple[int, ...]  # (columns, rows, frames)
    position: np.ndarray  # (3,)
    axes: np.ndarray  # (2, 3): unit vectors along i and j
    pixel_spacing: tuple[float, float]

    @property
    def normal(self) -> np.ndarray:
        """Unit vector `(3,)` across the slice."""
        return np.cross(self.axes[0], self.axes[1])


@dataclass(frozen=True)
class Findings:
    """What a folder holds: CT slices by series UID, counts of other modalities, files that could not be read."""

    ct: dict[str, list[Slice]]
    others: Counter[str]
    damaged: tuple[Path, ...]
    n_files: int


def is_dicom(path: Path) -> bool:
    """Whether the file bears DICOM's mark (or, without one, its usual extension)."""
    with path.open("rb") as stream:
        return stream.read(132)[128:] == DICOM_MARK or path.suffix.lower() in (".dcm", ".ima")


def list_series(folder: Path) -> dict[str, int]:
    """Slice counts of the CT series in a folder and its sub-folders, by Series Instance UID, largest first."""
    found = find_slices(_files_below(folder)).ct
    return {uid: len(found[uid]) for uid in sorted(found, key=lambda u: (-len(found[u]), u))}


def read_dicom(
    path: Path, series: str | None = None, max_bytes: int | None = None
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Voxels `[k, j, i]` int16 HU, `ijk_to_ras` `(4, 4)` and notes, of one CT series.

    Parameters
    ----------
    path : a folder, searched with its sub-folders, or one DICOM file, whose series is taken from its own folder.
    series : Series Instance UID; without it the series with most slices.
    max_bytes : as in `read_ct`.

    VFQError: `no_ct_series`, `missing_slices`, `mixed_series`, `bad_direction`, `too_few_slices`, `too_large`,
    `corrupt_file`, `not_3d`.
    """
    if path.is_dir():
        found = find_slices(_files_below(path))
    else:
        series = series or _series_of(path)
        found = find_slices(sorted(p for p in path.parent.iterdir() if p.is_file()))
    slices, notes = _choose(found, series)
    slices, repeats = _without_copies(slices)
    if repeats:
        notes += (f"left out {repeats} files that repeat a slice of the series",)
    _refuse_damaged(found.damaged, slices[0].series_uid)
    slices, matrix = _stack(slices)
    columns, rows, _ = slices[0].size
    require_memory(len(slices) * rows * columns * 2, max_bytes)
    return _read_voxels(slices), matrix, notes


def find_slices(paths: Iterable[Path]) -> Findings:
    """Headers of all DICOM images among `paths`; scouts and images without a place in the patient are left out."""
    ct: dict[str, list[Slice]] = {}
    others: Counter[str] = Counter()
    damaged = []
    n_files = 0
    for path in paths:
        n_files += 1
        if not is_dicom(path):
            continue
        header = _read_header(path)
        if header is None:
            damaged.append(path)
        elif header.get(MODALITY) != "CT":
            others[header.get(MODALITY) or "unknown"] += 1
        elif (one := _slice(path, header)) is None:
            others["CT scout or secondary picture"] += 1
        else:
            ct.setdefault(one.series_uid, []).append(one)
    return Findings(ct, others, tuple(damaged), n_files)


def _files_below(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file())


def _reader(path: Path) -> Any:
    import SimpleITK as sitk  # imported where used: loading it takes longer than most commands

    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    return reader


def _read_header(path: Path) -> dict[str, Any] | None:
    """Tags as stripped text plus "size"; None where GDCM cannot read an image from the file."""
    reader = _reader(path)
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        return None
    header: dict[str, Any] = {key: reader.GetMetaData(key).strip("\0 ") for key in reader.GetMetaDataKeys()}
    header["size"] = (tuple(reader.GetSize()) + (1,))[:3]
    return header


def _slice(path: Path, header: dict[str, Any]) -> Slice | None:
    position, axes, spacing = (_numbers(header, tag) for tag in (POSITION, ORIENTATION, PIXEL_SPACING))
    if "LOCALIZER" in header.get(IMAGE_TYPE, "").upper():
        return None
    if header["size"][2] > 1:
        raise VFQError(
            "not_3d",
            f"A file holds {header['size'][2]} frames (enhanced DICOM). Convert it to NIfTI first, for example "
            "with dcm2niix, or export the series as one file a slice.",
        )
    if (len(position), len(axes), len(spacing)) != (3, 6, 2):
        return None
    return Slice(
        path=path,
        series_uid=header.get(SERIES_UID, ""),
        sop_uid=header.get(SOP_UID, ""),
        size=header["size"],
        position=np.array(position),
        axes=np.array(axes).reshape(2, 3),
        pixel_spacing=(spacing[1], spacing[0]),  # DICOM names the distance between rows first
    )


def _numbers(header: dict[str, Any], tag: str) -> list[float]:
    try:
        numbers = [float(v) for v in header.get(tag, "").split("\\")]
    except ValueError:
        return []
    return numbers if np.isfinite(numbers).all() else []


def _series_of(path: Path) -> str:
    header = _read_header(path)
    if header is None and DICOM_MARK not in path.read_bytes()[:132]:
        raise VFQError("not_an_image", f"{path.name!r} is not DICOM, whatever its name says. Export the CT again.")
    if header is None:
        raise VFQError("corrupt_file", f"{path.name!r} is truncated or holds no image. Copy or export it again.")
    if header.get(MODALITY) != "CT":
        raise VFQError("no_ct_series", f"{path.name!r} is of modality {header.get(MODALITY) or 'unknown'}, not CT.")
    return str(header.get(SERIES_UID, ""))


def _choose(found: Findings, series: str | None) -> tuple[list[Slice], tuple[str, ...]]:
    """The slices of the wanted, else of the largest, series; ties go to the first UID, so that runs agree."""
    if not found.ct:
        raise _no_ct_series(found)
    counts = sorted((len(s) for s in found.ct.values()), reverse=True)
    listed = ", ".join(map(str, counts[:8])) + (", ..." if len(counts) > 8 else "")
    if series is not None:
        if series not in found.ct:
            raise VFQError(
                "no_ct_series",
                f"None of the {len(counts)} CT series ({listed} slices) has the UID asked for. "
                "Leave the UID out to take the largest.",
            )
        return found.ct[series], ()
    uid = min(found.ct, key=lambda u: (-len(found.ct[u]), u))
    if len(counts) == 1:
        return found.ct[uid], ()
    return found.ct[uid], (f"chose the largest of {len(counts)} CT series ({counts[0]} slices; all: {listed})",)


def _no_ct_series(found: Findings) -> VFQError:
    if found.others:
        held = ", ".join(f"{n} of {kind}" for kind, n in found.others.most_common())
        return VFQError("no_ct_series", f"The folder holds no CT series, but images: {held}. Choose a CT study.")
    if found.damaged:
        return VFQError(
            "corrupt_file", f"None of the {len(found.damaged)} DICOM files holds a readable image. Copy them again."
        )
    return VFQError(
        "no_ct_series", f"None of the {found.n_files} files in the folder is DICOM. Choose the folder of a CT study."
    )


def _without_copies(slices: list[Slice]) -> tuple[list[Slice], int]:
    unique = {s.sop_uid or str(s.path): s for s in slices}
    return list(unique.values()), len(slices) - len(unique)


def _refuse_damaged(damaged: tuple[Path, ...], series_uid: str) -> None:
    """A truncated slice is no missing slice: say so, and do not measure a scan that lost its last slices."""
    broken = [p for p in damaged if _belongs_to(p, series_uid)]
    if broken:
        raise VFQError(
            "corrupt_file",
            f"{len(broken)} files of the series are truncated or damaged ({broken[0].name!r}). Copy them again.",
        )


def _belongs_to(path: Path, series_uid: str) -> bool:
    with path.open("rb") as stream:
        start = stream.read(1 << 16)
    return CT_STORAGE in start and series_uid.encode("ascii", "ignore") in start


def _stack(slices: list[Slice]) -> tuple[list[Slice], np.ndarray]:
    """Slices in order along their normal, and `ijk_to_ras`."""
    if len(slices) < MIN_SLICES:
        raise VFQError(
            "too_few_slices",
            f"The largest or chosen CT series has {len(slices)} slices; at least {MIN_SLICES} are needed.",
        )
    _require_one_geometry(slices)
    normal = slices[0].normal / np.linalg.norm(slices[0].normal)
    slices = sorted(slices, key=lambda s: float(s.position @ normal))
    positions = np.array([s.position for s in slices])
    heights = positions @ normal
    _require_single_pass(heights)
    _require_straight_stack(positions, normal)
    spacing = _require_no_gaps(heights)
    return slices, _matrix(slices[0], normal * spacing)


def _require_one_geometry(slices: list[Slice]) -> None:
    first = slices[0]
    if not np.allclose(first.axes @ first.axes.T, np.eye(2), atol=ORTHONORMAL_TOLERANCE):
        raise VFQError("bad_direction", "The slices' rows and columns are not at right angles. Export the CT again.")
    odd = {
        "size": sum(s.size != first.size for s in slices),
        "orientation": sum(not np.allclose(s.axes, first.axes, atol=SAME_AXES) for s in slices),
        "pixel spacing": sum(not np.allclose(s.pixel_spacing, first.pixel_spacing, rtol=1e-3) for s in slices),
    }
    mixed = [f"{name} ({n} of {len(slices)} slices differ from the first)" for name, n in odd.items() if n]
    if mixed:
        raise VFQError(
            "mixed_series", f"One series mixes images of different {', '.join(mixed)}. Export its parts as series."
        )


def _require_single_pass(heights: np.ndarray) -> None:
    repeated = int((np.diff(heights) < SAME_PLACE_MM).sum())
    if repeated:
        raise VFQError(
            "mixed_series",
            f"{repeated} of {len(heights)} slices lie where another one lies (several phases or reconstructions "
            "in one series). Export them as separate series.",
        )


def _require_straight_stack(positions: np.ndarray, normal: np.ndarray) -> None:
    offsets = positions - positions[0]
    along = offsets @ normal
    aside = offsets - along[:, None] * normal
    tilt = np.linalg.norm(aside[-1]) / along[-1]
    if tilt > ORTHONORMAL_TOLERANCE:
        raise VFQError(
            "bad_direction",
            f"The slices are sheared by {np.degrees(np.arctan(tilt)):.1f} degrees (gantry tilt). Correct the tilt "
            "when converting (dcm2niix does), or resample to an orthogonal grid, and give the result.",
        )
    wander = np.linalg.norm(aside, axis=1).max()
    if wander > 1.0 + ORTHONORMAL_TOLERANCE * along[-1]:
        raise VFQError("mixed_series", f"Slices are shifted sideways by up to {wander:.1f} mm within one series.")


def _require_no_gaps(heights: np.ndarray) -> float:
    """The distance between slices, mm; VFQError `missing_slices` or, where it merely varies, `mixed_series`."""
    steps = np.diff(heights)
    spacing = float(np.median(steps))
    absent = np.rint(steps / spacing).astype(int) - 1
    if absent.max() > 0:
        raise VFQError("missing_slices", _missing(absent, heights))
    if np.abs(steps - spacing).max() > max(0.05 * spacing, SAME_PLACE_MM):
        raise VFQError(
            "mixed_series",
            f"The distance between slices varies from {steps.min():.2f} to {steps.max():.2f} mm within the series. "
            "Resample it to one distance first.",
        )
    return float((heights[-1] - heights[0]) / len(steps))


def _missing(absent: np.ndarray, heights: np.ndarray) -> str:
    gaps = np.flatnonzero(absent > 0)
    places = [f"{absent[g]} between {heights[g]:.1f} and {heights[g + 1]:.1f} mm" for g in gaps[:4]]
    more = f" and {len(gaps) - 4} more gaps" if len(gaps) > 4 else ""
    return (
        f"{int(absent[gaps].sum())} slices are missing from a series of {len(heights)}: {', '.join(places)}{more} "
        "along the slices' normal. Copy or export the series again."
    )


def _matrix(first: Slice, step: np.ndarray) -> np.ndarray:
    lps = np.eye(4)
    lps[:3, 0] = first.axes[0] * first.pixel_spacing[0]
    lps[:3, 1] = first.axes[1] * first.pixel_spacing[1]
    lps[:3, 2] = step
    lps[:3, 3] = first.position
    return LPS_TO_RAS @ lps


def _read_voxels(slices: list[Slice]) -> np.ndarray:
    """`[k, j, i]` HU. One by one: ITK's series reader would give all slices the first one's type, truncating."""
    columns, rows, _ = slices[0].size
    voxels = np.empty((len(slices), rows, columns), np.int16)
    for k, one in enumerate(slices):
        voxels[k] = _read_slice(one.path)
    return voxels


def _read_slice(path: Path) -> np.ndarray:
    import SimpleITK as sitk

    try:
        image = _reader(path).Execute()  # GDCM applies this slice's own rescale slope and intercept
    except RuntimeError:
        raise VFQError("corrupt_file", f"The voxels of {path.name!r} cannot be read. Copy the series again.") from None
    pixels = sitk.GetArrayFromImage(image)
    if pixels.ndim != 3:
        raise VFQError("not_ct", f"{path.name!r} is a colour picture, CT holds one number a voxel.")
    return to_int16(pixels)[0]
