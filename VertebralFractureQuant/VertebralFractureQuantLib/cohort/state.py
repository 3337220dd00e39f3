"""The state of a cohort: `DIR/cohort.sqlite`, the only thing that a resumed run trusts.

It holds the plan (where each scan lies, with its covariates), what is known of each case, and the rows of the tables.
It contains paths and the salt of the case names, so it stays with the data; the tables contain neither. While it is
open, no other process can open it.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import sqlite3
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import VFQError
from .work import Finished

FILE_NAME = "cohort.sqlite"
SCHEMA = 1
WAITING = "waiting"
TABLES = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS cases (
    name TEXT PRIMARY KEY, position INTEGER, path TEXT NOT NULL, files TEXT, signature TEXT NOT NULL, covariates TEXT,
    problem TEXT, status TEXT NOT NULL DEFAULT 'waiting', message TEXT NOT NULL DEFAULT '', begun INTEGER DEFAULT 0,
    deaths INTEGER DEFAULT 0, read_signature TEXT, content TEXT, settings TEXT, version TEXT, stamp TEXT, patient TEXT,
    rows BLOB, notes TEXT, seconds TEXT
);
"""


@dataclass(frozen=True)
class Planned:
    """One scan of the plan.

    Attributes
    ----------
    name : name of the case.
    path : the scan, absolute: a file or a folder.
    signature : changes with the sizes and times of its files (`sources.signature`).
    files : the files of a DICOM study; None for a file, and for a folder that is read whole.
    covariates : values that are carried through to the tables.
    problem : code and message of a scan that cannot be analysed at all, such as a folder that cannot be read.
    """

    name: str
    path: str
    signature: str
    files: tuple[str, ...] | None = None
    covariates: dict[str, Any] = field(default_factory=dict)
    problem: tuple[str, str] | None = None


@dataclass(frozen=True)
class Known:
    """What the state knows of a planned case; the attributes are those of the table `cases`."""

    name: str
    path: str
    files: tuple[str, ...] | None
    signature: str
    problem: tuple[str, str] | None
    status: str
    begun: int
    read_signature: str | None
    content: str | None
    settings: str | None


class CohortState:
    """The open state of the cohort in `folder`; close it, or use it as a context manager.

    VFQError `cohort_in_use` if another process has it open, `not_a_cohort` if the file is damaged, `newer_schema`,
    `output_not_writable` also from every method that writes.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._database: sqlite3.Connection | None = None
        try:
            with self._coded():
                self._database = sqlite3.connect(folder / FILE_NAME, timeout=0.0, isolation_level=None)
                self._begin(self._database)
        except BaseException:
            self.close()
            raise

    @staticmethod
    def _begin(database: sqlite3.Connection) -> None:
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        database.execute("BEGIN EXCLUSIVE")  # from here on no other process can open it
        if database.execute("PRAGMA user_version").fetchone()[0] > SCHEMA:
            raise VFQError("newer_schema", "The cohort was written by a newer version. Update this program.")
        for statement in TABLES.split(";"):
            database.execute(statement)
        database.execute(f"PRAGMA user_version = {SCHEMA}")
        database.execute("COMMIT")

    def __enter__(self) -> CohortState:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Release the file."""
        if self._database:
            self._database.close()
            self._database = None

    def salt(self) -> bytes:
        """Return the secret that case names are hashed with; it is made when it is first needed."""
        if not (value := self.read("salt")):
            self.write("salt", value := secrets.token_hex(16))
        return bytes.fromhex(value)

    def read(self, key: str) -> Any:
        """Return a value that `write` stored; None if there is none."""
        found = self._run("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if found is None else json.loads(found[0])

    def write(self, key: str, value: Any) -> None:
        """Store a JSON value."""
        self._run("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, json.dumps(value)))

    def save_plan(self, planned: Iterable[Planned]) -> None:
        """Replace the plan. What is known of its cases is kept; cases of earlier plans stay, outside the plan."""
        rows = [
            (
                one.name, n, one.path, one.files and json.dumps(one.files), one.signature, json.dumps(one.covariates),
                one.problem and json.dumps(one.problem),
            )
            for n, one in enumerate(planned)
        ]  # fmt: skip
        digest = hashlib.sha256(repr(rows).encode(errors="surrogateescape")).hexdigest()
        if self.read("plan") == digest:
            return
        with self._transaction():
            self._run("UPDATE cases SET position = NULL WHERE position IS NOT NULL")
            self._many(
                "INSERT INTO cases (name, position, path, files, signature, covariates, problem) "
                "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET position = excluded.position, "
                "path = excluded.path, files = excluded.files, signature = excluded.signature, "
                "covariates = excluded.covariates, problem = excluded.problem",
                rows,
            )
            self.write("plan", digest)
            self._changed()

    def names(self) -> dict[str, str]:
        """Return the name of each path that was ever planned, so that a scan keeps its name."""
        return dict(self._run("SELECT path, name FROM cases WHERE files IS NULL"))

    def planned(self) -> Iterator[Known]:
        """Yield the cases of the plan, in its order."""
        columns = "name, path, files, signature, problem, status, begun, read_signature, content, settings"
        for row in self._run(f"SELECT {columns} FROM cases WHERE position IS NOT NULL ORDER BY position"):
            name, path, files, signature, problem, *known = row
            paths = tuple(json.loads(files)) if files else None
            yield Known(name, path, paths, signature, tuple(json.loads(problem)) if problem else None, *known)

    def find(self, name: str) -> Known:
        """Return what is known of a case. VFQError `not_found`."""
        for known in self.planned():
            if known.name == name:
                return known
        raise VFQError("not_found", f"The cohort has no case {name!r}. Its cases are listed in patients.csv.")

    def dropped(self) -> int:
        """Return the number of finished cases that the plan no longer contains."""
        return int(self._run("SELECT count(*) FROM cases WHERE position IS NULL AND status = 'ok'").fetchone()[0])

    def begin(self, name: str) -> None:
        """Count an attempt at a case."""
        self._run("UPDATE cases SET begun = begun + 1 WHERE name = ?", (name,))

    def finish(self, done: Finished, settings: str, version: str) -> None:
        """Store the result of a case. Of an unchanged case only the signature is new."""
        if done.unchanged:
            self._run("UPDATE cases SET read_signature = ?, begun = 0 WHERE name = ?", (done.signature, done.case))
            return
        with self._transaction():
            self._run(
                "UPDATE cases SET status = ?, message = ?, begun = 0, read_signature = ?, content = ?, settings = ?, "
                "version = ?, stamp = ?, patient = ?, rows = ?, notes = ?, seconds = ? WHERE name = ?",
                (
                    done.status, done.message, done.signature, done.content, settings, version, done.stamp,
                    json.dumps(done.patient), done.rows, json.dumps(done.notes), json.dumps(done.seconds), done.case,
                ),
            )  # fmt: skip
            self._changed()

    def put_back(self, name: str) -> None:
        """Forget an attempt that says nothing about the case."""
        self._run("UPDATE cases SET begun = max(begun - 1, 0) WHERE name = ?", (name,))

    def count_death(self, name: str) -> None:
        """Count a worker that died while it had the case."""
        self._run("UPDATE cases SET deaths = deaths + 1 WHERE name = ?", (name,))

    def stamps(self) -> list[tuple[str, str]]:
        """Return the name and the stamp of the record of each measured case."""
        return list(self._run("SELECT name, stamp FROM cases WHERE position IS NOT NULL AND status = 'ok'"))

    def refresh(self, name: str, stamp: str, patient: dict[str, Any], rows: bytes) -> None:
        """Store what a case's folder says now."""
        with self._transaction():
            self._run(
                "UPDATE cases SET stamp = ?, patient = ?, rows = ? WHERE name = ?",
                (stamp, json.dumps(patient), rows, name),
            )
            self._changed()

    def results(self) -> Iterator[dict[str, Any]]:
        """Yield case, status, message, covariates and patient's values of the plan, in its order."""
        found = self._run(
            "SELECT name, status, message, problem, covariates, patient FROM cases WHERE position IS NOT NULL "
            "ORDER BY position"
        )
        for name, status, message, problem, covariates, patient in found:
            status, message = json.loads(problem) if problem else (status, message)
            yield {
                "case": name, "status": status, "message": message, "covariates": json.loads(covariates or "{}"),
                "patient": json.loads(patient or "{}") if status == "ok" else {},
            }  # fmt: skip

    def statuses(self) -> dict[str, int]:
        """Return the number of cases of the plan by their status."""
        return dict(
            self._run(
                "SELECT coalesce(json_extract(problem, '$[0]'), status) AS told, count(*) FROM cases "
                "WHERE position IS NOT NULL GROUP BY told"
            )
        )

    def versions(self) -> dict[str, int]:
        """Return the number of results in the plan by the version of this program that made them."""
        told = "WHERE position IS NOT NULL AND version IS NOT NULL GROUP BY version"
        return dict(self._run(f"SELECT version, count(*) FROM cases {told}"))

    def seconds(self) -> dict[str, float]:
        """Return the time of all measured cases of the plan, by step."""
        steps: Counter[str] = Counter()
        for (seconds,) in self._run("SELECT seconds FROM cases WHERE position IS NOT NULL AND seconds IS NOT NULL"):
            steps.update(json.loads(seconds))
        return {step: round(total, 3) for step, total in steps.items()}

    def rows(self) -> Iterator[bytes]:
        """Yield the rows of the vertebrae of each measured case, in the plan's order: lines of JSON."""
        found = self._run(
            "SELECT rows FROM cases WHERE position IS NOT NULL AND status = 'ok' AND problem IS NULL ORDER BY position"
        )
        for (rows,) in found:
            yield zlib.decompress(rows)

    def changes(self) -> int:
        """Return a number that grows with each change of what the tables show."""
        return int(self.read("changes") or 0)

    def _changed(self) -> None:
        self.write("changes", self.changes() + 1)

    def _run(self, statement: str, values: tuple[Any, ...] = ()) -> sqlite3.Cursor:
        with self._coded():
            return self._open.execute(statement, values)

    def _many(self, statement: str, values: Iterable[tuple[Any, ...]]) -> None:
        with self._coded():
            self._open.executemany(statement, values)

    @property
    def _open(self) -> sqlite3.Connection:
        assert self._database is not None, "it is closed"
        return self._database

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._run("BEGIN")
        try:
            yield
            self._run("COMMIT")
        except BaseException:
            if self._open.in_transaction:
                self._open.execute("ROLLBACK")
            raise

    @contextmanager
    def _coded(self) -> Iterator[None]:
        """Turn errors of SQLite into coded failures."""
        try:
            yield
        except sqlite3.Error as error:
            if "locked" in str(error):
                failure = VFQError(
                    "cohort_in_use",
                    f"Another run uses the folder {self.folder.name!r}. Wait until it has ended, or choose another "
                    "folder.",
                )
            elif isinstance(error, sqlite3.OperationalError):
                failure = VFQError(
                    "output_not_writable",
                    f"{self.folder.name}: the state of the cohort cannot be written ({error}). Check the folder's "
                    "permissions and the free space, then run the same command again: finished cases are kept.",
                )
            else:
                failure = VFQError(
                    "not_a_cohort",
                    f"{FILE_NAME} in {self.folder.name!r} is damaged ({error}). Move it away and run the command "
                    "again: all cases are then recomputed.",
                )
            raise failure from error


def state_path(folder: Path) -> Path:
    """Return the file of the state of the cohort in `folder`. VFQError `not_a_cohort` if there is none."""
    path = folder / FILE_NAME
    if not path.is_file():
        raise VFQError(
            "not_a_cohort", f"The folder {folder.name!r} contains no cohort. Give the --output of vfq cohort run."
        )
    return path
