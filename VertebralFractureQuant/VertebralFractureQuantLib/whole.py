"""The one way in which a file is written: beside itself under a name of its own, then renamed.

Such a name is hidden (it begins with a dot), so what a killed command leaves behind counts nowhere: whoever lists a
folder takes `visible` names only.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path


def beside(path: Path) -> Path:
    """Return a hidden name beside `path` that no other command uses, with the same suffix."""
    return path.with_name(f".partial-{uuid.uuid4().hex[:8]}-{path.name}")


def visible(paths: Iterable[Path]) -> list[Path]:
    """Return the paths in order, without hidden ones: these belong to a command that is writing or was killed."""
    return sorted(path for path in paths if not path.name.startswith("."))


@contextmanager
def whole_file(path: Path, safely: bool = False) -> Iterator[Path]:
    """Yield the name to write to; it becomes `path` if the block succeeds, and is deleted if it fails. Raises OSError.

    Two commands that write the same file at once do not mix: the last one stays, as a whole. With `safely` the new
    file is on the disk itself before it replaces the old one.
    """
    with whole_files([path], safely) as (partial,):
        yield partial


@contextmanager
def whole_files(paths: Iterable[Path], safely: bool = False) -> Iterator[list[Path]]:
    """As `whole_file`, for several files: none is replaced before all are written."""
    paths = list(paths)
    with ExitStack() as stack:
        partials = [beside(path) for path in paths]
        for partial in partials:
            stack.callback(_forget, partial)
        yield partials
        if safely:
            for partial in partials:
                _sync(partial)
        for partial, path in zip(partials, paths, strict=True):
            partial.replace(path)
        if safely:
            for folder in dict.fromkeys(path.parent for path in paths):
                sync_folder(folder)


def _forget(partial: Path) -> None:
    with suppress(OSError):
        partial.unlink()


def _sync(file: Path) -> None:
    """Wait until the content of the file is on the disk itself."""
    with file.open("rb+") as opened:
        os.fsync(opened.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until the names in the folder are on the disk itself; Windows has no such call."""
    if os.name == "posix":
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
