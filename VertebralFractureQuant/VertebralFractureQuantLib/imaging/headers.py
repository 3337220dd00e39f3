"""Headers of image files: of NIfTI, header and voxels are read and checked; of NRRD and MetaImage only the spacing.

ITK repairs or ignores many errors in headers: it fills truncated NIfTI with zeros, and replaces a spacing of zero by
one. Therefore the bytes themselves are checked. Spacings are in the file's units, i first.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from ..errors import VFQError
from .axes import is_sheared, voxel_size
from .checks import check_shape, check_tilt, require_memory

NIFTI_TYPES = {
    2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8",
}  # fmt: skip
UNITS_MM = {1: 1000.0, 2: 1.0, 3: 0.001}  # by the code of NIfTI
NIFTI_PAIR = (".hdr", ".img", ".hdr.gz", ".img.gz")
TEXT_HEADER_BYTES = 1 << 16


@dataclass(frozen=True)
class NiftiHeader:
    """The fields of a NIfTI-1 or NIfTI-2 header that are needed to read its voxels."""

    dim: tuple[int, ...]  # dim[0] is the number of dimensions
    datatype: int
    byte_order: str
    data_offset: int  # bytes before the voxels in their file
    slope: float
    intercept: float
    spacing: np.ndarray  # (3,)
    sform: np.ndarray | None  # (4, 4) RAS; None if its code says that it is not used
    unit_mm: float  # the unit of spacing and sform

    @property
    def sheared(self) -> np.ndarray | None:
        """The sform in mm if it is sheared, else None. ITK cannot read it, or would use the qform in its place."""
        if self.sform is None or not is_sheared(self.sform):
            return None
        return np.diag([self.unit_mm] * 3 + [1.0]) @ self.sform

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape `[k, j, i]`; trailing dimensions of size one beyond the third are dropped."""
        sizes = list(self.dim[1 : self.dim[0] + 1])
        while len(sizes) > 3 and sizes[-1] == 1:
            sizes.pop()
        return tuple(sizes[::-1])

    @property
    def dtype(self) -> np.dtype:
        """Type of the stored values, in the file's byte order."""
        return np.dtype(self.byte_order + NIFTI_TYPES[self.datatype])


def nifti_files(path: Path) -> tuple[Path, Path]:
    """Return the files of the header and of the voxels: .hdr and .img, compressed or not, or else `path` twice.

    VFQError `corrupt_file` if one file of a pair is missing.
    """
    if not path.name.lower().endswith(NIFTI_PAIR):
        return path, path
    stem = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    return _one_of_pair(stem, ".hdr"), _one_of_pair(stem, ".img")


def _one_of_pair(stem: Path, suffix: str) -> Path:
    for name in (suffix, suffix.upper(), suffix + ".gz"):
        if stem.with_suffix(name).exists():
            return stem.with_suffix(name)
    raise VFQError("corrupt_file", f"The {suffix} file that belongs to {stem.name!r} is missing. Copy both files.")


def read_nifti_header(path: Path, alone: bool = True) -> NiftiHeader:
    """Read and check the header of a NIfTI file, compressed or not.

    `alone` : True if the voxels follow in the same file; then they cannot begin before the header's end.

    VFQError `not_an_image`, `corrupt_file`, `not_3d`, `too_few_slices`, `bad_spacing`, `bad_direction`.
    """
    with _open(path) as stream:
        header = _parse_nifti(stream.read(540), alone)
    _check_dimensions(header)
    _check_nifti_spacing(header)
    return header


def read_nifti_voxels(path: Path, header: NiftiHeader, max_bytes: int | None = None) -> np.ndarray:
    """Read all voxels `[k, j, i]`, unscaled, in the file's type.

    VFQError `too_large` before anything is allocated; `corrupt_file` if the file ends early or its gzip checksum
    fails.
    """
    dtype = header.dtype
    promised = int(np.prod(header.shape, dtype=object)) * dtype.itemsize
    require_memory(promised + (0 if dtype == np.int16 else promised // dtype.itemsize * 2), max_bytes)
    voxels = np.empty(header.shape, dtype)
    with _open(path) as stream:
        stream.seek(header.data_offset)
        held = _fill(stream, voxels.reshape(-1).view(np.uint8).data)
        stream.read(1)  # makes gzip compare its checksum
    if held < promised:
        raise VFQError(
            "corrupt_file",
            f"The file has {held} bytes of voxels, but its header says {promised}. Copy or export it again.",
        )
    return voxels


@contextmanager
def _open(path: Path) -> Iterator[IO[bytes]]:
    """Open a file; gzip is decompressed, recognised by its first bytes and not by the file's name."""
    try:
        with path.open("rb") as raw:
            if raw.read(2) != b"\x1f\x8b":
                raw.seek(0)
                yield raw
                return
            raw.seek(0)
            with gzip.GzipFile(fileobj=raw) as stream:
                yield stream  # type: ignore[misc]
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise VFQError(
            "corrupt_file", f"The compressed file is truncated or damaged ({error}). Copy it again."
        ) from None


def write_sheared_nifti(path: Path, voxels: np.ndarray, ijk_to_ras: np.ndarray) -> None:
    """Write `[k, j, i]` int16 and a sheared `(4, 4)` as NIfTI-1 with an sform alone: ITK would write another matrix.

    It is compressed if the name ends in .gz. OSError if it cannot be written.
    """
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, *voxels.shape[::-1], 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, 4, 16)
    struct.pack_into("<8f", header, 76, 1, *np.linalg.norm(ijk_to_ras[:3, :3], axis=0), 0, 0, 0, 0)
    struct.pack_into("<f2fh2b", header, 108, 352, 1, 0, 0, 0, 2)
    struct.pack_into("<2h", header, 252, 0, 1)
    struct.pack_into("<12f", header, 280, *ijk_to_ras[:3].ravel())
    header[344:348] = b"n+1\0"
    data = bytes(header) + np.ascontiguousarray(voxels, "<i2").tobytes()
    path.write_bytes(gzip.compress(data, 6, mtime=0) if path.suffix.lower() == ".gz" else data)


def _fill(stream: IO[bytes], buffer: memoryview) -> int:
    held = 0
    while held < len(buffer):
        count = stream.readinto(buffer[held : held + (1 << 24)])  # type: ignore[attr-defined]
        if not count:
            break
        held += count
    return held


def _parse_nifti(data: bytes, alone: bool) -> NiftiHeader:
    for order in "<>":
        if len(data) >= 348 and data[:4] == struct.pack(order + "i", 348) and data[344:346] in (b"n+", b"ni"):
            return _parse_nifti1(data, order, 352 if alone else 0)
        if len(data) >= 540 and data[:4] == struct.pack(order + "i", 540):
            return _parse_nifti2(data, order, 544 if alone else 0)
    if len(data) < 348:
        raise VFQError("corrupt_file", f"The file has {len(data)} bytes, fewer than a NIfTI header. Copy it again.")
    raise VFQError("not_an_image", "The file is named like NIfTI but has no NIfTI header. Export the CT as NIfTI.")


def _parse_nifti1(data: bytes, order: str, least_offset: int) -> NiftiHeader:
    (sform_code,) = struct.unpack_from(order + "h", data, 254)
    return NiftiHeader(
        dim=struct.unpack_from(order + "8h", data, 40),
        datatype=struct.unpack_from(order + "h", data, 70)[0],
        byte_order=order,
        data_offset=_offset(struct.unpack_from(order + "f", data, 108)[0], least_offset),
        **_scaling(*struct.unpack_from(order + "2f", data, 112)),
        spacing=np.array(struct.unpack_from(order + "3f", data, 80)),
        sform=_sform(struct.unpack_from(order + "12f", data, 280), sform_code),
        unit_mm=UNITS_MM.get(data[123] & 7, 1.0),
    )


def _parse_nifti2(data: bytes, order: str, least_offset: int) -> NiftiHeader:
    (sform_code,) = struct.unpack_from(order + "i", data, 348)
    return NiftiHeader(
        dim=struct.unpack_from(order + "8q", data, 16),
        datatype=struct.unpack_from(order + "h", data, 12)[0],
        byte_order=order,
        data_offset=_offset(struct.unpack_from(order + "q", data, 168)[0], least_offset),
        **_scaling(*struct.unpack_from(order + "2d", data, 176)),
        spacing=np.array(struct.unpack_from(order + "3d", data, 112)),
        sform=_sform(struct.unpack_from(order + "12d", data, 400), sform_code),
        unit_mm=UNITS_MM.get(struct.unpack_from(order + "i", data, 500)[0] & 7, 1.0),
    )


def _offset(stated: float, least: int) -> int:
    """Return the bytes before the voxels; many writers state 0 if the voxels follow the header."""
    if not 0 <= stated < 2**63:  # true for NaN as well
        raise VFQError(
            "corrupt_file", f"The NIfTI header says that the voxels begin at byte {stated}. Export the CT again."
        )
    return max(int(stated), least)


def _scaling(slope: float, intercept: float) -> dict[str, float]:
    """Return slope and intercept; by the standard, a slope of zero or none means that the voxels are not scaled."""
    scaled = np.isfinite(slope) and np.isfinite(intercept) and slope != 0
    return {"slope": float(slope), "intercept": float(intercept)} if scaled else {"slope": 1.0, "intercept": 0.0}


def _sform(values: tuple[float, ...], code: int) -> np.ndarray | None:
    return np.array([*values, 0, 0, 0, 1], float).reshape(4, 4) if code > 0 else None


def _check_dimensions(header: NiftiHeader) -> None:
    """Raise VFQError `corrupt_file`, `not_3d` or `too_few_slices` unless the header describes one volume."""
    if not 1 <= header.dim[0] <= 7 or min(header.dim[1 : header.dim[0] + 1]) < 1:
        raise VFQError("corrupt_file", f"The NIfTI header gives impossible sizes {header.dim}. Export the CT again.")
    if header.datatype not in NIFTI_TYPES:
        raise VFQError(
            "not_3d",
            f"Each voxel is a colour, vector or complex value (NIfTI data type {header.datatype}), but a CT has one "
            "number for each voxel. Give the original CT.",
        )
    check_shape(header.shape)


def _check_nifti_spacing(header: NiftiHeader) -> None:
    check_positive(header.spacing)
    if header.sform is None:
        return
    lengths = np.linalg.norm(header.sform[:3, :3], axis=0)
    check_positive(lengths)
    # Before the lengths are compared: shear changes them too, and explains the error better.
    check_tilt(header.sform)
    # Of sheared slices, some writers give the distance along their normal.
    sizes = (lengths, voxel_size(header.sform)[::-1])
    if not any(np.allclose(size, header.spacing, rtol=0.01) for size in sizes):
        raise VFQError(
            "bad_spacing",
            f"The header contradicts itself: the voxel spacing is {_listed(header.spacing)} by its pixdim, but "
            f"{_listed(lengths)} by its sform. Export the CT again.",
        )


def check_positive(spacing: np.ndarray) -> None:
    """Raise VFQError `bad_spacing` unless every entry of `(3,)` mm is finite and above zero."""
    if not (np.isfinite(spacing).all() and (spacing > 0).all()):
        raise VFQError(
            "bad_spacing",
            f"The header gives a voxel spacing of {_listed(spacing)} mm, but each must be a finite number above 0. "
            "Correct the header or export the CT again.",
        )


def check_text_header(path: Path) -> None:
    """Raise VFQError `bad_spacing` for a zero, negative or NaN spacing in the text header of NRRD or MetaImage."""
    with path.open("rb") as stream:
        text = stream.read(TEXT_HEADER_BYTES).decode("latin-1")
    for line in text.splitlines():
        key, _, value = line.partition(":" if text.startswith("NRRD") else "=")
        spacing = _spacing_of(key.strip().lower(), value)
        if spacing:
            check_positive(np.array(spacing))
        if not line.strip() or key.strip() == "ElementDataFile":
            return  # the voxels follow


def _spacing_of(key: str, value: str) -> list[float] | None:
    try:
        if key in ("elementspacing", "spacings"):
            return [float(v) for v in value.split()]
        if key == "space directions":
            vectors = value.replace("none", "").split(")")
            return [float(np.linalg.norm(np.array(v.strip(" (").split(","), float))) for v in vectors if v.strip()]
    except ValueError:
        return [float("nan")]
    return None


def _listed(values: np.ndarray) -> str:
    return " x ".join(f"{v:.4g}" for v in values)
