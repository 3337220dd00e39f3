"""The queue of a listener: the state of each study, in one SQLite file that survives a kill at any moment.

A study is `receiving` until it is complete, then `complete`, `analysed` and `sent`, or `failed` with a code. A late
instance opens it again, in a new round: whatever was being made of the earlier round no longer counts. Studies are
named by a hash, so the file holds nothing of a patient.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from ..errors import VFQError

State = Literal["receiving", "complete", "analysed", "sent", "failed"]
APPLICATION_ID = 0x56465132  # "VFQ2": tells our file from any other SQLite file
COLUMNS = "name, state, round, code, attempts, due"  # of an `Entry`
TABLES = """
CREATE TABLE studies (
    name TEXT PRIMARY KEY, state TEXT NOT NULL, round INTEGER NOT NULL DEFAULT 1, code TEXT NOT NULL DEFAULT '',
    attempts INTEGER NOT NULL DEFAULT 0, due REAL NOT NULL DEFAULT 0, record TEXT NOT NULL DEFAULT '');
CREATE TABLE objects (
    study TEXT NOT NULL, file TEXT NOT NULL, state TEXT NOT NULL, present INTEGER NOT NULL, PRIMARY KEY (study, file));
"""


class Entry(NamedTuple):
    """One study.

    Attributes
    ----------
    name : the name of its folders.
    state, code : see the module; the code of the last failure, else "".
    round : counts how often the study was opened by an instance.
    attempts : attempts at the present step that failed with this code, one after the other.
    due : time of the next attempt, s since 1970.
    """

    name: str
    state: State
    round: int
    code: str
    attempts: int
    due: float


class Sender(Protocol):
    """An association that sends instances."""

    def is_alive(self) -> bool:
        """True until it ends."""


class Queue:
    """The queue in a file. Its methods may be called by several threads.

    Raises
    ------
    VFQError
        `not_a_queue` for a file of another program; any method: sqlite3.Error if the file cannot be written.
    """

    def __init__(self, path: Path):
        self._lock = threading.Lock()
        self._file = sqlite3.connect(path, check_same_thread=False)
        self._sending: dict[Sender, str] = {}
        self._arrived: dict[str, float] = {}
        self._opened = time.monotonic()
        try:
            _require_ours(self._file)  # before anything in the file is changed
            self._file.execute("PRAGMA journal_mode=WAL")
            self._file.execute("PRAGMA synchronous=FULL")
        except sqlite3.DatabaseError as error:
            self._file.close()
            raise _not_ours(path) from error

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._file.close()

    def receive(self, name: str, sender: Sender) -> bool:
        """Note that an instance of a study is about to be kept; True if this opens the study.

        It is called before the file is written: if the process is killed in between, the study is looked at once more.
        """
        with self._change():
            self._sending[sender] = name
            self._arrived[name] = time.monotonic()
            if self._state(name) == "receiving":
                return False
            self._file.execute(
                "INSERT INTO studies (name, state) VALUES (?, 'receiving') ON CONFLICT (name) DO UPDATE SET "
                "state = 'receiving', round = round + 1, code = '', attempts = 0, due = 0",
                (name,),
            )
            return True

    def state(self, name: str) -> State | None:
        """Return the state of a study; None if it is not in the queue."""
        with self._lock:
            return self._state(name)

    def settle(self, quiet_s: float) -> list[str]:
        """Declare studies complete that no living association sends and of which nothing came for `quiet_s`."""
        with self._change():
            self._sending = {sender: name for sender, name in self._sending.items() if sender.is_alive()}
            busy, now = set(self._sending.values()), time.monotonic()
            rows = self._file.execute("SELECT name FROM studies WHERE state = 'receiving'")
            names = [name for (name,) in rows if name not in busy]
            quiet = [name for name in names if now - self._arrived.get(name, self._opened) >= quiet_s]
            for name in quiet:
                self._file.execute("UPDATE studies SET state = 'complete' WHERE name = ?", (name,))
                self._arrived.pop(name, None)
            return quiet

    def next(self, state: State) -> Entry | None:
        """Return the study in this state that has been due for longest; None if none is due."""
        with self._lock:
            row = self._file.execute(
                f"SELECT {COLUMNS} FROM studies WHERE state = ? AND due <= ? ORDER BY due, rowid LIMIT 1",
                (state, time.time()),
            ).fetchone()
        return Entry(*row) if row else None

    def analysed(self, study: Entry, files: Sequence[str], record: str = "") -> bool:
        """Note the DICOM objects of a study, which are now to be sent; False if its round is over.

        record : tells the record that the objects were made from, see `records`.
        """
        with self._change():
            if not self._move(study, "analysed"):
                return False
            self._file.execute("UPDATE studies SET record = ? WHERE name = ?", (record, study.name))
            self._file.execute("UPDATE objects SET present = 0 WHERE study = ?", (study.name,))
            for name in files:
                self._file.execute(
                    "INSERT INTO objects VALUES (?, ?, 'written', 1) ON CONFLICT (study, file) DO UPDATE SET present=1",
                    (study.name, name),
                )
            return True

    def sent(self, study: Entry) -> bool:
        """Note that the archive has accepted all objects of a study; False if its round is over."""
        with self._change():
            return self._move(study, "sent")

    def failed(self, study: Entry, code: str) -> bool:
        """Note that a study has failed for good; False if its round is over."""
        with self._change():
            return self._move(study, "failed", code)

    def again(self, study: Entry, code: str, attempts: int, due: float) -> bool:
        """Note that attempts have failed with a code and when the next is due; False if its round is over."""
        with self._change():
            return self._move(study, study.state, code, attempts, due)

    def records(self) -> list[tuple[Entry, str]]:
        """Return all studies that are sent, with the record that their objects were made from."""
        with self._lock:
            rows = self._file.execute(f"SELECT {COLUMNS}, record FROM studies WHERE state = 'sent'").fetchall()
        return [(Entry(*row[:-1]), row[-1]) for row in rows]

    def renew(self, study: Entry) -> bool:
        """Have the objects of an analysed or sent study made again; False if its round is over."""
        with self._change():
            return self._move(study, "complete")

    def retry_failed(self, codes: Iterable[str], state: State) -> list[str]:
        """Give studies that failed with one of `codes` new attempts from `state` on; return their names."""
        with self._change():
            rows = self._file.execute("SELECT name, code FROM studies WHERE state = 'failed'").fetchall()
            names = [name for name, code in rows if code in set(codes)]
            for name in names:
                self._file.execute(
                    "UPDATE studies SET state = ?, code = '', attempts = 0, due = 0 WHERE name = ?", (state, name)
                )
            return names

    def unsent(self, name: str) -> list[str]:
        """Return the files of a study's present objects that the archive has not accepted."""
        query = "SELECT file FROM objects WHERE study = ? AND present = 1 AND state <> 'accepted' ORDER BY rowid"
        with self._lock:
            return [file for (file,) in self._file.execute(query, (name,))]

    def offered(self, name: str) -> list[str]:
        """Return the files of all objects of a study that were offered to the archive, which may hold them."""
        query = "SELECT file FROM objects WHERE study = ? AND state <> 'written'"
        with self._lock:
            return [file for (file,) in self._file.execute(query, (name,))]

    def offer(self, name: str, file: str) -> None:
        """Note that an object is about to be sent."""
        self._object(name, file, "offered")

    def accept(self, name: str, file: str) -> None:
        """Note that the archive has accepted an object."""
        self._object(name, file, "accepted")

    def entries(self) -> list[Entry]:
        """Return all studies, in the order in which they first arrived."""
        with self._lock:
            return _entries(self._file)

    def _object(self, name: str, file: str, state: str) -> None:
        with self._change():
            self._file.execute("UPDATE objects SET state = ? WHERE study = ? AND file = ?", (state, name, file))

    def _state(self, name: str) -> State | None:
        row = self._file.execute("SELECT state FROM studies WHERE name = ?", (name,)).fetchone()
        return row[0] if row else None

    def _move(self, study: Entry, state: State, code: str = "", attempts: int = 0, due: float = 0.0) -> bool:
        """Change a study that is still in the state and the round in which it was looked at."""
        done = self._file.execute(
            "UPDATE studies SET state = ?, code = ?, attempts = ?, due = ? WHERE name = ? AND state = ? AND round = ?",
            (state, code, attempts, due, study.name, study.state, study.round),
        )
        return done.rowcount == 1

    @contextmanager
    def _change(self) -> Iterator[None]:
        """One transaction; when it ends, it is on the disk."""
        with self._lock, self._file:
            yield


def read_queue(path: Path) -> list[Entry]:
    """Return the studies in the file of a queue, which a listener may be using. VFQError `not_a_queue`."""
    try:
        file = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        try:
            return _entries(file)
        finally:
            file.close()
    except sqlite3.Error as error:
        raise _not_ours(path) from error


@contextmanager
def only_one(lock: Path, otherwise: VFQError | None = None) -> Iterator[None]:
    """Hold a lock on a file for the block; the system releases it when the process dies.

    If another process holds it: VFQError `otherwise`, by default `queue_in_use`.
    """
    file = sqlite3.connect(lock, timeout=0, isolation_level=None, check_same_thread=False)
    try:
        _lock(file, otherwise or _queue_in_use(lock))
        yield
    finally:
        file.close()


def _lock(file: sqlite3.Connection, otherwise: VFQError) -> None:
    try:
        file.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as error:
        raise otherwise from error


def _queue_in_use(lock: Path) -> VFQError:
    return VFQError(
        "queue_in_use", f"{lock.parent.name}: another vfq listen uses this folder. End it, or give another --output."
    )


def _entries(file: sqlite3.Connection) -> list[Entry]:
    rows = file.execute(f"SELECT {COLUMNS} FROM studies ORDER BY rowid")
    return [Entry(*row) for row in rows]


def _require_ours(file: sqlite3.Connection) -> None:
    """Create the tables in an empty file. Raises sqlite3.DatabaseError for a file of another program."""
    (application,) = file.execute("PRAGMA application_id").fetchone()
    (tables,) = file.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application == APPLICATION_ID:
        return
    if application or tables:
        raise sqlite3.DatabaseError("of another program")
    file.executescript(f"BEGIN; {TABLES} PRAGMA application_id = {APPLICATION_ID}; COMMIT;")


def _not_ours(path: Path) -> VFQError:
    return VFQError(
        "not_a_queue",
        f"{path.name}: this is not the queue of a vfq listen, or it is damaged. Move the file away: the studies beside "
        "it stay, and are taken up when they are sent again.",
    )
