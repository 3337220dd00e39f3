"""The header of one DICOM file: its attributes as text, and where its pixels lie and how they are stored.

The file may be compressed with gzip, deflated, without preamble, and in any byte order. A header is returned only if
the file contains every byte of pixel data that it promises; damaged files give None.
"""

from __future__ import annotations

import io
import os
import re
import warnings
import zlib
from contextlib import suppress
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, BinaryIO

from .checks import itk_name

DICOM_MARK = b"DICM"
EXTENSIONS = (".dcm", ".ima", ".dcm.gz", ".ima.gz")
GZIP_MARK = b"\x1f\x8b"
DEFLATED = b"1.2.840.10008.1.2.1.99"
EXPLICIT = b"1.2.840.10008.1.2.1\0\0\0"
EXPLICIT_BIG_ENDIAN = "1.2.840.10008.1.2.2"
LARGEST_FILE = 2**29  # bytes of a compressed file after decompression; a slice of 4096 x 4096 has 2**25
UNDEFINED = 0xFFFFFFFF
SMALL_READ = 2**16
PIXEL_DATA = (0x7FE0, 0x0010)
ITEM, DELIMITER = (0xFFFE, 0xE000), (0xFFFE, 0xE0DD)
LONG_FORMS = (b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"UN")
TEXTS = (
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "Modality",
    "ImageType", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "SeriesNumber",
    "SeriesDescription", "AcquisitionNumber", "AcquisitionTime", "ContentTime", "TemporalPositionIdentifier",
    "ConvolutionKernel", "EchoNumbers", "KVP", "ContrastBolusAgent", "NumberOfFrames", "PhotometricInterpretation",
    "RescaleSlope", "RescaleIntercept", "NominalPercentageOfCardiacPhase", "NominalPercentageOfRespiratoryPhase",
    "TriggerTime",
)  # fmt: skip
NUMBERS = ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation")


def extension(path: Path) -> str:
    """Return the extension in lower case; "" if it is a number: the end of a UID that is used as a file name."""
    suffix = path.suffix.lower()
    return "" if suffix[1:].isdigit() else suffix


@dataclass(frozen=True)
class Header:
    """One image file.

    Attributes
    ----------
    text : attributes `TEXTS` by keyword, stripped; absent ones are "".
    number : attributes `NUMBERS` by keyword; absent ones are 0.
    syntax : transfer syntax UID; "" if the file does not name it.
    little_endian : the byte order of its numbers and pixels.
    offset, length : where the value of its pixel data begins in the decompressed file, and its bytes. The length is
        `UNDEFINED` for compressed pixels, which lie in fragments.
    """

    text: dict[str, str]
    number: dict[str, int]
    syntax: str
    little_endian: bool
    offset: int
    length: int

    @property
    def frames(self) -> int:
        """The number of images in the file."""
        return int(self.text["NumberOfFrames"]) if self.text["NumberOfFrames"].isdigit() else 1

    @property
    def frame_bytes(self) -> int:
        """The bytes of one image when it is not compressed."""
        values = self.number["Rows"] * self.number["Columns"] * max(self.number["SamplesPerPixel"], 1)
        return -(-values * self.number["BitsAllocated"] // 8)

    def decimals(self, keyword: str) -> list[float]:
        """Return the numbers of a decimal string, with decimal points or commas; [] if one cannot be read."""
        return decimals(self.text[keyword])


def decimals(text: str) -> list[float]:
    """Return the numbers in "1.5\\\\2" or "1,5\\\\2"; [] if one of them is not a finite decimal number."""
    values = [value.strip("\0 ").replace(",", ".") for value in text.split("\\")]
    numeric = all(re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", value) for value in values)
    numbers = [float(value) for value in values] if numeric else []
    return numbers if all(map(isfinite, numbers)) else []


def read_header(path: Path) -> Header | None:
    """Return the header of an image file; None if it holds no image, or less of it than it promises.

    OSError if the file cannot be opened; VFQError `not_an_image` if its name is not UTF-8.
    """
    itk_name(path)
    with plain_stream(path) as stream, suppress(Exception), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a damaged file can make pydicom raise or warn of anything
        return _parse(stream)
    return None


def modality(path: Path) -> str:
    """Return the modality of a DICOM file, with or without an image; "" if it cannot be read."""
    from pydicom import dcmread

    with suppress(Exception), plain_stream(path) as stream, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _text(dcmread(stream, force=True, stop_before_pixels=True, specific_tags=["Modality"]), "Modality")[:16]
    return ""


def is_dicom(path: Path) -> bool:
    """True if the file has DICOM's mark, begins as DICOM without it does, or has one of its usual extensions."""
    return path.name.lower().endswith(EXTENSIONS) or has_mark(path) or _begins_without_preamble(start(path))


def has_mark(path: Path) -> bool:
    """True if "DICM" follows the first 128 bytes of the file."""
    return start(path)[128:132] == DICOM_MARK


def start(path: Path) -> bytes:
    """Return the first 132 bytes of a file, decompressed if gzip compressed it; b"" if a link leads nowhere."""
    try:
        with path.open("rb") as stream:
            head = stream.read(132)
            return _first_of_gzip(head + stream.read(4096)) if head.startswith(GZIP_MARK) else head
    except FileNotFoundError:
        return b""


class _File(io.BufferedReader):
    """A file from which no more is asked than it holds: memory is allocated for what is asked."""

    def __init__(self, path: Path):
        file = io.FileIO(path)
        super().__init__(file)
        self._end = os.fstat(file.fileno()).st_size

    def read(self, size: int | None = -1, /) -> bytes:
        """Read `size` bytes, or all that are left."""
        if size is not None and size > SMALL_READ:
            size = min(size, max(self._end - self.tell(), 0))
        return super().read(size)


def plain_stream(path: Path) -> BinaryIO:
    """Open a file as DICOM without gzip and deflation; what cannot be decompressed within `LARGEST_FILE` is empty.

    OSError if the file cannot be opened.
    """
    stream = _File(path)
    head = stream.read(1024)
    stream.seek(0)
    if head.startswith(GZIP_MARK):
        with stream:
            return io.BytesIO(_inflated(_decompressed(stream.read(), 16 + zlib.MAX_WBITS)))
    if DEFLATED in head:
        with stream:
            return io.BytesIO(_inflated(stream.read()))
    return stream


def _first_of_gzip(data: bytes) -> bytes:
    with suppress(zlib.error):
        return zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(data, 132)
    return data[:132]


def _decompressed(data: bytes, wbits: int) -> bytes:
    """Return what zlib makes of `data`; b"" if it is damaged, cut off or too large."""
    with suppress(zlib.error):
        decoder = zlib.decompressobj(wbits)
        plain = decoder.decompress(data, LARGEST_FILE)
        return plain if decoder.eof else b""
    return b""


def _inflated(data: bytes) -> bytes:
    """Return a file as explicit little endian if its data set is deflated; its UID keeps its length."""
    if DEFLATED not in data[:1024] or data[128:132] != DICOM_MARK or data[132:136] != b"\2\0\0\0":
        return data
    end = 144 + int.from_bytes(data[140:144], "little")
    plain = _decompressed(data[end:], -zlib.MAX_WBITS)
    return data[:end].replace(DEFLATED, EXPLICIT) + plain if plain else b""


def _begins_without_preamble(head: bytes) -> bool:
    """True if a file begins with an element of group 2 or 8, as DICOM without preamble does."""
    if head[:2] in (b"\2\0", b"\x08\0"):
        return head[4:6].isupper() or int.from_bytes(head[4:8], "little") < 256
    return head[:2] == b"\0\x08" and head[4:6].isupper()


def _parse(stream: BinaryIO) -> Header | None:
    from pydicom import dcmread

    dataset = dcmread(stream, force=True, stop_before_pixels=True, specific_tags=[*TEXTS, *NUMBERS])
    little = _little_endian(dataset)
    placed = _pixel_data(stream, "little" if little else "big")
    if placed is None:
        return None
    text = {keyword: _text(dataset, keyword) for keyword in TEXTS}
    number = {keyword: _number(dataset, keyword) for keyword in NUMBERS}
    syntax = str(getattr(dataset, "file_meta", {}).get("TransferSyntaxUID", "") or "").strip("\0 ")
    header = Header(text, number, syntax, little, *placed)
    return header if _is_whole(stream, header) else None


def _little_endian(dataset: Any) -> bool:
    """The byte order in which pydicom read a data set: each raw element knows it."""
    raw = next((held for held in map(dataset.get_item, dataset.keys()) if hasattr(held, "is_little_endian")), None)
    return bool(getattr(raw, "is_little_endian", True))


def _pixel_data(stream: BinaryIO, order: Any) -> tuple[int, int] | None:
    """Return where the value of the pixel data begins and its length; the stream stands at its tag, or at the end."""
    head = stream.read(12)
    tag = (int.from_bytes(head[:2], order), int.from_bytes(head[2:4], order))
    if tag != PIXEL_DATA:
        return None
    explicit = head[4:6] in LONG_FORMS
    if not explicit:
        stream.seek(-4, io.SEEK_CUR)
    return stream.tell(), int.from_bytes(head[8:12] if explicit else head[4:8], order)


def _text(dataset: Any, keyword: str) -> str:
    value = getattr(dataset.get_item(keyword), "value", None)
    if isinstance(value, bytes):
        return value.decode("latin-1").strip("\0 ")
    return "" if value is None else str(value).strip("\0 ")


def _number(dataset: Any, keyword: str) -> int:
    item = dataset.get_item(keyword)
    value = getattr(item, "value", None)
    if isinstance(value, bytes):
        return int.from_bytes(value, "little" if item.is_little_endian else "big")
    return int(value or 0)


def _is_whole(stream: BinaryIO, header: Header) -> bool:
    """True if every promised byte of the pixel data is in the file, and no row is left over."""
    end = stream.seek(0, io.SEEK_END)
    if not header.number["Rows"] * header.number["Columns"]:
        return False
    if header.length == UNDEFINED:
        return sum(map(len, fragments(stream, header))) > 0
    promised = header.frame_bytes * header.frames
    row = max(header.frame_bytes // header.number["Rows"], 2)
    return header.offset + header.length <= end and promised <= header.length < promised + row


def fragments(stream: BinaryIO, header: Header) -> list[bytes]:
    """Return the fragments of compressed pixel data, without the table of offsets; [] if one is cut off."""
    stream.seek(header.offset)
    found: list[bytes] = []
    while True:
        head = stream.read(8)
        tag = (int.from_bytes(head[:2], "little"), int.from_bytes(head[2:4], "little"))
        if tag == DELIMITER:
            return found[1:]
        length = int.from_bytes(head[4:8], "little")
        value = stream.read(length) if tag == ITEM and length <= LARGEST_FILE else b""
        if tag != ITEM or len(value) < length:
            return []
        found.append(value)
