"""The journal of one study's review: every act of a person, on disk when it ends, never rewritten.

SQLite in WAL mode, one row an act: number, when (UTC, ISO 8601), who, what kind, what it changed (before and after),
and, for an undo or redo, of which act. The state is a dictionary of JSON values; it and the stacks of undo and redo are
rebuilt from the rows, so undoing goes on after a restart. The first state, the machine's, stands apart and stays.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ..errors import VFQError

APPLICATION_ID = 0x56465131  # "VFQ1": tells our file from any other SQLite file
VERSION = 1
UNDO, REDO = "undo", "redo"  # kinds of acts that refer to another one
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
        is another's, damaged, or of a newer version. It is then left as it was, and open to others.
    """

    def __init__(self, path: Path, original: State, context: dict[str, Any] | None = None):
        self.problem: str | None = None
        self._pending: list[Act] = []
        self._done: list[Act] = []
        self._undone: list[Act] = []
        first = _as_json({"original": original, "context": context or {}})
        with _opening(path) as self._file:
            if _is_new(self._file, path):
                _begin(self._file, first)
            self.original: State = _origin(self._file, "original")
            self.context: dict[str, Any] = _origin(self._file, "context")
            self.state: State = dict(self.original)
            self._trail = _read(self._file)
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
        ValueError or TypeError for what is no JSON, and for the kinds that are `undo`'s and `redo`'s.
        """
        if kind in (UNDO, REDO):
            raise ValueError(f"{kind!r} is no act of its own: call {kind}()")
        known, wanted = self.state, _as_json(changes)
        real = {key: (known.get(key), after) for key, after in wanted.items() if known.get(key) != after}
        if real:
            self._append(kind, real, who)

    def undo(self, who: str) -> Changes | None:
        """Take the last act back: what changed now, key -> (from, to); None where there is nothing to undo."""
        if not self._done:
            return None
        last = self._done[-1]
        back = {key: (after, before) for key, (before, after) in last.changes.items()}
        return self._append(UNDO, back, who, last.number)

    def redo(self, who: str) -> Changes | None:
        """Do the act again that was taken back last."""
        if not self._undone:
            return None
        last = self._undone[-1]
        return self._append(REDO, last.changes, who, last.number)

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
                f"Acts that cannot be written: {len(self._pending)} ({error}). Free space on the disk; I try again."
            )

    def trail(self) -> list[Act]:
        """All acts, first to last."""
        return list(self._trail)

    def take_up(self, acts: Sequence[Act]) -> bool:
        """Add acts that were kept elsewhere, as `unsaved_acts` gave them; whether they follow those that are here."""
        if not acts or [act.number for act in acts] != [len(self._trail) + 1 + i for i in range(len(acts))]:
            return False
        for act in acts:
            self._trail.append(act)
            self._replay(act)
        self._pending += acts
        self.flush()
        return True

    def unsaved_acts(self) -> list[Act]:
        """The acts that are not on disk yet."""
        return list(self._pending)

    def close(self) -> None:
        """Write what is left, and let others open the file."""
        self.flush()
        self._file.close()

    def _append(self, kind: str, changes: Changes, who: str, undoes: int | None = None) -> Changes:
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
        if act.kind == UNDO:
            self._undone.append(self._done.pop())
        elif act.kind == REDO:
            self._done.append(self._undone.pop())
        else:
            self._done.append(act)
            self._undone.clear()


def _as_json(value: Any) -> Any:
    """A copy, nobody else's to change, as it will be read back. ValueError or TypeError for what is no JSON."""
    return json.loads(json.dumps(value, allow_nan=False))


def _is_new(file: sqlite3.Connection, path: Path) -> bool:
    """Whether the file is empty; VFQError `not_a_journal` where it is not ours."""
    (application,) = file.execute("PRAGMA application_id").fetchone()
    (version,) = file.execute("PRAGMA user_version").fetchone()
    (tables,) = file.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if not tables and not application:
        return True
    if application != APPLICATION_ID:
        raise VFQError("not_a_journal", f"{path.name} is not a journal of this program. Move it away.")
    if version > VERSION:
        raise VFQError("not_a_journal", f"{path.name} was written by a newer version. Update this program.")
    return False


def _lock(file: sqlite3.Connection) -> None:
    """Keep others out until the file is closed; the system does that too, should this process be killed."""
    file.execute("PRAGMA journal_mode=WAL")
    file.execute("PRAGMA synchronous=FULL")
    file.execute("BEGIN IMMEDIATE")
    file.commit()


def _begin(file: sqlite3.Connection, first: dict[str, Any]) -> None:
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
def _opening(path: Path) -> Iterator[sqlite3.Connection]:
    """The file, looked at before anything in it is changed; closed again where it cannot be a journal of ours."""
    file = None
    try:
        file = sqlite3.connect(path, timeout=0, isolation_level="DEFERRED", check_same_thread=False)
        file.execute("PRAGMA locking_mode=EXCLUSIVE")
        _is_new(file, path)
        _lock(file)
        yield file
    except Exception as error:
        if file:
            file.close()
        if isinstance(error, VFQError):
            raise
        raise _refusal(error, path) from error


def _refusal(error: Exception, path: Path) -> VFQError:
    """Why a journal cannot be opened."""
    text = str(error)
    if not isinstance(error, sqlite3.OperationalError) or "no such" in text:
        return VFQError(
            "not_a_journal", f"{path.name} is damaged. Move it away; analysis.json holds what was last saved."
        )
    if "locked" in text:
        return VFQError("study_in_use", "This case is open in another window of the program. Close it there first.")
    return VFQError(
        "output_not_writable",
        f"{path.parent.name}: the journal cannot be written ({text}). Check rights and space.",
    )
