"""The header of a NIfTI-1 or NIfTI-2 file, in one file or a pair, compressed or not: a `StoredCT`.

The matrix is the sform, else the qform, as the header gives them: nothing is rounded, repaired or guessed. The standard
is https://nifti.nimh.nih.gov/nifti-1 (nifti1.h) and nifti-2 (nifti2.h).
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from ..errors import VFQError
from .axes import directions, is_sheared, voxel_size
from .checks import LPS_TO_RAS, check_position, check_positive, check_shape, check_tilt, orientation_unknown, times
from .stored import GZIP_MARK, Part, StoredCT, decoding, inflated

NIFTI_PAIR = (".hdr", ".img", ".hdr.gz", ".img.gz")
TYPES = {
    2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8",
}  # fmt: skip
UNITS_MM = {1: 1000.0, 2: 1.0, 3: 0.001}
# Form and position of each field.
NIFTI_1 = {
    "dim": ("8h", 40), "datatype": ("h", 70), "pixdim": ("8f", 76), "vox_offset": ("f", 108), "scaling": ("2f", 112),
    "units": ("B", 123), "codes": ("2h", 252), "qform": ("6f", 256), "sform": ("12f", 280),
}  # fmt: skip
NIFTI_2 = {
    "dim": ("8q", 16), "datatype": ("h", 12), "pixdim": ("8d", 104), "vox_offset": ("q", 168), "scaling": ("2d", 176),
    "units": ("i", 500), "codes": ("2i", 344), "qform": ("6d", 352), "sform": ("12d", 400),
}  # fmt: skip
HEADER_BYTES = {1: 348, 2: 540}
# Above these, sform and qform are said to disagree: degrees between axes, voxels anywhere in the volume.
GREATEST_ANGLE_DEG = 1.0
GREATEST_DISTANCE = 0.5
MOST_ROUNDED = 1e-3  # rounding makes the square of a quaternion exceed 1 by less

Fields = dict[str, tuple]


def nifti_header(path: Path, trust_header: bool = False) -> StoredCT:
    """Read and check the header of a NIfTI file, or of the pair to which `path` belongs.

    `trust_header` : without any orientation, take the axes as running to the left, to the back and to the head.

    VFQError `not_an_image`, `corrupt_file`, `not_3d`, `too_few_slices`, `bad_spacing`, `bad_direction`,
    `orientation_unknown`.
    """
    header_file, voxel_file = _files(path)
    fields, order, least = _fields(first_bytes(header_file, HEADER_BYTES[2]))
    shape = _shape(fields)
    compressed = is_gzip(voxel_file)
    offset = _offset(fields["vox_offset"][0], least if header_file == voxel_file else 0)
    part = Part(voxel_file, skip=offset) if compressed else Part(voxel_file, offset)
    matrix, notes = _matrix(fields, shape, trust_header)
    slope, intercept = fields["scaling"]
    if not np.isfinite([slope, intercept]).all() or slope == 0:  # not scaled, by the standard
        slope, intercept = 1.0, 0.0
    return StoredCT(
        shape,
        np.dtype(order + TYPES[fields["datatype"][0]]),
        (part,),
        "deflate" if compressed else "raw",
        matrix,
        slope,
        intercept,
        notes,
    )


def is_gzip(path: Path) -> bool:
    """True if the file begins like gzip, whatever its name."""
    with path.open("rb") as stream:
        return stream.read(len(GZIP_MARK)) == GZIP_MARK


def first_bytes(path: Path, count: int) -> bytes:
    """Return the first bytes of a file, decompressed if it is gzip; VFQError `corrupt_file`."""
    with path.open("rb") as stream:
        if not is_gzip(path):
            return stream.read(count)
        data = b""
        with decoding(path.name):
            for piece in inflated(stream):
                data += piece
                if len(data) >= count:
                    break
        return data[:count]


def _files(path: Path) -> tuple[Path, Path]:
    """Return the files of the header and of the voxels; VFQError `corrupt_file` if one file of a pair is missing."""
    if not path.name.lower().endswith(NIFTI_PAIR):
        return path, path
    stem = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    return _one_of_pair(stem, ".hdr"), _one_of_pair(stem, ".img")


def _one_of_pair(stem: Path, suffix: str) -> Path:
    for name in (suffix, suffix.upper(), suffix + ".gz"):
        if stem.with_suffix(name).exists():
            return stem.with_suffix(name)
    raise VFQError("corrupt_file", f"The {suffix} file that belongs to {stem.name!r} is missing. Copy both files.")


def is_nifti(data: bytes) -> bool:
    """True if the first bytes of a file, decompressed, are those of NIfTI."""
    return _version(data) is not None


def _version(data: bytes) -> tuple[int, str] | None:
    """Return 1 or 2 and the byte order, or None."""
    for order in "<>":
        if data[:4] == struct.pack(order + "i", 348) and data[344:346] in (b"n+", b"ni"):
            return 1, order
        if data[:4] == struct.pack(order + "i", 540) and data[4:6] in (b"n+", b"ni", b"\0\0"):
            return 2, order
    return None


def _fields(data: bytes) -> tuple[Fields, str, int]:
    """Return the fields, the byte order, and the bytes that a header has at least in a single file."""
    found = _version(data)
    if len(data) < HEADER_BYTES[found[0] if found else 1]:
        raise VFQError("corrupt_file", f"The file has {len(data)} bytes, fewer than a NIfTI header. Copy it again.")
    if not found:
        analyze = data[:4] in (struct.pack("<i", 348), struct.pack(">i", 348))
        why = "is Analyze 7.5, which does not tell left from right" if analyze else "has no NIfTI header"
        raise VFQError("not_an_image", f"The file is named like NIfTI but {why}. Export the CT as NIfTI.")
    version, order = found
    places = NIFTI_1 if version == 1 else NIFTI_2
    fields = {name: struct.unpack_from(order + form, data, at) for name, (form, at) in places.items()}
    return fields, order, HEADER_BYTES[version] + 4


def _offset(stated: float, least: int) -> int:
    """Return the bytes before the voxels; many writers state 0 if the voxels follow the header."""
    if not 0 <= stated < 2**63:  # true for NaN as well
        raise VFQError(
            "corrupt_file", f"The NIfTI header says that the voxels begin at byte {stated}. Export the CT again."
        )
    return max(int(stated), least)


def _shape(fields: Fields) -> tuple[int, ...]:
    """Return `[k, j, i]` without trailing dimensions of size one; VFQError unless the header describes one volume."""
    count, *sizes = fields["dim"]
    if not 1 <= count <= 7 or min(sizes[:count]) < 1:
        raise VFQError("corrupt_file", f"The NIfTI header gives impossible sizes {fields['dim']}. Export the CT again.")
    if fields["datatype"][0] not in TYPES:
        raise VFQError(
            "not_3d",
            f"Each voxel is a colour, vector or complex value (NIfTI data type {fields['datatype'][0]}), but a CT has "
            "one number for each voxel. Give the original CT.",
        )
    sizes = sizes[:count]
    while len(sizes) > 3 and sizes[-1] == 1:
        sizes.pop()
    check_shape(tuple(sizes[::-1]))
    return tuple(sizes[::-1])


def _matrix(fields: Fields, shape: tuple[int, ...], trust_header: bool) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return ijk_to_ras `(4, 4)` in mm, and notes: the sform, else the qform."""
    spacing = np.array(fields["pixdim"][1:4])
    check_positive(spacing)
    qform_code, sform_code = fields["codes"]
    in_mm = np.diag([UNITS_MM.get(fields["units"][0] & 7, 1.0)] * 3 + [1.0])
    if sform_code > 0:
        sform = np.array([*fields["sform"], 0, 0, 0, 1], float).reshape(4, 4)
        check_position(sform[:3, 3])
        _check_sform(sform, spacing)
        notes = _disagreement(sform, _qform(fields), shape) if qform_code > 0 else ()
        return in_mm @ sform, notes
    if qform_code > 0:
        return in_mm @ _qform(fields), ()
    if not trust_header:
        raise orientation_unknown("sform and qform are both marked as unknown (sform_code and qform_code are 0)")
    return in_mm @ LPS_TO_RAS @ np.diag([*spacing, 1.0]), ()


def _check_sform(sform: np.ndarray, spacing: np.ndarray) -> None:
    lengths = np.linalg.norm(sform[:3, :3], axis=0)
    check_positive(lengths)
    # Before the lengths are compared: shear changes them too, and explains the error better.
    check_tilt(sform)
    # Of sheared slices, some writers give the distance along their normal.
    sizes = (lengths, voxel_size(sform)[::-1])
    if not any(np.allclose(size, spacing, rtol=0.01) for size in sizes):
        raise VFQError(
            "bad_spacing",
            f"The header contradicts itself: the voxel spacing is {times(spacing)} by its pixdim, but "
            f"{times(lengths)} by its sform. Export the CT again.",
        )


def _qform(fields: Fields) -> np.ndarray:
    """Return the `(4, 4)` of the quaternion, in the file's unit (nifti1.h, method 2)."""
    b, c, d, *origin = fields["qform"]
    square = 1 - (b * b + c * c + d * d)
    if square < -MOST_ROUNDED:
        raise VFQError(
            "bad_direction",
            "The qform of the NIfTI header is no rotation (its quaternion is longer than 1). Export the CT again.",
        )
    if square < 1e-7:  # half a turn: the three are made a unit vector
        b, c, d = np.array([b, c, d]) / np.sqrt(b * b + c * c + d * d)
        square = 0.0
    a = np.sqrt(square)
    matrix = np.eye(4)
    matrix[:3, :3] = [
        [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
        [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
        [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
    ]
    qfac = -1.0 if fields["pixdim"][0] < 0 else 1.0
    matrix[:3, :3] *= np.array(fields["pixdim"][1:4]) * [1, 1, qfac]
    matrix[:3, 3] = check_position(origin)
    return matrix


def _disagreement(sform: np.ndarray, qform: np.ndarray, shape: tuple[int, ...]) -> tuple[str, ...]:
    """Return a note if the two place voxels apart. Of a sheared sform there is none, as no qform can agree with it."""
    if is_sheared(sform):
        return ()
    cosines = np.sum(directions(sform) * directions(qform), axis=0)
    angle = np.degrees(np.arccos(np.clip(cosines, -1, 1))).max()
    corners = np.array(np.meshgrid(*([0, size - 1] for size in shape[::-1]), [1])).reshape(4, -1)
    apart = np.abs((np.linalg.inv(sform) @ qform @ corners - corners)[:3]).max()
    if angle <= GREATEST_ANGLE_DEG and apart <= GREATEST_DISTANCE:
        return ()
    return (
        f"The header has two orientations that disagree, by {angle:.1f} degrees and up to {apart:.1f} voxels. The "
        "sform was used, not the qform. Check that left, right, front and back are right.",
    )
