"""Damaged files for fuzzing: a file in one of the forms of `ct_writers`, changed as accidents and attacks change files.

`mutate` changes a file that was written; `read_all` reads it and proves that every voxel came from the file.
"""

from __future__ import annotations

import gzip
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from ct_writers import META_FORMS, NIFTI_FORMS, NRRD_FORMS, data_files
from VertebralFractureQuantLib.errors import VFQError
from VertebralFractureQuantLib.imaging import stored
from VertebralFractureQuantLib.imaging.files import read_ct

FORMS_OF = {"nifti": NIFTI_FORMS, "nrrd": NRRD_FORMS, "metaimage": META_FORMS}
NUMBERS = (
    "0", "-1", "1", "2", "3", "12", "1e308", "-1e308", "nan", "inf", "1000000000000", "9" * 400, "", "x", "0x10", "%d",
    "4294967296", "18446744073709551615", "-9223372036854775809", "0.0001", "1e-320", "\0", "\u00e9", "None", "[]",
)  # fmt: skip
WORDS = (
    "LIST", "LOCAL", "a%99d 0 99999999 1", "a%d 0 1000000000000 1", "/dev/zero", "/dev/stdin", "..", ".", "none", "raw",
    "gzip", "ascii", "hex", "bzip2", "True", "False", "MET_DOUBLE", "MET_CHAR", "double", "uchar", "big", "little",
    "(0,0,0)", "(nan,1,2) (1,2,3) (4,5,6)", "none none none", "RAS", "-1",
)  # fmt: skip
BOMB = gzip.compress(bytes(1 << 26), 9)
SECOND_READ_BYTES = 1 << 26


def mutate(random: Random, path: Path) -> None:
    """Change the file at `path`, or a file that belongs to it, in one to four ways."""
    for _ in range(random.choice((1, 1, 2, 4))):
        target = random.choice([path, *data_files(path)])
        if not target.exists():
            continue
        stored_bytes = target.read_bytes()
        inside = stored_bytes.startswith(b"\x1f\x8b") and random.random() < 0.7  # what is compressed is changed
        data = bytearray(_decompressed(stored_bytes) if inside else stored_bytes)
        change = random.choice(
            (_bits, _field, _field, _number, _number, _word, _line, _cut, _cut, _grow, _bomb, _remove)
        )
        changed = change(random, data)
        if changed is None:
            target.unlink()
        else:
            target.write_bytes(gzip.compress(changed, 1) if inside else changed)


def _decompressed(data: bytes) -> bytes:
    """Return what gzip holds, up to a limit; nothing if it is damaged already."""
    try:
        return zlib.decompressobj(31).decompress(data, 1 << 20)
    except zlib.error:
        return b""


def _header(data: bytes) -> int:
    """Return about how many bytes are header."""
    end = re.search(rb"\n\r?\n|ElementDataFile[^\n]*\n", data[:4000])
    return min(len(data), end.end() if end else 560)


def _bits(random: Random, data: bytearray) -> bytearray:
    stop = _header(data) if random.random() < 0.5 else len(data)
    for _ in range(random.choice((1, 1, 3, 20))):
        if stop:
            data[random.randrange(stop)] ^= 1 << random.randrange(8)
    return data


def _field(random: Random, data: bytearray) -> bytearray:
    """Overwrite a binary field with a value of its kind, or with any bytes."""
    form = random.choice(("<h", ">h", "<i", "<f", "<f", "<q", "<d"))
    if len(data) < 600:
        return data
    value: Any
    if form[1] in "fd":
        value = random.choice((0.0, -1.0, float("nan"), float("inf"), 1e30, -1e30, 1e-30, random.uniform(-1000, 1000)))
    else:
        limit = 1 << (8 * struct.calcsize(form) - 1)
        value = random.choice((0, -1, 1, 2, 3, 7, limit - 1, -limit, random.randrange(-limit, limit)))
    at = random.choice((40, 42, 44, 46, 48, 70, 76, 80, 84, 108, 112, 123, 252, 254, 256, 280, random.randrange(540)))
    struct.pack_into(form, data, at, value)
    return data


def _replaced(random: Random, data: bytearray, pattern: bytes, texts: tuple[str, ...]) -> bytearray:
    found = list(re.finditer(pattern, data[: _header(data)]))
    if found:
        match = random.choice(found)
        data[match.start() : match.end()] = random.choice(texts).encode()
    return data


def _number(random: Random, data: bytearray) -> bytearray:
    return _replaced(random, data, rb"-?\d+\.?\d*", NUMBERS)


def _word(random: Random, data: bytearray) -> bytearray:
    return _replaced(random, data, rb"(?<=[=:] )[^\n]+", WORDS)


def _line(random: Random, data: bytearray) -> bytearray:
    """Remove, repeat or move a line of the header."""
    stop = _header(data)
    lines = bytes(data[:stop]).split(b"\n")
    at = random.randrange(len(lines))
    line = lines.pop(at)
    if random.random() < 0.5:
        lines.insert(random.randrange(len(lines) + 1), line)
        if random.random() < 0.5:
            lines.insert(at, line)
    return bytearray(b"\n".join(lines)) + data[stop:]


def _cut(random: Random, data: bytearray) -> bytearray:
    kept = random.choice((len(data) - 1, len(data) - 2, len(data) // 2, random.randrange(len(data) + 1)))
    return data[: max(kept, 0)]


def _grow(random: Random, data: bytearray) -> bytearray:
    at = random.choice((0, _header(data), len(data), random.randrange(len(data) + 1)))
    data[at:at] = random.choice((b"\n", b"\0" * 17, random.randbytes(5), bytes(data[:600])))
    return data


def _bomb(random: Random, data: bytearray) -> bytearray:
    return random.choice((data[: _header(data)] + BOMB, data + BOMB, bytearray(BOMB)))


def _remove(random: Random, data: bytearray) -> bytearray | None:
    return None if random.random() < 0.3 else bytearray()


class _Prefilled:
    """numpy, whose `empty` is filled with one byte: what no file fills is seen."""

    def __init__(self, byte: int):
        self.byte = byte

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        array = np.empty(shape, dtype)
        array.reshape(-1).view(np.uint8)[:] = self.byte
        return array


@contextmanager
def prefilled(byte: int) -> Iterator[None]:
    """Let `stored.read_voxels` read into memory that holds `byte` everywhere."""
    stored.np = _Prefilled(byte)  # type: ignore[assignment]
    try:
        yield
    finally:
        stored.np = np


def read_all(path: Path) -> str:
    """Read a file that may be damaged; return "read" or the code of the refusal.

    AssertionError if it is read and a voxel does not come from the file. Any other exception is a defect.
    """
    try:
        ct = read_ct(path)
    except VFQError as error:
        assert str(path.parent) not in error.message, error.message
        return error.code
    assert np.isfinite(ct.ijk_to_ras).all()
    if ct.voxels.size * 8 <= SECOND_READ_BYTES:
        for byte in (0x11, 0xEE):
            with prefilled(byte):
                np.testing.assert_array_equal(read_ct(path).voxels, ct.voxels)
    return "read"
