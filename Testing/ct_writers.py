"""Writers of NIfTI, NRRD and MetaImage for tests: small, by the standards, and able to write what no library writes.

Each takes a folder, voxels `[k, j, i]` HU and a matrix `(4, 4)` to RAS mm, and returns the file to read. `FORMS` lists
the forms in which CT is found; `data_files` are the files that hold voxels.
"""

from __future__ import annotations

import bz2
import gzip
import struct
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

Writer = Callable[[Path, np.ndarray, np.ndarray], Path]

NIFTI_TYPES = {
    "u1": 2, "i2": 4, "i4": 8, "f4": 16, "f8": 64, "i1": 256, "u2": 512, "u4": 768, "i8": 1024, "u8": 1280,
}  # fmt: skip
NRRD_TYPES = {"i2": "short", "i4": "int32", "i8": "signed long long", "f4": "float", "f8": "double"}
META_TYPES = {"i2": "MET_SHORT", "i4": "MET_INT", "i8": "MET_LONG_LONG", "f4": "MET_FLOAT", "f8": "MET_DOUBLE"}


def quaternion(matrix: np.ndarray) -> tuple[list[float], float]:
    """Return b, c, d and qfac of the axes of `(4, 4)`, which are at right angles."""
    axes = matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0)
    qfac = 1.0 if np.linalg.det(axes) > 0 else -1.0
    x, y, z, w = Rotation.from_matrix(axes * [1, 1, qfac]).as_quat()
    return [value if w >= 0 else -value for value in (x, y, z)], qfac


def nifti(
    folder: Path,
    voxels: np.ndarray,
    matrix: np.ndarray,
    name: str = "a.nii",
    version: int = 1,
    order: str = "<",
    dtype: str = "i2",
    codes: tuple[int, int] = (1, 1),
    scaling: tuple[float, float] = (0.0, 0.0),
    more_sizes: tuple[int, ...] = (),
    unit_mm: tuple[int, float] = (2, 1.0),
    extension: bytes = b"",
    zipped: bool | None = None,
    qform: np.ndarray | None = None,
) -> Path:
    """Write NIfTI; a name that ends in .hdr or .hdr.gz gives a pair. `codes` are those of qform and sform.

    `zipped` : gzip or not, whatever the name says. `qform` : another matrix than the sform's.
    """
    code, factor = unit_mm
    matrix = np.diag([1 / factor] * 3 + [1.0]) @ matrix
    other = matrix if qform is None else qform
    turn, qfac = quaternion(other)
    pixdim = [qfac, *np.linalg.norm(other[:3, :3], axis=0), 1, 1, 1, 1]
    sizes = [*voxels.shape[::-1], *more_sizes]
    dim = [len(sizes), *sizes, *[1] * (7 - len(sizes))]
    pair = ".hdr" in name
    offset = 0 if pair else (352 if version == 1 else 544) + len(extension)
    form = [*turn, *other[:3, 3]]
    if version == 1:
        header = bytearray(348)
        fields = {0: ("i", [348]), 40: ("8h", dim), 70: ("2h", [NIFTI_TYPES[dtype], 8 * int(dtype[1])])}
        fields |= {76: ("8f", pixdim), 108: ("3f", [offset, *scaling]), 123: ("B", [code]), 252: ("2h", codes)}
        fields |= {256: ("6f", form), 280: ("12f", matrix[:3].ravel())}
        header[344:348] = b"ni1\0" if pair else b"n+1\0"
    else:
        header = bytearray(540)
        fields = {0: ("i", [540]), 12: ("2h", [NIFTI_TYPES[dtype], 8 * int(dtype[1])]), 16: ("8q", dim)}
        fields |= {104: ("8d", pixdim), 168: ("q", [offset]), 176: ("2d", scaling), 344: ("2i", codes)}
        fields |= {352: ("6d", form), 400: ("12d", matrix[:3].ravel()), 500: ("i", [code])}
        header[4:12] = b"ni2\0\r\n\x1a\n" if pair else b"n+2\0\r\n\x1a\n"
    for at, (kind, values) in fields.items():
        struct.pack_into(order + kind, header, at, *values)
    slope, intercept = scaling if scaling[0] > 0 else (1, 0)
    data = np.rint((voxels - intercept) / slope).astype(order + dtype).tobytes()
    packed = gzip.compress if (name.endswith(".gz") if zipped is None else zipped) else bytes
    if pair:
        (folder / name.replace(".hdr", ".img")).write_bytes(packed(data))
        (folder / name).write_bytes(packed(bytes(header)))
    else:
        mark = bytes([1, 0, 0, 0]) if extension else bytes(4)
        (folder / name).write_bytes(packed(bytes(header) + mark + extension + data))
    return folder / name


ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "raw": bytes,
    "gzip": partial(gzip.compress, mtime=0),
    "gzip, members": lambda data: gzip.compress(data[:1000]) + gzip.compress(data[1000:]),
    "bzip2": bz2.compress,
    "hex": lambda data: data.hex("\n", 40).encode(),
    "zlib": zlib.compress,
}


def _encoded(values: np.ndarray, encoding: str) -> bytes:
    if encoding == "ascii":
        return "\n".join(" ".join(f"{value:g}" for value in row) for row in values.reshape(-1, 7)).encode() + b"\n"
    return ENCODERS[encoding](values.tobytes())


def nrrd(
    folder: Path,
    voxels: np.ndarray,
    matrix: np.ndarray,
    name: str = "a.nrrd",
    encoding: str = "raw",
    dtype: str = "i2",
    order: str = "<",
    space: str = "left-posterior-superior",
    to_ras: tuple[int, int, int] = (-1, -1, 1),
    unit_mm: tuple[str, float] = ("", 1.0),
    files: str = "",
    before: bytes = b"",
    extra: str = "",
    sizes: str = "{} {} {}",
    vectors: str = "{} {} {}",
    version: int = 5,
    eol: str = "\n",
) -> Path:
    """Write NRRD. `files` : "" for the voxels in the file, "one", "list", "slabs" or "pattern" for others.

    `before` : bytes before the voxels, which `extra` says to skip. `sizes`, `vectors` : room for further axes.
    """
    unit, factor = unit_mm
    placed = np.diag([value / factor for value in to_ras] + [1.0]) @ matrix
    written = ["({!r},{!r},{!r})".format(*map(float, placed[:3, axis])) for axis in range(4)]
    lines = [f"NRRD000{version}", "# a comment", f"type: {NRRD_TYPES[dtype]}"]
    lines += [f"dimension: {len(sizes.split())}", f"space: {space}", "sizes: " + sizes.format(*voxels.shape[::-1])]
    lines += ["space directions: " + vectors.format(*written[:3]), f"space origin: {written[3]}"]
    lines += [f"space units: {' '.join([f'{chr(34)}{unit}{chr(34)}'] * 3)}"] if unit else []
    lines += [f"endian: {'little' if order == '<' else 'big'}", f"encoding: {encoding.split(',')[0]}", "key:=a: value"]
    lines += [extra] if extra else []
    values = voxels.astype(order + dtype)
    count = {"": 0, "one": 1, "slabs": 3}.get(files, len(voxels))
    names = [f"a{n:02d}.dat" for n in range(count)]
    for part, piece in zip(names, np.split(values, count) if count else [], strict=True):
        (folder / part).write_bytes(before + _encoded(piece, encoding))
    listed = eol.join(names)
    lines += {
        "": [""],
        "one": ["data file: a00.dat"],
        "list": ["data file: LIST", listed],
        "slabs": ["data file: LIST 3", listed],
        "pattern": [f"data file: a%02d.dat 0 {count - 1} 1"],
    }[files]
    body = before + _encoded(values, encoding) if not files else b""
    (folder / name).write_bytes((eol.join(lines) + eol).encode() + body)
    return folder / name


def metaimage(
    folder: Path,
    voxels: np.ndarray,
    matrix: np.ndarray,
    name: str = "a.mha",
    encoding: str = "raw",
    dtype: str = "i2",
    order: str = "<",
    files: str = "",
    before: bytes = b"",
    extra: str = "",
    words: tuple[str, str] = ("TransformMatrix", "Offset"),
    more_sizes: tuple[int, ...] = (),
    eol: str = "\n",
    said_size: bool = True,
    unit: tuple[str, float] = ("", 1.0),
    scaling: tuple[float, float] | None = None,
) -> Path:
    """Write MetaImage. `files` as in `nrrd`; `before` : bytes before the voxels, which `extra` says to skip."""
    lps = np.diag([-1.0 / unit[1], -1.0 / unit[1], 1.0 / unit[1], 1.0]) @ matrix
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    n = 3 + len(more_sizes)
    axes, origin, lengths = np.eye(n), np.zeros(n), np.ones(n)
    axes[:3, :3], origin[:3], lengths[:3] = lps[:3, :3] / spacing, lps[:3, 3], spacing
    joined = lambda values: " ".join(repr(float(value)) for value in values)  # noqa: E731
    stored = voxels if scaling is None else np.rint((voxels - scaling[1]) / scaling[0])
    values = stored.astype(order + dtype)
    body = _encoded(values, encoding)
    lines = ["ObjectType = Image", f"NDims = {n}", f"BinaryData = {encoding != 'ascii'}"]
    lines += [f"BinaryDataByteOrderMSB = {order == '>'}", f"CompressedData = {encoding in ('zlib', 'gzip')}"]
    lines += [f"CompressedDataSize = {len(body)}"] if said_size and encoding in ("zlib", "gzip") and not files else []
    lines += [f"{words[0]} = {joined(axes.T.ravel())}", f"{words[1]} = {joined(origin)}", "CenterOfRotation = 0 0 0"]
    lines += ["AnatomicalOrientation = RAI", f"ElementSpacing = {joined(lengths)}"]
    lines += [f"DistanceUnits = {unit[0]}"] if unit[0] else []
    lines += [
        f"DimSize = {' '.join(map(str, (*voxels.shape[::-1], *more_sizes)))}",
        f"ElementType = {META_TYPES[dtype]}",
    ]
    if scaling is not None:
        lines += [f"ElementToIntensityFunction{w} = {v!r}" for w, v in zip(("Slope", "Offset"), scaling, strict=True)]
    lines += [extra] if extra else []
    count = {"": 0, "one": 1, "slabs": 1}.get(files, len(voxels))
    names = [f"a{k:02d}.dat" for k in range(count)]
    for part, piece in zip(names, np.split(values, count) if count else [], strict=True):
        (folder / part).write_bytes(before + _encoded(piece, encoding))
    data = {"": "LOCAL", "one": "a00.dat", "list": "LIST", "slabs": "LIST 3", "pattern": f"a%02d.dat 0 {count - 1} 1"}
    lines += [f"ElementDataFile = {data[files]}"] + (names if files in ("list", "slabs") else [])
    (folder / name).write_bytes((eol.join(lines) + eol).encode() + (b"" if files else before + body))
    return folder / name


def data_files(path: Path) -> list[Path]:
    """Return the files that hold voxels."""
    others = sorted(p for p in path.parent.iterdir() if p.suffix == ".dat" or ".img" in p.name)
    return others or [path]


CT_1024 = (1.0, -1024.0)
NIFTI_FORMS: dict[str, Writer] = {
    "NIfTI-1 .nii": nifti,
    "NIfTI-1 .nii.gz": partial(nifti, name="a.nii.gz"),
    "NIfTI-1 pair": partial(nifti, name="a.hdr"),
    "NIfTI-1 pair, gzip": partial(nifti, name="a.hdr.gz"),
    "NIfTI-1 big-endian": partial(nifti, order=">"),
    "NIfTI-1 big-endian .nii.gz": partial(nifti, order=">", name="a.nii.gz", dtype="f4"),
    "NIfTI-1 qform alone": partial(nifti, codes=(1, 0)),
    "NIfTI-1 sform alone": partial(nifti, codes=(0, 1)),
    "NIfTI-1 sform of code 4": partial(nifti, codes=(1, 4)),
    "NIfTI-1 one volume in four dimensions": partial(nifti, more_sizes=(1,)),
    "NIfTI-1 one volume in five dimensions": partial(nifti, more_sizes=(1, 1), name="a.nii.gz"),
    "NIfTI-1 in metres": partial(nifti, unit_mm=(1, 1000.0)),
    "NIfTI-1 in micrometres": partial(nifti, unit_mm=(3, 0.001)),
    "NIfTI-1 without unit": partial(nifti, unit_mm=(0, 1.0)),
    "NIfTI-1 with an extension": partial(nifti, extension=bytes([32, 0, 0, 0, 6, 0, 0, 0]) + bytes(24)),
    "NIfTI-1 gzip called .nii": partial(nifti, zipped=True),
    "NIfTI-1 plain called .nii.gz": partial(nifti, name="a.nii.gz", zipped=False),
    "NIfTI-2 .nii": partial(nifti, version=2),
    "NIfTI-2 .nii.gz": partial(nifti, version=2, name="a.nii.gz"),
    "NIfTI-2 pair": partial(nifti, version=2, name="a.hdr"),
    "NIfTI-2 big-endian": partial(nifti, version=2, order=">", dtype="i4"),
    "NIfTI-2 qform alone": partial(nifti, version=2, codes=(1, 0)),
    "NIfTI-2 sform alone": partial(nifti, version=2, codes=(0, 1)),
    **{f"NIfTI-1 {dtype}": partial(nifti, dtype=dtype) for dtype in ("i4", "i8", "f4", "f8")},
    **{f"NIfTI-1 {dtype}, intercept": partial(nifti, dtype=dtype, scaling=CT_1024) for dtype in ("u2", "u4", "u8")},
    "NIfTI-1 i2, intercept": partial(nifti, scaling=CT_1024),
    "NIfTI-1 f4, slope": partial(nifti, dtype="f4", scaling=(0.5, 12.0)),
    "NIfTI-1 i2 big-endian, slope": partial(nifti, order=">", scaling=(0.25, 10.0)),
    "NIfTI-1 slope without number": partial(nifti, scaling=(float("nan"), float("nan"))),
}  # fmt: skip
NRRD_FORMS: dict[str, Writer] = {
    "NRRD raw": nrrd,
    **{f"NRRD {e}": partial(nrrd, encoding=e) for e in ("gzip", "gzip, members", "bzip2", "ascii", "hex")},
    **{f"NRRD {dtype}": partial(nrrd, dtype=dtype) for dtype in ("i4", "i8", "f4", "f8")},
    "NRRD big-endian": partial(nrrd, order=">"),
    "NRRD big-endian gzip": partial(nrrd, order=">", encoding="gzip", dtype="i4"),
    "NRRD big-endian hex": partial(nrrd, order=">", encoding="hex"),
    "NRRD lines of Windows": partial(nrrd, eol="\r\n"),
    "NRRD of version 1 to 4": partial(nrrd, version=4),
    "NRRD RAS": partial(nrrd, space="right-anterior-superior", to_ras=(1, 1, 1)),
    "NRRD LAS": partial(nrrd, space="LAS", to_ras=(-1, 1, 1)),
    "NRRD LPS in short": partial(nrrd, space="LPS"),
    "NRRD in cm": partial(nrrd, unit_mm=("cm", 10.0)),
    "NRRD in mm": partial(nrrd, unit_mm=("mm", 1.0)),
    "NRRD detached": partial(nrrd, name="a.nhdr", files="one"),
    "NRRD detached gzip": partial(nrrd, name="a.nhdr", files="one", encoding="gzip"),
    "NRRD detached, called .nrrd": partial(nrrd, files="one"),
    "NRRD LIST": partial(nrrd, name="a.nhdr", files="list"),
    "NRRD LIST, gzip": partial(nrrd, name="a.nhdr", files="list", encoding="gzip"),
    "NRRD LIST of slabs": partial(nrrd, name="a.nhdr", files="slabs"),
    "NRRD pattern": partial(nrrd, name="a.nhdr", files="pattern"),
    "NRRD pattern, ascii": partial(nrrd, name="a.nhdr", files="pattern", encoding="ascii"),
    "NRRD byte skip": partial(nrrd, before=b"0123456789", extra="byte skip: 10"),
    "NRRD byte skip -1": partial(nrrd, before=b"0123", extra="byte skip: -1"),
    "NRRD byte skip -1, detached": partial(nrrd, name="a.nhdr", files="one", before=b"01", extra="byteskip: -1"),
    "NRRD line skip": partial(nrrd, before=b"one\ntwo\n", extra="line skip: 2"),
    "NRRD line and byte skip": partial(nrrd, before=b"one\nab", extra="line skip: 1\nbyte skip: 2"),
    "NRRD line skip, gzip": partial(nrrd, before=b"one\n", extra="lineskip: 1", encoding="gzip"),
    "NRRD four dimensions, list last": partial(nrrd, sizes="{} {} {} 1", vectors="{} {} {} none"),
    "NRRD four dimensions, list first": partial(nrrd, sizes="1 {} {} {}", vectors="none {} {} {}"),
}  # fmt: skip
META_FORMS: dict[str, Writer] = {
    "MetaImage raw": metaimage,
    "MetaImage zlib": partial(metaimage, encoding="zlib"),
    "MetaImage zlib without its size": partial(metaimage, encoding="zlib", said_size=False),
    "MetaImage gzip": partial(metaimage, encoding="gzip"),
    "MetaImage ascii": partial(metaimage, encoding="ascii"),
    **{f"MetaImage {dtype}": partial(metaimage, dtype=dtype) for dtype in ("i4", "i8", "f4", "f8")},
    "MetaImage big-endian": partial(metaimage, order=">"),
    "MetaImage big-endian zlib": partial(metaimage, order=">", encoding="zlib"),
    "MetaImage lines of Windows": partial(metaimage, eol="\r\n"),
    "MetaImage Rotation, Position": partial(metaimage, words=("Rotation", "Position")),
    "MetaImage Orientation, Origin": partial(metaimage, words=("Orientation", "Origin")),
    "MetaImage four dimensions": partial(metaimage, more_sizes=(1,)),
    "MetaImage in cm": partial(metaimage, unit=("cm", 10.0)),
    "MetaImage apart": partial(metaimage, name="a.mhd", files="one"),
    "MetaImage apart, zlib": partial(metaimage, name="a.mhd", files="one", encoding="zlib"),
    "MetaImage apart, ascii": partial(metaimage, name="a.mhd", files="one", encoding="ascii"),
    "MetaImage LIST": partial(metaimage, name="a.mhd", files="list"),
    "MetaImage LIST, zlib": partial(metaimage, name="a.mhd", files="list", encoding="zlib"),
    "MetaImage LIST of one": partial(metaimage, name="a.mhd", files="slabs"),
    "MetaImage pattern": partial(metaimage, name="a.mhd", files="pattern"),
    "MetaImage HeaderSize": partial(metaimage, name="a.mhd", files="one", before=b"01234", extra="HeaderSize = 5"),
    "MetaImage HeaderSize -1": partial(metaimage, name="a.mhd", files="one", before=b"01", extra="HeaderSize = -1"),
    "MetaImage HeaderSize -1, LOCAL": partial(metaimage, before=b"0123", extra="HeaderSize = -1"),
    "MetaImage scaled": partial(metaimage, scaling=(0.5, 3.0)),
}  # fmt: skip
FORMS = NIFTI_FORMS | NRRD_FORMS | META_FORMS
