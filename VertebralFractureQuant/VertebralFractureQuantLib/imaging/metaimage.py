"""The header of a MetaImage file (.mha, .mhd), with the voxels in the same file or in others: a `StoredCT`.

The standard is https://docs.itk.org/en/latest/learn/metaio.html; its world is LPS. AnatomicalOrientation is not used:
programs write it in two opposite meanings.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np

from ..errors import VFQError
from .checks import LPS_TO_RAS, check_position, check_positive, check_shape, orientation_unknown
from .stored import LAST_BYTES, Part, StoredCT
from .text_header import HEADER_BYTES, bad_header, file_series, numbers, sizes_of, split_lines

TYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4",
    "MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4", "MET_DOUBLE": "f8",
}  # fmt: skip
UNITS_MM = {"um": 1e-3, "mm": 1.0, "cm": 10.0}
LINE = re.compile(r"\s*(\w+)\s*[=:]\s*(.*?)\s*")

Fields = dict[str, str]


def metaimage_header(path: Path, trust_header: bool = False) -> StoredCT:
    """Read and check the header of a MetaImage file.

    `trust_header` : without an orientation, take the axes as running to the left, to the back and to the head.

    VFQError `not_an_image`, `corrupt_file`, `not_3d`, `too_few_slices`, `bad_spacing`, `bad_direction`,
    `orientation_unknown`.
    """
    fields, names, end = _fields(path)
    sizes = sizes_of(fields, "dimsize", "ndims")
    if fields.get("elementnumberofchannels", "1") != "1":
        raise VFQError("not_3d", "Each voxel has several values (a colour or vector), but a CT has one. Give the CT.")
    dimension = len(sizes)
    while dimension > 3 and sizes[dimension - 1] == 1:
        dimension -= 1
    shape = tuple(sizes[:dimension][::-1])
    check_shape(shape)
    slope, intercept, notes = _scaling(fields)
    binary = _flag(fields, "binarydata", "True")
    encoding = ("deflate" if _flag(fields, "compresseddata") else "raw") if binary else "ascii"
    parts = _parts(path, fields, names, sizes, end)
    matrix = _matrix(fields, len(sizes), trust_header)
    return StoredCT(shape, _dtype(fields), parts, encoding, matrix, slope, intercept, notes)  # type: ignore[arg-type]


def is_metaimage(data: bytes) -> bool:
    """True if the first bytes of a file are a line of a MetaImage header."""
    return bool(re.match(rb"\s*(ObjectType|NDims|Comment)\s*[=:]", data, re.IGNORECASE))


def _fields(path: Path) -> tuple[Fields, list[str], int]:
    """Return the fields by their names in lower case, the lines after the last field, and the bytes of the header."""
    with path.open("rb") as stream:
        data = stream.read(HEADER_BYTES)
    fields: Fields = {}
    last = re.search(rb"(?:^|\n)\s*ElementDataFile\s*[=:][^\n]*(?:\n|$)", data, re.IGNORECASE)
    for line in split_lines(data[: last.end()] if last else b""):
        if found := LINE.fullmatch(line):
            fields.setdefault(found[1].lower(), found[2])
    if not last or not {"ndims", "dimsize", "elementtype"} <= fields.keys():
        raise VFQError(
            "not_an_image", f"{path.name!r} is named like MetaImage but has no such header. Export the CT again."
        )
    following = data[last.end() :] if fields["elementdatafile"].startswith("LIST") else b""
    return fields, [line.strip() for line in split_lines(following) if line.strip()], last.end()


def _flag(fields: Fields, name: str, otherwise: str = "False") -> bool:
    return fields.get(name, otherwise)[:1] in ("T", "t", "1", "Y", "y")


def _dtype(fields: Fields) -> np.dtype:
    code = TYPES.get(fields["elementtype"])
    if code is None:
        raise VFQError(
            "not_3d",
            f"The voxels are of type {fields['elementtype'][:40]!r}, but a CT has one number for each voxel. Give the "
            "CT.",
        )
    big = _flag(fields, "binarydatabyteordermsb") or _flag(fields, "elementbyteordermsb")
    return np.dtype((">" if big else "<") + code)


def _scaling(fields: Fields) -> tuple[float, float, tuple[str, ...]]:
    names = ("elementtointensityfunctionslope", "elementtointensityfunctionoffset")
    slope, intercept = (
        numbers(fields, name, float, count=1)[0] if name in fields else otherwise
        for name, otherwise in zip(names, (1.0, 0.0), strict=True)
    )
    if not np.isfinite([slope, intercept]).all() or slope == 0:
        raise bad_header("its ElementToIntensityFunction is not a scaling")
    if (slope, intercept) == (1.0, 0.0):
        return slope, intercept, ()
    note = (
        f"The stored values were multiplied by {slope:g}, and {intercept:g} was added, as "
        "ElementToIntensityFunction in the header says. Some programs ignore it."
    )
    return slope, intercept, (note,)


def _matrix(fields: Fields, dimension: int, trust_header: bool) -> np.ndarray:
    """Return ijk_to_ras `(4, 4)` in mm."""
    name = next((name for name in ("elementspacing", "elementsize") if name in fields), None)
    if name is None:
        raise VFQError("bad_spacing", "The header gives no voxel spacing (ElementSpacing). Export the CT again.")
    spacing = np.array(numbers(fields, name, float, count=dimension)[:3])
    check_positive(spacing)
    axes = _directions(fields, dimension, trust_header)
    unit = UNITS_MM.get(fields.get("distanceunits", "mm").lower(), 1.0)
    lps = np.eye(4)
    lps[:3, :3] = axes * spacing * unit
    position = next((name for name in ("offset", "position", "origin") if name in fields), None)
    if position:
        lps[:3, 3] = check_position(numbers(fields, position, float, count=dimension)[:3]) * unit
    return LPS_TO_RAS @ lps


def _directions(fields: Fields, dimension: int, trust_header: bool) -> np.ndarray:
    """Return the directions of the axes, `(3, 3)`: columns i, j, k, LPS."""
    name = next((name for name in ("transformmatrix", "rotation", "orientation") if name in fields), None)
    if name is None:
        if not trust_header:
            raise orientation_unknown("it has no TransformMatrix")
        return np.eye(3)
    try:
        values = np.array([float(word) for word in fields[name].split()]).reshape(dimension, dimension)
    except ValueError:
        raise bad_header(f"its {name} is not {dimension} x {dimension} numbers") from None
    axes: np.ndarray = values[:3, :3].T
    lengths = np.linalg.norm(axes, axis=0)
    if not np.allclose(lengths, 1, atol=0.01):  # true for NaN as well
        raise VFQError(
            "bad_direction",
            f"The directions in TransformMatrix have the lengths {' x '.join(f'{v:.4g}' for v in lengths)}, but each "
            "must be 1, so the voxel spacing is unclear. Correct the header or export the CT again.",
        )
    return axes


def _parts(path: Path, fields: Fields, names: list[str], sizes: list[int], end: int) -> tuple[Part, ...]:
    header = numbers(fields, "headersize", int, count=1)[0] if "headersize" in fields else 0
    skip, start = (LAST_BYTES, 0) if header == -1 else (0, max(header, 0))
    stated = fields["elementdatafile"]
    if stated.lower() == "local":
        return (Part(path, start or end, skip=skip),)
    words = stated.split()
    if words[:1] == ["LIST"]:
        dimension = int(words[1]) if words[1:] and words[1].isdecimal() else len(sizes) - 1
        count = math.prod(sizes[dimension:])
        if len(names) != count:
            raise bad_header(f"it lists {len(names)} files, but its sizes need {count}")
    elif "%" in stated:
        names = _numbered(words, sizes)
    else:
        names = [stated]
    return tuple(Part(path.parent / name, start, skip=skip) for name in names)


def _numbered(words: list[str], sizes: list[int]) -> list[str]:
    """Return the names of files such as `slice%03d.raw 1 112 1`; the first number is 1 unless it is given."""
    try:
        first, *others = [int(word) for word in words[1:4]] or [1]
    except ValueError:
        raise bad_header("its ElementDataFile is not a name followed by numbers") from None
    step = others[1] if len(others) > 1 else 1
    last = others[0] if others else first + sizes[-1] - 1
    if len(range(first, last + 1, step or 1)) < sizes[-1] or step < 1:
        raise bad_header(f"it numbers its files from {first} to {last} in steps of {step}, but has {sizes[-1]} slices")
    return file_series(words[0], first, first + (sizes[-1] - 1) * step, step, sizes[-1])
