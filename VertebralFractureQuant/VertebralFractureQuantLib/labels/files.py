"""Files of a label set: written as a whole or not at all, and locked against two writers.

The lock is one of SQLite on an empty file: it works on every system, and ends with its process. The content of the
files is left to others.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import VFQError
from ..report.outputs import writing
from ..whole import whole_file

LOCK = ".lock"
PATIENCE_S = 10.0  # a writer holds the lock for milliseconds


@contextmanager
def locked(folder: Path, patience_s: float = PATIENCE_S) -> Iterator[None]:
    """Keep other writers out of the label set in `folder` while the block runs.

    Raises
    ------
    VFQError
        `dataset_in_use` if another process holds the lock for `patience_s` seconds; `output_not_writable`.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        file = sqlite3.connect(folder / LOCK, timeout=patience_s, isolation_level=None)
        try:
            file.execute("BEGIN EXCLUSIVE")
            yield
        finally:
            file.close()
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            message = f"{folder.name}: another program is writing into this label set. Try again when it has finished."
            raise VFQError("dataset_in_use", message) from error
        message = f"{folder.name}: the folder cannot be written ({error}). Check its permissions and the free space."
        raise VFQError("output_not_writable", message) from error


def write_bytes(path: Path, content: bytes) -> None:
    """Replace the file at `path` as a whole, when the new one is safely on the disk. VFQError `output_not_writable`."""
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path, safely=True) as partial:
            partial.write_bytes(content)


def write_json(path: Path, data: Any) -> None:
    """Write `data` as an indented JSON file, as `write_bytes` does."""
    write_bytes(path, (json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())


def read_json(path: Path, schema: str) -> dict[str, Any]:
    """Read a JSON object of `schema`, such as "vfq-reading/1".

    Raises
    ------
    VFQError
        `newer_schema`; `not_a_dataset` if the file is missing, damaged or anything else.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        found = data["schema"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise damaged(path, type(error).__name__) from error
    if found == schema:
        return dict(data)
    name, _, version = str(found).partition("/")
    if name == schema.partition("/")[0] and version.isdigit() and int(version) > int(schema.partition("/")[2]):
        message = f"{path.name} has the format {found}, but this version reads {schema}. Update this program."
        raise VFQError("newer_schema", message)
    raise damaged(path, f"its schema is {found!r}")


def damaged(path: Path, why: str) -> VFQError:
    """Return the VFQError `not_a_dataset` for a file that cannot be read."""
    where = f"{path.parent.name}/{path.name}"
    return VFQError(
        "not_a_dataset",
        f"{where} cannot be read as part of a label set ({why}). Give a folder that vfq dataset create made, or "
        "restore this file from a backup.",
    )
