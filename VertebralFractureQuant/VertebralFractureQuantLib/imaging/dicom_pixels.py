"""The voxels of one DICOM slice, `[j, i]` int16 HU: every promised byte is read here, or the file is refused.

Uncompressed and run-length pixels are read here. Others (JPEG, JPEG-LS, JPEG 2000) are decoded by GDCM, from a file
that contains nothing but the image, if the compressed image is complete and as large as promised.
"""

from __future__ import annotations

import os
import re
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ..errors import VFQError
from .checks import INT16, itk_name, to_int16
from .dicom_header import EXPLICIT_BIG_ENDIAN, UNDEFINED, Header, fragments, plain_stream

NATIVE = ("", "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99", EXPLICIT_BIG_ENDIAN)
RUN_LENGTH = "1.2.840.10008.1.2.5"
COMPRESSED = (RUN_LENGTH, *(f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 57, 70, 80, 81, 90, 91)))
JPEG_START, JPEG_2000_START, STREAM_END = b"\xff\xd8", b"\xff\x4f\xff\x51", b"\xff\xd9"
SCAN_START = b"\xff\xda"
SPARE_BITS = b"\x5a" * 64
NO_FRAME = (0xC4, 0xC8, 0xCC)  # JPEG's markers C0 to CF that begin no frame
JPEG_LS_FRAME = 0xF7


def read_plane(path: Path, header: Header) -> np.ndarray:
    """Return the voxels `[j, i]` int16 HU of one slice. VFQError `corrupt_file` if they are not all there."""
    beyond_us = header.length != UNDEFINED and (
        header.syntax not in NATIVE or header.number["BitsAllocated"] not in (8, 16, 32)
    )
    raw = _by_gdcm(path) if beyond_us else _stored(path, header)
    if raw is None and header.length == UNDEFINED and header.syntax not in COMPRESSED:
        raise VFQError(
            "corrupt_file",
            f"The compression of {path.name!r} cannot be read (transfer syntax {header.syntax[:64] or 'absent'}). "
            "Export the series without compression, or convert it with dcm2niix.",
        )
    if raw is None or raw.shape != (header.number["Rows"], header.number["Columns"]):
        raise VFQError(
            "corrupt_file",
            f"The voxels of {path.name!r} are incomplete or cannot be decoded. Copy or export the series again.",
        )
    return _hounsfield(raw, *((1.0, 0.0) if beyond_us else rescale(header)))  # GDCM applies the rescale itself


def _hounsfield(raw: np.ndarray, slope: float, intercept: float) -> np.ndarray:
    """Return `to_int16` of one slice; faster for 16-bit integers that are only shifted and stay in range."""
    shift = int(intercept)
    whole = raw.dtype in (np.int16, np.uint16) and slope == 1 and shift == intercept and INT16.min <= shift <= INT16.max
    if whole and int(raw.min()) + shift >= INT16.min and int(raw.max()) + shift <= INT16.max:
        shifted: np.ndarray = raw.view(np.int16) + np.int16(shift)  # wraps to the exact sum
        return shifted
    return to_int16(raw[None], slope, intercept)[0]


def rescale(header: Header) -> tuple[float, float]:
    """Return the slope and intercept of one slice; 1 and 0 for absent ones, and 1 for a slope of 0."""
    slope, intercept = (header.decimals(keyword) for keyword in ("RescaleSlope", "RescaleIntercept"))
    return (slope[0] if slope else 0.0) or 1.0, intercept[0] if intercept else 0.0


def _stored(path: Path, header: Header) -> np.ndarray | None:
    """Return the stored values `[j, i]` before any rescale; None if they are incomplete or cannot be decoded."""
    with plain_stream(path) as stream:
        if header.length == UNDEFINED:
            return _decoded(b"".join(fragments(stream, header)), header)
        stream.seek(header.offset)
        return _values(stream.read(header.frame_bytes), header, "<" if header.little_endian else ">")


def _values(data: bytes, header: Header, order: str) -> np.ndarray | None:
    """Return stored values as integers `[j, i]`; bits that are not in use, as of old overlays, are cleared."""
    if len(data) != header.frame_bytes:
        return None
    allocated, stored = header.number["BitsAllocated"], header.number["BitsStored"]
    unused = allocated - stored if 0 < stored < allocated else 0
    above = max(min(allocated - 1 - header.number["HighBit"], unused), 0)
    kind = "i" if header.number["PixelRepresentation"] == 1 else "u"
    values = np.frombuffer(data, f"{order}{kind}{allocated // 8}").astype(f"={kind}{allocated // 8}", copy=False)
    if unused > above and (values & ((1 << (unused - above)) - 1)).any():
        above = unused  # bits below the stored ones are in use, so the header's HighBit is wrong
    if unused:
        values = (values << above) >> unused  # keeps the sign of signed integers
    return values.reshape(header.number["Rows"], header.number["Columns"])


def _decoded(data: bytes, header: Header) -> np.ndarray | None:
    if header.syntax == RUN_LENGTH:
        planes = _run_lengths(data, header)
        return None if planes is None else _values(planes, header, ">")
    if _promised_size(data) != (header.number["Rows"], header.number["Columns"]):
        return None
    values, extended = _by_gdcm_alone(data, header), _with_spare_bits(data)
    if values is None or extended == data:
        return values
    with _quiet_stderr():  # the decoder reports the further bits as damage
        again = _by_gdcm_alone(extended, header)
    return values if again is not None and np.array_equal(values, again) else None


def _by_gdcm_alone(data: bytes, header: Header) -> np.ndarray | None:
    descriptor, name = tempfile.mkstemp(".dcm")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(_image_alone(data, header))
        return _by_gdcm(Path(name))
    finally:
        os.unlink(name)


@contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Send what C++ libraries write to standard error to nowhere; without standard error, do nothing."""
    try:
        shown = os.dup(2)
    except OSError:
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(shown, 2)
        os.close(shown)
        os.close(nowhere)


def _with_spare_bits(data: bytes) -> bytes:
    """Return a JPEG image with further bits at the end of each of its segments; other images as they are.

    The decoder replaces absent bits without an error. Where none are absent, further ones change nothing.
    """
    frame, at = _jpeg_frame(data), data.find(SCAN_START)
    if not data.startswith(JPEG_START) or frame is None or frame[0] == JPEG_LS_FRAME or at < 0:
        return data
    return data[:at] + re.sub(rb"(\xff[\xd0-\xd7\xd9])", SPARE_BITS + rb"\1", data[at:])


def _by_gdcm(path: Path) -> np.ndarray | None:
    """Let GDCM decode a file, with the rescale that the file gives."""
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(itk_name(path))
    try:
        return np.squeeze(sitk.GetArrayFromImage(reader.Execute()), 0)
    except (RuntimeError, ValueError):
        return None


def _run_lengths(data: bytes, header: Header) -> bytes | None:
    """Decode run lengths (PS3.5 annex G): one segment for each byte of a value, the most significant first."""
    count, *offsets = struct.unpack("<16I", data[:64]) if len(data) >= 64 else (0,)
    width = header.number["BitsAllocated"] // 8
    if count != width:
        return None
    size = header.number["Rows"] * header.number["Columns"]
    planes = np.empty((size, width), np.uint8)
    for n, (begin, end) in enumerate(zip(offsets[:count], [*offsets[1:count], len(data)], strict=True)):
        plane = _unpacked(data[begin:end], size)
        if plane is None:
            return None
        planes[:, n] = plane
    return planes.tobytes()


def _unpacked(data: bytes, size: int) -> np.ndarray | None:
    """Unpack one PackBits segment into `size` bytes; None if it holds fewer."""
    out, at = bytearray(), 0
    while len(out) < size and at < len(data):
        code = data[at]
        if code < 128:
            part, length = data[at + 1 : at + 2 + code], code + 1
            at += 2 + code
        else:
            length = 257 - code if code > 128 else 0
            part = data[at + 1 : at + 2] * length
            at += 2 if length else 1
        if len(part) < length:
            return None
        out += part
    return np.frombuffer(out, np.uint8)[:size] if len(out) >= size else None


def _promised_size(data: bytes) -> tuple[int, int] | None:
    """Return the (rows, columns) of a complete JPEG, JPEG-LS or JPEG 2000 image; None if it is cut or damaged."""
    begin = data.find(JPEG_2000_START) if data[4:8] == b"jP  " else 0
    stream = data[begin:].rstrip(b"\0")
    if not stream.endswith(STREAM_END):
        return None
    if stream.startswith(JPEG_2000_START) and len(stream) > 24:
        right, bottom, left, top = struct.unpack(">4I", stream[8:24])
        return bottom - top, right - left
    frame = _jpeg_frame(stream) if stream.startswith(JPEG_START) else None
    return frame and frame[1:]


def _jpeg_frame(stream: bytes) -> tuple[int, int, int] | None:
    """Return the marker, rows and columns of the frame of a JPEG or JPEG-LS image."""
    at = 2
    while at + 9 <= len(stream) and stream[at] == 0xFF:
        marker = stream[at + 1]
        if marker == 0xFF:  # markers may be filled up with it
            at += 1
            continue
        if (0xC0 <= marker <= 0xCF and marker not in NO_FRAME) or marker == JPEG_LS_FRAME:
            return marker, *struct.unpack(">2H", stream[at + 5 : at + 9])
        at += 2 + int.from_bytes(stream[at + 2 : at + 4], "big")
    return None


def _image_alone(data: bytes, header: Header) -> bytes:
    """Return a DICOM file with one compressed image and no attributes but those that decoding needs."""
    sop = b"1.2.840.10008.5.1.4.1.1.2"
    meta = _text(2, 2, b"UI", sop) + _text(2, 3, b"UI", b"1.2") + _text(2, 0x10, b"UI", header.syntax.encode("latin-1"))
    number = header.number
    image = _text(8, 0x16, b"UI", sop) + _text(8, 0x18, b"UI", b"1.2") + _text(8, 0x60, b"CS", b"CT")
    image += _short(2, max(number["SamplesPerPixel"], 1)) + _text(0x28, 4, b"CS", b"MONOCHROME2")
    image += _short(0x10, number["Rows"]) + _short(0x11, number["Columns"]) + _short(0x100, number["BitsAllocated"])
    stored = number["BitsStored"] or number["BitsAllocated"]
    image += _short(0x101, stored) + _short(0x102, stored - 1) + _short(0x103, number["PixelRepresentation"])
    padded = data + b"\0" * (len(data) % 2)
    items = b"\xfe\xff\x00\xe0\0\0\0\0" + b"\xfe\xff\x00\xe0" + struct.pack("<I", len(padded)) + padded
    pixels = b"\xe0\x7f\x10\0OB\0\0\xff\xff\xff\xff" + items + b"\xfe\xff\xdd\xe0\0\0\0\0"
    return bytes(128) + b"DICM" + b"\2\0\0\0UL\4\0" + struct.pack("<I", len(meta)) + meta + image + pixels


def _text(group: int, number: int, vr: bytes, value: bytes) -> bytes:
    value += (b"\0" if vr == b"UI" else b" ") * (len(value) % 2)
    return struct.pack("<2H2sH", group, number, vr, len(value)) + value


def _short(number: int, value: int) -> bytes:
    return struct.pack("<2H2s2H", 0x28, number, b"US", 2, value & 0xFFFF)
