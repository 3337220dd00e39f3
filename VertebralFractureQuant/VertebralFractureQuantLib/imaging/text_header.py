"""What the text headers of NRRD and MetaImage have in common: lines, numbers, and the names of numbered files."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import VFQError

HEADER_BYTES = 1 << 22  # with the names of the files of 20,000 slices


def bad_header(why: str) -> VFQError:
    """Return the VFQError `corrupt_file` for a header that cannot be right."""
    return VFQError("corrupt_file", f"The header is damaged: {why}. Copy or export the CT again.")


def split_lines(data: bytes) -> list[str]:
    """Return the lines; names of files keep bytes that are not UTF-8."""
    return [line.removesuffix("\r") for line in data.decode("utf-8", "surrogateescape").split("\n")]


def numbers(fields: Mapping[str, str], name: str, kind: Callable[[str], Any], count: int | None = None) -> list[Any]:
    """Return the numbers of a field, `count` of them if it is given; VFQError `corrupt_file`."""
    try:
        found = [kind(word) for word in fields.get(name, "").split()]
    except ValueError:
        found = []
    if not found or len(found) > 16 or (count is not None and len(found) != count):
        raise bad_header(f"its field {name!r} is absent or not {count or 'some'} numbers")
    return found


def sizes_of(fields: Mapping[str, str], name: str, dimension: str) -> list[int]:
    """Return the sizes of the axes, fastest first; VFQError `corrupt_file` if they cannot be or are not `dimension`."""
    sizes = numbers(fields, name, int)
    if numbers(fields, dimension, int) != [len(sizes)] or not all(0 < size < 1 << 31 for size in sizes):
        raise bad_header(f"its {name} are impossible or do not fit its {dimension}")
    return sizes


def file_series(pattern: str, first: int, last: int, step: int, most: int) -> list[str]:
    """Return the names that a pattern such as `slice%03d.raw` gives from `first` to `last`; VFQError `corrupt_file`."""
    if not re.fullmatch(r"[^%]*%0?\d{0,2}[diu][^%]*", pattern):
        raise bad_header(f"it names its files by {pattern[:40]!r}, which is not a name with one number")
    if step == 0 or not 0 <= (last - first) // step < min(most, HEADER_BYTES):
        raise bad_header(f"it numbers its files from {first} to {last} in steps of {step}")
    return [pattern % number for number in range(first, last + (1 if step > 0 else -1), step)]
