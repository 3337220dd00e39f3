"""The journal of one study's review: every action of a reader is on disk as soon as it ends, and is never rewritten.

The state is a dictionary of JSON values. It and the stacks of undo and redo are rebuilt from the actions, so undo also
works after a restart. The first state (the automatic results) is stored apart and never changes. The file itself is
left to `journal_file`.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from .journal_file import Act, Changes, append_acts, begin, is_new, open_file, read_acts, read_origin

UNDO, REDO = "undo", "redo"  # kinds of actions that refer to another one

State = dict[str, Any]


class Journal:
    """The actions on one study, and the state that they lead to.

    Attributes
    ----------
    original, context : the first state, and further facts about it, as stored when the journal was created.
    state : key -> JSON value, after the last action.
    problem : a sentence saying why some actions are not on disk yet; None if all are.

    Raises
    ------
    VFQError : `study_in_use` if another process has the file open; `output_not_writable`; `not_a_journal` if the file
        belongs to another program, is damaged, or is of a newer version. The file is then left unchanged and unlocked.
    """

    def __init__(self, path: Path, original: State, context: dict[str, Any] | None = None):
        self.problem: str | None = None
        self._pending: list[Act] = []
        self._done: list[Act] = []
        self._undone: list[Act] = []
        first = _as_json({"original": original, "context": context or {}})
        with open_file(path) as self._file:
            if is_new(self._file, path):
                begin(self._file, first)
            self.original: State = read_origin(self._file, "original")
            self.context: dict[str, Any] = read_origin(self._file, "context")
            self.state: State = dict(self.original)
            self._trail = read_acts(self._file)
            for act in self._trail:
                self._replay(act)

    @property
    def undoable(self) -> str | None:
        """The kind of the action that `undo` would take back."""
        return self._done[-1].kind if self._done else None

    @property
    def redoable(self) -> str | None:
        """The kind of the action that `redo` would repeat."""
        return self._undone[-1].kind if self._undone else None

    @property
    def unsaved(self) -> int:
        """The number of actions that are not on disk yet."""
        return len(self._pending)

    def commit(self, kind: str, changes: State, who: str) -> None:
        """Record an action that sets each key to its value in `changes` (None removes the key).

        Nothing is recorded if nothing changes. If the disk refuses, the action is kept in memory and `problem` says
        why; the next commit or `flush` tries again. ValueError or TypeError if `changes` is not JSON, and ValueError
        for the kinds "undo" and "redo".
        """
        if kind in (UNDO, REDO):
            raise ValueError(f"{kind!r} cannot be committed as an action: call {kind}()")
        known, wanted = self.state, _as_json(changes)
        real = {key: (known.get(key), after) for key, after in wanted.items() if known.get(key) != after}
        if real:
            self._append(kind, real, who)

    def undo(self, who: str) -> Changes | None:
        """Take the last action back; return what changed, key -> (from, to), or None if there is nothing to undo."""
        if not self._done:
            return None
        last = self._done[-1]
        back = {key: (after, before) for key, (before, after) in last.changes.items()}
        return self._append(UNDO, back, who, last.number)

    def redo(self, who: str) -> Changes | None:
        """Repeat the action that was taken back last; return what changed, or None if there is nothing to redo."""
        if not self._undone:
            return None
        last = self._undone[-1]
        return self._append(REDO, last.changes, who, last.number)

    def flush(self) -> None:
        """Write the actions that are not on disk yet; if the disk refuses, `problem` says why."""
        if not self._pending:
            return
        try:
            append_acts(self._file, self._pending)
            self._pending, self.problem = [], None
        except sqlite3.Error as error:
            self.problem = (
                f"Actions that cannot be written to the disk yet: {len(self._pending)} ({error}). Free space on the "
                "disk; saving is retried automatically."
            )

    def trail(self) -> list[Act]:
        """Return all actions, first to last."""
        return list(self._trail)

    def recover(self, acts: Sequence[Act]) -> bool:
        """Append actions that were saved elsewhere (`unsaved_acts`); False if they do not continue the trail."""
        if not acts or [act.number for act in acts] != [len(self._trail) + 1 + i for i in range(len(acts))]:
            return False
        for act in acts:
            self._trail.append(act)
            self._replay(act)
        self._pending += acts
        self.flush()
        return True

    def unsaved_acts(self) -> list[Act]:
        """Return the actions that are not on disk yet."""
        return list(self._pending)

    def close(self) -> None:
        """Write what is left and unlock the file."""
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
    """Return an independent copy, as it will be read back. ValueError or TypeError if it is not JSON."""
    return json.loads(json.dumps(value, allow_nan=False))
