"""The header of an NRRD file, with the voxels in the same file or in others: a `StoredCT`.

The standard is https://teem.sourceforge.net/nrrd/format.html. A space that does not tell left, front and head (such as
3D-right-handed), or none, is no orientation.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np

from ..errors import VFQError
from .checks import LPS_TO_RAS, check_position, check_positive, check_shape, orientation_unknown
from .stored import LAST_BYTES, Encoding, Part, StoredCT
from .text_header import HEADER_BYTES, bad_header, file_series, numbers, sizes_of, split_lines

TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
ENCODINGS: dict[str, Encoding] = {
    "raw": "raw", "gz": "deflate", "gzip": "deflate", "bz2": "bzip2", "bzip2": "bzip2",
    "txt": "ascii", "text": "ascii", "ascii": "ascii", "hex": "hex",
}  # fmt: skip
# The signs that turn a space into RAS, by its name without hyphens and without time.
SPACES = {
    "rightanteriorsuperior": (1, 1, 1), "ras": (1, 1, 1), "rast": (1, 1, 1),
    "leftanteriorsuperior": (-1, 1, 1), "las": (-1, 1, 1), "last": (-1, 1, 1),
    "leftposteriorsuperior": (-1, -1, 1), "lps": (-1, -1, 1), "lpst": (-1, -1, 1),
}  # fmt: skip
UNITS_MM = {
    "": 1.0, "???": 1.0, "mm": 1.0, "millimeter": 1.0, "millimeters": 1.0, "millimetre": 1.0, "millimetres": 1.0,
    "cm": 10.0, "centimeter": 10.0, "centimeters": 10.0, "m": 1000.0, "meter": 1000.0, "meters": 1000.0,
    "um": 1e-3, "\u00b5m": 1e-3, "\u03bcm": 1e-3, "micrometer": 1e-3, "micrometers": 1e-3, "micron": 1e-3,
}  # fmt: skip

Fields = dict[str, str]


def nrrd_header(path: Path, trust_header: bool = False) -> StoredCT:
    """Read and check the header of an NRRD file.

    `trust_header` : without an orientation, take the axes as running to the left, to the back and to the head.

    VFQError `not_an_image`, `corrupt_file`, `not_3d`, `too_few_slices`, `bad_spacing`, `orientation_unknown`.
    """
    fields, names, end = _fields(path)
    sizes = sizes_of(fields, "sizes", "dimension")
    encoding = ENCODINGS.get(fields.get("encoding", "").lower())
    if not encoding:
        raise VFQError(
            "not_an_image",
            f"The voxels have the encoding {fields.get('encoding')!r}, which cannot be read. Write them with the "
            "encoding gzip.",
        )
    axes, vectors = _axes(fields, sizes)
    shape = tuple(sizes[axis] for axis in axes[::-1])
    check_shape(shape)
    return StoredCT(
        shape,
        _dtype(fields, encoding),
        _parts(path, fields, names, sizes, end, encoding),
        encoding,
        _matrix(fields, vectors, len(sizes), axes, trust_header),
    )


def _fields(path: Path) -> tuple[Fields, list[str], int]:
    """Return the fields by their names without spaces, the lines after a LIST, and the bytes of the header."""
    with path.open("rb") as stream:
        data = stream.read(HEADER_BYTES)
    if not data.startswith(b"NRRD"):
        raise VFQError("not_an_image", f"{path.name!r} is named like NRRD but has no NRRD header. Export the CT again.")
    blank = re.search(rb"\r?\n\r?\n", data)
    lines = split_lines(data[: blank.start()] if blank else data)
    fields: Fields = {}
    for n, line in enumerate(lines[1:], start=2):
        key, _, value = line.partition(":")
        if line.startswith("#") or value.startswith("="):
            continue  # a comment, or a pair of key and value, which is no field
        name = key.lower().replace(" ", "")
        fields.setdefault("centerings" if name == "centers" else name, value.strip())
        if name == "datafile" and value.split()[:1] == ["LIST"]:
            return fields, [line for line in lines[n:] if line.strip()], len(data)
    return fields, [], blank.end() if blank else len(data)


def _dtype(fields: Fields, encoding: Encoding) -> np.dtype:
    stated = " ".join(fields.get("type", "").lower().split())
    code = next((code for code, names in TYPES.items() if stated in names), None)
    if code is None:
        raise VFQError(
            "not_3d", f"The voxels are of type {stated[:40]!r}, but a CT has one number for each voxel. Give the CT."
        )
    endian = fields.get("endian", "").lower()
    if endian not in ("little", "big") and code[1] != "1" and encoding != "ascii":
        raise bad_header("it does not say the byte order of the voxels (endian)")
    return np.dtype((">" if endian == "big" else "<") + code)


def _axes(fields: Fields, sizes: list[int]) -> tuple[list[int], list[list[float]]]:
    """Return the three axes in space, fastest first, and their vectors, if the header gives them.

    VFQError `not_3d` if there are more values for each voxel.
    """
    if "spacedirections" not in fields:
        count = len(sizes)
        while count > 3 and sizes[count - 1] == 1:
            count -= 1
        return list(range(count)), []
    vectors = _vectors(fields["spacedirections"])
    if len(vectors) != len(sizes):
        raise bad_header("it does not give one space direction for each axis")
    # Colours have no direction. The fourth number of a direction is time.
    axes = [n for n, vector in enumerate(vectors) if vector and (len(vector) <= 3 or any(vector[:3]))]
    if len(axes) != 3:
        check_shape(tuple(sizes[axis] for axis in axes[::-1]))
    if any(size > 1 for n, size in enumerate(sizes) if n not in axes):
        raise VFQError(
            "not_3d",
            f"The image has {len(sizes)} dimensions ({' x '.join(map(str, sizes))}), but each voxel of a CT has one "
            "value. Give a single volume.",
        )
    found = [vectors[axis][:3] for axis in axes]
    if any(len(vector) != 3 for vector in found):
        raise bad_header("its space directions do not have three numbers")
    return axes, found


def _vectors(text: str) -> list[list[float]]:
    """Return each vector, empty for `none`."""
    try:
        return [
            [] if word.lower() == "none" else [float(number) for number in word.strip("()").split(",")]
            for word in re.findall(r"none|\([^)]*\)", text, re.IGNORECASE)
        ]
    except ValueError:
        raise bad_header("its space directions or its origin are no numbers") from None


def _matrix(
    fields: Fields, vectors: list[list[float]], dimension: int, axes: list[int], trust_header: bool
) -> np.ndarray:
    """Return ijk_to_ras `(4, 4)` in mm. Without directions or a space, LPS is taken if the header is trusted."""
    space = fields.get("space", "").lower().replace("-", "").replace(" ", "").removesuffix("time")
    matrix = np.eye(4)
    if vectors:
        matrix[:3, :3] = np.transpose(vectors)
        origin = _vectors(fields.get("spaceorigin", "")) or [[0.0, 0.0, 0.0]]
        if len(origin[0]) < 3:
            raise bad_header("its space origin does not have three numbers")
        matrix[:3, 3] = check_position(origin[0][:3])
        quoted = re.findall(r'"([^"]*)"', fields.get("spaceunits", ""))
    else:
        spacings = numbers(fields, "spacings", float, count=dimension) if "spacings" in fields else []
        if not spacings:
            raise VFQError("bad_spacing", "The header gives no voxel spacing. Export the CT again.")
        matrix[:3, :3] = np.diag([spacings[axis] for axis in axes])
        quoted = re.findall(r'"([^"]*)"', fields.get("units", ""))
        quoted = [quoted[axis] for axis in axes] if len(quoted) == dimension else []
    check_positive(np.linalg.norm(matrix[:3, :3], axis=0) if vectors else np.diag(matrix)[:3])
    if (not vectors or space not in SPACES) and not trust_header:
        raise orientation_unknown(
            f"the space {fields['space'][:40]!r} does not tell left, front and head"
            if vectors and space
            else "it has no space directions in a space such as left-posterior-superior"
        )
    to_ras = np.diag([*SPACES[space], 1.0]) if space in SPACES else LPS_TO_RAS
    return to_ras @ np.diag([*_units_mm(quoted), 1.0]) @ matrix


def _units_mm(names: list[str]) -> list[float]:
    found = [UNITS_MM.get(name.strip().lower()) for name in names[:3]]
    if None in found:
        raise VFQError(
            "bad_spacing",
            f"The header gives the voxel spacing in {names[found.index(None)][:40]!r}, not in mm. Correct the header "
            "or export the CT again.",
        )
    return [unit for unit in found if unit] if len(found) == 3 else [1.0] * 3


def _parts(
    path: Path, fields: Fields, names: list[str], sizes: list[int], end: int, encoding: Encoding
) -> tuple[Part, ...]:
    skip = numbers(fields, "byteskip", int, count=1)[0] if "byteskip" in fields else 0
    lines = numbers(fields, "lineskip", int, count=1)[0] if "lineskip" in fields else 0
    if skip < LAST_BYTES or lines < 0 or (skip == LAST_BYTES and encoding in ("ascii", "hex")):
        raise bad_header(f"it says to skip {skip} bytes and {lines} lines")
    stated = fields.get("datafile")
    if stated is None:
        return (Part(path, end, lines, skip),)
    words = stated.split()
    if words[:1] == ["LIST"]:
        given = words[1:]
    elif series := re.fullmatch(r"(.*%\S*) +(-?\d+) +(-?\d+) +(-?\d+)(?: +(\d+))?", stated):
        first, last, step = (int(number) for number in series.groups()[1:4])
        names = file_series(series[1], first, last, step, math.prod(sizes))
        given = [series[5]] if series[5] else []
    else:
        return (Part(path.parent / stated, 0, lines, skip),)
    _check_count(len(names), sizes, given)
    return tuple(Part(path.parent / name, 0, lines, skip) for name in names)


def _check_count(count: int, sizes: list[int], given: list[str]) -> None:
    """Raise VFQError `corrupt_file` unless `count` files of the stated dimension make up the volume."""
    dimension = int(given[0]) if given and given[0].isdecimal() else len(sizes) - 1
    expected = math.prod(sizes[dimension:])
    if count != expected and (dimension < len(sizes) or count == 0 or sizes[-1] % count):
        raise bad_header(f"it lists {count} files, but its sizes need {expected}")
