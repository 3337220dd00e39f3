"""The one way in which a file is written: beside itself under a name of its own, then renamed."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def beside(path: Path) -> Path:
    """Return a hidden name beside `path` that no other command uses, with the same suffix."""
    return path.with_name(f".partial-{uuid.uuid4().hex[:8]}-{path.name}")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield the name to write to; it becomes `path` if the block succeeds, and is deleted if it fails. Raises OSError.

    Two commands that write the same file at once do not mix: the last one stays, as a whole.
    """
    partial = beside(path)
    try:
        yield partial
        partial.replace(path)
    finally:
        with suppress(OSError):
            partial.unlink()
