"""The file of a journal: one SQLite database in WAL mode, one row for each action, rows are never rewritten.

The table `acts` holds the actions, `origin` the first state and its context. A file is examined before anything in it
is changed, and is locked as long as it is open. What the actions lead to is left to `journal`.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import VFQError

APPLICATION_ID = 0x56465131  # "VFQ1": tells our file from any other SQLite file
VERSION = 1
TABLES = """
CREATE TABLE origin (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE acts (
    number INTEGER PRIMARY KEY, at TEXT NOT NULL, who TEXT NOT NULL, kind TEXT NOT NULL, changes TEXT NOT NULL,
    undoes INTEGER);
CREATE TRIGGER acts_stay BEFORE UPDATE ON acts BEGIN SELECT RAISE(ABORT, 'acts are never rewritten'); END;
CREATE TRIGGER acts_remain BEFORE DELETE ON acts BEGIN SELECT RAISE(ABORT, 'acts are never deleted'); END;
"""

Changes = dict[str, tuple[Any, Any]]


@dataclass(frozen=True)
class Act:
    """One action: one row of the audit trail.

    Attributes
    ----------
    number : its place in the trail, from 1.
    at : when it ended (UTC, ISO 8601).
    who, kind : the reader, and what was done.
    changes : key -> (value before, value after); None where the key is absent.
    undoes : the number of the action that an undo takes back or a redo repeats; else None.
    """

    number: int
    at: str
    who: str
    kind: str
    changes: Changes
    undoes: int | None = None


@contextmanager
def open_file(path: Path) -> Iterator[sqlite3.Connection]:
    """Open and lock the file at `path`; close it again if it is no journal of ours, or if the caller cannot read it.

    Raises
    ------
    VFQError : `study_in_use`, `not_a_journal` or `output_not_writable`.
    """
    file = None
    try:
        file = sqlite3.connect(path, timeout=0, isolation_level="DEFERRED", check_same_thread=False)
        file.execute("PRAGMA locking_mode=EXCLUSIVE")
        is_new(file, path)
        _lock(file)
        yield file
    except Exception as error:
        if file:
            file.close()
        if isinstance(error, VFQError):
            raise
        raise _refusal(error, path) from error


def is_new(file: sqlite3.Connection, path: Path) -> bool:
    """True if the file is empty. VFQError `not_a_journal` if it belongs to another program or a newer version."""
    (application,) = file.execute("PRAGMA application_id").fetchone()
    (version,) = file.execute("PRAGMA user_version").fetchone()
    (tables,) = file.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if not tables and not application:
        return True
    if application != APPLICATION_ID:
        raise VFQError(
            "not_a_journal", f"{path.name} is not a review journal of this program. Move the file to another folder."
        )
    if version > VERSION:
        raise VFQError(
            "not_a_journal", f"{path.name} was written by a newer version of this program. Update the program."
        )
    return False


def begin(file: sqlite3.Connection, first: dict[str, Any]) -> None:
    """Create the tables, and store each value of `first` in `origin` under its name."""
    rows = [(name, json.dumps(value, allow_nan=False)) for name, value in first.items()]
    with file:
        file.execute("BEGIN IMMEDIATE")
        for statement in _statements(TABLES):
            file.execute(statement)
        file.executemany("INSERT INTO origin VALUES (?, ?)", rows)
        file.execute(f"PRAGMA user_version={VERSION}")
        file.execute(f"PRAGMA application_id={APPLICATION_ID}")


def read_origin(file: sqlite3.Connection, name: str) -> Any:
    """Return a value that `begin` stored."""
    (value,) = file.execute("SELECT value FROM origin WHERE name = ?", (name,)).fetchone()
    return json.loads(value)


def read_acts(file: sqlite3.Connection) -> list[Act]:
    """Return all actions, first to last."""
    rows = file.execute("SELECT number, at, who, kind, changes, undoes FROM acts ORDER BY number")
    return [Act(n, at, who, kind, _changes(text), undoes) for n, at, who, kind, text, undoes in rows]


def append_acts(file: sqlite3.Connection, acts: Iterable[Act]) -> None:
    """Write actions in one transaction: all of them or none. sqlite3.Error if the disk refuses."""
    with file:
        file.executemany("INSERT INTO acts VALUES (?, ?, ?, ?, ?, ?)", map(_row, acts))


def _lock(file: sqlite3.Connection) -> None:
    """Keep other processes out until the file is closed; the system releases the lock if this process is killed."""
    file.execute("PRAGMA journal_mode=WAL")
    file.execute("PRAGMA synchronous=FULL")
    file.execute("BEGIN IMMEDIATE")
    file.commit()


def _statements(script: str) -> Iterator[str]:
    """Yield one statement after the other, because `executescript` would end the transaction."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _changes(text: str) -> Changes:
    return {key: (before, after) for key, (before, after) in json.loads(text).items()}


def _row(act: Act) -> tuple[Any, ...]:
    return act.number, act.at, act.who, act.kind, json.dumps(act.changes, allow_nan=False), act.undoes


def _refusal(error: Exception, path: Path) -> VFQError:
    """Return the coded reason why a journal cannot be opened."""
    text = str(error)
    if not isinstance(error, sqlite3.OperationalError) or "no such" in text:
        return VFQError(
            "not_a_journal",
            f"{path.name} is damaged. Move the file to another folder; analysis.json holds the results saved last.",
        )
    if "locked" in text:
        return VFQError("study_in_use", "This case is open in another window of the program. Close it there first.")
    return VFQError(
        "output_not_writable",
        f"{path.parent.name}: the journal cannot be written ({text}). Check the folder's permissions and the free "
        "space on the disk.",
    )
