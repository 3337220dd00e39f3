"""Voxels as they lie in files, and the one way to read them: every byte that a header promises, or a refusal.

A header gives a `StoredCT`; `read_voxels` fills a buffer of its own from it, and compares lengths and checksums. Which
formats there are is left to `nifti`, `nrrd` and `metaimage`.
"""

from __future__ import annotations

import bz2
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import IO, Any, Literal

import numpy as np

from ..errors import VFQError
from .checks import require_memory

inflater: Any = zlib
with suppress(ImportError):  # optional: the same bytes and checksums in 60 % of the time
    from isal import isal_zlib as inflater

Encoding = Literal["raw", "deflate", "bzip2", "ascii", "hex"]  # deflate: gzip or zlib

COMPRESSED = ("deflate", "bzip2")
CHUNK = 1 << 20
GZIP_MARK = b"\x1f\x8b"
LAST_BYTES = -1  # as `Part.skip`
GREATEST_DEFLATION = 1100  # no byte of gzip or zlib becomes more
LONGEST_NUMBER = 400  # characters of one number in a text
# Bytes after the voxels that are read for the sake of the checksum, at most; or as many as the voxels have.
SURPLUS = 1 << 26


@dataclass(frozen=True)
class Part:
    """A file that holds voxels, and where they begin: after `offset` bytes, then `lines` lines, then `skip` bytes.

    `skip` counts decompressed bytes. If it is `LAST_BYTES`, the voxels are the last bytes of the file.
    """

    path: Path
    offset: int = 0
    lines: int = 0
    skip: int = 0


@dataclass(frozen=True)
class StoredCT:
    """What the header of a file says.

    Attributes
    ----------
    shape : `[k, j, i]`.
    dtype : type of the stored values, with their byte order.
    parts : the files that hold the voxels, in their order; each holds the same number of voxels.
    encoding : how the voxels are encoded in each file.
    ijk_to_ras : `(4, 4)`, (i, j, k, 1) to RAS mm.
    slope, intercept : HU = slope * stored + intercept.
    notes : decisions made while reading, in sentences for the user.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    parts: tuple[Part, ...]
    encoding: Encoding
    ijk_to_ras: np.ndarray
    slope: float = 1.0
    intercept: float = 0.0
    notes: tuple[str, ...] = ()

    @property
    def bytes_per_part(self) -> int:
        """The bytes of voxels in each file, after decoding."""
        return math.prod(self.shape) * self.dtype.itemsize // len(self.parts)


def read_voxels(stored: StoredCT, max_bytes: int | None = None) -> tuple[np.ndarray, tuple[str, ...]]:
    """Read all voxels `[k, j, i]`, unscaled, in the file's type, and notes.

    VFQError `too_large` before anything is allocated; `corrupt_file` if a file is missing or ends early, if a checksum
    fails, or if what a file holds cannot be decoded.
    """
    size = stored.bytes_per_part
    count = math.prod(stored.shape)
    require_memory(count * (stored.dtype.itemsize + (0 if stored.dtype == np.int16 else 2)), max_bytes)
    for part in stored.parts:
        _check_length(part, stored.encoding, size)
    voxels = np.empty(stored.shape, stored.dtype)
    buffer = voxels.reshape(-1).view(np.uint8).data
    surplus = 0
    for n, part in enumerate(stored.parts):
        surplus += _read_part(part, stored, buffer[n * size : (n + 1) * size])
    return voxels, (_surplus_note(surplus),) if surplus >= count // stored.shape[0] * stored.dtype.itemsize else ()


def _surplus_note(surplus: int) -> str:
    return (
        f"The file holds {surplus} bytes more than the voxels that its header promises; they were not read. Check the "
        "sizes in the header."
    )


def _check_length(part: Part, encoding: Encoding, size: int) -> None:
    """Raise VFQError `corrupt_file` if the file is missing, or too short whatever it contains."""
    if not part.path.is_file():
        name = PureWindowsPath(part.path.name).name  # without folders, also of another system
        raise VFQError("corrupt_file", f"The file {name!r}, which holds voxels, is missing. Copy all files.")
    held = part.path.stat().st_size - part.offset
    if encoding in COMPRESSED:
        least = size // GREATEST_DEFLATION if encoding == "deflate" else 0
    else:
        held -= max(part.skip, 0)
        least = size if encoding == "raw" else 0
    if held < least:
        raise _too_short(part, held, size)


def _too_short(part: Part, held: int, promised: int) -> VFQError:
    return VFQError(
        "corrupt_file",
        f"{part.path.name!r} has {max(held, 0)} bytes of voxels, but its header says {promised}. Copy or export it "
        "again.",
    )


def _read_part(part: Part, stored: StoredCT, buffer: memoryview) -> int:
    """Fill `buffer` from one file; return how many bytes of voxels the file holds beyond it."""
    compressed = stored.encoding in COMPRESSED
    with decoding(part.path.name):
        skip = _all_bytes(part, stored, len(buffer)) - len(buffer) if part.skip == LAST_BYTES else part.skip
        with _at_data(part) as stream:
            if not compressed:
                stream.seek(max(skip, 0), 1)
            beginning = stream.tell()
            held = _fill(buffer, _chunks(stream, stored), max(skip, 0) if compressed else 0, to_the_end=compressed)
    if held < len(buffer):
        raise _too_short(part, held, len(buffer))
    if stored.encoding == "raw":
        held = part.path.stat().st_size - beginning
    return held - len(buffer)


def _all_bytes(part: Part, stored: StoredCT, size: int) -> int:
    """Return the bytes from the beginning of the data to the file's end, decompressed."""
    with _at_data(part) as stream:
        if stored.encoding not in COMPRESSED:
            return part.path.stat().st_size - stream.tell()
        return _fill(
            memoryview(bytearray()), _chunks(stream, stored), 0, to_the_end=True, most=size + max(size, SURPLUS)
        )


@contextmanager
def decoding(name: str) -> Iterator[None]:
    """Turn the errors of decoders into VFQError `corrupt_file`, whose message names the file."""
    try:
        yield
    except (EOFError, zlib.error, inflater.error, ValueError, OSError) as error:
        if isinstance(error, OSError) and error.errno:  # of the disk, not of bzip2
            raise
        reason = "it ends early" if isinstance(error, EOFError) else str(error)
        if isinstance(error, zlib.error | inflater.error | OSError):
            reason = "its compressed data are wrong, or do not fit their checksum"
        raise VFQError("corrupt_file", f"{name!r} is truncated or damaged ({reason}). Copy it again.") from None


@contextmanager
def _at_data(part: Part) -> Iterator[IO[bytes]]:
    with part.path.open("rb") as stream:
        stream.seek(part.offset)
        for _ in range(part.lines):
            _skip_line(stream)
        yield stream


def _skip_line(stream: IO[bytes]) -> None:
    while not (piece := stream.readline(CHUNK)).endswith(b"\n"):
        if not piece:
            raise EOFError


def _fill(
    buffer: memoryview, chunks: Iterator[bytes | memoryview], skip: int, to_the_end: bool, most: int | None = None
) -> int:
    """Copy what follows the first `skip` bytes into `buffer`; return the number of bytes after them.

    `to_the_end` : read on to the end, where the decoder compares its checksum. ValueError beyond `most` bytes.
    """
    most = len(buffer) + max(len(buffer), SURPLUS) if most is None else most
    at = -skip
    for chunk in chunks:
        piece = chunk[max(0, -at) : len(buffer) - at] if at < len(buffer) else b""
        start = max(at, 0)
        buffer[start : start + len(piece)] = piece
        at += len(chunk)
        if at >= len(buffer) and not to_the_end:
            break
        if at + skip > most:
            raise ValueError("it holds far more than its header promises")
    return at


def _chunks(stream: IO[bytes], stored: StoredCT) -> Iterator[bytes | memoryview]:
    """Return the decoded bytes of voxels in pieces of about `CHUNK`."""
    if stored.encoding == "deflate":
        return inflated(stream)
    if stored.encoding == "bzip2":
        return _raw(bz2.BZ2File(stream))
    if stored.encoding == "ascii":
        return _from_ascii(stream, stored.dtype)
    return _from_hex(stream) if stored.encoding == "hex" else _raw(stream)


def _raw(stream: IO[bytes]) -> Iterator[memoryview]:
    buffer = memoryview(bytearray(CHUNK))
    while count := stream.readinto(buffer):  # type: ignore[attr-defined]
        yield buffer[:count]


def inflated(stream: IO[bytes]) -> Iterator[bytes]:
    """Decompress gzip (also of several members) or zlib, in pieces; bytes after its end are ignored.

    EOFError if it ends early; an error of the inflater if it is damaged or a checksum fails.
    """
    data = stream.read(CHUNK)
    while True:
        member = inflater.decompressobj(47)  # 32 + 15: finds out which of the two it is
        while not member.eof:
            data = data or stream.read(CHUNK)
            piece = member.decompress(data, CHUNK)
            if not (data or piece):
                raise EOFError
            data = member.unconsumed_tail
            if piece:
                yield piece
        data = member.unused_data
        if len(data) < len(GZIP_MARK):
            data += stream.read(CHUNK)
        if not data.startswith(GZIP_MARK):
            return


def _from_ascii(stream: IO[bytes], dtype: np.dtype) -> Iterator[bytes]:
    rest = b""
    while chunk := stream.read(CHUNK):
        text = (rest + chunk).replace(b",", b" ")
        words = text.split()
        rest = words.pop() if words and not text[-1:].isspace() else b""
        if len(rest) > LONGEST_NUMBER:
            raise ValueError("its text is not numbers")
        yield _parsed(words, dtype)
    if rest:
        yield _parsed([rest], dtype)


def _parsed(words: list[bytes], dtype: np.dtype) -> bytes:
    values = np.array([float(word) for word in words])
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        if not ((values >= limits.min) & (values <= limits.max)).all():  # false for NaN as well
            raise ValueError(f"it has numbers that are no {dtype.name}")
    with np.errstate(over="ignore"):  # infinity is refused with the voxels
        return values.astype(dtype).tobytes()


def _from_hex(stream: IO[bytes]) -> Iterator[bytes]:
    rest = b""
    while chunk := stream.read(CHUNK):
        digits = rest + b"".join(chunk.split())
        even = len(digits) // 2 * 2
        rest = digits[even:]
        yield bytes.fromhex(digits[:even].decode("ascii"))
