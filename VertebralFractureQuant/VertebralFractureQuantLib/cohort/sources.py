"""The files of a scan: whether they changed, by their sizes and times, and what they contain, by a hash.

A signature is quick and changes whenever a file is written; the hash of the content tells if that made a difference.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from ..errors import VFQError

CHUNK = 1 << 22
DETACHED = (".mhd", ".nhdr", ".hdr", ".img")  # headers whose voxels lie in another file of the same stem


def files_of(path: Path, files: Sequence[str] | None = None) -> list[Path]:
    """Return the files of a scan: those that are given, those in a folder, or a file with its detached voxels."""
    from ..imaging.dicom_slices import files_below

    if files is not None:
        return [Path(file) for file in files]
    if os.path.isdir(path):
        return files_below(path)
    if path.suffix.lower() in DETACHED:
        return sorted(beside for beside in path.parent.glob("*") if beside.name.startswith(path.stem + "."))
    return [path]


def signature(files: Sequence[Path]) -> str:
    """Return a hash of the names, sizes and times of `files`; a file that is missing has none."""
    digest = hashlib.sha256()
    for file in map(os.fspath, files):  # a path's own methods would take most of the time of a large plan
        name = os.path.basename(file)
        try:
            status = os.stat(file)
            told = f"{name}\0{status.st_size}\0{status.st_mtime_ns}\0"
        except OSError:
            told = f"{name}\0missing\0"
        digest.update(told.encode(errors="surrogateescape"))
    return digest.hexdigest()[:32]


def content(files: Sequence[Path]) -> str:
    """Return the hash of what `files` contain, in their order. VFQError `corrupt_file` if one cannot be read."""
    digest = hashlib.sha256()
    for file in files:
        try:
            with file.open("rb", buffering=0) as stream:
                digest.update(f"{file.name}\0{file.stat().st_size}\0".encode(errors="surrogateescape"))
                while chunk := stream.read(CHUNK):
                    digest.update(chunk)
        except FileNotFoundError:
            digest.update(f"{file.name}\0missing\0".encode(errors="surrogateescape"))
        except OSError as error:
            raise VFQError(
                "corrupt_file",
                f"{file.name!r} cannot be read: {error.strerror or error}. Check the file and its permissions.",
            ) from None
    return digest.hexdigest()
