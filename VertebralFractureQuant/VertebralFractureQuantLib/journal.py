"""The journal of one study's review: every act of a person, on disk when it ends, never rewritten.

SQLite in WAL mode, one row an act: number, when (UTC, ISO 8601), who, what kind, what it changed (before and after),
and, for an undo or redo, of which act. The state is a dictionary of JSON values; it and the stacks of undo and redo are
rebuilt from the rows, so undoing goes on after a restart. The first state, the machine's, stands apart and stays.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from .errors import VFQError

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

State = dict[str, Any]
Changes = dict[str, tuple[Any, Any]]


@dataclass(frozen=True)
class Act:
    """One row of the audit trail. `changes`: key -> (before, after), None where absent; `undoes`: the number of the act
    that an undo takes back or a redo does again."""

    number: int
    at: str
    who: str
    kind: str
    changes: Changes
    undoes: int | None = None


class Journal:
    """The acts on one study, and the state that they lead to.

    Attributes
    ----------
    original, context : the first state, and what else was true of it; as stored when the journal was begun.
    state : key -> JSON value, now.
    problem : why acts are not on disk yet, in a sentence; None when all are.

    Raises
    ------
    VFQError : `study_in_use` where another process has it open; `output_not_writable`; `not_a_journal` where the file
        is another's, damaged, or of a newer version.
    """

    def __init__(self, path: Path, original: State, context: dict[str, Any] | None = None):
        self.problem: str | None = None
        self._pending: list[Act] = []
        self._done: list[Act] = []
        self._undone: list[Act] = []
        with _opening(path):
            self._file = _connected(path)
            if _is_new(self._file):
                _begin(self._file, original, context or {})
            self.original: State = _origin(self._file, "original")
            self.context: dict[str, Any] = _origin(self._file, "context")
            self._trail = _read(self._file)
        self.state: State = dict(self.original)
        for act in self._trail:
            self._replay(act)

    @property
    def undoable(self) -> str | None:
        """The kind of the act that `undo` would take back."""
        return self._done[-1].kind if self._done else None

    @property
    def redoable(self) -> str | None:
        """The kind of the act that `redo` would do again."""
        return self._undone[-1].kind if self._undone else None

    @property
    def unsaved(self) -> int:
        """How many acts are not on disk yet."""
        return len(self._pending)

    def commit(self, kind: str, changes: State, who: str) -> None:
        """An act that makes the state of each key what `changes` says (None deletes). Without any change it is none.

        Where the disk fails, the act is kept in memory and `problem` says why; the next commit or `flush` tries again.
        """
        known = self.state
        real = {key: (known.get(key), after) for key, after in changes.items() if known.get(key) != after}
        if real:
            self._append(kind, real, who)

    def undo(self, who: str) -> Changes | None:
        """Take the last act back: what changed now, key -> (from, to); None where there is nothing to undo."""
        if not self._done:
            return None
        last = self._done[-1]
        back = {key: (after, before) for key, (before, after) in last.changes.items()}
        return self._append("undo", back, who, last.number)

    def redo(self, who: str) -> Changes | None:
        """Do the act again that was taken back last."""
        if not self._undone:
            return None
        last = self._undone[-1]
        return self._append("redo", last.changes, who, last.number)

    def flush(self) -> None:
        """Write what could not be written before."""
        if not self._pending:
            return
        try:
            with self._file:
                self._file.executemany("INSERT INTO acts VALUES (?, ?, ?, ?, ?, ?)", map(_row, self._pending))
            self._pending, self.problem = [], None
        except sqlite3.Error as error:
            self.problem = (
                f"{len(self._pending)} acts cannot be written ({error}). Free space on the disk; I try again."
            )

    def trail(self) -> list[Act]:
        """All acts, first to last."""
        return list(self._trail)

    def close(self) -> None:
        """Write what is left, and let others open the file."""
        self.flush()
        self._file.close()

    def _append(self, kind: str, changes: Changes, who: str, undoes: int | None = None) -> Changes:
        json.dumps(changes, allow_nan=False)  # fails here rather than in the middle of writing
        act = Act(len(self._trail) + 1, datetime.now(timezone.utc).isoformat(), who, kind, changes, undoes)
        self._trail.append(act)
        self._replay(act)
        self._pending.append(act)
        self.flush()
        return changes

    def _replay(self, act: Act) -> None:
        for key, (_, after) in act.changes.items():
            if after is None:
                self.state.pop(key, None)
            else:
                self.state[key] = after
        if act.kind == "undo":
            self._undone.append(self._done.pop())
        elif act.kind == "redo":
            self._done.append(self._undone.pop())
        else:
            self._done.append(act)
            self._undone.clear()


def _connected(path: Path) -> sqlite3.Connection:
    """The file, with an exclusive lock that the system releases should this process be killed."""
    file = sqlite3.connect(path, timeout=0, isolation_level="DEFERRED", check_same_thread=False)
    try:
        file.execute("PRAGMA locking_mode=EXCLUSIVE")
        file.execute("PRAGMA journal_mode=WAL")
        file.execute("PRAGMA synchronous=FULL")
        file.execute("BEGIN IMMEDIATE")
        file.commit()
    except sqlite3.Error:
        file.close()
        raise
    return file


def _is_new(file: sqlite3.Connection) -> bool:
    """Whether the file is empty; VFQError `not_a_journal` where it is not ours."""
    (application,) = file.execute("PRAGMA application_id").fetchone()
    (version,) = file.execute("PRAGMA user_version").fetchone()
    (tables,) = file.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if not tables and not application:
        return True
    if application != APPLICATION_ID:
        raise VFQError("not_a_journal", "review.sqlite is not a journal of this program. Move it away.")
    if version > VERSION:
        raise VFQError("not_a_journal", "review.sqlite was written by a newer version. Update this program.")
    return False


def _begin(file: sqlite3.Connection, original: State, context: dict[str, Any]) -> None:
    first = {"original": original, "context": context}
    rows = [(name, json.dumps(value, allow_nan=False)) for name, value in first.items()]
    with file:
        file.execute("BEGIN IMMEDIATE")
        for statement in _statements(TABLES):
            file.execute(statement)
        file.executemany("INSERT INTO origin VALUES (?, ?)", rows)
        file.execute(f"PRAGMA user_version={VERSION}")
        file.execute(f"PRAGMA application_id={APPLICATION_ID}")


def _statements(script: str) -> Iterator[str]:
    """One by one: `executescript` would end the transaction."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _origin(file: sqlite3.Connection, name: str) -> Any:
    (value,) = file.execute("SELECT value FROM origin WHERE name = ?", (name,)).fetchone()
    return json.loads(value)


def _read(file: sqlite3.Connection) -> list[Act]:
    rows = file.execute("SELECT number, at, who, kind, changes, undoes FROM acts ORDER BY number")
    return [Act(n, at, who, kind, _changes(text), undoes) for n, at, who, kind, text, undoes in rows]


def _changes(text: str) -> Changes:
    return {key: (before, after) for key, (before, after) in json.loads(text).items()}


def _row(act: Act) -> tuple[Any, ...]:
    return act.number, act.at, act.who, act.kind, json.dumps(act.changes, allow_nan=False), act.undoes


@contextmanager
def _opening(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise VFQError(
                "study_in_use", "This case is open in another window of the program. Close it there first."
            ) from error
        raise VFQError(
            "output_not_writable",
            f"{path.parent.name}: the journal cannot be written ({error}). Check rights and space.",
        ) from error
    except (sqlite3.DatabaseError, TypeError, ValueError, IndexError) as error:
        raise VFQError(
            "not_a_journal", "review.sqlite is damaged. Move it away; analysis.json holds what was last saved."
        ) from error
